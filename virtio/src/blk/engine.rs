//! From a queue to the disk and back.

use stage2_addr::Ipa;

use super::disk::{Disk, Op, Outcome, Request, SECTOR, Status, Token};
use super::job::{Job, Manner};
use super::{Blk, MAX_JOBS, config};
use crate::device::{Env, Event, MAX_QUEUES, Served};
use crate::memory::GuestMemory;
use crate::queue::{Broken, Queue};

/// How many bits of a token are the job's number; the others tell its turns apart.
const INDEX_BITS: u32 = 5;

/// About how many bytes are moved in a call: a poll of the transport is two.
pub(super) const BUDGET: u64 = 128 << 10;
/// What a request costs beside its data, and what each of its buffers does, in the same coin.
const COST: u64 = 2 << 10;
const COST_OF_BUFFER: u64 = 128;
/// Sectors that are discarded cost a share of what it costs to move them.
const DISCARD_SHARE: u64 = 64;

/// Why a round of work has ended.
enum Pause {
    /// Nothing is left, or nothing goes on before the disk has done something.
    Idle,
    /// The budget is used up.
    Spent,
}

impl<D> Blk<'_, D> {
    /// Whether a write is over only when it cannot be lost any more (5.2.6.2).
    fn is_writethrough(&self) -> bool {
        let agreed = |feature| self.features & feature != 0;
        if agreed(config::CONFIG_WCE) {
            !self.writeback
        } else {
            !agreed(config::FLUSH)
        }
    }

    /// Works until there is nothing to do, or the budget is used up.
    pub(super) fn pump<M: GuestMemory>(&mut self, env: &mut Env<'_, M>, budget: &mut u64) -> Served
    where
        D: Disk<M>,
    {
        let worked = self.work(env, budget);
        let mut served = Served {
            more: matches!(worked, Ok(Pause::Spent)),
            broken: worked.is_err(),
            ..Served::default()
        };
        while self.pushed != 0 {
            let queue = self.pushed.trailing_zeros();
            self.pushed &= self.pushed - 1;
            if let Some(ring) = ring(&mut self.rings, queue) {
                served.used |= ring.publish(&env.memory);
            }
        }
        served
    }

    fn work<M: GuestMemory>(
        &mut self,
        env: &mut Env<'_, M>,
        budget: &mut u64,
    ) -> Result<Pause, Broken>
    where
        D: Disk<M>,
    {
        // What was begun first goes on first.
        let mut ready = self.ready;
        while ready != 0 {
            let index = ready.trailing_zeros();
            ready &= ready - 1;
            if *budget == 0 {
                return Ok(Pause::Spent);
            }
            if !self.advance(index, env, budget)? {
                return Ok(Pause::Idle);
            }
        }
        while let Some(queue) = self.next_queue() {
            loop {
                if *budget == 0 {
                    return Ok(Pause::Spent);
                }
                let free = !self.taken & self.usable;
                if free == 0 {
                    // Nobody needs to tell of more: it is looked for when a job is done.
                    if let Some(ring) = ring(&mut self.rings, queue) {
                        ring.quiet(&env.memory);
                    }
                    return Ok(Pause::Idle);
                }
                if self.begin(queue, free.trailing_zeros(), env, budget)? {
                    break;
                }
            }
            self.pending &= !(1 << queue);
        }
        // The last request may have been too large.
        let spent = *budget == 0 && self.ready != 0;
        Ok(if spent { Pause::Spent } else { Pause::Idle })
    }

    /// The next queue to look at: they take turns.
    fn next_queue(&mut self) -> Option<u32> {
        let behind = self.pending & !(u16::MAX >> (15 - self.turn));
        let from = if behind == 0 { self.pending } else { behind };
        if from == 0 {
            return None;
        }
        let queue = from.trailing_zeros();
        self.turn = u16::try_from(queue).ok()?;
        Some(queue)
    }

    /// Takes a request and does of it what can be done. Whether the queue is empty, and the driver will tell of more.
    fn begin<M: GuestMemory>(
        &mut self,
        queue: u32,
        index: u32,
        env: &mut Env<'_, M>,
        budget: &mut u64,
    ) -> Result<bool, Broken>
    where
        D: Disk<M>,
    {
        let writethrough = self.is_writethrough();
        let (Some(ring), Some(job)) = (ring(&mut self.rings, queue), job(self.jobs, index)) else {
            return Ok(true);
        };
        if !ring.pop(&env.memory, &mut job.chain)? {
            return Ok(!ring.listen(&env.memory));
        }
        let empty = !ring.listen(&env.memory);
        let chain = &job.chain;
        if let Some(trace) = env.trace.as_mut() {
            trace(Event::Popped {
                queue: u16::try_from(queue).unwrap_or(0),
                id: chain.ticket().id,
                readable: chain.readable_len(),
                writable: chain.writable_len(),
            });
        }
        let buffers = u64::try_from(chain.segments.len()).unwrap_or(0);
        *budget = budget.saturating_sub(COST + COST_OF_BUFFER * buffers);
        job.queue = u16::try_from(queue).unwrap_or(0);
        self.taken |= 1 << index;
        let manner = Manner {
            facts: &self.facts,
            writethrough,
            id: &self.shape.id,
        };
        match manner.judge(&job.chain, &env.memory) {
            Ok(work) => {
                job.work = work;
                self.advance(index, env, budget)?;
            }
            Err((status, written)) => self.finish(index, env, status, written)?,
        }
        Ok(empty)
    }

    /// Goes on with a request as far as it goes. Whether the disk had room for it.
    fn advance<M: GuestMemory>(
        &mut self,
        index: u32,
        env: &mut Env<'_, M>,
        budget: &mut u64,
    ) -> Result<bool, Broken>
    where
        D: Disk<M>,
    {
        let bit = 1 << index;
        let (status, written) = loop {
            let Some(job) = job(self.jobs, index) else {
                return Ok(true);
            };
            let request = match job.next(&self.facts, &env.memory) {
                Ok(request) => request,
                Err(status) => break (status, job.written()),
            };
            if *budget == 0 {
                self.ready |= bit;
                return Ok(true);
            }
            let token = Token(self.tokens << INDEX_BITS | index);
            match (self.disk).submit(&request, job.data(), &env.memory, token) {
                Outcome::Done(Status::Ok) => {
                    charge(budget, &request);
                    job.step();
                }
                Outcome::Done(status) => break (status, job.written()),
                Outcome::Pending => {
                    // What is read is moved when it is there.
                    if request.op != Op::Read {
                        charge(budget, &request);
                    }
                    job.token = token;
                    self.tokens = self.tokens.wrapping_add(1);
                    self.ready &= !bit;
                    self.flying |= bit;
                    return Ok(true);
                }
                Outcome::Busy => {
                    self.ready |= bit;
                    return Ok(false);
                }
            }
        };
        self.finish(index, env, status, written)?;
        Ok(true)
    }

    /// The disk has done a slice.
    pub(super) fn land<M: GuestMemory>(
        &mut self,
        token: Token,
        env: &mut Env<'_, M>,
        budget: &mut u64,
    ) -> Result<(), Broken>
    where
        D: Disk<M>,
    {
        let index = token.0 & ((1 << INDEX_BITS) - 1);
        let bit = 1 << index;
        let flies = self.flying & bit != 0;
        let job = job(self.jobs, index).filter(|job| flies && job.token == token);
        let Some(job) = job else {
            // The driver has reset the device, or the queue. The bytes are nobody's.
            let _ = self.disk.collect(token, None);
            return Ok(());
        };
        if job.work.op == Op::Read {
            *budget = budget.saturating_sub(u64::from(job.slice) * SECTOR);
        }
        let status = (self.disk).collect(token, Some((job.data(), &env.memory)));
        self.flying &= !bit;
        if status == Status::Ok {
            job.step();
            self.ready |= bit;
            return Ok(());
        }
        let written = job.written();
        self.finish(index, env, status, written)
    }

    /// The status byte, and the chain goes back.
    fn finish<M: GuestMemory>(
        &mut self,
        index: u32,
        env: &mut Env<'_, M>,
        status: Status,
        written: u64,
    ) -> Result<(), Broken> {
        let Some(job) = job(self.jobs, index) else {
            return Ok(());
        };
        self.taken &= !(1 << index);
        self.ready &= !(1 << index);
        let chain = &job.chain;
        // The status is the last byte that the driver has room for, wherever that is (2.7.4.2). Without it nothing can be
        // said of the request.
        let room = chain.writable_len().checked_sub(1).ok_or(Broken)?;
        let last = chain.segments.last().ok_or(Broken)?;
        let at = last.at.raw() + u64::from(last.len.saturating_sub(1));
        (env.memory)
            .write(Ipa::new(at), &[status.byte()])
            .ok_or(Broken)?;
        // The driver may believe in bytes only from the first on (2.7.8.2): a failed read ends before its status.
        let written = if written == room { room + 1 } else { written };
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        let ticket = chain.ticket();
        let queue = job.queue;
        if let Some(ring) = ring(&mut self.rings, u32::from(queue)) {
            ring.push(&env.memory, ticket, written);
            self.pushed |= 1 << queue;
            if let Some(trace) = env.trace.as_mut() {
                trace(Event::Pushed {
                    queue,
                    id: ticket.id,
                    written,
                });
            }
        }
        Ok(())
    }

    /// Forgets jobs: what the disk still does of them is for nobody.
    pub(super) fn forget(&mut self, of: impl Fn(u16) -> bool) {
        for (index, job) in self.jobs.iter().take(MAX_JOBS).enumerate() {
            if of(job.queue) {
                let others = !(1 << index);
                self.taken &= others;
                self.ready &= others;
                self.flying &= others;
            }
        }
    }
}

/// What a slice costs.
fn charge(budget: &mut u64, request: &Request) {
    let cost = match request.op {
        Op::Read | Op::Write | Op::WriteZeroes { .. } => request.bytes(),
        Op::Discard => request.bytes() / DISCARD_SHARE,
        Op::Flush => 0,
    };
    *budget = budget.saturating_sub(cost);
}

fn ring(rings: &mut [Option<Queue>; MAX_QUEUES], queue: u32) -> Option<&mut Queue> {
    rings.get_mut(usize::try_from(queue).ok()?)?.as_mut()
}

fn job(jobs: &mut [Job], index: u32) -> Option<&mut Job> {
    jobs.get_mut(usize::try_from(index).ok()?)
}
