//! Totality over every low word of ESR_EL2, and meaning against goldens.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever a test does not expect fails it"
)]

use super::*;
use crate::sysreg::SysReg;
use proptest::prelude::*;
use stage2_addr::Ipa;
use std::{format, string::String, thread, vec::Vec};

const FAR: u64 = 0xffff_8000_0123_4abc;
const HPFAR: u64 = 0x0000_0000_0009_0000;
const IPA: u64 = 0x0900_0abc;

fn syndrome(esr: u64) -> Syndrome {
    Syndrome {
        esr,
        far: FAR,
        hpfar: HPFAR,
        elr: 0x4008_0000,
        spsr: spsr::EL1H,
    }
}

fn esr(class: u64, iss: u64) -> u64 {
    class << 26 | 1 << 25 | iss
}

fn sync(class: u64, iss: u64) -> ExitReason {
    decode(Exit::Sync, &syndrome(esr(class, iss)))
}

/// The name of a reason, with what a reader of the golden wants to see of its content.
fn name(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Mmio(_) => "Mmio".into(),
        ExitReason::DataAbort(abort) => format!("DataAbort {:?}", abort.kind),
        ExitReason::InstructionAbort(abort) => format!("InstructionAbort {:?}", abort.kind),
        ExitReason::Wfx(wfx) => format!("Wfx {:?}", wfx.kind),
        ExitReason::Feature(feature) => format!("Feature {feature:?}"),
        ExitReason::AArch32(trap) => format!("AArch32 {:?}", trap.kind),
        ExitReason::Debug(debug) => format!("Debug {:?}", debug.kind),
        ExitReason::GuestException(e) => format!("GuestException {:?}", e.class),
        ExitReason::SError(e) => format!("SError {:?}", e.severity),
        ExitReason::SystemRegister(access) => format!("SystemRegister {}", access.reg),
        other => format!("{other:?}"),
    }
}

fn compare(actual: &str, golden: &str) {
    for (line, (a, g)) in actual.lines().zip(golden.lines()).enumerate() {
        assert_eq!(a, g, "line {}", line + 1);
    }
    assert_eq!(actual.lines().count(), golden.lines().count());
}

#[test]
fn every_class_means_what_the_golden_says() {
    let mut actual = String::new();
    for class in 0..64 {
        let reason = sync(class, 0);
        actual += &format!(
            "{class:#04x} {:?} -> {}\n",
            Class::from_esr(class << 26),
            name(&reason)
        );
    }
    compare(&actual, include_str!("golden/classes.txt"));
}

#[test]
fn every_fault_status_means_what_the_golden_says() {
    let mut actual = String::from(
        "code status: data ISV=1 | data ISV=0 | data S1PTW | data CM | fetch | fetch S1PTW\n",
    );
    for code in 0..64 {
        let data = |bits: u64| match sync(0x24, code | bits) {
            ExitReason::DataAbort(abort) => format!("{:?} {}", abort.kind, address(abort.address)),
            ExitReason::Mmio(access) => format!("Mmio {:#x}", access.ipa),
            other => panic!("{other:?}"),
        };
        let fetch = |bits: u64| match sync(0x20, code | bits) {
            ExitReason::InstructionAbort(abort) => {
                format!("{:?} {}", abort.kind, address(abort.address))
            }
            other => panic!("{other:?}"),
        };
        actual += &format!(
            "{code:#04x} {:?}: {} | {} | {} | {} | {} | {}\n",
            FaultStatus::from_code(u8::try_from(code).unwrap()),
            data(1 << ISV),
            data(0),
            data(1 << ISV | 1 << S1PTW),
            data(1 << CM | 1 << 6),
            fetch(0),
            fetch(1 << S1PTW),
        );
    }
    compare(&actual, include_str!("golden/statuses.txt"));
}

fn address(address: FaultAddress) -> String {
    match address {
        FaultAddress::Exact(ipa) => format!("exact {ipa:#x}"),
        FaultAddress::Page(ipa) => format!("page {ipa:#x}"),
        FaultAddress::Unknown => "unknown".into(),
    }
}

/// ISS without bits above Op0, as class 0x18 has it.
fn iss_of(access: &SysRegAccess) -> u64 {
    let r = access.reg;
    u64::from(r.op0()) << 20
        | u64::from(r.op2()) << 17
        | u64::from(r.op1()) << 14
        | u64::from(r.crn()) << 10
        | u64::from(access.rt.number()) << 5
        | u64::from(r.crm()) << 1
        | u64::from(access.read)
}

/// Whether an access is the one that the syndrome describes.
fn describes(s: &Syndrome, access: &MmioAccess) -> bool {
    access.width.bytes() == 1 << (s.esr >> 22 & 3)
        && u64::from(access.reg.number()) == s.esr >> 16 & 31
        && access.reg.number() <= 31
        && access.write == (s.esr >> 6 & 1 == 1)
        && access.sign_extend == (s.esr >> 21 & 1 == 1)
        && access.sixty_four == (s.esr >> 15 & 1 == 1)
        && access.va == s.far
        && access.ipa.page_offset() == s.far & 0xfff
}

/// The classes that no guest can raise or that nobody has allocated.
const UNALLOCATED: &[u64] = &[
    0x00, 0x02, 0x0b, 0x0f, 0x10, 0x1e, 0x1f, 0x23, 0x29, 0x2a, 0x2b, 0x2e, 0x36, 0x37, 0x39, 0x3b,
    0x3e, 0x3f,
];

/// What must hold of any decoding, judged from the bits alone.
fn check(s: &Syndrome, reason: &ExitReason) {
    let class = (s.esr >> 26) & 0x3f;
    let status = s.esr & 0x3f;
    let (isv, cm, s1ptw) = (s.esr >> 24 & 1, s.esr >> 8 & 1, s.esr >> 7 & 1);
    let unmapped = (0x04..=0x0b).contains(&status) || status == 0x2a || status == 0x2b;
    let device = isv == 1 && cm == 0 && s1ptw == 0 && unmapped;
    let right = match reason {
        ExitReason::Wfx(_) => class == 0x01,
        ExitReason::Hypercall { imm } => class == 0x16 && u64::from(*imm) == s.esr & 0xffff,
        ExitReason::SecureCall { imm } => class == 0x17 && u64::from(*imm) == s.esr & 0xffff,
        ExitReason::SupervisorCall { imm } => class == 0x15 && u64::from(*imm) == s.esr & 0xffff,
        ExitReason::SystemRegister(access) => class == 0x18 && iss_of(access) == s.esr & 0x3f_ffff,
        ExitReason::Mmio(access) => class == 0x24 && device && describes(s, access),
        ExitReason::DataAbort(abort) => {
            class == 0x24
                && !device
                && abort.write == (s.esr >> 6 & 1 == 1)
                && (abort.kind != DataAbortKind::NoSyndrome || isv == 0)
                && (abort.kind != DataAbortKind::CacheMaintenance || cm == 1)
                && (abort.kind != DataAbortKind::Stage1Walk || s1ptw == 1)
        }
        ExitReason::InstructionAbort(_) => class == 0x20,
        ExitReason::Feature(_) => {
            matches!(class, 0x07 | 0x09 | 0x0a | 0x14 | 0x19 | 0x1a | 0x1b | 0x1d)
        }
        ExitReason::AArch32(trap) => {
            matches!(class, 0x03..=0x06 | 0x08 | 0x0c | 0x11..=0x13 | 0x38 | 0x3a)
                && (trap.passes || s.spsr & 0x10 != 0)
        }
        ExitReason::Debug(_) => matches!(class, 0x30 | 0x32 | 0x34 | 0x3c),
        ExitReason::IllegalState => class == 0x0e,
        ExitReason::PcAlignment { far } => class == 0x22 && *far == s.far,
        ExitReason::SpAlignment => class == 0x26,
        ExitReason::GuestException(e) => {
            matches!(class, 0x0d | 0x1c | 0x27 | 0x28 | 0x2c | 0x2d | 0x3d)
                && u64::from(e.iss) == s.esr & 0x1ff_ffff
        }
        ExitReason::SError(e) => class == 0x2f && u64::from(e.iss) == s.esr & 0x1ff_ffff,
        ExitReason::Undefined { class: seen } => {
            u64::from(seen.code()) == class && UNALLOCATED.contains(&class)
        }
        ExitReason::OwnFault(_) => matches!(class, 0x21 | 0x25 | 0x31 | 0x33 | 0x35),
        ExitReason::Irq | ExitReason::Fiq => false,
    };
    assert!(right, "{:#x} {reason:?}", s.esr);
}

/// All 2^32 low words of ESR_EL2, split over the host's CPUs.
#[test]
fn every_low_word_of_esr_has_one_right_meaning() {
    let threads = thread::available_parallelism().map_or(2, usize::from) as u64;
    let part = (1 << 32) / threads + 1;
    thread::scope(|scope| {
        for n in 0..threads {
            scope.spawn(move || {
                for low in n * part..((n + 1) * part).min(1 << 32) {
                    let s = syndrome(low);
                    check(&s, &decode(Exit::Sync, &s));
                }
            });
        }
    });
}

proptest! {
    /// ISS2 and everything beside ESR may hold anything.
    #[test]
    fn no_other_bit_changes_the_meaning(
        esr in any::<u64>(), far in any::<u64>(), hpfar in any::<u64>(), elr in any::<u64>(), mode in 0_u64..32,
        flags in any::<u64>(),
    ) {
        let spsr = flags & !0x1f | mode;
        let s = Syndrome { esr, far, hpfar, elr, spsr };
        let reason = decode(Exit::Sync, &s);
        if mode & 0x1c == 0b01000 {
            let own = matches!(reason, ExitReason::OwnFault(_));
            prop_assert!(own, "SPSR names EL2");
        } else {
            check(&s, &reason);
            let low = Syndrome { esr: esr & 0xffff_ffff, ..s };
            prop_assert_eq!(reason, decode(Exit::Sync, &low));
        }
    }

    #[test]
    fn an_address_is_never_wider_than_the_register_that_holds_it(far in any::<u64>(), hpfar in any::<u64>()) {
        let s = Syndrome { esr: esr(0x24, 1 << ISV | 0x06), far, hpfar, elr: 0, spsr: 0 };
        let ExitReason::Mmio(access) = decode(Exit::Sync, &s) else { panic!() };
        prop_assert!(access.ipa.raw() < 1 << 56);
        prop_assert_eq!(access.ipa.raw() >> 12, (hpfar >> 4) & 0xfff_ffff_ffff);
    }
}

#[test]
fn a_device_access_is_described_in_full() {
    // LDRSH W7, [..]: SAS = 1, SSE, SRT = 7, SF = 0, a level-3 translation fault.
    let reason = sync(0x24, 1 << 24 | 1 << 22 | 1 << 21 | 7 << 16 | 0x07);
    assert_eq!(
        reason,
        ExitReason::Mmio(MmioAccess {
            ipa: Ipa::new(IPA),
            va: FAR,
            width: Width::Half,
            write: false,
            sign_extend: true,
            sixty_four: false,
            reg: Reg::from_field(7),
        })
    );
}

#[test]
fn a_walk_fault_gives_the_table_page_and_no_offset() {
    let ExitReason::DataAbort(abort) = sync(0x24, 1 << ISV | 1 << S1PTW | 0x06) else {
        panic!()
    };
    assert_eq!(abort.kind, DataAbortKind::Stage1Walk);
    assert_eq!(abort.address, FaultAddress::Page(Ipa::new(0x0900_0000)));
    assert_eq!(abort.address.page(), Some(Ipa::new(0x0900_0000)));
    assert_eq!(FaultAddress::Unknown.page(), None);
    assert_eq!(abort.far, Some(FAR));
}

#[test]
fn cache_maintenance_is_never_a_store_to_a_device() {
    for isv in [0, 1 << ISV] {
        let ExitReason::DataAbort(abort) = sync(0x24, isv | 1 << CM | 1 << 6 | 0x07) else {
            panic!()
        };
        assert_eq!(abort.kind, DataAbortKind::CacheMaintenance);
        assert!(abort.cache_maintenance && abort.write);
    }
}

#[test]
fn hpfar_counts_for_permission_faults_on_a_walk_only() {
    let of = |iss| FaultAddress::of(&syndrome(esr(0x24, iss)));
    assert_eq!(of(0x0f), FaultAddress::Unknown);
    assert_eq!(
        of(0x0f | 1 << S1PTW),
        FaultAddress::Page(Ipa::new(0x0900_0000))
    );
    assert_eq!(of(0x10), FaultAddress::Unknown);
    assert_eq!(of(0x01), FaultAddress::Exact(Ipa::new(IPA)));
}

#[test]
fn far_is_absent_when_the_hardware_says_so() {
    let far = |class, iss| match sync(class, iss) {
        ExitReason::DataAbort(abort) => abort.far,
        ExitReason::InstructionAbort(abort) => abort.far,
        other => panic!("{other:?}"),
    };
    assert_eq!(far(0x24, 0x10 | 1 << 10), None);
    assert_eq!(far(0x20, 0x14 | 1 << 10), None);
    assert_eq!(far(0x24, 0x10), Some(FAR));
    assert_eq!(
        far(0x24, 0x0f | 1 << 10),
        Some(FAR),
        "FnV is for external aborts"
    );
}

#[test]
fn the_four_vectors_are_told_apart() {
    let s = syndrome(esr(0x16, 0));
    let of = |n| decode(Exit::from_vector(n), &s);
    assert_eq!(of(0), ExitReason::Hypercall { imm: 0 });
    assert_eq!(of(1), ExitReason::Irq);
    assert_eq!(of(2), ExitReason::Fiq);
    assert!(matches!(of(3), ExitReason::SError(_)));
    assert_eq!(of(4), of(0));
}

#[test]
fn an_serror_is_classified() {
    let severity = |iss| match decode(Exit::SError, &syndrome(esr(0x2f, iss))) {
        ExitReason::SError(e) => e.severity,
        other => panic!("{other:?}"),
    };
    let expected = [
        Severity::Uncontainable,
        Severity::Unrecoverable,
        Severity::Restartable,
        Severity::Recoverable,
        Severity::Unclassified,
        Severity::Unclassified,
        Severity::Corrected,
        Severity::Unclassified,
    ];
    for (aet, expected) in (0_u64..).zip(expected) {
        assert_eq!(severity(aet << 10 | 0x11), expected);
        assert_eq!(severity(aet << 10), Severity::Unclassified);
        assert_eq!(severity(1 << 24 | aet << 10 | 0x11), Severity::Unclassified);
    }
}

#[test]
fn waits_carry_their_kind_and_timeout() {
    let wfx = |iss| match sync(0x01, iss) {
        ExitReason::Wfx(wfx) => (wfx.kind, wfx.timeout, wfx.passes),
        other => panic!("{other:?}"),
    };
    assert_eq!(wfx(0), (WfxKind::Wfi, None, true));
    assert_eq!(wfx(1), (WfxKind::Wfe, None, true));
    assert_eq!(
        wfx(2 | 1 << 2 | 9 << 5),
        (WfxKind::Wfit, Some(Reg::from_field(9)), true)
    );
    assert_eq!(wfx(3), (WfxKind::Wfet, None, true), "RV = 0");
}

#[test]
fn a_trapped_instruction_whose_condition_fails_is_told() {
    let passes = |iss: u64, spsr| {
        let s = Syndrome {
            spsr,
            ..syndrome(esr(0x03, iss))
        };
        match decode(Exit::Sync, &s) {
            ExitReason::AArch32(trap) => trap.passes,
            other => panic!("{other:?}"),
        }
    };
    let (n, z, c, v) = (1 << 31, 1 << 30, 1 << 29, 1 << 28);
    // (condition, flags that satisfy it, flags that do not)
    let table: [(u64, u64, u64); 7] = [
        (0, z, 0),
        (2, c, 0),
        (4, n, 0),
        (6, v, 0),
        (8, c, c | z),
        (10, n | v, n),
        (12, 0, z),
    ];
    for (condition, yes, no) in table {
        let known = |condition: u64| 1 << 24 | condition << 20;
        assert!(passes(known(condition), 0x10 | yes), "{condition}");
        assert!(!passes(known(condition), 0x10 | no), "{condition}");
        assert!(
            !passes(known(condition + 1), 0x10 | yes),
            "{condition}, inverted"
        );
        assert!(
            passes(known(condition + 1), 0x10 | no),
            "{condition}, inverted"
        );
        // The same from the IT state of T32: IT[7:4] is at 15:12; a 1 below keeps the block alive.
        let it = 0x30 | (condition << 12) | 1 << 11;
        assert!(passes(0, it | yes));
        assert!(!passes(0, it | no));
    }
    assert!(passes(1 << 24 | 14 << 20, 0x10));
    assert!(passes(1 << 24 | 15 << 20, 0x10));
    assert!(passes(0, 0x10), "A32 without CV");
    assert!(passes(0, 0x30), "T32 outside an IT block");
}

#[test]
fn an_smc_of_aarch32_has_its_condition_only_when_it_says_so() {
    let passes = |iss| {
        let s = Syndrome {
            spsr: 0x10,
            ..syndrome(esr(0x13, iss))
        };
        matches!(decode(Exit::Sync, &s), ExitReason::AArch32(t) if t.passes)
    };
    // COND = EQ and Z clear.
    assert!(!passes(1 << 24 | 1 << 19));
    assert!(passes(1 << 24));
}

#[test]
fn brk_at_el2_is_our_fault_and_brk_of_a_guest_is_not() {
    let s = Syndrome {
        spsr: 0b01001,
        ..syndrome(esr(0x3c, 0x123))
    };
    assert_eq!(
        decode(Exit::Sync, &s),
        ExitReason::OwnFault(OwnFault {
            class: Class::Brk64
        })
    );
    let ExitReason::Debug(debug) = sync(0x3c, 0x123) else {
        panic!()
    };
    assert_eq!(debug.kind, DebugKind::Brk { imm: 0x123 });
    assert_eq!(debug.far, None);
    let ExitReason::Debug(debug) = sync(0x34, 0x22) else {
        panic!()
    };
    assert_eq!((debug.far, debug.iss), (Some(FAR), 0x22));
}

#[test]
fn a_trapped_register_is_named() {
    // MRS X3, ID_AA64PFR0_EL1: op0 3, op1 0, CRn 0, CRm 4, op2 0.
    assert_eq!(
        sync(0x18, 3 << 20 | 3 << 5 | 4 << 1 | 1),
        ExitReason::SystemRegister(SysRegAccess {
            reg: SysReg::new(3, 0, 0, 4, 0),
            rt: Reg::from_field(3),
            read: true,
        })
    );
}

#[test]
fn the_length_and_place_come_from_the_syndrome() {
    let s = syndrome(esr(0x16, 0));
    assert_eq!(s.insn_len(), InsnLen::Four);
    assert_eq!(syndrome(0x16 << 26).insn_len(), InsnLen::Two);
    assert_eq!(
        s.pc(),
        Pc {
            elr: 0x4008_0000,
            spsr: spsr::EL1H
        }
    );
    let reasons: Vec<_> = (0..4).map(|n| decode(Exit::from_vector(n), &s)).collect();
    assert_eq!(reasons.len(), 4);
}
