//! The short paths. Each returns true when it did exactly what the slow path would have done, and false when it changed
//! nothing that a guest or the slow path could tell; the caller then takes the slow path.

use core::sync::atomic::Ordering;

use super::bits::{Ones, at, at_mut, low8, low32};
use super::lane::NO_SLOT;
use super::{LaneGic, MAIL_POSTED, MAIL_SGIS, Vgic, VirtGic, lr};
use crate::virtio::VIRTIO;

/// `ICC_SGI1R_EL1`: the INTID field's position.
const SGI_INTID_SHIFT: u32 = 24;
/// The only bits a fast SGI may have: INTID and targets 0 to 7 of affinity 0.0.0.
const SGI_SIMPLE: u64 = 0xf << SGI_INTID_SHIFT | 0xff;

/// What became of an SGI on its short path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is delivered, or in the other lane's mail.
    Done,
    /// Nothing has changed: it takes the slow path.
    Declined,
    /// It is for this lane and has no list register yet: [`LaneGic::place_new_sgi`] is due.
    Unplaced(u32),
}

impl Vgic {
    /// `GICD_ISENABLER<word>` for SPIs (`word` 1 or 2).
    ///
    /// Declines when something newly enabled is pending. It may have set the enable bits by then, which the slow path
    /// sets again: the enable is written before the pending summary is read, and the slow path writes the summary
    /// before it reads the enables, so one of the two sees the other (all four accesses are sequentially consistent).
    #[inline(always)]
    #[must_use]
    pub fn fast_isenabler(&self, word: usize, bits: u32) -> bool {
        let index = word.wrapping_sub(1);
        if index >= 2 {
            return false;
        }
        let enable = at(&self.spi_enable, index);
        if bits & !enable.load(Ordering::Relaxed) == 0 {
            return true;
        }
        enable.fetch_or(bits, Ordering::SeqCst);
        at(&self.spi_pending, index).load(Ordering::SeqCst) & bits == 0
    }

    /// The enable bits of all SPIs.
    pub(super) fn spi_enables(&self) -> [u32; 2] {
        [
            self.spi_enable[0].load(Ordering::SeqCst),
            self.spi_enable[1].load(Ordering::SeqCst),
        ]
    }
}

impl LaneGic {
    /// A write of `ICC_SGI1R_EL1` with one existing target: another lane's mailbox, or our own list register.
    #[inline]
    #[must_use]
    pub fn fast_sgi1r(&mut self, vgic: &Vgic, value: u64, hw: &mut impl VirtGic) -> bool {
        match self.send_fast(vgic, value, hw) {
            Sent::Done => true,
            Sent::Declined => false,
            Sent::Unplaced(sgi) => self.place_new_sgi(sgi, hw),
        }
    }

    /// [`fast_sgi1r`](Self::fast_sgi1r) without its cold part: who is called from the vector ends with that as a tail
    /// call, or every exit would pay for registers that only a call in the middle needs.
    #[inline(always)]
    pub fn send_fast(&mut self, vgic: &Vgic, value: u64, hw: &mut impl VirtGic) -> Sent {
        let targets = low32(value & 0xff);
        if value & !SGI_SIMPLE != 0 || !targets.is_power_of_two() {
            return Sent::Declined;
        }
        let sgi = low32(value >> SGI_INTID_SHIFT);
        let lane = targets.trailing_zeros() as usize;
        if lane == self.id {
            return if self.place_again(sgi, hw) {
                Sent::Done
            } else {
                Sent::Unplaced(sgi)
            };
        }
        if lane >= vgic.lanes() {
            return Sent::Declined;
        }
        let shared = at(&vgic.shared, lane);
        if shared.group.load(Ordering::Relaxed) >> sgi & 1 == 0 {
            return Sent::Declined;
        }
        shared.post(1 << sgi, hw);
        Sent::Done
    }

    /// The virtual timer's physical interrupt was acknowledged and its priority dropped.
    ///
    /// Its list register is empty then: the physical interrupt stays active until the guest ends the virtual one.
    #[inline(always)]
    #[must_use]
    pub fn fast_timer(&mut self, hw: &mut impl VirtGic) -> bool {
        if self.timer == 0 {
            return false;
        }
        hw.write_lr(0, self.timer);
        true
    }

    /// A kick was acknowledged, dropped and deactivated: take the mail.
    #[inline]
    #[must_use]
    pub fn fast_kick(&mut self, vgic: &Vgic, hw: &mut impl VirtGic) -> bool {
        match self.kick_once(vgic, hw) {
            Ok(()) => true,
            Err(mail) => self.kick_rest(vgic, mail, hw),
        }
    }

    /// [`fast_kick`](Self::fast_kick) without its cold part, for the reason of [`send_fast`](Self::send_fast).
    ///
    /// # Errors
    /// The mail, taken and not delivered: [`kick_rest`](Self::kick_rest) is due.
    #[inline(always)]
    pub fn kick_once(&mut self, vgic: &Vgic, hw: &mut impl VirtGic) -> Result<(), u32> {
        let mail = at(&vgic.shared, self.id).mail.swap(0, Ordering::AcqRel);
        if mail & !MAIL_SGIS == 0
            && mail.is_power_of_two()
            && self.place_again(mail.trailing_zeros(), hw)
        {
            return Ok(());
        }
        Err(mail)
    }

    /// Several SGIs at once, attention, an SGI that has no list register yet, or nothing. True when all is delivered.
    #[cold]
    #[inline(never)]
    pub fn kick_rest(&mut self, vgic: &Vgic, mail: u32, hw: &mut impl VirtGic) -> bool {
        let mail = if VIRTIO && mail & MAIL_POSTED != 0 && self.fast_posted(vgic, hw) {
            mail & !MAIL_POSTED
        } else {
            mail
        };
        for sgi in Ones(mail & MAIL_SGIS) {
            if !(self.place_again(sgi, hw) || self.place_new_sgi(sgi, hw)) {
                self.held |= 1 << sgi;
            }
        }
        self.held |= mail & !MAIL_SGIS;
        self.held == 0
    }

    /// Makes an SGI pending in the list register it has, if it has one.
    #[inline(always)]
    fn place_again(&mut self, sgi: u32, hw: &mut impl VirtGic) -> bool {
        let slot = *at(&self.sgi_slot, sgi as usize);
        if slot == NO_SLOT {
            return false;
        }
        let index = usize::from(slot);
        hw.pend_lr(index, *at(&self.bodies, index));
        true
    }

    /// Gives an SGI a free list register, if it may be delivered and there is one.
    #[cold]
    #[inline(never)]
    pub fn place_new_sgi(&mut self, sgi: u32, hw: &mut impl VirtGic) -> bool {
        if (self.open & self.group) >> sgi & 1 == 0 {
            return false;
        }
        if self.free == 0 {
            self.evict_sgis(hw);
        }
        if self.free == 0 {
            return false;
        }
        let slot = self.free.trailing_zeros();
        let index = slot as usize;
        self.free &= !(1 << slot);
        self.used |= 1 << slot;
        let body = lr::template(sgi, *at(&self.sgi_priority, sgi as usize), true);
        *at_mut(&mut self.bodies, index) = body;
        *at_mut(&mut self.sgi_slot, sgi as usize) = low8(u64::from(slot));
        hw.write_lr(index, body | lr::PENDING);
        true
    }

    /// Frees list registers of SGIs that the guest has finished. Others keep theirs: the software state knows of them.
    pub(super) fn evict_sgis(&mut self, hw: &mut impl VirtGic) {
        let empty = low32(hw.read_elrsr());
        for (sgi, slot) in self.sgi_slot.iter_mut().enumerate() {
            let bit = 1u32.checked_shl(u32::from(*slot)).unwrap_or(0);
            let body = *at(&self.bodies, usize::from(*slot));
            if empty & bit != 0 && lr::intid(body) as usize == sgi {
                self.free |= bit;
                self.used &= !bit;
                *slot = NO_SLOT;
            }
        }
    }
}
