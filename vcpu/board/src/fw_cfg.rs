//! QEMU's firmware configuration device, by which a firmware asks what machine it is on.
//!
//! The interface is that of QEMU's `docs/specs/fw_cfg`, without DMA: a selector, and a data register that gives the
//! selected item byte by byte, then zeros. Of items there are the two by which a driver knows the device; every other
//! one is empty, the directory of files too. What a guest boots from is said by its device tree.

use crate::flash::mask;

/// The register that gives the selected item, in any width.
const DATA: core::ops::Range<u64> = 0..8;
/// The register that selects an item: 16 bits, big-endian.
const SELECTOR: u64 = 8;

const SIGNATURE: u16 = 0;
const INTERFACE: u16 = 1;
/// Selects for writing, which nothing can be here.
const WRITE_CHANNEL: u16 = 1 << 14;

/// The device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FwCfg {
    item: u16,
    /// Bytes of it that were read.
    at: u32,
}

impl FwCfg {
    /// The device after power-on.
    pub const RESET: Self = Self {
        item: SIGNATURE,
        at: 0,
    };

    /// A load of 1, 2, 4 or 8 bytes. The item's first byte is the one at the lowest address.
    pub fn read(&mut self, offset: u64, bytes: u32) -> u64 {
        if !DATA.contains(&offset) {
            return 0;
        }
        // No item is longer than this.
        let item = match self.item & !WRITE_CHANNEL {
            SIGNATURE => u32::from_le_bytes(*b"QEMU"),
            // Bit 0: the interface of selector and data. Bit 1, DMA, is clear.
            INTERFACE => 1,
            _ => 0,
        };
        let rest = u64::from(item).checked_shr(self.at.saturating_mul(8));
        self.at = self.at.saturating_add(bytes);
        rest.unwrap_or(0) & mask(bytes)
    }

    /// A store of 1, 2, 4 or 8 bytes.
    pub fn write(&mut self, offset: u64, bytes: u32, value: u64) {
        if (offset, bytes) == (SELECTOR, 2) {
            let [high, low, ..] = value.to_le_bytes();
            self.item = u16::from_be_bytes([high, low]);
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const WIDTHS: [u32; 4] = [1, 2, 4, 8];

    fn select(device: &mut FwCfg, item: u16) {
        device.write(SELECTOR, 2, u64::from(item.swap_bytes()));
    }

    fn bytes(device: &mut FwCfg, widths: &[u32]) -> Vec<u8> {
        let mut seen = Vec::new();
        for width in widths {
            let value = device.read(0, *width);
            seen.extend(&value.to_le_bytes()[..*width as usize]);
            assert_eq!(u128::from(value) >> (8 * width), 0, "no more than asked");
        }
        seen
    }

    #[test]
    fn a_driver_knows_the_device_and_finds_no_dma_and_no_files() {
        let mut device = FwCfg::RESET;
        assert_eq!(device.read(0, 4), u64::from(u32::from_le_bytes(*b"QEMU")));
        select(&mut device, 1);
        assert_eq!(device.read(0, 4), 1);
        for item in 2..=0x3fff {
            select(&mut device, item);
            assert_eq!((device.read(0, 8), device.read(0, 8)), (0, 0), "{item:#x}");
        }
    }

    #[test]
    fn every_width_gives_the_bytes_in_their_order_and_then_zeros() {
        for widths in [
            &[1, 1, 1, 1, 1, 1, 1, 1][..],
            &[2, 2, 2, 2],
            &[4, 4],
            &[8],
            &[1, 2, 4, 1],
            &[2, 1, 1, 4],
        ] {
            for item in [0, WRITE_CHANNEL] {
                let mut device = FwCfg::RESET;
                select(&mut device, item);
                assert_eq!(bytes(&mut device, widths), b"QEMU\0\0\0\0", "{widths:?}");
            }
        }
    }

    #[test]
    fn items_of_an_architecture_s_own_are_empty() {
        let mut device = FwCfg::RESET;
        for item in [0x8000, 0x8001, 0xc000] {
            select(&mut device, item);
            assert_eq!(device.read(0, 8), 0);
        }
    }

    #[test]
    fn all_of_the_data_register_is_one_stream() {
        for offset in DATA {
            let mut device = FwCfg::RESET;
            assert_eq!(device.read(offset, 1), u64::from(b'Q'));
            assert_eq!(device.read(0, 1), u64::from(b'E'));
        }
    }

    /// Every offset of its page, every width: only the selector changes anything, only whole, and only data answers.
    #[test]
    fn nothing_else_does_anything() {
        for offset in 0..0x1000 {
            for width in WIDTHS {
                let mut device = FwCfg::RESET;
                device.write(offset, width, 0x0100);
                let selected = (offset, width) == (SELECTOR, 2);
                assert_eq!(device != FwCfg::RESET, selected, "{offset:#x} {width}");
                let mut device = FwCfg::RESET;
                let seen = device.read(offset, width);
                assert_eq!(seen != 0, DATA.contains(&offset), "{offset:#x} {width}");
                assert_eq!(device != FwCfg::RESET, DATA.contains(&offset));
            }
        }
    }

    #[test]
    fn selecting_begins_anew() {
        let mut device = FwCfg::RESET;
        device.read(0, 2);
        select(&mut device, 0);
        assert_eq!(bytes(&mut device, &[4]), b"QEMU");
    }
}
