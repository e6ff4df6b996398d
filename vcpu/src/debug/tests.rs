//! What of a guest's debug registers reaches the hardware.

use super::*;
use proptest::prelude::*;
use std::{vec, vec::Vec};

const HMC: u64 = 1 << 13;
const SSC: u64 = 0b11 << 14;

fn point(kind: Kind, index: usize) -> Point {
    Point { kind, index }
}

fn control(kind: Kind, control: u64) -> u64 {
    let mut state = DebugState::reset();
    state.write(point(kind, 3), Half::Control, control);
    state.hardware(point(kind, 3)).control
}

#[test]
fn a_plain_breakpoint_and_a_plain_watchpoint_get_through() {
    // What Linux writes: EL1 (PMC 1) or EL0 (PMC 2), all four bytes; stores of eight bytes.
    for written in [0x1e3, 0x1e5, 0x1e7] {
        assert_eq!(control(Kind::Breakpoint, written), written);
    }
    for written in [0x1ff3, 0x1ff5, 0x1fed, 0x1fff] {
        assert_eq!(control(Kind::Watchpoint, written), written);
    }
    let linked = 1 << 20 | 5 << 16 | 0x1e3;
    assert_eq!(control(Kind::Breakpoint, linked), linked);
    let context = 3 << 20 | 0x1e1;
    assert_eq!(control(Kind::Breakpoint, context), context);
    let masked = 12 << 24 | 1 << 20 | 5 << 16 | 0x1ff7;
    assert_eq!(control(Kind::Watchpoint, masked), masked);
}

/// Every BT, HMC, SSC, PMC and E.
#[test]
fn nothing_that_names_another_level_or_state_gets_through() {
    for bits in 0..1_u64 << 10 {
        let (e, pmc, hmc, ssc) = (bits & 1, bits >> 1 & 3, bits >> 3 & 1, bits >> 4 & 3);
        let bt = bits >> 6;
        let written = e | pmc << 1 | 0xf << 5 | hmc << 13 | ssc << 14 | bt << 20;
        let seen = control(Kind::Breakpoint, written);
        assert_eq!(seen & (HMC | SSC), 0);
        assert!(seen == 0 || seen & 1 == 1);
        let linked_context = bt == 3 || bt == 7;
        let own = matches!(bt, 0..=3 | 6..=7) && (pmc != 0 && ssc != 2 || linked_context);
        assert_eq!(seen != 0, e == 1 && own, "{written:#x}");
        if seen != 0 {
            assert_eq!(seen, written & !(HMC | SSC));
        }
        let watch = control(Kind::Watchpoint, written | 3 << 3);
        assert_eq!(watch & (HMC | SSC), 0);
        assert_eq!(watch != 0, e == 1 && pmc != 0 && ssc != 2, "{written:#x}");
    }
}

#[test]
fn the_hardware_is_told_of_what_changes_for_it_and_of_nothing_else() {
    let mut state = DebugState::reset();
    let first = point(Kind::Breakpoint, 0);
    assert!(
        !state.write(first, Half::Value, 0x1000),
        "off: nobody needs to know"
    );
    assert_eq!(state.armed().count(), 0);
    assert!(state.write(first, Half::Control, 0x1e3));
    let pair = Pair {
        value: 0x1000,
        control: 0x1e3,
    };
    assert_eq!(state.armed().collect::<Vec<_>>(), vec![(first, pair)]);
    assert!(!state.write(first, Half::Control, 0x1e3 | HMC));
    assert_eq!(
        state.point(first).control,
        0x1e3 | HMC,
        "the guest reads what it wrote"
    );
    assert!(state.write(first, Half::Value, 0x2000), "on: it moves");
    assert!(state.write(first, Half::Control, 0));
    assert_eq!(state.hardware(first), Pair::default());
    assert_eq!(state.point(first).value, 0x2000);
}

#[test]
fn the_os_lock_keeps_everything_from_firing() {
    let mut state = DebugState::reset();
    state.set_mdscr(u64::MAX);
    assert_eq!(state.hardware_mdscr(), 1 << 12, "locked by reset");
    assert_eq!(state.os_lock_status(), 0b1010);
    state.set_os_lock(0);
    assert_eq!(state.hardware_mdscr(), 0xb001);
    assert_eq!(state.os_lock_status(), 0b1000);
    assert_eq!(state.mdscr(), 0xffff_ffff);
    state.set_os_lock(3);
    assert_eq!(state.hardware_mdscr(), 1 << 12);
}

#[test]
fn claim_tags_are_set_and_cleared_one_by_one() {
    let mut state = DebugState::reset();
    state.set_claim(0x1_0f0f);
    assert_eq!(state.claim(), 0x0f);
    state.clear_claim(0xffff_ff05);
    assert_eq!(state.claim(), 0x0a);
}

#[test]
fn a_number_beyond_the_last_names_nothing() {
    let ids = |dfr0: u64| {
        IdRegs::sanitise(
            &move |crm, op2| if (crm, op2) == (5, 0) { dfr0 } else { 0 },
            crate::idregs::Limits::MAX,
        )
    };
    let a57 = ids(0x1030_5006);
    for crm in 0..16 {
        let breakpoint = Point::named(crm, 4, &a57);
        assert_eq!(breakpoint.is_some(), crm < 6);
        assert_eq!(Point::named(crm, 7, &a57).is_some(), crm < 4);
        assert_eq!(Point::named(crm, 3, &a57), None);
        let most = ids(0xf0_f006);
        assert!(Point::named(crm, 5, &most).is_some());
        assert!(Point::named(crm, 6, &most).is_some());
    }
    assert_eq!(
        Point::named(5, 5, &a57),
        Some((point(Kind::Breakpoint, 5), Half::Control))
    );
}

proptest! {
    /// What is armed is what the hardware has, after any writes, and every change was told.
    #[test]
    fn the_hardware_follows(writes in proptest::collection::vec((any::<bool>(), 0..18_usize, any::<bool>(), any::<u64>()), 1..64)) {
        let mut state = DebugState::reset();
        let mut hardware = std::collections::HashMap::new();
        for (breakpoint, index, control, value) in writes {
            let kind = if breakpoint { Kind::Breakpoint } else { Kind::Watchpoint };
            let half = if control { Half::Control } else { Half::Value };
            let point = Point { kind, index };
            if state.write(point, half, value) {
                hardware.insert((breakpoint, index), state.hardware(point));
            }
        }
        hardware.retain(|_, pair| pair.control != 0);
        let armed: std::collections::HashMap<_, _> = state
            .armed()
            .map(|(point, pair)| ((point.kind == Kind::Breakpoint, point.index), pair))
            .collect();
        prop_assert_eq!(armed, hardware);
    }
}
