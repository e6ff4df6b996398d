//! What a sender has left to do, done here: for receivers that cannot.
//!
//! Checksums are sums of 16-bit words with the carry brought round (RFC 1071). They are made of little-endian words here
//! and stored the same way round, which is right in either order of bytes (RFC 1071, 2.B).

use super::MTU;
use super::frame::Frame;
use super::port::Reason;
use crate::memory::GuestMemory;
use crate::net::header::{Checksum, Kind, Offload, Segments, Task};

/// The most frames that a piece is cut into: 64 KiB in frames as short as the shortest MTU of IPv4 in use, 576.
const MAX_SEGMENTS: u32 = 128;
/// The longest headers, and the furthest end of a checksum, behind the link layer's header: IPv4's and TCP's with all
/// their options, with room for what lies between in IPv6.
const HEADERS: usize = 160;
/// Bytes that are summed at a time: an even number.
const CHUNK: usize = 512;

/// A sum.
#[derive(Clone, Copy, Default)]
struct Sum(u64);

impl Sum {
    /// Adds bytes. All but the last that are added are an even number.
    fn add(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            self.0 += u64::from(u32::from_le_bytes(*word));
        }
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.0 += u64::from(u32::from_le_bytes(last));
        self
    }

    /// Adds the bytes behind the first `skip` of a frame's payload, which are an even number.
    fn add_behind<M: GuestMemory>(mut self, frame: &Frame<'_, M>, skip: u32) -> Option<Self> {
        let mut rest = frame.behind(skip)?;
        let mut chunk = [0; CHUNK];
        while rest.payload != 0 {
            let read = rest.peek(&mut chunk);
            let bytes = chunk.get(..read).filter(|bytes| !bytes.is_empty())?;
            self = self.add(bytes);
            rest = rest.behind(u32::try_from(read).ok()?)?;
        }
        Some(self)
    }

    /// What is to be stored.
    fn checksum(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [a, b, ..] = (!sum).to_le_bytes();
        [a, b]
    }

    /// The same for UDP, where 0 says that there is none (RFC 768).
    fn checksum_of(self, is_udp: bool) -> [u8; 2] {
        match self.checksum() {
            [0, 0] if is_udp => [0xff, 0xff],
            other => other,
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    let to = bytes.get_mut(at..at.checked_add(value.len())?)?;
    to.copy_from_slice(value);
    Some(())
}

/// Calls `each` for every frame that is to be sent instead of this one.
#[cold]
#[inline(never)]
pub(super) fn each<M: GuestMemory>(
    frame: &Frame<'_, M>,
    each: &mut dyn FnMut(&Frame<'_, M>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    match frame.offload.task() {
        Task::Nothing => each(frame),
        Task::Checksum(checksum) => complete(frame, checksum, each),
        Task::Segments(checksum, segments) => Pieces::new(frame, checksum, segments)
            .ok_or(Reason::Unfit)?
            .each(frame, each),
    }
}

/// Completes a checksum: the sum of the pseudo header is where it will be (5.1.6.2.1).
fn complete<M: GuestMemory>(
    frame: &Frame<'_, M>,
    checksum: Checksum,
    each: &mut dyn FnMut(&Frame<'_, M>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut bytes = [0; HEADERS];
    let start = usize::from(checksum.start);
    let at = start + usize::from(checksum.offset);
    let Some(text) = bytes.get_mut(..at + 2) else {
        return Err(Reason::Unfit);
    };
    let end = frame.peek(text);
    if end != text.len() {
        return Err(Reason::Fault);
    }
    let done = || {
        // What was copied is summed from the copy: the rest is its sender's to spoil.
        let covered = text.get(start..)?;
        let even = covered.len() & !1;
        let sum = Sum::default().add(covered.get(..even)?);
        let sum = sum.add_behind(frame, u32::try_from(start + even).ok()?)?;
        Some(sum.checksum_of(checksum.offset == 6))
    };
    let done = done().ok_or(Reason::Fault)?;
    put(text, at, &done).ok_or(Reason::Unfit)?;
    let mut completed = frame
        .behind(u32::try_from(end).unwrap_or(u32::MAX))
        .ok_or(Reason::Fault)?;
    completed.offload = Offload::NOTHING;
    completed.text = text;
    completed.payload = frame.payload;
    each(&completed)
}

/// A piece that is being cut.
struct Pieces {
    /// The headers that all frames begin with, but for what differs.
    headers: [u8; HEADERS],
    /// Where TCP's or UDP's begins.
    start: usize,
    /// Where the data begin.
    end: usize,
    segments: Segments,
}

/// IPv4, RFC 791, 3.1, and IPv6, RFC 8200, 3.
const IPV6_HEADER: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// TCP's flags that only the last segment has: FIN, PSH.
const LAST_ONLY: u8 = 0x09;
/// The one that only the first has (RFC 3168, 6.1.2): CWR.
const FIRST_ONLY: u8 = 0x80;

impl Pieces {
    fn new<M: GuestMemory>(
        frame: &Frame<'_, M>,
        checksum: Checksum,
        segments: Segments,
    ) -> Option<Self> {
        let mut headers = [0; HEADERS];
        let there = frame.peek(&mut headers);
        let start = usize::from(checksum.start);
        let (protocol, transport) = match segments.kind {
            Kind::Tcp4 | Kind::Tcp6 => {
                let words = headers.get(start.checked_add(12)?)? >> 4;
                (TCP, usize::from(words) * 4)
            }
            Kind::Udp4 | Kind::Udp6 => (UDP, 8),
        };
        let first = *headers.first()?;
        let is_proper = match segments.kind {
            Kind::Tcp4 | Kind::Udp4 => {
                first >> 4 == 4
                    && start >= 20
                    && usize::from(first & 15) * 4 == start
                    && headers.get(9) == Some(&protocol)
            }
            // The addresses of the pseudo header are those of the header if there is nothing between (RFC 8200, 8.1).
            Kind::Tcp6 | Kind::Udp6 => {
                first >> 4 == 6 && start == IPV6_HEADER && headers.get(6) == Some(&protocol)
            }
        };
        let end = start.checked_add(transport)?;
        let longest = end.checked_add(usize::from(segments.size))?;
        let is_proper = is_proper
            && (protocol == UDP || transport >= 20)
            && end < there
            && longest <= usize::from(MTU);
        is_proper.then_some(Self {
            headers,
            start,
            end,
            segments,
        })
    }

    fn each<M: GuestMemory>(
        mut self,
        frame: &Frame<'_, M>,
        each: &mut dyn FnMut(&Frame<'_, M>) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let template = self.headers;
        let end = u32::try_from(self.end).unwrap_or(u32::MAX);
        let mut rest = frame.behind(end).ok_or(Reason::Fault)?;
        rest.offload = Offload::NOTHING;
        let size = u32::from(self.segments.size);
        if rest.payload.div_ceil(size) > MAX_SEGMENTS {
            return Err(Reason::Unfit);
        }
        let mut sent = 0;
        while rest.payload != 0 {
            let now = rest.payload.min(size);
            let later = rest.behind(now).ok_or(Reason::Fault)?;
            let data = rest.first(now);
            self.headers = template;
            let is_last = later.payload == 0;
            self.write(&data, sent, is_last).ok_or(Reason::Fault)?;
            let text = self.headers.get(..self.end).ok_or(Reason::Fault)?;
            // Who sends pieces has all of them in its memory, or no more than the headers here.
            if !data.text.is_empty() {
                return Err(Reason::Unfit);
            }
            let payload = end.saturating_add(data.payload);
            each(&Frame {
                text,
                payload,
                ..data
            })?;
            sent += now;
            rest = later;
        }
        Ok(())
    }

    /// The headers of a segment with these data, which come after `sent` others.
    fn write<M: GuestMemory>(
        &mut self,
        data: &Frame<'_, M>,
        sent: u32,
        is_last: bool,
    ) -> Option<()> {
        let bytes = &mut self.headers;
        let len = u16::try_from(u32::try_from(self.end).ok()? + data.payload).ok()?;
        let ip_header = u16::try_from(self.start).ok()?;
        let nth = u16::try_from(sent / u32::from(self.segments.size)).ok()?;
        let (addresses, is_udp) = match self.segments.kind {
            Kind::Tcp4 | Kind::Udp4 => {
                put(bytes, 2, &len.to_be_bytes())?;
                let id = u16::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
                put(bytes, 4, &id.wrapping_add(nth).to_be_bytes())?;
                put(bytes, 10, &[0, 0])?;
                let sum = Sum::default().add(bytes.get(..self.start)?);
                put(bytes, 10, &sum.checksum())?;
                (12..20, self.segments.kind == Kind::Udp4)
            }
            Kind::Tcp6 | Kind::Udp6 => {
                let payload = len.checked_sub(ip_header)?;
                put(bytes, 4, &payload.to_be_bytes())?;
                (8..40, self.segments.kind == Kind::Udp6)
            }
        };
        let len = len.checked_sub(ip_header)?;
        let (protocol, at) = if is_udp {
            put(bytes, self.start + 4, &len.to_be_bytes())?;
            (UDP, self.start + 6)
        } else {
            let number = bytes.get(self.start + 4..)?.first_chunk()?;
            let number = u32::from_be_bytes(*number).wrapping_add(sent);
            put(bytes, self.start + 4, &number.to_be_bytes())?;
            let flags = bytes.get_mut(self.start + 13)?;
            if !is_last {
                *flags &= !LAST_ONLY;
            }
            if sent != 0 {
                *flags &= !FIRST_ONLY;
            }
            (TCP, self.start + 16)
        };
        put(bytes, at, &[0, 0])?;
        let [high, low] = len.to_be_bytes();
        let sum = Sum::default()
            .add(bytes.get(addresses)?)
            .add(&[0, protocol, high, low])
            .add(bytes.get(self.start..self.end)?)
            .add_behind(data, 0)?;
        put(bytes, at, &sum.checksum_of(is_udp))
    }
}
