//! The port to a guest's memory.

use stage2_addr::Ipa;

/// A guest's memory as its devices reach it: by copying. The guest changes it at any moment, so whoever reads copies once
/// and judges the copy. Nothing is read or written in part: a range that is not all RAM is refused as a whole.
///
/// A copy of the value is the same memory.
pub trait GuestMemory: Copy {
    /// Whether all of a range is RAM of the guest. An empty range is, where a byte of RAM could begin or end.
    fn contains(&self, at: Ipa, len: u64) -> bool;

    /// Copies bytes out.
    fn read(&self, at: Ipa, into: &mut [u8]) -> Option<()>;

    /// Copies bytes in.
    fn write(&self, at: Ipa, bytes: &[u8]) -> Option<()>;

    /// Copies bytes from this guest to another one, or to itself; what overlaps is undefined bytes, and nothing worse.
    fn copy(&self, from: Ipa, other: &Self, to: Ipa, len: u32) -> Option<()>;

    /// A little-endian number of two bytes; read at once, where it is aligned.
    fn load_u16(&self, at: Ipa) -> Option<u16>;

    /// The same of four bytes.
    fn load_u32(&self, at: Ipa) -> Option<u32>;

    /// The same of eight bytes.
    fn load_u64(&self, at: Ipa) -> Option<u64>;

    /// The two little-endian numbers of eight bytes that a descriptor is. Nothing of it is loaded twice.
    fn load_pair(&self, at: Ipa) -> Option<[u64; 2]> {
        let second = at.checked_add(8)?;
        Some([self.load_u64(at)?, self.load_u64(second)?])
    }

    /// The four of 32 bytes. Nothing of it is loaded twice.
    fn load_quad(&self, at: Ipa) -> Option<[u64; 4]> {
        let second = at.checked_add(16)?;
        let ([a, b], [c, d]) = (self.load_pair(at)?, self.load_pair(second)?);
        Some([a, b, c, d])
    }

    /// Writes four little-endian numbers of eight bytes.
    fn store_quad(&self, at: Ipa, values: [u64; 4]) -> Option<()> {
        self.write(at, values.map(u64::to_le_bytes).as_flattened())
    }

    /// Writes a byte.
    fn store_u8(&self, at: Ipa, value: u8) -> Option<()> {
        self.write(at, &[value])
    }

    /// Writes a little-endian number of two bytes; at once, where it is aligned.
    fn store_u16(&self, at: Ipa, value: u16) -> Option<()>;

    /// The same of four bytes.
    fn store_u32(&self, at: Ipa, value: u32) -> Option<()>;

    /// The same of eight bytes.
    fn store_u64(&self, at: Ipa, value: u64) -> Option<()>;

    /// What was loaded before is older than what is loaded and stored after (DMB ISHLD): after an available index or a
    /// descriptor's flags were read.
    fn acquire(&self);

    /// What was loaded and stored before is seen before what is stored after (DMB ISH): before a used index or a
    /// descriptor's flags are written.
    fn release(&self);

    /// Both, and stores before loads (DMB ISH): between a used index and the event index that says whether to interrupt.
    fn fence(&self);
}
