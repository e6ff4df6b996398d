//! A lane's self-hosted debug registers: breakpoints, watchpoints, MDSCR_EL1, the OS lock and the claim tags.
//!
//! Every access traps (MDCR_EL2.TDA, TDOSA, TDRA). A guest reads back what it wrote; the hardware gets what is left of
//! it when everything is taken out that could concern anybody but this guest. A breakpoint or watchpoint is in the
//! hardware exactly while it is enabled, so a lane that debugs nothing has nothing to switch.
//!
//! No debug exception can be taken at EL2 in any case: MDCR_EL2.TDE is 0, so the debug target is EL1, and from above
//! it breakpoints, watchpoints and software steps are not generated (Arm ARM D2.4.1, D2.4.2).

use crate::idregs::IdRegs;

/// Breakpoints, and watchpoints, that the registers have room for.
pub const MAX: usize = 16;

/// Two kinds of register pairs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// DBGBVR and DBGBCR.
    Breakpoint,
    /// DBGWVR and DBGWCR.
    Watchpoint,
}

/// One breakpoint or watchpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Point {
    /// Which kind.
    pub kind: Kind,
    /// Its number, below [`MAX`].
    pub index: usize,
}

/// What the hardware holds for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Pair {
    /// DBGBVR or DBGWVR.
    pub value: u64,
    /// DBGBCR or DBGWCR. A point that is off has 0.
    pub control: u64,
}

/// The debug registers of a lane as its guest wrote them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DebugState {
    breakpoints: [Pair; MAX],
    watchpoints: [Pair; MAX],
    /// Which points are in the hardware: breakpoints from bit 0, watchpoints from bit 16.
    armed: u32,
    mdscr: u64,
    os_lock: bool,
    claim: u8,
}

/// DBGBCR and DBGWCR (Arm ARM D24.3.2, D24.3.11).
mod control {
    pub const E: u64 = 1;
    /// PMC or PAC: EL1 and EL0.
    pub const LEVELS: u64 = 0b11 << 1;
    /// LSC of a watchpoint.
    pub const LSC: u64 = 0b11 << 3;
    /// BAS of a breakpoint, and of a watchpoint.
    pub const BAS: u64 = 0xf << 5;
    pub const WATCH_BAS: u64 = 0xff << 5;
    /// SSC, whose value 2 names the Secure state.
    pub const SSC_SHIFT: u32 = 14;
    /// LBN.
    pub const LBN: u64 = 0xf << 16;
    /// BT.
    pub const BT: u64 = 0xf << 20;
    pub const BT_SHIFT: u32 = 20;
    /// WT.
    pub const WT: u64 = 1 << 20;
    /// MASK of a watchpoint.
    pub const MASK: u64 = 0x1f << 24;
    /// What the guest reads back: the register is 32 bits wide until FEAT_Debugv8p9.
    pub const KEPT: u64 = 0xffff_ffff;
}

/// MDSCR_EL1 (Arm ARM D24.3.20).
mod mdscr {
    pub const SS: u64 = 1;
    pub const TDCC: u64 = 1 << 12;
    pub const KDE: u64 = 1 << 13;
    pub const MDE: u64 = 1 << 15;
    /// What the guest reads back.
    pub const KEPT: u64 = 0xffff_ffff;
}

impl DebugState {
    /// A lane that has just started: nothing armed. The OS lock is set by a cold reset (Arm ARM D24.3.26).
    #[must_use]
    pub const fn reset() -> Self {
        Self {
            breakpoints: [Pair {
                value: 0,
                control: 0,
            }; MAX],
            watchpoints: [Pair {
                value: 0,
                control: 0,
            }; MAX],
            armed: 0,
            mdscr: 0,
            os_lock: true,
            claim: 0,
        }
    }

    /// MDSCR_EL1 as the guest reads it.
    #[must_use]
    pub const fn mdscr(&self) -> u64 {
        self.mdscr
    }

    /// Writes MDSCR_EL1.
    pub(crate) const fn set_mdscr(&mut self, value: u64) {
        self.mdscr = value & mdscr::KEPT;
    }

    /// MDSCR_EL1 as the hardware has it: software step, breakpoints and watchpoints work as they should, none of them
    /// while the guest's OS lock is set (Arm ARM H9.2.44). The external debugger's bits do not get through.
    #[must_use]
    pub const fn hardware_mdscr(&self) -> u64 {
        let locked = mdscr::TDCC;
        let open = locked | mdscr::SS | mdscr::KDE | mdscr::MDE;
        self.mdscr & if self.os_lock { locked } else { open }
    }

    /// OSLSR_EL1: OSLM = 0b10, an OS lock is implemented (bit 3); OSLK (bit 1).
    #[must_use]
    pub(crate) const fn os_lock_status(&self) -> u64 {
        1 << 3 | (self.os_lock as u64) << 1
    }

    /// Writes OSLAR_EL1.
    pub(crate) const fn set_os_lock(&mut self, value: u64) {
        self.os_lock = value & 1 != 0;
    }

    /// The claim tags that are set: DBGCLAIMCLR_EL1.
    #[must_use]
    pub(crate) const fn claim(&self) -> u64 {
        self.claim as u64
    }

    /// Writes DBGCLAIMSET_EL1.
    pub(crate) const fn set_claim(&mut self, value: u64) {
        self.claim |= (value & 0xff) as u8;
    }

    /// Writes DBGCLAIMCLR_EL1.
    pub(crate) const fn clear_claim(&mut self, value: u64) {
        self.claim &= !((value & 0xff) as u8);
    }

    /// A point as the guest wrote it.
    #[must_use]
    pub fn point(&self, point: Point) -> Pair {
        self.points(point.kind)
            .get(point.index)
            .copied()
            .unwrap_or_default()
    }

    /// A point as the hardware is to have it; all zero while it is off.
    #[must_use]
    pub fn hardware(&self, point: Point) -> Pair {
        let Pair { value, control } = self.point(point);
        let control = match point.kind {
            Kind::Breakpoint => breakpoint_control(control),
            Kind::Watchpoint => watchpoint_control(control),
        };
        if control & control::E == 0 {
            Pair::default()
        } else {
            Pair { value, control }
        }
    }

    /// Whether any point is in the hardware.
    #[must_use]
    pub const fn has_armed(&self) -> bool {
        self.armed != 0
    }

    /// Every point that is in the hardware while the lane is on a CPU.
    pub fn armed(&self) -> impl Iterator<Item = (Point, Pair)> {
        let mut left = self.armed;
        core::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            Point::of_bit(bit).map(|point| (point, self.hardware(point)))
        })
    }

    /// Writes one half of a point. Returns whether the hardware is to be brought up to date.
    pub(crate) fn write(&mut self, point: Point, half: Half, written: u64) -> bool {
        let before = self.hardware(point);
        let points = match point.kind {
            Kind::Breakpoint => &mut self.breakpoints,
            Kind::Watchpoint => &mut self.watchpoints,
        };
        if let Some(pair) = points.get_mut(point.index) {
            match half {
                Half::Value => pair.value = written,
                Half::Control => pair.control = written & control::KEPT,
            }
        }
        let after = self.hardware(point);
        if after.control == 0 {
            self.armed &= !point.bit();
        } else {
            self.armed |= point.bit();
        }
        before != after
    }

    const fn points(&self, kind: Kind) -> &[Pair; MAX] {
        match kind {
            Kind::Breakpoint => &self.breakpoints,
            Kind::Watchpoint => &self.watchpoints,
        }
    }
}

/// The two registers of a point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Half {
    /// DBGBVR or DBGWVR.
    Value,
    /// DBGBCR or DBGWCR.
    Control,
}

impl Half {
    /// This half of a pair.
    pub(crate) const fn of(self, pair: Pair) -> u64 {
        match self {
            Self::Value => pair.value,
            Self::Control => pair.control,
        }
    }
}

impl Point {
    /// Its bit in [`DebugState::armed`], none beyond the last.
    const fn bit(self) -> u32 {
        if self.index >= MAX {
            return 0;
        }
        match self.kind {
            Kind::Breakpoint => 1 << self.index,
            Kind::Watchpoint => 1 << (self.index + MAX),
        }
    }

    /// The point with this bit.
    const fn of_bit(bit: u32) -> Option<Self> {
        let index = bit as usize;
        match index {
            0..16 => Some(Self {
                kind: Kind::Breakpoint,
                index,
            }),
            16..32 => Some(Self {
                kind: Kind::Watchpoint,
                index: index - MAX,
            }),
            _ => None,
        }
    }

    /// The point and the half of it that DBGBVR, DBGBCR, DBGWVR and DBGWCR (op2 4 to 7) of this number (CRm) name, if
    /// the guest has so many.
    pub(crate) fn named(crm: u16, op2: u16, ids: &IdRegs) -> Option<(Self, Half)> {
        let (kind, half) = match op2 {
            4 => (Kind::Breakpoint, Half::Value),
            5 => (Kind::Breakpoint, Half::Control),
            6 => (Kind::Watchpoint, Half::Value),
            7 => (Kind::Watchpoint, Half::Control),
            _ => return None,
        };
        let index = usize::from(crm);
        (index < kind.count(ids.get(5, 0))).then_some((Self { kind, index }, half))
    }
}

impl Kind {
    /// How many a CPU with this ID_AA64DFR0_EL1 has: BRPs, bits 15:12, and WRPs, bits 23:20, are one less.
    #[must_use]
    pub const fn count(self, dfr0: u64) -> usize {
        let shift = match self {
            Self::Breakpoint => 12,
            Self::Watchpoint => 20,
        };
        ((dfr0 >> shift) & 0xf) as usize + 1
    }
}

/// DBGDIDR, the AArch32 view of ID_AA64DFR0_EL1: WRPs, BRPs, CTX_CMPs and the version, Armv8 (Arm ARM G8.3.16).
#[must_use]
pub(crate) const fn dbgdidr(dfr0: u64) -> u64 {
    let (brps, wrps, contexts) = (dfr0 >> 12 & 0xf, dfr0 >> 20 & 0xf, dfr0 >> 28 & 0xf);
    wrps << 28 | brps << 24 | contexts << 20 | 6 << 16
}

/// Whom a point may match: EL1 or EL0 of this guest. HMC and SSC, which name higher levels and the other security
/// state, never get through.
const fn concerns_the_guest(control: u64) -> bool {
    control & control::LEVELS != 0 && (control >> control::SSC_SHIFT) & 0b11 != 2
}

/// DBGBCR as the hardware may have it, 0 when it matches nothing. BT: addresses (0, 1), CONTEXTIDR_EL1 (2, 3, 6, 7);
/// not the VMID nor EL2's context, which are not the guest's. A linked context (odd) is matched through another point,
/// whose levels count.
const fn breakpoint_control(control: u64) -> u64 {
    const KEPT: u64 = control::E | control::LEVELS | control::BAS | control::LBN | control::BT;
    let bt = (control & control::BT) >> control::BT_SHIFT;
    let possible = match bt {
        0..=2 | 6 => concerns_the_guest(control),
        3 | 7 => true,
        _ => false,
    };
    if possible && control & control::E != 0 {
        control & KEPT
    } else {
        0
    }
}

/// DBGWCR as the hardware may have it, 0 when it matches nothing.
const fn watchpoint_control(control: u64) -> u64 {
    const KEPT: u64 = control::E
        | control::LEVELS
        | control::LSC
        | control::WATCH_BAS
        | control::LBN
        | control::WT
        | control::MASK;
    if concerns_the_guest(control) && control & control::E != 0 {
        control & KEPT
    } else {
        0
    }
}

#[cfg(test)]
mod tests;
