//! SPIs that are pulsed: by a lane of the VM, for a device of its own, or from any CPU, for somebody else's.
//!
//! A pulse leaves the SPI pending, as a write of `GICD_ISPENDR` does: once, whatever `GICD_ICFGR` says of it.
//!
//! Who has no lane of the VM at hand can neither take its lock (a lane that waits for one must give its list registers up
//! to the holder of its own VM's) nor fill its list registers. So it *posts*: it sets the SPI's bit in one word of the VM
//! and leaves word with the lane that the SPI is routed to. Whoever folds next takes the bit into the software state, but
//! for SPIs in another lane's list registers: those that lane has to take itself, after it has folded them.

use core::sync::atomic::Ordering;

use super::bits::{Ones, at, at_mut, low8, low32};
use super::state::{ROUTE_AFFINITY, State};
use super::{LaneGic, MAIL_ATTENTION, Vgic, VirtGic};

/// `posted_to`: whoever is there.
const TO_ALL: u8 = 0xff;

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
        let to = at(&self.posted_to, spi as usize).load(Ordering::SeqCst);
        let lanes = self.shared.iter().enumerate().take(self.lanes());
        for (lane, shared) in lanes {
            if to == TO_ALL || usize::from(to) == lane {
                shared.post(MAIL_ATTENTION, hw);
            }
        }
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
        let to = if single && !any { lane } else { TO_ALL };
        at(&self.posted_to, spi).store(to, Ordering::SeqCst);
        let bit = 1 << (spi & 63);
        if self.has_posted() {
            state.latch_spis(self.posted.fetch_and(!bit, Ordering::SeqCst) & bit);
        }
    }
}

impl LaneGic {
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

impl State {
    /// Makes SPIs pending, of which none is in a list register.
    fn latch_spis(&mut self, spis: u64) {
        for (word, bits) in [low32(spis), low32(spis >> 32)].into_iter().enumerate() {
            *at_mut(&mut self.spis.latch, word) |= bits;
            *at_mut(&mut self.spis.fresh, word) |= bits;
        }
    }
}
