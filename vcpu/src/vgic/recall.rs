//! A lane that is away finds out what it missed.
//!
//! Who waits away from its CPU is woken by its mail ([`Vgic::has_mail`]). But mail is also taken where nobody means to
//! answer it: by the lane itself on its way out and when its CPU touches a device for it, and by a sibling that asks
//! what is pending. Everything is in the software state then and nothing in the mailbox, and the kick may be spent. So
//! whoever takes the mail of a lane that is away leaves word when there is something that would end its wait.

use core::sync::atomic::Ordering;

use super::bits::{Ones, at, lane_bit, low8};
use super::port::{VMCR_VENG0, VMCR_VENG1};
use super::state::State;
use super::{LaneGic, MAIL_ATTENTION, MAIL_SGIS, Vgic};

impl LaneGic {
    /// Leaves word for the lane itself, if it is away and waits for what has come: what
    /// [`would_wake`](Self::would_wake) says of list registers, of the software state.
    ///
    /// Nobody is kicked: this is the lane's own CPU, which looks at the mail next.
    pub(super) fn recall(&self, vgic: &Vgic, state: &State) {
        if state.lanes_at.parked() & lane_bit(self.id) == 0 {
            return;
        }
        let vmcr = self.saved.vmcr;
        // ICH_VMCR_EL2.VPMR.
        let mask = low8(vmcr >> 24);
        let wakes = |intid: u32| {
            let (priority, group1) = state.rank(self.id, intid);
            let group = if group1 { VMCR_VENG1 } else { VMCR_VENG0 };
            vmcr & group != 0 && priority < mask
        };
        let words = state.deliverable(self.id, vgic.spi_enables());
        let mut numbered = words.into_iter().zip([0, 32, 64]);
        if numbered.any(|(word, first)| Ones(word).any(|bit| wakes(first + bit))) {
            at(&vgic.shared, self.id)
                .mail
                .fetch_or(MAIL_ATTENTION, Ordering::SeqCst);
        }
    }
}

/// Takes the SGIs out of the mailbox of a lane that is on no CPU. Where it waits, word of them stays, without a moment
/// in between at which the box is empty: whoever sent them has kicked, and nobody will again.
pub(super) fn take_sgis(vgic: &Vgic, state: &State, lane: usize) -> u32 {
    let is_parked = state.lanes_at.parked() & lane_bit(lane) != 0;
    let without = |mail: u32| {
        let word = if is_parked && mail & MAIL_SGIS != 0 {
            MAIL_ATTENTION
        } else {
            0
        };
        Some(mail & !MAIL_SGIS | word)
    };
    let mail = &at(&vgic.shared, lane).mail;
    // The closure never declines, so this never fails.
    let taken = mail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, without);
    taken.unwrap_or(0) & MAIL_SGIS
}
