//! The lines of the transcript.

use crate::shared::{LANES, Shared};
use core::fmt;
use guest_kernel_arch::{say, timer};
use guest_kernel_core::check::Failure;
use guest_kernel_core::options::Level;
use guest_kernel_core::{ipi, tick};

/// A number of things.
pub struct Counted {
    count: usize,
    thing: &'static str,
}

/// `1 lane`, `2 lanes`.
pub const fn counted(count: usize, thing: &'static str) -> Counted {
    Counted { count, thing }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.count, self.thing)
    }
}

/// An amount of memory.
pub struct Mebibytes(u64);

/// `64 MiB`, or with one digit after the point when it is not whole.
pub const fn mebibytes(bytes: u64) -> Mebibytes {
    Mebibytes(bytes)
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 >> 20, self.0 & 0xF_FFFF);
        match (rest * 10) >> 20 {
            0 => write!(f, "{whole} MiB"),
            tenths => write!(f, "{whole}.{tenths} MiB"),
        }
    }
}

/// Counts the pings of all lanes and says so.
pub fn ipi(shared: &Shared, rounds: u32) -> Result<(), Failure> {
    let lanes = shared.lanes();
    for lane in 0..lanes {
        if let Some(state) = LANES.lane(lane) {
            ipi::tally(&state.mailbox, lane, lanes, rounds).map_err(Failure::Ipi)?;
        }
    }
    let pairs = lanes * (lanes - 1) / 2;
    let trips = 2 * pairs * usize::try_from(rounds).unwrap_or(0);
    match pairs {
        0 => say!("self-check: ipi: one lane has nobody to call"),
        _ => say!(
            "self-check: ipi: {}, {trips} round trips, none lost",
            counted(pairs, "pair")
        ),
    }
    Ok(())
}

/// Says how the timers did.
pub fn timer(shared: &Shared, ticks: u32) {
    let lanes = shared.lanes();
    let total = lanes * usize::try_from(ticks).unwrap_or(0);
    let worst = tick::microseconds(LANES.worst_tick(lanes), timer::frequency());
    say!(
        "self-check: timer: {total} ticks on {}, none early, worst {worst} us late",
        counted(lanes, "lane")
    );
}

/// Says how memory did.
pub fn memory(shared: &Shared) {
    let bytes = mebibytes(shared.free.bytes());
    let digest = LANES.digest();
    match shared.options.level {
        Level::Full => {
            say!("self-check: memory: {bytes} held both patterns, digest {digest:016x}");
        }
        Level::None | Level::Quick => {
            say!("self-check: memory: sampled {bytes}, both patterns held, digest {digest:016x}")
        }
    }
}

/// Whether only interrupts came that somebody wanted.
pub fn unexpected() -> Result<(), Failure> {
    LANES
        .unexpected()
        .map_or(Ok(()), |intid| Err(Failure::Unexpected(intid)))
}
