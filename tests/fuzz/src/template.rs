//! Bytes that mean something to a device, so that a fuzzer need not find each format by itself.

use crate::input::Input;

/// Nothing in particular.
pub fn none(input: &mut Input<'_>) -> Vec<u8> {
    vec![input.byte(); 8]
}

/// The header of a block request (5.2.6), and a range to discard.
pub fn blk(input: &mut Input<'_>) -> Vec<u8> {
    let kinds = [0_u32, 1, 4, 8, 11, 13, 2, 0x8000_0000];
    let kind = kinds[usize::from(input.byte()) % kinds.len()];
    let mut bytes = [kind.to_le_bytes(), [0; 4]].concat();
    bytes.extend((u64::from(input.byte()) % 50).to_le_bytes());
    if kind == 11 || kind == 13 {
        bytes.extend((u64::from(input.byte()) % 50).to_le_bytes());
        bytes.extend((u32::from(input.byte()) % 20).to_le_bytes());
        bytes.extend((u32::from(input.byte()) % 2).to_le_bytes());
    }
    bytes
}

/// A control message of a console (5.3.6.2).
pub fn console(input: &mut Input<'_>) -> Vec<u8> {
    let port = u32::from(input.byte() % 4);
    let (event, value) = (u16::from(input.byte() % 8), u16::from(input.byte() % 2));
    let mut bytes = port.to_le_bytes().to_vec();
    bytes.extend(event.to_le_bytes());
    bytes.extend(value.to_le_bytes());
    bytes
}

/// A frame with virtio's header before it (5.1.6): of Ethernet, and often of IP with TCP or UDP in it.
pub fn net(input: &mut Input<'_>) -> Vec<u8> {
    let shape = input.byte();
    if shape < 32 {
        // A command (5.1.6.5), with an argument.
        let mut command = vec![input.byte() % 6, input.byte() % 3];
        command.extend((0..input.byte() % 16).map(|_| input.byte()));
        return command;
    }
    let v6 = shape & 1 != 0;
    let udp = shape & 2 != 0;
    let tagged = shape & 4 != 0;
    let (ip, transport) = (if v6 { 40 } else { 20 }, if udp { 8 } else { 20 });
    let start = 14 + if tagged { 4 } else { 0 } + ip;
    let kinds: [u8; 4] = if udp { [0, 5, 5, 3] } else { [0, 1, 4, 0x81] };
    let kind = kinds[usize::from(input.byte() % 4)];
    let checksum_at: u16 = if udp { 6 } else { 16 };
    let mut bytes = vec![u8::from(shape & 8 != 0), kind];
    bytes.extend((start + transport as u16).to_le_bytes());
    bytes.extend((u16::from(input.byte()) * 8).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend(checksum_at.to_le_bytes());
    bytes.extend([0, 0]);
    // To the other one, to nobody, to all.
    let last = input.byte() % 4;
    bytes.extend(if last == 3 {
        [0xFF; 6]
    } else {
        [2, 0, 0, 0, 0, last]
    });
    bytes.extend([2, 0, 0, 0, 0, 1 + (shape >> 4 & 1)]);
    if tagged {
        bytes.extend([0x81, 0, 0, input.byte() % 3]);
    }
    let payload = u16::from(input.byte());
    if v6 {
        bytes.extend([0x86, 0xDD, 0x60, 0, 0, 0]);
        bytes.extend((payload + transport as u16).to_be_bytes());
        bytes.extend([if udp { 17 } else { 6 }, 64]);
        bytes.extend([0xFE; 32]);
    } else {
        bytes.extend([8, 0, 0x45, 0]);
        bytes.extend((payload + 20 + transport as u16).to_be_bytes());
        bytes.extend([0, 1, 0, 0, 64, if udp { 17 } else { 6 }, 0, 0]);
        bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    }
    let mut header = vec![0; transport];
    if udp {
        header[4..6].copy_from_slice(&(payload + 8).to_be_bytes());
    } else {
        header[12] = 5 << 4;
        header[13] = input.byte();
    }
    bytes.extend(header);
    bytes
}

/// A packet of a socket (5.10.6).
pub fn vsock(input: &mut Input<'_>) -> Vec<u8> {
    let shape = input.byte();
    let (me, peer) = if shape & 1 == 0 {
        (3_u64, 4_u64)
    } else {
        (4, 3)
    };
    let peer = if shape & 6 == 6 { 2 } else { peer };
    let mut bytes = [me.to_le_bytes(), peer.to_le_bytes()].concat();
    for port in [input.byte(), input.byte()] {
        bytes.extend((u32::from(port) % 10).to_le_bytes());
    }
    let len = u32::from(input.byte());
    bytes.extend(len.to_le_bytes());
    bytes.extend((1 + u16::from(shape >> 7)).to_le_bytes());
    bytes.extend(u16::from(input.byte() % 9).to_le_bytes());
    bytes.extend(u32::from(input.byte() % 4).to_le_bytes());
    bytes.extend((u32::from(input.byte()) << 6).to_le_bytes());
    bytes.extend(u32::from(input.byte()).to_le_bytes());
    bytes.extend((0..len).map(|at| at as u8));
    bytes
}
