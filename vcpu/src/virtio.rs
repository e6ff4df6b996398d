//! The machine's virtio-mmio slots, as far as a lane's exits touch them, and how their devices interrupt.
//!
//! What is in a slot is behind a port, [`Slots`], for who composes the machine. The interrupt half of the transport
//! (Virtual I/O Device 1.3, 4.2.2: `InterruptStatus` and `InterruptACK`) is here, because it is nothing but one word a
//! slot and guests touch it for each interrupt.
//!
//! # Interrupts are edges
//! The line of a slot is high while its `InterruptStatus` is not zero. The interrupt controller is told only of the moment
//! at which it rises, as if by a write of `GICD_ISPENDR`: one pending interrupt, whatever `GICD_ICFGR` says, and nothing
//! to retract when the line falls. An acknowledgement that leaves something set counts as a rise, so that a guest
//! which acknowledges what it has read, and then serves it, misses nothing.

use core::sync::atomic::{AtomicU32, Ordering};

use vcpu_board::virtio::{self, INTERRUPT_ACK, INTERRUPT_STATUS, QUEUE_NOTIFY};
use vcpu_board::{VIRTIO_SLOTS, VIRTIO_SPI};

use crate::lane::Vcpu;
use crate::machine::Machine;
use crate::vgic::VirtGic;

/// Whether guests may have virtio devices. Where none has, nothing of this is in EL2.
pub(crate) const VIRTIO: bool = cfg!(any(test, feature = "virtio"));

/// How many slots a machine has.
pub const SLOTS: usize = 32;

const _: () = assert!(SLOTS as u64 == VIRTIO_SLOTS);

/// Of how many the status is kept.
pub(crate) const KEPT: usize = if VIRTIO { SLOTS } else { 1 };

/// The devices in a machine's slots. `slot` is below [`SLOTS`], `offset` below the stride of slots, `bytes` 1, 2, 4 or 8,
/// and the access aligned to it.
///
/// Who answers with a bitmap says which of the machine's own slots to interrupt: bit n is slot n, and what is to be said
/// comes from [`Machine::pend_virtio`]. It must have given back every lock that another lane may want.
pub trait Slots: Sync {
    /// A load, but for 32 bits of `InterruptStatus`.
    fn read(&self, slot: usize, offset: u64, bytes: u32) -> u64;
    /// A store, but for 32 bits to `InterruptACK` and `QueueNotify`. The slots to interrupt.
    #[must_use]
    fn write(&self, slot: usize, offset: u64, bytes: u32, value: u64) -> u32;
    /// A store of 32 bits to `QueueNotify`. The slots to interrupt.
    #[must_use]
    fn notify(&self, slot: usize, value: u32) -> u32;
}

/// Slots without devices.
#[derive(Clone, Copy, Debug)]
pub struct Empty;

impl Slots for Empty {
    fn read(&self, _: usize, offset: u64, bytes: u32) -> u64 {
        virtio::read_empty(offset, bytes)
    }

    fn write(&self, _: usize, _: u64, _: u32, _: u64) -> u32 {
        0
    }

    fn notify(&self, _: usize, _: u32) -> u32 {
        0
    }
}

impl Machine {
    /// Puts devices into the slots, before the machine runs.
    pub fn set_virtio(&mut self, slots: &'static dyn Slots) {
        self.virtio = slots;
    }

    /// `InterruptStatus` of a slot: what a reset of its device has to clear. Slot numbers wrap.
    #[inline(always)]
    #[must_use]
    pub fn virtio_status(&self, slot: usize) -> &AtomicU32 {
        #[expect(
            clippy::indexing_slicing,
            reason = "the index is masked to the table's length"
        )]
        &self.virtio_status[slot & (KEPT - 1)]
    }

    /// Sets bits of a slot's `InterruptStatus`. The bitmap with which [`Slots`] have its lane interrupted: the slot's own
    /// bit, or nothing if its line was high before.
    #[inline]
    #[must_use]
    pub fn pend_virtio(&self, slot: usize, bits: u32) -> u32 {
        let before = self.virtio_status(slot).fetch_or(bits, Ordering::AcqRel);
        u32::from(before == 0 && bits != 0) << (slot & (SLOTS - 1))
    }

    /// Sets bits of a slot's `InterruptStatus` and interrupts the machine, from any CPU, whoever's lanes it has. The caller
    /// may hold locks: this one waits for nobody.
    pub fn post_virtio(&self, slot: usize, bits: u32, hw: &mut impl VirtGic) {
        let raised = self.pend_virtio(slot, bits);
        if raised != 0 {
            self.vgic.post_spi(VIRTIO_SPI + slot_number(slot), hw);
        }
    }

    /// Interrupts the machine for a slot whose `InterruptStatus` [`pend_virtio`](Self::pend_virtio) has set, from any CPU,
    /// whoever's lanes it has.
    pub fn interrupt_virtio(&self, slot: usize, hw: &mut impl VirtGic) {
        self.vgic.post_spi(VIRTIO_SPI + slot_number(slot), hw);
    }

    /// No slot interrupts.
    #[inline(never)]
    pub(crate) fn reset_virtio(&self) {
        for status in &self.virtio_status {
            status.store(0, Ordering::SeqCst);
        }
    }

    /// A store to `InterruptACK`. The slots to interrupt again.
    #[inline(always)]
    pub(crate) fn acknowledge_virtio(&self, slot: usize, bits: u32) -> u32 {
        let before = self.virtio_status(slot).fetch_and(!bits, Ordering::AcqRel);
        u32::from(before & bits != 0 && before & !bits != 0) << (slot & (SLOTS - 1))
    }
}

/// The number of a slot, as a bit's.
#[expect(clippy::cast_possible_truncation, reason = "masked to five bits")]
const fn slot_number(slot: usize) -> u32 {
    (slot & (SLOTS - 1)) as u32
}

/// A load from a slot.
#[inline(never)]
pub(crate) fn read(machine: &Machine, slot: usize, offset: u64, bytes: u32) -> u64 {
    if VIRTIO && (offset, bytes) == (INTERRUPT_STATUS, 4) {
        return u64::from(machine.virtio_status(slot).load(Ordering::Acquire));
    }
    machine.virtio.read(slot, offset, bytes)
}

/// A store to a slot.
#[inline(never)]
pub(crate) fn write(
    vcpu: &mut Vcpu,
    slot: usize,
    offset: u64,
    bytes: u32,
    value: u64,
    hw: &mut impl VirtGic,
) {
    if !VIRTIO {
        return;
    }
    let machine = vcpu.machine;
    #[expect(clippy::cast_possible_truncation, reason = "a word is stored")]
    let word = value as u32;
    let raised = match (offset, bytes) {
        (INTERRUPT_ACK, 4) => machine.acknowledge_virtio(slot, word),
        (QUEUE_NOTIFY, 4) => machine.virtio.notify(slot, word),
        _ => machine.virtio.write(slot, offset, bytes, value),
    };
    raise(vcpu, raised, hw);
}

/// Interrupts the machine for these of its slots.
pub(crate) fn raise(vcpu: &mut Vcpu, slots: u32, hw: &mut impl VirtGic) {
    if slots != 0 {
        vcpu.gic.pulse(&vcpu.machine.vgic, spis(slots), hw);
    }
}

/// [`raise`], by the short path as far as that goes.
#[inline(always)]
pub(crate) fn fast_raise(vcpu: &mut Vcpu, slots: u32, hw: &mut impl VirtGic) {
    let vgic = &vcpu.machine.vgic;
    let left = vcpu.gic.fast_pulse(vgic, spis(slots), hw);
    if left != 0 {
        vcpu.gic.pulse(vgic, left, hw);
    }
}

/// The SPIs of slots, bit 0 for INTID 32.
const fn spis(slots: u32) -> u64 {
    (slots as u64) << (VIRTIO_SPI - 32)
}

#[cfg(test)]
mod tests;
