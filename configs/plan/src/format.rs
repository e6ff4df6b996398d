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
//! virtio   7 for each: slot u32  kind u32 (virtio's DeviceID)  index u32 (of disk or network, or context id)
//!            flags u32 (1: disk is read only)  rate u64 (bytes a second, 0: any)  mac [6]  vlan u16 (0: none)
//! trials   8 watched u32 (1: lint, 2: trace, 4: strict, with 1)  queue size u32 (the largest, 0: any)  seed u64  rates [8] u32, in parts per
//!            million: delay, short, error, drop, reorder, interrupt, link, reset
//!            withheld u64 (virtio's feature bits)
//!            and for each fault by script: slot u32  kind u32 (0 delay … 7 reset)  first u64 (from 0)  count u64
//! disks    9 for each: sectors u64 (0: the machine's to say)  length u64 (of the image, 0: none; or unit of the machine)
//!            more u64 (bytes of a snapshot's own; or first sector, or partition)                      owner: nobody
//!            kind u32 (1 memory, 2 read only in the bundle, 3 snapshot; of the machine: 4 whole, 5 range,
//!            6 partition, 7 partition by name)  flags u32 (1: nobody writes to the machine's)
//!            name [32], zero-padded  file [48] (image, or the partition's name), zero-padded
//! networks 10 for each: flags u64 (1: uplink)  name [32], zero-padded                         owner: nobody
//! ```
//!
//! Sections from 7 on may be missing, and are known with the feature `virtio`.
//!
//! `length` of the header counts the whole blob; that of a section its payload without padding. The
//! checksum is CRC-32 (IEEE 802.3) of the whole blob with the checksum's own field zero. It finds
//! accidents, not attacks: the checks after it do not rely on it.

/// The first eight bytes of every plan.
pub const MAGIC: [u8; 8] = *b"XDVPLAN\0";
/// The version written and read here.
pub const VERSION: u32 = 3;
/// Bytes of the header.
pub const HEADER: usize = 24;
/// Where the header's checksum stands.
pub const CHECKSUM_AT: usize = 16;
/// Bytes of a section's header.
pub const SECTION_HEADER: usize = 16;
/// Section payloads are padded to this.
pub const SECTION_ALIGN: usize = 8;
/// Bytes of the machine's section.
pub const MACHINE: usize = 8;
/// Bytes of a guest's own section.
pub const GUEST: usize = 56;
/// Bytes of a guest's RAM.
pub const MEMORY: usize = 24;
/// Bytes of one lane.
pub const LANE: usize = 16;
/// Bytes of one segment.
pub const SEGMENT: usize = 64;
/// Bytes of one device.
pub const DEVICE: usize = 32;
/// Bytes of one virtio device.
pub const VIRTIO: usize = 32;
/// Bytes of a guest's trials, but for faults by script.
pub const TRIALS: usize = 56;
/// Bytes of one fault by script.
pub const STRIKE: usize = 24;
/// Bytes of one disk.
pub const DISK: usize = 112;
/// Bytes of one network.
pub const NETWORK: usize = 40;
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
/// Section kind: a guest's virtio devices.
pub const KIND_VIRTIO: u16 = 7;
/// Section kind: what is watched of a guest's drivers, what goes wrong on purpose, and what is kept from them.
pub const KIND_TRIALS: u16 = 8;
/// Section kind: the disks.
pub const KIND_DISKS: u16 = 9;
/// Section kind: the networks.
pub const KIND_NETWORKS: u16 = 10;

/// Kind of disk: in memory of its own.
pub const DISK_MEMORY: u32 = 1;
/// Kind of disk: an image in the bundle, which is never written to.
pub const DISK_IN_BUNDLE: u32 = 2;
/// Kind of disk: an image in the bundle, and what each guest writes.
pub const DISK_SNAPSHOT: u32 = 3;
/// Kind of disk: a virtio-blk device of the machine.
pub const DISK_WHOLE: u32 = 4;
/// Kind of disk: sectors of one.
pub const DISK_RANGE: u32 = 5;
/// Kind of disk: a partition of one, by number.
pub const DISK_PARTITION: u32 = 6;
/// Kind of disk: a partition of one, by name.
pub const DISK_PARTITION_NAME: u32 = 7;
/// A disk's flag: nobody may write to it, though it is the machine's.
pub const DISK_READONLY: u32 = 1;
/// Watched: what a guest's drivers do against virtio's specification.
pub const LINT_VIRTIO: u32 = 1;
/// Watched: everything that a guest's drivers and virtio devices do with queues.
pub const TRACE_VIRTIO: u32 = 2;
/// With [`LINT_VIRTIO`]: what does no harm with these devices, too.
pub const LINT_STRICT: u32 = 4;

/// CRC-32 (IEEE 802.3, reflected) of `bytes`, of which the four from `zeros` count as zero.
#[inline(never)]
fn crc32(bytes: &[u8], zeros: usize) -> u32 {
    let mut crc = u32::MAX;
    for (at, byte) in bytes.iter().enumerate() {
        if at.wrapping_sub(zeros) >= 4 {
            crc ^= u32::from(*byte);
        }
        for _ in 0..8 {
            let mask = 0u32.wrapping_sub(crc & 1);
            crc = (crc >> 1) ^ (0xEDB8_8320 & mask);
        }
    }
    !crc
}

/// The checksum a plan should carry: of all its bytes, its own field taken as zero.
#[must_use]
pub fn checksum(blob: &[u8]) -> u32 {
    crc32(blob, CHECKSUM_AT)
}

/// The little-endian number of `size` bytes, eight at most, at `at`; what is not there is zero.
#[inline(never)]
pub(crate) fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let field = bytes.iter().skip(at).take(size).rev();
    field.fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// A zero-padded text field. `None` if it is not UTF-8 or if anything follows its first zero, which is there.
#[inline(never)]
pub(crate) fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0)?;
    let (text, padding) = field.split_at_checked(end)?;
    if padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    core::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn crc32_is_the_usual_one() {
        assert_eq!(crc32(b"123456789", 9), 0xCBF4_3926);
        assert_eq!(crc32(b"12345\0\0\0\0", 5), crc32(b"123456789", 5));
    }
}
