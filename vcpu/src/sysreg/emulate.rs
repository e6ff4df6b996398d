//! What an access to a trapped register does to the guest and asks of EL2.

use super::table::{Gic, ID_FIRST, Policy, Why, lookup};
use super::{SysReg, SysRegAccess};
use crate::context::{Context, Reg};
use crate::idregs::IdRegs;

/// The trapped registers that a lane keeps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lane {
    mdscr: u64,
    os_lock: bool,
}

impl Lane {
    /// A lane that has just started. The OS lock is set by a cold reset (Arm ARM D24.3.26).
    pub const RESET: Self = Self {
        mdscr: 0,
        os_lock: true,
    };

    /// MDSCR_EL1 as the guest reads it.
    #[must_use]
    pub const fn mdscr(&self) -> u64 {
        self.mdscr
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

/// MDSCR_EL1 bits that the guest can read back.
const MDSCR_KEPT: u64 = 0xffff_ffff;
/// SS, TDCC and KDE.
const MDSCR_HARMLESS: u64 = 1 | 1 << 12 | 1 << 13;

/// The part of the guest's MDSCR_EL1 that the hardware may see: software step works as it should; MDE, which arms
/// breakpoints that the guest does not have, and the external debugger's bits do not get through.
#[inline]
#[must_use]
pub const fn hardware_mdscr(mdscr: u64) -> u64 {
    mdscr & MDSCR_HARMLESS
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
        write(access, row.policy, lane, context)
    }
}

fn read(access: SysRegAccess, policy: Policy, ids: &IdRegs, lane: &Lane) -> Action {
    let value = match policy {
        Policy::Id => id_value(access.reg, ids),
        Policy::Constant(value) => value,
        Policy::RazWi | Policy::Raz => 0,
        Policy::Mdscr => lane.mdscr,
        // OSLM = 0b10, an OS lock is implemented (bit 3); OSLK (bit 1).
        Policy::OsLockStatus => 1 << 3 | u64::from(lane.os_lock) << 1,
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

fn write(access: SysRegAccess, policy: Policy, lane: &mut Lane, context: &Context) -> Action {
    let value = context.get(access.rt);
    match policy {
        Policy::RazWi | Policy::Wi | Policy::Gic(Gic::Sre) => Action::Done,
        Policy::Mdscr => {
            lane.mdscr = value & MDSCR_KEPT;
            Action::Mdscr(hardware_mdscr(lane.mdscr))
        }
        Policy::OsLock => {
            lane.os_lock = value & 1 != 0;
            Action::Done
        }
        Policy::Gic(register @ (Gic::Sgi0r | Gic::Sgi1r | Gic::Asgi1r | Gic::Dir)) => {
            Action::Sgi { register, value }
        }
        Policy::SetWay => Action::SetWay,
        Policy::Id | Policy::Constant(_) | Policy::Raz | Policy::OsLockStatus => {
            Action::Undefined(Why::Unlisted)
        }
        Policy::Undef(why) => Action::Undefined(why),
    }
}

fn id_value(reg: SysReg, ids: &IdRegs) -> u64 {
    ids.by_index(usize::from(reg.raw().wrapping_sub(ID_FIRST)))
}
