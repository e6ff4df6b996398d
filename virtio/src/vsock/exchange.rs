//! Between stations: what one sends goes straight into another's buffers.
//!
//! Streams lose nothing, so a packet whose receiver has no buffer stays where it is: in its sender's memory, at the head of
//! its queue, and what is behind it waits too. Whoever posts buffers goes on with those that wait for them. Nobody waits
//! for ever: a receiver that posts none for [`PATIENCE`] loses its connections, and hears so when it listens again.
//!
//! Who sends holds a lock of its own while it does, and takes the receiver's inside; whoever holds a receiver's takes
//! nothing else. A receiver that goes on with those who wait takes their locks one after another. Nothing is kept here of
//! connections between guests.

use core::sync::atomic::Ordering::SeqCst;

use super::packet::{HOST, Header, Op, Raw, SEQPACKET, STREAM};
use super::receive::Given;
use super::station::{Packet, Station, Transmit};
use crate::memory::GuestMemory;
use crate::switch::rate::Clock;
use zerocopy::{FromZeros, IntoBytes};

/// The most stations, together with the ports of switches.
pub const MAX_STATIONS: usize = 64;
/// Seconds for which a packet waits for its receiver.
const PATIENCE: u64 = 1;
/// Packets and bytes that are copied before others have their turn.
const BUDGET_PACKETS: u32 = 64;
const BUDGET_BYTES: u32 = 256 << 10;
/// Stations that go on, of those that wait, before others have their turn.
const WOKEN: usize = 4;

/// What came of a piece of work.
#[derive(Clone, Copy, Default)]
pub(super) struct Work {
    /// There is more to do.
    pub more: bool,
    /// Those whose drivers want to be interrupted, by number.
    pub wants: u64,
}

/// All stations.
pub struct Exchange<'a, M> {
    stations: &'a [Station<M>],
    /// What the first one is called in [`Served::ports`](crate::Served::ports).
    first: usize,
}

/// The set of one station.
const fn bit(station: usize) -> u64 {
    1 << (station % MAX_STATIONS)
}

/// How the head of a queue stands.
enum Head {
    Gone,
    Waits(usize),
    Later,
}

/// Where a packet is to go.
enum Way {
    Station(usize),
    Host,
    Nowhere,
}

impl<'a, M: GuestMemory> Exchange<'a, M> {
    /// Of these stations, which have their place's number. In sets of ports they come behind `first` others. `None` if
    /// there are too many, or two have one context id, or one has the host's or one that nobody may have (5.10.4).
    #[must_use]
    pub fn new(stations: &'a [Station<M>], first: usize) -> Option<Self> {
        let mut rest = stations;
        while let [one, behind @ ..] = rest {
            let is_free = behind.iter().all(|other| other.cid != one.cid);
            if !is_free || one.cid <= HOST || one.cid >= u64::from(u32::MAX) {
                return None;
            }
            rest = behind;
        }
        let all = stations.len().checked_add(first)?;
        (all <= MAX_STATIONS).then_some(Self { stations, first })
    }

    /// A station.
    #[must_use]
    pub fn station(&self, station: usize) -> Option<&'a Station<M>> {
        self.stations.get(station)
    }

    /// Gives up packets that have waited for too long. To be called by whoever has a clock, about once in a second; any CPU
    /// may. Those whose drivers want to be interrupted, by number.
    #[must_use]
    pub fn expire(&self, now: u64, frequency: u64) -> u64 {
        let clock = Clock { now, frequency };
        let mut wants = 0;
        for (at, station) in self.stations.iter().enumerate() {
            let waits = |transmit: &Transmit<M>| {
                let since = transmit.packet.as_ref().and_then(|one| one.since);
                since.is_some_and(|since| is_over(since, clock))
            };
            // Whoever holds the lock looks itself.
            if station.transmit.try_lock().is_some_and(|one| waits(&one)) {
                wants |= self.pump(at, clock).wants;
            }
        }
        wants
    }

    /// Whether the one that is called so in sets of ports has posted nonsense to receive into: it has to be
    /// [polled](crate::Device::poll) to tell its driver.
    #[must_use]
    #[inline(never)]
    pub fn is_broken(&self, port: usize) -> bool {
        let station = port.checked_sub(self.first);
        let station = station.and_then(|at| self.stations.get(at));
        station.is_some_and(|station| station.receive.lock().is_broken)
    }

    /// What a station is called in sets of ports.
    pub(super) fn name(&self, station: usize) -> u64 {
        bit(station + self.first)
    }

    /// Sends what a station has to send, until somebody else should have a turn.
    pub(super) fn pump(&self, from: usize, clock: Clock) -> Work {
        let mut work = Work::default();
        let Some(station) = self.stations.get(from) else {
            return work;
        };
        let mut held = station.transmit.lock();
        let transmit = &mut *held;
        let mut touched = 0;
        let mut bytes = BUDGET_BYTES;
        work.more = true;
        for _ in 0..BUDGET_PACKETS {
            if transmit.packet.is_none() && !self.next(from, station, transmit, clock) {
                work.more = false;
                break;
            }
            match self.carry(from, transmit, &mut touched, &mut bytes, clock) {
                Head::Waits(to) if self.wait(from, to) => {
                    work.more = false;
                    transmit.listen();
                    break;
                }
                Head::Gone | Head::Waits(_) => {}
                Head::Later => break,
            }
        }
        if transmit.publish() {
            work.wants |= self.name(from);
        }
        for (at, station) in self.stations.iter().enumerate() {
            if touched & bit(at) != 0 && station.receive.lock().publish() {
                work.wants |= self.name(at);
            }
        }
        work
    }

    /// Takes a packet out of a station's queue. False when there is none.
    fn next(
        &self,
        from: usize,
        station: &Station<M>,
        transmit: &mut Transmit<M>,
        clock: Clock,
    ) -> bool {
        let (Some(memory), Some(ring)) = (transmit.memory, &mut transmit.ring) else {
            return false;
        };
        match ring.pop(&memory, &mut transmit.chain) {
            Ok(true) => {}
            Ok(false) => return ring.listen(&memory),
            Err(_) => {
                transmit.is_broken = true;
                return false;
            }
        }
        let mut raw = Raw::new_zeroed();
        let mut at = transmit.chain.readable();
        let read = at.read(&memory, raw.as_mut_bytes());
        let judged = read.and_then(|()| Header::read(&raw));
        let judged = judged.filter(|(header, len)| {
            header.from.cid == station.cid && u64::from(*len) <= at.remaining()
        });
        let Some((header, len)) = judged else {
            transmit.counts.refused += 1;
            ring.push(&memory, transmit.chain.ticket(), 0);
            return true;
        };
        let is_many = header.op == Op::Request && !transmit.requests.admit(1, clock);
        let way = if is_many {
            Way::Nowhere
        } else {
            self.route(from, station, &header)
        };
        let sent = match way {
            Way::Station(to) => Some((to, header, len)),
            Way::Host => transmit.echo.answer(&header, len).map(|answer| {
                let len = if answer.op == Op::Data { len } else { 0 };
                (from, answer, len)
            }),
            Way::Nowhere => {
                transmit.counts.reset += 1;
                let is_reset = header.op == Op::Reset;
                (!is_reset).then(|| (from, header.answer(Op::Reset), 0))
            }
        };
        match sent {
            Some((to, header, len)) => {
                transmit.packet = Some(Packet {
                    header,
                    to,
                    len,
                    given: 0,
                    since: None,
                });
            }
            None => ring.push(&memory, transmit.chain.ticket(), 0),
        }
        true
    }

    /// Where a packet goes.
    fn route(&self, from: usize, station: &Station<M>, header: &Header) -> Way {
        if !matches!(header.kind, STREAM | SEQPACKET) {
            return Way::Nowhere;
        }
        if header.to.cid == HOST {
            return Way::Host;
        }
        let others = self.stations.iter().enumerate();
        for (at, other) in others.filter(|(at, _)| *at != from) {
            if other.cid == header.to.cid {
                let may = station.peers & bit(at) != 0 && other.peers & bit(from) != 0;
                return if may { Way::Station(at) } else { Way::Nowhere };
            }
        }
        Way::Nowhere
    }

    /// Gives the packet at the head of a queue to its receiver.
    fn carry(
        &self,
        from: usize,
        transmit: &mut Transmit<M>,
        touched: &mut u64,
        bytes: &mut u32,
        clock: Clock,
    ) -> Head {
        let (Some(memory), Some(packet)) = (transmit.memory, &mut transmit.packet) else {
            return Head::Gone;
        };
        let to = packet.to;
        let Some(receiver) = self.stations.get(to) else {
            transmit.finish();
            return Head::Gone;
        };
        let mut receive = receiver.receive.lock();
        *touched |= bit(to);
        let given = packet.give(
            &mut receive,
            &memory,
            &transmit.chain,
            &mut transmit.into,
            bytes,
        );
        match given {
            Given::All => {
                transmit.counts.packets += 1;
                transmit.counts.bytes += u64::from(packet.len);
                transmit.finish();
                return Head::Gone;
            }
            Given::Later => return Head::Later,
            Given::Waits => {
                let since = *packet.since.get_or_insert(clock.now);
                // Who waits for buffers of its own harms nobody else.
                if to == from || !is_over(since, clock) {
                    return Head::Waits(to);
                }
                transmit.counts.lost += 1;
                receive.lose(&mut transmit.into);
            }
            Given::Never => transmit.counts.reset += 1,
        }
        // It never arrives: its sender has to know that the connection is gone.
        if to == from || packet.header.op == Op::Reset {
            transmit.finish();
        } else {
            *packet = Packet {
                header: packet.header.answer(Op::Reset),
                to: from,
                len: 0,
                given: 0,
                since: None,
            };
        }
        Head::Gone
    }

    /// Has a station wait for another's buffers. False if there are some now.
    fn wait(&self, from: usize, to: usize) -> bool {
        let Some(receiver) = self.stations.get(to) else {
            return false;
        };
        // First the bit and then the request; who posts buffers withdraws the request and then looks at the bit.
        receiver.waiting.fetch_or(bit(from), SeqCst);
        !receiver.receive.lock().listen()
    }

    /// Goes on with those that wait for a station's buffers, beginning behind the one that was the last.
    pub(super) fn wake(&self, station: &Station<M>, turn: &mut u32, clock: Clock) -> Work {
        let mut work = Work::default();
        station.receive.lock().quiet();
        let mut waiting = station.waiting.swap(0, SeqCst);
        for _ in 0..WOKEN {
            if waiting == 0 {
                return work;
            }
            let next = waiting.rotate_right(*turn + 1).trailing_zeros();
            *turn = (*turn + 1 + next) % 64;
            let from = usize::try_from(*turn).unwrap_or(0);
            let done = self.pump(from, clock);
            work.wants |= done.wants;
            if !done.more {
                waiting &= !bit(from);
            }
        }
        if waiting != 0 {
            station.waiting.fetch_or(waiting, SeqCst);
            work.more = true;
        }
        work
    }

    /// Tells a station's driver what is due (5.10.6.7), if it has posted a buffer for that.
    pub(super) fn settle(&self, at: usize) -> Work {
        let mut work = Work::default();
        if let Some(station) = self.stations.get(at) {
            let transmit = &mut *station.transmit.lock();
            let mut receive = station.receive.lock();
            receive.settle(&mut transmit.into);
            if receive.publish() {
                work.wants = self.name(at);
            }
        }
        work
    }
}

/// Whether who waits since then has waited for too long.
fn is_over(since: u64, clock: Clock) -> bool {
    clock.now.saturating_sub(since) > PATIENCE.saturating_mul(clock.frequency)
}
