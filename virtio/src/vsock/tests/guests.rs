//! Guests with a socket device each, and their drivers.

use std::boxed::Box;
use std::vec::Vec;

use crate::device::{Device, Env, Served};
use crate::fake::{BASE, Loan, Ram};
use crate::features::Features;
use crate::queue::Queue;
use crate::rig::Driver;
use crate::vsock::{Exchange, Station, Vsock};

pub type Memory = &'static Ram;
pub type Sockets = &'static Exchange<'static, Memory>;

pub const SECOND: u64 = 1_000_000;
pub const HOST: u64 = 2;
/// The context id of the first guest.
pub const FIRST: u64 = 10;
/// Stations come behind so many ports.
pub const PORTS: usize = 5;

pub const REQUEST: u16 = 1;
pub const RESPONSE: u16 = 2;
pub const RESET: u16 = 3;
pub const SHUTDOWN: u16 = 4;
pub const DATA: u16 = 5;
pub const CREDIT_UPDATE: u16 = 6;
pub const CREDIT_REQUEST: u16 = 7;

const AREA: u64 = 0x40_0000;
const SIZE: u16 = 64;

/// A packet, as a guest sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    pub from: (u64, u32),
    pub to: (u64, u32),
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
    pub data: Vec<u8>,
}

impl Packet {
    pub fn new(from: (u64, u32), to: (u64, u32), op: u16) -> Self {
        Self {
            from,
            to,
            kind: 1,
            op,
            flags: 0,
            buf_alloc: 0x1_0000,
            fwd_cnt: 0,
            data: Vec::new(),
        }
    }

    pub fn data(from: (u64, u32), to: (u64, u32), data: &[u8]) -> Self {
        Self {
            data: data.to_vec(),
            ..Self::new(from, to, DATA)
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        all.extend(self.from.0.to_le_bytes());
        all.extend(self.to.0.to_le_bytes());
        all.extend(self.from.1.to_le_bytes());
        all.extend(self.to.1.to_le_bytes());
        all.extend((self.data.len() as u32).to_le_bytes());
        all.extend(self.kind.to_le_bytes());
        all.extend(self.op.to_le_bytes());
        all.extend(self.flags.to_le_bytes());
        all.extend(self.buf_alloc.to_le_bytes());
        all.extend(self.fwd_cnt.to_le_bytes());
        all.extend(&self.data);
        all
    }

    fn read(bytes: &[u8]) -> Self {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        assert_eq!(
            u32_at(24) as usize,
            bytes.len() - 44,
            "what is said is there"
        );
        Self {
            from: (u64_at(0), u32_at(16)),
            to: (u64_at(8), u32_at(20)),
            kind: u32_at(28) as u16,
            op: (u32_at(28) >> 16) as u16,
            flags: u32_at(32),
            buf_alloc: u32_at(36),
            fwd_cnt: u32_at(40),
            data: bytes[44..].to_vec(),
        }
    }

    /// A reset of it, as its sender gets it.
    pub fn reset(&self) -> Self {
        Self {
            kind: self.kind,
            buf_alloc: 0,
            ..Self::new(self.to, self.from, RESET)
        }
    }
}

/// So many stations that may all talk to each other.
pub fn sockets(guests: usize) -> Sockets {
    with_peers(&std::vec![u64::MAX; guests])
}

/// Stations that may talk to these.
pub fn with_peers(peers: &[u64]) -> Sockets {
    let stations = peers.iter().zip(FIRST..);
    let stations: Vec<Station<Memory>> = stations
        .map(|(&peers, cid)| Station::new(cid, peers))
        .collect();
    let stations = Box::leak(stations.into_boxed_slice());
    Box::leak(Box::new(
        Exchange::new(stations, PORTS).expect("an exchange"),
    ))
}

pub struct Guest {
    pub device: Vsock<'static, Memory>,
    pub ram: Memory,
    _loan: Loan,
    /// Memory that no queue has.
    pub spare: u64,
    pub receive: Driver<'static>,
    pub transmit: Driver<'static>,
    pub events: Driver<'static>,
    pub now: u64,
}

impl Guest {
    /// With a driver that understands messages, and has posted nothing.
    pub fn idle(sockets: Sockets, station: usize, rings: Features, features: u64) -> Self {
        Self::with_area(AREA, sockets, station, rings, features)
    }

    /// The same, with so many bytes for a queue and its buffers.
    pub fn with_area(
        area: u64,
        sockets: Sockets,
        station: usize,
        rings: Features,
        features: u64,
    ) -> Self {
        let loan = Loan::new((3 * area + 0x1000) as usize);
        let ram = loan.ram();
        let mut device = Vsock::new(sockets, station, ram).expect("a station");
        let rings = rings | Features::VERSION_1;
        let mut at = BASE;
        let mut queue = |number: u16| {
            let driver = Driver::new(ram, at, area, SIZE, rings);
            at += area;
            let made = Queue::new(&driver.config(), device.queue_max(number), rings, &ram);
            device.open(number, made.expect("a queue"));
            driver
        };
        let (receive, transmit, events) = (queue(0), queue(1), queue(2));
        device.start(features);
        Self {
            device,
            ram,
            _loan: loan,
            spare: at,
            receive,
            transmit,
            events,
            now: SECOND,
        }
    }

    /// With a driver that has posted buffers.
    pub fn new(sockets: Sockets, station: usize) -> Self {
        let mut guest = Self::idle(sockets, station, Features::empty(), 3);
        let _ = guest.refill();
        guest
    }

    pub fn serve(&mut self, queue: u16) -> Served {
        let mut env = Env {
            memory: self.ram,
            now: self.now,
            frequency: SECOND,
            trace: None,
        };
        self.device.serve(queue, &mut env)
    }

    /// Posts receive buffers of 4 KiB until the queue is full, and notifies if the device wants to know.
    pub fn refill(&mut self) -> Option<Served> {
        let mut wanted = false;
        while let Some((_, wants)) = self.receive.send(&[], &[4096]) {
            wanted |= wants;
        }
        wanted.then(|| self.serve(0))
    }

    /// Makes a packet available. Whether the device has to be notified.
    pub fn post(&mut self, packet: &Packet) -> bool {
        let bytes = packet.bytes();
        let (header, data) = bytes.split_at(44.min(bytes.len()));
        let parts = if data.is_empty() {
            &[header][..]
        } else {
            &[header, data]
        };
        self.transmit.send(parts, &[]).expect("room").1
    }

    /// Sends a packet.
    pub fn send(&mut self, packet: &Packet) -> Served {
        self.post(packet);
        self.kick()
    }

    pub fn kick(&mut self) -> Served {
        let served = self.serve(1);
        self.reap();
        served
    }

    /// Takes back what was sent.
    pub fn reap(&mut self) {
        while self.transmit.receive().is_some() {}
    }

    /// The packets that have come.
    pub fn received(&mut self) -> Vec<Packet> {
        let mut all = Vec::new();
        while let Some(done) = self.receive.receive() {
            all.push(Packet::read(&done.data[..done.written as usize]));
        }
        all
    }
}
