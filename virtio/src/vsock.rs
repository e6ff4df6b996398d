//! The socket device: virtio 1.3, 5.10.
//!
//! Guests speak to services of the host ([`HOST`]), and to each other where both may. What one sends is copied once, into
//! the other's buffers ([`Exchange`]). Who is who is not the sender's to say; how much may be sent before it was read is
//! between the two, and who keeps to nothing is told so by the other's network stack, or finds no buffers there.

mod exchange;
mod packet;
mod receive;
mod service;
mod station;
#[cfg(test)]
mod tests;

use crate::device::{Device, Env, Served};
use crate::memory::GuestMemory;
use crate::queue::Queue;
use crate::switch::rate::Clock;
use exchange::Work;
pub use exchange::{Exchange, MAX_STATIONS};
pub use packet::HOST;
use receive::Receive;
pub use station::{Counts, Station};

/// `VIRTIO_VSOCK_F_STREAM` and `VIRTIO_VSOCK_F_SEQPACKET`.
const STREAMS: u64 = 1 << 0;
const MESSAGES: u64 = 1 << 1;

/// The queues (5.10.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const EVENTS: u16 = 2;
const RINGS: usize = 3;
/// The largest queue.
const QUEUE_MAX: u16 = 256;

/// The device of a station.
pub struct Vsock<'a, M> {
    exchange: &'a Exchange<'a, M>,
    station: &'a Station<M>,
    number: usize,
    memory: M,
    /// Queues, until the driver is ready.
    rings: [Option<Queue>; RINGS],
    is_started: bool,
    /// The station that was woken last.
    turn: u32,
}

impl<'a, M: GuestMemory> Vsock<'a, M> {
    /// The device of a station, whose guest has this memory. `None` if there is no such station.
    #[must_use]
    pub fn new(exchange: &'a Exchange<'a, M>, station: usize, memory: M) -> Option<Self> {
        Some(Self {
            exchange,
            station: exchange.station(station)?,
            number: station,
            memory,
            rings: [const { None }; RINGS],
            is_started: false,
            turn: 0,
        })
    }

    /// Gives a queue to the station.
    fn hand_over(&mut self, queue: u16) {
        let Some(mut ring) = self
            .rings
            .get_mut(usize::from(queue))
            .and_then(Option::take)
        else {
            return;
        };
        match queue {
            RECEIVE => {
                // Nobody needs to hear of buffers for which nobody waits.
                if !self.station.is_awaited() {
                    ring.quiet(&self.memory);
                }
                self.station.receive.lock().ring = Some(ring);
            }
            TRANSMIT => self.station.transmit.lock().ring = Some(ring),
            _ => self.station.receive.lock().events = Some(ring),
        }
    }

    fn served(&self, work: Work) -> Served {
        let own = self.exchange.name(self.number);
        Served {
            used: work.wants & own != 0,
            more: work.more,
            ports: work.wants & !own,
            broken: self.is_broken(),
            ..Served::default()
        }
    }
}

fn clock<M>(env: &Env<'_, M>) -> Clock {
    Clock {
        now: env.now,
        frequency: env.frequency,
    }
}

impl<M: GuestMemory> Device<M> for Vsock<'_, M> {
    fn id(&self) -> u32 {
        19
    }

    fn features(&self) -> u64 {
        STREAMS | MESSAGES
    }

    fn queue_max(&self, queue: u16) -> u16 {
        if usize::from(queue) < RINGS {
            QUEUE_MAX
        } else {
            0
        }
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        let cid = self.station.cid().to_le_bytes();
        let from = usize::try_from(offset).ok().and_then(|at| cid.get(at..));
        for (to, from) in into.iter_mut().zip(from.unwrap_or_default()) {
            *to = *from;
        }
    }

    fn start(&mut self, features: u64) {
        self.is_started = true;
        self.station.transmit.lock().memory = Some(self.memory);
        let mut receive = self.station.receive.lock();
        receive.memory = Some(self.memory);
        receive.has_messages = features & MESSAGES != 0;
        drop(receive);
        for queue in [RECEIVE, TRANSMIT, EVENTS] {
            self.hand_over(queue);
        }
    }

    fn open(&mut self, queue: u16, ring: Queue) {
        if let Some(place) = self.rings.get_mut(usize::from(queue)) {
            *place = Some(ring);
        }
        if self.is_started {
            self.hand_over(queue);
        }
    }

    fn close(&mut self, queue: u16) {
        if let Some(place) = self.rings.get_mut(usize::from(queue)) {
            *place = None;
        }
        match queue {
            RECEIVE => self.station.receive.lock().ring = None,
            TRANSMIT => self.station.transmit.lock().close(),
            _ => self.station.receive.lock().events = None,
        }
    }

    fn reset(&mut self) {
        self.station.transmit.lock().reset();
        *self.station.receive.lock() = Receive::new();
        self.rings = [const { None }; RINGS];
        self.is_started = false;
    }

    fn serve(&mut self, queue: u16, env: &mut Env<'_, M>) -> Served {
        let work = match queue {
            RECEIVE => (self.exchange).wake(self.station, &mut self.turn, clock(env)),
            TRANSMIT => self.exchange.pump(self.number, clock(env)),
            _ => self.exchange.settle(self.number),
        };
        self.served(work)
    }

    fn poll(&mut self, env: &mut Env<'_, M>) -> Served {
        let wants = self.exchange.expire(env.now, env.frequency);
        self.served(Work { more: false, wants })
    }

    fn is_broken(&self) -> bool {
        let is_broken = self.station.transmit.lock().is_broken;
        is_broken || self.station.receive.lock().is_broken
    }
}
