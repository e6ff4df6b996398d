//! A switch for Ethernet frames between guests, and between them and the outside.
//!
//! Ports are in networks, and a frame never leaves its network. In a network they are in VLANs ([`Vlan`]). A frame goes
//! straight from its sender's buffers into its receivers': the switch keeps none. A receiver without buffers misses the
//! frame, and nobody waits for it.
//!
//! Who sends holds the lock of its own device, and takes the receivers' locks one after another: whoever holds one of
//! those takes nothing else. What has been delivered is shown to its receivers when a batch is over
//! ([`Switch::finish`]), and only then are they interrupted: once for all of it.
//!
//! Nothing here grows. What a frame costs is bounded by the ports of its network, and a budget bounds how many are sent
//! before others have their turn.

use core::array::from_fn;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

mod cut;
mod echo;
mod express;
pub(crate) mod filter;
pub(crate) mod frame;
mod ingress;
mod learned;
mod port;
pub(crate) mod rate;
pub(crate) mod receive;
mod route;
#[cfg(test)]
mod tests;
mod traffic;

use crate::chain::Chain;
use crate::memory::GuestMemory;
use crate::net::header::{HEADER, Offload};
use frame::{Frame, Mac};
pub use ingress::Ingress;
use learned::Learned;
pub use port::{Passed, Peer, Port, Reason, Uplink, Vlan};
use rate::{Clock, Meter};
pub use receive::MAX_PAIRS;
use route::Flow;
pub use traffic::Drops;

/// The most networks.
pub const MAX_NETWORKS: usize = 8;
/// The most ports in all of them.
pub const MAX_PORTS: usize = 64;
/// The longest payload of a frame.
pub const MTU: u16 = 1500;
/// The longest piece that is to be cut: as long as IP's headers can say.
const MAX_PAYLOAD: u32 = 65_535;
/// Frames for everybody that a port may send in a second, and at once.
const STORM: u64 = 1000;
const STORM_BURST: u64 = 256;
/// What a rate allows at once: the bytes of a sixteenth of a second, and no less than two pieces of 64 KiB.
const BURST: u64 = 2 << 16;
/// What a batch may copy.
const BUDGET_FRAMES: u32 = 64;
const BUDGET_BYTES: u32 = 256 << 10;

/// What a batch has cost.
#[derive(Clone, Copy, Default)]
pub(crate) struct Budget {
    frames: u32,
    bytes: u32,
}

impl Budget {
    /// A frame was copied.
    pub fn spend(&mut self, bytes: u32) {
        self.frames += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Whether it is time for others.
    pub fn is_spent(&self) -> bool {
        self.frames >= BUDGET_FRAMES || self.bytes >= BUDGET_BYTES
    }
}

/// Who sends, and what it may.
pub(crate) struct Origin {
    pub port: usize,
    rate: Meter,
    storm: Meter,
    /// Ports that were sent something in this batch, and have not been shown it.
    touched: u64,
    /// Those whose drivers want to be interrupted.
    wants: u64,
    pub budget: Budget,
    /// Where receivers' buffers are noted.
    chain: Chain,
    /// Where the last frame has gone, if that would be found again.
    flow: Flow,
}

impl Origin {
    /// One that sends from a port.
    pub fn new<M>(port: usize, of: &Port<'_, M>) -> Self {
        let rate = match of.peer {
            Peer::Guest { rate, .. } => rate,
            Peer::Uplink(_) => 0,
            Peer::Echo { .. } => 0,
        };
        Self {
            port,
            rate: Meter::new(rate, (rate >> 4).max(BURST)),
            storm: Meter::new(STORM, STORM_BURST),
            touched: 0,
            wants: 0,
            budget: Budget::default(),
            chain: Chain::new(),
            flow: Flow::NONE,
        }
    }
}

/// Why some ports make no switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadSwitch {
    /// There are more than [`MAX_PORTS`].
    TooMany,
    /// This port is in a network that there is not.
    Network(usize),
    /// Its address is nobody's, or another port's of the network.
    Address(usize),
    /// Its VLAN is none: they end at 4094.
    Vlan(usize),
}

/// The switch.
pub struct Switch<'a, M> {
    ports: &'a [Port<'a, M>],
    /// Each port's own address, as its card's driver has set it; 0 for none.
    macs: [AtomicU64; MAX_PORTS],
    /// Ports of the same network that frames of this one may go to; of a trunk's, not all.
    peers: [u64; MAX_PORTS],
    /// Ports whose frames may come from anywhere, so that anybody may be behind them.
    open: u64,
    /// Ports that want frames for stations that they are not.
    curious: AtomicU64,
    learned: Learned,
    /// How often a card got another address.
    changes: AtomicU64,
}

/// The set of one port.
pub(crate) const fn bit(port: usize) -> u64 {
    1 << (port % MAX_PORTS)
}

/// The lowest port of a set, taken out of it.
fn next(set: &mut u64) -> Option<usize> {
    let port = usize::try_from(set.trailing_zeros()).ok()?;
    *set &= set.wrapping_sub(1);
    (port < MAX_PORTS).then_some(port)
}

impl<'a, M: GuestMemory> Switch<'a, M> {
    /// A switch of these ports, which have their place's number.
    ///
    /// # Errors
    /// They make none.
    pub fn new(ports: &'a [Port<'a, M>]) -> Result<Self, BadSwitch> {
        if ports.len() > MAX_PORTS {
            return Err(BadSwitch::TooMany);
        }
        let mut switch = Self {
            ports,
            macs: from_fn(|_| AtomicU64::new(0)),
            peers: [0; MAX_PORTS],
            open: 0,
            curious: AtomicU64::new(0),
            learned: Learned::new(),
            changes: AtomicU64::new(0),
        };
        for (at, port) in ports.iter().enumerate() {
            switch.add(at, port)?;
        }
        Ok(switch)
    }

    fn add(&mut self, at: usize, port: &Port<'_, M>) -> Result<(), BadSwitch> {
        if usize::from(port.network) >= MAX_NETWORKS {
            return Err(BadSwitch::Network(at));
        }
        if matches!(port.vlan, Vlan::Access(4095..)) {
            return Err(BadSwitch::Vlan(at));
        }
        for (other, that) in self.ports.iter().enumerate() {
            if other == at || that.network != port.network {
                continue;
            }
            if port.mac().is_some() && port.mac() == that.mac() {
                return Err(BadSwitch::Address(at));
            }
            let meet = match (port.vlan, that.vlan) {
                (Vlan::Access(one), Vlan::Access(two)) => one == two,
                (Vlan::Trunk, _) | (_, Vlan::Trunk) => true,
            };
            if let Some(peers) = self.peers.get_mut(at).filter(|_| meet) {
                *peers |= bit(other);
            }
        }
        if let Some(mac) = port.mac() {
            if !mac.is_station() {
                return Err(BadSwitch::Address(at));
            }
            self.set_mac(at, mac);
        }
        if port.is_open() {
            self.open |= bit(at);
        }
        Ok(())
    }

    /// A port.
    #[must_use]
    pub fn port(&self, port: usize) -> Option<&'a Port<'a, M>> {
        self.ports.get(port)
    }

    /// Every port, in its order.
    #[must_use]
    pub fn ports(&self) -> &'a [Port<'a, M>] {
        self.ports
    }

    /// The address of a port's card.
    pub(crate) fn mac(&self, port: usize) -> Mac {
        let mac = self.macs.get(port);
        Mac(mac.map_or(0, |mac| mac.load(Relaxed)))
    }

    /// Gives a card another address.
    pub(crate) fn set_mac(&self, port: usize, mac: Mac) {
        if let Some(own) = self.macs.get(port) {
            own.store(mac.0, Relaxed);
            self.changes.fetch_add(1, Relaxed);
        }
    }

    /// Notes whether a card wants frames for stations that it is not.
    pub(crate) fn set_curious(&self, port: usize, is_curious: bool) {
        if is_curious {
            self.curious.fetch_or(bit(port), Relaxed);
        } else {
            self.curious.fetch_and(!bit(port), Relaxed);
        }
    }

    /// Sends a frame on its way. What becomes of it is counted. `is_last` says that no other will follow soon.
    #[inline(always)]
    pub(crate) fn send(
        &self,
        origin: &mut Origin,
        frame: &mut Frame<'_, M>,
        clock: Clock,
        is_last: bool,
    ) {
        let flow = &origin.flow;
        let is_known = frame.link.to == flow.to
            && frame.link.from == flow.from
            && frame.link.tag.is_none()
            && self.changes.load(Relaxed) == flow.changes;
        let Some((from, to)) = (self.ports.get(origin.port))
            .zip(self.ports.get(flow.port))
            .filter(|(_, to)| is_known && matches!(to.peer, Peer::Guest { .. }))
        else {
            return self.send_any(origin, frame, clock, is_last);
        };
        frame.vlan = flow.vlan;
        let bytes = frame.len();
        if frame.payload > most(frame) || !from.is_up() || !origin.rate.admit(bytes, clock) {
            return self.send_any(origin, frame, clock, is_last);
        }
        from.sent.pass(bytes);
        let number = flow.port;
        Self::hand(origin, (number, to), frame, None, is_last);
    }

    /// The same, for a frame that is not as the one before.
    #[inline(never)]
    fn send_any(&self, origin: &mut Origin, frame: &mut Frame<'_, M>, clock: Clock, is_last: bool) {
        let Some(port) = self.ports.get(origin.port) else {
            return;
        };
        let link = frame.link;
        let changes = self.changes.load(Relaxed);
        let targets = if frame.payload > most(frame) {
            Err(Reason::TooLong)
        } else {
            self.admit(origin, port, &link, frame.len(), clock)
                .and_then(|vlan| {
                    frame.vlan = vlan;
                    self.targets(origin, port, link.to, clock)
                })
        };
        match targets {
            Ok(mut targets) => {
                port.sent.pass(frame.len());
                self.remember(origin, port, targets, frame, changes);
                while let Some(to) = next(&mut targets) {
                    self.deliver(origin, to, frame, is_last);
                }
            }
            Err(reason) => port.sent.drop(reason),
        }
    }

    /// Notes on which pair of queues a flow is sent.
    #[inline(never)]
    pub(crate) fn steer(&self, port: usize, frame: &Frame<'_, M>, pair: u8) {
        if let Some(port) = self.ports.get(port) {
            port.steer(frame.flow(), pair);
        }
    }

    /// Counts a frame that was none.
    #[cold]
    pub(crate) fn refuse(&self, origin: &Origin, reason: Reason) {
        if let Some(port) = self.ports.get(origin.port) {
            port.sent.drop(reason);
        }
    }

    /// Gives a frame to a port.
    fn deliver(&self, origin: &mut Origin, to: usize, frame: &Frame<'_, M>, is_last: bool) {
        let Some(port) = self.ports.get(to) else {
            return;
        };
        let Some(tag) = port.goes_out(frame.vlan, frame.link.tag) else {
            return;
        };
        match port.peer {
            Peer::Guest { .. } => Self::hand(origin, (to, port), frame, tag, is_last),
            Peer::Uplink(uplink) => {
                origin.touched |= bit(to);
                let done = if frame.offload == Offload::NOTHING {
                    leave(uplink, frame, tag, &mut origin.budget)
                } else {
                    cut::each(frame, &mut |one| {
                        leave(uplink, one, tag, &mut origin.budget)
                    })
                };
                let _held = port.receive.lock();
                match done {
                    Ok(()) => port.received.pass(frame.len()),
                    Err(reason) => port.received.drop(reason),
                }
            }
            Peer::Echo { mac, ip } => {
                let Some(asker) = self.ports.get(origin.port) else {
                    return;
                };
                echo::answer(frame, Mac::new(mac), ip, |answer| {
                    let number = origin.port;
                    if let (Peer::Guest { .. }, Some(tag)) =
                        (asker.peer, asker.goes_out(answer.vlan, answer.link.tag))
                    {
                        Self::hand(origin, (number, asker), answer, tag, is_last);
                    }
                });
            }
        }
    }

    /// Gives a frame to a guest's card; if it is the last, its driver is shown what came.
    #[inline(never)]
    fn hand(
        origin: &mut Origin,
        (number, port): (usize, &Port<'_, M>),
        frame: &Frame<'_, M>,
        tag: Option<u16>,
        is_last: bool,
    ) {
        let mut receive = port.receive.lock();
        if !receive.filter.accepts(frame.link.to) {
            return;
        }
        let done = if port.is_up() {
            let pairs = receive.pairs;
            let pair = if pairs > 1 {
                port.pair(frame.flow(), pairs)
            } else {
                0
            };
            let (chain, budget) = (&mut origin.chain, &mut origin.budget);
            receive.take(pair, frame, tag, chain, budget, is_last)
        } else {
            Err(Reason::Down)
        };
        match done {
            Ok((bytes, wants)) => {
                port.received.pass(bytes);
                origin.wants |= if wants { bit(number) } else { 0 };
            }
            Err(reason) => port.received.drop(reason),
        }
        if receive.has_unseen() {
            origin.touched |= bit(number);
        }
    }

    /// Ends a batch: shows the receivers what came. Those that want to be interrupted.
    #[inline(always)]
    pub(crate) fn finish(&self, origin: &mut Origin) -> u64 {
        origin.budget = Budget::default();
        let wants = core::mem::take(&mut origin.wants);
        if origin.touched == 0 {
            return wants;
        }
        wants | self.publish(core::mem::take(&mut origin.touched))
    }

    /// Shows receivers what came. Those that want to be interrupted.
    #[inline(never)]
    fn publish(&self, mut touched: u64) -> u64 {
        let mut wants = 0;
        while let Some(at) = next(&mut touched) {
            let Some(port) = self.ports.get(at) else {
                continue;
            };
            match port.peer {
                Peer::Guest { .. } => {
                    let mut receive = port.receive.lock();
                    if receive.publish() {
                        wants |= bit(at);
                    }
                    if receive.is_broken {
                        port.set_broken(true);
                    }
                }
                Peer::Uplink(uplink) => uplink.flush(),
                Peer::Echo { .. } => {}
            }
        }
        wants
    }
}

/// The most bytes of a frame like this behind its header.
fn most<M>(frame: &Frame<'_, M>) -> u32 {
    if frame.offload.is_piece() {
        MAX_PAYLOAD
    } else {
        u32::from(MTU)
    }
}

/// A frame leaves the machine.
fn leave<M: GuestMemory>(
    uplink: &dyn Uplink,
    frame: &Frame<'_, M>,
    tag: Option<u16>,
    budget: &mut Budget,
) -> Result<(), Reason> {
    let (start, end) = frame.begin(tag);
    let start = start.as_flattened().get(..end).unwrap_or_default();
    let remaining = usize::try_from(frame.pour(start).remaining()).unwrap_or(0);
    let len = remaining.saturating_sub(HEADER);
    budget.spend(frame.len());
    let mut is_there = true;
    let taken = uplink.transmit(len, &mut |into| {
        is_there = frame.pour(start).read(into) == Some(len);
        is_there
    });
    match (taken, is_there) {
        (_, false) => Err(Reason::Fault),
        (false, true) => Err(Reason::Full),
        (true, true) => Ok(()),
    }
}
