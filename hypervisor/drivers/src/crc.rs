//! The checksum of GUID partition tables: CRC-32 as in ISO 3309 (UEFI 2.10, 5.3.1).

/// Bytes by which a checksum grows.
pub struct Crc(u32);

impl Crc {
    /// Of nothing yet.
    pub const fn new() -> Self {
        Self(u32::MAX)
    }

    /// And of these bytes.
    pub fn and(self, bytes: &[u8]) -> Self {
        let mut crc = self.0;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                let mask = 0u32.wrapping_sub(crc & 1);
                crc = (crc >> 1) ^ (0xEDB8_8320 & mask);
            }
        }
        Self(crc)
    }

    /// The checksum.
    pub const fn sum(&self) -> u32 {
        !self.0
    }
}
