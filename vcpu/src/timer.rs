//! The generic timer of a guest: its offset, what a world switch keeps, and when a lane that is away must come back.
//!
//! While a lane runs, its virtual and physical timers are the hardware's own: reads, writes and interrupts cost nothing
//! but the one exit that turns the physical interrupt into the virtual one. Only a lane that leaves its CPU needs
//! software: EL2 arms its own timer for [`Timers::next_event`].

/// `CNT[VP]_CTL_EL0.ENABLE`.
pub const CTL_ENABLE: u64 = 1;
/// `CNT[VP]_CTL_EL0.IMASK`.
pub const CTL_IMASK: u64 = 1 << 1;
/// `CNT[VP]_CTL_EL0.ISTATUS`, read-only.
pub const CTL_ISTATUS: u64 = 1 << 2;

/// `CNTHCTL_EL2` (with `HCR_EL2.E2H` = 0): EL1 reads the physical counter untrapped (`EL1PCTEN`) and owns the physical
/// timer (`EL1PCEN`); no event stream of ours.
pub const CNTHCTL: u64 = 0b11;

/// The counter registers of one VM: one offset for all lanes, so that they agree on the virtual count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmClock {
    offset: u64,
}

impl VmClock {
    /// A clock whose virtual count is zero when the physical count is `now`.
    #[must_use]
    pub const fn starting_at(now: u64) -> Self {
        Self { offset: now }
    }

    /// The value of `CNTVOFF_EL2`.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset
    }

    /// The virtual count at the physical count `now`.
    #[must_use]
    pub const fn virtual_count(self, now: u64) -> u64 {
        now.wrapping_sub(self.offset)
    }

    /// The physical count at which the virtual count reaches `count`, not before `now`.
    #[must_use]
    pub const fn physical_count(self, count: u64, now: u64) -> u64 {
        now.saturating_add(count.saturating_sub(self.virtual_count(now)))
    }
}

/// One timer: `CTL` and `CVAL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    /// `CNT[VP]_CTL_EL0`.
    pub ctl: u64,
    /// `CNT[VP]_CVAL_EL0`.
    pub cval: u64,
}

impl Timer {
    /// Whether it will ever ask for an interrupt as it stands.
    const fn armed(self) -> bool {
        self.ctl & (CTL_ENABLE | CTL_IMASK) == CTL_ENABLE
    }

    /// Whether its interrupt line is high at `count`. The comparison is unsigned (DDI 0487, D12.2.4).
    #[must_use]
    pub const fn line(self, count: u64) -> bool {
        self.armed() && count >= self.cval
    }
}

/// The timers of a lane that is not on a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// `CNTV_CTL_EL0`, `CNTV_CVAL_EL0`.
    pub virt: Timer,
    /// `CNTP_CTL_EL0`, `CNTP_CVAL_EL0`.
    pub phys: Timer,
}

impl Timers {
    /// The physical count at which the lane must be back, if a timer of it will ever fire. Never before `now`, so that
    /// no timer of EL2 is armed in the past.
    #[must_use]
    pub fn next_event(&self, clock: VmClock, now: u64) -> Option<u64> {
        let virt = self
            .virt
            .armed()
            .then(|| clock.physical_count(self.virt.cval, now));
        let phys = self.phys.armed().then(|| self.phys.cval.max(now));
        match (virt, phys) {
            (Some(virt), Some(phys)) => Some(virt.min(phys)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: u64 = CTL_ENABLE;

    fn context(virt: Timer, phys: Timer) -> Timers {
        Timers { virt, phys }
    }

    #[test]
    fn a_lane_without_armed_timers_waits_for_ever() {
        let clock = VmClock::starting_at(1000);
        assert_eq!(Timers::default().next_event(clock, 5000), None);
        let masked = Timer {
            ctl: CTL_ENABLE | CTL_IMASK,
            cval: 0,
        };
        assert_eq!(context(masked, masked).next_event(clock, 5000), None);
        assert!(!masked.line(u64::MAX));
    }

    #[test]
    fn tmr_01_extreme_compare_values_never_arm_the_past() {
        let clock = VmClock::starting_at(1000);
        for now in [1000, 5000, u64::MAX - 1, u64::MAX] {
            let count = clock.virtual_count(now);
            for cval in [
                0,
                count,
                count.wrapping_sub(1),
                count.wrapping_add(1 << 63),
                u64::MAX,
            ] {
                let timer = Timer { ctl: ON, cval };
                let event = context(timer, Timer::default())
                    .next_event(clock, now)
                    .unwrap();
                assert!(event >= now);
                assert_eq!(timer.line(count), cval <= count);
                assert!(event == now || !timer.line(count), "{now} {cval}");
                let event = context(Timer::default(), timer)
                    .next_event(clock, now)
                    .unwrap();
                assert!(event >= now);
            }
        }
    }

    #[test]
    fn the_earlier_timer_wins_and_the_offset_counts() {
        let clock = VmClock::starting_at(1000);
        assert_eq!(clock.offset(), 1000);
        let virt = Timer { ctl: ON, cval: 700 };
        let phys = Timer {
            ctl: ON,
            cval: 1600,
        };
        assert_eq!(context(virt, phys).next_event(clock, 1200), Some(1600));
        let phys = Timer {
            ctl: ON | CTL_ISTATUS,
            cval: 1900,
        };
        assert_eq!(context(virt, phys).next_event(clock, 1200), Some(1700));
        assert_eq!(
            context(Timer::default(), phys).next_event(clock, 1200),
            Some(1900)
        );
    }
}
