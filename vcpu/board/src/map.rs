//! The guest's address map: which device answers at an IPA.
//!
//! RAM is in it too, so that a stage-2 fault there (a page that is not mapped yet, a write to a read-only one) is told
//! apart from an access to nothing.

use stage2_addr::Ipa;

/// The flash of firmware guests: two banks of 64 MiB, the firmware in the first.
pub const FLASH_BASE: u64 = 0;
/// Bytes of both banks.
pub const FLASH_SIZE: u64 = 0x0800_0000;
/// The second bank, with the flash of firmware's variables at its start.
pub const VARIABLES_BASE: u64 = 0x0400_0000;
/// The firmware configuration device of firmware guests.
pub const FW_CFG_BASE: u64 = 0x0902_0000;
/// Bytes of it: the data register and the selector.
pub const FW_CFG_SIZE: u64 = 0xa;
/// The distributor's frame.
pub const GICD_BASE: u64 = 0x0800_0000;
/// Bytes of the distributor's frame.
pub const GICD_SIZE: u64 = 0x1_0000;
/// The redistributor of lane 0; the others follow.
pub const GICR_BASE: u64 = 0x080a_0000;
/// Bytes of one lane's redistributor: the RD frame and the SGI frame.
pub const GICR_STRIDE: u64 = 0x2_0000;
/// The UART.
pub const PL011_BASE: u64 = 0x0900_0000;
/// Bytes of the UART's frame.
pub const PL011_SIZE: u64 = 0x1000;
/// The UART's INTID: SPI 1.
pub const PL011_SPI: u32 = 33;
/// The real-time clock.
pub const PL031_BASE: u64 = 0x0901_0000;
/// Bytes of the real-time clock's frame.
pub const PL031_SIZE: u64 = 0x1000;
/// The real-time clock's INTID: SPI 2.
pub const PL031_SPI: u32 = 34;
/// The first virtio-mmio slot; the others follow.
pub const VIRTIO_BASE: u64 = 0x0a00_0000;
/// Bytes of one slot.
pub const VIRTIO_STRIDE: u64 = 0x200;
/// How many slots there are.
pub const VIRTIO_SLOTS: u64 = 32;
/// The first slot's INTID, SPI 16; the others follow.
pub const VIRTIO_SPI: u32 = 48;
/// Where RAM begins unless the plan says otherwise.
pub const RAM_BASE: u64 = 0x4000_0000;
/// The most lanes a guest may have.
pub const MAX_LANES: usize = 8;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The GIC's distributor.
    Distributor,
    /// The redistributor of this lane.
    Redistributor(usize),
    /// The UART.
    Pl011,
    /// The real-time clock.
    Pl031,
    /// The virtio-mmio slot of this number.
    Virtio(usize),
    /// Flash, as far as the firmware in it is not mapped.
    Flash,
    /// The firmware configuration device.
    FwCfg,
    /// The guest's memory.
    Ram,
}

/// A device and the offset in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: Device,
    /// Bytes from the start of its frame.
    pub offset: u64,
}

/// The address map of one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    ram: Ipa,
    ram_size: u64,
    redistributors: u64,
    /// Bytes of flash: none, or both banks.
    flash: u64,
    /// Bytes of fw_cfg, which only firmware has.
    fw_cfg: u64,
}

impl Board {
    /// The map of a guest with `lanes` lanes (at most 8 count) and `ram_size` bytes of RAM from `ram`.
    #[must_use]
    pub const fn new(lanes: usize, ram: Ipa, ram_size: u64) -> Self {
        let lanes = if lanes > MAX_LANES { MAX_LANES } else { lanes };
        Self {
            ram,
            ram_size,
            redistributors: lanes as u64 * GICR_STRIDE,
            flash: 0,
            fw_cfg: 0,
        }
    }

    /// The same with what firmware finds: flash and fw_cfg.
    #[must_use]
    pub const fn with_firmware(self) -> Self {
        Self {
            flash: FLASH_SIZE,
            fw_cfg: FW_CFG_SIZE,
            ..self
        }
    }

    /// Whether it has flash.
    #[must_use]
    pub const fn has_flash(&self) -> bool {
        self.flash != 0
    }

    /// Who answers at `ipa`. An access that would cross the end of a frame is the device's to refuse.
    #[inline]
    #[must_use]
    pub const fn find(&self, ipa: Ipa) -> Option<Place> {
        let raw = ipa.raw();
        // Wrapping distances: an address below the base is far above the size.
        let offset = raw.wrapping_sub(GICD_BASE);
        if offset < GICD_SIZE {
            return Some(Place {
                device: Device::Distributor,
                offset,
            });
        }
        let offset = raw.wrapping_sub(PL011_BASE);
        if offset < PL011_SIZE {
            return Some(Place {
                device: Device::Pl011,
                offset,
            });
        }
        let offset = raw.wrapping_sub(GICR_BASE);
        if offset < self.redistributors {
            let lane = lane_of(offset);
            return Some(Place {
                device: Device::Redistributor(lane),
                offset: offset & (GICR_STRIDE - 1),
            });
        }
        let offset = raw.wrapping_sub(PL031_BASE);
        if offset < PL031_SIZE {
            return Some(Place {
                device: Device::Pl031,
                offset,
            });
        }
        let offset = raw.wrapping_sub(VIRTIO_BASE);
        if offset < VIRTIO_SLOTS * VIRTIO_STRIDE {
            return Some(Place {
                device: Device::Virtio((offset / VIRTIO_STRIDE) as usize),
                offset: offset & (VIRTIO_STRIDE - 1),
            });
        }
        let offset = raw.wrapping_sub(self.ram.raw());
        if offset < self.ram_size {
            return Some(Place {
                device: Device::Ram,
                offset,
            });
        }
        let offset = raw.wrapping_sub(FLASH_BASE);
        if offset < self.flash {
            return Some(Place {
                device: Device::Flash,
                offset,
            });
        }
        let offset = raw.wrapping_sub(FW_CFG_BASE);
        if offset < self.fw_cfg {
            return Some(Place {
                device: Device::FwCfg,
                offset,
            });
        }
        None
    }

    /// Whether `ipa` is in RAM: what [`find`](Self::find) says, sooner.
    #[inline]
    #[must_use]
    pub const fn is_ram(&self, ipa: Ipa) -> bool {
        ipa.raw().wrapping_sub(self.ram.raw()) < self.ram_size
    }

    /// How many redistributor frames there are.
    #[must_use]
    pub const fn lanes(&self) -> usize {
        lane_of(self.redistributors)
    }
}

const fn lane_of(offset: u64) -> usize {
    (offset / GICR_STRIDE) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn board(lanes: usize) -> Board {
        Board::new(lanes, Ipa::new(RAM_BASE), 64 * MIB)
    }

    #[test]
    fn every_frame_begins_and_ends_where_the_map_says() {
        let board = board(2);
        let at = |ipa| {
            board
                .find(Ipa::new(ipa))
                .map(|place| (place.device, place.offset))
        };
        assert_eq!(at(GICD_BASE - 1), None);
        assert_eq!(at(GICD_BASE), Some((Device::Distributor, 0)));
        assert_eq!(at(GICD_BASE + 0xffff), Some((Device::Distributor, 0xffff)));
        assert_eq!(at(GICD_BASE + 0x1_0000), None);
        assert_eq!(at(GICR_BASE - 1), None);
        assert_eq!(
            at(GICR_BASE + 0x1_0100),
            Some((Device::Redistributor(0), 0x1_0100))
        );
        assert_eq!(
            at(GICR_BASE + 0x2_0008),
            Some((Device::Redistributor(1), 8))
        );
        assert_eq!(at(PL011_BASE - 1), None);
        assert_eq!(at(PL011_BASE + 0x18), Some((Device::Pl011, 0x18)));
        assert_eq!(at(PL011_BASE + 0x1000), None);
        assert_eq!(at(PL031_BASE - 1), None);
        assert_eq!(at(PL031_BASE + 0xffc), Some((Device::Pl031, 0xffc)));
        assert_eq!(at(PL031_BASE + 0x1000), None);
        assert_eq!(at(VIRTIO_BASE - 1), None);
        assert_eq!(at(VIRTIO_BASE), Some((Device::Virtio(0), 0)));
        assert_eq!(at(VIRTIO_BASE + 0x1ff), Some((Device::Virtio(0), 0x1ff)));
        assert_eq!(at(VIRTIO_BASE + 0x200), Some((Device::Virtio(1), 0)));
        assert_eq!(at(0x0a00_3fff), Some((Device::Virtio(31), 0x1ff)));
        assert_eq!(at(0x0a00_4000), None);
        // What only firmware has, and what nobody has.
        for absent in [0x0400_0000, 0x0902_0000, 0x0c00_0000, 0x1000_0000] {
            assert_eq!(at(absent), None);
        }
        assert_eq!(at(RAM_BASE - 1), None);
        assert_eq!(
            at(RAM_BASE + 64 * MIB - 1),
            Some((Device::Ram, 64 * MIB - 1))
        );
        assert_eq!(at(RAM_BASE + 64 * MIB), None);
        assert_eq!(at(0), None);
        assert_eq!(at(u64::MAX), None);
    }

    #[test]
    fn sixteen_gibibytes_of_ram_lie_above_all_devices() {
        let size = 16 << 30;
        let board = Board::new(8, Ipa::new(RAM_BASE), size);
        let is_ram = |ipa| {
            let place = board.find(Ipa::new(ipa));
            place.is_some_and(|place| place.device == Device::Ram)
        };
        assert!(is_ram(RAM_BASE) && is_ram(RAM_BASE + size - 1));
        assert!(!is_ram(RAM_BASE - 1) && !is_ram(RAM_BASE + size));
    }

    #[test]
    fn gic_05_no_redistributor_past_the_last_lane() {
        for lanes in 0..=9 {
            let board = board(lanes);
            let real = lanes.min(MAX_LANES);
            assert_eq!(board.lanes(), real);
            for frame in 0..16u64 {
                let found = board.find(Ipa::new(GICR_BASE + frame * GICR_STRIDE + 0x14));
                let lane = usize::try_from(frame).unwrap();
                let expected = (lane < real).then_some(Place {
                    device: Device::Redistributor(lane),
                    offset: 0x14,
                });
                assert_eq!(found, expected);
            }
        }
    }

    proptest! {
        #[test]
        fn a_place_leads_back_to_its_address(ipa in any::<u64>(), near in 0u64..0x8000_0000, fw in 0u64..16, lanes in 1usize..9) {
            let board = board(lanes);
            for ipa in [ipa, near, FW_CFG_BASE + fw] {
                let ram = board.find(Ipa::new(ipa)).is_some_and(|place| place.device == Device::Ram);
                prop_assert_eq!(ram, board.is_ram(Ipa::new(ipa)));
                if let Some(Place { device, offset }) = board.find(Ipa::new(ipa)) {
                    let base = match device {
                        Device::Distributor => GICD_BASE,
                        Device::Redistributor(lane) => GICR_BASE + lane as u64 * GICR_STRIDE,
                        Device::Pl011 => PL011_BASE,
                        Device::Pl031 => PL031_BASE,
                        Device::Virtio(slot) => VIRTIO_BASE + slot as u64 * VIRTIO_STRIDE,
                        Device::Flash => FLASH_BASE,
                        Device::FwCfg => FW_CFG_BASE,
                        Device::Ram => RAM_BASE,
                    };
                    prop_assert_eq!(base + offset, ipa);
                }
                let plain = board.find(Ipa::new(ipa));
                let flashed = board.with_firmware().find(Ipa::new(ipa));
                let fw_cfg = ipa.wrapping_sub(FW_CFG_BASE);
                if plain.is_none() && ipa < FLASH_SIZE {
                    prop_assert_eq!(flashed, Some(Place { device: Device::Flash, offset: ipa }));
                } else if plain.is_none() && fw_cfg < FW_CFG_SIZE {
                    prop_assert_eq!(flashed, Some(Place { device: Device::FwCfg, offset: fw_cfg }));
                } else {
                    prop_assert_eq!(flashed, plain);
                }
            }
        }
    }
}
