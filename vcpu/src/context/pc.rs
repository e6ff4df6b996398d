//! Where a guest resumes, and the one function that moves it past an instruction.

/// Bits of SPSR_EL2 (Arm ARM C5.2.19).
pub mod spsr {
    /// M\[4:0\]: execution state, Exception level and stack pointer.
    pub const MODE: u64 = 0x1f;
    /// M\[4\]: the guest was in AArch32.
    pub const AARCH32: u64 = 1 << 4;
    /// EL0 in AArch64.
    pub const EL0T: u64 = 0b00000;
    /// EL1 with SP_EL0.
    pub const EL1T: u64 = 0b00100;
    /// EL1 with SP_EL1.
    pub const EL1H: u64 = 0b00101;
    /// D, A, I and F masked.
    pub const DAIF: u64 = 0x3c0;
    /// How a lane starts: EL1h, everything masked (PSCI, DEN0022 6.4).
    pub const RESET: u64 = DAIF | EL1H;
    /// BTYPE, AArch64 only.
    pub const BTYPE: u64 = 0b11 << 10;
    /// SSBS, in the AArch64 layout.
    pub const SSBS: u64 = 1 << 12;
    /// ALLINT.
    pub const ALLINT: u64 = 1 << 13;
    /// IL: illegal execution state.
    pub const IL: u64 = 1 << 20;
    /// SS: software step.
    pub const SS: u64 = 1 << 21;
    /// PAN.
    pub const PAN: u64 = 1 << 22;
    /// UAO.
    pub const UAO: u64 = 1 << 23;
    /// DIT.
    pub const DIT: u64 = 1 << 24;
    /// TCO.
    pub const TCO: u64 = 1 << 25;
    /// N, Z, C and V.
    pub const NZCV: u64 = 0xf << 28;
    /// T of AArch32: Thumb.
    pub const T32: u64 = 1 << 5;
    /// E of AArch32: big-endian data.
    pub const E32: u64 = 1 << 9;
    /// IT\[7:2\] of AArch32.
    pub const IT_HIGH: u64 = 0x3f << 10;
    /// IT\[1:0\] of AArch32.
    pub const IT_LOW: u64 = 0b11 << 25;
}

/// The length of an instruction that was trapped (ESR_ELx.IL).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InsnLen {
    /// 16 bits: a T32 instruction.
    Two,
    /// 32 bits.
    Four,
}

impl InsnLen {
    /// The number of bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// The mode an exception came from, in the order of the vector table (Arm ARM D1.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// EL1 with SP_EL0.
    El1t,
    /// EL1 with its own stack pointer.
    El1h,
    /// EL0 in AArch64.
    El0A64,
    /// EL0 in AArch32.
    El0A32,
}

/// A guest's resumption point: its ELR_EL2 and SPSR_EL2, wherever they are kept at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Pc {
    /// The address.
    pub elr: u64,
    /// The PSTATE.
    pub spsr: u64,
}

impl Pc {
    /// The same guest one completed instruction later. The only place where a guest's PC is moved over an instruction.
    ///
    /// BTYPE and SS are cleared as the instruction itself would have cleared them, so that a branch target
    /// check or a software step that was pending takes place after it, once; in T32 the IT block advances.
    #[inline]
    #[must_use]
    pub const fn step_over(self, len: InsnLen) -> Self {
        let elr = self.elr.wrapping_add(len.bytes());
        if self.spsr & spsr::AARCH32 == 0 {
            self.step_over_a64()
        } else {
            Self {
                elr: elr & 0xffff_ffff,
                spsr: advance_it(self.spsr) & !spsr::SS,
            }
        }
    }

    /// As [`step_over`](Self::step_over), of a guest that is known to be in AArch64.
    #[inline(always)]
    #[must_use]
    pub const fn step_over_a64(self) -> Self {
        Self {
            elr: self.elr.wrapping_add(4),
            spsr: self.spsr & !(spsr::BTYPE | spsr::SS),
        }
    }

    /// Whether the guest was in EL1, in AArch64: M\[4:2\] = 0b001.
    #[inline(always)]
    #[must_use]
    pub const fn is_el1(self) -> bool {
        self.spsr & 0b1_1100 == 0b0_0100
    }

    /// Where in its vector table the guest takes an exception now.
    ///
    /// A guest never runs above EL1, so a mode that is none of the four cannot occur; it counts as EL1h.
    #[inline]
    #[must_use]
    pub const fn source(self) -> Source {
        match self.spsr & spsr::MODE {
            spsr::EL0T => Source::El0A64,
            spsr::EL1T => Source::El1t,
            mode if mode & spsr::AARCH32 != 0 => Source::El0A32,
            _ => Source::El1h,
        }
    }

    /// Whether the guest was in user mode.
    #[inline]
    #[must_use]
    pub const fn is_el0(self) -> bool {
        matches!(self.source(), Source::El0A64 | Source::El0A32)
    }
}

/// AArch32.ITAdvance (Arm ARM J1.2).
const fn advance_it(value: u64) -> u64 {
    let it = ((value & spsr::IT_HIGH) >> 8) | ((value & spsr::IT_LOW) >> 25);
    let next = if it & 0b111 == 0 {
        0
    } else {
        (it & 0b1110_0000) | ((it << 1) & 0b1_1111)
    };
    (value & !(spsr::IT_HIGH | spsr::IT_LOW)) | ((next & 0xfc) << 8) | ((next & 0b11) << 25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_moves_four_bytes_and_clears_what_an_instruction_clears() {
        let before = Pc {
            elr: 0x1000,
            spsr: spsr::EL1H | spsr::BTYPE | spsr::SS | spsr::NZCV | spsr::PAN,
        };
        let after = before.step_over(InsnLen::Four);
        assert_eq!(after.elr, 0x1004);
        assert_eq!(after.spsr, spsr::EL1H | spsr::NZCV | spsr::PAN);
    }

    #[test]
    fn the_last_address_wraps_instead_of_panicking() {
        let last = Pc {
            elr: u64::MAX - 3,
            spsr: 0,
        };
        assert_eq!(last.step_over(InsnLen::Four).elr, 0);
        let last32 = Pc {
            elr: 0xffff_fffe,
            spsr: 0x10,
        };
        assert_eq!(last32.step_over(InsnLen::Two).elr, 0);
    }

    #[test]
    fn a_thumb_it_block_advances() {
        // IT = 0b0000_1010: condition EQ, then "else" then end. Bits 7:2 sit at 15:10, bits 1:0 at 26:25.
        let it = |bits: u64| 0x30 | ((bits & 0xfc) << 8) | ((bits & 3) << 25);
        let step = |bits| {
            Pc {
                elr: 0,
                spsr: it(bits),
            }
            .step_over(InsnLen::Two)
            .spsr
        };
        assert_eq!(step(0b0000_1010), it(0b0001_0100));
        assert_eq!(
            step(0b0000_1000),
            it(0),
            "the last instruction of the block ends it"
        );
        assert_eq!(step(0b1110_0001), it(0b1110_0010));
        assert_eq!(step(0), it(0));
    }

    #[test]
    fn every_mode_has_a_source() {
        let source = |spsr| Pc { elr: 0, spsr }.source();
        assert_eq!(source(0b00000), Source::El0A64);
        assert_eq!(source(0b00100), Source::El1t);
        assert_eq!(source(0b00101), Source::El1h);
        assert_eq!(source(0b10000), Source::El0A32);
        for mode in 0..32 {
            let pc = Pc { elr: 0, spsr: mode };
            assert_eq!(pc.is_el0(), mode == 0 || mode >= 16, "mode {mode:#b}");
        }
    }
}
