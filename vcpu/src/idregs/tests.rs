//! Every field of every register, the goldens of two hosts, and the hot path's read against the slow one's.

use super::*;
use proptest::prelude::*;
use std::{collections::BTreeSet, format, string::String, vec::Vec};

fn all() -> Vec<&'static Register> {
    AARCH64.iter().chain(AARCH32).collect()
}

/// A host that has everything: all ones would be negative in signed fields, so each is 7, and EL0 = 2.
fn rich(crm: u16, op2: u16) -> u64 {
    if (crm, op2) == (4, 0) {
        0x7777_7777_7777_7772
    } else {
        0x7777_7777_7777_7777
    }
}

fn field(name: &str, of: &str) -> (u16, u16, u8) {
    let register = all().into_iter().find(|r| r.name == of).unwrap();
    let field = register.fields.iter().find(|f| f.name == name).unwrap();
    (register.crm, register.op2, field.shift)
}

fn read(ids: &IdRegs, of: &str, name: &str) -> u64 {
    let (crm, op2, shift) = field(name, of);
    ids.get(crm, op2) >> shift & 0xf
}

#[test]
fn the_table_is_the_golden() {
    let mut actual = String::new();
    for register in all() {
        actual += &format!(
            "{} (CRm {}, op2 {})\n",
            register.name, register.crm, register.op2
        );
        for field in register.fields {
            actual += &format!("  {:>2} {:<14} {:?}\n", field.shift, field.name, field.rule);
        }
    }
    let golden = include_str!("golden/fields.txt");
    for (a, g) in actual.lines().zip(golden.lines()) {
        assert_eq!(a, g);
    }
    assert_eq!(actual, golden);
}

#[test]
fn the_table_is_well_formed() {
    let mut seen = BTreeSet::new();
    for register in all() {
        assert!(seen.insert(register.index()), "{} twice", register.name);
        assert!(register.index() < COUNT);
        let mut above = 0;
        for field in register.fields {
            assert!(
                field.shift >= above && field.shift <= 60,
                "{} {}",
                register.name,
                field.name
            );
            assert_eq!(field.shift % 4, 0);
            above = field.shift + 4;
        }
    }
    for register in AARCH32 {
        assert!(
            register.fields.iter().all(|f| f.shift < 32),
            "{}",
            register.name
        );
        assert!(register.crm <= 3);
    }
}

#[test]
fn what_is_hidden_is_hidden_from_a_host_that_has_it() {
    let ids = IdRegs::sanitise(&rich, Limits::MAX);
    for (register, names) in [
        (
            "ID_AA64PFR0_EL1",
            &["EL2", "EL3", "RAS", "SVE", "MPAM", "AMU"][..],
        ),
        (
            "ID_AA64PFR1_EL1",
            &["MTE", "SME", "NMI", "GCS", "CSV2_frac"],
        ),
        (
            "ID_AA64DFR0_EL1",
            &[
                "TraceVer",
                "PMUVer",
                "PMSVer",
                "TraceFilt",
                "TraceBuffer",
                "BRBE",
            ],
        ),
        ("ID_AA64ISAR0_EL1", &["TME"]),
        ("ID_AA64ISAR1_EL1", &["APA", "API", "GPA", "GPI", "LS64"]),
        ("ID_AA64ISAR2_EL1", &["APA3", "GPA3", "MOPS"]),
        ("ID_AA64MMFR0_EL1", &["FGT", "BigEnd"]),
        ("ID_AA64MMFR1_EL1", &["VH", "HCX", "LO", "TWED", "VMIDBits"]),
        ("ID_AA64MMFR2_EL1", &["NV", "FWB", "EVT", "IESB"]),
    ] {
        for name in names {
            assert_eq!(read(&ids, register, name), 0, "{register}.{name}");
        }
    }
    for (crm, op2) in [(4, 2), (4, 4), (4, 5), (7, 3), (7, 4), (6, 3)] {
        assert_eq!(ids.get(crm, op2), 0);
    }
}

#[test]
fn what_every_guest_has_is_there() {
    let bare = |crm, op2| if (crm, op2) == (4, 0) { 0x11 } else { 0 };
    for ids in [
        IdRegs::sanitise(&rich, Limits::MAX),
        IdRegs::sanitise(&bare, Limits::MAX),
    ] {
        assert_eq!(
            read(&ids, "ID_AA64PFR0_EL1", "EL1"),
            1,
            "AArch64 only at EL1"
        );
        assert_eq!(read(&ids, "ID_AA64PFR0_EL1", "GIC"), 1);
        assert_eq!(read(&ids, "ID_AA64DFR0_EL1", "DoubleLock"), 15);
    }
}

#[test]
fn the_address_range_is_capped_by_both() {
    let range = |host: u64, limit: u8| {
        let ids = IdRegs::sanitise(&|_, _| host, Limits { pa_range: limit });
        read(&ids, "ID_AA64MMFR0_EL1", "PARange")
    };
    assert_eq!(range(6, 15), 5, "52 bits become 48");
    assert_eq!(range(2, 5), 2);
    assert_eq!(range(5, 2), 2);
}

#[test]
fn negative_fields_stay_negative() {
    let ids = IdRegs::sanitise(&|_, _| u64::MAX, Limits::MAX);
    assert_eq!(read(&ids, "ID_AA64PFR0_EL1", "FP"), 15, "no FP");
    assert_eq!(
        read(&ids, "ID_AA64MMFR0_EL1", "TGran64"),
        15,
        "no 64 KiB granule"
    );
    assert_eq!(read(&ids, "ID_AA64MMFR0_EL1", "TGran4"), 15);
}

#[test]
fn aarch32_is_described_only_where_user_mode_can_be_it() {
    let with = IdRegs::sanitise(&rich, Limits::MAX);
    let without = IdRegs::sanitise(&|_, _| 0x1111_1111_1111_1111, Limits::MAX);
    assert_eq!(read(&with, "ID_AA64PFR0_EL1", "EL0"), 2);
    assert_eq!(read(&with, "ID_ISAR2_EL1", "Mult"), 7);
    assert_eq!(read(&with, "ID_PFR1_EL1", "Virtualization"), 0);
    assert_eq!(read(&without, "ID_AA64PFR0_EL1", "EL0"), 1);
    for register in AARCH32 {
        assert_eq!(without.by_index(register.index()), 0, "{}", register.name);
    }
}

#[test]
fn cpus_that_differ_share_what_all_of_them_have() {
    // A CPU without FP, with 64 KiB granules, AArch32 at EL0, 4 breakpoints and CRC32 2; and another.
    let cpu = |pfr0: u64, mmfr0: u64, dfr0: u64, isar0: u64| {
        let host = move |crm, op2| match (crm, op2) {
            (4, 0) => pfr0,
            (5, 0) => dfr0,
            (6, 0) => isar0,
            (7, 0) => mmfr0,
            (2, 0) => 0x0232_1110,
            _ => 0,
        };
        IdRegs::sanitise(&host, Limits::MAX)
    };
    let little = cpu(0xff_0012, 0x0000_0002, 0x3000, 0x10_0000);
    let big = cpu(0x00_0011, 0x0f00_0005, 0x5000, 0x20_0000);
    let common = IdRegs::common(&little, [&big]);
    assert_eq!(common, IdRegs::common(&big, [&little]));
    assert_eq!(common, IdRegs::common(&big, [&little, &big, &common]));
    assert_eq!(read(&common, "ID_AA64PFR0_EL1", "FP"), 15, "none is least");
    assert_eq!(read(&common, "ID_AA64PFR0_EL1", "EL0"), 1);
    assert_eq!(read(&little, "ID_ISAR0_EL1", "Swap"), 0);
    assert_eq!(read(&little, "ID_ISAR0_EL1", "Divide"), 2);
    assert_eq!(read(&common, "ID_ISAR0_EL1", "Divide"), 0, "no AArch32");
    assert_eq!(read(&common, "ID_AA64MMFR0_EL1", "PARange"), 2);
    assert_eq!(read(&common, "ID_AA64MMFR0_EL1", "TGran4"), 0);
    assert_eq!(read(&common, "ID_AA64MMFR0_EL1", "TGran64"), 15);
    assert_eq!(read(&common, "ID_AA64ISAR0_EL1", "Atomic"), 1);
    assert_eq!(big.exceeds(&little), Some("ID_AA64PFR0_EL1"));
    assert_eq!(common.exceeds(&little), None);
    assert_eq!(common.exceeds(&big), None);
}

#[test]
fn what_the_table_does_not_name_is_zero() {
    let ids = IdRegs::sanitise(&rich, Limits::MAX);
    let named: BTreeSet<usize> = all().iter().map(|r| r.index()).collect();
    for index in 0..COUNT {
        if !named.contains(&index) {
            assert_eq!(ids.by_index(index), 0);
        }
    }
    for register in all() {
        let covered = register
            .fields
            .iter()
            .fold(0_u64, |m, f| m | 0xf << f.shift);
        assert_eq!(
            ids.by_index(register.index()) & !covered,
            0,
            "{}",
            register.name
        );
    }
    assert_eq!(ids.by_index(COUNT), 0);
    assert_eq!(ids.by_index(usize::MAX), 0);
    assert_eq!(
        (
            ids.get(0, 0),
            ids.get(8, 0),
            ids.get(1, 8),
            ids.get(u16::MAX, 0)
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(IdRegs::register(COUNT), None);
}

/// Every ISS of class 0x18.
#[test]
fn the_hot_read_answers_exactly_the_identification_registers() {
    let ids = IdRegs::sanitise(&|crm, op2| u64::from(crm * 8 + op2) * 0x1111, Limits::MAX);
    for iss in 0..1_u32 << 22 {
        let reg = SysReg::from_iss(iss);
        let index = (0..COUNT).find(|i| {
            // Cheap form of `IdRegs::register(*i) == Some(reg)`.
            usize::from(reg.raw()) == usize::from(SysReg::new(3, 0, 0, 1, 0).raw()) + i
        });
        let expected = index.filter(|_| iss & 1 == 1).map(|i| ids.by_index(i));
        assert_eq!(ids.read(iss), expected, "{reg} {iss:#x}");
        if let Some(index) = index {
            assert_eq!(IdRegs::register(index), Some(reg));
            assert_eq!(ids.get(reg.crm(), reg.op2()), ids.by_index(index));
        }
    }
}

proptest! {
    /// The common view promises nothing that one of the CPUs lacks, and all that each has.
    #[test]
    fn a_common_view_is_the_greatest_that_fits(one in any::<[u64; COUNT]>(), other in any::<[u64; COUNT]>()) {
        let ids = |host: [u64; COUNT]| {
            IdRegs::sanitise(&move |crm: u16, op2: u16| host[usize::from(crm) * 8 + usize::from(op2) - 8], Limits::MAX)
        };
        let (one, other) = (ids(one), ids(other));
        let common = IdRegs::common(&one, [&other]);
        prop_assert_eq!(common.exceeds(&one), None);
        prop_assert_eq!(common.exceeds(&other), None);
        prop_assert_eq!(&IdRegs::common(&one, [&one]), &one);
        for register in all() {
            for field in register.fields {
                let of = |ids: &IdRegs| ids.by_index(register.index()) >> field.shift & 0xf;
                prop_assert!(of(&common) == of(&one) || of(&common) == of(&other));
            }
        }
    }

    /// No field of a guest promises more than the host has, unless it is a constant.
    #[test]
    fn a_guest_never_has_more_than_the_host(host in any::<[u64; COUNT]>(), limit in any::<u8>()) {
        let host = |crm: u16, op2: u16| host[usize::from(crm) * 8 + usize::from(op2) - 8];
        let ids = IdRegs::sanitise(&host, Limits { pa_range: limit });
        for register in AARCH64 {
            let from = host(register.crm, register.op2);
            for field in register.fields {
                let (have, see) = (from >> field.shift & 0xf, ids.get(register.crm, register.op2) >> field.shift & 0xf);
                match field.rule {
                    Rule::Is(value) => prop_assert_eq!(see, u64::from(value)),
                    Rule::Hide => prop_assert_eq!(see, 0),
                    Rule::Pass => prop_assert_eq!(see, have),
                    Rule::Cap(max) => prop_assert_eq!(see, have.min(u64::from(max))),
                    Rule::Signed(max) => prop_assert!(see == have || have < 8 && see == u64::from(max)),
                    Rule::PaRange => prop_assert_eq!(see, have.min(5).min(u64::from(limit))),
                }
            }
        }
    }
}
