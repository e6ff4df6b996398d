//! The table against its golden, the search against a scan, and every access there is.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever a test does not expect fails it"
)]

use super::*;
use crate::context::Context;
use crate::debug::{Kind, Point};
use crate::idregs::{IdRegs, Limits};
use std::{format, string::String, vec::Vec};

fn reg(name: &str) -> SysReg {
    TABLE.iter().find(|row| row.name == name).unwrap().first
}

fn ids() -> IdRegs {
    IdRegs::sanitise(&|_, _| 0x1111_1111_1111_1111, Limits::MAX)
}

fn access(reg: SysReg, read: bool) -> SysRegAccess {
    SysRegAccess {
        reg,
        rt: Reg::from_field(7),
        read,
    }
}

fn run(lane: &mut Lane, reg: SysReg, write: Option<u64>) -> Action {
    let mut context = Context::new(0);
    context.set(Reg::from_field(7), write.unwrap_or(0));
    emulate(access(reg, write.is_none()), false, &ids(), lane, &context)
}

fn value(action: Action) -> u64 {
    match action {
        Action::Value(rt, value) => {
            assert_eq!(rt.number(), 7);
            value
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_table_is_the_golden() {
    let mut actual = String::new();
    for row in TABLE {
        let span = if row.first == row.last {
            format!("{}", row.first)
        } else {
            format!("{}..{}", row.first, row.last)
        };
        actual += &format!("{span:<36} {:<60} {:?}\n", row.name, row.policy);
    }
    let golden = include_str!("golden/table.txt");
    for (a, g) in actual.lines().zip(golden.lines()) {
        assert_eq!(a, g);
    }
    assert_eq!(actual, golden);
}

#[test]
fn the_search_finds_what_a_scan_finds() {
    for raw in 0..=u16::MAX {
        let reg = SysReg::from_raw(raw);
        let scan = TABLE.iter().find(|row| row.first <= reg && reg <= row.last);
        assert_eq!(lookup(reg), scan, "{reg}");
    }
}

/// Every encoding, read and written, from EL1 and from EL0: a listed policy or UNDEF, and a lane that only debug
/// registers change.
#[test]
fn every_access_has_an_answer() {
    let (ids, mut context) = (ids(), Context::new(0));
    context.set(Reg::from_field(7), u64::MAX);
    for raw in 0..=u16::MAX {
        let reg = SysReg::from_raw(raw);
        for (read, el0) in [(true, false), (false, false), (true, true), (false, true)] {
            let mut lane = Lane::reset();
            let action = emulate(access(reg, read), el0, &ids, &mut lane, &context);
            let listed = lookup(reg).map(|row| row.policy);
            let undef = matches!(action, Action::Undefined(_));
            if listed.is_none() || el0 && reg.op1() != 3 {
                assert_eq!(action, Action::Undefined(Why::Unlisted), "{reg}");
            }
            if let Some(Policy::Undef(why)) = listed {
                assert!(undef, "{reg}");
                assert!(el0 || action == Action::Undefined(why));
            }
            if read && !undef {
                assert!(matches!(action, Action::Value(_, _)), "{reg} {action:?}");
            }
            let changed = lane != Lane::reset();
            // OSLAR_EL1 and DBGCLAIMCLR_EL1 would change it too, but not from what it is after reset.
            let kept = matches!(
                listed,
                Some(Policy::Mdscr | Policy::DebugPoint | Policy::ClaimSet)
            );
            assert_eq!(changed, !read && !undef && kept, "{reg}");
        }
    }
}

#[test]
fn identification_registers_read_as_the_guest_has_them_and_cannot_be_written() {
    let ids = ids();
    for crm in 1..8 {
        for op2 in 0..8 {
            let reg = SysReg::new(3, 0, 0, crm, op2);
            let mut lane = Lane::reset();
            assert_eq!(value(run(&mut lane, reg, None)), ids.get(crm, op2), "{reg}");
            assert!(matches!(run(&mut lane, reg, Some(1)), Action::Undefined(_)));
        }
    }
}

#[test]
fn mdscr_reads_back_and_acts_once_the_os_lock_is_off() {
    let mut lane = Lane::reset();
    let (mdscr, oslar) = (reg("MDSCR_EL1"), reg("OSLAR_EL1"));
    assert_eq!(value(run(&mut lane, mdscr, None)), 0);
    // MDE (15), KDE (13), TDCC (12), SS (0).
    assert_eq!(run(&mut lane, mdscr, Some(0xb001)), Action::Mdscr(0x1000));
    assert_eq!(value(run(&mut lane, mdscr, None)), 0xb001);
    assert_eq!(run(&mut lane, oslar, Some(0)), Action::Mdscr(0xb001));
    assert_eq!(run(&mut lane, mdscr, Some(u64::MAX)), Action::Mdscr(0xb001));
    assert_eq!(value(run(&mut lane, mdscr, None)), 0xffff_ffff);
    assert_eq!(run(&mut lane, oslar, Some(1)), Action::Mdscr(0x1000));
}

#[test]
fn the_os_lock_locks_and_unlocks() {
    let mut lane = Lane::reset();
    let (oslar, oslsr) = (reg("OSLAR_EL1"), reg("OSLSR_EL1"));
    assert_eq!(
        value(run(&mut lane, oslsr, None)),
        0b1010,
        "locked by reset"
    );
    assert_eq!(run(&mut lane, oslar, Some(0)), Action::Mdscr(0));
    assert_eq!(value(run(&mut lane, oslsr, None)), 0b1000);
    assert_eq!(run(&mut lane, oslar, Some(3)), Action::Mdscr(0));
    assert_eq!(value(run(&mut lane, oslsr, None)), 0b1010);
    assert!(
        matches!(run(&mut lane, oslar, None), Action::Undefined(_)),
        "write-only"
    );
    assert!(
        matches!(run(&mut lane, oslsr, Some(0)), Action::Undefined(_)),
        "read-only"
    );
}

#[test]
fn gic_registers_are_write_only_and_sre_is_fixed() {
    let mut lane = Lane::reset();
    for (name, register) in [
        ("ICC_SGI0R_EL1", Gic::Sgi0r),
        ("ICC_SGI1R_EL1", Gic::Sgi1r),
        ("ICC_ASGI1R_EL1", Gic::Asgi1r),
        ("ICC_DIR_EL1", Gic::Dir),
    ] {
        let value = 0x0100_0001;
        assert_eq!(
            run(&mut lane, reg(name), Some(value)),
            Action::Sgi { register, value }
        );
        assert!(matches!(
            run(&mut lane, reg(name), None),
            Action::Undefined(_)
        ));
    }
    assert_eq!(value(run(&mut lane, reg("ICC_SRE_EL1"), None)), 7);
    assert_eq!(run(&mut lane, reg("ICC_SRE_EL1"), Some(0)), Action::Done);
}

#[test]
fn set_way_is_handed_on_and_constants_are_constant() {
    let mut lane = Lane::reset();
    for name in ["DC ISW", "DC CSW", "DC CISW"] {
        assert_eq!(run(&mut lane, reg(name), Some(u64::MAX)), Action::SetWay);
        assert!(matches!(
            run(&mut lane, reg(name), None),
            Action::Undefined(_)
        ));
    }
    assert_eq!(value(run(&mut lane, reg("MDRAR_EL1"), None)), 0);
    assert!(matches!(
        run(&mut lane, reg("MDRAR_EL1"), Some(0)),
        Action::Undefined(_)
    ));
    assert_eq!(value(run(&mut lane, reg("REVIDR_EL1"), None)), 0);
}

#[test]
fn a_point_is_kept_and_handed_on_when_it_is_on() {
    let mut lane = Lane::reset();
    // BRPs = WRPs = 1: two of each.
    let (bvr1, bcr1) = (SysReg::new(2, 0, 0, 1, 4), SysReg::new(2, 0, 0, 1, 5));
    let point = Point {
        kind: Kind::Breakpoint,
        index: 1,
    };
    assert_eq!(run(&mut lane, bvr1, Some(0x1234)), Action::Done);
    assert_eq!(run(&mut lane, bcr1, Some(0x21e3)), Action::Debug(point));
    assert_eq!(value(run(&mut lane, bcr1, None)), 0x21e3);
    assert_eq!(value(run(&mut lane, bvr1, None)), 0x1234);
    let hardware = lane.debug.hardware(point);
    assert_eq!((hardware.value, hardware.control), (0x1234, 0x1e3));
    let watch = SysReg::new(2, 0, 0, 0, 7);
    assert_eq!(
        run(&mut lane, watch, Some(0x1ff7)),
        Action::Debug(Point {
            kind: Kind::Watchpoint,
            index: 0
        })
    );
    for op2 in 4..8 {
        let absent = SysReg::new(2, 0, 0, 2, op2);
        assert_eq!(
            run(&mut lane, absent, None),
            Action::Undefined(Why::Unlisted),
            "BRPs and WRPs say two"
        );
        let before = lane;
        assert!(matches!(
            run(&mut lane, absent, Some(1)),
            Action::Undefined(_)
        ));
        assert_eq!(lane, before);
    }
}

#[test]
fn claim_tags_can_be_set_seen_and_cleared() {
    let mut lane = Lane::reset();
    let (set, clear) = (reg("DBGCLAIMSET_EL1"), reg("DBGCLAIMCLR_EL1"));
    assert_eq!(run(&mut lane, set, Some(0x1f0)), Action::Done);
    assert_eq!(value(run(&mut lane, set, None)), 0xff);
    assert_eq!(value(run(&mut lane, clear, None)), 0xf0);
    assert_eq!(run(&mut lane, clear, Some(0x30)), Action::Done);
    assert_eq!(value(run(&mut lane, clear, None)), 0xc0);
}

#[test]
fn no_el2_or_el3_register_is_listed() {
    let high: Vec<_> = TABLE
        .iter()
        .filter(|row| row.first.op0() == 3 && row.last.op1() >= 4)
        .collect();
    assert!(high.is_empty(), "{high:?}");
}

#[test]
fn a_store_of_xzr_writes_zero() {
    let mut lane = Lane::reset();
    let access = SysRegAccess {
        reg: reg("OSLAR_EL1"),
        rt: Reg::XZR,
        read: false,
    };
    assert_eq!(
        emulate(access, false, &ids(), &mut lane, &Context::new(0)),
        Action::Mdscr(0)
    );
    assert_eq!(value(run(&mut lane, reg("OSLSR_EL1"), None)), 0b1000);
}

#[test]
fn fields_go_in_and_come_out() {
    let r = SysReg::new(3, 5, 12, 11, 6);
    assert_eq!(
        (r.op0(), r.op1(), r.crn(), r.crm(), r.op2()),
        (3, 5, 12, 11, 6)
    );
    assert_eq!(format!("{r} {r:?}"), "S3_5_C12_C11_6 S3_5_C12_C11_6");
    assert_eq!(SysReg::from_raw(r.raw()), r);
    assert_eq!(
        SysReg::new(u16::MAX, u16::MAX, u16::MAX, u16::MAX, u16::MAX).raw(),
        u16::MAX
    );
}
