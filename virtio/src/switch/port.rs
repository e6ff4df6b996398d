//! Ports: who is plugged in, and what has passed.

use core::array::from_fn;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use spin::Mutex;

use super::frame::Mac;
use super::receive::Receive;
use crate::net::header::HEADER;

/// The VLANs of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vlan {
    /// One: frames bear no tag here, and are of that VLAN. 0 is the VLAN of all that never bears a tag.
    Access(u16),
    /// All: frames bear the tag of their VLAN.
    Trunk,
}

/// The way out of the machine. Called under the lock of the device that sends, and no other.
pub trait Uplink: Sync {
    /// A frame of so many bytes leaves: `fill` writes it, unless its memory is gone. Whether it was taken.
    fn transmit(&self, len: usize, fill: &mut dyn FnMut(&mut [u8]) -> bool) -> bool;

    /// After some frames: they are to go out now.
    fn flush(&self);
}

/// Who is plugged into a port.
#[derive(Clone, Copy)]
pub enum Peer<'a> {
    /// A guest's card, with its address.
    Guest {
        /// The address.
        mac: [u8; 6],
        /// Whether it may send from other addresses too, and change its own.
        is_open: bool,
        /// The bytes it may send in a second; 0: any number.
        rate: u64,
    },
    /// The world outside.
    Uplink(&'a dyn Uplink),
    /// Ourselves: answers ARP for its address, ICMP echo requests, and UDP at port 7 (RFC 862).
    Echo {
        /// Its address.
        mac: [u8; 6],
        /// And IPv4's.
        ip: [u8; 4],
    },
}

/// Why a frame went no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Too short, or virtio's header makes no sense.
    Malformed,
    /// Longer than the network's MTU.
    TooLong,
    /// Sent from an address that is not the sender's.
    Spoofed,
    /// It bears a tag that it may not bear, or more than one.
    Tagged,
    /// For switches only: 01-80-C2-00-00-0X.
    Reserved,
    /// The sender has used up its rate.
    Rate,
    /// Too many frames for everybody.
    Storm,
    /// For nobody here: the receiver is the sender.
    Nobody,
    /// It would have had to be cut or completed, and cannot be.
    Unfit,
    /// The receiver has no buffers, or too short ones.
    Full,
    /// The receiver's link is down, or its driver has not begun.
    Down,
    /// Memory of the sender or the receiver is gone.
    Fault,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::TooLong,
        Self::Spoofed,
        Self::Tagged,
        Self::Reserved,
        Self::Rate,
        Self::Storm,
        Self::Nobody,
        Self::Unfit,
        Self::Full,
        Self::Down,
        Self::Fault,
    ];

    /// What a person reads.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "too long",
            Self::Spoofed => "spoofed address",
            Self::Tagged => "foreign VLAN",
            Self::Reserved => "reserved address",
            Self::Rate => "rate limit",
            Self::Storm => "broadcast limit",
            Self::Nobody => "for nobody",
            Self::Unfit => "unfit",
            Self::Full => "no buffers",
            Self::Down => "not up",
            Self::Fault => "memory gone",
        }
    }
}

/// What has passed in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// Frames that went on.
    pub frames: u64,
    /// Their bytes, without virtio's headers.
    pub bytes: u64,
    /// Frames that did not, by [`Reason`].
    pub dropped: [u64; Reason::ALL.len()],
}

impl Passed {
    /// Frames that did not go on for one reason.
    #[must_use]
    pub fn dropped(&self, reason: Reason) -> u64 {
        let all = Reason::ALL.iter().zip(self.dropped);
        all.filter(|(one, _)| **one == reason).map(|(_, n)| n).sum()
    }
}

/// Counts that one at a time writes, and everybody reads.
pub(super) struct Counts {
    frames: AtomicU64,
    bytes: AtomicU64,
    dropped: [AtomicU64; Reason::ALL.len()],
}

fn add(to: &AtomicU64, count: u64) {
    // There is one writer: no need for more than a load and a store.
    to.store(to.load(Relaxed).wrapping_add(count), Relaxed);
}

impl Counts {
    fn new() -> Self {
        Self {
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// A frame went on.
    pub fn pass(&self, bytes: u32) {
        add(&self.frames, 1);
        add(&self.bytes, u64::from(bytes));
    }

    /// A frame did not.
    #[cold]
    pub fn drop(&self, reason: Reason) {
        let of = self.dropped.iter().zip(Reason::ALL);
        for (count, _) in of.filter(|(_, one)| *one == reason) {
            add(count, 1);
        }
    }

    fn read(&self) -> Passed {
        Passed {
            frames: self.frames.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            dropped: from_fn(|at| self.dropped.get(at).map_or(0, |one| one.load(Relaxed))),
        }
    }
}

/// How many flows a port keeps apart.
const FLOWS: usize = 64;

/// A port.
pub struct Port<'a, M> {
    pub(super) network: u8,
    pub(super) vlan: Vlan,
    pub(crate) peer: Peer<'a>,
    /// What it sent. Written by whoever may send: one at a time.
    pub(super) sent: Counts,
    /// What it received, written under `receive`'s lock for guests; for others, by whom sends to them.
    pub(super) received: Counts,
    pub(crate) receive: Mutex<Receive<M>>,
    is_up: AtomicBool,
    /// Its driver has posted nonsense to receive into.
    is_broken: AtomicBool,
    /// Which queue the driver has sent a flow on (5.1.6.5.6: the answers come to the same).
    steering: [AtomicU8; FLOWS],
}

impl<'a, M> Port<'a, M> {
    /// A port on a network of the switch.
    #[must_use]
    pub fn new(network: u8, vlan: Vlan, peer: Peer<'a>) -> Self {
        Self {
            network,
            vlan,
            peer,
            sent: Counts::new(),
            received: Counts::new(),
            receive: Mutex::new(Receive::new()),
            is_up: AtomicBool::new(true),
            is_broken: AtomicBool::new(false),
            steering: from_fn(|_| AtomicU8::new(0)),
        }
    }

    /// What it has sent.
    #[must_use]
    pub fn sent(&self) -> Passed {
        self.sent.read()
    }

    /// What it was sent.
    #[must_use]
    pub fn received(&self) -> Passed {
        let mut passed = self.received.read();
        // What a guest's driver finds in its buffers begins with virtio's header, and was counted so.
        if matches!(self.peer, Peer::Guest { .. }) {
            let headers = passed.frames.saturating_mul(HEADER as u64);
            // Both are read while others count: one of them may be a frame ahead.
            passed.bytes = passed.bytes.saturating_sub(headers);
        }
        passed
    }

    /// Its network.
    #[must_use]
    pub const fn network(&self) -> u8 {
        self.network
    }

    /// Whether the cable is plugged in.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Relaxed)
    }

    /// Plugs it in, or out. The card says so to its driver when it is [polled](crate::Device::poll) next.
    pub fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Relaxed);
    }

    /// Whether what its driver has posted to receive is nonsense.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Relaxed)
    }

    /// Notes that, or that its driver begins anew.
    pub(crate) fn set_broken(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Relaxed);
    }

    /// The address it begins with, if it is one's own.
    pub(super) fn mac(&self) -> Option<Mac> {
        match self.peer {
            Peer::Guest { mac, .. } => Some(Mac::new(mac)),
            Peer::Uplink(_) => None,
            Peer::Echo { mac, .. } => Some(Mac::new(mac)),
        }
    }

    /// Whether it may send from any address.
    pub(super) fn is_open(&self) -> bool {
        match self.peer {
            Peer::Guest { is_open, .. } => is_open,
            Peer::Uplink(_) => true,
            Peer::Echo { .. } => false,
        }
    }

    /// The VLAN that a frame with this tag comes in on.
    pub(super) fn comes_in(&self, tag: Option<u16>) -> Result<u16, Reason> {
        // A tag with VLAN 0 has a priority and nothing else (802.1Q, table 9-2); 4095 is nobody's.
        match (self.vlan, tag.unwrap_or(0) & 0xfff) {
            (Vlan::Access(vlan), 0) => Ok(vlan),
            (Vlan::Trunk, vlan @ 0..0xfff) => Ok(vlan),
            (Vlan::Access(_), 1..) | (Vlan::Trunk, _) => Err(Reason::Tagged),
        }
    }

    /// The tag that a frame bears when it goes out; `None` if it does not go out here.
    pub(super) fn goes_out(&self, vlan: u16, tag: Option<u16>) -> Option<Option<u16>> {
        match self.vlan {
            Vlan::Access(own) => (own == vlan).then_some(None),
            Vlan::Trunk if vlan == 0 => Some(None),
            Vlan::Trunk => Some(Some(tag.unwrap_or(0) & 0xf000 | vlan)),
        }
    }

    /// Notes that a flow was sent on a pair of queues.
    pub(crate) fn steer(&self, flow: u32, pair: u8) {
        if let Some(at) = self.flow(flow) {
            at.store(pair + 1, Relaxed);
        }
    }

    /// Which of so many pairs receives a flow.
    pub(super) fn pair(&self, flow: u32, pairs: u8) -> u8 {
        match self.flow(flow).map_or(0, |at| at.load(Relaxed)) {
            seen if (1..=pairs).contains(&seen) => seen - 1,
            _ => flow.to_le_bytes()[0].checked_rem(pairs).unwrap_or(0),
        }
    }

    fn flow(&self, flow: u32) -> Option<&AtomicU8> {
        self.steering.get(usize::try_from(flow).ok()? % FLOWS)
    }
}
