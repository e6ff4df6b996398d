//! `ICC_SGI1R_EL1` and its siblings: who gets an SGI.

use core::sync::atomic::Ordering;

use super::bits::{at, low32};
use super::{LaneGic, MAIL_SGIS, Vgic, VirtGic};

/// Which of the three registers was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiRegister {
    /// `ICC_SGI1R_EL1`: reaches SGIs of group 1.
    Sgi1r,
    /// `ICC_SGI0R_EL1`: reaches SGIs of group 0.
    Sgi0r,
    /// `ICC_ASGI1R_EL1`: group 1 of the other security state, of which there is none (`GICD_CTLR.DS` = 1). Like
    /// `ICC_SGI0R_EL1` it reaches SGIs of group 0 (IHI 0069, 4.6.2).
    Asgi1r,
}

/// The lanes that `value` names, of a VM with `lanes` lanes whose affinities are 0.0.0.0 to 0.0.0.7.
pub(super) fn targets(value: u64, sender: usize, lanes: usize) -> u32 {
    let all = (1u32 << lanes) - 1;
    if value >> 40 & 1 != 0 {
        return all & !(1 << sender);
    }
    let affinity = (value >> 48 & 0xff) | (value >> 32 & 0xff) | (value >> 16 & 0xff);
    let range = value >> 44 & 0xf;
    // Ranges above the first name Aff0 from 16 up, and other affinities other clusters: nobody there.
    if affinity != 0 || range != 0 {
        0
    } else {
        low32(value & 0xffff) & all
    }
}

impl LaneGic {
    /// A write of an SGI register by this lane: any value, any targets. Targets that do not exist are ignored.
    #[cold]
    #[inline(never)]
    pub fn send_sgi(
        &mut self,
        vgic: &Vgic,
        register: SgiRegister,
        value: u64,
        hw: &mut impl VirtGic,
    ) {
        let bit = 1 << (low32(value >> 24) & 0xf);
        let named = targets(value, self.id, vgic.lanes());
        let mut own = false;
        for lane in super::bits::Ones(named) {
            let lane = lane as usize;
            let shared = at(&vgic.shared, lane);
            let group1 = shared.group.load(Ordering::Relaxed) & bit != 0;
            if group1 != matches!(register, SgiRegister::Sgi1r) {
                continue;
            }
            if lane == self.id {
                own = true;
            } else {
                shared.post(bit & MAIL_SGIS, hw);
            }
        }
        if own {
            self.held |= bit & MAIL_SGIS;
            let state = self.open(vgic, hw);
            self.close(vgic, state, 0, hw);
        }
    }
}
