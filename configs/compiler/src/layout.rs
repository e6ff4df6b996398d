//! Where kernel, initrd and device tree go in a guest's RAM.

use std::ops::Range;

use configs_plan::{FLASH_BASE, PAGE, RAM_BASE};

use crate::kernel::{Footprint, Place};

/// A kernel may want to find its device tree within this distance (`booting.rst`: within 512 MiB, before Linux 4.2).
const DTB_REACH: u64 = 512 << 20;
/// A device tree starts on this boundary where there is room, so that a kernel maps it in one block.
const DTB_ALIGN: u64 = 2 << 20;
/// No device tree is larger (`booting.rst`, "Setup the device tree"): a kernel maps it in one block or two.
pub(crate) const DTB_LIMIT: u64 = DTB_ALIGN;
/// The initrd lies in one window with the kernel, of this size and starting on a multiple of 1 GiB (`booting.rst`,
/// "Call the kernel image").
const INITRD_WINDOW: u64 = 32 << 30;
const INITRD_WINDOW_ALIGN: u64 = 1 << 30;

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) memory: u64,
    pub(crate) kernel: Footprint,
    /// The address the file asks for, if it asks.
    pub(crate) address: Option<u64>,
    pub(crate) dtb: u64,
    pub(crate) initrd: Option<u64>,
}

/// Where everything goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) kernel: u64,
    pub(crate) entry: u64,
    pub(crate) dtb: u64,
    pub(crate) initrd: Option<u64>,
}

/// What finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The address asked for is not where such a kernel can lie. One near it is.
    Misaligned(u64),
    /// An address was asked for, but the kernel can lie only where it was linked.
    Linked(u64),
    /// The kernel's range is not all inside RAM.
    Kernel(u64),
    /// There is no room beside the kernel for the device tree.
    Dtb,
    /// There is no room beside the kernel and the device tree for the initrd.
    Initrd,
}

impl Load {
    /// Finds a place for everything: the kernel at the bottom of RAM unless asked otherwise, the rest near the top.
    pub(crate) fn place(&self) -> Result<Layout, NoRoom> {
        let kernel = self.kernel_address()?;
        let ram = RAM_BASE..RAM_BASE.saturating_add(self.memory);
        let mut taken = Vec::with_capacity(2);
        if self.kernel.place != Place::Flash {
            let kernel_end = kernel
                .checked_add(self.kernel.memory)
                .filter(|end| kernel >= ram.start && *end <= ram.end)
                .ok_or(NoRoom::Kernel(kernel))?;
            taken.push(kernel..kernel_end);
        }

        let low = RAM_BASE..ram.end.min(RAM_BASE.saturating_add(DTB_REACH));
        // A block of its own is what kernels like best; a small guest shares one with its kernel.
        let block = self.dtb.next_multiple_of(DTB_ALIGN);
        let pages = self.dtb.next_multiple_of(PAGE);
        let first = ram.start..if self.kernel.tree_first {
            ram.start.saturating_add(pages)
        } else {
            ram.start
        };
        let (dtb, length) = [
            (&first, pages, PAGE),
            (&low, block, DTB_ALIGN),
            (&ram, block, DTB_ALIGN),
            (&ram, pages, PAGE),
        ]
        .into_iter()
        .find_map(|(within, length, align)| Some((highest(within, &taken, length, align)?, length)))
        .ok_or(NoRoom::Dtb)?;
        taken.push(dtb..dtb.saturating_add(length));

        let initrd = match self.initrd {
            None => None,
            Some(length) => {
                let window = kernel.saturating_sub(kernel % INITRD_WINDOW_ALIGN);
                let near = ram.start..ram.end.min(window.saturating_add(INITRD_WINDOW));
                let place = highest(&low, &taken, length, PAGE)
                    .or_else(|| highest(&near, &taken, length, PAGE));
                Some(place.ok_or(NoRoom::Initrd)?)
            }
        };
        Ok(Layout {
            kernel,
            entry: kernel.saturating_add(self.kernel.entry),
            dtb,
            initrd,
        })
    }

    /// Where the kernel's first byte lies.
    fn kernel_address(&self) -> Result<u64, NoRoom> {
        match (self.kernel.place, self.address) {
            (Place::Fixed(linked), None) => Ok(linked),
            (Place::Fixed(linked), Some(asked)) if asked == linked => Ok(linked),
            (Place::Fixed(linked), Some(_)) => Err(NoRoom::Linked(linked)),
            (Place::Flash, None) => Ok(FLASH_BASE),
            (Place::Flash, Some(_)) => Err(NoRoom::Linked(FLASH_BASE)),
            (Place::Anywhere { usual, .. }, None) => Ok(usual),
            (Place::Anywhere { align, offset, .. }, Some(asked)) => {
                match asked.wrapping_sub(offset) % align {
                    0 => Ok(asked),
                    above => Err(NoRoom::Misaligned(
                        asked
                            .saturating_sub(above)
                            .max(RAM_BASE.saturating_add(offset)),
                    )),
                }
            }
        }
    }

    /// The least memory with which everything finds a place.
    pub(crate) fn least_memory(&self) -> Option<u64> {
        let granule = configs_plan::RAM_GRANULE;
        let start = self.kernel_address().ok()?.saturating_sub(RAM_BASE);
        let inside = if self.kernel.place == Place::Flash {
            0
        } else {
            self.kernel.memory
        };
        let kernel = start.saturating_add(inside).next_multiple_of(granule);
        // Beside the kernel: the initrd, the device tree, and a granule for the rounding of each.
        let beside = self.initrd.unwrap_or(0).saturating_add(4 * granule) / granule;
        (0..=beside)
            .map(|n| kernel.saturating_add(n.saturating_mul(granule)))
            .find(|memory| {
                *memory <= configs_plan::RAM_LIMIT.saturating_sub(RAM_BASE)
                    && Self {
                        memory: *memory,
                        ..*self
                    }
                    .place()
                    .is_ok()
            })
    }
}

/// The highest aligned place for `length` bytes inside `within` and outside all of `taken`.
fn highest(within: &Range<u64>, taken: &[Range<u64>], length: u64, align: u64) -> Option<u64> {
    let mut end = within.end;
    loop {
        let start = end.checked_sub(length)?;
        let start = start.checked_sub(start % align)?;
        if start < within.start {
            return None;
        }
        let stop = start.saturating_add(length);
        match taken
            .iter()
            .find(|range| range.start < stop && start < range.end)
        {
            None => return Some(start),
            // Each round ends lower than the one before, at the bottom of a range that was in the way.
            Some(range) => end = range.start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const IMAGE_ALIGN: u64 = 2 * MIB;

    #[test]
    fn firmware_finds_its_device_tree_at_the_start_of_ram_unless_it_lies_there_itself() {
        let at = |kernel: u64| {
            let mut footprint = footprint(MIB, 0);
            footprint.tree_first = true;
            footprint.place = Place::Fixed(kernel);
            let load = Load {
                memory: 64 * MIB,
                kernel: footprint,
                address: None,
                dtb: 5000,
                initrd: None,
            };
            load.place().unwrap().dtb
        };
        assert_eq!(at(RAM_BASE + 0x8_0000), RAM_BASE);
        assert_eq!(at(RAM_BASE + 0x2000), RAM_BASE);
        assert_ne!(at(RAM_BASE + 0x1000), RAM_BASE);
        assert_ne!(at(RAM_BASE), RAM_BASE);
    }

    /// What an arm64 `Image` asks for.
    fn footprint(memory: u64, offset: u64) -> Footprint {
        Footprint {
            place: Place::Anywhere {
                align: IMAGE_ALIGN,
                offset,
                usual: RAM_BASE + offset,
            },
            memory,
            entry: 0,
            tree_first: false,
        }
    }

    fn load(memory: u64, kernel: u64, text_offset: u64) -> Load {
        Load {
            memory,
            kernel: footprint(kernel, text_offset),
            address: None,
            dtb: 2000,
            initrd: None,
        }
    }

    #[test]
    fn the_kernel_is_low_and_the_rest_is_high() {
        let place = Load {
            initrd: Some(MIB + 1),
            ..load(64 * MIB, 10 * MIB, 0)
        }
        .place();
        let dtb = RAM_BASE + 62 * MIB;
        assert_eq!(
            place,
            Ok(Layout {
                kernel: RAM_BASE,
                entry: RAM_BASE,
                dtb,
                initrd: Some(dtb - MIB - PAGE)
            })
        );
        assert_eq!(
            load(64 * MIB, MIB, 0x8_0000).place().map(|p| p.kernel),
            Ok(RAM_BASE + 0x8_0000)
        );
        // Beyond 512 MiB an old kernel would not find its device tree.
        assert_eq!(
            load(4096 * MIB, MIB, 0).place().map(|p| p.dtb),
            Ok(RAM_BASE + 510 * MIB)
        );
        // A small guest's kernel and device tree share a block.
        assert_eq!(
            load(2 * MIB, MIB, 0).place().map(|p| p.dtb),
            Ok(RAM_BASE + 2 * MIB - PAGE)
        );
        // Unless there is no place below.
        assert_eq!(
            load(4096 * MIB, 600 * MIB, 0).place().map(|p| p.dtb),
            Ok(RAM_BASE + 4094 * MIB)
        );
    }

    /// An initrd that has no room low lies no farther from the kernel than a kernel looks.
    #[test]
    fn the_initrd_lies_in_the_kernel_s_window() {
        const GIB: u64 = 1 << 30;
        for (address, end) in [
            (None, 33 * GIB),
            (Some(RAM_BASE + 3 * GIB + 2 * MIB), 36 * GIB),
        ] {
            let load = Load {
                initrd: Some(600 * MIB),
                address,
                ..load(200 * GIB, MIB, 0)
            };
            let initrd = load.place().map(|place| place.initrd);
            assert_eq!(initrd, Ok(Some(end - 600 * MIB)));
        }
    }

    #[test]
    fn what_has_no_room_is_named() {
        assert_eq!(
            load(2 * MIB, 3 * MIB, 0).place(),
            Err(NoRoom::Kernel(RAM_BASE))
        );
        assert_eq!(load(2 * MIB, 2 * MIB, 0).place(), Err(NoRoom::Dtb));
        assert_eq!(
            Load {
                initrd: Some(60 * MIB),
                ..load(64 * MIB, 10 * MIB, 0)
            }
            .place(),
            Err(NoRoom::Initrd)
        );
        let at = |address| {
            Load {
                address: Some(address),
                ..load(64 * MIB, MIB, 0x8_0000)
            }
            .place()
            .map(|p| p.kernel)
        };
        assert_eq!(at(RAM_BASE + 0x28_0000), Ok(RAM_BASE + 0x28_0000));
        assert_eq!(
            at(RAM_BASE + 0x28_1000),
            Err(NoRoom::Misaligned(RAM_BASE + 0x28_0000))
        );
        assert_eq!(at(RAM_BASE), Err(NoRoom::Misaligned(RAM_BASE + 0x8_0000)));
        assert_eq!(at(0x8_0000), Err(NoRoom::Kernel(0x8_0000)));
        assert_eq!(
            at(u64::MAX - 0x17_FFFF),
            Err(NoRoom::Kernel(u64::MAX - 0x17_FFFF))
        );
    }

    #[test]
    fn the_least_memory_is_the_least() {
        for (kernel, initrd) in [
            (MIB, None),
            (36 * MIB, None),
            (36 * MIB, Some(70 * MIB)),
            (3 * MIB, Some(1)),
        ] {
            let load = Load {
                initrd,
                ..load(2 * MIB, kernel, 0)
            };
            let least = load.least_memory().expect("there is a least");
            assert!(
                Load {
                    memory: least,
                    ..load
                }
                .place()
                .is_ok()
            );
            assert!(
                Load {
                    memory: least - 2 * MIB,
                    ..load
                }
                .place()
                .is_err()
            );
        }
        assert_eq!(load(2 * MIB, 1 << 40, 0).least_memory(), None);
    }

    proptest! {
        /// Whatever is placed lies in RAM, aligned, and on nothing else.
        #[test]
        fn nothing_overlaps(
            memory in 1u64..600,
            kernel in 1u64..0x4000_0000,
            offset in 0u64..512,
            address in prop::option::of(0u64..2048),
            dtb in 1u64..0x4000,
            initrd in prop::option::of(1u64..0x4000_0000),
        ) {
            let (memory, text_offset) = (memory * 2 * MIB, offset * PAGE);
            let address = address.map(|n| RAM_BASE.wrapping_add(n * MIB) + text_offset);
            let load = Load { memory, kernel: footprint(kernel, text_offset), address, dtb, initrd };
            if let Ok(place) = load.place() {
                prop_assert_eq!((place.kernel - text_offset) % IMAGE_ALIGN, 0);
                prop_assert_eq!(place.dtb % PAGE, 0);
                prop_assert_eq!(place.initrd.is_some(), initrd.is_some());
                let mut parts = vec![(place.kernel, kernel), (place.dtb, dtb)];
                parts.extend(place.initrd.zip(initrd));
                parts.sort_unstable();
                prop_assert!(parts.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
                prop_assert!(parts.iter().all(|(start, length)| *start >= RAM_BASE && start + length <= RAM_BASE + memory));
            }
        }
    }
}
