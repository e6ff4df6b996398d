//! Trapped system registers: one table, and what an access to each does.
//!
//! [`TABLE`] lists every register that the trap bits EL2 sets can bring here, each with its policy; an access to
//! anything else is UNDEF into the guest. Identification registers are one contiguous range of the encoding, so the
//! commonest trapped read is an index into [`IdRegs`](crate::idregs::IdRegs).

pub mod cp14;
mod emulate;
mod table;

pub use emulate::{Action, Lane, emulate};
pub use table::{Gic, Policy, Row, TABLE, Why, lookup};

use crate::context::Reg;
use core::fmt;

/// The encoding of a system register or instruction: op0, op1, CRn, CRm and op2 in sixteen bits, in that order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SysReg(u16);

impl SysReg {
    /// The register with these fields. Each is cut to its own width.
    #[must_use]
    pub const fn new(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> Self {
        Self(
            ((op0 & 3) << 14)
                | ((op1 & 7) << 11)
                | ((crn & 15) << 7)
                | ((crm & 15) << 3)
                | (op2 & 7),
        )
    }

    /// The register that ISS of class 0x18 names: Op0 21:20, Op2 19:17, Op1 16:14, CRn 13:10, CRm 4:1.
    #[inline]
    #[must_use]
    pub const fn from_iss(iss: u32) -> Self {
        Self(
            (((iss >> 20) & 3) as u16) << 14
                | (((iss >> 14) & 7) as u16) << 11
                | (((iss >> 10) & 15) as u16) << 7
                | (((iss >> 1) & 15) as u16) << 3
                | ((iss >> 17) & 7) as u16,
        )
    }

    /// The sixteen bits.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// The register with these sixteen bits.
    #[inline]
    #[must_use]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// op0
    #[must_use]
    pub const fn op0(self) -> u16 {
        self.0 >> 14
    }

    /// op1
    #[must_use]
    pub const fn op1(self) -> u16 {
        (self.0 >> 11) & 7
    }

    /// CRn
    #[must_use]
    pub const fn crn(self) -> u16 {
        (self.0 >> 7) & 15
    }

    /// CRm
    #[must_use]
    pub const fn crm(self) -> u16 {
        (self.0 >> 3) & 15
    }

    /// op2
    #[must_use]
    pub const fn op2(self) -> u16 {
        self.0 & 7
    }
}

impl fmt::Debug for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `S3_0_C1_C0_1`, as assemblers write it.
impl fmt::Display for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "S{}_{}_C{}_C{}_{}",
            self.op0(),
            self.op1(),
            self.crn(),
            self.crm(),
            self.op2()
        )
    }
}

/// A trapped MSR, MRS or system instruction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SysRegAccess {
    /// What is accessed.
    pub reg: SysReg,
    /// The general register.
    pub rt: Reg,
    /// MRS rather than MSR.
    pub read: bool,
}

#[cfg(test)]
mod tests;
