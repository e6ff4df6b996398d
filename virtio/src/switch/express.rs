//! The short way of a frame, which most frames go.
//!
//! It is for a frame in one buffer and without a tag, of the same two stations as the frame before, to a driver that takes it
//! as it is into one buffer, or to the hypervisor's own station, which says it back. Then neither a chain nor a queue has to be kept of what is given back at once. For any other frame
//! nothing is changed here, and [the long way](Switch::send) judges it from its beginning; so the long way alone would do.

use core::sync::atomic::Ordering::Relaxed;

use stage2_addr::Ipa;

use super::frame::{Frame, LINK, Link};
use super::receive::Receive;
use super::{Origin, Peer, Switch, bit, echo, most};
use crate::memory::GuestMemory;
use crate::net::header::{HEADER, IPV4, NetFeatures, Offload};
use crate::queue::Queue;

/// Bytes of virtio's header and the link layer's.
const START: u32 = 26;
const _: () = assert!(START as usize == HEADER + LINK);
/// The least bytes: what is read of it at once. The rest of that, too, is written over by what follows the headers.
const LEAST: u32 = 32;

impl<M: GuestMemory> Switch<'_, M> {
    /// Sends the next frame of a driver with these features, if there is one, and gives its buffer back. `None` if it cannot go
    /// the short way.
    #[inline(always)]
    pub(crate) fn express(
        &self,
        origin: &mut Origin,
        ring: &mut Queue,
        memory: &M,
        features: NetFeatures,
    ) -> Option<()> {
        let Some(one) = ring.peek(memory)? else {
            return Some(());
        };
        let payload = one.segment.len.checked_sub(START)?;
        if one.is_writable || one.segment.len < LEAST {
            return None;
        }
        let words = memory.load_quad(one.segment.at)?;
        let mut link = Link::NONE;
        link.read(&words.map(u64::to_le_bytes), || None)?;
        let flow = &origin.flow;
        if link.to != flow.to
            || link.from != flow.from
            || self.changes.load(Relaxed) != flow.changes
            || !origin.rate.is_free()
        {
            return None;
        }
        let offload = left(words, features, &link, payload)?;
        let mut frame = Frame {
            link,
            vlan: flow.vlan,
            offload,
            payload,
            text: &[],
            body: None,
        };
        let (from, mut to) = (self.ports.get(origin.port)?, self.ports.get(flow.port)?);
        if payload > most(&frame) || !from.is_up() || !to.is_up() {
            return None;
        }
        let mut body = Body {
            memory,
            at: Ipa::new(one.segment.at.raw() + u64::from(START)),
            lead: None,
        };
        let mut number = flow.port;
        match to.peer {
            Peer::Guest { .. } => {}
            Peer::Echo { ip, .. } => {
                body.lead = Some(turned(&frame, &body, ip)?);
                (frame.link.to, frame.link.from) = (link.from, link.to);
                (to, number) = (from, origin.port);
            }
            Peer::Uplink(_) => return None,
        }
        let mut receive = to.receive.lock();
        let wants = receive.express(&frame, &body, ring.seems_last(memory))?;
        if receive.has_unseen() {
            origin.touched |= bit(number);
        }
        if wants {
            origin.wants |= bit(number);
        }
        from.sent.pass(frame.len());
        let bytes = payload + START;
        to.received.pass(bytes);
        origin.budget.spend(bytes);
        ring.pass(memory, one, 0);
        Some(())
    }
}

/// What a sender with these features has left to do, if that makes sense.
#[inline(always)]
fn left(words: [u64; 4], features: NetFeatures, link: &Link, payload: u32) -> Option<Offload> {
    let [first, second, ..] = words;
    if Offload::is_any(first) {
        Offload::judge((first, second), features, link, payload)
    } else {
        Some(Offload::NOTHING)
    }
}

/// What follows the headers.
struct Body<'a, M> {
    /// Where.
    memory: &'a M,
    at: Ipa,
    /// What its first 32 bytes are to be instead of what is there.
    lead: Option<[u64; 4]>,
}

/// The answer of the hypervisor's own station with this address, if this is a packet that it answers at once.
#[inline(always)]
fn turned<M: GuestMemory>(
    frame: &Frame<'_, M>,
    body: &Body<'_, M>,
    ip: [u8; 4],
) -> Option<[u64; 4]> {
    if frame.link.ethertype != IPV4 || frame.payload < LEAST {
        return None;
    }
    echo::turn(body.memory.load_quad(body.at)?, ip)
}

impl<M: GuestMemory> Receive<M> {
    /// Takes a frame with this body. If it `is_last`, the driver is shown what came; whether it wants an
    /// interrupt for that.
    #[inline(always)]
    fn express(&mut self, frame: &Frame<'_, M>, body: &Body<'_, M>, is_last: bool) -> Option<bool> {
        let memory = self.memory.as_ref()?;
        let [Some(ring), ..] = &mut self.rings else {
            return None;
        };
        let is_mine = self.filter.is_own(frame.link.to);
        if !is_mine || self.pairs != 1 || !frame.offload.suits(self.features) {
            return None;
        }
        let one = ring.peek(memory)??;
        let bytes = frame.payload + START;
        if !one.is_writable || one.segment.len < bytes {
            return None;
        }
        let (start, _) = frame.begin(None);
        let to = one.segment.at;
        memory.store_quad(to, start.map(u64::from_le_bytes))?;
        let (mut from, mut behind) = (body.at, Ipa::new(to.raw() + u64::from(START)));
        let mut left = frame.payload;
        if let Some(lead) = body.lead {
            memory.store_quad(behind, lead)?;
            behind = Ipa::new(behind.raw() + u64::from(LEAST));
            from = Ipa::new(from.raw() + u64::from(LEAST));
            left = left.checked_sub(LEAST)?;
        }
        body.memory.copy(from, memory, behind, left)?;
        ring.pass(memory, one, bytes);
        if is_last {
            let wants = ring.publish_here(memory);
            self.unseen |= u8::from(ring.is_broken());
            return Some(wants);
        }
        self.unseen |= 1;
        Some(false)
    }
}
