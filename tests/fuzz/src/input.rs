//! Bytes of a fuzzer, taken one after the other. Behind their end all are zero.

pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u32 {
        u32::from(self.half()) | u32::from(self.half()) << 16
    }

    /// A length: mostly small, sometimes absurd.
    pub fn len(&mut self) -> u32 {
        let byte = u32::from(self.byte());
        match byte {
            0..200 => byte,
            200..230 => (byte - 199) << 8,
            230..240 => (byte - 229) << 12,
            240..250 => 1 << (byte - 224),
            _ => u32::MAX - (byte - 250),
        }
    }
}
