//! Accesses to virtio slots: what the vector answers at once, and what it answers on the run loop's stack.

use core::sync::atomic::Ordering;

use vcpu_board::virtio::{INTERRUPT_ACK, INTERRUPT_STATUS, QUEUE_NOTIFY};
use vcpu_board::{VIRTIO_BASE, VIRTIO_SLOTS, VIRTIO_STRIDE};

use super::{Access, DOUBLE, Hardware, WRITE, finish, pc, saved, stored};
use crate::lane::Vcpu;
use crate::virtio::{self, SLOTS, VIRTIO};

/// HPFAR_EL2 without the number of the page among those of the slots, and what it is for them.
const PAGES: u64 = 0x0000_FFFF_FFFF_FFF0 & !((VIRTIO_SLOTS * VIRTIO_STRIDE - 1) >> 8);
const AT: u64 = VIRTIO_BASE >> 8;

// A page is eight slots, and the pages begin where their numbers do.
const _: () = assert!(VIRTIO_STRIDE << 3 == 0x1000 && AT & !PAGES == 0 && SLOTS == 32);

/// Where a guest has gone.
#[derive(Clone, Copy)]
pub(super) struct Place {
    slot: usize,
    register: u64,
}

impl Place {
    /// Of an address that is a slot's.
    #[inline(always)]
    pub(super) const fn of(hpfar: u64, far: u64) -> Option<Self> {
        if VIRTIO && hpfar & PAGES == AT {
            Some(Self::in_slots(hpfar, far))
        } else {
            None
        }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "below 32")]
    const fn in_slots(hpfar: u64, far: u64) -> Self {
        Self {
            slot: ((hpfar >> 4 & 3) << 3 | far >> 9 & 7) as usize,
            register: far & (VIRTIO_STRIDE - 1),
        }
    }

    /// A word or a doubleword that the hardware has described.
    #[inline(always)]
    pub(super) fn access(self, vcpu: &mut Vcpu, esr: u64) -> Access {
        if esr & DOUBLE != 0 {
            return Access::Declined;
        }
        let status = vcpu.machine.virtio_status(self.slot);
        if esr & WRITE == 0 {
            if self.register != INTERRUPT_STATUS {
                return Access::Declined;
            }
            let Some(register) = saved(vcpu, esr >> 16) else {
                return Access::Slot;
            };
            *register = u64::from(status.load(Ordering::Acquire));
            return Access::Done;
        }
        if self.register == INTERRUPT_ACK
            && let Some(bits) = saved(vcpu, esr >> 16).copied()
        {
            // What a driver has read, as a rule. If not, something may be left to interrupt for.
            #[expect(clippy::cast_possible_truncation, reason = "a word is stored")]
            let bits = bits as u32;
            let (done, seen) = (Ordering::AcqRel, Ordering::Relaxed);
            if status.compare_exchange_weak(bits, 0, done, seen).is_ok() {
                return Access::Done;
            }
        }
        if matches!(self.register, QUEUE_NOTIFY | INTERRUPT_ACK) {
            Access::Slot
        } else {
            Access::Declined
        }
    }
}

/// What [`Answer::Warm`](super::Answer::Warm) is about: all general registers are in the frame, and are loaded from there
/// afterwards. If the access is through one of X0 to X15, X20 to X30 may be left out.
pub fn warm(vcpu: &mut Vcpu, hw: &mut impl Hardware) {
    if !VIRTIO {
        return;
    }
    let esr = hw.esr();
    let Place { slot, register } = Place::in_slots(hw.hpfar(), hw.far());
    match register {
        QUEUE_NOTIFY => notify(vcpu, slot, esr, hw),
        INTERRUPT_STATUS => interrupt_status(vcpu, slot, esr, hw),
        _ => interrupt_ack(vcpu, slot, esr, hw),
    }
}

#[inline(always)]
fn notify(vcpu: &mut Vcpu, slot: usize, esr: u64, hw: &mut impl Hardware) {
    let raised = vcpu.machine.virtio.notify(slot, word(vcpu, esr));
    // Only now: who serves the notification may want to know where it came from.
    let _ = finish(vcpu, hw.esr(), pc(hw), hw);
    if raised != 0 {
        virtio::fast_raise(vcpu, raised, hw);
    }
}

/// The word that is stored.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a word is stored")]
fn word(vcpu: &Vcpu, esr: u64) -> u32 {
    stored(vcpu, esr >> 16).unwrap_or(0) as u32
}

/// A tail call of [`warm`], as the next: what neither needs is not saved for it.
#[inline(never)]
fn interrupt_status(vcpu: &mut Vcpu, slot: usize, esr: u64, hw: &mut impl Hardware) {
    let status = vcpu.machine.virtio_status(slot).load(Ordering::Acquire);
    // None of them is the zero register.
    let number = usize::try_from(esr >> 16 & 31).unwrap_or(usize::MAX);
    if let Some(x) = vcpu.context.x.get_mut(number) {
        *x = u64::from(status);
    }
    let _ = finish(vcpu, esr, pc(hw), hw);
}

#[inline(never)]
fn interrupt_ack(vcpu: &mut Vcpu, slot: usize, esr: u64, hw: &mut impl Hardware) {
    let raised = vcpu.machine.acknowledge_virtio(slot, word(vcpu, esr));
    let _ = finish(vcpu, esr, pc(hw), hw);
    if raised != 0 {
        virtio::fast_raise(vcpu, raised, hw);
    }
}
