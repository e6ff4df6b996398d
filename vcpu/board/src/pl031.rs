//! The Arm PL031 real-time clock (DDI 0224).
//!
//! It counts seconds since 1970 and runs from power-on, as QEMU's does: `RTCCR` reads as one and cannot be cleared.
//! Nothing here knows the time; every access brings the [`Moment`] at which it happens, in ticks of the machine's
//! counter.
//!
//! The alarm is a moment in the future, [`Pl031::alarm`]. Whoever owns a timer calls [`Pl031::advance`] when it has
//! come, because between two accesses nobody else would raise the line.

/// `RTCDR`.
pub const DR: u64 = 0x000;
/// `RTCMR`.
pub const MR: u64 = 0x004;
/// `RTCLR`.
pub const LR: u64 = 0x008;
/// `RTCCR`.
pub const CR: u64 = 0x00c;
/// `RTCIMSC`.
pub const IMSC: u64 = 0x010;
/// `RTCRIS`.
pub const RIS: u64 = 0x014;
/// `RTCMIS`.
pub const MIS: u64 = 0x018;
/// `RTCICR`.
pub const ICR: u64 = 0x01c;

/// Seconds until a 32-bit clock shows the same again.
const TURN: u64 = 1 << 32;

/// A moment, as the machine's counter tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Ticks since the counter was zero.
    pub count: u64,
    /// Ticks in a second.
    pub frequency: u64,
}

impl Moment {
    /// Whole seconds since the counter was zero.
    const fn seconds(self) -> u64 {
        match self.count.checked_div(self.frequency) {
            Some(seconds) => seconds,
            // A machine that does not say how fast it counts: time stands still.
            None => 0,
        }
    }
}

/// The registers of one clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pl031 {
    epoch: u64,
    /// What guests added to the time they were given, by `RTCLR`.
    shift: u32,
    matching: u32,
    load: u32,
    unmasked: bool,
    raised: bool,
    /// When the counter will next be what `RTCMR` says, in seconds since the machine's counter was zero.
    due: Option<u64>,
}

impl Pl031 {
    /// The state at reset: the machine's counter was zero `epoch` seconds after 1970.
    #[must_use]
    pub const fn new(epoch: u64) -> Self {
        Self {
            epoch,
            shift: 0,
            matching: 0,
            load: 0,
            unmasked: false,
            raised: false,
            due: None,
        }
    }

    /// Back to reset, the given time included.
    pub const fn reset(&mut self) {
        *self = Self::new(self.epoch);
    }

    /// A load of `bytes` bytes. Total: what no register holds reads as zero.
    pub const fn read(&mut self, offset: u64, bytes: u32, now: Moment) -> u64 {
        self.advance(now);
        let word = self.register(offset & !3, now) as u64 >> ((offset & 3) * 8);
        match bytes {
            1 => word & 0xff,
            2 => word & 0xffff,
            _ => word,
        }
    }

    const fn register(&self, offset: u64, now: Moment) -> u32 {
        match offset {
            DR => self.time(now),
            MR => self.matching,
            LR => self.load,
            CR => 1,
            IMSC => self.unmasked as u32,
            RIS => self.raised as u32,
            MIS => self.line() as u32,
            // Peripheral and PrimeCell identification: PL031, by Arm.
            0xfe0 => 0x31,
            0xfe4 => 0x10,
            0xfe8 => 0x04,
            0xff0 => 0x0d,
            0xff4 => 0xf0,
            0xff8 => 0x05,
            0xffc => 0xb1,
            _ => 0,
        }
    }

    /// A store of `bytes` bytes. Registers are 32 bits wide: narrower stores are ignored, wider ones give the low half.
    pub const fn write(&mut self, offset: u64, bytes: u32, value: u64, now: Moment) {
        self.advance(now);
        if bytes < 4 {
            return;
        }
        let word = low32(value);
        match offset {
            MR => {
                self.matching = word;
                self.set_alarm(now);
            }
            LR => {
                self.load = word;
                self.shift = self.shift.wrapping_add(word.wrapping_sub(self.time(now)));
                self.set_alarm(now);
            }
            IMSC => self.unmasked = word & 1 != 0,
            ICR if word & 1 != 0 => self.raised = false,
            _ => {}
        }
    }

    /// Notes that it is `now`: the match, if its moment has come.
    pub const fn advance(&mut self, now: Moment) {
        let seconds = now.seconds();
        if let Some(due) = self.due
            && due <= seconds
        {
            self.raised = true;
            self.due = due.checked_add(((seconds - due) / TURN + 1) * TURN);
        }
    }

    /// The level of the interrupt line.
    #[inline]
    #[must_use]
    pub const fn line(&self) -> bool {
        self.raised && self.unmasked
    }

    /// When the line will rise by itself, in ticks of a counter of this `frequency`.
    #[must_use]
    pub const fn alarm(&self, frequency: u64) -> Option<u64> {
        if self.raised || !self.unmasked || frequency == 0 {
            return None;
        }
        match self.due {
            Some(due) => due.checked_mul(frequency),
            None => None,
        }
    }

    const fn time(&self, now: Moment) -> u32 {
        low32(self.epoch.wrapping_add(now.seconds())).wrapping_add(self.shift)
    }

    /// The time or the match has changed. They match at once when they are equal.
    const fn set_alarm(&mut self, now: Moment) {
        let wait = self.matching.wrapping_sub(self.time(now));
        self.due = now.seconds().checked_add(wait as u64);
        self.advance(now);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "registers take the low 32 bits"
)]
const fn low32(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests;
