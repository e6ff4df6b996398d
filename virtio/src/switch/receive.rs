//! The receiving half of a guest's card: other guests fill its queues, under a lock of its own.

use arrayvec::ArrayVec;
use stage2_addr::Ipa;

use super::filter::Filter;
use super::frame::{Frame, Pour, START};
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
    unseen: u8,
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
    /// Takes a frame, in pieces if the driver does not take it as it is. The bytes that were taken, with what kept the
    /// rest out.
    pub fn take(
        &mut self,
        pair: u8,
        frame: &Frame<'_, M>,
        tag: Option<u16>,
        chain: &mut Chain,
        budget: &mut Budget,
    ) -> Result<u32, Reason> {
        let Some(memory) = self.memory.filter(|_| !self.is_broken) else {
            return Err(Reason::Down);
        };
        let Some(Some(ring)) = self.rings.get_mut(usize::from(pair)) else {
            return Err(Reason::Down);
        };
        let mut place = Place {
            memory,
            ring,
            merges: self.features.contains(NetFeatures::MRG_RXBUF),
            is_broken: false,
        };
        let mut bytes = 0;
        let mut one = |frame: &Frame<'_, M>| {
            let len = place.one(frame, tag, chain)?;
            budget.spend(len);
            bytes += len;
            Ok(())
        };
        let taken = if frame.offload.suits(self.features) {
            one(frame)
        } else {
            cut::each(frame, &mut one)
        };
        self.is_broken = place.is_broken;
        if bytes != 0 {
            self.unseen |= 1 << pair;
        }
        taken.map(|()| bytes)
    }

    /// Shows the driver what it has received. Whether it wants an interrupt for that.
    pub fn publish(&mut self) -> bool {
        let unseen = core::mem::take(&mut self.unseen);
        let Some(memory) = &self.memory else {
            return false;
        };
        let mut wants = false;
        for (ring, bit) in self.rings.iter_mut().zip(0_u8..) {
            if let Some(ring) = ring.as_mut().filter(|_| unseen >> bit & 1 != 0) {
                wants |= ring.publish(memory);
                self.is_broken |= ring.is_broken();
            }
        }
        wants | self.is_broken
    }
}

/// Where frames are put.
struct Place<'a, M> {
    memory: M,
    ring: &'a mut Queue,
    merges: bool,
    is_broken: bool,
}

impl<M: GuestMemory> Place<'_, M> {
    /// The next chain.
    fn pop(&mut self, chain: &mut Chain) -> Result<(), Reason> {
        match self.ring.pop(&self.memory, chain) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Reason::Full),
            Err(_) => {
                self.is_broken = true;
                Err(Reason::Down)
            }
        }
    }

    /// Puts a frame that the driver takes as it is. Its bytes, virtio's header among them.
    fn one(
        &mut self,
        frame: &Frame<'_, M>,
        tag: Option<u16>,
        chain: &mut Chain,
    ) -> Result<u32, Reason> {
        let mut start = [0; START];
        let mut pour = frame.pour(tag, &mut start);
        self.pop(chain)?;
        let fits = pour.remaining() <= chain.writable_len();
        if !fits && self.merges {
            return self.merged(&mut pour, chain);
        }
        let written = if fits {
            pour.fill(&self.memory, &mut chain.writable())
                .ok_or(Reason::Fault)
        } else {
            Err(Reason::Full)
        };
        match written {
            Ok(written) => self.ring.push(&self.memory, chain.ticket(), written),
            Err(_) => self.ring.unpop(chain.ticket()),
        }
        written
    }

    /// The same, over several chains, of which the first is taken (5.1.6.4.1).
    #[cold]
    #[inline(never)]
    fn merged(&mut self, pour: &mut Pour<'_, M>, chain: &mut Chain) -> Result<u32, Reason> {
        let mut tickets = Tickets::new();
        let done = self.spread(pour, chain, &mut tickets);
        if done.is_err() {
            for (ticket, _) in tickets.into_iter().rev() {
                self.ring.unpop(ticket);
            }
            return done;
        }
        for (ticket, written) in tickets {
            self.ring.push(&self.memory, ticket, written);
        }
        done
    }

    fn spread(
        &mut self,
        pour: &mut Pour<'_, M>,
        chain: &mut Chain,
        tickets: &mut Tickets,
    ) -> Result<u32, Reason> {
        tickets.push((chain.ticket(), 0));
        let count = count_at(chain).ok_or(Reason::Full)?;
        let mut all = 0;
        loop {
            let written = pour.fill(&self.memory, &mut chain.writable());
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
            self.pop(chain)?;
            tickets.push((chain.ticket(), 0));
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
