//! Where a frame goes.

use core::sync::atomic::Ordering::Relaxed;

use super::frame::{Frame, Link, Mac};
use super::port::{Peer, Port, Reason};
use super::rate::Clock;
use super::{Origin, Switch, bit, next};
use crate::memory::GuestMemory;

/// Whom a sender speaks to.
pub(super) struct Flow {
    pub to: Mac,
    pub from: Mac,
    /// What [`Switch::changes`] was.
    pub changes: u64,
    pub vlan: u16,
    pub port: usize,
}

impl Flow {
    /// To nobody yet.
    pub const NONE: Self = Self {
        to: Mac(0),
        from: Mac(0),
        changes: u64::MAX,
        vlan: 0,
        port: 0,
    };
}

impl<M: GuestMemory> Switch<'_, M> {
    /// Who of a set has an address of its own like this.
    pub(super) fn owner(&self, mut among: u64, mac: Mac) -> Option<usize> {
        while let Some(port) = next(&mut among) {
            if self.mac(port) == mac {
                return Some(port);
            }
        }
        None
    }

    /// Ports of a network.
    fn members(&self, network: u8) -> u64 {
        let of = self.ports.iter().enumerate();
        let of = of.filter(|(_, port)| port.network == network);
        of.fold(0, |set, (at, _)| set | bit(at))
    }

    /// Judges who sends a frame of so many bytes, and whether it may. The VLAN it comes in on.
    pub(super) fn admit(
        &self,
        origin: &mut Origin,
        port: &Port<'_, M>,
        link: &Link,
        bytes: u32,
        clock: Clock,
    ) -> Result<u16, Reason> {
        if !port.is_up() {
            return Err(Reason::Down);
        }
        let from = link.from;
        if port.is_open() {
            let others = self.members(port.network) & !bit(origin.port);
            if !from.is_station() || self.owner(others, from).is_some() {
                return Err(Reason::Spoofed);
            }
            self.learned
                .learn(port.network, from, origin.port, clock.quads());
        } else if from != self.mac(origin.port) {
            return Err(Reason::Spoofed);
        }
        if link.to.is_link_local() {
            return Err(Reason::Reserved);
        }
        let vlan = port.comes_in(link.tag)?;
        if !origin.rate.admit(bytes, clock) {
            return Err(Reason::Rate);
        }
        Ok(vlan)
    }

    /// Who is to receive a frame.
    pub(super) fn targets(
        &self,
        origin: &mut Origin,
        port: &Port<'_, M>,
        to: Mac,
        clock: Clock,
    ) -> Result<u64, Reason> {
        let peers = self.peers.get(origin.port).copied().unwrap_or(0);
        if !to.is_group() {
            // Nobody is called zero, and that is what stands where nobody is.
            if to == Mac(0) || to == self.mac(origin.port) {
                return Err(Reason::Nobody);
            }
            if let Some(owner) = self.owner(peers, to) {
                return Ok(bit(owner));
            }
            if let Some(seen) = self.learned.find(port.network, to, clock.quads()) {
                return match bit(seen) & peers {
                    0 => Err(Reason::Nobody),
                    one => Ok(one),
                };
            }
        }
        if !origin.storm.admit(1, clock) {
            return Err(Reason::Storm);
        }
        Ok(if to.is_group() {
            peers
        } else {
            peers & (self.open | self.curious.load(Relaxed))
        })
    }

    /// Notes where a frame goes, if the next one like it goes there too: neither has anything to be learned, and the
    /// receiver is no uplink and has the address for its own, so that it is the only one.
    pub(super) fn remember(
        &self,
        origin: &mut Origin,
        port: &Port<'_, M>,
        mut targets: u64,
        frame: &Frame<'_, M>,
        changes: u64,
    ) {
        let Some(to) = next(&mut targets) else {
            return;
        };
        let is_plain = self.ports.get(to).is_some_and(|receiver| {
            !matches!(receiver.peer, Peer::Uplink(_))
                && receiver.goes_out(frame.vlan, None) == Some(None)
        });
        if is_plain && !port.is_open() && frame.link.tag.is_none() && self.mac(to) == frame.link.to
        {
            origin.flow = Flow {
                to: frame.link.to,
                from: frame.link.from,
                changes,
                vlan: frame.vlan,
                port: to,
            };
        }
    }

    /// Whether an address may become a port's: nobody else of its network has it.
    pub(crate) fn is_free(&self, port: usize, mac: Mac) -> bool {
        let network = self.ports.get(port).map_or(0, |port| port.network);
        let others = self.members(network) & !bit(port);
        mac.is_station() && self.owner(others, mac).is_none()
    }
}
