//! The entropy device: virtio 1.3, 5.4.

#[cfg(test)]
mod tests;

use crate::chain::Chain;
use crate::device::{Device, Env, Event, Served};
use crate::memory::GuestMemory;
use crate::queue::{Broken, Queue};

/// A source of random bytes.
pub trait Entropy {
    /// Fills bytes, whatever they were.
    fn fill(&mut self, into: &mut [u8]);
}

/// The most bytes that a driver gets for one request, however large its buffer is (5.4.6.2 allows less), and about the most
/// in a call.
const MOST: usize = 4096;
/// What a request costs beside its bytes.
const COST: usize = 64;
/// How many bytes are made at once.
const PIECE: usize = 64;

/// An entropy device over a source.
pub struct Rng<E> {
    source: E,
    queue_max: u16,
    ring: Option<Queue>,
    chain: Chain,
}

impl<E: Entropy> Rng<E> {
    /// A device whose queue has at most so many entries, a power of two.
    pub const fn new(source: E, queue_max: u16) -> Self {
        Self {
            source,
            queue_max,
            ring: None,
            chain: Chain::new(),
        }
    }

    /// Serves requests until there is none, or the budget is used up. Whether it is.
    fn work<M: GuestMemory>(
        &mut self,
        ring: &mut Queue,
        env: &mut Env<'_, M>,
    ) -> Result<bool, Broken> {
        let mut budget = MOST;
        loop {
            if budget == 0 {
                return Ok(true);
            }
            if !ring.pop(&env.memory, &mut self.chain)? {
                if ring.listen(&env.memory) {
                    // Or another lane changes its mind about what is available, as often as it is looked at.
                    budget = budget.saturating_sub(COST);
                    continue;
                }
                return Ok(false);
            }
            let ticket = self.chain.ticket();
            if let Some(trace) = env.trace.as_mut() {
                trace(Event::Popped {
                    queue: 0,
                    id: ticket.id,
                    readable: self.chain.readable_len(),
                    writable: self.chain.writable_len(),
                });
            }
            let written = self.fill(&env.memory, budget)?;
            budget = budget.saturating_sub(written + COST);
            let written = u32::try_from(written).unwrap_or(0);
            ring.push(&env.memory, ticket, written);
            if let Some(trace) = env.trace.as_mut() {
                trace(Event::Pushed {
                    queue: 0,
                    id: ticket.id,
                    written,
                });
            }
        }
    }

    /// Fills the chain, as far as it is served. At least one byte, or there is nothing to fill (5.4.6.2).
    fn fill<M: GuestMemory>(&mut self, memory: &M, most: usize) -> Result<usize, Broken> {
        let room = usize::try_from(self.chain.writable_len()).unwrap_or(usize::MAX);
        if room == 0 {
            return Err(Broken);
        }
        let bytes = room.min(most);
        let mut buffers = self.chain.writable();
        let mut done = 0;
        while done < bytes {
            let mut piece = [0; PIECE];
            let Some(now) = piece.get_mut(..PIECE.min(bytes - done)) else {
                break;
            };
            self.source.fill(now);
            buffers.write(memory, now).ok_or(Broken)?;
            done += now.len();
        }
        Ok(done)
    }
}

impl<M: GuestMemory, E: Entropy> Device<M> for Rng<E> {
    fn id(&self) -> u32 {
        4
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max(&self, queue: u16) -> u16 {
        if queue == 0 { self.queue_max } else { 0 }
    }

    fn read_config(&self, _: u64, _: &mut [u8]) {}

    fn start(&mut self, _: u64) {}

    fn open(&mut self, _: u16, ring: Queue) {
        self.ring = Some(ring);
    }

    fn close(&mut self, _: u16) {
        self.ring = None;
    }

    fn reset(&mut self) {
        self.ring = None;
    }

    fn serve(&mut self, _: u16, env: &mut Env<'_, M>) -> Served {
        let Some(mut ring) = self.ring.take() else {
            return Served::default();
        };
        let worked = self.work(&mut ring, env);
        let used = ring.publish(&env.memory);
        self.ring = Some(ring);
        Served {
            used,
            more: worked == Ok(true),
            broken: worked.is_err(),
            ..Served::default()
        }
    }
}
