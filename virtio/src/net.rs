//! The network card: virtio 1.3, 5.1.
//!
//! What a driver sends goes through a [switch](crate::switch) straight into its receivers' buffers, while the sender's
//! notification is served; a card's own receive queues lie in its port of the switch, where others fill them. Nobody needs
//! to be told of new receive buffers, and drivers are asked not to.
//!
//! Offloads are offered to everybody. A frame with work left to do goes as it is to a driver that has agreed to the same,
//! and is completed or cut for one that has not.

mod control;
pub(crate) mod header;

use crate::chain::{Chain, Cursor};
use crate::device::{Dependency, Device, Env, Served};
use crate::memory::GuestMemory;
use crate::queue::{Broken, Queue};
use crate::switch::filter::Mode;
use crate::switch::frame::{Body, Frame, LINK, Link, Mac, START, Start, TAG_BYTES};
use crate::switch::rate::Clock;
use crate::switch::receive::Receive;
use crate::switch::{MAX_PAIRS, MTU, Origin, Peer, Port, Reason, Switch, bit};
use header::Offload;
pub use header::{HEADER, NetFeatures};

/// The largest queue.
const QUEUE_MAX: u16 = 256;
/// The queues: pairs, and one for commands.
const RINGS: usize = 2 * MAX_PAIRS + 1;
/// The speed that a card without a rate says it has, in Mbit/s.
const SPEED: u32 = 10_000;
/// Bytes of the configuration space up to the duplex mode, the last that there is (5.1.4).
const CONFIG: usize = 17;

/// What a queue is for (5.1.2).
enum Use {
    Receive(u8),
    Transmit(u8),
    Control,
}

const fn needs(feature: NetFeatures, any_of: NetFeatures) -> Dependency {
    Dependency {
        feature: feature.bits(),
        any_of: any_of.bits(),
        offer_only: false,
    }
}

/// Virtio 1.3, 5.1.3.1.
const DEPENDENCIES: [Dependency; 13] = {
    use NetFeatures as F;
    [
        needs(F::GUEST_TSO4, F::GUEST_CSUM),
        needs(F::GUEST_TSO6, F::GUEST_CSUM),
        needs(F::GUEST_ECN, F::GUEST_TSO4.union(F::GUEST_TSO6)),
        needs(F::GUEST_USO4, F::GUEST_CSUM),
        needs(F::GUEST_USO6, F::GUEST_CSUM),
        needs(F::HOST_TSO4, F::CSUM),
        needs(F::HOST_TSO6, F::CSUM),
        needs(F::HOST_ECN, F::HOST_TSO4.union(F::HOST_TSO6)),
        needs(F::HOST_USO, F::CSUM),
        needs(F::CTRL_RX, F::CTRL_VQ),
        needs(F::MQ, F::CTRL_VQ),
        needs(F::CTRL_MAC_ADDR, F::CTRL_VQ),
        Dependency {
            feature: F::CTRL_GUEST_OFFLOADS.bits() | F::CTRL_RX_EXTRA.bits(),
            any_of: F::CTRL_VQ.bits(),
            offer_only: true,
        },
    ]
};

/// A card.
pub struct Net<'a, M> {
    switch: &'a Switch<'a, M>,
    memory: M,
    origin: Origin,
    mac: [u8; 6],
    is_open: bool,
    rate: u64,
    /// What is being sent.
    chain: Chain,
    /// Queues by their number; not those that receive, once the driver is ready.
    rings: [Option<Queue>; RINGS],
    /// How many there are.
    pairs: u8,
    features: NetFeatures,
    is_started: bool,
    /// What the driver was told of the link.
    was_up: bool,
}

impl<'a, M: GuestMemory> Net<'a, M> {
    /// The card in a guest's port of the switch, with so many pairs of queues, [`MAX_PAIRS`] at most. `None` if that is no
    /// guest's port.
    #[must_use]
    pub fn new(switch: &'a Switch<'a, M>, port: usize, memory: M, pairs: u8) -> Option<Self> {
        let of = switch.port(port)?;
        let (mac, is_open, rate) = match of.peer {
            Peer::Guest { mac, is_open, rate } => (mac, is_open, rate),
            Peer::Uplink(_) => return None,
            Peer::Echo { .. } => return None,
        };
        let pairs = usize::from(pairs).clamp(1, MAX_PAIRS);
        Some(Self {
            switch,
            memory,
            origin: Origin::new(port, of),
            mac,
            is_open,
            rate,
            chain: Chain::new(),
            rings: [const { None }; RINGS],
            pairs: u8::try_from(pairs).unwrap_or(1),
            features: NetFeatures::empty(),
            is_started: false,
            was_up: of.is_up(),
        })
    }

    /// The port of the switch.
    #[must_use]
    pub fn port(&self) -> usize {
        self.origin.port
    }

    fn of(&self, queue: u16) -> Option<Use> {
        let pairs = if self.features.contains(NetFeatures::MQ) {
            self.pairs
        } else {
            1
        };
        let [queue, 0] = queue.to_le_bytes() else {
            return None;
        };
        match queue {
            _ if queue == 2 * pairs => {
                let has = self.features.contains(NetFeatures::CTRL_VQ);
                has.then_some(Use::Control)
            }
            _ if queue > 2 * pairs => None,
            _ if queue % 2 == 0 => Some(Use::Receive(queue / 2)),
            _ => Some(Use::Transmit(queue / 2)),
        }
    }

    /// Works on the port's receiving half, if it is there.
    fn receiving<R>(&self, work: impl FnOnce(&mut Receive<M>) -> R) -> Option<R> {
        let port = self.switch.port(self.origin.port)?;
        Some(work(&mut port.receive.lock()))
    }

    /// Whether the driver has posted nonsense to receive into.
    fn is_receiving_nonsense(&self) -> bool {
        let port = self.switch.port(self.origin.port);
        port.is_some_and(Port::is_broken)
    }

    /// Gives a queue that receives to the port.
    fn hand_over(&mut self, queue: usize) {
        let number = u16::try_from(queue).unwrap_or(u16::MAX);
        let Some(Use::Receive(pair)) = self.of(number) else {
            return;
        };
        let Some(mut ring) = self.rings.get_mut(queue).and_then(Option::take) else {
            return;
        };
        ring.quiet(&self.memory);
        self.receiving(|receive| {
            if let Some(place) = receive.rings.get_mut(usize::from(pair)) {
                *place = Some(ring);
            }
        });
    }

    fn transmit(&mut self, queue: u16, pair: u8, env: &mut Env<'_, M>) -> Served {
        let mut served = Served::default();
        let is_plain = env.trace.is_none() && self.pairs == 1;
        loop {
            if self.origin.budget.is_spent() {
                served.more = true;
                break;
            }
            let Some(Some(ring)) = self.rings.get_mut(usize::from(queue)) else {
                return served;
            };
            let (origin, memory) = (&mut self.origin, &self.memory);
            // Also a frame that reached nobody costs something. And another lane may change its mind about what is available,
            // as often as it is looked at.
            origin.budget.spend(0);
            let sent = is_plain.then(|| {
                let switch = self.switch;
                switch.express(origin, ring, memory, self.features)
            });
            if sent.flatten().is_some() {
                if ring.listen_here(memory) {
                    continue;
                }
                break;
            }
            if self.send(queue, pair, env).is_err() {
                served.broken = true;
                break;
            }
            let ring = self.rings.get_mut(usize::from(queue));
            let ring = ring.and_then(Option::as_mut);
            if !ring.is_some_and(|ring| ring.listen(&self.memory)) {
                break;
            }
        }
        if let Some(Some(ring)) = self.rings.get_mut(usize::from(queue)) {
            served.used = ring.publish_here(&self.memory);
            served.broken |= ring.is_broken();
        }
        let mut ports = self.switch.finish(&mut self.origin);
        if ports & bit(self.origin.port) != 0 {
            // An answer, which is seen with the same interrupt as what was sent.
            ports &= !bit(self.origin.port);
            served.used = true;
            served.broken |= self.is_receiving_nonsense();
        }
        served.ports = ports;
        served
    }

    /// Sends the next frame, if there is one, whatever it is.
    #[inline(never)]
    fn send(&mut self, queue: u16, pair: u8, env: &mut Env<'_, M>) -> Result<(), Broken> {
        let clock = Clock {
            now: env.now,
            frequency: env.frequency,
        };
        let Some(Some(ring)) = self.rings.get_mut(usize::from(queue)) else {
            return Ok(());
        };
        if !ring.pop(&env.memory, &mut self.chain)? {
            return Ok(());
        }
        env.popped(queue, &self.chain);
        match judge(&self.memory, &self.chain, self.features) {
            Ok(mut frame) => {
                if self.pairs > 1 {
                    self.switch.steer(self.origin.port, &frame, pair);
                }
                let is_last = ring.seems_empty();
                self.switch
                    .send(&mut self.origin, &mut frame, clock, is_last);
            }
            Err(reason) => self.switch.refuse(&self.origin, reason),
        }
        env.push(queue, ring, &self.chain, 0);
        Ok(())
    }

    /// The configuration space (5.1.4).
    fn config(&self) -> [u8; CONFIG] {
        let [a, b, c, d, e, f] = self.mac;
        let [mtu_low, mtu_high] = MTU.to_le_bytes();
        let speed = match self.rate {
            0 => SPEED,
            rate => u32::try_from(rate.saturating_mul(8) / 1_000_000)
                .unwrap_or(SPEED)
                .max(1),
        };
        let [s0, s1, s2, s3] = speed.to_le_bytes();
        let up = u8::from(self.was_up);
        let full_duplex = 1;
        [
            a,
            b,
            c,
            d,
            e,
            f,
            up,
            0,
            self.pairs,
            0,
            mtu_low,
            mtu_high,
            s0,
            s1,
            s2,
            s3,
            full_duplex,
        ]
    }
}

/// Bytes of what a packet begins with: virtio's header and the link layer's.
const HEADERS: u32 = 26;
const _: () = assert!(HEADERS as usize == START);

/// Judges what a driver sends: what of it is the headers is copied once.
#[inline(always)]
fn judge<'a, M: GuestMemory>(
    memory: &'a M,
    chain: &'a Chain,
    features: NetFeatures,
) -> Result<Frame<'a, M>, Reason> {
    let len = chain.readable_len();
    let mut payload = len
        .checked_sub(u64::from(HEADERS))
        .ok_or(Reason::Malformed)?;
    let mut at = chain.readable();
    let words = match at.quad(memory, HEADERS) {
        Some(words) => words,
        None => gather(memory, &mut at).ok_or(Reason::Fault)?,
    };
    let start = words.map(u64::to_le_bytes);
    let mut link = Link::NONE;
    let read = link.read(&start, || {
        let mut tag = [0; TAG_BYTES];
        at.read(memory, &mut tag)?;
        Some(tag)
    });
    read.ok_or(Reason::Tagged)?;
    payload -= (link.len() - LINK) as u64;
    let payload = u32::try_from(payload).map_err(|_| Reason::TooLong)?;
    let [first, second, ..] = words;
    let offload = if Offload::is_any(first) {
        let offload = Offload::judge((first, second), features, &link, payload);
        offload.ok_or(Reason::Malformed)?
    } else {
        Offload::NOTHING
    };
    Ok(Frame {
        link,
        vlan: 0,
        offload,
        payload,
        text: &[],
        body: Some(Body {
            memory,
            at,
            len: payload,
        }),
    })
}

/// The words that a packet begins with, where they do not lie in one buffer.
#[inline(never)]
fn gather<M: GuestMemory>(memory: &M, at: &mut Cursor<'_>) -> Option<[u64; 4]> {
    let mut start = Start::default();
    at.read(memory, start.as_flattened_mut().get_mut(..START)?)?;
    Some(start.map(u64::from_le_bytes))
}

impl<M: GuestMemory> Device<M> for Net<'_, M> {
    fn id(&self) -> u32 {
        1
    }

    fn features(&self) -> u64 {
        let mut all = NetFeatures::all();
        if self.pairs == 1 {
            all.remove(NetFeatures::MQ);
        }
        all.bits()
    }

    fn dependencies(&self) -> &'static [Dependency] {
        &DEPENDENCIES
    }

    fn queue_max(&self, queue: u16) -> u16 {
        if queue <= 2 * u16::from(self.pairs) {
            QUEUE_MAX
        } else {
            0
        }
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        let config = self.config();
        let from = usize::try_from(offset).ok().and_then(|at| config.get(at..));
        for (to, from) in into.iter_mut().zip(from.unwrap_or_default()) {
            *to = *from;
        }
    }

    fn start(&mut self, features: u64) {
        self.features = NetFeatures::from_bits_truncate(features);
        self.is_started = true;
        let (memory, features, is_open) = (self.memory, self.features, self.is_open);
        let mac = Mac::new(self.mac);
        let asks = features.contains(NetFeatures::CTRL_RX);
        self.receiving(|receive| {
            receive.features = features;
            receive.pairs = 1;
            receive.filter.mac = mac;
            // Until a driver says otherwise; one that cannot gets what a bridge behind it would need.
            receive.filter.set(Mode::AllMulticast, true);
            receive.filter.set(Mode::Promiscuous, is_open && !asks);
            receive.memory = Some(memory);
        });
        self.switch.set_curious(self.origin.port, is_open && !asks);
        for queue in 0..RINGS {
            self.hand_over(queue);
        }
    }

    fn open(&mut self, queue: u16, ring: Queue) {
        if let Some(place) = self.rings.get_mut(usize::from(queue)) {
            *place = Some(ring);
        }
        if self.is_started {
            self.hand_over(usize::from(queue));
        }
    }

    fn close(&mut self, queue: u16) {
        if let Some(place) = self.rings.get_mut(usize::from(queue)) {
            *place = None;
        }
        if let Some(Use::Receive(pair)) = self.of(queue) {
            self.receiving(|receive| {
                if let Some(place) = receive.rings.get_mut(usize::from(pair)) {
                    *place = None;
                }
            });
        }
    }

    fn reset(&mut self) {
        self.receiving(|receive| *receive = Receive::new());
        if let Some(port) = self.switch.port(self.origin.port) {
            port.set_broken(false);
        }
        self.switch.set_curious(self.origin.port, false);
        self.switch.set_mac(self.origin.port, Mac::new(self.mac));
        self.rings = [const { None }; RINGS];
        self.features = NetFeatures::empty();
        self.is_started = false;
        if let Some(port) = self.switch.port(self.origin.port) {
            self.was_up = port.is_up();
        }
    }

    fn serve(&mut self, queue: u16, env: &mut Env<'_, M>) -> Served {
        // The first pair's is the same, whatever else there is.
        let pair = if queue == 1 {
            0
        } else {
            match self.of(queue) {
                Some(Use::Transmit(pair)) => pair,
                Some(Use::Control) => return self.control(queue, env),
                Some(Use::Receive(_)) | None => return Served::default(),
            }
        };
        self.transmit(queue, pair, env)
    }

    fn poll(&mut self, env: &mut Env<'_, M>) -> Served {
        let _ = env;
        let is_up = self
            .switch
            .port(self.origin.port)
            .is_none_or(|port| port.is_up());
        let config = is_up != self.was_up;
        self.was_up = is_up;
        Served {
            config,
            ..Served::default()
        }
    }

    fn is_broken(&self) -> bool {
        self.is_receiving_nonsense()
    }
}
