//! The cases: random sequences, and the ones worth their own name.

use std::format;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use stage2_addr::{HostPhys, HostRegion, Ipa, IpaRegion, PageCount};

use super::machine::{Machine, Op};
use crate::el2::{El2Geometry, El2Tables, El2Virt};
use crate::fakes::{FakeMemory, FakeTlb};
use crate::{
    Access, Attrs, ChangeError, Geometry, GuestTables, Lease, Level, MapError, SettleError, Stale,
    TableQuota, VmidAllocator, VmidSlot, VmidWidth, shared_frames,
};

pub(super) const K4: u64 = 4 << 10;
pub(super) const M2: u64 = 2 << 20;
pub(super) const G1: u64 = 1 << 30;

pub(super) fn region(base: u64, bytes: u64) -> IpaRegion {
    IpaRegion::from_bytes(Ipa::new(base), bytes).unwrap()
}

fn page_offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0u64),
        Just(1),
        Just(511),
        Just(512),
        Just(513),
        Just(1024),
        0..1600u64
    ]
}

/// Around 1 GiB, and around the seam of two concatenated roots.
fn input() -> impl Strategy<Value = u64> {
    (
        select(std::vec![0, G1 - 2 * M2, 512 * G1 - 2 * M2]),
        page_offset(),
    )
        .prop_map(|(base, page)| base + page * K4)
}

fn some_region() -> impl Strategy<Value = IpaRegion> {
    let pages = prop_oneof![
        Just(1u64),
        Just(2),
        Just(511),
        Just(512),
        Just(513),
        Just(1024),
        1..1600u64
    ];
    (input(), pages).prop_map(|(base, pages)| region(base, pages * K4))
}

fn attrs() -> impl Strategy<Value = Attrs> {
    select(std::vec![
        Attrs::normal(Access::RWX),
        Attrs::normal(Access::RW),
        Attrs::normal(Access::RX),
        Attrs::device(Access::RW),
    ])
}

/// Frames that let blocks be used most of the time, and the guest's own address as the worst case of an offset.
fn op() -> impl Strategy<Value = Op> {
    let host = (
        some_region(),
        prop_oneof![4 => Just(0u64), 1 => 1..512u64],
        attrs(),
    );
    let map = host.prop_map(|(region, skew, attrs)| {
        let host = HostPhys::new(4 * G1 + region.base().raw() % (4 * G1) + skew * K4);
        Op::Map {
            region,
            host,
            attrs,
        }
    });
    let access = select(std::vec![Access::RO, Access::RW, Access::RX, Access::RWX]);
    prop_oneof![
        3 => map,
        2 => some_region().prop_map(|region| Op::Unmap { region }),
        2 => (some_region(), access).prop_map(|(region, access)| Op::Protect { region, access }),
    ]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn tables_agree_with_the_model(ops in vec(op(), 1..24), bits in select(std::vec![40u32, 42, 44, 48])) {
        let mut machine = Machine::new(bits, 64);
        for op in ops {
            machine.run(op);
        }
        machine.translate_all();
        prop_assert_eq!(machine.refused_by_quota, 0);
    }

    #[test]
    fn a_short_quota_refuses_and_changes_nothing(ops in vec(op(), 1..32), quota in 4u64..9) {
        let mut machine = Machine::new(40, quota);
        for op in ops {
            machine.run(op);
        }
    }
}

proptest! {
    #![proptest_config(config(4))]

    #[test]
    fn gigabyte_blocks_split_in_two_levels(
        cuts in vec((0..262_144u64, 1..2000u64), 1..3),
        skew in select(std::vec![0u64, 1]),
    ) {
        let mut machine = Machine::new(40, 1100);
        let (whole, attrs) = (region(G1, G1), Attrs::normal(Access::RWX));
        machine.run(Op::Map { region: whole, host: HostPhys::new(4 * G1 + skew * M2), attrs });
        for (page, pages) in cuts {
            let cut = region(G1 + page * K4, pages.min(262_144 - page) * K4);
            machine.run(Op::Protect { region: cut, access: Access::RO });
            machine.run(Op::Unmap { region: cut });
        }
        machine.run(Op::Unmap { region: whole });
        prop_assert_eq!(machine.tables.quota().in_use().raw(), 2);
    }
}

pub(super) fn machine_with_block(base: u64, bytes: u64) -> Machine {
    let mut machine = Machine::new(40, 16);
    machine.run(Op::Map {
        region: region(base, bytes),
        host: HostPhys::new(8 * G1),
        attrs: Attrs::normal(Access::RWX),
    });
    machine
}

#[test]
fn the_largest_block_is_used() {
    for (bytes, level) in [(G1, Level::L1), (M2, Level::L2), (K4, Level::L3)] {
        let machine = machine_with_block(2 * G1, bytes);
        let leaves: Vec<_> = machine.tables.leaves(&machine.memory).collect();
        assert_eq!(leaves.len(), 1);
        assert_eq!(
            (leaves[0].level, leaves[0].host),
            (level, HostPhys::new(8 * G1))
        );
    }
}

#[test]
fn a_hole_in_a_block_breaks_it_and_flushes_all_of_it() {
    let mut machine = machine_with_block(G1, G1);
    let debt = machine
        .tables
        .unmap(&mut machine.memory, region(G1 + M2 + K4, K4))
        .unwrap();
    let whole = Stale::Guest {
        vmid: machine.tables.vmid(),
        range: region(G1, G1),
        leaf_only: false,
    };
    assert_eq!(debt.stale(), &whole);
    assert_eq!(
        machine.tables.translate(&machine.memory, Ipa::new(G1)),
        None,
        "broken until it is made"
    );
    let receipt = debt.pay(&machine.tlb);
    machine.tables.settle(&mut machine.memory, receipt).unwrap();
    let at = |ipa| {
        machine
            .tables
            .translate(&machine.memory, Ipa::new(ipa))
            .map(|found| found.level)
    };
    assert_eq!(
        (at(G1), at(G1 + M2), at(G1 + M2 + K4)),
        (Some(Level::L2), Some(Level::L3), None)
    );
    assert_eq!(machine.tables.quota().in_use().raw(), 4);
}

#[test]
fn whole_leaves_are_protected_in_place() {
    let mut machine = machine_with_block(G1, M2);
    let debt = machine
        .tables
        .protect(&mut machine.memory, region(G1, M2), Access::RO)
        .unwrap();
    assert!(matches!(
        debt.stale(),
        Stale::Guest {
            leaf_only: true,
            ..
        }
    ));
    let found = machine
        .tables
        .translate(&machine.memory, Ipa::new(G1 + 5))
        .unwrap();
    assert_eq!(
        (found.host, found.attrs),
        (HostPhys::new(8 * G1 + 5), Attrs::normal(Access::RO))
    );
    let receipt = debt.pay(&machine.tlb);
    assert_eq!(machine.tables.settle(&mut machine.memory, receipt), Ok(()));
}

#[test]
fn a_receipt_settles_its_own_change_only() {
    let mut one = machine_with_block(G1, M2);
    let mut other = machine_with_block(G1, M2);
    let foreign = HostRegion::new(HostPhys::new(0x6000_0000), PageCount::new(8)).unwrap();
    let geometry = Geometry::new(40, 48).unwrap();
    other.tables = GuestTables::new(geometry, TableQuota::new(foreign), &mut other.memory).unwrap();
    let tlb = FakeTlb::default();
    let debt = one.tables.unmap(&mut one.memory, region(G1, K4)).unwrap();
    let strange = other
        .tables
        .unmap(&mut other.memory, region(0, K4))
        .unwrap()
        .pay(&tlb);
    assert_eq!(
        one.tables.settle(&mut one.memory, strange),
        Err(SettleError::WrongReceipt)
    );
    assert!(!one.tables.is_settled());
    let receipt = debt.pay(&tlb);
    assert_eq!(one.tables.settle(&mut one.memory, receipt), Ok(()));
    let second = one
        .tables
        .unmap(&mut one.memory, region(G1, M2))
        .unwrap()
        .pay(&tlb);
    assert_eq!(one.tables.settle(&mut one.memory, second), Ok(()));
    let late = other.tables.unmap(&mut other.memory, region(0, K4));
    assert_eq!(
        late,
        Err(ChangeError::Unsettled),
        "a lost receipt leaves the tables closed"
    );
    assert_eq!(*tlb.paid.borrow(), 3);
}

#[test]
fn worst_case_holds_what_it_promises() {
    let shape = Geometry::new(40, 48).unwrap().shape();
    for (base, bytes) in [(G1 - M2 - K4, 3 * M2), (512 * G1 - K4, 2 * K4), (0, 8 * M2)] {
        let quota = shape.worst_case_tables(base, bytes).raw();
        let mut machine = Machine::new(40, quota);
        // An odd frame, so that no block is possible.
        let host = HostPhys::new(G1 + K4 + base % M2);
        machine.run(Op::Map {
            region: region(base, bytes),
            host,
            attrs: Attrs::normal(Access::RWX),
        });
        assert_eq!(
            (machine.refused_by_quota, machine.model.0.len() as u64),
            (0, bytes / K4)
        );
        let exact = shape.tables_to_map(base, host.raw(), bytes);
        assert_eq!(machine.tables.quota().in_use().raw(), exact + 2);
    }
}

#[test]
fn the_tag_is_in_the_register_and_in_the_debt() {
    let mut machine = machine_with_block(G1, M2);
    let mut allocator = VmidAllocator::<1>::new(VmidWidth::Eight);
    let Ok(Lease::Ready(vmid)) = allocator.acquire(0, &mut VmidSlot::new()) else {
        panic!("the first tag")
    };
    machine.tables.set_vmid(vmid);
    assert_eq!(
        machine.tables.vttbr(),
        1 << 48 | machine.tables.root().raw()
    );
    let debt = machine
        .tables
        .unmap(&mut machine.memory, region(G1, M2))
        .unwrap();
    assert_eq!(
        debt.stale(),
        &Stale::Guest {
            vmid,
            range: region(G1, M2),
            leaf_only: false
        }
    );
}

#[test]
fn runs_show_what_belongs_together() {
    let mut machine = machine_with_block(G1, M2);
    let rwx = Attrs::normal(Access::RWX);
    machine.run(Op::Map {
        region: region(G1 + M2, 3 * K4),
        host: HostPhys::new(8 * G1 + M2),
        attrs: rwx,
    });
    let device = Attrs::device(Access::RW);
    machine.run(Op::Map {
        region: region(0x900_0000, K4),
        host: HostPhys::new(0x900_0000),
        attrs: device,
    });
    let runs: Vec<_> = machine
        .tables
        .runs(&machine.memory)
        .map(|run| format!("{run}"))
        .collect();
    assert_eq!(
        runs,
        [
            "0x9000000..0x9001000 -> 0x9000000..0x9001000 rw- device",
            "0x40000000..0x40203000 -> 0x200000000..0x200203000 rwx normal",
        ]
    );
    assert_eq!(machine.tables.vttbr(), machine.tables.root().raw());
}

#[test]
fn two_guests_are_disjoint_or_it_is_told_where_not() {
    let alpha = machine_with_block(G1, M2);
    let mut beta = Machine::new(40, 16);
    let attrs = Attrs::normal(Access::RWX);
    beta.run(Op::Map {
        region: region(G1, M2),
        host: HostPhys::new(8 * G1 + M2),
        attrs,
    });
    let frames = |m: &Machine| {
        m.tables
            .runs(&m.memory)
            .map(|run| run.host)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shared_frames(
            frames(&alpha),
            beta.tables.runs(&beta.memory).map(|run| run.host)
        ),
        None
    );
    beta.run(Op::Map {
        region: region(G1 + M2, K4),
        host: HostPhys::new(8 * G1 + 5 * K4),
        attrs,
    });
    let shared = shared_frames(frames(&alpha), frames(&beta)).unwrap();
    assert_eq!(
        (shared.base(), shared.pages()),
        (HostPhys::new(8 * G1 + 5 * K4), PageCount::ONE)
    );
}

#[test]
fn el2_has_the_same_mapper() {
    let (mut memory, tlb) = (FakeMemory::new(), FakeTlb::default());
    let frames = HostRegion::new(HostPhys::new(0x4000_0000), PageCount::new(8)).unwrap();
    let geometry = El2Geometry::new(39, 40).unwrap();
    let mut tables = El2Tables::for_el2(geometry, TableQuota::new(frames), &mut memory).unwrap();
    let at = |base, bytes| stage2_addr::Region::from_bytes(El2Virt::new(base), bytes).unwrap();
    tables
        .map(
            &mut memory,
            at(G1, M2),
            HostPhys::new(G1),
            Attrs::normal(Access::RX),
        )
        .unwrap();
    let rwx = Attrs::normal(Access::RWX);
    let refused = tables.map(&mut memory, at(0, K4), HostPhys::new(0), rwx);
    assert_eq!(refused, Err(MapError::Inadmissible { attrs: rwx }));
    let inside = tables.protect(&mut memory, at(G1, K4), Access::RWX);
    assert_eq!(inside, Err(ChangeError::Inadmissible { attrs: rwx }));
    // A guard page in the middle of a block.
    let debt = tables.unmap(&mut memory, at(G1 + K4, K4)).unwrap();
    assert_eq!(
        debt.stale(),
        &Stale::El2 {
            range: at(G1, M2),
            leaf_only: false
        }
    );
    let receipt = debt.pay(&tlb);
    tables.settle(&mut memory, receipt).unwrap();
    assert_eq!(tables.translate(&memory, El2Virt::new(G1 + K4)), None);
    let found = tables
        .translate(&memory, El2Virt::new(G1 + 2 * K4))
        .unwrap();
    assert_eq!(
        (found.host, found.attrs),
        (HostPhys::new(G1 + 2 * K4), Attrs::normal(Access::RX))
    );
}
