//! What a lane's registers hold while it is not running.
//!
//! The vector, in assembly, writes [`Context`] and knows its layout by `offset_of!`; everything else here is
//! touched only by a world switch. General registers are named by [`Reg`], whose number 31 is the zero
//! register of a transfer instruction: no guest can make EL2 index past the array with it.

mod el1;
mod fp;
mod pc;

pub use el1::El1State;
pub use fp::FpState;
pub use pc::{InsnLen, Pc, Source, spsr};

/// A transfer register of an A64 instruction: X0 to X30, or the zero register (Arm ARM C1.2.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Reg(u8);

impl Reg {
    /// The zero register: reads as zero, discards writes.
    pub const XZR: Self = Self(31);

    /// The register that the low five bits of an instruction or syndrome field name.
    #[inline]
    #[must_use]
    pub const fn from_field(bits: u64) -> Self {
        Self((bits & 31) as u8)
    }

    /// Its number, 0 to 31; 31 is the zero register.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// The general registers of a stopped lane, and what the vector needs beside them.
///
/// `elr` and `spsr` are valid after a full exit only: the hot path leaves both in their system registers.
#[repr(C, align(16))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// X0 to X30.
    pub x: [u64; 31],
    /// ELR_EL2: where the guest resumes.
    pub elr: u64,
    /// SPSR_EL2: the guest's PSTATE.
    pub spsr: u64,
    /// EL2's own stack pointer while the guest runs.
    pub host_sp: u64,
    /// For the vector's own use; keeps the size a multiple of 16.
    pub reserved: [u64; 2],
}

impl Context {
    /// A lane about to execute its first instruction: EL1h, interrupts masked, all registers zero.
    #[must_use]
    pub const fn new(entry: u64) -> Self {
        Self {
            x: [0; 31],
            elr: entry,
            spsr: spsr::RESET,
            host_sp: 0,
            reserved: [0; 2],
        }
    }

    /// The value of `reg`; zero for XZR.
    #[inline]
    #[must_use]
    pub fn get(&self, reg: Reg) -> u64 {
        self.x.get(usize::from(reg.0)).copied().unwrap_or(0)
    }

    /// Writes `reg`; nothing happens for XZR.
    #[inline]
    pub fn set(&mut self, reg: Reg, value: u64) {
        if let Some(x) = self.x.get_mut(usize::from(reg.0)) {
            *x = value;
        }
    }

    /// Where the guest is, as the one function that moves a guest's PC wants it.
    #[inline]
    #[must_use]
    pub const fn pc(&self) -> Pc {
        Pc {
            elr: self.elr,
            spsr: self.spsr,
        }
    }

    /// Sets where the guest resumes.
    #[inline]
    pub const fn set_pc(&mut self, pc: Pc) {
        self.elr = pc.elr;
        self.spsr = pc.spsr;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn register_31_is_zero_and_never_an_index() {
        let mut context = Context::new(0x4000_0000);
        for n in 0..32 {
            context.set(Reg::from_field(n), n + 100);
        }
        for n in 0..31 {
            assert_eq!(context.get(Reg::from_field(n)), n + 100);
        }
        assert_eq!(context.get(Reg::XZR), 0);
        assert_eq!(context.elr, 0x4000_0000, "X31 did not reach past the array");
        assert_eq!(Reg::from_field(u64::MAX), Reg::XZR);
        assert_eq!(Reg::from_field(32).number(), 0);
    }

    #[test]
    fn the_vector_can_rely_on_the_layout() {
        assert_eq!(offset_of!(Context, x), 0);
        assert_eq!(offset_of!(Context, elr), 31 * 8);
        assert_eq!(offset_of!(Context, spsr), 32 * 8);
        assert_eq!(offset_of!(Context, host_sp), 33 * 8);
        assert_eq!(size_of::<Context>() % 16, 0);
        assert_eq!(align_of::<Context>(), 16);
    }

    #[test]
    fn a_new_lane_starts_at_el1h_with_everything_masked() {
        let context = Context::new(4);
        assert_eq!(context.spsr, 0x3c5);
        assert_eq!(context.pc().source(), Source::El1h);
        assert_eq!(context.x, [0; 31]);
    }

    #[test]
    fn the_pc_round_trips() {
        let mut context = Context::new(0);
        let pc = Pc {
            elr: 8,
            spsr: spsr::EL1T,
        };
        context.set_pc(pc);
        assert_eq!(context.pc(), pc);
    }
}
