use super::*;
use crate::addr::{GuestPhys, PhysRange};
use proptest::prelude::*;
use std::sync::atomic::Ordering;

const BASE: GuestPhys = GuestPhys::new(0x4020_0000);
const KIB4: u64 = 0x1000;
const MIB2: u64 = 0x20_0000;
const GIB: u64 = 0x4000_0000;

fn tables(count: usize) -> Vec<Table> {
    (0..count).map(|_| Table::default()).collect()
}

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::new(GuestPhys::new(start), len).unwrap()
}

#[test]
fn nothing_is_writable_and_executable() {
    for attributes in [
        Attributes::Text,
        Attributes::Constant,
        Attributes::Data,
        Attributes::Device,
    ] {
        let raw = entry::leaf(3, GuestPhys::new(KIB4), attributes);
        let writable = raw & (1 << 7) == 0;
        let executable = raw & (1 << 53) == 0;
        assert!(!(writable && executable), "{attributes:?}");
        assert_ne!(raw & (1 << 54), 0, "never executable from EL0");
        assert_eq!(raw & (1 << 6), 0, "never accessible from EL0");
        assert_ne!(raw & (1 << 10), 0, "the access flag is set");
        assert_eq!((raw >> 2) & 7 == 1, attributes == Attributes::Device);
    }
}

#[test]
fn descriptors_are_the_architecture_s() {
    // Worked out by hand from the descriptor tables of the Arm ARM.
    let at = GuestPhys::new(0x4000_0000);
    assert_eq!(entry::leaf(3, at, Attributes::Text), 0x0040_0000_4000_0783);
    assert_eq!(entry::leaf(2, at, Attributes::Data), 0x0060_0000_4000_0701);
    assert_eq!(
        entry::leaf(3, at, Attributes::Constant),
        0x0060_0000_4000_0783
    );
    assert_eq!(
        entry::leaf(3, at, Attributes::Device),
        0x0060_0000_4000_0407
    );
    assert_eq!(entry::table(at), 0x4000_0003);
    assert_eq!(entry::kind(2, 0x4000_0003), Kind::Table(at));
    assert_eq!(entry::kind(3, 0x4000_0003), Kind::Leaf(at));
    assert_eq!(entry::kind(1, 0x4000_0001), Kind::Leaf(at));
    assert_eq!(entry::kind(1, 0x4000_0002), Kind::Invalid);
}

#[test]
fn the_largest_entries_that_fit_are_used() {
    let tables = tables(8);
    let mut map = AddressMap::new(&tables, BASE).unwrap();
    map.map(
        range(GIB - MIB2 - KIB4, KIB4 + MIB2 + GIB + MIB2 + KIB4),
        Attributes::Data,
    )
    .unwrap();
    assert_eq!(
        entry::kind(1, tables[0].0[1].load(Ordering::Relaxed)),
        Kind::Leaf(GuestPhys::new(GIB))
    );
    for at in [
        GIB - MIB2 - KIB4,
        GIB - MIB2,
        GIB - 1,
        GIB,
        2 * GIB,
        2 * GIB + MIB2,
        2 * GIB + MIB2 + 0xFFF,
    ] {
        assert_eq!(
            map.translate(GuestPhys::new(at)).unwrap().0.get(),
            at,
            "{at:#x}"
        );
    }
    for at in [0, GIB - MIB2 - KIB4 - 1, 2 * GIB + MIB2 + KIB4, WINDOW] {
        assert_eq!(map.translate(GuestPhys::new(at)), None, "{at:#x}");
    }
}

#[test]
fn what_cannot_be_mapped_is_refused_with_its_reason() {
    let tables = tables(4);
    let mut map = AddressMap::new(&tables, BASE).unwrap();
    let misaligned = map.map(range(0x800, KIB4), Attributes::Data).unwrap_err();
    assert_eq!(misaligned, MapError::Misaligned(GuestPhys::new(0x800)));
    assert!(matches!(
        map.map(range(WINDOW, KIB4), Attributes::Data),
        Err(MapError::TooHigh(_))
    ));
    map.map(range(MIB2, MIB2), Attributes::Data).unwrap();
    let inside = GuestPhys::new(MIB2 + KIB4);
    let taken = map
        .map(PhysRange::new(inside, KIB4).unwrap(), Attributes::Text)
        .unwrap_err();
    assert_eq!(taken, MapError::Taken(inside));
    assert!(map.map(range(MIB2, MIB2), Attributes::Data).is_err());
    map.map(range(8 * MIB2, KIB4), Attributes::Data).unwrap();
    map.map(range(9 * MIB2, KIB4), Attributes::Data).unwrap();
    assert_eq!(
        map.map(range(10 * MIB2, KIB4), Attributes::Data),
        Err(MapError::OutOfTables)
    );
    assert!(AddressMap::new(&[], BASE).is_err());
    for error in [
        misaligned,
        taken,
        MapError::OutOfTables,
        MapError::TooHigh(BASE),
    ] {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn the_window_is_an_entry_of_its_own() {
    let tables = tables(4);
    let mut map = AddressMap::new(&tables, BASE).unwrap();
    let slot = map.window().unwrap();
    slot.store(
        entry::leaf(3, GuestPhys::new(0x1234_5000), Attributes::Device),
        Ordering::Relaxed,
    );
    let (to, _) = map.translate(GuestPhys::new(WINDOW + 8)).unwrap();
    assert_eq!(to, GuestPhys::new(0x1234_5008));
    assert_eq!(map.root(), BASE);
}

proptest! {
    /// Against a model with one attribute per page.
    #[test]
    fn the_map_is_what_was_asked_for(asked in proptest::collection::vec((0u64..3000, 1u64..1500, 0usize..4), 1..5)) {
        let kinds = [Attributes::Text, Attributes::Constant, Attributes::Data, Attributes::Device];
        let tables = tables(32);
        let mut map = AddressMap::new(&tables, BASE).unwrap();
        let mut model = vec![None; 4600];
        for (page, count, kind) in asked {
            let slots = &mut model[usize::try_from(page).unwrap()..usize::try_from(page + count).unwrap()];
            if slots.iter().any(Option::is_some) {
                continue;
            }
            slots.fill(Some(kinds[kind]));
            map.map(range(page * KIB4, count * KIB4), kinds[kind]).unwrap();
        }
        for (page, wanted) in model.iter().enumerate() {
            let at = GuestPhys::new(u64::try_from(page).unwrap() * KIB4 + 8);
            let found = map.translate(at);
            prop_assert_eq!(found.map(|(to, _)| to), wanted.map(|_| at));
            let permissions = |raw: u64| raw & (1 << 7 | 1 << 53 | 1 << 2);
            prop_assert_eq!(
                found.map(|(_, raw)| permissions(raw)),
                wanted.map(|kind| permissions(entry::leaf(3, at, kind)))
            );
        }
    }
}
