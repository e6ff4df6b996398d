//! How long the only lane of a CPU has run.

/// Keeps the account that the scheduler keeps where lanes share.
#[derive(Debug)]
pub(super) struct Stopwatch {
    ran: u64,
    since: Option<u64>,
}

impl Stopwatch {
    /// At rest.
    pub const ZERO: Self = Self {
        ran: 0,
        since: None,
    };

    /// From now on the lane runs, or does not.
    pub fn turn(&mut self, runs: bool, now: u64) {
        if !runs {
            self.ran = self.read(now);
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// For how many ticks it has run.
    pub fn read(&self, now: u64) -> u64 {
        let running = self.since.map_or(0, |since| now.saturating_sub(since));
        self.ran.saturating_add(running)
    }
}
