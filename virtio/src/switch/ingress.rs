//! Frames from outside.

use super::frame::{Frame, LINK, Link, START, Start};
use super::rate::Clock;
use super::{Origin, Peer, Reason, Switch};
use crate::memory::GuestMemory;
use crate::net::header::{HEADER, Offload};

/// The way into the machine, for the driver of its own network card: one that keeps it under a lock.
pub struct Ingress<'a, M> {
    switch: &'a Switch<'a, M>,
    origin: Origin,
}

impl<'a, M: GuestMemory> Ingress<'a, M> {
    /// The way in by a port, if that is an uplink.
    #[must_use]
    pub fn new(switch: &'a Switch<'a, M>, port: usize) -> Option<Self> {
        let of = switch.port(port)?;
        matches!(of.peer, Peer::Uplink(_)).then(|| Self {
            switch,
            origin: Origin::new(port, of),
        })
    }

    /// A frame has come, without virtio's header and with a valid checksum or none; `now` is the physical counter, and
    /// `frequency` how often it counts in a second. Whether others should have their turn before the next one.
    pub fn frame(&mut self, bytes: &[u8], now: u64, frequency: u64) -> bool {
        let clock = Clock { now, frequency };
        let mut start = Start::default();
        let parts = bytes.split_at_checked(LINK).and_then(|(first, rest)| {
            let room = start.as_flattened_mut().get_mut(HEADER..START)?;
            room.copy_from_slice(first);
            let mut link = Link::NONE;
            link.read(&start, || rest.first_chunk().copied())?;
            Some((link, rest.get(link.len() - LINK..)?))
        });
        if let Some((link, text)) = parts {
            let mut frame = Frame {
                link,
                vlan: 0,
                offload: Offload::NOTHING,
                payload: u32::try_from(text.len()).unwrap_or(u32::MAX),
                text,
                body: None,
            };
            self.switch.send(&mut self.origin, &mut frame, clock, false);
        } else {
            self.switch.refuse(&self.origin, Reason::Malformed);
        }
        self.origin.budget.is_spent()
    }

    /// After some frames: their receivers are shown them. The ports whose drivers want to be interrupted.
    #[must_use]
    pub fn finish(&mut self) -> u64 {
        self.switch.finish(&mut self.origin)
    }
}
