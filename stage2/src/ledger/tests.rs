//! The ledger against a map from page to owner.

use std::collections::BTreeMap;
use std::format;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;
use stage2_addr::Address;

use super::*;

const K4: u64 = 4 << 10;
const M2: u64 = 2 << 20;
const G1: u64 = 1 << 30;

/// Owners as a hypervisor may have them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Owner {
    Hypervisor,
    Vm(u16),
    Tables(u16),
    Bundle,
    Fdt,
    Firmware,
    Device,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hypervisor => f.write_str("the hypervisor"),
            Self::Vm(index) => write!(f, "guest {index}"),
            Self::Tables(index) => write!(f, "the tables of guest {index}"),
            Self::Bundle => f.write_str("the boot bundle"),
            Self::Fdt => f.write_str("the device tree"),
            Self::Firmware => f.write_str("the firmware"),
            Self::Device => f.write_str("a device"),
        }
    }
}

fn region(base: u64, bytes: u64) -> HostRegion {
    HostRegion::from_bytes(HostPhys::new(base), bytes).unwrap()
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![
        (0..3u16).prop_map(Owner::Vm),
        Just(Owner::Hypervisor),
        (0..2u16).prop_map(Owner::Tables)
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Claim(HostRegion, Owner),
    Release(HostRegion, Owner),
    Allocate(u64, Owner),
}

fn op() -> impl Strategy<Value = Op> {
    let some = || (0..40u64, 1..9u64).prop_map(|(base, pages)| region(base * K4, pages * K4));
    prop_oneof![
        3 => (some(), owner()).prop_map(|(region, owner)| Op::Claim(region, owner)),
        3 => (some(), owner()).prop_map(|(region, owner)| Op::Release(region, owner)),
        1 => (1..6u64, owner()).prop_map(|(pages, owner)| Op::Allocate(pages, owner)),
    ]
}

type Model = BTreeMap<u64, Owner>;

fn apply(ledger: &mut Ledger<'_, Owner>, model: &mut Model, ram: &[HostRegion], op: &Op) {
    match *op {
        Op::Claim(region, owner) => {
            let taken = region
                .iter_pages()
                .find_map(|page| Some((page, *model.get(&page.to_raw())?)));
            match (ledger.claim(region, owner), taken) {
                (Ok(()), None) => model.extend(region.iter_pages().map(|page| (page.raw(), owner))),
                (Err(LedgerError::Owned { region, by }), Some((page, owner))) => {
                    assert_eq!((region.base(), by), (page, owner));
                }
                (Err(LedgerError::Full { .. }), None) => {}
                other => panic!("claiming {region}: {other:?}"),
            }
        }
        Op::Release(region, owner) => {
            let all = region
                .iter_pages()
                .all(|page| model.get(&page.raw()) == Some(&owner));
            assert_eq!(ledger.owns(owner, &region), all);
            match ledger.release(region, owner) {
                Ok(()) => {
                    assert!(all);
                    model.retain(|page, _| !region.contains(HostPhys::new(*page)));
                }
                Err(LedgerError::NotOwned { .. }) => assert!(!all),
                Err(LedgerError::Full { .. }) => assert!(all),
                Err(other) => panic!("releasing {region}: {other}"),
            }
        }
        Op::Allocate(pages, owner) => {
            let free = |base: &u64| {
                let whole = region(*base, pages * K4);
                ram.iter().any(|ram| ram.contains_region(&whole))
                    && whole
                        .iter_pages()
                        .all(|page| !model.contains_key(&page.raw()))
            };
            let expected = (0..64).map(|page| page * K4).find(free);
            match ledger.allocate(ram, PageCount::new(pages), owner) {
                Ok(found) => {
                    assert_eq!(Some(found.base().raw()), expected);
                    model.extend(found.iter_pages().map(|page| (page.raw(), owner)));
                }
                Err(LedgerError::NoFit { .. }) => assert_eq!(expected, None),
                Err(LedgerError::Full { .. }) => assert!(expected.is_some()),
                Err(other) => panic!("allocating {pages}: {other}"),
            }
        }
    }
}

fn check(ledger: &Ledger<'_, Owner>, model: &Model, ram: &[HostRegion]) {
    let pages = ledger
        .iter()
        .flat_map(|e| e.region.iter_pages().map(|page| (page.raw(), e.owner)));
    assert!(
        pages.eq(model.iter().map(|(page, owner)| (*page, *owner))),
        "ascending, apart, and as the model"
    );
    let extents: Vec<_> = ledger.iter().copied().collect();
    let joinable = |two: &[Extent<Owner>]| {
        two[0].region.end() == two[1].region.base() && two[0].owner == two[1].owner
    };
    assert!(!extents.windows(2).any(joinable));
    for page in 0..64 {
        assert_eq!(
            ledger.owner_of(HostPhys::new(page * K4 + 7)),
            model.get(&(page * K4)).copied()
        );
    }
    for ram in ram {
        let free = ram
            .iter_pages()
            .filter(|page| !model.contains_key(&page.raw()))
            .count();
        assert_eq!(ledger.free_in(ram).raw(), free as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_agrees_with_the_model(ops in vec(op(), 1..60), room in 0..24usize) {
        let mut slots = std::vec![None; room];
        let mut ledger = Ledger::new(&mut slots);
        let ram = [region(8 * K4, 16 * K4), region(30 * K4, 10 * K4)];
        let mut model = Model::new();
        for op in &ops {
            apply(&mut ledger, &mut model, &ram, op);
            check(&ledger, &model, &ram);
        }
    }
}

#[test]
fn neighbours_of_one_owner_take_one_slot() {
    let mut slots = [None; 1];
    let mut ledger = Ledger::new(&mut slots);
    let vm = Owner::Vm(0);
    for base in [2 * K4, K4, 3 * K4] {
        ledger.claim(region(base, K4), vm).unwrap();
    }
    assert_eq!(
        ledger.iter().copied().collect::<Vec<_>>(),
        [Extent {
            region: region(K4, 3 * K4),
            owner: vm
        }]
    );
    let full = LedgerError::Full { capacity: 1 };
    assert_eq!(ledger.release(region(2 * K4, K4), vm), Err(full));
    assert_eq!(ledger.claim(region(4 * K4, K4), Owner::Vm(1)), Err(full));
    assert!(
        ledger.owns(vm, &region(K4, 3 * K4)),
        "a refusal changes nothing"
    );
}

#[test]
fn alignment_is_the_largest_useful_one_that_fits() {
    let mut slots = [None; 16];
    let mut ledger = Ledger::new(&mut slots);
    let ram = [region(G1, 4 * G1)];
    ledger
        .claim(region(G1, M2 + K4), Owner::Hypervisor)
        .unwrap();
    let mut base = |bytes: u64, vm| {
        let found = ledger.allocate(&ram, PageCount::from_bytes(bytes).unwrap(), Owner::Vm(vm));
        found.map(|found| found.base().raw())
    };
    assert_eq!(base(K4, 0), Ok(G1 + M2 + K4));
    assert_eq!(base(64 << 20, 1), Ok(G1 + 2 * M2));
    assert_eq!(base(2 * G1, 2), Ok(2 * G1));
    // The one gigabyte left is whole; after that only 2 MiB fit.
    assert_eq!(base(G1, 3), Ok(4 * G1));
    assert_eq!(base(900 << 20, 4), Ok(G1 + 2 * M2 + (64 << 20)));
    let pages = PageCount::from_bytes(G1).unwrap();
    assert_eq!(base(G1, 5), Err(LedgerError::NoFit { pages }));
    assert!(matches!(
        ledger.allocate(&ram, PageCount::new(1 << 52), Owner::Fdt),
        Err(LedgerError::NoFit { .. })
    ));
    assert!(matches!(
        ledger.allocate(&ram, PageCount::ZERO, Owner::Fdt),
        Err(LedgerError::NoFit { .. })
    ));
}

#[test]
fn a_large_guest_falls_back_to_smaller_alignment() {
    let mut slots = [None; 4];
    let mut ledger = Ledger::new(&mut slots);
    let shifted = [region(G1 + M2, 2 * G1 - 2 * M2)];
    let pages = PageCount::from_bytes(G1).unwrap();
    let found = ledger.allocate(&shifted, pages, Owner::Vm(0)).unwrap();
    assert_eq!(found.base().raw(), G1 + M2);
    ledger.release(found, Owner::Vm(0)).unwrap();
    let odd = [region(G1 + K4, G1)];
    assert_eq!(
        ledger
            .allocate(&odd, pages, Owner::Vm(0))
            .map(|found| found.base().raw()),
        Ok(G1 + K4)
    );
}

/// Whatever the order in which the machine lists its RAM.
#[test]
fn the_lowest_run_that_fits_is_given() {
    let mut slots = [None; 4];
    let ledger = Ledger::<Owner>::new(&mut slots);
    let (high, low) = (region(0x8000_0000, 0x4000), region(0x4000_0000, 0x4000));
    let fit = |within: &[HostRegion]| ledger.first_fit(within, PageCount::new(2), 0x1000);
    assert_eq!(fit(&[high, low]), Some(region(0x4000_0000, 0x2000)));
    assert_eq!(fit(&[low, high]), Some(region(0x4000_0000, 0x2000)));
    assert_eq!(fit(&[high]), Some(region(0x8000_0000, 0x2000)));
}

#[test]
fn conflicts_say_who_has_what() {
    let mut slots = [None; 4];
    let mut ledger = Ledger::new(&mut slots);
    ledger.claim(region(0x1000, 0x3000), Owner::Vm(1)).unwrap();
    let said = |result: Result<(), LedgerError<Owner>>| format!("{}", result.unwrap_err());
    assert_eq!(
        said(ledger.claim(region(0x2000, 0x4000), Owner::Vm(2))),
        "0x2000..0x4000 belongs to guest 1"
    );
    let refused = ledger.release(region(0x1000, 0x1000), Owner::Tables(2));
    assert_eq!(
        said(refused),
        "0x1000..0x2000 does not belong to the tables of guest 2"
    );
    let none: LedgerError<Owner> = LedgerError::NoFit {
        pages: PageCount::new(3),
    };
    assert_eq!(format!("{none}"), "no 3 free pages side by side");
    let full: LedgerError<Owner> = LedgerError::Full { capacity: 3 };
    assert_eq!(format!("{full}"), "the ledger holds no more than 3 extents");
    let names = [
        Owner::Hypervisor,
        Owner::Bundle,
        Owner::Fdt,
        Owner::Firmware,
        Owner::Device,
    ];
    let names: Vec<_> = names.iter().map(|owner| format!("{owner}")).collect();
    assert_eq!(
        names,
        [
            "the hypervisor",
            "the boot bundle",
            "the device tree",
            "the firmware",
            "a device"
        ]
    );
}
