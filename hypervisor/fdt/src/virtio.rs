//! The machine's virtio devices, as far as a device tree knows them: places where one may be
//! (bindings/virtio/mmio.yaml). What is there, and whether anything is, only its registers say.

use arrayvec::ArrayVec;
use stage2_addr::HostPhys;

use super::cells::{self, Reg};
use super::device::interrupt;
use super::header::Blob;
use super::machine::shared;
use super::model::Model;
use super::node::{Prop, Walk, Way};
use super::tree::Tree;
use super::{HostRange, Interrupt, Machine};

/// How many places for virtio devices are looked at: as many as QEMU's `virt` has. Further ones are left alone.
pub const MAX_VIRTIO: usize = 32;

/// What the registers take up at least: the device's configuration begins behind the first 256 bytes, and has some
/// (virtio 1.3, 4.2.2).
const LEAST: u64 = 0x108;
/// And at most: no device's configuration is as long.
const MOST: u64 = 0x1_0000;

/// A place for a virtio device: registers of its own, and an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Virtio {
    /// The registers. They begin at a multiple of 8, overlap no other place's, and their pages are neither RAM nor of
    /// the devices that EL2 keeps; other places may be in the same pages.
    pub registers: HostRange,
    /// The interrupt.
    pub interrupt: Interrupt,
}

impl Machine {
    /// The places for virtio devices, in the order of the tree. `bytes` are the device tree that the machine was read
    /// from.
    ///
    /// Left out is what EL2 could not use: a node that is not in use, has no interrupt of its own that all processors
    /// share, is behind an IOMMU, or does not say that its device's accesses to memory are coherent with caches.
    #[must_use]
    pub fn virtio(&self, bytes: &[u8]) -> ArrayVec<Virtio, MAX_VIRTIO> {
        let mut found = ArrayVec::new();
        // What cannot be read any more was read when the machine was: there is nobody to tell.
        let _ = self.gather(bytes, &mut found);
        found
    }

    fn gather(&self, bytes: &[u8], found: &mut ArrayVec<Virtio, MAX_VIRTIO>) -> Option<()> {
        let mut way = Way::new();
        let tree = Tree::new(Blob::new(bytes, &way).ok()?, &way).ok()?;
        let mut walk = Walk::new(&tree, &mut way, b"");
        while walk.next().ok()? {
            if let Some(place) = read(&walk)
                && self.is_free(place.registers)
                && !found.iter().any(|other| overlap(other, &place))
                && found.try_push(place).is_err()
            {
                break;
            }
        }
        Some(())
    }

    /// Whether the pages of these registers are neither RAM nor of a device that EL2 keeps.
    fn is_free(&self, registers: HostRange) -> bool {
        let (base, size) = (registers.base.raw(), registers.len);
        let own = [self.gicd, self.uart];
        let rtc = self.rtc.as_slice();
        let taken = [&own[..], rtc, &self.ram, &self.gicr];
        Reg { base, size }
            .covering()
            .is_ok_and(|pages| taken.iter().all(|some| shared(some, &pages).is_none()))
    }
}

/// Whether two places have registers in common. None wraps.
fn overlap(one: &Virtio, other: &Virtio) -> bool {
    let begin_end = |place: &Virtio| {
        let base = place.registers.base.raw();
        (base, base.saturating_add(place.registers.len))
    };
    let ((from, to), (other_from, other_to)) = (begin_end(one), begin_end(other));
    from < other_to && other_from < to
}

/// The place that a node describes, if EL2 can use it.
fn read(node: &Walk<'_, '_>) -> Option<Virtio> {
    let fits = node.enabled()
        && node.models().ok()?.has(Model::VirtioMmio)
        && node.get(Prop::DmaCoherent).is_some()
        && node.get(Prop::Iommus).is_none()
        && cells::reg(node, 1).ok()?.is_none();
    let reg = cells::seen(node, 0).ok().flatten().filter(|_| fits)?;
    if !(LEAST..=MOST).contains(&reg.size) || !reg.base.is_multiple_of(8) {
        return None;
    }
    Some(Virtio {
        registers: HostRange {
            base: HostPhys::new(reg.base),
            len: reg.size,
        },
        interrupt: interrupt(node)?,
    })
}
