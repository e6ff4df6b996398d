//! A second CPU of the guest changes what the device is looking at: VIO-15, VIO-16. Whatever it changes and when, the
//! device behaves as if that had been there before it looked, or after.

use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::vec::Vec;

use super::{BYTES, DATA, RING, Want, pop, queue};
use crate::chain::Chain;
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::queue::{Broken, Queue};

type Popped = Result<Option<Vec<Want>>, Broken>;

const FEATURES: Features = Features::INDIRECT_DESC.union(Features::EVENT_IDX);

/// Where the table of the second chain is.
const TABLE: u64 = DATA + 0x1000;

/// A ring with two chains: three descriptors, and a table of two. Its bytes differ with `packed`.
fn lay_out(ram: &Ram, packed: bool) {
    // Address, length, flags, and which is next or what its id is.
    let describe = |at, address, len, flags: u16, link: u16| {
        ram.poke_u64(at, address);
        ram.poke_u32(at + 8, len);
        let (first, second) = if packed { (link, flags) } else { (flags, link) };
        ram.poke_u16(at + 12, first);
        ram.poke_u16(at + 14, second);
    };
    let available = if packed { 1 << 7 } else { 0 };
    let ring = RING.descriptors;
    describe(ring, DATA, 16, available | 1, 1);
    describe(ring + 16, DATA + 64, 512, available | 3, 2);
    describe(ring + 32, DATA + 1024, 1, available | 2, 0);
    describe(ring + 48, TABLE, 32, available | 4, 3);
    describe(TABLE, DATA + 16, 8, u16::from(!packed), 1);
    describe(TABLE + 16, DATA + 32, 24, 2, 0);
    if !packed {
        ram.poke_u16(RING.driver + 4, 0);
        ram.poke_u16(RING.driver + 6, 3);
        ram.poke_u16(RING.driver + 2, 2);
    }
}

/// Everything that the driver writes, in fields of two bytes.
fn fields(packed: bool) -> Vec<u64> {
    let mut all: Vec<u64> = (0..32).map(|field| RING.descriptors + 2 * field).collect();
    all.extend((0..16).map(|field| TABLE + 2 * field));
    if !packed {
        all.extend((0..4).map(|field| RING.driver + 2 * field));
    }
    all
}

fn features(packed: bool) -> Features {
    if packed {
        FEATURES.union(Features::RING_PACKED)
    } else {
        FEATURES
    }
}

/// Takes three chains, or fewer.
fn take(ram: &Ram, queue: &mut Queue) -> Vec<Popped> {
    (0..3).map(|_| pop(queue, ram)).collect()
}

/// What comes of it when a field has another value, from before the first access on.
fn outcome(packed: bool, change: Option<(u64, u16)>) -> Vec<Popped> {
    let ram = Ram::new(BYTES);
    lay_out(&ram, packed);
    if let Some((at, value)) = change {
        ram.poke_u16(at, value);
    }
    let mut queue = queue(&ram, RING, features(packed));
    take(&ram, &mut queue)
}

/// One field changes before the n-th access, for each field, each n, and many values: each pop is one of those that would
/// have been without the change, or with the change from the beginning. When it changes back one access later, a chain
/// may go round and meet a descriptor again: each buffer is still one that a descriptor has described.
#[test]
fn vio_15_vio_16_a_field_flips_between_two_loads() {
    for packed in [false, true] {
        let plain = outcome(packed, None);
        let good = plain.iter().filter(|one| matches!(one, Ok(Some(_))));
        assert_eq!(good.count(), 2);
        for at in fields(packed) {
            for value in values(packed, at) {
                let changed = outcome(packed, Some((at, value)));
                let loads = flip(packed, at, value, usize::MAX, false).1;
                for moment in 0..loads {
                    let (got, _) = flip(packed, at, value, moment, false);
                    is_one_of(&got, &plain, &changed, (at, value, moment));
                    let (got, _) = flip(packed, at, value, moment, true);
                    are_described(&got, packed, (at, value));
                }
            }
        }
    }
}

/// Values for a field: all single bits flipped, and the usual suspects.
fn values(packed: bool, at: u64) -> Vec<u16> {
    let ram = Ram::new(BYTES);
    lay_out(&ram, packed);
    let now = ram.peek_u16(at);
    let bits = (0..16).map(|bit| now ^ 1 << bit);
    let others = [0, 1, 2, 3, 4, 5, 8, 0xFFFF, 0x8000, 0x80];
    bits.chain(others).filter(|one| *one != now).collect()
}

/// The same with a change before an access, and the number of accesses. With `back` it lasts for one access.
fn flip(packed: bool, at: u64, value: u16, moment: usize, back: bool) -> (Vec<Popped>, usize) {
    let ram = Ram::new(BYTES);
    lay_out(&ram, packed);
    let now = ram.peek_u16(at);
    let mut queue = queue(&ram, RING, features(packed));
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    ram.set_hook(move |ram, _| {
        let access = counter.fetch_add(1, Ordering::Relaxed);
        if access == moment {
            ram.poke_u16(at, value);
        } else if back && access == moment + 1 {
            ram.poke_u16(at, now);
        }
    });
    let got = take(&ram, &mut queue);
    (got, count.load(Ordering::Relaxed))
}

/// Each of the chains is as it would have been with one of the two values. After a broken one there is no more. Where the
/// ring itself ends is seen more than once, and so are flags of a packed ring: there a chain may be there later.
fn is_one_of(got: &[Popped], plain: &[Popped], changed: &[Popped], what: (u64, u16, usize)) {
    let mut broken = false;
    for one in got {
        let known = plain.contains(one) || changed.contains(one);
        assert!(
            known || (broken && *one == Err(Broken)) || one.is_err(),
            "{what:x?}: {got:?} of {plain:?} or {changed:?}"
        );
        broken |= one.is_err();
        if let Ok(Some(chain)) = one {
            for (at, len, _) in chain {
                assert!(*at >= BASE && at + u64::from(*len) <= BASE + BYTES as u64);
            }
        }
    }
    // An index may go back, which no index may, however good both of its values are.
    let index = what.0 == RING.driver + 2;
    assert!(!broken || index || changed.contains(&Err(Broken)) || plain.contains(&Err(Broken)));
}

/// Each buffer is in some descriptor, with one of the field's two values, and there are no more than chains may have.
fn are_described(got: &[Popped], packed: bool, (at, value): (u64, u16)) {
    let ram = Ram::new(BYTES);
    lay_out(&ram, packed);
    let mut all = described(&ram, packed);
    ram.poke_u16(at, value);
    all.extend(described(&ram, packed));
    for chain in got.iter().flatten().flatten() {
        assert!(chain.len() <= 8 && chain.iter().all(|one| all.contains(one)));
    }
}

/// What the descriptors say, each by itself.
fn described(ram: &Ram, packed: bool) -> Vec<Want> {
    let places = (0..8).map(|slot| RING.descriptors + 16 * slot);
    let table = (0..2).map(|entry| TABLE + 16 * entry);
    (places.chain(table))
        .map(|at| {
            let address = u64::from_le_bytes(ram.peek(at, 8).try_into().expect("eight"));
            let flags = ram.peek_u16(if packed { at + 14 } else { at + 12 });
            (address, ram.peek_u32(at + 8), flags & 2 != 0)
        })
        .collect()
}

/// A thread flips descriptors between two values that are both good, while the device takes chains: each of them has
/// buffers of one of the two, and never one's address with the other's length, as far as those are stored at once.
#[test]
fn vio_15_races() {
    for packed in [false, true] {
        race(packed, 100_000);
    }
}

/// The same for long: `cargo test --release -p virtio vio_15_ten -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn vio_15_ten_million_races() {
    for packed in [false, true] {
        let (good, bad) = race(packed, 10_000_000);
        std::println!("packed: {packed}: {good} chains taken, {bad} refused");
    }
}

/// Stores what is good and what is not, as fast as it can, until it is told to stop.
fn store_on(ram: &Ram, stop: &AtomicBool) {
    let mut turn = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        turn = turn.wrapping_add(1);
        // Address (outside RAM every other time), length, and flags with their neighbour at once.
        let address = if turn.is_multiple_of(2) {
            DATA
        } else {
            0x0900_0000
        };
        ram.poke_u64(RING.descriptors, address);
        ram.poke_u32(RING.descriptors + 8, 16 << (turn % 3 * 14));
        ram.poke_u64(TABLE, address);
    }
}

/// So many rings, and more if the host has not let both threads run so far. How many chains were taken, and refused.
fn race(packed: bool, rings: u64) -> (u64, u64) {
    let ram = Ram::leaked(BYTES);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    lay_out(ram, packed);
    let racer = std::thread::spawn(move || store_on(ram, &stopped));
    let mut chain = Box::new(Chain::new());
    let (mut good, mut bad, mut count) = (0, 0, 0);
    while count < rings || good == 0 || bad == 0 {
        count += 1;
        let mut queue = queue(ram, RING, features(packed));
        for _ in 0..2 {
            match queue.pop(&ram, &mut chain) {
                Ok(popped) => {
                    assert!(popped);
                    good += 1;
                    for (at, len, _) in super::contents(&chain) {
                        assert!((DATA..DATA + 0x1000).contains(&at));
                        assert!(at + u64::from(len) <= BASE + BYTES as u64);
                    }
                }
                Err(Broken) => bad += 1,
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    racer.join().expect("it ends");
    (good, bad)
}
