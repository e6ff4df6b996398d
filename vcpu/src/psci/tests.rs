//! What a guest sees of PSCI, and lanes racing for one another.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever a test does not expect fails it"
)]

use super::ids::*;
use super::*;
use proptest::prelude::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{thread, vec::Vec};

const ENTRY: u64 = 0x4008_0000;

fn running(lanes: usize) -> Power {
    let power = Power::new(lanes);
    power.turn_on(0).unwrap();
    power.started(0);
    power
}

fn call(power: &Power, function: u32, x: [u64; 3]) -> Outcome {
    let call = Call::parse(function, x).unwrap();
    serve(call, power, |ipa| {
        (0x4000_0000..0x4400_0000).contains(&ipa.raw())
    })
}

fn error(error: Error) -> Outcome {
    Outcome::Return(i64::from(error).cast_unsigned())
}

#[test]
fn the_version_is_1_1() {
    assert_eq!(
        call(&running(1), PSCI_VERSION, [0; 3]),
        Outcome::Return(0x1_0001)
    );
}

#[test]
fn cpu_on_starts_a_lane_that_is_off() {
    let power = running(4);
    let on = call(&power, PSCI_CPU_ON_64, [2, ENTRY, 0xc0ffee]);
    let expected = Outcome::PowerOn {
        lane: 2,
        entry: Ipa::new(ENTRY),
        context: 0xc0ffee,
    };
    assert_eq!(on, expected);
    assert_eq!(power.state(2), State::OnPending);
    assert_eq!(
        call(&power, PSCI_CPU_ON_64, [2, ENTRY, 0]),
        error(Error::OnPending)
    );
    assert_eq!(
        call(&power, PSCI_AFFINITY_INFO_64, [2, 0, 0]),
        Outcome::Return(2)
    );
    power.started(2);
    assert_eq!(
        call(&power, PSCI_CPU_ON_64, [2, ENTRY, 0]),
        error(Error::AlreadyOn)
    );
    assert_eq!(
        call(&power, PSCI_CPU_ON_64, [0, ENTRY, 0]),
        error(Error::AlreadyOn),
        "itself"
    );
    assert_eq!(power.turned_off(2), LastOut::OthersRemain);
    assert_eq!(call(&power, PSCI_CPU_ON_64, [2, ENTRY, 0xc0ffee]), expected);
}

#[test]
fn cpu_on_refuses_what_is_no_lane_and_no_entry() {
    let power = running(4);
    let targets = [
        4,
        7,
        1 << 8,
        1 << 16,
        1 << 24 | 1,
        1 << 30,
        1 << 31 | 1,
        1 << 32 | 1,
        1 << 40 | 1,
        1 << 63,
        u64::MAX,
    ];
    for target in targets {
        let refused = call(&power, PSCI_CPU_ON_64, [target, ENTRY, 0]);
        assert_eq!(refused, error(Error::InvalidParameters), "{target:#x}");
    }
    for entry in [
        0,
        ENTRY + 1,
        ENTRY + 2,
        0x0900_0000,
        0x3fff_fffc,
        0x4400_0000,
        u64::MAX - 3,
        u64::MAX,
    ] {
        let refused = call(&power, PSCI_CPU_ON_64, [1, entry, 0]);
        assert_eq!(refused, error(Error::InvalidAddress), "{entry:#x}");
    }
    assert_eq!(power.state(1), State::Off, "nothing was claimed");
}

#[test]
fn the_32_bit_forms_ignore_the_upper_halves() {
    let power = running(2);
    let garbage = 0xdead_beef_0000_0000;
    assert_eq!(
        call(
            &power,
            PSCI_CPU_ON_32,
            [garbage | 1, garbage | ENTRY, garbage | 5]
        ),
        Outcome::PowerOn {
            lane: 1,
            entry: Ipa::new(ENTRY),
            context: 5
        }
    );
    assert_eq!(
        call(&power, PSCI_AFFINITY_INFO_32, [garbage | 1, garbage, 0]),
        Outcome::Return(2)
    );
    assert_eq!(
        call(&power, PSCI_AFFINITY_INFO_64, [garbage | 1, 0, 0]),
        error(Error::InvalidParameters)
    );
    assert_eq!(
        call(&power, PSCI_CPU_SUSPEND_32, [garbage, 0, 0]),
        Outcome::Suspend
    );
}

#[test]
fn affinity_info_knows_levels() {
    let power = running(3);
    let info = |target, level| call(&power, PSCI_AFFINITY_INFO_64, [target, level, 0]);
    assert_eq!(info(0, 0), Outcome::Return(0), "on");
    assert_eq!(info(1, 0), Outcome::Return(1), "off");
    assert_eq!(info(3, 0), error(Error::InvalidParameters));
    for level in 1..=3 {
        assert_eq!(info(0, level), Outcome::Return(0));
        assert_eq!(info(0xff, level), Outcome::Return(0), "Aff0 is ignored");
        assert_eq!(info(0x100, level), error(Error::InvalidParameters));
    }
    for level in 4..256 {
        assert_eq!(info(0, level), error(Error::InvalidParameters));
    }
    let _ = power.turned_off(0);
    assert_eq!(info(0, 1), Outcome::Return(1), "all off");
    power.turn_on(2).unwrap();
    assert_eq!(info(0, 1), Outcome::Return(2), "one pending");
}

#[test]
fn only_standby_of_the_lane_itself_can_be_asked_for() {
    let power = running(1);
    for function in [PSCI_CPU_SUSPEND_32, PSCI_CPU_SUSPEND_64] {
        assert_eq!(call(&power, function, [0, ENTRY, 0]), Outcome::Suspend);
        for state in [1, 1 << 16, 1 << 24, 1 << 31, 0xffff_ffff] {
            assert_eq!(
                call(&power, function, [state, ENTRY, 0]),
                error(Error::InvalidParameters)
            );
        }
    }
}

#[test]
fn the_machine_can_be_ended_and_restarted() {
    let power = running(1);
    assert_eq!(call(&power, PSCI_CPU_OFF, [0; 3]), Outcome::PowerOffSelf);
    assert_eq!(
        power.state(0),
        State::On,
        "it is off when the dispatcher says so"
    );
    assert_eq!(call(&power, PSCI_SYSTEM_OFF, [0; 3]), Outcome::SystemOff);
    assert_eq!(
        call(&power, PSCI_SYSTEM_RESET, [0; 3]),
        Outcome::SystemReset
    );
    assert_eq!(
        call(&power, PSCI_SYSTEM_RESET2_64, [0; 3]),
        Outcome::SystemReset
    );
    for kind in [1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let reset = call(&power, PSCI_SYSTEM_RESET2_32, [kind, 0, 0]);
        assert_eq!(reset, error(Error::InvalidParameters));
    }
    assert_eq!(
        call(&power, PSCI_MIGRATE_INFO_TYPE, [0; 3]),
        Outcome::Return(2)
    );
}

#[test]
fn features_lists_what_parse_knows() {
    let power = running(1);
    let implemented = [
        PSCI_VERSION,
        PSCI_CPU_SUSPEND_32,
        PSCI_CPU_SUSPEND_64,
        PSCI_CPU_OFF,
        PSCI_CPU_ON_32,
        PSCI_CPU_ON_64,
        PSCI_AFFINITY_INFO_32,
        PSCI_AFFINITY_INFO_64,
        PSCI_MIGRATE_INFO_TYPE,
        PSCI_SYSTEM_OFF,
        PSCI_SYSTEM_RESET,
        PSCI_SYSTEM_RESET2_32,
        PSCI_SYSTEM_RESET2_64,
        PSCI_FEATURES,
    ];
    for low in 0..0x40 {
        for base in [0x8400_0000, 0xc400_0000] {
            let function = base | low;
            let known = implemented.contains(&function);
            assert_eq!(
                Call::parse(function, [0; 3]).is_some(),
                known,
                "{function:#x}"
            );
            let expected = if known {
                Outcome::Return(0)
            } else {
                error(Error::NotSupported)
            };
            assert_eq!(
                call(&power, PSCI_FEATURES, [u64::from(function), 0, 0]),
                expected
            );
        }
    }
    let smccc = u64::from(::smccc::arch::SMCCC_VERSION);
    assert_eq!(
        call(&power, PSCI_FEATURES, [smccc, 0, 0]),
        Outcome::Return(0),
        "how SMCCC is discovered"
    );
    assert_eq!(
        call(&power, PSCI_FEATURES, [u64::MAX, 0, 0]),
        error(Error::NotSupported)
    );
}

proptest! {
    #[test]
    fn no_argument_reaches_beyond_the_lanes(
        index in 0_usize..14, x in any::<[u64; 3]>(), small in any::<[u8; 2]>(), lanes in 0_usize..40,
    ) {
        let functions = [
            PSCI_VERSION, PSCI_CPU_SUSPEND_32, PSCI_CPU_SUSPEND_64, PSCI_CPU_OFF, PSCI_CPU_ON_32, PSCI_CPU_ON_64,
            PSCI_AFFINITY_INFO_32, PSCI_AFFINITY_INFO_64, PSCI_MIGRATE_INFO_TYPE, PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET,
            PSCI_SYSTEM_RESET2_32, PSCI_SYSTEM_RESET2_64, PSCI_FEATURES,
        ];
        for x in [x, [u64::from(small[0]), u64::from(small[1]), x[2]]] {
            let power = Power::new(lanes);
            let outcome = serve(Call::parse(functions[index], x).unwrap(), &power, |_| true);
            if let Outcome::PowerOn { lane, .. } = outcome {
                prop_assert!(lane < power.lanes() && power.lanes() <= MAX_LANES);
                prop_assert_eq!(power.state(lane), State::OnPending);
            } else {
                prop_assert_eq!(power.any(), State::Off);
            }
        }
    }
}

#[test]
fn a_lane_that_does_not_exist_is_off_and_stays_off() {
    let power = Power::new(2);
    for lane in [2, 15, 16, 40, usize::MAX] {
        power.started(lane);
        assert_eq!(power.state(lane), State::Off);
        assert_eq!(power.turn_on(lane), Err(Error::InvalidParameters));
        assert_eq!(power.turned_off(lane), LastOut::NoneRemain);
    }
    assert_eq!(power.any(), State::Off);
    assert_eq!(Power::new(usize::MAX).lanes(), MAX_LANES);
    let last = Power::new(MAX_LANES);
    last.turn_on(15).unwrap();
    last.started(15);
    assert_eq!(
        (last.state(15), last.state(14), last.any()),
        (State::On, State::Off, State::On)
    );
}

/// Four lanes race CPU_ON of a fifth, ten thousand times: one wins each off-to-on edge, and the others are told why not.
#[test]
fn of_racing_cpu_on_exactly_one_wins() {
    const ROUNDS: usize = 10_000;
    const LANES: usize = 4;
    let power = running(5);
    let wins = AtomicUsize::new(0);
    let barrier = Barrier::new(LANES);
    thread::scope(|scope| {
        for me in 0..LANES {
            let (power, wins, barrier) = (&power, &wins, &barrier);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    barrier.wait();
                    match call(power, PSCI_CPU_ON_64, [4, ENTRY, me as u64]) {
                        Outcome::PowerOn {
                            lane: 4, context, ..
                        } => {
                            assert_eq!(context, me as u64);
                            wins.fetch_add(1, Ordering::SeqCst);
                            power.started(4);
                        }
                        Outcome::Return(status) => {
                            let status = status.cast_signed();
                            assert!(status == -4 || status == -5, "{status}");
                        }
                        other => panic!("{other:?}"),
                    }
                    barrier.wait();
                    if me == 0 {
                        assert_eq!(wins.load(Ordering::SeqCst), round + 1);
                        assert_eq!(power.turned_off(4), LastOut::OthersRemain);
                    }
                }
            });
        }
    });
}

/// All lanes turn off at once: exactly one is told that it was the last.
#[test]
fn of_racing_cpu_off_exactly_one_is_the_last() {
    const LANES: usize = 4;
    let power = Power::new(LANES);
    let barrier = Barrier::new(LANES);
    let lasts = AtomicUsize::new(0);
    thread::scope(|scope| {
        for me in 0..LANES {
            let (power, lasts, barrier) = (&power, &lasts, &barrier);
            scope.spawn(move || {
                for _ in 0..2_000 {
                    power.turn_on(me).unwrap();
                    power.started(me);
                    barrier.wait();
                    if power.turned_off(me) == LastOut::NoneRemain {
                        lasts.fetch_add(1, Ordering::SeqCst);
                    }
                    barrier.wait();
                }
            });
        }
    });
    assert_eq!(lasts.into_inner(), 2_000);
    let states: Vec<_> = (0..LANES).map(|lane| power.state(lane)).collect();
    assert!(states.iter().all(|s| *s == State::Off));
}
