//! Accesses to virtio slots: what the vector answers at once, and what it answers on the run loop's stack.

use core::sync::atomic::Ordering;

use vcpu_board::virtio::{INTERRUPT_ACK, INTERRUPT_STATUS, QUEUE_NOTIFY};
use vcpu_board::{VIRTIO_BASE, VIRTIO_SLOTS, VIRTIO_STRIDE};

use super::{Access, DOUBLE, Hardware, WRITE, finish, page, pc, stored};
use crate::lane::Vcpu;
use crate::machine::Machine;
use crate::virtio::{self, VIRTIO};

/// The slot and the register behind an address.
#[inline(always)]
fn place(ipa: u64) -> Option<(usize, u64)> {
    let at = ipa.wrapping_sub(VIRTIO_BASE);
    if !VIRTIO || at >= VIRTIO_SLOTS * VIRTIO_STRIDE {
        return None;
    }
    let slot = usize::try_from(at / VIRTIO_STRIDE).ok()?;
    Some((slot, at % VIRTIO_STRIDE))
}

/// `InterruptStatus`, if it is at this address.
#[inline(always)]
pub(super) fn status(machine: &Machine, ipa: u64) -> Option<u64> {
    match place(ipa)? {
        (slot, INTERRUPT_STATUS) => {
            let status = machine.virtio_status(slot).load(Ordering::Acquire);
            Some(u64::from(status))
        }
        _ => None,
    }
}

/// A word stored to `InterruptACK` that leaves nothing to interrupt for, or what needs a stack.
#[inline(always)]
pub(super) fn acknowledge(machine: &Machine, ipa: u64, bits: u32) -> Access {
    match place(ipa) {
        Some((slot, INTERRUPT_ACK)) => {
            let status = machine.virtio_status(slot);
            let now = status.load(Ordering::Relaxed);
            let (done, seen) = (Ordering::AcqRel, Ordering::Relaxed);
            if now & !bits == 0 && status.compare_exchange_weak(now, 0, done, seen).is_ok() {
                Access::Done
            } else {
                Access::Slot
            }
        }
        Some((_, QUEUE_NOTIFY)) => Access::Slot,
        _ => Access::Declined,
    }
}

/// Whether [`warm`] answers an access of a word or a doubleword that the hardware has described.
#[inline(always)]
pub(super) fn is_slot(esr: u64, ipa: u64) -> bool {
    let register = place(ipa).map(|(_, offset)| offset);
    let known = if esr & WRITE == 0 {
        register == Some(INTERRUPT_STATUS)
    } else {
        matches!(register, Some(QUEUE_NOTIFY | INTERRUPT_ACK))
    };
    known && esr & DOUBLE == 0
}

/// What [`Answer::Warm`](super::Answer::Warm) is about: all general registers are in the frame, and are loaded from there
/// afterwards.
pub fn warm(vcpu: &mut Vcpu, hw: &mut impl Hardware) {
    let (esr, ipa) = (hw.esr(), page(hw) | hw.far() & 0xFFF);
    let Some((slot, register)) = place(ipa) else {
        return;
    };
    let before = pc(hw);
    let (machine, field) = (vcpu.machine, esr >> 16);
    if register == INTERRUPT_STATUS {
        let status = machine.virtio_status(slot).load(Ordering::Acquire);
        // None of them is the zero register.
        let number = usize::try_from(field & 31).unwrap_or(usize::MAX);
        if let Some(x) = vcpu.context.x.get_mut(number) {
            *x = u64::from(status);
        }
        let _ = finish(vcpu, esr, before, hw);
        return;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a word is stored")]
    let value = stored(vcpu, field).unwrap_or(0) as u32;
    let raised = if register == QUEUE_NOTIFY {
        machine.virtio.notify(slot, value)
    } else {
        machine.acknowledge_virtio(slot, value)
    };
    // Only now: who serves the notification may want to know where it came from.
    let _ = finish(vcpu, esr, before, hw);
    if raised != 0 {
        virtio::fast_raise(vcpu, raised, hw);
    }
}
