//! From a queue to the disk and back.

use stage2_addr::Ipa;

use super::disk::{Disk, Facts, Op, Outcome, PLACE_BITS, Request, SECTOR, Status, Token};
use super::job::{self, Job, Manner};
use super::{Blk, MAX_JOBS};
use crate::device::{Env, Event, MAX_QUEUES, Served};
use crate::memory::GuestMemory;
use crate::queue::{Broken, Queue};

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

/// How far a request has come.
enum Step {
    /// It is over, and so many bytes of its data were written, from the first on.
    Over(Status, u64),
    /// The budget is used up.
    Spent,
    /// The disk has it.
    Flies,
    /// The disk has no room for it.
    Busy,
}

impl<D> Blk<'_, D> {
    /// Works until there is nothing to do, or the budget is used up; first on the queue that somebody has told of.
    #[inline]
    pub(super) fn pump<M: GuestMemory>(
        &mut self,
        told: Option<u16>,
        env: &mut Env<'_, M>,
        budget: &mut u64,
    ) -> Served
    where
        D: Disk<M>,
    {
        let worked = self.work(told, env, budget);
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

    #[inline]
    fn work<M: GuestMemory>(
        &mut self,
        told: Option<u16>,
        env: &mut Env<'_, M>,
        budget: &mut u64,
    ) -> Result<Pause, Broken>
    where
        D: Disk<M>,
    {
        // What was begun first goes on first.
        if self.ready != 0
            && let Some(pause) = self.resume(env, budget)?
        {
            return Ok(pause);
        }
        let mut next = told.or_else(|| self.next_queue());
        while let Some(queue) = next {
            if let Some(pause) = self.drain(queue, env, budget)? {
                return Ok(pause);
            }
            self.pending &= !(1 << (queue & 15));
            next = self.next_queue();
        }
        Ok(Pause::Idle)
    }

    /// Goes on with what was begun before, and is not with the disk.
    #[cold]
    #[inline(never)]
    fn resume<M: GuestMemory>(
        &mut self,
        env: &mut Env<'_, M>,
        budget: &mut u64,
    ) -> Result<Option<Pause>, Broken>
    where
        D: Disk<M>,
    {
        let mut ready = self.ready;
        while ready != 0 {
            let index = ready.trailing_zeros();
            ready &= ready - 1;
            let Some(job) = job(self.jobs, index) else {
                continue;
            };
            let token = token(&mut self.tokens, index);
            let step = advance(&mut self.disk, &self.facts, job, token, &env.memory, budget);
            match step {
                Step::Over(status, written) => self.finish(index, env, status, written)?,
                Step::Spent => return Ok(Some(Pause::Spent)),
                Step::Busy => return Ok(Some(Pause::Idle)),
                Step::Flies => {
                    self.ready &= !(1 << index);
                    self.flying |= 1 << index;
                }
            }
        }
        Ok(None)
    }

    /// The next queue to look at: they take turns.
    #[inline]
    fn next_queue(&mut self) -> Option<u16> {
        if self.pending == 0 {
            return None;
        }
        let behind = self.pending & !(u16::MAX >> (15 - self.turn));
        let from = if behind == 0 { self.pending } else { behind };
        self.turn = u16::try_from(from.trailing_zeros()).ok()?;
        Some(self.turn)
    }

    /// Takes requests of a queue until there is none, which is `None`: the driver will tell of more.
    #[inline]
    fn drain<M: GuestMemory>(
        &mut self,
        queue: u16,
        env: &mut Env<'_, M>,
        budget: &mut u64,
    ) -> Result<Option<Pause>, Broken>
    where
        D: Disk<M>,
    {
        // A call of the disk's may change anything, for all that the compiler knows.
        let memory = env.memory;
        loop {
            if *budget == 0 {
                return Ok(Some(Pause::Spent));
            }
            let Some(ring) = ring(&mut self.rings, u32::from(queue)) else {
                return Ok(None);
            };
            let free = !self.taken & self.usable;
            let index = free.trailing_zeros();
            let Some(job) = job(self.jobs, index) else {
                // Nobody needs to tell of more: it is looked for when a job is done.
                ring.quiet(&memory);
                return Ok(Some(Pause::Idle));
            };
            if !ring.pop(&memory, &mut job.chain)? {
                if ring.listen(&memory) {
                    // Or another lane changes its mind about what is available, as often as it is looked at.
                    *budget = budget.saturating_sub(COST);
                    continue;
                }
                return Ok(None);
            }
            let empty = !ring.listen(&memory);
            job.queue = queue;
            if let Some(trace) = env.trace.as_mut() {
                popped(*trace, job);
            }
            let buffers = u64::try_from(job.chain.segments.len()).unwrap_or(0);
            *budget = budget.saturating_sub(COST + COST_OF_BUFFER * buffers);
            let manner = Manner {
                facts: &self.facts,
                writethrough: self.writethrough,
                id: &self.shape.id,
            };
            let token = token(&mut self.tokens, index);
            let step = start(&mut self.disk, &manner, job, token, &memory, budget);
            match step {
                Step::Over(status, written) => {
                    give_back(ring, job, env, status, written)?;
                    self.pushed |= 1 << (queue & 15);
                }
                Step::Flies => {
                    self.taken |= 1 << index;
                    self.flying |= 1 << index;
                }
                Step::Spent | Step::Busy => {
                    self.taken |= 1 << index;
                    self.ready |= 1 << index;
                    let spent = matches!(step, Step::Spent);
                    return Ok(Some(if spent { Pause::Spent } else { Pause::Idle }));
                }
            }
            if empty {
                return Ok(None);
            }
        }
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
        let index = token.place();
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

    /// A request that was taken is over.
    fn finish<M: GuestMemory>(
        &mut self,
        index: u32,
        env: &mut Env<'_, M>,
        status: Status,
        written: u64,
    ) -> Result<(), Broken> {
        self.taken &= !(1 << index);
        self.ready &= !(1 << index);
        let Some(job) = job(self.jobs, index) else {
            return Ok(());
        };
        let Some(ring) = ring(&mut self.rings, u32::from(job.queue)) else {
            return Ok(());
        };
        self.pushed |= 1 << (job.queue & 15);
        give_back(ring, job, env, status, written)
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

/// Judges a request that was just taken, and does of it what can be done.
#[inline]
fn start<M: GuestMemory, D: Disk<M>>(
    disk: &mut D,
    manner: &Manner<'_>,
    job: &mut Job,
    token: Token,
    memory: &M,
    budget: &mut u64,
) -> Step {
    let Some(header) = job::header(&job.chain, memory) else {
        return Step::Over(Status::IoError, 0);
    };
    if let Some(request) = manner.at_once(header, &job.chain)
        && *budget != 0
    {
        disk.begins(token);
        return whole(disk, &request, job, token, memory, budget);
    }
    match manner.judge(header, &job.chain, memory) {
        Ok(work) => {
            job.work = work;
            disk.begins(token);
            advance(disk, manner.facts, job, token, memory, budget)
        }
        Err((status, written)) => Step::Over(status, written),
    }
}

/// Does a request that is one slice.
#[inline(always)]
fn whole<M: GuestMemory, D: Disk<M>>(
    disk: &mut D,
    request: &Request,
    job: &mut Job,
    token: Token,
    memory: &M,
    budget: &mut u64,
) -> Step {
    let is_read = request.op == Op::Read;
    match disk.submit(request, job.all(request.op), memory, token) {
        Outcome::Done(status) => {
            charge(budget, request);
            let is_written = is_read && status == Status::Ok;
            Step::Over(status, if is_written { request.bytes() } else { 0 })
        }
        Outcome::Pending => {
            // What is read is moved when it is there.
            if !is_read {
                charge(budget, request);
            }
            job.begin(request);
            job.token = token;
            Step::Flies
        }
        Outcome::Busy => {
            job.begin(request);
            Step::Busy
        }
    }
}

/// Goes on with a request as far as it goes.
#[inline(never)]
fn advance<M: GuestMemory, D: Disk<M>>(
    disk: &mut D,
    facts: &Facts,
    job: &mut Job,
    token: Token,
    memory: &M,
    budget: &mut u64,
) -> Step {
    loop {
        let request = match job.next(facts, memory) {
            Ok(request) => request,
            Err(status) => return Step::Over(status, job.written()),
        };
        if *budget == 0 {
            return Step::Spent;
        }
        match disk.submit(&request, job.data(), memory, token) {
            Outcome::Done(Status::Ok) => {
                charge(budget, &request);
                job.step();
                if job.is_over() {
                    return Step::Over(Status::Ok, job.written());
                }
            }
            Outcome::Done(status) => return Step::Over(status, job.written()),
            Outcome::Pending => {
                // What is read is moved when it is there.
                if request.op != Op::Read {
                    charge(budget, &request);
                }
                job.token = token;
                return Step::Flies;
            }
            Outcome::Busy => return Step::Busy,
        }
    }
}

/// The status byte, and the chain goes back.
#[inline]
fn give_back<M: GuestMemory>(
    ring: &mut Queue,
    job: &Job,
    env: &mut Env<'_, M>,
    status: Status,
    written: u64,
) -> Result<(), Broken> {
    let chain = &job.chain;
    // The status is the last byte that the driver has room for, wherever that is (2.7.4.2). Without it nothing can be
    // said of the request.
    let room = chain.writable_len().checked_sub(1).ok_or(Broken)?;
    let last = chain.segments.last().ok_or(Broken)?;
    let at = last.at.raw() + u64::from(last.len.saturating_sub(1));
    (env.memory)
        .store_u8(Ipa::new(at), status.byte())
        .ok_or(Broken)?;
    // The driver may believe in bytes only from the first on (2.7.8.2): a failed read ends before its status.
    let written = if written == room { room + 1 } else { written };
    let written = u32::try_from(written).unwrap_or(u32::MAX);
    let ticket = chain.ticket();
    ring.push(&env.memory, ticket, written);
    if let Some(trace) = env.trace.as_mut() {
        trace(Event::Pushed {
            queue: job.queue,
            id: ticket.id,
            written,
        });
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn popped(trace: &mut dyn FnMut(Event), job: &Job) {
    trace(Event::Popped {
        queue: job.queue,
        id: job.chain.ticket().id,
        readable: job.chain.readable_len(),
        writable: job.chain.writable_len(),
    });
}

/// A token that no request has had for a long time.
fn token(tokens: &mut u32, index: u32) -> Token {
    *tokens = tokens.wrapping_add(1);
    Token(*tokens << PLACE_BITS | index)
}

/// What a slice costs.
#[inline]
fn charge(budget: &mut u64, request: &Request) {
    let cost = match request.op {
        Op::Read | Op::Write | Op::WriteZeroes { .. } => request.bytes(),
        Op::Discard => request.bytes() / DISCARD_SHARE,
        Op::Flush => 0,
    };
    *budget = budget.saturating_sub(cost);
}

#[inline(always)]
fn ring(rings: &mut [Option<Queue>; MAX_QUEUES], queue: u32) -> Option<&mut Queue> {
    rings.get_mut(usize::try_from(queue).ok()?)?.as_mut()
}

#[inline(always)]
fn job(jobs: &mut [Job], index: u32) -> Option<&mut Job> {
    jobs.get_mut(usize::try_from(index).ok()?)
}
