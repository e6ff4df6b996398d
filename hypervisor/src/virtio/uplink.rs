//! The machine's own network card, as the switch's way out, and the way in.
//!
//! What guests send is copied into buffers of EL2's own by whoever serves their cards. What comes from outside the CPU
//! that booted hands to the switch, when the card interrupts it; of that there may be any amount, so it takes no more than
//! so many frames in a millisecond. Then the card is muted, and the rest waits, in its buffers or on the wire, until that
//! CPU's crew comes back to it.

use hypervisor_arch::reach::Reach;
use hypervisor_arch::virtio::MachineNet;
use hypervisor_arch::{say, timer};
use spin::Once;
use spin::mutex::TicketMutex;
use virtio::switch::{Ingress, Uplink};

use super::fabric::Fabric;

/// A time that does not come.
pub const NEVER: u64 = u64::MAX;
/// Frames from outside that are taken in [`WINDOWS`]' part of a second.
const MOST: u32 = 64;
/// How many such parts a second has.
const WINDOWS: u64 = 1000;

static WAY_IN: Once<WayIn> = Once::new();

/// The card.
pub struct Card {
    /// The network that it is on: the n-th of the plan.
    pub network: u8,
    name: &'static str,
    intid: u32,
    net: TicketMutex<MachineNet>,
}

impl Card {
    /// A card that is ready.
    pub const fn new(network: u8, name: &'static str, intid: u32, net: MachineNet) -> Self {
        let net = TicketMutex::new(net);
        Self {
            network,
            name,
            intid,
            net,
        }
    }
}

impl Uplink for Card {
    fn transmit(&self, len: usize, fill: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
        self.net.lock().transmit(len, fill)
    }

    fn flush(&self) {
        self.net.lock().flush();
    }
}

struct WayIn {
    card: &'static Card,
    fabric: &'static Fabric,
    gate: TicketMutex<Gate>,
}

/// What is let in.
struct Gate {
    ingress: Ingress<'static, Reach>,
    /// When the millisecond began that is counted in, and the frames in it.
    since: u64,
    count: u32,
    is_broken: bool,
}

/// From now on frames come in by a port of the switch.
pub fn open(card: &'static Card, fabric: &'static Fabric, port: usize) {
    if let Some(ingress) = Ingress::new(&fabric.switch, port) {
        let gate = TicketMutex::new(Gate {
            ingress,
            since: 0,
            count: 0,
            is_broken: false,
        });
        WAY_IN.call_once(|| WayIn { card, fabric, gate });
    }
}

/// An interrupt that this CPU has acknowledged: if it was the card's, when to [`look`] again; it is to be ended then.
pub fn fired(intid: u32) -> Option<u64> {
    let way = WAY_IN.get().filter(|way| way.card.intid == intid)?;
    Some(way.take())
}

/// Lets in what had to wait; when to look again.
pub fn look() -> u64 {
    WAY_IN.get().map_or(NEVER, WayIn::take)
}

impl WayIn {
    /// Lets frames in; when to look again.
    fn take(&self) -> u64 {
        let gate = &mut *self.gate.lock();
        let (now, frequency) = (timer::now(), timer::frequency());
        let window = frequency / WINDOWS;
        if now.saturating_sub(gate.since) >= window {
            (gate.since, gate.count) = (now, 0);
        }
        let mut is_enough = gate.count >= MOST;
        let mut net = self.card.net.lock();
        net.quiet();
        // Unmuted before the first look: what comes after the last one interrupts.
        net.mute(is_enough);
        while !is_enough {
            let ingress = &mut gate.ingress;
            let mut is_spent = false;
            if !net.receive(|frame| is_spent = ingress.frame(frame, now, frequency)) {
                break;
            }
            gate.count += 1;
            is_enough = is_spent || gate.count >= MOST;
            if is_enough {
                net.mute(true);
            }
        }
        let is_broken = net.is_broken();
        drop(net);
        let ports = gate.ingress.finish();
        if is_broken && !core::mem::replace(&mut gate.is_broken, true) {
            let name = self.card.name;
            say!(
                "network {name}: the machine's card has answered what was not asked, and is not used any more"
            );
        }
        let until = gate.since.saturating_add(window);
        self.fabric.tell(ports);
        if is_enough && !is_broken {
            until
        } else {
            NEVER
        }
    }
}
