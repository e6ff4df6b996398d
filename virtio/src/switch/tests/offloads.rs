//! What senders leave to do, and who does it.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::lan::{Card, Lan, OFFLOADS, PLAIN, frame, guest, mac, pattern, switch, tagged};
use crate::features::Features;
use crate::net::{HEADER, NetFeatures};
use crate::switch::{Reason, Vlan};

/// RFC 1071 as it is explained there.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A packet that a sender hands over, behind Ethernet's header.
#[derive(Clone, Debug)]
struct Packet {
    is_v6: bool,
    is_udp: bool,
    /// Words of options of IPv4's header, and of TCP's.
    ip_options: usize,
    options: usize,
    flags: u8,
    data: Vec<u8>,
    size: u16,
}

impl Packet {
    fn ethertype(&self) -> u16 {
        if self.is_v6 { 0x86dd } else { 0x800 }
    }

    fn start(&self) -> usize {
        if self.is_v6 {
            40
        } else {
            20 + 4 * self.ip_options
        }
    }

    fn headers(&self) -> usize {
        self.start()
            + if self.is_udp {
                8
            } else {
                20 + 4 * self.options
            }
    }

    fn pseudo(&self, ip: &[u8], len: usize) -> Vec<u8> {
        let addresses = if self.is_v6 { &ip[8..40] } else { &ip[12..20] };
        let mut all = addresses.to_vec();
        all.extend((len as u32).to_be_bytes());
        all.extend([0, 0, 0, if self.is_udp { 17 } else { 6 }]);
        all
    }

    /// Headers and data, with the sum of the pseudo header where the checksum will be.
    fn bytes(&self) -> Vec<u8> {
        let carried = self.headers() - self.start() + self.data.len();
        let protocol = if self.is_udp { 17 } else { 6 };
        let mut ip;
        if self.is_v6 {
            ip = vec![0x60, 1, 2, 3];
            ip.extend((carried as u16).to_be_bytes());
            ip.extend([protocol, 64]);
            ip.extend(pattern(32, 5));
        } else {
            ip = vec![0x45 + self.ip_options as u8, 0];
            ip.extend(((self.start() + carried) as u16).to_be_bytes());
            ip.extend([0xff, 0xfe, 0x40, 0, 64, protocol, 0, 0]);
            ip.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            ip.extend(vec![1; 4 * self.ip_options]);
            let check = !sum(&ip);
            ip[10..12].copy_from_slice(&check.to_be_bytes());
        }
        let check = sum(&self.pseudo(&ip, carried));
        let mut all = ip;
        all.extend([0x12, 0x34, 0, 80]);
        if self.is_udp {
            all.extend((carried as u16).to_be_bytes());
            all.extend(check.to_be_bytes());
        } else {
            all.extend([0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 9]);
            all.extend([0x50 + 16 * self.options as u8, self.flags, 1, 0]);
            all.extend(check.to_be_bytes());
            all.extend([0, 0]);
            all.extend(vec![1; 4 * self.options]);
        }
        all.extend(&self.data);
        all
    }

    /// Virtio's header; the link layer's is so long.
    fn header(&self, link: usize, is_piece: bool) -> [u8; HEADER] {
        let gso = match (is_piece, self.is_udp, self.is_v6) {
            (false, ..) => 0,
            (true, true, _) => 5,
            (true, false, true) => 4,
            (true, false, false) => 1,
        };
        let ecn = if is_piece && self.flags & 0x80 != 0 && !self.is_udp {
            0x80
        } else {
            0
        };
        let mut header = [0; HEADER];
        header[0] = 1;
        header[1] = gso | ecn;
        if is_piece {
            header[2..4].copy_from_slice(&((link + self.headers()) as u16).to_le_bytes());
            header[4..6].copy_from_slice(&self.size.to_le_bytes());
        }
        header[6..8].copy_from_slice(&((link + self.start()) as u16).to_le_bytes());
        header[8..10].copy_from_slice(&[if self.is_udp { 6 } else { 16 }, 0]);
        header[10] = 1;
        header
    }

    /// Judges the frames that it came in, as the receiver's network stack would.
    fn check(&self, frames: &[Vec<u8>], is_piece: bool) {
        let whole = self.bytes();
        let size = if is_piece {
            usize::from(self.size)
        } else {
            usize::MAX
        };
        let data: Vec<&[u8]> = if self.data.is_empty() {
            vec![&[]]
        } else {
            self.data.chunks(size.min(1 << 20)).collect()
        };
        assert_eq!(frames.len(), data.len());
        for (nth, (frame, data)) in frames.iter().zip(&data).enumerate() {
            assert_eq!(frame[12..14], self.ethertype().to_be_bytes());
            let packet = &frame[14..];
            assert_eq!(packet.len(), self.headers() + data.len());
            assert_eq!(&&packet[self.headers()..], data);
            let (ip, carried) = packet.split_at(self.start());
            let is_last = nth + 1 == frames.len();
            if self.is_v6 {
                assert_eq!(ip[4..6], (carried.len() as u16).to_be_bytes());
                assert_eq!((&ip[..4], &ip[6..]), (&whole[..4], &whole[6..40]));
            } else {
                assert_eq!(sum(ip), 0xffff, "IPv4's checksum");
                assert_eq!(ip[2..4], (packet.len() as u16).to_be_bytes());
                assert_eq!(ip[4..6], 0xfffe_u16.wrapping_add(nth as u16).to_be_bytes());
                assert_eq!(
                    (&ip[..2], &ip[6..10], &ip[12..]),
                    (&whole[..2], &whole[6..10], &whole[12..self.start()])
                );
            }
            let all = [&self.pseudo(ip, carried.len())[..], carried].concat();
            assert_eq!(sum(&all), 0xffff, "the checksum of segment {nth}");
            if self.is_udp {
                assert_eq!(carried[4..6], (carried.len() as u16).to_be_bytes());
                assert_ne!(carried[6..8], [0, 0]);
            } else {
                let number = u32::from_be_bytes([carried[4], carried[5], carried[6], carried[7]]);
                assert_eq!(
                    number,
                    0xffff_fff0_u32.wrapping_add((nth * size.min(1 << 20)) as u32)
                );
                let mut flags = self.flags;
                if !is_last {
                    flags &= !9;
                }
                if nth != 0 {
                    flags &= !0x80;
                }
                assert_eq!(carried[13], flags);
                assert_eq!(
                    carried[20..self.headers() - self.start()],
                    whole[self.start() + 20..self.headers()]
                );
            }
        }
    }
}

fn packet() -> impl Strategy<Value = Packet> {
    let shape = (
        any::<bool>(),
        any::<bool>(),
        0..11_usize,
        0..11_usize,
        any::<u8>(),
    );
    (
        shape,
        prop_oneof![1..3000_usize, 20_000..40_000_usize],
        700..1380_u16,
    )
        .prop_map(
            |((is_v6, is_udp, ip_options, options, flags), len, size)| Packet {
                is_v6,
                is_udp,
                ip_options: if is_v6 { 0 } else { ip_options },
                options,
                flags,
                data: pattern(len, 3),
                size,
            },
        )
}

fn pair(to: NetFeatures, room: usize) -> (Lan, Card, Card) {
    let ports = (0..2).map(|port| guest(port, 0, Vlan::Access(0)));
    let lan = switch(ports.collect());
    let from = Card::new(lan, 0, OFFLOADS);
    let mut to = Card::idle(lan, 1, to, Features::empty(), room, 1);
    to.refill();
    (lan, from, to)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_receiver_that_cannot_gets_frames_that_are_complete(mut one in packet(), cut in 1..40_usize) {
        let (_, mut from, mut to) = pair(PLAIN, 1526);
        let bytes = frame(mac(1), mac(0), one.ethertype(), &one.bytes());
        let parts: Vec<&[u8]> = bytes.chunks(bytes.len().div_ceil(cut)).collect();
        let header = one.header(14, true);
        let _ = from.packet(&[&[&header[..]], &parts[..]].concat());
        one.check(&to.frames(), true);
        to.refill();
        one.data.truncate(1400 - one.headers());
        let bytes = frame(mac(1), mac(0), one.ethertype(), &one.bytes());
        let _ = from.packet(&[&one.header(14, false), &bytes]);
        one.check(&to.frames(), false);
    }

    #[test]
    fn a_receiver_that_can_gets_the_piece_as_it_is(one in packet(), room in 1000..9000_usize) {
        let (_, mut from, mut to) = pair(OFFLOADS, room);
        let bytes = frame(mac(1), mac(0), one.ethertype(), &one.bytes());
        let header = one.header(14, true);
        let _ = from.packet(&[&header, &bytes]);
        let got = to.received_on(0);
        prop_assert_eq!(got.len(), 1);
        prop_assert_eq!(&got[0].header[..10], &header[..10]);
        prop_assert_eq!(&got[0].frame, &bytes);
    }
}

fn some() -> Packet {
    Packet {
        is_v6: false,
        is_udp: false,
        ip_options: 0,
        options: 3,
        flags: 0x98,
        data: pattern(5000, 0),
        size: 1000,
    }
}

#[test]
fn each_receiver_of_several_gets_what_suits_it() {
    let ports = (0..4).map(|port| guest(port, 0, Vlan::Access(0)));
    let lan = switch(ports.collect());
    let mut from = Card::new(lan, 0, OFFLOADS);
    let mut all = Card::new(lan, 1, OFFLOADS);
    let mut sums = Card::new(lan, 2, PLAIN | NetFeatures::GUEST_CSUM);
    let mut no_ecn = Card::new(lan, 3, OFFLOADS - NetFeatures::GUEST_ECN);
    let one = some();
    let to = [3, 0, 0, 0, 0, 1];
    let bytes = frame(to, mac(0), 0x800, &one.bytes());
    let _ = from.packet(&[&one.header(14, true), &bytes]);
    assert_eq!(all.frames(), [bytes]);
    one.check(&sums.frames(), true);
    one.check(&no_ecn.frames(), true);
}

#[test]
fn a_tag_that_comes_or_goes_moves_where_the_checksum_is() {
    let lan = switch(vec![guest(0, 0, Vlan::Access(7)), guest(1, 0, Vlan::Trunk)]);
    let mut access = Card::new(lan, 0, OFFLOADS);
    let mut trunk = Card::new(lan, 1, OFFLOADS);
    let one = some();
    let plain = frame(mac(1), mac(0), 0x800, &one.bytes());
    let _ = access.packet(&[&one.header(14, true), &plain]);
    let got = trunk.received_on(0).remove(0);
    assert_eq!(got.frame, tagged(mac(1), mac(0), 7, 0x800, &one.bytes()));
    assert_eq!(got.header[..10], one.header(18, true)[..10]);
    let back = tagged(mac(0), mac(1), 7, 0x800, &one.bytes());
    let _ = trunk.packet(&[&one.header(18, true), &back]);
    let got = access.received_on(0).remove(0);
    assert_eq!(got.frame, frame(mac(0), mac(1), 0x800, &one.bytes()));
    assert_eq!(got.header[..10], one.header(14, true)[..10]);
}

#[test]
fn vio_26_a_piece_of_very_many_segments_is_not_cut() {
    let (lan, mut from, mut to) = pair(PLAIN, 1526);
    let mut one = some();
    one.data = pattern(60_000, 0);
    one.size = 400;
    let bytes = frame(mac(1), mac(0), 0x800, &one.bytes());
    let _ = from.packet(&[&one.header(14, true), &bytes]);
    assert!(to.frames().is_empty());
    assert_eq!(lan.ports()[1].received().dropped(Reason::Unfit), 1);
    // Nor one whose segments are longer than a frame.
    one.size = 1449;
    let bytes = frame(mac(1), mac(0), 0x800, &one.bytes());
    let _ = from.packet(&[&one.header(14, true), &bytes]);
    assert!(to.frames().is_empty());
    assert_eq!(lan.ports()[1].received().dropped(Reason::Unfit), 2);
    one.size = 1448;
    let bytes = frame(mac(1), mac(0), 0x800, &one.bytes());
    let _ = from.packet(&[&one.header(14, true), &bytes]);
    one.check(&to.frames(), true);
}

#[test]
fn offloads_can_be_switched_off_while_it_runs() {
    let (_, mut from, mut to) = pair(
        OFFLOADS | NetFeatures::CTRL_VQ | NetFeatures::CTRL_GUEST_OFFLOADS,
        1526,
    );
    let one = some();
    let bytes = frame(mac(1), mac(0), 0x800, &one.bytes());
    let header = one.header(14, true);
    assert!(to.command(5, 0, &0_u64.to_le_bytes()));
    let _ = from.packet(&[&header, &bytes]);
    one.check(&to.frames(), true);
    to.refill();
    let ecn_only = NetFeatures::GUEST_CSUM | NetFeatures::GUEST_TSO4 | NetFeatures::GUEST_ECN;
    assert!(to.command(5, 0, &ecn_only.bits().to_le_bytes()));
    let _ = from.packet(&[&header, &bytes]);
    assert_eq!(to.frames(), [bytes]);
    // What was not agreed on, or is no offload.
    assert!(!to.command(5, 0, &(1_u64 << 10).to_le_bytes()));
    assert!(!to.command(5, 0, &(NetFeatures::MRG_RXBUF.bits()).to_le_bytes()));
    assert!(!to.command(5, 0, &[0; 7]));
}
