//! The short way of a frame against the long one, which alone would do: two worlds in which the same happens, and in one of
//! them every frame goes the long way, because somebody wants to hear of each operation.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::lan::{self, Card, Lan, OFFLOADS, PLAIN, SECOND, frame, mac, pattern, tagged};
use crate::device::{Device, Env, Event, Served};
use crate::fake::Ram;
use crate::features::Features;
use crate::net::{HEADER, NetFeatures};
use crate::rig::{Done, Driver};
use crate::switch::{Mac, Passed, Peer, Port, Reason, Vlan};

/// Guests; the hypervisor's station is behind them, and behind that an address that a guest may take.
const GUESTS: usize = 3;
const OTHER: usize = GUESTS + 1;
const US: [u8; 4] = [10, 0, 0, 254];
const MANY: NetFeatures = NetFeatures::CTRL_VQ.union(NetFeatures::MQ);
const RINGS: Features = Features::RING_PACKED
    .union(Features::EVENT_IDX)
    .union(Features::IN_ORDER);

#[derive(Clone, Debug)]
struct Plug {
    vlan: Vlan,
    is_open: bool,
    rate: u64,
    /// Bits of [`NetFeatures`] and [`Features`].
    features: u64,
    ring: u64,
    room: usize,
    pairs: usize,
}

#[derive(Clone, Debug)]
struct Packet {
    to: usize,
    from: Option<usize>,
    header: [u8; HEADER],
    /// Its Ethertype; tagged, if it is that of a tag.
    ethertype: u16,
    len: usize,
    /// For the station: what is another byte in it.
    other: Option<usize>,
    /// Where it is cut in two buffers.
    cut: Option<usize>,
    /// It is a buffer to write to.
    is_wrong: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize, Vec<Packet>),
    /// Posts so many buffers.
    Refill(usize, usize),
    /// Something to read where the device is to write.
    Wrong(usize),
    /// Asks for an interrupt after so many buffers, or for none.
    Sleep(usize, u16),
    Up(usize, bool),
    Mac(usize, usize),
    Wait(u64),
}

fn plug() -> impl Strategy<Value = Plug> {
    let vlan = prop_oneof![
        8 => Just(Vlan::Access(0)),
        1 => Just(Vlan::Access(10)),
        1 => Just(Vlan::Trunk),
    ];
    let features = prop_oneof![
        Just(PLAIN.bits()),
        Just(NetFeatures::MAC.bits()),
        Just(OFFLOADS.bits()),
        Just((PLAIN | NetFeatures::CSUM).bits()),
    ];
    let room = prop_oneof![6 => Just(1600_usize), 1 => 60..400_usize];
    let rate = prop_oneof![6 => Just(0), 1 => Just(20_000_u64)];
    (
        vlan,
        prop::bool::weighted(0.1),
        rate,
        features,
        any::<u64>(),
        room,
        prop_oneof![6 => Just(1_usize), 1 => Just(2)],
    )
        .prop_map(|(vlan, is_open, rate, features, ring, room, pairs)| Plug {
            vlan,
            is_open,
            rate,
            features,
            ring: ring & RINGS.bits(),
            room: if features & NetFeatures::MRG_RXBUF.bits() == 0 {
                1600
            } else {
                room
            },
            pairs,
        })
}

fn packet(by: usize) -> impl Strategy<Value = Packet> {
    let partner = (by + 1) % GUESTS;
    let to = prop_oneof![8 => Just(partner), 5 => Just(GUESTS), 3 => Just(OTHER), 2 => 0..OTHER];
    let from = prop_oneof![12 => Just(None), 1 => (0..=OTHER).prop_map(Some)];
    let header = prop_oneof![
        8 => Just([0; HEADER]),
        1 => Just([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9]),
        1 => Just([1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0]),
        1 => any::<[u8; HEADER]>(),
    ];
    let ethertype =
        prop_oneof![8 => Just(0x800_u16), 2 => Just(0x88b5), 1 => Just(0x8100), 1 => Just(0x88a8)];
    let len = prop_oneof![4 => 0..80_usize, 2 => 1400..1520_usize];
    let other = prop_oneof![4 => Just(None), 1 => (0..40_usize).prop_map(Some)];
    let cut = prop_oneof![6 => Just(None), 1 => (1..40_usize).prop_map(Some)];
    let wrong = prop::bool::weighted(0.03);
    (to, from, header, ethertype, len, other, cut, wrong).prop_map(
        |(to, from, header, ethertype, len, other, cut, is_wrong)| Packet {
            to,
            from,
            header,
            ethertype,
            len,
            other,
            cut,
            is_wrong,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let send = (0..GUESTS).prop_flat_map(|by| {
        let packets = prop::collection::vec(packet(by), 1..5);
        (Just(by), packets)
    });
    prop_oneof![
        24 => send.prop_map(|(by, packets)| Step::Send(by, packets)),
        6 => (0..GUESTS, 1..12_usize).prop_map(|(who, count)| Step::Refill(who, count)),
        3 => (0..GUESTS, 0..4_u16).prop_map(|(who, after)| Step::Sleep(who, after)),
        1 => (0..GUESTS, prop::bool::weighted(0.7)).prop_map(|(who, up)| Step::Up(who, up)),
        2 => (0..GUESTS, any::<bool>()).prop_map(|(who, own)| Step::Mac(who, if own { who } else { OTHER })),
        1 => (0..GUESTS).prop_map(Step::Wrong),
        2 => (0..SECOND).prop_map(Step::Wait),
    ]
}

impl Packet {
    /// Its bytes, with virtio's header; a question to the station, if it is for that.
    fn bytes(&self, by: usize) -> Vec<u8> {
        let mut carried = pattern(self.len, by);
        if self.to == GUESTS {
            let len = (28 + self.len as u16).to_be_bytes();
            let mut ip = vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, 17, 0, 0];
            ip.extend([10, 0, 0, 1]);
            ip.extend(US);
            let udp = (8 + self.len as u16).to_be_bytes();
            ip.extend([9, 9, 0, 7, udp[0], udp[1], 0xab, 0xcd]);
            ip.extend(carried);
            carried = ip;
        }
        if let Some(byte) = self.other.and_then(|at| carried.get_mut(at)) {
            *byte ^= 1;
        }
        let (to, from) = (mac(self.to), mac(self.from.unwrap_or(by)));
        let whole = if self.ethertype == 0x8100 {
            tagged(to, from, 10, 0x800, &carried)
        } else {
            frame(to, from, self.ethertype, &carried)
        };
        [&self.header[..], &whole].concat()
    }
}

/// Makes bytes available in a buffer that the device is to write.
fn writable(driver: &mut Driver<'_>, ram: &Ram, bytes: &[u8]) -> Option<(u16, bool)> {
    let token = driver.prepare(&[], &[bytes.len()])?;
    let (at, _) = driver.buffers(false).last()?;
    ram.poke(at, bytes);
    Some((token, driver.expose()))
}

/// Posts so many buffers, if there is room for them.
fn post(card: &mut Card, count: usize) {
    for queue in &mut card.receive {
        for _ in 0..count {
            let _ = queue.send(&[], &[card.room]);
        }
    }
}

struct World {
    lan: Lan,
    cards: Vec<Card>,
    is_long: bool,
}

/// What can be seen of a step.
#[derive(PartialEq, Debug, Default)]
struct Seen {
    served: Option<Served>,
    transmitted: Vec<(u16, u32)>,
    received: Vec<Vec<(u16, u32, Vec<u8>)>>,
    counts: Vec<(Passed, Passed)>,
    broken: Vec<bool>,
}

impl World {
    fn new(plugs: &[Plug], is_long: bool) -> Self {
        let mut ports: Vec<_> = (plugs.iter().enumerate())
            .map(|(at, plug)| {
                let guest = Peer::Guest {
                    mac: mac(at),
                    is_open: plug.is_open,
                    rate: plug.rate,
                };
                Port::new(0, plug.vlan, guest)
            })
            .collect();
        let echo = Peer::Echo {
            mac: mac(GUESTS),
            ip: US,
        };
        ports.push(Port::new(0, Vlan::Access(0), echo));
        let lan = lan::switch(ports);
        let cards = (plugs.iter().enumerate()).map(|(at, plug)| {
            let mut card = {
                let features = NetFeatures::from_bits_truncate(plug.features);
                let ring = Features::from_bits_truncate(plug.ring);
                Card::idle(lan, at, features | MANY, ring, plug.room, plug.pairs)
            };
            if plug.pairs == 2 {
                assert!(card.command(4, 0, &2_u16.to_le_bytes()));
            }
            post(&mut card, 12);
            card
        });
        Self {
            lan,
            cards: cards.collect(),
            is_long,
        }
    }

    fn send(&mut self, by: usize, packets: &[Packet]) -> Served {
        let card = &mut self.cards[by];
        for packet in packets {
            let bytes = packet.bytes(by);
            let driver = &mut card.transmit[0];
            let sent = match packet.cut {
                _ if packet.is_wrong => writable(driver, card.ram, &bytes),
                Some(at) => {
                    let (one, two) = bytes.split_at(at.min(bytes.len() - 1));
                    driver.send(&[one, two], &[])
                }
                None => driver.send(&[&bytes], &[]),
            };
            assert!(sent.is_some());
        }
        let mut ignore = |_: Event| {};
        let mut env = Env {
            memory: card.ram,
            now: card.now,
            frequency: SECOND,
            trace: None,
        };
        if self.is_long {
            env.trace = Some(&mut ignore);
        }
        card.net.serve(1, &mut env)
    }

    fn act(&mut self, step: &Step) -> Seen {
        let mut seen = Seen::default();
        match step {
            Step::Send(by, packets) => {
                // What is broken has to be reset.
                if !self.cards[*by].net.is_broken() {
                    seen.served = Some(self.send(*by, packets));
                    while let Some(Done { token, written, .. }) =
                        self.cards[*by].transmit[0].receive()
                    {
                        seen.transmitted.push((token, written));
                    }
                }
            }
            Step::Refill(who, count) => post(&mut self.cards[*who], *count),
            Step::Wrong(who) => _ = self.cards[*who].receive[0].send(&[&[0; 1600]], &[]),
            Step::Sleep(who, after) => {
                let driver = &mut self.cards[*who].receive[0];
                if *after == 0 {
                    driver.mask();
                } else if driver.in_flight() >= usize::from(*after) {
                    assert!(driver.sleep(*after));
                }
            }
            Step::Up(who, is_up) => self.lan.ports()[*who].set_up(*is_up),
            Step::Mac(who, to) => {
                let to = Mac::new(mac(*to));
                if self.lan.is_free(*who, to) {
                    self.lan.set_mac(*who, to);
                }
            }
            Step::Wait(ticks) => {
                for card in &mut self.cards {
                    card.now += ticks;
                }
            }
        }
        for card in &mut self.cards {
            let mut all = Vec::new();
            for queue in &mut card.receive {
                while let Some(done) = queue.receive() {
                    all.push((done.token, done.written, done.data));
                }
            }
            seen.received.push(all);
            seen.broken.push(card.net.is_broken());
        }
        let ports = self.lan.ports().iter();
        seen.counts = ports.map(|port| (port.sent(), port.received())).collect();
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_short_way_is_the_long_one(
        plugs in prop::collection::vec(plug(), GUESTS),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (mut short, mut long) = (World::new(&plugs, false), World::new(&plugs, true));
        for step in &steps {
            prop_assert_eq!(short.act(step), long.act(step), "{:?}", step);
        }
    }
}

/// Guests on one network; some may send from any address.
fn guests(open: [bool; GUESTS]) -> (Lan, Vec<Card>) {
    let ports = (0..GUESTS).zip(open).map(|(at, is_open)| {
        let guest = Peer::Guest {
            mac: mac(at),
            is_open,
            rate: 0,
        };
        Port::new(0, Vlan::Access(0), guest)
    });
    let lan = lan::switch(ports.collect());
    let cards = (0..GUESTS).map(|at| Card::new(lan, at, PLAIN));
    (lan, cards.collect())
}

/// A packet in one buffer.
fn packet_of(to: usize, from: usize) -> Vec<u8> {
    let carried = pattern(60, from);
    [
        &[0; HEADER][..],
        &frame(mac(to), mac(from), 0x88b5, &carried),
    ]
    .concat()
}

#[test]
fn vio_09_what_the_device_is_to_write_is_not_sent() {
    let (lan, mut cards) = guests([false; GUESTS]);
    let packet = packet_of(1, 0);
    // The second of them goes the short way.
    for _ in 0..2 {
        assert_eq!(cards[0].packet(&[&packet]).ports, 2);
        assert_eq!(cards[1].frames().len(), 1);
    }
    let ram = cards[0].ram;
    assert!(writable(&mut cards[0].transmit[0], ram, &packet).is_some());
    assert_eq!(cards[0].kick(0).ports, 0);
    assert!(cards[1].frames().is_empty());
    assert_eq!(lan.ports()[0].sent().dropped(Reason::Malformed), 1);
    assert_eq!(lan.ports()[0].sent().frames, 2);
}

/// Each frame of who may send from any address says where that address is now.
#[test]
fn what_lies_behind_an_open_port_is_learned_from_each_frame() {
    let (_, mut cards) = guests([true, true, false]);
    let beyond = GUESTS + 3;
    for from in [0, 0, 1, 1, 0, 1, 0] {
        assert_eq!(cards[from].packet(&[&packet_of(2, beyond)]).ports, 4);
        assert_eq!(cards[2].packet(&[&packet_of(beyond, 2)]).ports, 1 << from);
        assert_eq!(cards[from].frames().len(), 1);
    }
}
