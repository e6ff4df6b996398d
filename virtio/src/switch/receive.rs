//! The receiving half of a guest's card: other guests fill its queues, under a lock of its own.

use arrayvec::ArrayVec;
use stage2_addr::Ipa;

use super::filter::Filter;
use super::frame::{Frame, Pour, Start};
use super::port::Reason;
use super::{Budget, cut};
use crate::chain::{Chain, Ticket};
use crate::memory::GuestMemory;
use crate::net::header::NetFeatures;
use crate::queue::Queue;

/// The most pairs of queues of a card.
pub const MAX_PAIRS: usize = 4;
/// The most buffers that a frame is spread over: 64 KiB in buffers as long as the shortest frame's.
const MAX_MERGED: usize = 64;

/// What a card receives with.
pub(crate) struct Receive<M> {
    /// The receiving guest's, while its driver runs.
    pub memory: Option<M>,
    pub rings: [Option<Queue>; MAX_PAIRS],
    /// How many of them are used.
    pub pairs: u8,
    /// What the driver has agreed to, without the offloads that it has switched off.
    pub features: NetFeatures,
    pub filter: Filter,
    /// The driver has written nonsense.
    pub is_broken: bool,
    /// Rings with something that their driver has not seen.
    pub(super) unseen: u8,
}

/// Tickets, with the bytes written there.
type Tickets = ArrayVec<(Ticket, u32), MAX_MERGED>;

impl<M> Receive<M> {
    pub const fn new() -> Self {
        Self {
            memory: None,
            rings: [const { None }; MAX_PAIRS],
            pairs: 1,
            features: NetFeatures::empty(),
            filter: Filter::new(),
            is_broken: false,
            unseen: 0,
        }
    }
}

impl<M: GuestMemory> Receive<M> {
    /// Takes a frame, in pieces if the driver does not take it as it is. The bytes that were taken, and whether the driver
    /// wants an interrupt now: if it `is_last`, it is shown what came.
    #[inline(always)]
    pub fn take(
        &mut self,
        pair: u8,
        frame: &Frame<'_, M>,
        tag: Option<u16>,
        chain: &mut Chain,
        budget: &mut Budget,
        is_last: bool,
    ) -> Result<(u32, bool), Reason> {
        let Some(memory) = &self.memory else {
            return Err(Reason::Down);
        };
        let Some(Some(ring)) = self.rings.get_mut(usize::from(pair)) else {
            return Err(Reason::Down);
        };
        let mut place = Place {
            memory,
            ring,
            chain,
            merges: self.features.contains(NetFeatures::MRG_RXBUF),
        };
        let taken = if frame.offload.suits(self.features) {
            place.one(frame, tag)
        } else {
            place.pieces(frame, tag, budget)
        };
        self.unseen |= 1 << pair;
        let bytes = taken?;
        budget.spend(bytes);
        let mut wants = false;
        if is_last {
            wants = ring.publish(memory);
            if !ring.is_broken() {
                self.unseen &= !(1 << pair);
            }
        }
        Ok((bytes, wants))
    }

    /// Whether there is something that the driver has not been shown.
    #[inline(always)]
    pub const fn has_unseen(&self) -> bool {
        self.unseen != 0
    }

    /// Shows the driver what it has received. Whether it wants an interrupt for that.
    pub fn publish(&mut self) -> bool {
        let mut unseen = core::mem::take(&mut self.unseen);
        let Some(memory) = &self.memory else {
            return false;
        };
        let mut wants = false;
        while let Some(pair) = unseen.checked_ilog2() {
            unseen &= !(1 << pair);
            let ring = usize::try_from(pair).ok();
            let Some(Some(ring)) = ring.and_then(|pair| self.rings.get_mut(pair)) else {
                continue;
            };
            wants |= ring.publish(memory);
            if ring.is_broken() && !self.is_broken {
                self.is_broken = true;
                wants = true;
            }
        }
        wants
    }
}

/// Where frames are put.
struct Place<'a, M> {
    memory: &'a M,
    ring: &'a mut Queue,
    chain: &'a mut Chain,
    merges: bool,
}

impl<M: GuestMemory> Place<'_, M> {
    /// The next chain.
    #[inline(always)]
    fn pop(&mut self) -> Result<(), Reason> {
        match self.ring.pop(self.memory, self.chain) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Reason::Full),
            Err(_) => Err(Reason::Down),
        }
    }

    /// Puts a frame that the driver takes as it is. Its bytes, virtio's header among them.
    #[inline(always)]
    fn one(&mut self, frame: &Frame<'_, M>, tag: Option<u16>) -> Result<u32, Reason> {
        self.pop()?;
        let (start, end) = frame.begin(tag);
        let all = frame
            .payload
            .saturating_add(u32::try_from(end).unwrap_or(0));
        if let Some(to) = self.chain.writable().at_once(all)
            && frame.copy(&start, end, self.memory, to).is_some()
        {
            self.ring.push(self.memory, self.chain.ticket(), all);
            return Ok(all);
        }
        self.any(frame, &start, end)
    }

    /// The same, wherever it lies.
    #[inline(never)]
    fn any(&mut self, frame: &Frame<'_, M>, start: &Start, end: usize) -> Result<u32, Reason> {
        let start = start.as_flattened().get(..end).unwrap_or_default();
        let pour = &mut frame.pour(start);
        let fits = pour.remaining() <= self.chain.writable_len();
        if !fits && self.merges {
            return self.merged(pour);
        }
        let written = if fits {
            pour.fill(self.memory, &mut self.chain.writable())
                .ok_or(Reason::Fault)
        } else {
            Err(Reason::Full)
        };
        match written {
            Ok(written) => self.ring.push(self.memory, self.chain.ticket(), written),
            Err(_) => self.ring.unpop(self.chain.ticket()),
        }
        written
    }

    /// Puts the frames that are made of one that the driver does not take as it is.
    #[cold]
    #[inline(never)]
    fn pieces(
        &mut self,
        frame: &Frame<'_, M>,
        tag: Option<u16>,
        budget: &mut Budget,
    ) -> Result<u32, Reason> {
        let mut bytes = 0;
        cut::each(frame, &mut |one| {
            // The last is counted by whoever asked for all of them.
            let len = self.one(one, tag)?;
            budget.spend(0);
            bytes += len;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Puts it into several chains, of which the first is taken (5.1.6.4.1).
    fn merged(&mut self, pour: &mut Pour<'_, M>) -> Result<u32, Reason> {
        let mut tickets = Tickets::new();
        let done = self.spread(pour, &mut tickets);
        if done.is_err() {
            for (ticket, _) in tickets.into_iter().rev() {
                self.ring.unpop(ticket);
            }
            return done;
        }
        for (ticket, written) in tickets {
            self.ring.push(self.memory, ticket, written);
        }
        done
    }

    fn spread(&mut self, pour: &mut Pour<'_, M>, tickets: &mut Tickets) -> Result<u32, Reason> {
        tickets.push((self.chain.ticket(), 0));
        let count = count_at(self.chain).ok_or(Reason::Full)?;
        let mut all = 0;
        loop {
            let written = pour.fill(self.memory, &mut self.chain.writable());
            let written = written.ok_or(Reason::Fault)?;
            all += written;
            if let Some(last) = tickets.last_mut() {
                last.1 = written;
            }
            if pour.remaining() == 0 {
                break;
            }
            if tickets.is_full() {
                return Err(Reason::Full);
            }
            self.pop()?;
            tickets.push((self.chain.ticket(), 0));
        }
        let buffers = u16::try_from(tickets.len()).unwrap_or(0).to_le_bytes();
        for (at, byte) in count.into_iter().zip(buffers) {
            let written = self.memory.write(at, &[byte]);
            written.ok_or(Reason::Fault)?;
        }
        Ok(all)
    }
}

/// Where the two bytes of `num_buffers` are.
fn count_at(chain: &Chain) -> Option<[Ipa; 2]> {
    let mut at = chain.writable();
    at.skip(10)?;
    Some([at.take(1)?.at, at.take(1)?.at])
}
