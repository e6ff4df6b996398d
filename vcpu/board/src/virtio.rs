//! The virtio-mmio slots (Virtual I/O Device 1.3, 4.2.2): which registers a lane answers itself, and an empty slot.
//!
//! An empty slot says so by device ID zero, which drivers must ignore, and has nothing else: the rest of it reads as
//! zero and ignores writes. Registers are for aligned 32-bit accesses; of any other width they read as zero too.

/// `MagicValue`.
pub const MAGIC_VALUE: u64 = 0x000;
/// `Version`.
pub const VERSION: u64 = 0x004;
/// `DeviceID`.
pub const DEVICE_ID: u64 = 0x008;
/// `VendorID`.
pub const VENDOR_ID: u64 = 0x00c;
/// `QueueNotify`.
pub const QUEUE_NOTIFY: u64 = 0x050;
/// `InterruptStatus`.
pub const INTERRUPT_STATUS: u64 = 0x060;
/// `InterruptACK`.
pub const INTERRUPT_ACK: u64 = 0x064;

/// "virt".
pub const MAGIC: u32 = u32::from_le_bytes(*b"virt");
/// Not the legacy interface.
const MODERN: u32 = 2;
/// Who made the slot.
pub const VENDOR: u32 = u32::from_le_bytes(*b"XDV ");

/// A load of `bytes` bytes from an empty slot.
#[must_use]
pub const fn read_empty(offset: u64, bytes: u32) -> u64 {
    let word = match (offset, bytes) {
        (MAGIC_VALUE, 4) => MAGIC,
        (VERSION, 4) => MODERN,
        (VENDOR_ID, 4) => VENDOR,
        _ => 0,
    };
    word as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_15_an_empty_slot_has_an_answer_for_every_offset_and_width() {
        for offset in 0..0x200 {
            for bytes in [1, 2, 4, 8] {
                let wanted = match (offset, bytes) {
                    (0x000, 4) => 0x7472_6976,
                    (0x004, 4) => 2,
                    (0x00c, 4) => 0x2056_4458,
                    _ => 0,
                };
                assert_eq!(read_empty(offset, bytes), wanted, "{offset:#x} {bytes}");
            }
        }
        assert_eq!(read_empty(DEVICE_ID, 4), 0);
    }
}
