//! SPIs of devices of the machine that the VM was given: each is linked to a physical SPI, as the timers' PPIs are.
//!
//! A physical SPI that fires goes to the VM pending and stays active in the machine until the guest has ended the
//! virtual one: the list register is linked, so the guest's own EOI deactivates it, on whatever CPU its lane is by then.
//! A level that is still high then fires again. Between firing and ending the *token* says that the deactivation is
//! owed; it travels with the pending and active bits between the list registers and the software state, and is paid
//! when neither is left. Nothing of this is sampled and nothing masked, so a lane may leave its CPU at any point.
//!
//! A physical SPI is enabled while the guest has the virtual one enabled. What the guest says of its trigger is noted
//! and means nothing: the machine knows.

use core::sync::atomic::Ordering;

use super::bits::{Ones, at, at_mut};
use super::state::State;
use super::{LaneGic, Vgic, VirtGic};

/// The word and bit of an SPI. Others than 32 to 95 wrap to one of them.
const fn place(intid: u32) -> (usize, u32) {
    (((intid >> 5) & 1 ^ 1) as usize, 1 << (intid & 31))
}

/// Stands for devices in the summary of pending SPIs of word 1: the SPI of this bit is no device's.
const DEVICES: u32 = 1 << 31;

impl Vgic {
    /// The VM has devices of the machine. Before any lane runs.
    pub fn give_devices(&self) {
        self.has_devices.store(true, Ordering::Relaxed);
        self.summarise_linked(&self.state.lock());
    }

    /// Links the SPI `intid` (32 to 95) to the SPI `physical` of a device, for as long as the VM is there. Before any lane
    /// runs.
    pub fn link(&self, intid: u32, physical: u16) {
        let (word, bit) = place(intid);
        {
            let mut state = self.state.lock();
            *at_mut(&mut state.spis.physical, word * 32 + (intid & 31) as usize) = physical;
            *at_mut(&mut state.spis.linked, word) |= bit;
        }
        self.give_devices();
    }

    /// What [`LaneGic`] publishes, where the VM has devices: their SPIs are settled then.
    #[cold]
    #[inline(never)]
    pub(super) fn publish_linked(&self, state: &mut State, hw: &mut impl VirtGic) {
        self.summarise_linked(state);
        for (word, enable) in self.spi_enable.iter().enumerate() {
            state.settle_linked(word, enable.load(Ordering::SeqCst), hw);
        }
    }

    /// Whoever enables a linked SPI does not take the short path: it is always in the summary. And no lane lays its list
    /// registers aside, so that each that leaves its CPU is asked for late errors.
    pub(super) fn summarise_linked(&self, state: &State) {
        let [low, high] = &self.spi_pending;
        let linked = |word: usize| state.spi_pending(word) | *at(&state.spis.linked, word);
        low.store(linked(0), Ordering::SeqCst);
        high.store(linked(1) | DEVICES, Ordering::SeqCst);
    }
}

impl LaneGic {
    /// The physical SPI behind `intid` was acknowledged and its priority dropped, but it was not deactivated.
    #[cold]
    pub fn device_fired(&mut self, vgic: &Vgic, intid: u32, hw: &mut impl VirtGic) {
        let (word, bit) = place(intid);
        let mut state = self.open(vgic, hw);
        // Where it was active before, it was linked and has ended; but that lane may not have noticed.
        let wanted = state.homes(word, bit);
        let frozen = self.pull(vgic, &mut state, wanted, hw);
        *at_mut(&mut state.spis.token, word) |= bit;
        *at_mut(&mut state.spis.latch, word) |= bit;
        *at_mut(&mut state.spis.fresh, word) |= bit;
        self.close(vgic, state, frozen, hw);
    }
}

impl State {
    /// Pays physical deactivations that no interrupt stands for any more, and mirrors the enables.
    fn settle_linked(&mut self, word: usize, enabled: u32, hw: &mut impl VirtGic) {
        let spis = &mut self.spis;
        let linked = *at(&spis.linked, word);
        let token = at_mut(&mut spis.token, word);
        let owed = *token & !(*at(&spis.latch, word) | *at(&spis.active, word));
        *token &= !owed;
        let wanted = linked & enabled;
        let changed = wanted ^ core::mem::replace(at_mut(&mut spis.physically_on, word), wanted);
        for bit in Ones(owed | changed) {
            let intid = u32::from(*at(&spis.physical, word * 32 + bit as usize));
            if owed >> bit & 1 != 0 {
                hw.deactivate(intid);
            }
            if changed >> bit & 1 != 0 {
                hw.set_spi_enabled(intid, wanted >> bit & 1 != 0);
            }
        }
    }
}
