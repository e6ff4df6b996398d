//! What an access to a trapped register does to the guest and asks of EL2.

use super::table::{Gic, ID_FIRST, Policy, Why, lookup};
use super::{SysReg, SysRegAccess};
use crate::context::{Context, Reg};
use crate::debug::{DebugState, Point};
use crate::idregs::IdRegs;

/// The trapped registers that a lane keeps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lane {
    /// The debug registers.
    pub debug: DebugState,
}

impl Lane {
    /// A lane that has just started.
    #[must_use]
    pub const fn reset() -> Self {
        Self {
            debug: DebugState::reset(),
        }
    }
}

/// What is to be done about a trapped access. Unless it is [`Action::Undefined`], the guest's PC moves past it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum Action {
    /// Put the value into the register.
    Value(Reg, u64),
    /// Nothing: the write was kept, or ignored.
    Done,
    /// Load this into the hardware's MDSCR_EL1.
    Mdscr(u64),
    /// Bring the hardware's breakpoint or watchpoint up to date with the lane's.
    Debug(Point),
    /// The GIC CPU interface was written: a software-generated interrupt, or a deactivation ([`Gic::Dir`]).
    Sgi {
        /// Through which register.
        register: Gic,
        /// What was written.
        value: u64,
    },
    /// Cache maintenance by set and way. The architecture gives it no meaning for a guest, which owns no whole cache;
    /// what it is used for is to clean the guest's memory before caches go off or on. EL2 must neither run it with the
    /// guest's operand, which may name no set, nor invalidate without cleaning.
    SetWay,
    /// UNDEF into the guest.
    Undefined(Why),
}

/// Judges one access. `el0` tells that user mode made it: only registers with an EL0 encoding have a meaning there.
pub fn emulate(
    access: SysRegAccess,
    el0: bool,
    ids: &IdRegs,
    lane: &mut Lane,
    context: &Context,
) -> Action {
    let Some(row) = lookup(access.reg) else {
        return Action::Undefined(Why::Unlisted);
    };
    if el0 && access.reg.op1() != 3 {
        return Action::Undefined(Why::Unlisted);
    }
    if access.read {
        read(access, row.policy, ids, lane)
    } else {
        write(access, row.policy, ids, lane, context)
    }
}

fn read(access: SysRegAccess, policy: Policy, ids: &IdRegs, lane: &Lane) -> Action {
    let value = match policy {
        Policy::Id => id_value(access.reg, ids),
        Policy::RazWi | Policy::Raz => 0,
        Policy::Mdscr => lane.debug.mdscr(),
        Policy::DebugPoint => match Point::named(access.reg.crm(), access.reg.op2(), ids) {
            Some((point, half)) => half.of(lane.debug.point(point)),
            None => return Action::Undefined(Why::Unlisted),
        },
        Policy::OsLockStatus => lane.debug.os_lock_status(),
        // The claim tags that exist: all eight.
        Policy::ClaimSet => 0xff,
        Policy::ClaimClear => lane.debug.claim(),
        // DIB, DFB and SRE: no bypass, system registers only.
        Policy::Gic(Gic::Sre) => 0b111,
        Policy::Wi
        | Policy::OsLock
        | Policy::SetWay
        | Policy::Gic(Gic::Sgi0r | Gic::Sgi1r | Gic::Asgi1r | Gic::Dir) => {
            return Action::Undefined(Why::Unlisted);
        }
        Policy::Undef(why) => return Action::Undefined(why),
    };
    Action::Value(access.rt, value)
}

fn write(
    access: SysRegAccess,
    policy: Policy,
    ids: &IdRegs,
    lane: &mut Lane,
    context: &Context,
) -> Action {
    let value = context.get(access.rt);
    let debug = &mut lane.debug;
    match policy {
        Policy::RazWi | Policy::Wi | Policy::Gic(Gic::Sre) => Action::Done,
        Policy::Mdscr => {
            debug.set_mdscr(value);
            Action::Mdscr(debug.hardware_mdscr())
        }
        Policy::OsLock => {
            debug.set_os_lock(value);
            Action::Mdscr(debug.hardware_mdscr())
        }
        Policy::DebugPoint => match Point::named(access.reg.crm(), access.reg.op2(), ids) {
            Some((point, half)) if debug.write(point, half, value) => Action::Debug(point),
            Some(_) => Action::Done,
            None => Action::Undefined(Why::Unlisted),
        },
        Policy::ClaimSet => {
            debug.set_claim(value);
            Action::Done
        }
        Policy::ClaimClear => {
            debug.clear_claim(value);
            Action::Done
        }
        Policy::Gic(register @ (Gic::Sgi0r | Gic::Sgi1r | Gic::Asgi1r | Gic::Dir)) => {
            Action::Sgi { register, value }
        }
        Policy::SetWay => Action::SetWay,
        Policy::Id | Policy::Raz | Policy::OsLockStatus => Action::Undefined(Why::Unlisted),
        Policy::Undef(why) => Action::Undefined(why),
    }
}

fn id_value(reg: SysReg, ids: &IdRegs) -> u64 {
    ids.by_index(usize::from(reg.raw().wrapping_sub(ID_FIRST)))
}
