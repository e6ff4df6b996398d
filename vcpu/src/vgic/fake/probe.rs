//! A look at all of a lane's interrupts that changes nothing, and what a lane does while it waits for the lock.

use core::sync::atomic::Ordering;

use super::super::bits::{Ones, at, low32};
use super::super::{LaneGic, MAIL_SGIS, Vgic, VirtGic, lr};
use super::FakeCpu;

/// The pending and the active interrupts of a lane, wherever they are kept: 32 to a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// Pending.
    pub pending: [u32; 3],
    /// Active.
    pub active: [u32; 3],
}

impl Interrupts {
    /// Those of `lane`, whose CPU is `cpu`. SPIs in list registers of other lanes are not among them.
    ///
    /// # Panics
    /// When the lock is taken.
    #[must_use]
    pub fn of(vgic: &Vgic, lane: &LaneGic, cpu: &FakeCpu) -> Self {
        let state = vgic
            .state
            .try_lock()
            .expect("nobody is inside the slow path");
        let bank = state.bank(lane.id);
        let mail = at(&vgic.shared, lane.id).mail.load(Ordering::Relaxed) | lane.held;
        let posted = vgic.posted.load(Ordering::Relaxed);
        let mut seen = Self {
            pending: [
                bank.latch | mail & MAIL_SGIS,
                state.spi_pending(0) | low32(posted),
                state.spi_pending(1) | low32(posted >> 32),
            ],
            active: [bank.active, state.spis.active[0], state.spis.active[1]],
        };
        for index in Ones(lane.used) {
            let value = cpu.lrs[index as usize];
            let intid = lr::intid(lane.bodies[index as usize]);
            let (word, bit) = (intid as usize / 32, intid % 32);
            seen.pending[word] |= u32::from(value & lr::PENDING != 0) << bit;
            seen.active[word] |= u32::from(value & lr::ACTIVE != 0) << bit;
        }
        seen
    }
}

/// The private interrupts that are pending for a lane which is away, its mail left out.
///
/// # Panics
/// When the lock is taken.
#[must_use]
pub fn private_pending(vgic: &Vgic, lane: usize) -> u32 {
    let state = vgic
        .state
        .try_lock()
        .expect("nobody is inside the slow path");
    let laid = state.laid[lane].iter();
    let is_private = |lr: &&u64| lr::intid(**lr) < 32 && **lr & lr::PENDING != 0;
    laid.filter(|lr| state.lanes_at.is_aside(lane) && is_private(lr))
        .fold(state.bank(lane).latch, |bits, lr| {
            bits | 1 << lr::intid(*lr)
        })
}

/// A turn of a lane's wait for the lock: true when it gave its list registers away.
pub fn wait_turn(lane: &mut LaneGic, vgic: &Vgic, hw: &mut impl VirtGic) -> bool {
    lane.poll_freeze(vgic, hw);
    lane.emptied
}

/// The end of that wait, of a lane that wanted to read only.
pub fn end_wait(lane: &mut LaneGic, vgic: &Vgic, hw: &mut impl VirtGic) {
    let state = lane.lock(vgic, hw);
    lane.finish_read(vgic, state, hw);
}
