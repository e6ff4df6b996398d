//! SPIs that are pulsed: by a lane of the VM, for a device of its own, or from any CPU, for somebody else's.
//!
//! A pulse leaves the SPI pending, as a write of `GICD_ISPENDR` does: once, whatever `GICD_ICFGR` says of it.
//!
//! Who has no lane of the VM at hand can neither take its lock (a lane that waits for one must give its list registers up
//! to the holder of its own VM's) nor fill its list registers. So it *posts*: it sets the SPI's bit in one word of the VM
//! and leaves word with the lane that the SPI is routed to. Whoever folds next takes the bit into the software state, but
//! for SPIs in another lane's list registers: those that lane has to take itself, after it has folded them.
//!
//! The short path is for an edge that is enabled and routed to one lane, which is nearly all there is of virtio. It keeps
//! the list register it had, as SGIs do: while a list register has it, whoever wants to change anything about it asks the
//! lane first ([`State::homes`]), so the lane may make it pending there without a look at anything. Else it is given
//! a free list register under the lock, if that is to be had at once.

use core::sync::atomic::Ordering;

use super::bits::{Ones, at, at_mut, low8, low32};
use super::state::{NOBODY, ROUTE_AFFINITY, State};
use super::{LaneGic, MAIL_ATTENTION, MAIL_POSTED, MAX_LRS, Vgic, VirtGic, lr};

/// `posted_to`: whoever is there.
const TO_ALL: u64 = 0xf;

/// Where the four bits of an SPI are, in words of 16 each.
const fn four_bits(spi: usize) -> (usize, usize) {
    (spi >> 4, (spi & 15) * 4)
}

impl Vgic {
    /// Pulses the SPI `intid` (32 to 95) from any CPU, whoever's lanes it has, and without waiting for anybody.
    ///
    /// The bit is set before the word is left, and a lane takes its mail before it looks at the bits; who leaves its CPU
    /// looks once more. So one of the lanes that are told will see it.
    pub fn post_spi(&self, intid: u32, hw: &mut impl VirtGic) {
        let Some(spi) = intid.checked_sub(32).filter(|spi| *spi < 64) else {
            return;
        };
        self.posted.fetch_or(1 << spi, Ordering::SeqCst);
        let to = self.posted_to(spi);
        let lanes = if to == TO_ALL {
            self.all_lanes()
        } else {
            1 << (to & 7)
        };
        for lane in Ones(lanes) {
            at(&self.shared, lane as usize).post(MAIL_POSTED, hw);
        }
    }

    /// The lane that an SPI (INTID − 32) is routed to, or [`TO_ALL`].
    fn posted_to(&self, spi: u32) -> u64 {
        let (index, shift) = four_bits(spi as usize);
        at(&self.posted_to, index).load(Ordering::SeqCst) >> shift & 15
    }

    /// Whether some lane has something to take.
    #[inline(always)]
    pub(super) fn has_posted(&self) -> bool {
        self.posted.load(Ordering::SeqCst) != 0
    }

    /// Moves what was posted into the software state, under the lock. The caller has folded its own list registers, and
    /// refills or leaves.
    #[cold]
    #[inline(never)]
    pub(super) fn take_posted(&self, state: &mut State, hw: &mut impl VirtGic) {
        let posted = self.posted.load(Ordering::SeqCst);
        let [low, high] = [low32(posted), low32(posted >> 32)];
        let free = [state.homeless(0, low), state.homeless(1, high)];
        let elsewhere = state.homes(0, low) | state.homes(1, high);
        let mine = u64::from(free[1]) << 32 | u64::from(free[0]);
        let taken = self.posted.fetch_and(!mine, Ordering::SeqCst) & mine;
        state.latch_spis(taken);
        for lane in Ones(elsewhere) {
            at(&self.shared, lane as usize).post(MAIL_ATTENTION, hw);
        }
    }

    /// After [`Vgic::reset`].
    pub(super) fn forget_posted(&self) {
        self.posted.store(0, Ordering::SeqCst);
        for to in &self.posted_to {
            to.store(0, Ordering::SeqCst);
        }
    }

    /// `GICD_IROUTER` of an SPI (INTID − 32) has changed, under the lock, and no list register has the SPI. Where no single
    /// lane is meant, all are told.
    ///
    /// Who posts sets the bit and then looks where to leave word; here it is the other way round. So if the word goes to
    /// where the SPI was routed before, the bit is seen here.
    pub(super) fn note_route(&self, state: &mut State, spi: usize, route: u64) {
        let lane = low8(route);
        let single = route & ROUTE_AFFINITY == u64::from(lane) && usize::from(lane) < self.lanes();
        let any = route & !ROUTE_AFFINITY != 0;
        let to = if single && !any {
            u64::from(lane)
        } else {
            TO_ALL
        };
        let (index, shift) = four_bits(spi);
        let word = at(&self.posted_to, index);
        let others = word.load(Ordering::Relaxed) & !(15 << shift);
        word.store(others | to << shift, Ordering::SeqCst);
        let bit = 1 << (spi & 63);
        if self.has_posted() {
            state.latch_spis(self.posted.fetch_and(!bit, Ordering::SeqCst) & bit);
        }
    }
}

impl LaneGic {
    /// Pulses SPIs, bit 0 for INTID 32, by the short path: those that this lane is to take and that have, or can be given, a
    /// list register of it. The others, of which nothing has changed: [`pulse`](Self::pulse) is due.
    #[inline(always)]
    #[must_use]
    pub fn fast_pulse(&mut self, vgic: &Vgic, spis: u64, hw: &mut impl VirtGic) -> u64 {
        let spi = spis.trailing_zeros() & 63;
        if spis.is_power_of_two() && self.pulse_again(spi, hw) {
            return 0;
        }
        self.pulse_new(vgic, spis, hw)
    }

    /// Makes an SPI pending in the list register it has, if it has one.
    #[inline(always)]
    fn pulse_again(&mut self, spi: u32, hw: &mut impl VirtGic) -> bool {
        let index = self.spi_seat(spi);
        if index == 0 {
            return false;
        }
        hw.pend_lr(index, *at(&self.bodies, index));
        true
    }

    /// The rest of [`fast_pulse`](Self::fast_pulse).
    #[cold]
    #[inline(never)]
    fn pulse_new(&mut self, vgic: &Vgic, spis: u64, hw: &mut impl VirtGic) -> u64 {
        let mut left = 0;
        for spi in ones(spis) {
            if !(self.pulse_again(spi, hw) || self.place_new_spi(vgic, spi, hw, |_| true)) {
                left |= 1 << spi;
            }
        }
        left
    }

    /// Takes what was posted for this lane, by the short path. False when the slow path is due.
    #[inline(never)]
    pub(super) fn fast_posted(&mut self, vgic: &Vgic, hw: &mut impl VirtGic) -> bool {
        let mut all = true;
        for spi in ones(vgic.posted.load(Ordering::SeqCst)) {
            let take = |bit: u64| vgic.posted.fetch_and(!bit, Ordering::SeqCst) & bit != 0;
            if self.spi_seat(spi) != 0 {
                if take(1 << spi) {
                    self.pulse_again(spi, hw);
                }
                continue;
            }
            let to = vgic.posted_to(spi);
            // What is another lane's that lane is told of.
            all &= to != TO_ALL
                && (to != self.id as u64
                    || self.place_new_spi(vgic, spi, hw, |spi| take(1 << spi)));
        }
        all
    }

    /// Gives an SPI a free list register, if it is this lane's to take and there is one, and `take` has it when the lock is
    /// held. True also where somebody else has taken it.
    fn place_new_spi(
        &mut self,
        vgic: &Vgic,
        spi: u32,
        hw: &mut impl VirtGic,
        take: impl FnOnce(u32) -> bool,
    ) -> bool {
        let Some(mut state) = vgic.state.try_lock() else {
            return false;
        };
        let able = self.here && self.held == 0;
        if !able || !state.is_pulsed(vgic, self.id, spi) || !state.is_idle(spi) {
            return false;
        }
        if self.free == 0 {
            self.evict_sgis(hw);
        }
        if self.free == 0 {
            self.evict_spis(&mut state, hw);
        }
        if self.free == 0 {
            return false;
        }
        if !take(spi) {
            return true;
        }
        let index = self.free.trailing_zeros();
        self.free &= !(1 << index);
        self.used |= 1 << index;
        state.set_home(spi, Some(self.id));
        let (priority, group1) = state.rank(self.id, spi + 32);
        let body = lr::template(spi + 32, priority, group1);
        *at_mut(&mut self.bodies, index as usize) = body;
        self.seat_spi(spi, index);
        hw.write_lr(index as usize, body | lr::PENDING);
        true
    }

    /// What was posted and can be taken by a lane that comes back by the short way: all that is for it has a list register.
    /// `None` when something has not.
    pub(super) fn posted_seats(&self, vgic: &Vgic) -> Option<u64> {
        let posted = vgic.posted.load(Ordering::SeqCst);
        let mut mine = 0;
        for spi in ones(posted) {
            if self.spi_seat(spi) != 0 {
                mine |= 1 << spi;
            } else if vgic.posted_to(spi) == TO_ALL || vgic.posted_to(spi) == self.id as u64 {
                return None;
            }
        }
        Some(mine)
    }

    /// Takes that, into list registers that were laid aside.
    pub(super) fn take_seats(&self, vgic: &Vgic, spis: u64, lrs: &mut [u64; MAX_LRS]) {
        let taken = vgic.posted.fetch_and(!spis, Ordering::SeqCst) & spis;
        for spi in ones(taken) {
            let index = self.spi_seat(spi);
            let now = at_mut(lrs, index);
            *now = *at(&self.bodies, index) | *now & lr::STATE | lr::PENDING;
        }
    }

    /// Frees list registers of SPIs that the guest has finished. Nothing of those is anywhere else.
    fn evict_spis(&mut self, state: &mut State, hw: &mut impl VirtGic) {
        let empty = low32(hw.read_elrsr()) & self.used;
        for index in Ones(empty) {
            let intid = lr::intid(*at(&self.bodies, index as usize));
            if let Some(spi) = intid.checked_sub(32)
                && self.spi_seat(spi) == index as usize
            {
                state.set_home(spi, None);
                self.seat_spi(spi, 0);
                self.free |= 1 << index;
                self.used &= !(1 << index);
            }
        }
    }

    /// The list register of an SPI that has one and may be pulsed there; 0 for none.
    #[inline(always)]
    fn spi_seat(&self, spi: u32) -> usize {
        let (index, shift) = four_bits(spi as usize);
        (*at(&self.spi_slot, index) >> shift & 15) as usize
    }

    /// Notes it.
    pub(super) const fn seat_spi(&mut self, spi: u32, seat: u32) {
        let (index, shift) = four_bits(spi as usize);
        let word = at_mut(&mut self.spi_slot, index);
        *word = *word & !(15 << shift) | (seat as u64 & 15) << shift;
    }

    /// Pulses SPIs, bit 0 for INTID 32, on behalf of devices of the VM.
    #[cold]
    #[inline(never)]
    pub fn pulse(&mut self, vgic: &Vgic, spis: u64, hw: &mut impl VirtGic) {
        let mut state = self.open(vgic, hw);
        let wanted = state.homes(0, low32(spis)) | state.homes(1, low32(spis >> 32));
        let frozen = self.pull(vgic, &mut state, wanted, hw);
        state.latch_spis(spis);
        self.close(vgic, state, frozen, hw);
    }
}

/// The set bits of a word, lowest first.
fn ones(word: u64) -> impl Iterator<Item = u32> {
    let [low, high] = [low32(word), low32(word >> 32)];
    Ones(low).chain(Ones(high).map(|bit| bit + 32))
}

impl State {
    /// Which of the SPIs `bits` of word `word` are in nobody's list register.
    pub(super) fn homeless(&self, word: usize, bits: u32) -> u32 {
        Ones(bits).fold(0, |found, bit| {
            let home = *at(&self.spis.home, word * 32 + bit as usize);
            found | u32::from(home == NOBODY) << bit
        })
    }

    /// Whether a pulse of an SPI (INTID − 32) makes it pending for `lane` as the guest has set it up, and nothing of it is
    /// outside list registers: a device's own edge, enabled, of a group that is forwarded, and routed to this lane alone.
    ///
    /// None of this changes while a list register of the lane has the SPI, unless the lane was asked for it.
    pub(super) fn is_pulsed(&self, vgic: &Vgic, lane: usize, spi: u32) -> bool {
        let (word, bit) = ((spi >> 5) as usize, spi & 31);
        let spis = &self.spis;
        let enabled = at(&vgic.spi_enable, word).load(Ordering::SeqCst);
        let able = enabled
            & self.forwarded(*at(&spis.group, word))
            & *at(&spis.edge, word)
            & !*at(&spis.linked, word)
            & !*at(&spis.latch, word);
        able >> bit & 1 != 0 && *at(&spis.route, spi as usize) == lane as u64
    }

    /// Whether an SPI is in nobody's list register and not active.
    pub(super) const fn is_idle(&self, spi: u32) -> bool {
        let active = *at(&self.spis.active, (spi >> 5) as usize) >> (spi & 31) & 1 != 0;
        !active && *at(&self.spis.home, spi as usize) == NOBODY
    }

    /// A list register of `lane` has the SPI now, or nobody's.
    pub(super) const fn set_home(&mut self, spi: u32, lane: Option<usize>) {
        *at_mut(&mut self.spis.home, spi as usize) = match lane {
            Some(lane) => low8(lane as u64),
            None => NOBODY,
        };
    }

    /// Makes SPIs pending, of which none is in a list register.
    fn latch_spis(&mut self, spis: u64) {
        for (word, bits) in [low32(spis), low32(spis >> 32)].into_iter().enumerate() {
            *at_mut(&mut self.spis.latch, word) |= bits;
            *at_mut(&mut self.spis.fresh, word) |= bits;
        }
    }
}
