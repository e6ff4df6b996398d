//! The allocator against the law it is there for: between two flushes, a tag means one guest.

use std::collections::HashMap;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::Tlb;

/// Remembers whose translations each CPU caches under each tag.
struct Tags(core::cell::RefCell<HashMap<(usize, u16), usize>>);

impl Tlb for Tags {
    fn invalidate(&self, stale: &Stale) {
        assert_eq!(*stale, Stale::AllGuests);
        self.0.borrow_mut().clear();
    }
}

const CPUS: usize = 4;

struct World {
    allocator: VmidAllocator<CPUS>,
    slots: Vec<VmidSlot>,
    /// What each CPU runs: guest and tag.
    running: [Option<(usize, Vmid)>; CPUS],
    tags: Tags,
    flushes: u64,
}

impl World {
    fn new(width: VmidWidth, guests: usize) -> Self {
        let slots = (0..guests).map(|_| VmidSlot::new()).collect();
        let tags = Tags(HashMap::new().into());
        Self {
            allocator: VmidAllocator::new(width),
            slots,
            running: [None; CPUS],
            tags,
            flushes: 0,
        }
    }

    /// `cpu` enters `guest`, as EL2 would.
    fn enter(&mut self, cpu: usize, guest: usize) -> Vmid {
        for _ in 0..2 {
            match self.allocator.acquire(cpu, &mut self.slots[guest]).unwrap() {
                Lease::Ready(vmid) => {
                    assert_ne!(vmid, Vmid::NONE);
                    self.running[cpu] = Some((guest, vmid));
                    self.look();
                    return vmid;
                }
                Lease::FlushFirst(debt) => {
                    self.running[cpu] = None;
                    self.flushes += 1;
                    // Before the flush nobody gets a tag, whoever asks.
                    let other = self
                        .allocator
                        .acquire((cpu + 1) % CPUS, &mut VmidSlot::new())
                        .unwrap();
                    assert!(matches!(other, Lease::FlushFirst(_)));
                    let receipt = debt.pay(&self.tags);
                    self.look();
                    self.allocator.settle(receipt).unwrap();
                }
            }
        }
        panic!("no tag for guest {guest} on CPU {cpu} even after a flush");
    }

    fn leave(&mut self, cpu: usize) {
        self.allocator.release(cpu).unwrap();
        self.running[cpu] = None;
    }

    /// Every CPU fills its TLB with what it runs, and finds nothing of another guest there; a guest that runs on
    /// several CPUs has one tag.
    fn look(&self) {
        let mut cache = self.tags.0.borrow_mut();
        let mut tag_of = HashMap::new();
        for (cpu, (guest, vmid)) in self
            .running
            .iter()
            .enumerate()
            .filter_map(|(cpu, run)| Some((cpu, (*run)?)))
        {
            let cached = *cache.entry((cpu, vmid.raw())).or_insert(guest);
            assert_eq!(
                cached, guest,
                "CPU {cpu} finds another guest's translations under {vmid}"
            );
            assert_eq!(
                *tag_of.entry(guest).or_insert(vmid),
                vmid,
                "guest {guest} has two tags"
            );
        }
        let mut guest_of = HashMap::new();
        for (guest, vmid) in tag_of {
            assert_eq!(
                guest_of.insert(vmid, guest),
                None,
                "{vmid} means two guests"
            );
        }
        // Broadcast invalidation by tag reaches every CPU, so a tag must mean one guest across CPUs as well.
        let mut owner = HashMap::new();
        for ((_, tag), guest) in cache.iter() {
            assert_eq!(
                *owner.entry(*tag).or_insert(*guest),
                *guest,
                "{tag} is cached for two guests"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tag_means_one_guest_between_flushes(
        steps in vec((0..CPUS, 0..400usize, 0..8u8), 1..3000),
    ) {
        let mut world = World::new(VmidWidth::Eight, 400);
        for (cpu, guest, kind) in steps {
            match kind {
                0 => world.leave(cpu),
                // The same few guests come back often, on several CPUs.
                1 | 2 => { world.enter(cpu, guest % 3); }
                _ => { world.enter(cpu, guest); }
            }
        }
        prop_assert_eq!(world.allocator.generation(), 1 + world.flushes);
    }
}

#[test]
fn eight_bits_lend_255_tags_before_the_first_flush() {
    let mut world = World::new(VmidWidth::Eight, 300);
    let tags: std::collections::BTreeSet<_> =
        (0..255).map(|guest| world.enter(0, guest).raw()).collect();
    assert_eq!((tags.len(), world.flushes), (255, 0));
    assert_eq!((tags.first(), tags.last()), (Some(&1), Some(&255)));
    world.enter(0, 255);
    assert_eq!((world.flushes, world.allocator.generation()), (1, 2));
}

#[test]
fn sixteen_bits_lend_65535() {
    let mut allocator = VmidAllocator::<1>::new(VmidWidth::Sixteen);
    for n in 1..=u16::MAX {
        assert_eq!(
            allocator.acquire(0, &mut VmidSlot::new()),
            Ok(Lease::Ready(Vmid(n)))
        );
    }
    assert!(matches!(
        allocator.acquire(0, &mut VmidSlot::new()),
        Ok(Lease::FlushFirst(_))
    ));
}

#[test]
fn a_guest_on_a_cpu_keeps_its_tag_through_rollovers() {
    let mut world = World::new(VmidWidth::Eight, 2000);
    let kept = [world.enter(0, 0), world.enter(1, 1)];
    assert_eq!(world.enter(2, 0), kept[0], "one guest, two CPUs, one tag");
    for guest in 2..1500 {
        world.enter(3, guest);
    }
    assert!(world.flushes >= 5);
    assert_eq!([world.enter(0, 0), world.enter(1, 1)], kept);
}

#[test]
fn a_lane_that_never_leaves_keeps_the_tag_for_the_others() {
    let mut world = World::new(VmidWidth::Eight, 2000);
    let kept = world.enter(0, 0);
    world.enter(2, 0);
    let mut others = 1..2000;
    let mut roll_over = |world: &mut World| {
        let flushes = world.flushes;
        while world.flushes == flushes {
            world.enter(3, others.next().unwrap());
        }
    };
    for _ in 0..3 {
        roll_over(&mut world);
        // CPU 2 has not been out of the guest since the beginning; CPU 0 comes and goes.
        assert_eq!(world.enter(0, 0), kept);
        world.leave(0);
    }
}

#[test]
fn a_guest_that_left_its_cpu_may_lose_its_tag() {
    let mut world = World::new(VmidWidth::Eight, 300);
    world.enter(0, 0);
    world.leave(0);
    for guest in 1..256 {
        world.enter(1, guest);
    }
    assert_eq!(
        world.enter(1, 256).raw(),
        2,
        "tag 1 is whoever's came first after the flush"
    );
    assert_ne!(world.enter(0, 0), Vmid(1));
}

#[test]
fn receipts_and_cpus_are_checked() {
    let mut world = World::new(VmidWidth::Eight, 300);
    let cpu = CPUS;
    assert_eq!(
        world.allocator.acquire(cpu, &mut VmidSlot::new()),
        Err(VmidError::NoSuchCpu { cpu })
    );
    assert_eq!(
        world.allocator.release(cpu),
        Err(VmidError::NoSuchCpu { cpu })
    );
    for guest in 0..255 {
        world.enter(0, guest);
    }
    let Ok(Lease::FlushFirst(first)) = world.allocator.acquire(1, &mut VmidSlot::new()) else {
        panic!()
    };
    let Ok(Lease::FlushFirst(second)) = world.allocator.acquire(2, &mut VmidSlot::new()) else {
        panic!()
    };
    assert_eq!(world.allocator.settle(first.pay(&world.tags)), Ok(()));
    assert_eq!(
        world.allocator.settle(second.pay(&world.tags)),
        Ok(()),
        "paid twice, by two CPUs"
    );
    let ticket = Ticket::Tables {
        root: stage2_addr::HostPhys::new(0),
        sequence: 1,
    };
    let foreign = FlushDebt::new(Stale::AllGuests, ticket).pay(&world.tags);
    assert_eq!(
        world.allocator.settle(foreign),
        Err(VmidError::WrongReceipt)
    );
    assert_eq!(
        std::format!("{}", VmidError::NoSuchCpu { cpu: 9 }),
        "no VMIDs are kept for CPU 9"
    );
    assert!(std::format!("{}", VmidError::WrongReceipt).contains("rollover"));
}
