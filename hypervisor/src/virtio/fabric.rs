//! The switch that guests' network cards are plugged into, and whose each of its ports is.

use configs_plan::{Bundle, MAX_GUESTS, MAX_VIRTIO, VirtioDevice};
use hypervisor_arch::fault;
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::memory::Arena;
use hypervisor_arch::reach::Reach;
use spin::Once;
use vcpu::machine::Machine;
use vcpu::vgic::VirtGic;
use virtio::switch::{MAX_NETWORKS, MAX_PORTS, Peer, Port, Switch, Vlan};

use super::Devices;
use super::sockets::{self, Sockets};
use super::uplink::{self, Card};

/// A machine's devices, once they are made.
type Owner = Once<&'static Devices>;

/// What the ports are made of, and whose each is.
type Plugs = arrayvec::ArrayVec<(Place, (u8, Vlan, Peer<'static>)), MAX_PORTS>;

/// The switch and the owners of its ports.
pub struct Fabric {
    pub switch: Switch<'static, Reach>,
    ports: arrayvec::ArrayVec<Place, MAX_PORTS>,
    /// What the networks are called.
    names: arrayvec::ArrayVec<&'static str, MAX_NETWORKS>,
    pub sockets: Sockets,
    /// The devices of each machine.
    owners: &'static [Owner],
}

/// Where the device behind a port is.
#[derive(Clone, Copy)]
pub struct Place {
    guest: u32,
    slot: u32,
}

impl Place {
    const NONE: Self = Self {
        guest: u32::MAX,
        slot: u32::MAX,
    };

    /// A slot of a guest.
    pub const fn new(guest: u32, slot: u32) -> Self {
        Self { guest, slot }
    }

    /// The guest.
    pub const fn guest(&self) -> u32 {
        self.guest
    }

    /// Whether it is this slot of this guest.
    pub const fn is(&self, guest: u32, slot: u32) -> bool {
        self.guest == guest && self.slot == slot
    }
}

/// What a fabric takes of EL2's arena.
pub fn arena_bytes(bundle: &Bundle<'_>) -> u64 {
    let guests = bundle.plan().guests();
    let nets = guests.flat_map(|guest| guest.virtio());
    let nets = nets
        .filter(|one| matches!(one.device, VirtioDevice::Net { .. }))
        .count();
    let ports = (nets as u64 + 2 * bundle.plan().networks().count() as u64)
        * size_of::<Port<'static, Reach>>() as u64;
    sockets::arena_bytes(bundle)
        + ports
        + size_of::<Fabric>() as u64
        + (MAX_GUESTS * size_of::<Owner>()) as u64
        + 256
}

/// Adds the guests' cards.
fn plug_guests(bundle: &Bundle<'static>, ports: &mut Plugs) -> Option<()> {
    for plan in bundle.plan().guests() {
        for one in plan.virtio() {
            let VirtioDevice::Net {
                network,
                mac,
                vlan,
                rate,
            } = one.device
            else {
                continue;
            };
            let peer = Peer::Guest {
                mac,
                is_open: false,
                rate,
            };
            let port = (u8::try_from(network).ok()?, Vlan::Access(vlan), peer);
            let place = Place::new(plan.index(), one.slot);
            ports.try_push((place, port)).ok()?;
        }
    }
    Some(())
}

impl Fabric {
    /// Plugs all cards of a plan in, and the machine's own. `None` when the arena is too small.
    pub fn prepare(
        bundle: &Bundle<'static>,
        arena: &mut Arena,
        card: Option<&'static Card>,
    ) -> Option<&'static Self> {
        // What makes them, because they are large themselves: they are made where they stay.
        let mut ports = Plugs::new();
        plug_guests(bundle, &mut ports)?;
        // Behind the guests': nobody has these places.
        for (number, network) in (0u8..).zip(bundle.plan().networks()) {
            if let Some(ip) = network.echo {
                let mac = [0x02, b'X', b'D', b'V', 0, number];
                let port = (number, Vlan::Access(0), Peer::Echo { mac, ip });
                ports.try_push((Place::NONE, port)).ok()?;
            }
        }
        let outside = ports.len();
        if let Some(card) = card {
            let port = (card.network, Vlan::Trunk, Peer::Uplink(card));
            ports.try_push((Place::NONE, port)).ok()?;
        }
        let places = ports.iter().map(|(place, _)| *place).collect();
        let count = ports.len();
        let plug = |at: usize| match ports.get(at) {
            Some((_, (network, vlan, peer))) => Port::new(*network, *vlan, *peer),
            None => fault::refuse(format_args!("a network card was not plugged in")),
        };
        let ports = arena.alloc_slice(count, plug)?;
        let owners = arena.alloc_slice(bundle.plan().guests().count(), |_| Once::new())?;
        let switch = match Switch::new(ports) {
            Ok(switch) => switch,
            Err(_) => fault::refuse(format_args!("the plan's networks make no switch")),
        };
        let sockets = Sockets::prepare(bundle, arena, ports.len())?;
        let fabric = Self {
            sockets,
            switch,
            ports: places,
            names: bundle.plan().networks().map(|plan| plan.name).collect(),
            owners,
        };
        let fabric: &'static Self = arena.alloc(fabric)?;
        if let Some(card) = card {
            uplink::open(card, fabric, outside);
        }
        Some(fabric)
    }

    /// The port of a guest's card.
    pub fn port(&self, guest: u32, slot: u32) -> Option<usize> {
        let mut places = self.ports.iter();
        places.position(|place| place.is(guest, slot))
    }

    /// Whose the devices of a guest are.
    pub fn owner(&self, guest: u32) -> Option<&'static Owner> {
        self.owners.get(usize::try_from(guest).ok()?)
    }

    /// The place behind a port of the switch, or behind one of those of sockets, whose numbers follow.
    #[inline(always)]
    fn place(&self, port: usize) -> Option<&Place> {
        let sockets = port.wrapping_sub(self.ports.len());
        let place = self.ports.get(port);
        place.or_else(|| self.sockets.places.get(sockets))
    }

    /// The ports behind which a guest's devices are.
    pub fn ports_of(&self, guest: u32) -> u64 {
        let is_its = |port: &usize| self.place(*port).is_some_and(|place| place.guest == guest);
        (0..MAX_PORTS)
            .filter(is_its)
            .fold(0, |all, port| all | 1 << port)
    }

    /// The slot behind a port, of whatever machine.
    #[inline(always)]
    fn slot(&self, port: usize) -> usize {
        self.place(port).map_or(0, |place| place.slot as usize)
    }

    /// Whether the driver behind a port has posted nonsense.
    fn is_broken(&self, port: usize) -> bool {
        match self.switch.port(port) {
            Some(port) => port.is_broken(),
            None => self.sockets.exchange.is_broken(port),
        }
    }

    /// Tells the drivers behind these ports that buffers were used. Any CPU may call this, with no slot locked.
    #[inline(never)]
    pub fn tell(&self, mut ports: u64) {
        while ports != 0 {
            let port = next(&mut ports);
            let Some(place) = self.place(port) else {
                continue;
            };
            let slot = usize::try_from(place.slot).unwrap_or(0);
            if let Some(devices) = self.owner(place.guest).and_then(Once::get) {
                devices.used(slot);
                if self.is_broken(port) {
                    devices.put_off(slot);
                }
            }
        }
    }
}

/// The lowest port of a set, taken out of it.
#[inline(always)]
fn next(ports: &mut u64) -> usize {
    let port = ports.trailing_zeros() as usize;
    *ports &= ports.wrapping_sub(1);
    port
}

impl Devices {
    /// The guest's network cards, as the switch has them: what each one's network is called, and its port.
    pub fn cards(&self) -> impl Iterator<Item = (&'static str, &'static Port<'static, Reach>)> {
        let mut left = self.ports;
        let ports = core::iter::from_fn(move || (left != 0).then(|| next(&mut left)));
        let fabric = self.fabric;
        ports.filter_map(|port| {
            let port = fabric.switch.port(port)?;
            let name = fabric.names.get(usize::from(port.network()))?;
            Some((*name, port))
        })
    }

    /// Tells the driver of a slot that buffers were used.
    fn used(&self, slot: usize) {
        if let Some(machine) = self.machine.get() {
            let machine: &Machine = machine;
            machine.post_virtio(slot, super::USED, &mut ThisCpu);
            // Even if its interrupt was pending: who has lost the CPU to whom it has called has not taken that yet.
            let call = self.answered();
            if call != 0 {
                ThisCpu.send_sgi(call);
            }
        }
    }

    /// Tells the drivers behind these ports that buffers were used, with no slot locked: those of other machines. The slots
    /// of this one to interrupt, for whom a lane of it does so without being sent word.
    #[inline(always)]
    pub(super) fn tell(&self, machine: &Machine, ports: u64) -> u32 {
        let others = ports & !self.ports;
        if others != 0 {
            self.fabric.tell(others);
        }
        let mut own = ports & self.ports;
        let (mut raised, mut doubted) = (0, 0);
        while own != 0 {
            let port = next(&mut own);
            raised |= machine.pend_virtio(self.fabric.slot(port), super::USED);
            let card = self.fabric.switch.port(port);
            doubted |= u64::from(card.is_none_or(Port::is_broken)) << port;
        }
        if doubted != 0 {
            self.look_after(doubted);
        }
        raised
    }

    /// Has the devices behind these ports be polled whose drivers have posted nonsense. Behind the others, and apart: for a
    /// call between them a notification would save registers, whether it comes so far or not.
    #[cold]
    #[inline(never)]
    fn look_after(&self, mut ports: u64) {
        while ports != 0 {
            let port = next(&mut ports);
            if self.fabric.is_broken(port) {
                self.put_off(self.fabric.slot(port));
            }
        }
    }
}

/// A guest has no more cards than devices.
const _: () = assert!(MAX_GUESTS * MAX_VIRTIO >= MAX_PORTS);
