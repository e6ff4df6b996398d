//! The receiving half of a station: others fill its queues, under a lock of its own.

use super::packet::{HEADER, Header};
use crate::chain::{Chain, Cursor};
use crate::memory::GuestMemory;
use crate::queue::Queue;
use zerocopy::IntoBytes;

/// What a station receives with.
pub(super) struct Receive<M> {
    /// The receiving guest's, while its driver runs.
    pub memory: Option<M>,
    pub ring: Option<Queue>,
    /// For events.
    pub events: Option<Queue>,
    /// Packets that bear messages are understood.
    pub has_messages: bool,
    /// Packets for it were lost, because it had no buffers for a long time: it has to hear that its connections are gone
    /// before it hears anything else.
    has_lost: bool,
    /// And nobody waits for it, until it has buffers.
    is_deaf: bool,
    pub is_broken: bool,
    /// There is something that the driver has not seen.
    pub has_unseen: bool,
}

/// How far a packet came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Given {
    All,
    /// There is no buffer.
    Waits,
    /// The rest is for later: the budget is spent.
    Later,
    /// Nobody is there, or memory is gone.
    Never,
}

/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET` (5.10.6.7).
const TRANSPORT_RESET: [u8; EVENT as usize] = [0; EVENT as usize];
const EVENT: u32 = 4;

impl<M> Receive<M> {
    pub const fn new() -> Self {
        Self {
            memory: None,
            ring: None,
            events: None,
            has_messages: false,
            has_lost: false,
            is_deaf: false,
            is_broken: false,
            has_unseen: false,
        }
    }
}

impl<M: GuestMemory> Receive<M> {
    /// Gives a packet, in as many pieces as its buffers make of it. `data` are the bytes that are left of it, and
    /// `budget` those that may be copied; both become less.
    pub fn give(
        &mut self,
        header: &Header,
        from: &M,
        data: &mut (Cursor<'_>, u32),
        chain: &mut Chain,
        budget: &mut u32,
    ) -> Given {
        let Some(memory) = self.memory.filter(|_| !self.is_broken && !self.has_lost) else {
            return Given::Never;
        };
        let Some(ring) = &mut self.ring else {
            return Given::Never;
        };
        loop {
            if *budget == 0 {
                return Given::Later;
            }
            match ring.pop(&memory, chain) {
                Ok(true) => self.is_deaf = false,
                Ok(false) if self.is_deaf => return Given::Never,
                Ok(false) => return Given::Waits,
                Err(_) => {
                    self.is_broken = true;
                    return Given::Never;
                }
            }
            let (at, left) = data;
            let room = u32::try_from(chain.writable_len()).unwrap_or(u32::MAX);
            let room = match room.checked_sub(HEADER) {
                Some(0) if *left != 0 => None,
                other => other,
            };
            let Some(room) = room else {
                // A driver that posts buffers for nothing would have everybody wait for ever.
                self.is_broken = true;
                return Given::Never;
            };
            let now = room.min(*left);
            let raw = header.write(now, now != *left);
            let mut into = chain.writable();
            let done = into.write(&memory, raw.as_bytes());
            if done
                .and_then(|()| copy(from, at, &memory, &mut into, now))
                .is_none()
            {
                ring.unpop(chain.ticket());
                return Given::Never;
            }
            ring.push(&memory, chain.ticket(), HEADER + now);
            self.has_unseen = true;
            *left -= now;
            *budget = budget.saturating_sub(HEADER.saturating_add(now));
            if *left == 0 {
                return Given::All;
            }
        }
    }

    /// Asks to be told of new buffers. Whether there are some.
    pub fn listen(&mut self) -> bool {
        match (&self.memory, &mut self.ring) {
            (Some(memory), Some(ring)) => ring.listen(memory),
            _ => true,
        }
    }

    /// Asks not to be.
    pub fn quiet(&mut self) {
        if let (Some(memory), Some(ring)) = (&self.memory, &mut self.ring) {
            ring.quiet(memory);
        }
    }

    /// Packets are lost, because it has no buffers.
    pub fn lose(&mut self, chain: &mut Chain) {
        self.has_lost = true;
        self.is_deaf = true;
        self.settle(chain);
    }

    /// Tells the driver that its connections are gone, if that is due and it has posted a buffer for it.
    pub fn settle(&mut self, chain: &mut Chain) {
        if !self.has_lost {
            return;
        }
        let (Some(memory), Some(ring)) = (&self.memory, &mut self.events) else {
            return;
        };
        match ring.pop(memory, chain) {
            Ok(true) => {
                let written = chain.writable().write(memory, &TRANSPORT_RESET);
                let written = written.map_or(0, |()| EVENT);
                ring.push(memory, chain.ticket(), written);
                self.has_lost = false;
                self.has_unseen = true;
            }
            Ok(false) => {}
            Err(_) => self.is_broken = true,
        }
    }

    /// Shows the driver what came. Whether it wants an interrupt for that.
    pub fn publish(&mut self) -> bool {
        let Some(memory) = self
            .memory
            .filter(|_| core::mem::take(&mut self.has_unseen))
        else {
            return self.is_broken;
        };
        let mut wants = false;
        for ring in [&mut self.ring, &mut self.events].into_iter().flatten() {
            wants |= ring.publish(&memory);
            self.is_broken |= ring.is_broken();
        }
        wants | self.is_broken
    }
}

/// Copies bytes from one guest to another, or to itself.
fn copy<M: GuestMemory>(
    from: &M,
    at: &mut Cursor<'_>,
    memory: &M,
    into: &mut Cursor<'_>,
    mut len: u32,
) -> Option<()> {
    while len != 0 {
        let to = into.clone().take(len)?;
        let piece = at.take(to.len)?;
        into.take(piece.len)?;
        from.copy(piece.at, memory, to.at, piece.len)?;
        len -= piece.len;
    }
    Some(())
}
