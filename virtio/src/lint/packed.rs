//! Packed rings (virtio 1.3, 2.8), read by somebody who is not the device.

use stage2_addr::Ipa;

use super::content::Content;
use super::rules::Broken;
use super::walk::{Descriptor, INDIRECT, NEXT, WRITE, Walk};
use super::{Report, Watch};
use crate::features::Features;
use crate::memory::GuestMemory;

/// `VIRTQ_DESC_F_AVAIL` and `VIRTQ_DESC_F_USED` (2.8.1).
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Chains that are looked at for each notification.
const CHAINS: u16 = 64;

/// The driver has notified a queue.
pub(super) fn notified<M: GuestMemory>(
    watch: &mut Watch,
    features: Features,
    content: &Content,
    memory: &M,
    report: &mut Report<'_>,
) -> Option<()> {
    let suppression = memory.load_u16(Ipa::new(watch.claim.driver + 2))?;
    let most = if features.contains(Features::EVENT_IDX) {
        2
    } else {
        1
    };
    if suppression > most {
        report.broken(Broken::AvailFlags);
    }
    look(watch, features, content, memory, report)
}

/// Looks at what the driver has made available since the last time: at a notification, or when the device takes a chain.
pub(super) fn look<M: GuestMemory>(
    watch: &mut Watch,
    features: Features,
    content: &Content,
    memory: &M,
    report: &mut Report<'_>,
) -> Option<()> {
    let size = watch.claim.size;
    if !content.is_traced() {
        watch.flights.clear();
    }
    for _ in 0..CHAINS {
        let first = Descriptor::read(place(watch, watch.next), true, memory)?;
        let is_available =
            (first.flags & AVAIL != 0) == watch.wrap && (first.flags & USED != 0) != watch.wrap;
        if !is_available {
            break;
        }
        memory.acquire();
        let (mut index, mut wrap) = (watch.next, watch.wrap);
        let mut walk = Walk::new();
        let mut id = first.link;
        for count in 0.. {
            if count >= size {
                walk.wrong(Broken::ChainLong, id, report);
                break;
            }
            let one = Descriptor::read(place(watch, index), true, memory)?;
            id = one.link;
            walk.descriptor(&one);
            if one.flags & !(NEXT | WRITE | INDIRECT | AVAIL | USED) != 0 {
                walk.wrong(Broken::DescriptorFlags, id, report);
            }
            if one.flags & INDIRECT != 0 {
                if !features.contains(Features::INDIRECT_DESC) {
                    walk.wrong(Broken::IndirectUnagreed, id, report);
                }
                if one.flags & NEXT != 0 || count != 0 {
                    walk.wrong(Broken::IndirectNext, id, report);
                }
                walk.table(&one, id, size, true, memory, report);
            } else {
                walk.buffer(&one, id, memory, report);
            }
            index += 1;
            if index == size {
                index = 0;
                wrap = !wrap;
            }
            if one.flags & NEXT == 0 {
                break;
            }
        }
        // Where nobody tells of what was used, it may have been used between two chains of this very loop.
        if content.is_traced() && watch.flights.has(id) {
            report.at(Broken::HeadReused, id);
        }
        if walk.is_sound() {
            content.judge(&walk, id, features, memory, report);
        }
        watch.flights.depart(id, walk.sums);
        (watch.next, watch.wrap) = (index, wrap);
    }
    Some(())
}

fn place(watch: &Watch, index: u16) -> u64 {
    watch.claim.descriptors + 16 * u64::from(index)
}
