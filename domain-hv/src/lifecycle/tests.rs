//! Every event in every state, and the back-off.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "tests look for some actions among many"
)]

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::ending::StopReason;

const CRASH: Ending = Ending::Stopped(StopReason::SystemError);

/// Every state a machine can be in, with every thing that can follow, and how to get there.
fn situations() -> Vec<(&'static str, Vec<Event>)> {
    use Command::{Pause, Stop};
    use Event::{Built, Ended, Left, Operator, Reset};
    let reset_twice = [Built, Reset, Left, Built, Reset];
    [
        ("building", [].to_vec()),
        ("building, then off", [Operator(Stop)].to_vec()),
        ("running", [Built].to_vec()),
        ("paused", [Built, Operator(Pause)].to_vec()),
        ("leaving, then built", [Built, Reset].to_vec()),
        ("leaving, then waiting", reset_twice.to_vec()),
        ("leaving, then held", [Built, Ended(CRASH)].to_vec()),
        ("leaving, then off", [Built, Ended(Ending::Well)].to_vec()),
        ("waiting", [&reset_twice[..], &[Left]].concat()),
        ("held", [Built, Ended(CRASH), Left].to_vec()),
        ("stopped", [Built, Ended(Ending::Well), Left].to_vec()),
    ]
    .to_vec()
}

const EVENTS: [(&str, Event); 12] = [
    ("built", Event::Built),
    ("well", Event::Ended(Ending::Well)),
    ("code", Event::Ended(Ending::Code(3))),
    ("crash", Event::Ended(CRASH)),
    ("reset", Event::Reset),
    ("left", Event::Left),
    ("due", Event::Due),
    ("stop", Event::Operator(Command::Stop)),
    ("start", Event::Operator(Command::Start)),
    ("restart", Event::Operator(Command::Restart)),
    ("pause", Event::Operator(Command::Pause)),
    ("resume", Event::Operator(Command::Resume)),
];

fn machine(on_crash: OnCrash, before: &[Event]) -> Lifecycle {
    let mut machine = Lifecycle::new(on_crash);
    for event in before {
        machine.on(*event, 1000);
    }
    machine
}

/// What a machine of a situation does about every event: the state after and the action, `-` for nothing.
#[test]
fn every_event_has_its_answer_in_every_state() {
    let mut table = String::new();
    for (name, before) in situations() {
        for (word, event) in EVENTS {
            let mut machine = machine(OnCrash::Hold, &before);
            let was = machine.state();
            let action = match machine.on(event, 1000) {
                Action::Nothing => "-".to_string(),
                Action::Refuse(refusal) => refusal.to_string(),
                Action::Wait { until_ms, .. } => format!("wait until {until_ms}"),
                action => format!("{action:?}"),
            };
            let then = match machine.state() {
                state if state == was => "same".to_string(),
                state => format!("{state:?}"),
            };
            table += &format!("{name} | {word} | {then} | {action}\n");
        }
    }
    let expected = include_str!("table.txt");
    for (ours, expected) in table.lines().zip(expected.lines()) {
        assert_eq!(ours, expected);
    }
    assert_eq!(table, expected);
}

#[test]
fn a_reboot_loop_waits_twice_as_long_each_time_and_a_minute_of_life_ends_it() {
    for event in [
        Event::Reset,
        Event::Ended(CRASH),
        Event::Ended(Ending::Code(1)),
    ] {
        let mut machine = machine(OnCrash::Restart, &[]);
        let mut now = 5;
        let mut waits = Vec::new();
        for round in 0..12u32 {
            assert_eq!(machine.on(Event::Built, now), Action::Run);
            now += if round == 10 { STABLE_MS } else { 20 };
            assert_eq!(machine.on(event, now), Action::Leave);
            let ended = now;
            now += 7;
            let wait = match machine.on(Event::Left, now) {
                Action::Wait { until_ms, wait_ms } => {
                    assert_eq!(
                        machine.on(Event::Due, until_ms - 1),
                        Action::Wait { until_ms, wait_ms }
                    );
                    assert_eq!(machine.on(Event::Due, until_ms), Action::Build);
                    // What is said is what was decided at its end, however long its lanes take to leave.
                    assert_eq!(until_ms, ended + wait_ms);
                    wait_ms
                }
                action => {
                    assert_eq!(action, Action::Build);
                    0
                }
            };
            now = ended + wait;
            waits.push(wait);
            assert_eq!(machine.restarts(), round + 1);
        }
        assert_eq!(
            waits,
            [
                0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 0, 100
            ]
        );
    }
}

#[test]
fn the_policy_decides_about_bad_ends_only() {
    let ends = [Ending::Well, Ending::Code(7), CRASH].map(Event::Ended);
    let after =
        |policy| ends.map(|end| machine(policy, &[Event::Built, end]).on(Event::Left, 1000));
    let bad = |action| [Action::Stop, action, action];
    assert_eq!(after(OnCrash::Restart), bad(Action::Build));
    assert_eq!(after(OnCrash::Stop), bad(Action::Stop));
    assert_eq!(after(OnCrash::Hold), bad(Action::Hold));
}

#[test]
fn a_pause_is_not_life() {
    let mut machine = machine(OnCrash::Restart, &[]);
    machine.on(Event::Built, 0);
    machine.on(Event::Reset, 0);
    assert_eq!(machine.on(Event::Left, 0), Action::Build);
    machine.on(Event::Built, 0);
    machine.on(Event::Operator(Command::Pause), 10);
    machine.on(Event::Operator(Command::Resume), 10 + STABLE_MS);
    machine.on(Event::Reset, 20 + STABLE_MS);
    let until_ms = 20 + STABLE_MS + FIRST_WAIT_MS;
    assert_eq!(
        machine.on(Event::Left, 20 + STABLE_MS),
        Action::Wait {
            until_ms,
            wait_ms: FIRST_WAIT_MS
        }
    );
}

#[test]
fn what_was_lived_before_a_pause_counts() {
    let mut machine = machine(OnCrash::Restart, &[Event::Built, Event::Reset, Event::Left]);
    let half = STABLE_MS / 2;
    machine.on(Event::Built, 0);
    machine.on(Event::Operator(Command::Pause), half);
    machine.on(Event::Operator(Command::Resume), 10 * half);
    machine.on(Event::Reset, 11 * half);
    assert_eq!(machine.on(Event::Left, 11 * half), Action::Build);
}

/// After a reset, a command and another reset: whether the restart waits.
fn waits_after(command: Command) -> bool {
    let mut machine = machine(
        OnCrash::Restart,
        &[Event::Built, Event::Reset, Event::Left, Event::Built],
    );
    let left = machine.on(Event::Operator(command), 1000) == Action::Leave;
    if left {
        machine.on(Event::Left, 1000);
        machine.on(Event::Built, 1000);
    }
    machine.on(Event::Reset, 1000);
    machine.on(Event::Left, 1000) != Action::Build
}

#[test]
fn only_a_command_that_is_carried_out_forgives_a_loop() {
    assert!(!waits_after(Command::Restart));
    assert!(waits_after(Command::Start), "refused: it runs");
    assert!(waits_after(Command::Pause));
}

#[test]
fn an_operators_restart_is_no_loop() {
    let mut machine = machine(OnCrash::Stop, &[]);
    for now in 0..50 {
        assert_eq!(machine.on(Event::Built, now), Action::Run);
        assert_eq!(
            machine.on(Event::Operator(Command::Restart), now),
            Action::Leave
        );
        assert_eq!(machine.on(Event::Left, now), Action::Build);
    }
}

proptest! {
    /// Whatever happens in whatever order: a machine is built only when nothing of it runs, runs only once it is
    /// built, and an operator can always stop it and start it again.
    #[test]
    fn nothing_runs_that_is_not_built_and_nothing_is_built_that_runs(
        policy in 0usize..3, events in prop::collection::vec((0..EVENTS.len(), 0u64..20_000), 0..100)
    ) {
        let policy = [OnCrash::Restart, OnCrash::Stop, OnCrash::Hold][policy];
        let mut machine = Lifecycle::new(policy);
        let (mut building, mut lanes_out, mut now) = (true, true, 0);
        for (event, pause) in events {
            let event = EVENTS[event].1;
            now += pause;
            // These three only come when they were asked for.
            match event {
                Event::Built if !building => continue,
                Event::Left if machine.state() != MachineState::Leaving => continue,
                Event::Built => building = false,
                Event::Left => lanes_out = true,
                _ => {}
            }
            match machine.on(event, now) {
                Action::Build => {
                    prop_assert!(lanes_out && !building);
                    building = true;
                }
                Action::Run => {
                    prop_assert!(lanes_out && !building);
                    lanes_out = false;
                }
                Action::Hold | Action::Stop => prop_assert!(lanes_out && !building),
                Action::Wait { until_ms, .. } => prop_assert!(lanes_out && until_ms > now && until_ms <= now + LONGEST_WAIT_MS),
                Action::Pause | Action::Resume | Action::Leave => prop_assert!(!lanes_out),
                Action::Nothing | Action::Refuse(_) => {}
            }
            prop_assert_eq!(machine.state() == MachineState::Building, building);
        }
        machine.on(Event::Operator(Command::Stop), now);
        machine.on(Event::Left, now);
        machine.on(Event::Built, now);
        prop_assert_eq!(machine.state(), MachineState::Stopped);
        prop_assert_eq!(machine.on(Event::Operator(Command::Start), now), Action::Build);
    }
}
