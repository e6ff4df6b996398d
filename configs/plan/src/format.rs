//! The plan's layout in bytes, shared by the reader and the writer.
//!
//! All numbers are little-endian.
//!
//! ```text
//! header     magic [8]  version u32  length u32  checksum u32  sections u32
//! section    kind u16  flags u16  owner u16  zero u16  length u32  zero u32  payload, zero-padded to 8 bytes
//!
//! machine  1 cpus u32  deadline_ms u32 (0: none)                            owner: nobody (0xFFFF)
//! guest    2 entry u64  dtb u64  name [32], zero-padded                     owner: the guest, 0 …
//!            on_crash u32 (0 stop, 1 restart, 2 hold)  watchdog_ms u32 (0: none)
//! lanes    3 for each: cpu u32  budget_us u32  period_us u32  priority u32 (the last three 0: dedicated)
//! memory   4 ipa u64  size u64  host u64 (all ones: EL2 chooses)
//! segments 5 for each: ipa u64  len u64  file [48], zero-padded
//! devices  6 for each: host u64  size u64  ipa u64  kind u32  intid u32 (0: none)  (may be missing: no devices)
//! ```
//!
//! `length` of the header counts the whole blob; that of a section its payload without padding. The
//! checksum is CRC-32 (IEEE 802.3) of the whole blob with the checksum's own field zero. It finds
//! accidents, not attacks: the checks after it do not rely on it.

/// The first eight bytes of every plan.
pub const MAGIC: [u8; 8] = *b"XDVPLAN\0";
/// The version written and read here.
pub const VERSION: u32 = 2;
/// Bytes of the header.
pub const HEADER: usize = 24;
/// Where the header's checksum stands.
pub const CHECKSUM_AT: usize = 16;
/// Bytes of a section's header.
pub const SECTION_HEADER: usize = 16;
/// Section payloads are padded to this.
pub const SECTION_ALIGN: usize = 8;
/// Bytes of one lane.
pub const LANE: usize = 16;
/// Bytes of one segment.
pub const SEGMENT: usize = 64;
/// Bytes of one device.
pub const DEVICE: usize = 32;
/// Bytes of a name's field.
pub const NAME_FIELD: usize = 32;
/// Bytes of a file name's field.
pub const FILE_FIELD: usize = 48;
/// The owner of what belongs to no guest.
pub const NOBODY: u16 = 0xFFFF;
/// A section's flag: who does not know the kind may skip the section.
pub const OPTIONAL: u16 = 1;
/// A host address that means "EL2 chooses".
pub const HOST_ANY: u64 = u64::MAX;

/// Section kind: the machine as a whole.
pub const KIND_MACHINE: u16 = 1;
/// Section kind: a guest's identity and where it starts.
pub const KIND_GUEST: u16 = 2;
/// Section kind: the CPUs that carry a guest's lanes.
pub const KIND_LANES: u16 = 3;
/// Section kind: a guest's RAM.
pub const KIND_MEMORY: u16 = 4;
/// Section kind: the files that are loaded into a guest's RAM.
pub const KIND_SEGMENTS: u16 = 5;
/// Section kind: devices of the machine that a guest is given.
pub const KIND_DEVICES: u16 = 6;

/// CRC-32 (IEEE 802.3, reflected) of several byte ranges, one after the other.
#[must_use]
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let mask = 0u32.wrapping_sub(crc & 1);
            crc = (crc >> 1) ^ (0xEDB8_8320 & mask);
        }
    }
    !crc
}

/// The checksum a plan should carry: of all its bytes, its own field taken as zero. `None` if there is no whole header.
#[must_use]
pub fn checksum(blob: &[u8]) -> Option<u32> {
    let (before, rest) = blob.split_at_checked(CHECKSUM_AT)?;
    let (_, after) = rest.split_at_checked(4)?;
    Some(crc32(&[before, &[0; 4], after]))
}

/// Takes little-endian fields off the front of a byte range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A zero-padded text field of `n` bytes. `None` if it is not UTF-8 or if anything follows its first zero.
    pub(crate) fn text(&mut self, n: usize) -> Option<&'a str> {
        let field = self.bytes(n)?;
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(n);
        let (text, padding) = field.split_at_checked(end)?;
        if end == n || padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        core::str::from_utf8(text).ok()
    }
}
