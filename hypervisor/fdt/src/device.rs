//! A device that a guest is to be given, looked up in the machine's device tree once more.

use stage2_addr::HostRegion;

use super::Machine;
use super::cells::{self, number};
use super::header::Blob;
use super::machine::shared;
use super::model::Model;
use super::node::{Prop, Walk, Way};
use super::tree::Tree;
use super::uart::Port;

/// A kind of device that a guest may be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A serial port: `arm,pl011`.
    Pl011,
    /// A real-time clock: `arm,pl031`.
    Pl031,
    /// Pins: `arm,pl061`.
    Pl061,
}

/// A device of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its interrupt, where it has just one, and that is one that all processors share.
    pub interrupt: Option<Interrupt>,
}

/// An interrupt that all processors share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupt {
    /// Its INTID.
    pub intid: u32,
    /// Whether it is an edge; else it is a level.
    pub edge: bool,
}

impl Machine {
    /// The device of a kind whose registers are in these pages. `bytes` are the device tree that the machine was
    /// read from.
    ///
    /// `None` unless all this is so: exactly one node, in use or not, has registers in these pages; it is in use, says
    /// that it is of this kind, has one range of registers, which takes up all of these pages, and shows no sign of
    /// reaching for memory by itself; and the pages are neither RAM nor of the devices that EL2 keeps.
    #[must_use]
    pub fn device(&self, bytes: &[u8], pages: &HostRegion, kind: Kind) -> Option<Device> {
        let own = [self.gicd, self.uart];
        for taken in [&own[..], &self.ram, &self.gicr] {
            if shared(taken, pages).is_some() {
                return None;
            }
        }
        let (mut way, mut found) = (Way::new(), None);
        let tree = Tree::new(Blob::new(bytes, &way).ok()?, &way).ok()?;
        let mut walk = Walk::new(&tree, &mut way, b"");
        while walk.next().ok()? {
            if touches(&walk, pages) {
                if found.is_some() {
                    return None;
                }
                found = Some(read(&walk, pages, kind)?);
            }
        }
        found
    }
}

/// Whether any registers of a node are in these pages. What the processors cannot see is nowhere.
fn touches(node: &Walk<'_, '_>, pages: &HostRegion) -> bool {
    // An entry has one cell at least.
    let most = node.get(Prop::Reg).map_or(0, <[u8]>::len) / 4;
    for nth in 0..most {
        if let Ok(Some(reg)) = cells::seen(node, nth)
            && reg.covering().is_ok_and(|region| region.overlaps(pages))
        {
            return true;
        }
    }
    false
}

/// The device of the node, if it is as wanted.
fn read(node: &Walk<'_, '_>, pages: &HostRegion, kind: Kind) -> Option<Device> {
    let model = match kind {
        Kind::Pl011 => Model::Pl011,
        Kind::Pl031 => Model::Pl031,
        Kind::Pl061 => Model::Pl061,
    };
    let masters = node.get(Prop::DmaCoherent).or(node.get(Prop::Iommus));
    let fits = node.enabled()
        && node.models().ok()?.has(model)
        && masters.is_none()
        && cells::reg(node, 1).ok()?.is_none()
        && cells::device(node).ok()? == *pages;
    if !fits {
        return None;
    }
    let interrupt = interrupt(node);
    Some(Device { interrupt })
}

/// A node's interrupt, where it has just one, and that is one that all processors share.
pub(super) fn interrupt(node: &Walk<'_, '_>) -> Option<Interrupt> {
    /// Either edge (bindings/interrupt-controller/arm,gic-v3.yaml).
    const EDGES: u64 = 0b11;
    // One interrupt has three or four cells.
    let bytes = node.get(Prop::Interrupts)?;
    let (cells @ ([_, _, flags] | [_, _, flags, _]), []) = bytes.as_chunks::<4>() else {
        return None;
    };
    let port = Port::read(node, cells.len() * 4).ok()?;
    let edge = number(flags) & EDGES != 0;
    port.intid.map(|intid| Interrupt { intid, edge })
}
