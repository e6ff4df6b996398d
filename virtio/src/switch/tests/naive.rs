//! The switch against a naive one.

use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::lan::{self, ALL, Card, PLAIN, mac, pattern};
use crate::device::Device;
use crate::features::Features;
use crate::net::{HEADER, NetFeatures};
use crate::switch::{Peer, Port, Vlan};

#[derive(Clone, Debug)]
struct Plug {
    network: u8,
    vlan: Option<u16>,
    is_open: bool,
    rings: u64,
    merges: bool,
    room: usize,
}

#[derive(Clone, Debug)]
struct Send {
    by: usize,
    to: [u8; 6],
    from: [u8; 6],
    tags: Vec<u16>,
    len: usize,
    /// How the packet is cut into buffers.
    cut: usize,
}

fn plug() -> impl Strategy<Value = Plug> {
    let vlan = prop_oneof![
        4 => Just(Some(0)),
        2 => Just(Some(10)),
        1 => Just(Some(20)),
        2 => Just(None),
    ];
    let room = prop_oneof![Just(1526_usize), Just(4096), 100..400_usize];
    (
        0..2_u8,
        vlan,
        any::<bool>(),
        any::<u64>(),
        any::<bool>(),
        room,
    )
        .prop_map(|(network, vlan, is_open, rings, merges, room)| Plug {
            network,
            vlan,
            is_open,
            rings,
            merges,
            room: if merges { room } else { room.max(1530) },
        })
}

fn address(ports: usize) -> impl Strategy<Value = [u8; 6]> {
    prop_oneof![
        6 => (0..ports).prop_map(mac),
        2 => (100..104_usize).prop_map(mac),
        1 => Just(ALL),
        1 => Just([0x33, 0x33, 0, 0, 0, 1]),
        1 => Just([1, 0x80, 0xc2, 0, 0, 0xe]),
        1 => Just([0; 6]),
    ]
}

fn send(ports: usize) -> impl Strategy<Value = Send> {
    let tags = prop_oneof![
        4 => Just(vec![]),
        2 => Just(vec![10]),
        1 => Just(vec![0xa00a]),
        1 => Just(vec![20]),
        1 => Just(vec![0xe000]),
        1 => Just(vec![0xfff]),
        1 => Just(vec![10, 10]),
    ];
    let own = prop_oneof![3 => Just(true), 1 => Just(false)];
    let len = prop_oneof![0..80_usize, 1400..1510_usize];
    (
        0..ports,
        address(ports),
        own,
        address(ports),
        tags,
        len,
        1..60_usize,
    )
        .prop_map(|(by, to, own, from, tags, len, cut)| Send {
            by,
            to,
            from: if own { mac(by) } else { from },
            tags,
            len,
            cut,
        })
}

fn world() -> impl Strategy<Value = (Vec<Plug>, Vec<Send>)> {
    prop::collection::vec(plug(), 1..7).prop_flat_map(|plugs| {
        let ports = plugs.len();
        (Just(plugs), prop::collection::vec(send(ports), 1..40))
    })
}

impl Send {
    fn bytes(&self) -> Vec<u8> {
        let mut inner = Vec::new();
        for tag in &self.tags {
            inner.extend(0x8100_u16.to_be_bytes());
            inner.extend(tag.to_be_bytes());
        }
        inner.extend([0x88, 0xb5]);
        inner.extend(pattern(self.len, self.by));
        [&self.to[..], &self.from[..], &inner].concat()
    }
}

/// A switch as a textbook has it.
struct Naive {
    plugs: Vec<Plug>,
    learned: HashMap<(u8, [u8; 6]), usize>,
}

impl Naive {
    /// Who receives which bytes.
    fn send(&mut self, send: &Send) -> Vec<(usize, Vec<u8>)> {
        let own = &self.plugs[send.by];
        let network = own.network;
        let is_station = |mac: [u8; 6]| mac[0] & 1 == 0 && mac != [0; 6];
        let owner = |mac: [u8; 6]| {
            (0..self.plugs.len())
                .find(|&at| self.plugs[at].network == network && lan::mac(at) == mac)
        };
        if send.tags.len() > 1 || send.len > 1500 {
            return vec![];
        }
        let owned = owner(send.from);
        let honest = owned == Some(send.by);
        let may = own.is_open && is_station(send.from) && owned.is_none();
        if !(honest || may) {
            return vec![];
        }
        if own.is_open {
            self.learned.insert((network, send.from), send.by);
        }
        if send.to[..5] == [1, 0x80, 0xc2, 0, 0] && send.to[5] < 16 {
            return vec![];
        }
        let tag = send.tags.first().copied();
        let id = tag.unwrap_or(0) & 0xfff;
        let vlan = match own.vlan {
            Some(vlan) if id == 0 => vlan,
            None if id != 0xfff => id,
            _ => return vec![],
        };
        let meets = |at: &usize| {
            let that = &self.plugs[*at];
            *at != send.by && that.network == network && that.vlan.is_none_or(|own| own == vlan)
        };
        let ports = (0..self.plugs.len()).filter(meets);
        let sees_each_other = |at: usize| {
            let that = self.plugs[at].vlan;
            at != send.by && (that.is_none() || own.vlan.is_none() || that == own.vlan)
        };
        let seen = self.learned.get(&(network, send.to)).copied();
        let receivers: Vec<usize> = if send.to == [0; 6] || send.to == lan::mac(send.by) {
            vec![]
        } else if send.to[0] & 1 == 1 {
            ports.collect()
        } else if let Some(owner) = owner(send.to).filter(|&at| sees_each_other(at)) {
            ports.filter(|&at| at == owner).collect()
        } else if let Some(seen) = seen {
            ports.filter(|&at| at == seen).collect()
        } else {
            ports.filter(|&at| self.plugs[at].is_open).collect()
        };
        let receivers = receivers.into_iter().map(|at| {
            let mut sent = send.clone();
            sent.tags = match self.plugs[at].vlan {
                None if vlan != 0 => vec![tag.unwrap_or(0) & 0xf000 | vlan],
                _ => vec![],
            };
            (at, sent.bytes())
        });
        receivers.collect()
    }
}

fn check(plugs: Vec<Plug>, sends: &[Send]) {
    let ports = plugs.iter().enumerate().map(|(at, plug)| {
        let vlan = plug.vlan.map_or(Vlan::Trunk, Vlan::Access);
        let guest = Peer::Guest {
            mac: mac(at),
            is_open: plug.is_open,
            rate: 0,
        };
        Port::new(plug.network, vlan, guest)
    });
    let lan = lan::switch(ports.collect());
    let mut cards: Vec<Card> = (plugs.iter().enumerate())
        .map(|(at, plug)| {
            let features = if plug.merges { PLAIN } else { NetFeatures::MAC };
            let rings = Features::RING_PACKED
                | Features::EVENT_IDX
                | Features::INDIRECT_DESC
                | Features::IN_ORDER;
            let rings = Features::from_bits_truncate(plug.rings) & rings;
            Card::idle(lan, at, features, rings, plug.room, 1)
        })
        .collect();
    let mut naive = Naive {
        plugs,
        learned: HashMap::new(),
    };
    for send in sends {
        for card in &mut cards {
            card.refill();
            assert!(card.receive[0].sleep(1));
        }
        let bytes = send.bytes();
        let packet = [&[0; HEADER][..], &bytes].concat();
        let parts: Vec<&[u8]> = packet.chunks(packet.len().div_ceil(send.cut)).collect();
        let served = cards[send.by].packet(&parts);
        let expected = naive.send(send);
        let told = expected.iter().fold(0, |set, (at, _)| set | 1 << at);
        assert_eq!(served.ports & told, told, "who is told of {send:?}");
        for (at, card) in cards.iter_mut().enumerate() {
            let wanted: Vec<Vec<u8>> = (expected.iter().filter(|(to, _)| *to == at))
                .map(|(_, bytes)| bytes.clone())
                .collect();
            assert_eq!(card.frames(), wanted, "port {at} after {send:?}");
            assert!(!card.net.is_broken());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_sent_reaches_whom_a_textbook_says((plugs, sends) in world()) {
        check(plugs, &sends);
    }
}
