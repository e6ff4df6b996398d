//! A queue's three areas: what the driver claims of them, judged.

use stage2_addr::Ipa;

use super::QueueConfig;
use crate::chain::MAX_CHAIN;
use crate::features::Features;
use crate::memory::GuestMemory;

/// Areas inside the guest's memory, aligned and apart.
#[derive(Clone, Copy)]
pub(super) struct Areas {
    pub descriptors: Ipa,
    pub driver: Ipa,
    pub device: Ipa,
    /// Entries: 1 to 256.
    pub size: u16,
    /// The most descriptors in an indirect table that is one chain. The *queue size of the device* (2.7.5.3.1) is read as
    /// the largest that it offers: Linux makes no difference when its user has chosen a smaller ring.
    pub longest: u16,
}

/// One area: where, how many bytes, aligned to what.
struct Area {
    at: u64,
    len: u64,
    align: u64,
}

impl Area {
    const fn new(at: u64, len: u64, align: u64) -> Self {
        Self { at, len, align }
    }

    /// Its end, which may be 2^64 and is then none: no RAM reaches so far.
    fn end(&self) -> Option<u64> {
        self.at.checked_add(self.len)
    }

    fn is_proper<M: GuestMemory>(&self, memory: &M) -> bool {
        self.at.is_multiple_of(self.align)
            && self.end().is_some()
            && memory.contains(Ipa::new(self.at), self.len)
    }

    fn is_apart(&self, other: &Self) -> bool {
        let (Some(end), Some(other_end)) = (self.end(), other.end()) else {
            return false;
        };
        end <= other.at || other_end <= self.at
    }
}

impl Areas {
    /// Judges (2.7 and 2.8.10.1: sizes and alignments).
    pub(super) fn judge<M: GuestMemory>(
        config: &QueueConfig,
        max: u16,
        features: Features,
        memory: &M,
    ) -> Option<Self> {
        let packed = features.contains(Features::RING_PACKED);
        let size = config.size;
        let longest = usize::from(max).min(MAX_CHAIN);
        if size == 0 || usize::from(size) > longest || !(packed || size.is_power_of_two()) {
            return None;
        }
        let entries = u64::from(size);
        // `used_event` and `avail_event` are there "only if VIRTIO_F_EVENT_IDX" (2.7.6, 2.7.8).
        let event = if features.contains(Features::EVENT_IDX) {
            2
        } else {
            0
        };
        let descriptors = Area::new(config.descriptors, 16 * entries, 16);
        let (driver, device) = if packed {
            (
                Area::new(config.driver, 4, 4),
                Area::new(config.device, 4, 4),
            )
        } else {
            (
                Area::new(config.driver, 4 + 2 * entries + event, 2),
                Area::new(config.device, 4 + 8 * entries + event, 4),
            )
        };
        let proper = descriptors.is_proper(memory)
            && driver.is_proper(memory)
            && device.is_proper(memory)
            && descriptors.is_apart(&driver)
            && descriptors.is_apart(&device)
            && driver.is_apart(&device);
        proper.then_some(Self {
            descriptors: Ipa::new(config.descriptors),
            driver: Ipa::new(config.driver),
            device: Ipa::new(config.device),
            size,
            longest: u16::try_from(longest).ok()?,
        })
    }

    /// Where a descriptor is, whose index is below the size.
    #[inline]
    pub(super) fn descriptor(&self, index: u16) -> Ipa {
        within(self.descriptors, 16 * u64::from(index))
    }
}

/// An address inside an area that was judged: it does not wrap.
#[inline]
pub(super) fn within(area: Ipa, offset: u64) -> Ipa {
    Ipa::new(area.raw().wrapping_add(offset))
}
