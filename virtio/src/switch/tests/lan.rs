//! Some guests with a card each, and their drivers.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use crate::device::{Device, Env, Served};
use crate::fake::{BASE, Loan, Ram};
use crate::features::Features;
use crate::net::{HEADER, Net, NetFeatures};
use crate::queue::Queue;
use crate::rig::Driver;
use crate::switch::{Peer, Port, Switch, Vlan};

pub type Memory = &'static Ram;
pub type Lan = &'static Switch<'static, Memory>;

/// Ticks in a second.
pub const SECOND: u64 = 1_000_000;
/// What most drivers agree to.
pub const PLAIN: NetFeatures = NetFeatures::MAC.union(NetFeatures::MRG_RXBUF);
/// And with all offloads.
pub const OFFLOADS: NetFeatures = PLAIN
    .union(NetFeatures::GUEST_OFFLOADS)
    .union(NetFeatures::CSUM)
    .union(NetFeatures::HOST_TSO4)
    .union(NetFeatures::HOST_TSO6)
    .union(NetFeatures::HOST_ECN)
    .union(NetFeatures::HOST_USO);

/// The address of a port's card.
pub fn mac(port: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, port as u8 + 1]
}

/// A guest's port, with nothing special.
pub fn guest(port: usize, network: u8, vlan: Vlan) -> Port<'static, Memory> {
    Port::new(
        network,
        vlan,
        Peer::Guest {
            mac: mac(port),
            is_open: false,
            rate: 0,
        },
    )
}

/// A switch, for ever.
pub fn switch(ports: Vec<Port<'static, Memory>>) -> Lan {
    let ports = Box::leak(ports.into_boxed_slice());
    Box::leak(Box::new(Switch::new(ports).expect("a switch")))
}

/// So many guests on a network of their own.
pub fn lan(guests: usize) -> (Lan, Vec<Card>) {
    let ports = (0..guests).map(|port| guest(port, 0, Vlan::Access(0)));
    let lan = switch(ports.collect());
    let cards = (0..guests).map(|port| Card::new(lan, port, PLAIN));
    (lan, cards.collect())
}

/// What a driver receives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    pub header: [u8; HEADER],
    pub frame: Vec<u8>,
}

/// A card and its driver.
pub struct Card {
    pub net: Net<'static, Memory>,
    pub ram: Memory,
    _loan: Loan,
    /// Memory that no queue has.
    pub spare: u64,
    pub receive: Vec<Driver<'static>>,
    pub transmit: Vec<Driver<'static>>,
    pub control: Driver<'static>,
    /// Bytes of each receive buffer.
    pub room: usize,
    pub now: u64,
}

/// Bytes of RAM for a queue and its buffers: 8 KiB for each, or what is left of 64.
const AREA: u64 = 0x8_0000;
const LARGE_AREA: u64 = 0x60_0000;
const SIZE: u16 = 64;

impl Card {
    /// With a driver that agrees to this, and has posted as many buffers as it can.
    pub fn new(lan: Lan, port: usize, features: NetFeatures) -> Self {
        let room = if features.contains(NetFeatures::GUEST_TSO4)
            && !features.contains(NetFeatures::MRG_RXBUF)
        {
            65_562
        } else {
            1526
        };
        let mut card = Self::idle(lan, port, features, Features::VERSION_1, room, 1);
        card.refill();
        card
    }

    /// The same, with no buffers posted.
    pub fn idle(
        lan: Lan,
        port: usize,
        features: NetFeatures,
        ring: Features,
        room: usize,
        pairs: usize,
    ) -> Self {
        let queues = 2 * pairs as u64 + 1;
        let is_large = features.intersects(OFFLOADS.difference(PLAIN));
        let area = if is_large { LARGE_AREA } else { AREA };
        let loan = Loan::new((area * queues + 0x1000) as usize);
        let ram = loan.ram();
        let mut net = Net::new(lan, port, ram, pairs as u8).expect("a guest's port");
        let ring = ring | Features::VERSION_1;
        let mut at = BASE;
        let mut queue = |number: u16, net: &mut Net<'static, Memory>| {
            let driver = Driver::new(ram, at, area, SIZE, ring);
            at += area;
            let made = Queue::new(&driver.config(), net_max(net, number), ring, &ram);
            net.open(number, made.expect("a queue"));
            driver
        };
        let mut receive = Vec::new();
        let mut transmit = Vec::new();
        for pair in 0..pairs as u16 {
            receive.push(queue(2 * pair, &mut net));
            transmit.push(queue(2 * pair + 1, &mut net));
        }
        let control = queue(2 * pairs as u16, &mut net);
        net.start(features.bits());
        Self {
            net,
            ram,
            _loan: loan,
            spare: BASE + area * queues,
            receive,
            transmit,
            control,
            room,
            now: SECOND,
        }
    }

    pub fn env(&self) -> Env<'static, Memory> {
        Env {
            memory: self.ram,
            now: self.now,
            frequency: SECOND,
            trace: None,
        }
    }

    /// Posts receive buffers until the queues are full.
    pub fn refill(&mut self) {
        for driver in &mut self.receive {
            while driver.send(&[], &[self.room]).is_some() {}
        }
    }

    /// Makes a packet available, a virtio header among it, and does not notify.
    pub fn post(&mut self, pair: usize, parts: &[&[u8]]) {
        self.transmit[pair]
            .send(parts, &[])
            .expect("room in the queue");
    }

    /// Notifies.
    pub fn kick(&mut self, pair: usize) -> Served {
        let served = self.net.serve(2 * pair as u16 + 1, &mut self.env());
        while self.transmit[pair].receive().is_some() {}
        served
    }

    /// Sends a packet.
    pub fn packet(&mut self, parts: &[&[u8]]) -> Served {
        self.post(0, parts);
        self.kick(0)
    }

    /// Sends a frame that leaves nothing to do.
    pub fn frame(&mut self, frame: &[u8]) -> Served {
        self.packet(&[&[0; HEADER], frame])
    }

    /// What has come on a queue, and is put together.
    pub fn received_on(&mut self, pair: usize) -> Vec<Received> {
        let mut all = Vec::new();
        while let Some(done) = self.receive[pair].receive() {
            let first = &done.data[..done.written as usize];
            let (header, frame) = first.split_first_chunk::<HEADER>().expect("a header");
            let mut frame = frame.to_vec();
            for _ in 1..u16::from_le_bytes([header[10], header[11]]) {
                let more = self.receive[pair].receive().expect("as many as were said");
                frame.extend(&more.data[..more.written as usize]);
            }
            all.push(Received {
                header: *header,
                frame,
            });
        }
        all
    }

    /// The frames that have come.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        let all = (0..self.receive.len()).flat_map(|pair| self.received_on(pair));
        all.map(|one| one.frame).collect::<Vec<_>>()
    }

    /// Gives a command; whether it was carried out.
    pub fn command(&mut self, class: u8, command: u8, data: &[u8]) -> bool {
        let sent = self.control.send(&[&[class, command], data], &[1]);
        assert!(sent.is_some());
        let queue = 2 * self.receive.len() as u16;
        let queue = if self.receive.len() == 1 { 2 } else { queue };
        let served = self.net.serve(queue, &mut self.env());
        assert!(!served.broken && !served.more);
        let done = self.control.receive().expect("an answer");
        assert_eq!(done.written, 1);
        done.data[0] == 0
    }
}

fn net_max(net: &Net<'static, Memory>, queue: u16) -> u16 {
    net.queue_max(queue)
}

/// A frame between two stations.
pub fn frame(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut all = Vec::from(to);
    all.extend(from);
    all.extend(ethertype.to_be_bytes());
    all.extend(payload);
    all
}

/// The same with a tag.
pub fn tagged(to: [u8; 6], from: [u8; 6], tag: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut rest = Vec::from(tag.to_be_bytes());
    rest.extend(ethertype.to_be_bytes());
    rest.extend(payload);
    frame(to, from, 0x8100, &rest)
}

/// Everybody.
pub const ALL: [u8; 6] = [0xff; 6];

/// Bytes that are not all the same.
pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (byte, n) in bytes.iter_mut().zip(seed..) {
        *byte = (n * 7 + n / 251) as u8;
    }
    bytes
}
