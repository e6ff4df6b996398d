//! Stations: a guest's sending and its receiving half, and the packet that is on its way.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use spin::Mutex;

use super::packet::{HEADER, Header, SEQPACKET};
use super::receive::{Given, Receive};
use super::service::Echo;
use crate::chain::Chain;
use crate::memory::GuestMemory;
use crate::queue::Queue;
use crate::switch::rate::Meter;

/// Connections that a guest may ask for in a second, and at once.
const REQUESTS: u64 = 1000;
const REQUESTS_BURST: u64 = 256;

/// What a guest has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Packets that reached somebody.
    pub packets: u64,
    /// Their data, in bytes.
    pub bytes: u64,
    /// Packets that made no sense, or bore another guest's context id.
    pub refused: u64,
    /// Packets that were answered by a reset: for nobody, for somebody it may not talk to, or too many.
    pub reset: u64,
    /// Packets that were lost because the receiver had no buffers for too long.
    pub lost: u64,
}

/// A packet that is on its way.
pub(super) struct Packet {
    pub header: Header,
    /// Whose receive queue it is for.
    pub to: usize,
    /// Bytes of data in all, and those that have been given.
    pub len: u32,
    pub given: u32,
    /// Since when it has waited, if it does.
    pub since: Option<u64>,
}

/// The sending half of a station.
pub(super) struct Transmit<M> {
    pub memory: Option<M>,
    pub ring: Option<Queue>,
    pub is_broken: bool,
    /// What was taken last, and what is to be done with it.
    pub chain: Chain,
    pub packet: Option<Packet>,
    pub requests: Meter,
    pub echo: Echo,
    pub counts: Counts,
    /// Where receivers' buffers are noted.
    pub into: Chain,
}

impl<M> Transmit<M> {
    const fn new() -> Self {
        Self {
            memory: None,
            ring: None,
            is_broken: false,
            chain: Chain::new(),
            packet: None,
            requests: Meter::new(REQUESTS, REQUESTS_BURST),
            echo: Echo::new(),
            counts: Counts {
                packets: 0,
                bytes: 0,
                refused: 0,
                reset: 0,
                lost: 0,
            },
            into: Chain::new(),
        }
    }

    /// The queue is not touched any more.
    pub fn close(&mut self) {
        self.ring = None;
        self.packet = None;
    }

    /// As after power-on. Counts stay, and so does what is limited in time.
    pub fn reset(&mut self) {
        self.memory = None;
        self.ring = None;
        self.is_broken = false;
        self.packet = None;
        self.echo.reset();
    }
}

impl<M: GuestMemory> Transmit<M> {
    /// Gives the chain of a packet back: nothing is to be done with it any more.
    pub fn finish(&mut self) {
        self.packet = None;
        if let (Some(memory), Some(ring)) = (&self.memory, &mut self.ring) {
            ring.push(memory, self.chain.ticket(), 0);
        }
    }

    /// Asks to be told of new packets, even though those that there are stay where they are.
    pub fn listen(&mut self) {
        if let (Some(memory), Some(ring)) = (&self.memory, &mut self.ring) {
            let _ = ring.listen(memory);
        }
    }

    /// Shows the driver what is done. Whether it wants an interrupt for that, or has to hear that it needs a reset.
    pub fn publish(&mut self) -> bool {
        let (Some(memory), Some(ring)) = (&self.memory, &mut self.ring) else {
            return false;
        };
        let wants = ring.publish(memory);
        self.is_broken |= ring.is_broken();
        wants | self.is_broken
    }
}

/// A guest with its context id.
pub struct Station<M> {
    pub(super) cid: u64,
    /// The stations that it may talk to.
    pub(super) peers: u64,
    pub(super) transmit: Mutex<Transmit<M>>,
    pub(super) receive: Mutex<Receive<M>>,
    /// Stations whose packets wait for buffers of this one.
    pub(super) waiting: AtomicU64,
}

impl<M> Station<M> {
    /// One that may talk to the host's services, and to the stations of these numbers, if they may talk to it.
    #[must_use]
    pub const fn new(cid: u64, peers: u64) -> Self {
        Self {
            cid,
            peers,
            transmit: Mutex::new(Transmit::new()),
            receive: Mutex::new(Receive::new()),
            waiting: AtomicU64::new(0),
        }
    }

    /// Whether somebody waits for its buffers.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(SeqCst) != 0
    }

    /// Its context id.
    #[must_use]
    pub const fn cid(&self) -> u64 {
        self.cid
    }

    /// What it has sent.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.transmit.lock().counts
    }
}

impl Packet {
    /// Gives what is left of it.
    pub fn give<M: GuestMemory>(
        &mut self,
        receive: &mut Receive<M>,
        memory: &M,
        chain: &Chain,
        into: &mut Chain,
        bytes: &mut u32,
    ) -> Given {
        if self.header.kind == SEQPACKET && !receive.has_messages {
            return Given::Never;
        }
        let mut at = chain.readable();
        if self.len != 0 && at.skip(u64::from(HEADER) + u64::from(self.given)).is_none() {
            return Given::Never;
        }
        let mut data = (at, self.len - self.given);
        let before = self.given;
        let given = receive.give(&self.header, memory, &mut data, into, bytes);
        self.given = self.len - data.1;
        if self.given != before {
            // Somebody is there after all.
            self.since = None;
        }
        given
    }
}
