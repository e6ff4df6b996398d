//! What a guest gets for any call at all.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever a test does not expect fails it"
)]

use super::*;
use crate::psci::Power;
use proptest::prelude::*;

const NONE: Workarounds = Workarounds {
    w1: Workaround::NotRequired,
    w2: Workaround::NotRequired,
    w3: Workaround::NotRequired,
};

fn parse(x: [u64; 4]) -> Request {
    Call { imm: 0, x }.parse(NONE)
}

fn ask(function: u32) -> Request {
    parse([u64::from(function), 0, 0, 0])
}

fn returns(x0: i64) -> Request {
    Request::Return(Results::One(x0.cast_unsigned()))
}

#[test]
fn the_convention_is_1_2() {
    assert_eq!(ask(arch::SMCCC_VERSION), returns(0x1_0002));
}

#[test]
fn features_are_told_truthfully() {
    let features = |function: u32, w| {
        let x = [
            u64::from(arch::SMCCC_ARCH_FEATURES),
            u64::from(function),
            0,
            0,
        ];
        Call { imm: 0, x }.parse(w)
    };
    let unknown = Workarounds::default();
    assert_eq!(features(arch::SMCCC_VERSION, NONE), returns(0));
    assert_eq!(features(arch::SMCCC_ARCH_FEATURES, NONE), returns(0));
    assert_eq!(features(arch::SMCCC_ARCH_SOC_ID, NONE), returns(-1));
    assert_eq!(features(arch::SMCCC_ARCH_WORKAROUND_1, NONE), returns(1));
    assert_eq!(features(arch::SMCCC_ARCH_WORKAROUND_2, NONE), returns(-2));
    assert_eq!(features(arch::SMCCC_ARCH_WORKAROUND_3, NONE), returns(1));
    for function in [
        arch::SMCCC_ARCH_WORKAROUND_1,
        arch::SMCCC_ARCH_WORKAROUND_2,
        arch::SMCCC_ARCH_WORKAROUND_3,
    ] {
        assert_eq!(features(function, unknown), returns(-1));
        assert_eq!(
            ask(function),
            returns(0),
            "harmless where nothing is needed"
        );
        assert_eq!(
            Call {
                imm: 0,
                x: [u64::from(function), 0, 0, 0]
            }
            .parse(unknown),
            returns(-1)
        );
    }
    assert_eq!(ask(arch::SMCCC_ARCH_SOC_ID), returns(-1));
}

#[test]
fn the_vendor_range_is_ours() {
    assert_eq!(ask(hvc::CALL_COUNT), returns(7));
    assert_eq!(
        parse([u64::from(hvc::YIELD_TO), 3, 0, 0]),
        Request::YieldTo(3)
    );
    let Request::Return(Results::Four(uid)) = ask(hvc::UID) else {
        panic!()
    };
    assert_eq!(uid, hvc::UID_WORDS.map(u64::from));
    let [major, minor] = hvc::REVISION_WORDS.map(u64::from);
    assert_eq!(
        ask(hvc::REVISION),
        Request::Return(Results::Two([major, minor]))
    );
    assert_eq!(
        ask(hvc::VERSION),
        Request::Return(Results::Two([0x1_0001, 0]))
    );
}

#[test]
fn a_console_write_is_checked_for_length_and_wrap() {
    let write = |address, len| parse([u64::from(hvc::CONSOLE_WRITE), address, len, 0]);
    let refused = Request::Return(Results::Two([(-2_i64).cast_unsigned(), 0]));
    let Request::ConsoleWrite(accepted) = write(0x4000_0000, 4096) else {
        panic!()
    };
    assert_eq!((accepted.address(), accepted.len()), (0x4000_0000, 4096));
    assert!(matches!(write(0, 0), Request::ConsoleWrite(_)));
    assert_eq!(write(0x4000_0000, 4097), refused);
    assert_eq!(write(u64::MAX, 1), refused);
    assert_eq!(write(0, u64::MAX), refused);
    assert_eq!(
        console_result(Status::Success, 17),
        Request::Return(Results::Two([0, 17]))
    );
}

#[test]
fn an_exit_carries_its_code() {
    let exit = |code| parse([u64::from(hvc::EXIT), code, 0, 0]);
    assert_eq!(exit(7), Request::Exit(ExitCode(7)));
    assert_eq!(
        exit(0xdead_beef_0000_0000),
        Request::Exit(ExitCode(0)),
        "the low half"
    );
}

#[test]
fn an_immediate_other_than_zero_is_refused() {
    for imm in 1..=u16::MAX {
        let x = [u64::from(PSCI_VERSION), 0, 0, 0];
        assert_eq!(Call { imm, x }.parse(NONE), returns(-1));
        assert_eq!(quick(imm, x[0]), None);
    }
}

#[test]
fn the_quick_answer_is_the_slow_one() {
    let Request::Psci(call) = ask(PSCI_VERSION) else {
        panic!()
    };
    let slow = psci::serve(call, &Power::new(1), |_| false);
    let quick = quick(0, u64::from(PSCI_VERSION) | 0xffff_ffff_0000_0000).unwrap();
    assert_eq!(slow, psci::Outcome::Return(quick));
}

/// The hot path's answer for a zero immediate, for every owner, fast and yielding, and every function number.
#[test]
fn the_instant_answer_is_the_slow_one() {
    for top in 0..=u8::MAX {
        for low in 0..=u16::MAX {
            let function = u64::from(top) << 24 | u64::from(low);
            for x0 in [
                function,
                function | 0x1_0000,
                function | 0xabcd_0000_0000_0000,
            ] {
                let Some(answer) = instant(x0) else { continue };
                let slow = match parse([x0, 1, 2, 3]) {
                    Request::Psci(call) => psci::serve(call, &Power::new(1), |_| false),
                    Request::Return(Results::One(x0)) => psci::Outcome::Return(x0),
                    other => panic!("{other:?}"),
                };
                assert_eq!(slow, psci::Outcome::Return(answer), "{x0:#x}");
            }
        }
    }
    assert_eq!(
        instant(u64::from(PSCI_VERSION)),
        quick(0, u64::from(PSCI_VERSION))
    );
    assert_eq!(instant(0xc300_0000), Some(NOT_SUPPORTED), "OEM");
    assert_eq!(instant(u64::from(hvc::EXIT)), None);
}

/// All owners, fast and yielding, 32 and 64 bits: what is not listed is NOT_SUPPORTED.
#[test]
fn every_function_identifier_of_every_range_has_an_answer() {
    let known = |function: u32| {
        psci::Call::parse(function, [0; 3]).is_some()
            || hvc::ALL.contains(&function)
            || matches!(function, 0x8400_0050..=0x8400_0053 | 0xc400_0053)
            || [
                arch::SMCCC_VERSION,
                arch::SMCCC_ARCH_FEATURES,
                arch::SMCCC_ARCH_WORKAROUND_1,
                arch::SMCCC_ARCH_WORKAROUND_2,
                arch::SMCCC_ARCH_WORKAROUND_3,
            ]
            .contains(&function)
    };
    for top in 0..=u8::MAX {
        for low in 0..=u16::MAX {
            for reserved in [0_u32, 1, 0xff] {
                let function = u32::from(top) << 24 | reserved << 16 | u32::from(low);
                if !known(function) {
                    assert_eq!(ask(function), returns(-1), "{function:#x}");
                }
                assert_eq!(
                    quick(0, u64::from(function)).is_some(),
                    function == PSCI_VERSION
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn any_registers_have_an_answer_and_x4_up_survive(x in any::<[u64; 4]>(), imm in any::<u16>(), base in any::<u64>()) {
        if let Request::Return(results) = (Call { imm, x }).parse(Workarounds::default()) {
            let before: [u64; 31] = core::array::from_fn(|n| base.wrapping_add(n as u64));
            let mut after = before;
            results.apply(&mut after);
            prop_assert_eq!(&after[4..], &before[4..]);
        }
    }

    #[test]
    fn the_upper_half_of_x0_does_not_count(garbage in any::<u32>(), low in any::<u32>(), x in any::<[u64; 3]>()) {
        let clean = u64::from(low);
        let dirty = u64::from(garbage) << 32 | clean;
        prop_assert_eq!(parse([clean, x[0], x[1], x[2]]), parse([dirty, x[0], x[1], x[2]]));
    }
}

#[test]
fn results_go_where_they_belong() {
    let mut x = [9; 31];
    Results::One(1).apply(&mut x);
    assert_eq!(x[..5], [1, 9, 9, 9, 9]);
    Results::Two([1, 2]).apply(&mut x);
    assert_eq!(x[..5], [1, 2, 9, 9, 9]);
    Results::Four([1, 2, 3, 4]).apply(&mut x);
    assert_eq!(x[..5], [1, 2, 3, 4, 9]);
}
