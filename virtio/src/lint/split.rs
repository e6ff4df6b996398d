//! Split rings (virtio 1.3, 2.7), read by somebody who is not the device.

use stage2_addr::Ipa;

use super::content::Content;
use super::rules::Broken;
use super::walk::{Descriptor, INDIRECT, NEXT, Sums, WRITE, Walk};
use super::{Report, Watch};
use crate::features::Features;
use crate::memory::GuestMemory;

/// Chains that are looked at for each notification; who makes more available at once is believed about the rest.
const CHAINS: u16 = 64;

/// The driver has notified a queue.
pub(super) fn notified<M: GuestMemory>(
    watch: &mut Watch,
    features: Features,
    content: &Content,
    memory: &M,
    report: &mut Report<'_>,
) -> Option<()> {
    let claim = watch.claim;
    let (driver, device) = (claim.driver, claim.device);
    let flags = memory.load_u16(Ipa::new(driver))?;
    if flags > 1 || flags != 0 && features.contains(Features::EVENT_IDX) {
        report.broken(Broken::AvailFlags);
    }
    if content.is_traced() && memory.load_u16(Ipa::new(device + 2))? != watch.used {
        report.broken(Broken::UsedWritten);
    }
    look(watch, features, content, memory, report)
}

/// Looks at what the driver has made available since the last time. For a queue whose notifications are not asked for, the
/// device's taking a chain is the time.
pub(super) fn look<M: GuestMemory>(
    watch: &mut Watch,
    features: Features,
    content: &Content,
    memory: &M,
    report: &mut Report<'_>,
) -> Option<()> {
    let (size, driver) = (watch.claim.size, watch.claim.driver);
    let index = memory.load_u16(Ipa::new(driver + 2))?;
    memory.acquire();
    let fresh = index.wrapping_sub(watch.next);
    if fresh > size {
        if !content.is_traced() {
            // So many may have been used meanwhile.
            watch.next = index;
            return Some(());
        }
        let back = fresh > u16::MAX - size;
        report.broken(if back {
            Broken::AvailBack
        } else {
            Broken::AvailJump
        });
        watch.next = index;
        return Some(());
    }
    if !content.is_traced() {
        // What the device has used is not told of: each entry may be new again.
        watch.flights.clear();
    }
    for number in 0..fresh.min(CHAINS) {
        let slot = watch.next.wrapping_add(number) % size;
        let entry = Ipa::new(driver + 4 + 2 * u64::from(slot));
        let head = memory.load_u16(entry)?;
        if head >= size {
            report.at(Broken::HeadRange, head);
            continue;
        }
        // Where nobody tells of what was used, it may have been used between two entries of this very loop.
        if content.is_traced() && watch.flights.has(head) {
            report.at(Broken::HeadReused, head);
            continue;
        }
        let walk = chain(watch, head, features, memory, report);
        if features.contains(Features::IN_ORDER) {
            if head != watch.expected {
                report.at(Broken::NotInOrder, head);
            }
            let count = if walk.is_table { 1 } else { walk.walk.count };
            watch.expected = head.wrapping_add(count) % size;
        }
        if walk.walk.is_sound() {
            content.judge(&walk.walk, head, features, memory, report);
        }
        // Once more, by somebody who knows nothing of the first time.
        let again = sums(watch, head, features, memory);
        if again != walk.walk.sums || memory.load_u16(entry)? != head {
            report.at(Broken::Torn, head);
        }
        watch.flights.depart(head, again);
    }
    watch.next = index;
    Some(())
}

/// The device is about to show that it has used a chain.
pub(super) fn pushed<M: GuestMemory>(
    watch: &mut Watch,
    head: u16,
    memory: &M,
    report: &mut Report<'_>,
) {
    let Some(before) = watch.flights.land(head) else {
        return;
    };
    let now = sums(watch, head, Features::all(), memory);
    if now.descriptors != before.descriptors {
        report.at(Broken::FlightDescriptor, head);
    } else if now.contents != before.contents {
        report.at(Broken::FlightBuffer, head);
    }
}

struct Chain {
    walk: Walk,
    /// It is one descriptor of the ring, and a table.
    is_table: bool,
}

fn sums<M: GuestMemory>(watch: &Watch, head: u16, features: Features, memory: &M) -> Sums {
    let nobody = &mut |_| ();
    let (mut seen, mut count) = ([u32::MAX; super::RULES.len()], 0);
    let mut quiet = Report {
        seen: &mut seen,
        count: &mut count,
        queue: None,
        tell: nobody,
    };
    chain(watch, head, features, memory, &mut quiet).walk.sums
}

fn chain<M: GuestMemory>(
    watch: &Watch,
    head: u16,
    features: Features,
    memory: &M,
    report: &mut Report<'_>,
) -> Chain {
    let claim = watch.claim;
    let mut walk = Walk::new();
    let mut is_table = false;
    let mut index = head;
    for count in 0.. {
        if count >= u32::from(claim.size) {
            walk.wrong(Broken::ChainLong, index, report);
            break;
        }
        let at = claim.descriptors + 16 * u64::from(index);
        let Some(one) = Descriptor::read(at, false, memory) else {
            break;
        };
        walk.descriptor(&one);
        if one.flags & !(NEXT | WRITE | INDIRECT) != 0 {
            walk.wrong(Broken::DescriptorFlags, index, report);
        }
        if one.flags & INDIRECT != 0 {
            is_table = count == 0;
            if !features.contains(Features::INDIRECT_DESC) {
                walk.wrong(Broken::IndirectUnagreed, index, report);
            }
            if one.flags & NEXT != 0 {
                walk.wrong(Broken::IndirectNext, index, report);
            }
            walk.table(&one, index, claim.size, false, memory, report);
            break;
        }
        walk.buffer(&one, index, memory, report);
        if one.flags & NEXT == 0 {
            break;
        }
        if one.link >= claim.size {
            walk.wrong(Broken::NextRange, index, report);
            break;
        }
        index = one.link;
    }
    Chain { walk, is_table }
}
