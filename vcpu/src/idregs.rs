//! The identification registers a guest reads.
//!
//! They are computed once, from the host's own, and are the same on every lane of a guest. [`AARCH64`] and [`AARCH32`] name every
//! field of every register together with what becomes of it; a bit that no row names reads as zero, and so do all
//! reserved registers. A field may pass only if the guest really has what it promises.

mod aarch32;
mod aarch64;
mod fields;

pub use fields::{AARCH32, AARCH64, Field, Register, Rule};

use crate::sysreg::SysReg;

/// The registers op0 = 3, op1 = 0, CRn = 0, CRm 1 to 7, op2 0 to 7.
pub const COUNT: usize = 56;

/// What a guest is given less of than the host has, by configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// The encoding of the physical address range, ID_AA64MMFR0_EL1.PARange, that stage 2 can translate.
    pub pa_range: u8,
}

impl Limits {
    /// 48 bits, the most that a 4 KiB granule offers without FEAT_LPA2.
    pub const MAX: Self = Self { pa_range: 5 };
}

/// A guest's identification registers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdRegs {
    values: [u64; COUNT],
}

impl IdRegs {
    /// Computes a guest's view of a host whose registers `host(crm, op2)` reads.
    #[must_use]
    pub fn sanitise(host: &impl Fn(u16, u16) -> u64, limits: Limits) -> Self {
        let mut values = [0; COUNT];
        let aarch32 = if aarch32_at_el0(host) { AARCH32 } else { &[] };
        for table in [AARCH64, aarch32] {
            for register in table {
                if let Some(value) = values.get_mut(register.index()) {
                    *value = register.apply(host(register.crm, register.op2), limits);
                }
            }
        }
        Self { values }
    }

    /// What all of these CPUs have, given what each of them could offer alone: for a guest whose lanes run on CPUs that
    /// differ. Every field is the least of them; one that is negative where a feature is absent counts as signed.
    #[must_use]
    pub fn common<'a>(first: &Self, others: impl IntoIterator<Item = &'a Self>) -> Self {
        others
            .into_iter()
            .fold(first.clone(), |common, cpu| common.meet(cpu))
    }

    fn meet(&self, other: &Self) -> Self {
        let mut common = Self { values: [0; COUNT] };
        for table in [AARCH64, AARCH32] {
            for register in table {
                let index = register.index();
                if let Some(value) = common.values.get_mut(index) {
                    *value = register.meet(self.by_index(index), other.by_index(index));
                }
            }
        }
        common
    }

    /// The first register in which a guest with these values would be promised more than `cpu` has.
    #[must_use]
    pub fn exceeds(&self, cpu: &Self) -> Option<&'static str> {
        for table in [AARCH64, AARCH32] {
            for register in table {
                let index = register.index();
                let promised = self.by_index(index);
                if register.meet(promised, cpu.by_index(index)) != promised {
                    return Some(register.name);
                }
            }
        }
        None
    }

    /// The register with this CRm, 1 to 7, and op2. Zero for any other.
    #[inline]
    #[must_use]
    pub fn get(&self, crm: u16, op2: u16) -> u64 {
        if crm == 0 || op2 > 7 {
            return 0;
        }
        self.by_index((usize::from(crm) - 1) * 8 + usize::from(op2))
    }

    /// The register at `index`, counted in the order of the encoding from ID_PFR0_EL1. Zero beyond the last.
    #[inline]
    #[must_use]
    pub fn by_index(&self, index: usize) -> u64 {
        self.values.get(index).copied().unwrap_or(0)
    }

    /// The value of the identification register that a trapped MRS with this ISS reads, for the hot path: one mask
    /// and one comparison tell whether it is one. `None` for any other register and for writes.
    #[inline]
    #[must_use]
    pub fn read(&self, iss: u32) -> Option<u64> {
        // Op0, Op1, CRn and the direction: everything but Op2, CRm and Rt.
        const MASK: u32 = 3 << 20 | 7 << 14 | 15 << 10 | 1;
        const MRS_ID: u32 = 3 << 20 | 1;
        if iss & MASK != MRS_ID {
            return None;
        }
        // CRm - 1 in bits 5:3; CRm 0 wraps far beyond the array, CRm 8 and above lie beyond it.
        let index = (((iss >> 1) & 15) << 3 | (iss >> 17) & 7).wrapping_sub(8);
        self.values.get(usize::try_from(index).ok()?).copied()
    }

    /// The encoding of the register at `index`, below [`COUNT`].
    #[must_use]
    pub fn register(index: usize) -> Option<SysReg> {
        let index = u16::try_from(index)
            .ok()
            .filter(|i| usize::from(*i) < COUNT)?;
        Some(SysReg::new(3, 0, 0, 1 + (index >> 3), index & 7))
    }
}

/// Whether the host runs AArch32 at EL0 (ID_AA64PFR0_EL1.EL0 = 2). A guest may then too, at EL0 only.
fn aarch32_at_el0(host: &impl Fn(u16, u16) -> u64) -> bool {
    host(4, 0) & 0xf == 2
}

#[cfg(test)]
mod tests;
