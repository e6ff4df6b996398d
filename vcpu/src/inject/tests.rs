//! Exception entries as a guest sees them.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever a test does not expect fails it"
)]

use super::*;
use crate::exit::{Exit, ExitReason, FaultAddress, InstructionAbortKind, decode};
use proptest::prelude::*;

const VBAR: u64 = 0xffff_8000_0008_0800;

fn regs() -> El1State {
    El1State {
        vbar_el1: VBAR,
        far_el1: 0xdead,
        ..El1State::reset()
    }
}

fn pc(spsr: u64) -> Pc {
    Pc {
        elr: 0x4008_1234,
        spsr,
    }
}

fn take(from: u64, exception: Exception) -> (Pc, El1State) {
    let mut regs = regs();
    let to = inject(
        pc(from),
        InsnLen::Four,
        exception,
        &mut regs,
        Features::default(),
    );
    (to, regs)
}

#[test]
fn undef_goes_to_the_vector_of_the_mode_it_came_from() {
    for (mode, offset) in [
        (0b00100, 0x000),
        (0b00101, 0x200),
        (0b00000, 0x400),
        (0b10000, 0x600),
    ] {
        let (to, regs) = take(mode, Exception::Undefined);
        assert_eq!(to.elr, VBAR + offset, "mode {mode:#b}");
        assert_eq!(to.spsr, 0x3c5);
        assert_eq!(regs.esr_el1, 0x0200_0000, "EC 0, IL 1, ISS 0");
        assert_eq!((regs.elr_el1, regs.spsr_el1), (0x4008_1234, mode));
        assert_eq!(regs.far_el1, 0xdead, "UNDEF leaves FAR alone");
    }
}

#[test]
fn a_refused_device_access_is_an_external_abort_without_syndrome() {
    let (_, from_el1) = take(spsr::EL1H, Exception::refused_access(0x0900_0008, true));
    assert_eq!(from_el1.esr_el1, 0x25 << 26 | 1 << 25 | 1 << 6 | 0x10);
    assert_eq!(from_el1.far_el1, 0x0900_0008);
    let (_, from_el0) = take(spsr::EL0T, Exception::refused_access(0x0900_0008, false));
    assert_eq!(from_el0.esr_el1, 0x24 << 26 | 1 << 25 | 0x10);
    let (_, from_a32) = take(0x30, Exception::refused_access(0, false));
    assert_eq!(
        from_a32.esr_el1 >> 25,
        0x24 << 1 | 1,
        "IL is 1 where ISV is 0"
    );
}

#[test]
fn an_unknown_address_is_told_as_such() {
    let abort = Exception::DataAbort {
        far: None,
        write: false,
        cache_maintenance: false,
        status: Status::External,
    };
    let (_, regs) = take(spsr::EL1H, abort);
    assert_eq!(regs.esr_el1 & 0x1ff_ffff, 1 << 10 | 0x10);
    assert_eq!(regs.far_el1, 0xdead);
}

#[test]
fn fetch_and_alignment_faults() {
    let fetch = Exception::InstructionAbort {
        far: Some(0x0900_0000),
        status: Status::External,
    };
    assert_eq!(
        take(spsr::EL1H, fetch).1.esr_el1,
        0x21 << 26 | 1 << 25 | 0x10
    );
    assert_eq!(
        take(spsr::EL0T, fetch).1.esr_el1,
        0x20 << 26 | 1 << 25 | 0x10
    );
    let (_, regs) = take(spsr::EL1H, Exception::PcAlignment { far: 3 });
    assert_eq!((regs.esr_el1, regs.far_el1), (0x22 << 26 | 1 << 25, 3));
    assert_eq!(
        take(spsr::EL1H, Exception::SpAlignment).1.esr_el1,
        0x26 << 26 | 1 << 25
    );
    assert_eq!(
        take(spsr::EL1H, Exception::IllegalState).1.esr_el1,
        0x0e << 26 | 1 << 25
    );
}

#[test]
fn pstate_follows_sctlr_and_the_cpu() {
    let all = Features {
        pan: true,
        ssbs: true,
        mte: true,
        nmi: true,
    };
    let entered = |old, sctlr, features| {
        let mut regs = El1State {
            sctlr_el1: sctlr,
            ..regs()
        };
        inject(
            pc(old),
            InsnLen::Four,
            Exception::Undefined,
            &mut regs,
            features,
        )
        .spsr
    };
    let (span, dssbs, spintmask) = (1 << 23, 1 << 44, 1 << 62);
    assert_eq!(
        entered(5, 0, all),
        0x3c5 | spsr::PAN | spsr::TCO | spsr::ALLINT
    );
    assert_eq!(entered(5, span | spintmask, all), 0x3c5 | spsr::TCO);
    assert_eq!(
        entered(5, span | dssbs | spintmask, all),
        0x3c5 | spsr::TCO | spsr::SSBS
    );
    assert_eq!(
        entered(5, dssbs, Features::default()),
        0x3c5,
        "no such bits"
    );
    let kept = spsr::NZCV | spsr::DIT | spsr::PAN;
    let cleared =
        spsr::UAO | spsr::SS | spsr::IL | spsr::BTYPE | spsr::SSBS | spsr::TCO | spsr::ALLINT;
    assert_eq!(
        entered(kept | cleared | 5, span, Features::default()),
        kept | 0x3c5
    );
}

proptest! {
    #[test]
    fn an_entry_never_leaves_el1_and_always_inside_the_table(
        elr in any::<u64>(), from in any::<u64>(), vbar in any::<u64>(), sctlr in any::<u64>(), far in any::<u64>(),
        two in any::<bool>(),
    ) {
        let mut regs = El1State { vbar_el1: vbar, sctlr_el1: sctlr, ..El1State::reset() };
        let from = Pc { elr, spsr: from };
        let len = if two { InsnLen::Two } else { InsnLen::Four };
        let features = Features { pan: true, ssbs: true, mte: true, nmi: true };
        let to = inject(from, len, Exception::refused_access(far, true), &mut regs, features);
        prop_assert_eq!(to.spsr & 0x1f, 5);
        prop_assert_eq!(to.spsr & spsr::DAIF, spsr::DAIF);
        prop_assert_eq!(to.elr & !0x7ff, vbar & !0x7ff);
        prop_assert!([0, 0x200, 0x400, 0x600].contains(&(to.elr & 0x7ff)));
        prop_assert_eq!((regs.elr_el1, regs.spsr_el1, regs.far_el1), (elr, from.spsr, far));
        prop_assert_eq!(regs.esr_el1 & 0x3f, 0x10);
        prop_assert_eq!(regs.esr_el1 >> 24 & 1, 0, "ISV");
    }
}

fn syndrome(class: u64, iss: u64) -> Syndrome {
    Syndrome {
        esr: class << 26 | 1 << 25 | iss,
        far: 0x7000,
        hpfar: 0,
        elr: 0,
        spsr: spsr::EL0T,
    }
}

#[test]
fn every_data_abort_has_a_status_for_the_guest() {
    let status = |iss| match decode(Exit::Sync, &syndrome(0x24, iss)) {
        ExitReason::DataAbort(abort) => {
            let (_, regs) = take(spsr::EL0T, Exception::from_data_abort(&abort));
            regs.esr_el1 & 0x1ff_ffff
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(status(0x07), 0x10, "ISV = 0");
    assert_eq!(
        status(0x07 | 1 << 8 | 1 << 6),
        0x10 | 1 << 8 | 1 << 6,
        "cache maintenance"
    );
    assert_eq!(status(0x07 | 1 << 7), 0x14, "stage-1 walk");
    assert_eq!(status(0x0f | 1 << 6), 0x10 | 1 << 6, "permission");
    assert_eq!(status(0x00), 0x10, "address size");
    assert_eq!(status(0x11), 0x11);
    assert_eq!(status(0x21), 0x21);
    assert_eq!(status(0x28), 0x10);
    assert_eq!(status(0x30), 0x30);
    assert_eq!(status(0x35), 0x35);
    assert_eq!(status(0x3f), 0x10, "reserved");
    assert_eq!(status(0x10 | 1 << 10), 0x10 | 1 << 10, "FnV");
}

#[test]
fn every_instruction_abort_has_a_status_for_the_guest() {
    let status = |kind| {
        let abort = InstructionAbort {
            kind,
            far: Some(0),
            address: FaultAddress::Unknown,
        };
        let (_, regs) = take(spsr::EL1H, Exception::from_instruction_abort(&abort));
        regs.esr_el1 & 0x3f
    };
    assert_eq!(status(InstructionAbortKind::Unmapped), 0x10);
    assert_eq!(status(InstructionAbortKind::Permission), 0x10);
    assert_eq!(status(InstructionAbortKind::Stage1Walk), 0x14);
    assert_eq!(status(InstructionAbortKind::TlbConflict), 0x30);
}

#[test]
fn a_reflected_exception_keeps_its_class_and_syndrome() {
    let reflected = |class, iss, from: u64| {
        let s = syndrome(class, iss);
        take(from, Exception::reflect(&s)).1
    };
    assert_eq!(
        reflected(0x3c, 0x123, spsr::EL0T).esr_el1,
        0x3c << 26 | 1 << 25 | 0x123
    );
    assert_eq!(
        reflected(0x32, 0x22, spsr::EL1H).esr_el1,
        0x33 << 26 | 1 << 25 | 0x22
    );
    assert_eq!(
        reflected(0x30, 0x22, spsr::EL1H).esr_el1,
        0x31 << 26 | 1 << 25 | 0x22
    );
    assert_eq!(reflected(0x34, 0x22, spsr::EL0T).far_el1, 0x7000);
    assert_eq!(reflected(0x34, 0x22, spsr::EL1H).esr_el1 >> 26, 0x35);
    let ExitReason::GuestException(e) = decode(Exit::Sync, &syndrome(0x0d, 1)) else {
        panic!()
    };
    assert_eq!(
        take(spsr::EL0T, Exception::own(e)).1.esr_el1,
        0x0d << 26 | 1 << 25 | 1
    );
    let mut regs = regs();
    let t32 = Exception::reflect(&syndrome(0x38, 0));
    let _ = inject(pc(0x30), InsnLen::Two, t32, &mut regs, Features::default());
    assert_eq!(regs.esr_el1, 0x38 << 26, "IL 0 for a 16-bit BKPT");
}

#[test]
fn a_virtual_serror_tells_nothing_of_the_machine() {
    let ExitReason::SError(e) = decode(Exit::SError, &syndrome(0x2f, 0x1234)) else {
        panic!()
    };
    assert_eq!(VirtualSError::from_physical(&e).vsesr, 1 << 24);
}

#[test]
fn features_come_from_the_host() {
    assert_eq!(Features::of_host(0, 0), Features::default());
    let all = Features::of_host(1 << 20, 1 << 4 | 2 << 8 | 1 << 36);
    assert!(all.pan && all.ssbs && all.mte && all.nmi);
    assert!(
        !Features::of_host(0, 1 << 8).mte,
        "MTE without tag checks has no TCO"
    );
}
