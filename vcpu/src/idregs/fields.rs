//! What becomes of each field of the identification registers.

use super::{Limits, aarch32, aarch64};

/// What becomes of one four-bit field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// The guest sees what the host has.
    Pass,
    /// The host's value, at most this: later values promise what the guest does not have.
    Cap(u8),
    /// As `Cap`, for a field in which 8 to 15 are negative and mean that something basic is absent.
    Signed(u8),
    /// Always this value.
    Is(u8),
    /// Zero: the feature is not for guests, or is not switched between them.
    Hide,
    /// The physical address range, capped by [`Limits::pa_range`].
    PaRange,
}

/// Four bits of an identification register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name: for tests, which compare the table with a text; EL2 carries none.
    #[cfg(test)]
    pub name: &'static str,
    /// Its lowest bit.
    pub shift: u8,
    /// What becomes of it.
    pub rule: Rule,
}

impl Field {
    pub(super) const fn new(name: &'static str, shift: u8, rule: Rule) -> Self {
        _ = name;
        Self {
            #[cfg(test)]
            name,
            shift,
            rule,
        }
    }

    /// The field in place, from the host's register.
    #[must_use]
    pub const fn apply(&self, host: u64, limits: Limits) -> u64 {
        let host = (host >> self.shift) & 0xf;
        let value = match self.rule {
            Rule::Pass => host,
            Rule::Cap(max) => least(host, max),
            Rule::Signed(max) => {
                if host >= 8 {
                    host
                } else {
                    least(host, max)
                }
            }
            Rule::Is(value) => value as u64 & 0xf,
            Rule::Hide => 0,
            Rule::PaRange => least(least(host, limits.pa_range), Limits::MAX.pa_range),
        };
        value << self.shift
    }

    /// The field in place, from the registers of two CPUs: what both have.
    #[must_use]
    pub const fn meet(&self, one: u64, other: u64) -> u64 {
        let (one, other) = ((one >> self.shift) & 0xf, (other >> self.shift) & 0xf);
        // Adding 8 and dropping the carry puts -8 to 7 in order.
        let bias = if matches!(self.rule, Rule::Signed(_)) {
            8
        } else {
            0
        };
        let value = if (one + bias) & 0xf < (other + bias) & 0xf {
            one
        } else {
            other
        };
        value << self.shift
    }
}

const fn least(host: u64, max: u8) -> u64 {
    let max = max as u64;
    if host < max { host } else { max }
}

/// An identification register and its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// Its name.
    pub name: &'static str,
    /// CRm, 1 to 7
    pub crm: u16,
    /// op2
    pub op2: u16,
    /// Its fields, from the lowest bit up. What they leave out reads as zero.
    pub fields: &'static [Field],
}

impl Register {
    /// The guest's value for a host that has `host`.
    #[must_use]
    pub fn apply(&self, host: u64, limits: Limits) -> u64 {
        self.fields
            .iter()
            .fold(0, |value, field| value | field.apply(host, limits))
    }

    /// The value that promises what both of two CPUs have.
    #[must_use]
    pub fn meet(&self, one: u64, other: u64) -> u64 {
        self.fields
            .iter()
            .fold(0, |value, field| value | field.meet(one, other))
    }

    /// Where the register stands in the order of the encoding.
    #[must_use]
    pub fn index(&self) -> usize {
        (usize::from(self.crm) << 3 | usize::from(self.op2)).wrapping_sub(8)
    }
}

/// The registers of AArch64.
pub const AARCH64: &[Register] = aarch64::REGISTERS;
/// The registers of AArch32. All zero where user mode cannot be AArch32.
pub const AARCH32: &[Register] = aarch32::REGISTERS;
