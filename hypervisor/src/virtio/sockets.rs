//! The exchange of sockets between guests, and with the host's echo.

use configs_plan::{Bundle, MAX_GUESTS, VirtioDevice};
use hypervisor_arch::memory::Arena;
use hypervisor_arch::reach::Reach;
use hypervisor_arch::{fault, timer};
use spin::Once;
use virtio::vsock::{Exchange, Station};

use super::fabric::{Fabric, Place};
use super::uplink::NEVER;

static OPEN: Once<&'static Fabric> = Once::new();

/// Stations and where their devices are.
pub struct Sockets {
    pub exchange: Exchange<'static, Reach>,
    pub places: arrayvec::ArrayVec<Place, MAX_GUESTS>,
}

/// What it takes of EL2's arena.
pub fn arena_bytes(bundle: &Bundle<'_>) -> u64 {
    let stations = stations(bundle).count() as u64;
    stations * size_of::<Station<Reach>>() as u64 + size_of::<Sockets>() as u64 + 128
}

/// Each guest's place, context id and peers.
fn stations<'a>(bundle: &'a Bundle<'_>) -> impl Iterator<Item = (Place, u32, u32)> + 'a {
    bundle.plan().guests().flat_map(|guest| {
        let number = guest.index();
        guest.virtio().filter_map(move |one| match one.device {
            VirtioDevice::Vsock { cid, peers } => Some((Place::new(number, one.slot), cid, peers)),
            VirtioDevice::Net { .. }
            | VirtioDevice::Block { .. }
            | VirtioDevice::Console
            | VirtioDevice::Entropy
            | VirtioDevice::Balloon => None,
        })
    })
}

impl Sockets {
    /// All stations of a plan; in sets of ports they come behind `first` others. `None` when the arena is too small.
    pub fn prepare(bundle: &Bundle<'static>, arena: &mut Arena, first: usize) -> Option<Self> {
        let all: arrayvec::ArrayVec<(Place, u32, u32), MAX_GUESTS> = stations(bundle).collect();
        // The plan counts guests, and the exchange stations.
        let station = |guests: u32| {
            let named = |place: &Place| guests >> place.guest() & 1 != 0;
            let bits = (0u64..).zip(&all).filter(|(_, (place, ..))| named(place));
            bits.fold(0, |set, (at, _)| set | 1 << at)
        };
        let made = |at: usize| match all.get(at) {
            Some((_, cid, peers)) => Station::new(u64::from(*cid), station(*peers)),
            None => fault::refuse(format_args!("a socket device was not made")),
        };
        let stations = arena.alloc_slice(all.len(), made)?;
        let Some(exchange) = Exchange::new(stations, first) else {
            fault::refuse(format_args!("the plan's socket devices do not go together"));
        };
        let places = all.iter().map(|(place, ..)| *place).collect();
        Some(Self { exchange, places })
    }
}

/// From now on packets for guests that take none are given up in time, if there are guests with sockets.
pub fn open(fabric: &'static Fabric) {
    if !fabric.sockets.places.is_empty() {
        OPEN.call_once(|| fabric);
    }
}

/// Gives up packets that have waited for too long; when to look again. It takes a clock, because a sender whose queue is
/// full of what waits asks for nothing.
pub fn look(now: u64) -> u64 {
    let Some(fabric) = OPEN.get() else {
        return NEVER;
    };
    let second = timer::frequency();
    fabric.tell(fabric.sockets.exchange.expire(now, second));
    now.saturating_add(second)
}
