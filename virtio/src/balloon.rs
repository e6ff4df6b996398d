//! The memory balloon: virtio 1.3, 5.5, with free page reporting.
//!
//! Guests own their memory for good, so pages that a guest gives up are nobody else's. What the balloon is good for here
//! is that they are forgotten: their bytes are gone when the device gives the chain back. The guest may use them again at
//! any time, and finds zeros or what it has written since.
//!
//! How many it is to give up is its operator's to say, who asks by a [`Wish`] and is answered by a [`Standing`]. What he
//! wants outlives a reset and the guest's lives: a driver that begins reads it in the configuration.

mod standing;

use crate::chain::{Chain, Segment};
use crate::device::{Device, Env, Served};
use crate::memory::GuestMemory;
use crate::queue::{Broken, Queue};
use stage2_addr::Ipa;
pub use standing::{PAGE, Refusal, Size, Standing, TAGS, Wish};

/// `VIRTIO_BALLOON_F_STATS_VQ`.
const STATS: u64 = 1 << 1;
/// `VIRTIO_BALLOON_F_DEFLATE_ON_OOM`.
const DEFLATE_ON_OOM: u64 = 1 << 2;
/// `VIRTIO_BALLOON_F_PAGE_REPORTING`.
const REPORTING: u64 = 1 << 5;

const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const STATISTICS: u16 = 2;
/// Reported pages. The specification numbers the queue 4 (5.5.2); drivers that count only the queues that there are, as
/// Linux does, find it here.
const REPORT_COUNTED: u16 = 3;
const REPORT: u16 = 4;
const QUEUES: usize = 5;

const QUEUE_MAX: u16 = 128;
/// Chains that are served before others get their turn.
const CHAINS: usize = 8;
/// Bytes that are forgotten in one go.
const PIECE: u64 = 256 << 10;
/// Page numbers that are copied out at a time.
const NUMBERS: usize = 32;
/// Bytes of one statistic: tag and value.
const STATISTIC: usize = 10;

/// Who forgets.
pub trait Forget {
    /// Zeroes memory of the guest: whole pages that are all its own.
    fn forget(&mut self, at: Ipa, len: u64);
}

/// The device.
pub struct Balloon<F> {
    forget: F,
    queues: [Option<Queue>; QUEUES],
    chain: Chain,
    /// The chain is being worked on: of which queue, and how many bytes of it are done.
    open: Option<(u16, u64)>,
    /// The chain of the statistics' queue, which is the device's until it wants others.
    statistics: Chain,
    holds_statistics: bool,
    values: [Option<u64>; TAGS],
    /// When they came.
    told: Option<u64>,
    target: u32,
    actual: u32,
}

impl<F: Forget> Balloon<F> {
    /// A balloon that is to stay empty.
    #[must_use]
    pub const fn new(forget: F) -> Self {
        Self {
            forget,
            queues: [const { None }; QUEUES],
            chain: Chain::new(),
            open: None,
            statistics: Chain::new(),
            holds_statistics: false,
            values: [None; TAGS],
            told: None,
            target: 0,
            actual: 0,
        }
    }

    /// How many pages of 4 KiB the guest is asked to give up from now on. The driver has to be told of the change.
    pub const fn ask(&mut self, pages: u32) -> Served {
        let config = self.target != pages;
        self.target = pages;
        Served {
            config,
            ..Served::NOTHING
        }
    }

    /// How many it is asked for, and how many it says that it has given.
    #[must_use]
    pub const fn pages(&self) -> (u32, u32) {
        (self.target, self.actual)
    }

    /// What the guest last said of its memory, by tag (5.5.6.4).
    #[must_use]
    pub const fn statistics(&self) -> &[Option<u64>; TAGS] {
        &self.values
    }

    /// Works on chains of a queue, a piece at a time.
    fn pages_of<M: GuestMemory>(
        &mut self,
        queue: u16,
        env: &mut Env<'_, M>,
    ) -> Result<Served, Broken> {
        let mut served = Served::default();
        // One chain is open at a time: another queue waits for it.
        if let Some((other, _)) = self.open
            && other != queue
        {
            served.more = true;
            return Ok(served);
        }
        let Some(Some(ring)) = self.queues.get_mut(usize::from(queue)) else {
            return Ok(served);
        };
        let mut pushed = false;
        let mut budget = PIECE;
        served.more = true;
        for _ in 0..CHAINS {
            let done = match self.open {
                Some((_, done)) => done,
                None => {
                    if !ring.pop(&env.memory, &mut self.chain)? {
                        served.more = ring.listen(&env.memory);
                        if served.more {
                            continue;
                        }
                        break;
                    }
                    env.popped(queue, &self.chain);
                    0
                }
            };
            let forget = &mut self.forget;
            let left = match queue {
                INFLATE => inflate(forget, &env.memory, &self.chain, done, &mut budget),
                DEFLATE => None,
                _ => report(forget, &self.chain, done, &mut budget),
            };
            self.open = left.map(|done| (queue, done));
            if self.open.is_some() {
                break;
            }
            env.push(queue, ring, &self.chain, 0);
            pushed = true;
        }
        served.used = pushed && ring.publish(&env.memory);
        Ok(served)
    }

    /// Takes what the guest says of its memory. The chain stays here until new figures are wanted.
    fn take_statistics<M: GuestMemory>(&mut self, env: &mut Env<'_, M>) -> Result<Served, Broken> {
        let served = Served::default();
        let Some(Some(ring)) = self.queues.get_mut(usize::from(STATISTICS)) else {
            return Ok(served);
        };
        if self.holds_statistics || !ring.pop(&env.memory, &mut self.statistics)? {
            return Ok(served);
        }
        env.popped(STATISTICS, &self.statistics);
        self.holds_statistics = true;
        self.values = [None; TAGS];
        self.told = Some(env.now);
        let mut cursor = self.statistics.readable();
        let mut one = [0; STATISTIC];
        for _ in 0..2 * TAGS {
            if cursor.read(&env.memory, &mut one).is_none() {
                break;
            }
            let [low, high, value @ ..] = one;
            let tag = usize::from(u16::from_le_bytes([low, high]));
            if let Some(place) = self.values.get_mut(tag) {
                *place = Some(u64::from_le_bytes(value));
            }
        }
        Ok(served)
    }

    /// Wants new figures of the guest's memory, if the last have come.
    pub fn ask_statistics<M: GuestMemory>(&mut self, env: &mut Env<'_, M>) -> Served {
        if !self.holds_statistics {
            // Linux has its first chain there, and says so, before `DRIVER_OK`, when nobody listens. How old its figures
            // are nobody knows.
            if self.take_statistics(env).is_err() {
                return Served::BROKEN;
            }
            if self.holds_statistics {
                self.told = None;
            }
        }
        let mut served = Served::default();
        if let Some(Some(ring)) = self.queues.get_mut(usize::from(STATISTICS))
            && core::mem::take(&mut self.holds_statistics)
        {
            env.push(STATISTICS, ring, &self.statistics, 0);
            served.used = ring.publish(&env.memory);
        }
        served
    }
}

/// Forgets pages that are named by number, from the byte `done` of the list on. Where it stopped, if it has not come to
/// the end.
fn inflate<M: GuestMemory>(
    forget: &mut impl Forget,
    memory: &M,
    chain: &Chain,
    done: u64,
    budget: &mut u64,
) -> Option<u64> {
    let mut cursor = chain.readable();
    cursor.skip(done)?;
    let mut at = done;
    loop {
        if *budget == 0 {
            return Some(at);
        }
        let left = chain.readable_len().saturating_sub(at) / 4;
        let count = usize::try_from(left).unwrap_or(NUMBERS).min(NUMBERS);
        let mut bytes = [0; 4 * NUMBERS];
        let bytes = bytes.get_mut(..4 * count).unwrap_or_default();
        if bytes.is_empty() || cursor.read(memory, bytes).is_none() {
            return None;
        }
        for number in bytes.as_chunks::<4>().0 {
            let page = Ipa::new(u64::from(u32::from_le_bytes(*number)) * PAGE);
            // A page that the guest does not have cannot be given up.
            if memory.contains(page, PAGE) {
                forget.forget(page, PAGE);
            }
        }
        let pages = count as u64;
        at += 4 * pages;
        *budget = budget.saturating_sub(pages * PAGE);
    }
}

/// Forgets the whole pages in a chain's buffers, from the byte `done` on.
fn report(forget: &mut impl Forget, chain: &Chain, done: u64, budget: &mut u64) -> Option<u64> {
    let mut cursor = chain.writable();
    cursor.skip(done)?;
    let mut at = done;
    loop {
        let most = u32::try_from(*budget).unwrap_or(u32::MAX);
        if most == 0 {
            return Some(at);
        }
        let Segment { at: start, len } = cursor.take(most)?;
        let end = start.raw() + u64::from(len);
        let first = start.raw().next_multiple_of(PAGE);
        let whole = (end - end % PAGE).saturating_sub(first);
        if whole != 0 {
            forget.forget(Ipa::new(first), whole);
        }
        at += u64::from(len);
        *budget -= u64::from(len);
    }
}

impl<M: GuestMemory, F: Forget> Device<M> for Balloon<F> {
    fn id(&self) -> u32 {
        5
    }

    fn features(&self) -> u64 {
        STATS | DEFLATE_ON_OOM | REPORTING
    }

    fn queue_max(&self, queue: u16) -> u16 {
        if usize::from(queue) < QUEUES {
            QUEUE_MAX
        } else {
            0
        }
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        let config = u64::from(self.target) | u64::from(self.actual) << 32;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = config.to_le_bytes();
        let rest = bytes.get(from..).unwrap_or_default();
        for (to, from) in into.iter_mut().zip(rest) {
            *to = *from;
        }
    }

    fn write_config(&mut self, offset: u64, bytes: &[u8], _: &mut Env<'_, M>) -> Served {
        if let (4, [a, b, c, d]) = (offset, bytes) {
            self.actual = u32::from_le_bytes([*a, *b, *c, *d]);
        }
        Served::default()
    }

    fn start(&mut self, _: u64) {}

    fn open(&mut self, queue: u16, ring: Queue) {
        if let Some(place) = self.queues.get_mut(usize::from(queue)) {
            *place = Some(ring);
        }
    }

    fn close(&mut self, queue: u16) {
        if let Some(place) = self.queues.get_mut(usize::from(queue)) {
            *place = None;
        }
        if self.open.is_some_and(|(open, _)| open == queue) {
            self.open = None;
        }
        self.holds_statistics &= queue != STATISTICS;
    }

    fn reset(&mut self) {
        self.queues = [const { None }; QUEUES];
        self.open = None;
        self.holds_statistics = false;
        self.values = [None; TAGS];
        self.told = None;
        self.actual = 0;
    }

    fn serve(&mut self, queue: u16, env: &mut Env<'_, M>) -> Served {
        let served = match queue {
            STATISTICS => self.take_statistics(env),
            INFLATE | DEFLATE | REPORT | REPORT_COUNTED => self.pages_of(queue, env),
            _ => Ok(Served::default()),
        };
        served.unwrap_or(Served::BROKEN)
    }

    fn balloon(&mut self, wish: Wish, env: &mut Env<'_, M>) -> Option<(Served, Standing)> {
        let mut served = Served::default();
        if let Some(pages) = wish.pages {
            served = self.ask(pages);
        }
        if wish.statistics {
            served = served.and(self.ask_statistics(env));
        }
        let standing = Standing {
            asked: self.target,
            given: self.actual,
            values: self.values,
            told: self.told,
            is_driven: true,
        };
        Some((served, standing))
    }
}

#[cfg(test)]
mod tests;
