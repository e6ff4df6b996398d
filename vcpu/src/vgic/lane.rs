//! What one lane owns of the virtual GIC, and the slow path: open, pull, close.

use core::sync::atomic::Ordering;

use spin::MutexGuard;

use super::bits::{Ones, at, at_mut, lane_bit, low8, low32};
use super::port::{HCR_EN, HCR_EOICOUNT_SHIFT, Interface, VMCR_VENG0, VMCR_VENG1, VMCR_VEOIM};
use super::recall;
use super::state::{Snapshot, State};
use super::{
    FREEZE_DONE, FREEZE_NONE, FREEZE_REQUESTED, LINKED_PPIS, MAIL_ATTENTION, MAIL_POSTED,
    MAIL_SGIS, MAX_LRS, SPI_WORDS, Vgic, VirtGic, lr,
};
use crate::virtio::VIRTIO;

/// `sgi_slot`: no list register.
pub(super) const NO_SLOT: u8 = 0xff;

/// The part of the virtual GIC that only the lane's own CPU touches.
pub struct LaneGic {
    /// The lane's number in its VM.
    pub(super) id: usize,
    /// Mail taken by the hot path and left for the slow path.
    pub(super) held: u32,
    /// Which list registers may hold something; the others are empty.
    pub(super) used: u32,
    /// Which list registers the hot path may fill; none while interrupts wait outside.
    pub(super) free: u32,
    /// Private interrupts that are enabled and whose group the distributor forwards.
    pub(super) open: u32,
    /// Their groups.
    pub(super) group: u32,
    /// The list register the virtual timer is to get when it fires; 0 = take the slow path.
    pub(super) timer: u64,
    /// Where each SGI sits, so that the next one of its number needs no search.
    pub(super) sgi_slot: [u8; 16],
    /// Where each SPI sits that may be pulsed without a look at anything else, four bits each; 0 = nowhere. List register 0
    /// is the timer's.
    pub(super) spi_slot: [u64; SPI_WORDS],
    /// What each used list register was last given, without state.
    pub(super) bodies: [u64; MAX_LRS],
    /// Priorities of the SGIs.
    pub(super) sgi_priority: [u8; 16],
    /// Physical PPIs that are enabled for the guest in this CPU's redistributor.
    pub(super) physical: u32,
    /// The lane is on a CPU: between `arrive` and `depart`.
    pub(super) here: bool,
    /// The lane is on a CPU, and all that its list registers will hold until the next refill may be laid aside: private
    /// interrupts, of which the timer's alone is linked.
    pub(super) plain: bool,
    /// The list registers were exported and await a refill.
    pub(super) emptied: bool,
    /// What it keeps in the virtual CPU interface, while it is away.
    pub(super) saved: Interface,
}

impl LaneGic {
    /// The state of lane `id` that has never run.
    #[must_use]
    pub const fn new(id: usize) -> Self {
        Self {
            id,
            held: 0,
            used: 0,
            free: 0,
            open: 0,
            group: 0,
            timer: 0,
            sgi_slot: [NO_SLOT; 16],
            spi_slot: [0; SPI_WORDS],
            bodies: [0; MAX_LRS],
            sgi_priority: [0; 16],
            physical: 0,
            here: false,
            plain: false,
            emptied: false,
            saved: Interface::RESET,
        }
    }

    /// The lane's number in its VM.
    #[must_use]
    pub const fn id(&self) -> usize {
        self.id
    }

    /// Resets the lane's private interrupts and CPU interface (power on, power off, reset), on its own CPU.
    /// Physical interrupts that were active for it are deactivated.
    #[cold]
    pub fn reset(&mut self, vgic: &Vgic, hw: &mut impl VirtGic) {
        let mut state = self.open(vgic, hw);
        state.bank_mut(self.id).reset();
        at(&vgic.shared, self.id)
            .group
            .store(u32::MAX, Ordering::Release);
        for word in 0..2 {
            // What the lane had taken and never ended would stay active for ever.
            let [_, low, high] = state.active(self.id);
            let gone = if word == 0 { low } else { high };
            *at_mut(&mut state.spis.active, word) &= !gone;
            *at_mut(&mut state.spis.fresh, word) |= gone;
        }
        self.saved = Interface::RESET;
        if state.lanes_at.resident() & lane_bit(self.id) == 0 {
            Self::publish(vgic, &mut state, hw);
            self.announce(vgic, &mut state, hw);
            return;
        }
        hw.load_interface(&self.saved);
        self.close(vgic, state, 0, hw);
    }

    /// Forgets the lane's last life, after [`Vgic::reset`] and off any CPU. Its siblings may have begun the new one and
    /// have set registers of this lane: those stay.
    pub const fn renew(&mut self) {
        *self = Self::new(self.id);
    }

    /// The slow path of everything that may have changed: a kick, a maintenance interrupt, leftovers.
    #[cold]
    #[inline(never)]
    pub fn serve(&mut self, vgic: &Vgic, hw: &mut impl VirtGic) {
        let mail = self.held | at(&vgic.shared, self.id).mail.swap(0, Ordering::AcqRel);
        self.held = mail & MAIL_SGIS;
        let state = self.open(vgic, hw);
        self.close(vgic, state, 0, hw);
    }

    /// Whether a guest that waits for an interrupt would see one (Arm ARM D1.6.2): something in the list registers is
    /// pending, of a group that the guest has on and above its priority mask. The running priority is not looked at, so
    /// that a guest which waits inside a handler looks once more.
    #[must_use]
    pub fn would_wake(&self, hw: &mut impl VirtGic) -> bool {
        if self.held != 0 {
            return true;
        }
        let vmcr = hw.read_vmcr();
        // ICH_VMCR_EL2.VPMR.
        let mask = low8(vmcr >> 24);
        Ones(self.used).any(|index| {
            let value = hw.read_lr(index as usize);
            let group = if value & lr::GROUP1 == 0 {
                VMCR_VENG0
            } else {
                VMCR_VENG1
            };
            value & lr::PENDING != 0 && vmcr & group != 0 && lr::priority(value) < mask
        })
    }

    /// Whether a private interrupt is enabled and forwarded, so that it could wake the lane.
    #[must_use]
    pub const fn is_open(&self, intid: u32) -> bool {
        intid < 32 && self.open >> intid & 1 != 0
    }

    /// A linked physical PPI (27 or 30) was acknowledged and its priority dropped, but it was not deactivated.
    #[cold]
    #[inline(never)]
    pub fn ppi_fired(&mut self, vgic: &Vgic, intid: u32, hw: &mut impl VirtGic) {
        let bit = 1u32.checked_shl(intid).unwrap_or(0) & LINKED_PPIS;
        let mut state = self.open(vgic, hw);
        let bank = state.bank_mut(self.id);
        bank.token |= bit;
        bank.latch |= bit;
        self.close(vgic, state, 0, hw);
    }

    /// Sets the input line of an SPI, on behalf of a device of the VM.
    pub fn set_line(&mut self, vgic: &Vgic, intid: u32, high: bool, hw: &mut impl VirtGic) {
        let Some(spi) = (intid as usize).checked_sub(32).filter(|spi| *spi < 64) else {
            return;
        };
        let (word, bit) = (spi >> 5, 1 << (spi & 31));
        let mut state = self.lock(vgic, hw);
        if (*at(&state.spis.line, word) & bit != 0) == high {
            self.finish_read(vgic, state, hw);
            return;
        }
        self.fold_own(vgic, &mut state, hw);
        let edge = *at(&state.spis.edge, word) & bit != 0;
        // A rising level finds its way at the deactivation; an edge must be latched, and a fallen level retracted.
        let wanted = if edge == high {
            state.homes(word, bit)
        } else {
            0
        };
        let frozen = self.pull(vgic, &mut state, wanted, hw);
        if high {
            *at_mut(&mut state.spis.line, word) |= bit;
            *at_mut(&mut state.spis.latch, word) |= if edge { bit } else { 0 };
        } else {
            *at_mut(&mut state.spis.line, word) &= !bit;
        }
        *at_mut(&mut state.spis.fresh, word) |= bit;
        self.close(vgic, state, frozen, hw);
    }

    /// A trapped write of `ICC_DIR_EL1`: ends an interrupt that is active without a list register, or in another one.
    #[cold]
    pub fn write_dir(&mut self, vgic: &Vgic, value: u64, hw: &mut impl VirtGic) {
        let intid = low32(value) & 0xff_ffff;
        if hw.read_vmcr() & VMCR_VEOIM == 0 || intid >= super::INTIDS {
            // EOImode 0 makes the write unpredictable and other INTIDs do not exist: ignored.
            return;
        }
        let mut state = self.open(vgic, hw);
        let word = (intid >> 5) as usize;
        let wanted = if word == 0 {
            0
        } else {
            state.homes(word - 1, 1 << (intid & 31))
        };
        let frozen = self.pull(vgic, &mut state, wanted, hw);
        state.deactivate(self.id, intid);
        self.close(vgic, state, frozen, hw);
    }

    /// [`lock`](Self::lock), for who seldom has to wait for it.
    #[inline(always)]
    pub(super) fn lock_at_once<'v>(
        &mut self,
        vgic: &'v Vgic,
        hw: &mut impl VirtGic,
    ) -> MutexGuard<'v, State> {
        match vgic.state.try_lock() {
            Some(state) => state,
            None => self.lock(vgic, hw),
        }
    }

    /// Takes the lock, giving way to a lane that wants our list registers.
    pub(super) fn lock<'v>(
        &mut self,
        vgic: &'v Vgic,
        hw: &mut impl VirtGic,
    ) -> MutexGuard<'v, State> {
        loop {
            if let Some(state) = vgic.state.try_lock() {
                return state;
            }
            self.poll_freeze(vgic, hw);
            hw.relax();
        }
    }

    /// Gives up a lock under which nothing was changed.
    pub(super) fn finish_read(
        &mut self,
        vgic: &Vgic,
        state: MutexGuard<'_, State>,
        hw: &mut impl VirtGic,
    ) {
        if self.emptied {
            self.close(vgic, state, 0, hw);
        }
    }

    /// Lock and fold.
    pub(super) fn open<'v>(
        &mut self,
        vgic: &'v Vgic,
        hw: &mut impl VirtGic,
    ) -> MutexGuard<'v, State> {
        let mut state = self.lock(vgic, hw);
        self.fold_own(vgic, &mut state, hw);
        state
    }

    /// Moves this lane's list registers, mail and leftovers into the software state.
    pub(super) fn fold_own(&mut self, vgic: &Vgic, state: &mut State, hw: &mut impl VirtGic) {
        let mail = at(&vgic.shared, self.id).mail.fetch_and(
            !(MAIL_SGIS | MAIL_ATTENTION | MAIL_POSTED),
            Ordering::AcqRel,
        );
        if !self.here {
            // The list registers of this CPU are not the lane's.
            state.collect(self.id);
            self.clear_slots();
        }
        let mut taken = self.snapshot(hw);
        taken.sgis |= mail & MAIL_SGIS;
        state.fold(self.id, &taken);
        if VIRTIO && vgic.has_posted() {
            vgic.take_posted(state, hw);
        }
    }

    /// Takes everything out of the list registers. They are stale until the refill that must follow.
    fn snapshot(&mut self, hw: &mut impl VirtGic) -> Snapshot {
        let mut taken = Snapshot {
            used: self.used,
            lrs: [0; MAX_LRS],
            ended: if self.here { ended(hw) } else { 0 },
            sgis: self.held & MAIL_SGIS,
        };
        for index in Ones(self.used) {
            let index = index as usize;
            let now = hw.read_lr(index) & lr::STATE;
            *at_mut(&mut taken.lrs, index) = *at(&self.bodies, index) | now;
        }
        self.held &= !MAIL_SGIS;
        self.clear_slots();
        taken
    }

    fn clear_slots(&mut self) {
        self.used = 0;
        self.free = 0;
        self.timer = 0;
        self.plain = false;
        self.sgi_slot = [NO_SLOT; 16];
        if VIRTIO {
            self.spi_slot = [0; SPI_WORDS];
        }
    }

    /// Answers a freeze request: copies the list registers out and empties them. Only called while waiting for the lock.
    pub(super) fn poll_freeze(&mut self, vgic: &Vgic, hw: &mut impl VirtGic) {
        let shared = at(&vgic.shared, self.id);
        if shared.freeze.load(Ordering::Acquire) != FREEZE_REQUESTED {
            return;
        }
        let taken = self.snapshot(hw);
        for index in Ones(taken.used) {
            let index = index as usize;
            at(&shared.export, index).store(*at(&taken.lrs, index), Ordering::Relaxed);
            hw.write_lr(index, 0);
        }
        hw.write_hcr(HCR_EN);
        shared.export_used.store(taken.used, Ordering::Relaxed);
        shared.export_ended.store(taken.ended, Ordering::Relaxed);
        shared.export_held.store(taken.sgis, Ordering::Relaxed);
        self.emptied = true;
        shared.freeze.store(FREEZE_DONE, Ordering::Release);
    }

    /// Has the `wanted` lanes fold. Returns those that did, which [`close`](Self::close) lets go.
    pub(super) fn pull(
        &self,
        vgic: &Vgic,
        state: &mut State,
        wanted: u32,
        hw: &mut impl VirtGic,
    ) -> u32 {
        let frozen = wanted & state.lanes_at.resident() & !lane_bit(self.id);
        for lane in Ones(frozen) {
            let shared = at(&vgic.shared, lane as usize);
            shared.freeze.store(FREEZE_REQUESTED, Ordering::Release);
            shared.mail.fetch_or(MAIL_ATTENTION, Ordering::AcqRel);
            let kick = shared.kick.load(Ordering::Relaxed);
            if kick != 0 {
                hw.send_sgi(kick);
            }
        }
        for lane in Ones(frozen) {
            let lane = lane as usize;
            let shared = at(&vgic.shared, lane);
            while shared.freeze.load(Ordering::Acquire) != FREEZE_DONE {
                hw.relax();
            }
            let mut taken = Snapshot {
                used: shared.export_used.load(Ordering::Relaxed),
                lrs: [0; MAX_LRS],
                ended: shared.export_ended.load(Ordering::Relaxed),
                sgis: shared.export_held.load(Ordering::Relaxed),
            };
            for (value, slot) in taken.lrs.iter_mut().zip(&shared.export) {
                *value = slot.load(Ordering::Relaxed);
            }
            taken.sgis |= shared.mail.fetch_and(!MAIL_SGIS, Ordering::AcqRel) & MAIL_SGIS;
            state.fold(lane, &taken);
        }
        // A lane that does not run has everything in software but its mail.
        for lane in Ones(wanted & !state.lanes_at.resident() & vgic.all_lanes()) {
            let lane = lane as usize;
            state.collect(lane);
            state.bank_mut(lane).latch |= recall::take_sgis(vgic, state, lane);
        }
        frozen
    }

    /// Refills this lane's list registers, wakes lanes that got something, releases pulled lanes and the lock.
    pub(super) fn close(
        &mut self,
        vgic: &Vgic,
        mut state: MutexGuard<'_, State>,
        frozen: u32,
        hw: &mut impl VirtGic,
    ) {
        Self::publish(vgic, &mut state, hw);
        if state.lanes_at.resident() & lane_bit(self.id) != 0 {
            self.refill(vgic, &mut state, hw);
        } else {
            self.recall(vgic, &state);
        }
        self.announce(vgic, &mut state, hw);
        for lane in Ones(frozen) {
            at(&vgic.shared, lane as usize)
                .freeze
                .store(FREEZE_NONE, Ordering::Release);
        }
    }

    /// The pending summary that `fast_isenabler` reads: written before anybody reads the enable bits.
    #[inline(always)]
    pub(super) fn publish(vgic: &Vgic, state: &mut State, hw: &mut impl VirtGic) {
        if vgic.has_devices.load(Ordering::Relaxed) {
            return vgic.publish_linked(state, hw);
        }
        for word in 0..2 {
            at(&vgic.spi_pending, word).store(state.spi_pending(word), Ordering::SeqCst);
        }
    }

    /// Tells other lanes about SPIs that became deliverable to them, once each, and those that are away about what others
    /// have done to their private interrupts.
    pub(super) fn announce(&self, vgic: &Vgic, state: &mut State, hw: &mut impl VirtGic) {
        let called = core::mem::take(&mut state.called);
        for lane in Ones(called & state.lanes_at.parked() & !lane_bit(self.id)) {
            at(&vgic.shared, lane as usize).post(MAIL_ATTENTION, hw);
        }
        let fresh = core::mem::take(&mut state.spis.fresh);
        if fresh == [0; 2] {
            return;
        }
        for lane in Ones((state.lanes_at.resident() | state.lanes_at.parked()) & !lane_bit(self.id))
        {
            let [_, low, high] = state.deliverable(lane as usize, vgic.spi_enables());
            if [low & fresh[0], high & fresh[1]] != [0; 2] {
                at(&vgic.shared, lane as usize).post(MAIL_ATTENTION, hw);
            }
        }
    }
}

/// `EOIcount`.
fn ended(hw: &mut impl VirtGic) -> u32 {
    low32(hw.read_hcr() >> HCR_EOICOUNT_SHIFT) & 0x1f
}

/// The number of list registers, at most 16.
pub(super) fn lr_count(hw: &impl VirtGic) -> usize {
    hw.lr_count().min(MAX_LRS)
}
