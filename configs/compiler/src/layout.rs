//! Where kernel, initrd and device tree go in a guest's RAM.

use std::ops::Range;

use configs_plan::{PAGE, RAM_BASE};

use crate::image::{IMAGE_ALIGN, Image};

/// A kernel may want to find its device tree within this distance (`booting.rst`: within 512 MiB, before Linux 4.2).
const DTB_REACH: u64 = 512 << 20;
/// A device tree starts on this boundary, so that a kernel maps it in one block.
const DTB_ALIGN: u64 = 2 << 20;

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) memory: u64,
    pub(crate) image: Image,
    /// The address the file asks for, if it asks.
    pub(crate) address: Option<u64>,
    pub(crate) dtb: u64,
    pub(crate) initrd: Option<u64>,
}

/// Where everything goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) kernel: u64,
    pub(crate) dtb: u64,
    pub(crate) initrd: Option<u64>,
}

/// What finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The address asked for is not `text_offset` above a multiple of 2 MiB. The nearest one below that is.
    Misaligned(u64),
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
        let kernel = self
            .address
            .unwrap_or_else(|| RAM_BASE.saturating_add(self.image.text_offset));
        let above = kernel.wrapping_sub(self.image.text_offset) % IMAGE_ALIGN;
        if above != 0 {
            return Err(NoRoom::Misaligned(
                kernel
                    .saturating_sub(above)
                    .max(RAM_BASE.saturating_add(self.image.text_offset)),
            ));
        }
        let ram = RAM_BASE..RAM_BASE.saturating_add(self.memory);
        let kernel_end = kernel
            .checked_add(self.image.memory)
            .filter(|end| *end <= ram.end);
        let kernel_end = kernel_end
            .filter(|_| kernel >= ram.start)
            .ok_or(NoRoom::Kernel(kernel))?;
        let mut taken = Vec::with_capacity(2);
        taken.push(kernel..kernel_end);

        let low = RAM_BASE..ram.end.min(RAM_BASE.saturating_add(DTB_REACH));
        let dtb = highest(&low, &taken, self.dtb, DTB_ALIGN)
            .or_else(|| highest(&ram, &taken, self.dtb, DTB_ALIGN));
        let dtb = dtb.ok_or(NoRoom::Dtb)?;
        taken.push(dtb..dtb.saturating_add(DTB_ALIGN));

        let initrd = match self.initrd {
            None => None,
            Some(length) => {
                let place = highest(&low, &taken, length, PAGE)
                    .or_else(|| highest(&ram, &taken, length, PAGE));
                Some(place.ok_or(NoRoom::Initrd)?)
            }
        };
        Ok(Layout {
            kernel,
            dtb,
            initrd,
        })
    }

    /// The least memory with which everything finds a place.
    pub(crate) fn least_memory(&self) -> Option<u64> {
        let granule = configs_plan::RAM_GRANULE;
        let start = self.address.map_or(self.image.text_offset, |address| {
            address.saturating_sub(RAM_BASE)
        });
        let kernel = start
            .saturating_add(self.image.memory)
            .next_multiple_of(granule);
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

    fn load(memory: u64, kernel: u64, text_offset: u64) -> Load {
        Load {
            memory,
            image: Image {
                text_offset,
                memory: kernel,
            },
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
        // Unless there is no place below.
        assert_eq!(
            load(4096 * MIB, 600 * MIB, 0).place().map(|p| p.dtb),
            Ok(RAM_BASE + 4094 * MIB)
        );
    }

    #[test]
    fn what_has_no_room_is_named() {
        assert_eq!(
            load(2 * MIB, 3 * MIB, 0).place(),
            Err(NoRoom::Kernel(RAM_BASE))
        );
        assert_eq!(load(2 * MIB, MIB, 0).place(), Err(NoRoom::Dtb));
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
            let load = Load { memory, image: Image { text_offset, memory: kernel }, address, dtb, initrd };
            if let Ok(place) = load.place() {
                prop_assert_eq!((place.kernel - text_offset) % IMAGE_ALIGN, 0);
                prop_assert_eq!(place.dtb % DTB_ALIGN, 0);
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
