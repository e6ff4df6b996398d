//! What a guest is told of firmware mitigations.
//!
//! No call of a guest reaches the firmware, so a mitigation can be *not required* or unknown, never offered. It is not
//! required where every CPU says so in its ID registers, or is one of the in-order cores that Arm lists as not
//! affected. Sources: Arm ARM D24.2 (CSV2, ECBHB), DEN0028 7.5 to 7.7, Arm's processor vulnerability pages for
//! CVE-2017-5715, CVE-2018-3639 and CVE-2022-23960.

/// What a guest is told of a firmware mitigation. It must be true of every CPU the guest can run on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Workaround {
    /// Nothing is known: a cautious guest reports itself vulnerable.
    #[default]
    Unknown,
    /// No CPU needs it; calling it does nothing.
    NotRequired,
}

/// What the machine's CPUs need.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Workarounds {
    /// SMCCC_ARCH_WORKAROUND_1, branch target injection (CVE-2017-5715).
    pub w1: Workaround,
    /// SMCCC_ARCH_WORKAROUND_2, speculative store bypass (CVE-2018-3639).
    pub w2: Workaround,
    /// SMCCC_ARCH_WORKAROUND_3, branch history (CVE-2022-23960).
    pub w3: Workaround,
}

/// The registers of a CPU that tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cpu {
    /// MIDR_EL1
    pub midr: u64,
    /// ID_AA64PFR0_EL1
    pub pfr0: u64,
    /// ID_AA64MMFR1_EL1
    pub mmfr1: u64,
}

/// Arm's in-order cores, by MIDR_EL1.PartNum: Cortex-A53, A35, A55.
const IN_ORDER: [u64; 3] = [0xD03, 0xD04, 0xD05];
/// In-order cores that are newer than CSV2 and SSBS: Cortex-A510 and A520.
const IN_ORDER_V9: [u64; 2] = [0xD46, 0xD80];

impl Cpu {
    /// What this CPU needs.
    #[must_use]
    pub fn workarounds(self) -> Workarounds {
        let csv2 = self.pfr0 >> 56 & 0xF;
        let ecbhb = self.mmfr1 >> 60 & 0xF;
        let in_order = self.is_one_of(&IN_ORDER);
        Workarounds {
            // CSV2: branch targets trained in one context do not steer another.
            w1: Workaround::unless(csv2 != 0 || in_order),
            // PSTATE.SSBS is no reason: a guest that has it needs no call, but is not unaffected either.
            w2: Workaround::unless(in_order),
            // CSV2_3: nor does branch history; ECBHB: not from a lower Exception level.
            w3: Workaround::unless(
                csv2 >= 3 || ecbhb != 0 || in_order || self.is_one_of(&IN_ORDER_V9),
            ),
        }
    }

    fn is_one_of(self, parts: &[u64]) -> bool {
        const ARM: u64 = 0x41;
        self.midr >> 24 & 0xFF == ARM && parts.contains(&(self.midr >> 4 & 0xFFF))
    }
}

impl Workaround {
    const fn unless(safe: bool) -> Self {
        if safe {
            Self::NotRequired
        } else {
            Self::Unknown
        }
    }

    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::NotRequired, Self::NotRequired) => Self::NotRequired,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
        }
    }
}

impl Workarounds {
    /// What is true of all these CPUs. Nothing is known of none.
    #[must_use]
    pub fn of(cpus: impl IntoIterator<Item = Cpu>) -> Self {
        cpus.into_iter()
            .map(Cpu::workarounds)
            .reduce(Self::and)
            .unwrap_or_default()
    }

    /// What is true of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            w1: self.w1.and(other.w1),
            w2: self.w2.and(other.w2),
            w3: self.w3.and(other.w3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Workaround::{NotRequired, Unknown};
    use super::*;

    fn cpu(midr: u64, csv2: u64, ecbhb: u64) -> Cpu {
        Cpu {
            midr,
            pfr0: csv2 << 56 | 0x11,
            mmfr1: ecbhb << 60 | 0x1020_0000,
        }
    }

    fn tells(cpu: Cpu) -> [Workaround; 3] {
        let Workarounds { w1, w2, w3 } = cpu.workarounds();
        [w1, w2, w3]
    }

    #[test]
    fn known_cpus() {
        let a53 = cpu(0x410f_d034, 0, 0);
        let a57 = cpu(0x411f_d070, 0, 0);
        let a76 = cpu(0x414f_d0b1, 1, 0);
        let a510 = cpu(0x411f_d460, 1, 0);
        let x4 = cpu(0x410f_d821, 3, 1);
        assert_eq!(tells(a53), [NotRequired; 3]);
        assert_eq!(tells(a57), [Unknown; 3]);
        assert_eq!(tells(a76), [NotRequired, Unknown, Unknown]);
        assert_eq!(tells(a510), [NotRequired, Unknown, NotRequired]);
        assert_eq!(tells(x4), [NotRequired, Unknown, NotRequired]);
        let both = Workarounds::of([a53, a76]);
        assert_eq!(
            (both.w1, both.w2, both.w3),
            (NotRequired, Unknown, Unknown),
            "true of both"
        );
        assert_eq!(Workarounds::of([]), Workarounds::default());
    }

    #[test]
    fn a_part_number_means_something_of_one_implementer_only() {
        assert_eq!(tells(cpu(0x510f_d034, 0, 0)), [Unknown; 3]);
    }

    #[test]
    fn every_value_of_the_fields() {
        for csv2 in 0..16 {
            for ecbhb in 0..16 {
                let [w1, w2, w3] = tells(cpu(0x411f_d070, csv2, ecbhb));
                assert_eq!(w1 == NotRequired, csv2 > 0);
                assert_eq!(w2, Unknown);
                assert_eq!(w3 == NotRequired, csv2 > 2 || ecbhb > 0);
            }
        }
    }
}
