//! A station that is ourselves, so that a guest alone on its network finds somebody to talk to, and so that what a
//! guest's network costs can be measured without a second guest.

use super::frame::{Frame, Link, Mac};
use crate::memory::GuestMemory;
use crate::net::header::IPV4;

/// ARP, in Ethernet (RFC 826).
const ARP: u16 = 0x0806;
/// An ARP packet's bytes, and how one for Ethernet and IPv4 begins, up to the operation.
const ARP_BYTES: usize = 28;
const ARP_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const ARP_REPLY: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];
/// IPv4 with options, and 8 bytes of what it carries.
const HEADERS: usize = 68;
const ICMP: u8 = 1;
const UDP: u8 = 17;
/// RFC 862.
const ECHO: [u8; 2] = 7_u16.to_be_bytes();

/// Calls `send` with the answer to a frame, if there is one.
#[inline(never)]
pub(super) fn answer<M: GuestMemory>(
    frame: &Frame<'_, M>,
    mac: Mac,
    ip: [u8; 4],
    send: impl FnOnce(&Frame<'_, M>),
) {
    let mut bytes = [0; HEADERS];
    let there = frame.peek(&mut bytes);
    let end = match frame.link.ethertype {
        ARP => arp(&mut bytes, there, mac, ip),
        IPV4 if frame.link.to == mac => ipv4(&mut bytes, there, ip),
        _ => None,
    };
    let rest = end.and_then(|end| frame.behind(u32::try_from(end).ok()?));
    let text = end.and_then(|end| bytes.get(..end));
    let Some((mut answer, text)) = rest.zip(text) else {
        return;
    };
    answer.text = text;
    answer.payload = frame.payload;
    answer.link = Link {
        to: frame.link.from,
        from: mac,
        ..frame.link
    };
    send(&answer);
}

/// Makes the answer of a question for our hardware address. What was behind it goes along.
fn arp(bytes: &mut [u8; HEADERS], there: usize, mac: Mac, ip: [u8; 4]) -> Option<usize> {
    let packet = bytes.first_chunk_mut::<ARP_BYTES>()?;
    let (start, rest) = packet.split_first_chunk_mut::<8>()?;
    let (sender, target) = rest.split_first_chunk_mut::<10>()?;
    let target: &mut [u8; 10] = target.first_chunk_mut()?;
    if there < ARP_BYTES || *start != ARP_REQUEST || target.last_chunk() != Some(&ip) {
        return None;
    }
    *start = ARP_REPLY;
    *target = *sender;
    *sender.first_chunk_mut()? = mac.bytes();
    *sender.last_chunk_mut()? = ip;
    Some(ARP_BYTES)
}

/// The first 32 bytes of a packet, turned round, if it is for UDP's echo and has no options.
#[inline(always)]
pub(super) fn turn(words: [u64; 4], ip: [u8; 4]) -> Option<[u64; 4]> {
    // Of little-endian words: version, length of the header and fragment; protocol and source; destination and ports.
    let [first, second, third, fourth] = words;
    let (low, high) = (0xffff_ffff, 32);
    let whole = first & 0xff3f_0000_0000_00ff == 0x45;
    let is_udp = second >> 8 & 0xff == u64::from(UDP);
    let is_here = third & low == u64::from(u32::from_le_bytes(ip));
    let is_echo = third >> 48 == u64::from(u16::from_le_bytes(ECHO));
    let ports = (third >> high & 0xffff) << 48 | third >> 48 << high;
    (whole && is_udp && is_here && is_echo).then_some([
        first,
        second & low | third << high,
        second >> high | ports,
        fourth,
    ])
}

/// Turns a packet round. Swapping addresses and ports changes no checksum.
fn ipv4(bytes: &mut [u8; HEADERS], there: usize, ip: [u8; 4]) -> Option<usize> {
    let first = *bytes.first()?;
    let header = usize::from(first & 15) * 4;
    let protocol = *bytes.get(9)?;
    // No fragments: what follows the header would be no header.
    let fragment = u16::from_be_bytes(*bytes.get(6..)?.first_chunk()?) & 0x3fff;
    if first >> 4 != 4 || header < 20 || fragment != 0 || header + 8 > there {
        return None;
    }
    let addresses: &mut [u8; 8] = bytes.get_mut(12..)?.first_chunk_mut()?;
    if addresses.last_chunk() != Some(&ip) {
        return None;
    }
    addresses.rotate_left(4);
    let carried: &mut [u8; 8] = bytes.get_mut(header..)?.first_chunk_mut()?;
    let [a, b, c, d, ..] = *carried;
    match protocol {
        // Echo request to echo reply (RFC 792): the type is 8 less, and the sum as much more (RFC 1624).
        ICMP if [a, b] == [8, 0] => {
            let (sum, wraps) = u16::from_be_bytes([c, d]).overflowing_add(0x0800);
            let [high, low] = sum.wrapping_add(u16::from(wraps)).to_be_bytes();
            *carried.first_chunk_mut()? = [0, 0, high, low];
        }
        UDP if [c, d] == ECHO => *carried.first_chunk_mut()? = [c, d, a, b],
        _ => return None,
    }
    Some(header + 8)
}
