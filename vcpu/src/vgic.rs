//! The virtual GICv3: a software distributor over the hardware's list registers.
//!
//! # Why it is shaped like this
//! Almost every interrupt of a guest goes through one of four short paths (an IPI sent, an IPI received, the timer,
//! an SPI enabled), so those touch only what the lane owns and one atomic word of the receiver ([`LaneGic::fast_kick`]
//! and its siblings). Everything else takes the one slow path, which is the same for every register, every maintenance
//! interrupt and every overflow, and therefore small enough to be believed:
//!
//! 1. **open**: take the VM's one lock, *fold* the lane's list registers into the software state and empty them;
//! 2. **pull** (only where the access needs the state that another lane's list registers hold): have those lanes fold;
//! 3. change or read the software state, which now is the whole truth about what is touched;
//! 4. **close**: *refill* the list registers from the software state, wake lanes that got something, unlock.
//!
//! # Rules
//! - The list register is the truth for the interrupt it holds; the software state for all others. At refill the
//!   pending and active bits move into the list register, at fold they move back. So no INTID is ever in two of them.
//! - List register 0 belongs to the virtual timer (PPI 27), linked to the physical interrupt.
//! - A *token* (27, 30, and SPIs that are [linked](linked)) says that the physical interrupt is active and EL2 owes its deactivation. A linked list
//!   register carries it; when neither pending nor active is left for it, it is paid with `ICC_DIR`.
//! - What does not fit: the pending interrupts in list registers are always the most urgent ones, and one list register
//!   is kept for the active interrupt that the guest will end next. `NPIE` brings the lane back when all of them are
//!   taken; actives without a list register are ended through `EOIcount` (which names no INTID, so the most urgent one
//!   goes, as EOImode 0 demands) or, in EOImode 1, through trapped `ICC_DIR`.
//! - Level-sensitive SPIs ask for a maintenance interrupt at deactivation (`EOI`), where a high line pends them anew.
//!
//! # Pull: how one lane sees another's list registers
//! The lock's holder sets the other lane's `freeze` word to *requested* and kicks its CPU. A lane that wants the lock,
//! and every kicked lane does, polls that word: it copies its list registers into its `export` slots, empties them,
//! answers *done* and goes on waiting for the lock, after which it refills. Only the lock's holder ever requests, so
//! nobody waits in a circle, and the wait lasts one kick plus one copy. Hence the caller's duty: **call the slow path
//! with no lock held that another lane may want inside EL2.**
//!
//! # Known limits
//! In EOImode 1 an SPI may be deactivated by another CPU than the one that took it; that is honoured only while
//! `ICC_DIR` is trapped, which is while that CPU has actives without a list register.

mod aside;
mod bits;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod hot;
mod lane;
mod linked;
pub mod lr;
mod mmio;
pub mod port;
mod pulse;
mod recall;
mod refill;
mod sgi;
mod state;
pub mod table;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub use aside::Away;
use bits::{at, lane_bit};
pub use hot::Sent;
pub use lane::LaneGic;
pub use mmio::{Frame, Refused};
pub use port::VirtGic;
pub use sgi::SgiRegister;
use state::State;

use crate::virtio::VIRTIO;

/// The most lanes one VM may have.
pub const MAX_LANES: usize = 8;
/// The most list registers the architecture allows.
pub const MAX_LRS: usize = 16;
/// The virtual timer's PPI, physical and virtual.
pub const VIRTUAL_TIMER: u32 = 27;
/// The EL1 physical timer's PPI, physical and virtual.
pub const PHYSICAL_TIMER: u32 = 30;
/// The PPI by which the virtual CPU interface calls EL2.
pub const MAINTENANCE: u32 = 25;
/// INTIDs 0 to 95 exist.
pub const INTIDS: u32 = 96;

/// The PPIs whose source is a physical interrupt.
pub(crate) const LINKED_PPIS: u32 = 1 << VIRTUAL_TIMER | 1 << PHYSICAL_TIMER;

/// `mail`: the SGIs newly sent to the lane.
pub(crate) const MAIL_SGIS: u32 = 0xffff;
/// `mail`: the lane must take the slow path (an SPI for it, or a freeze request).
pub(crate) const MAIL_ATTENTION: u32 = 1 << 16;
/// `mail`: somebody has posted an SPI that is routed to the lane.
pub(crate) const MAIL_POSTED: u32 = 1 << 17;

/// How many words hold four bits for each SPI.
const SPI_WORDS: usize = if VIRTIO { 4 } else { 1 };

/// No request.
pub(crate) const FREEZE_NONE: u32 = 0;
/// The lock's holder wants the lane's list registers.
pub(crate) const FREEZE_REQUESTED: u32 = 1;
/// They are in `export`.
pub(crate) const FREEZE_DONE: u32 = 2;

/// What other lanes may touch of a lane without the lock. A cache line of its own, so that IPIs to one lane
/// do not slow another.
#[repr(align(64))]
pub(crate) struct LaneShared {
    /// Newly sent SGIs and the attention bit. Senders OR in, the lane swaps to zero.
    pub(crate) mail: AtomicU32,
    /// The group of each private interrupt: a copy for senders of SGIs.
    pub(crate) group: AtomicU32,
    /// The `ICC_SGI1R_EL1` value that interrupts the lane's CPU; 0 while there is none.
    pub(crate) kick: AtomicU64,
    /// One of the `FREEZE_*` values.
    pub(crate) freeze: AtomicU32,
    /// `EOIcount` at the time of the export.
    pub(crate) export_ended: AtomicU32,
    /// SGIs the lane had taken from its mail but not placed.
    pub(crate) export_held: AtomicU32,
    /// Which `export` slots are in use.
    pub(crate) export_used: AtomicU32,
    /// List registers, state included.
    pub(crate) export: [AtomicU64; MAX_LRS],
}

impl LaneShared {
    const fn new() -> Self {
        Self {
            mail: AtomicU32::new(0),
            group: AtomicU32::new(u32::MAX),
            kick: AtomicU64::new(0),
            freeze: AtomicU32::new(FREEZE_NONE),
            export_ended: AtomicU32::new(0),
            export_held: AtomicU32::new(0),
            export_used: AtomicU32::new(0),
            export: [const { AtomicU64::new(0) }; MAX_LRS],
        }
    }

    /// Puts `bits` into the mailbox and kicks the lane's CPU unless a kick is already on its way.
    ///
    /// A non-empty mailbox means that the sender who found it empty has kicked or is about to, and that the lane has
    /// not swapped it yet: it will see these bits too. Leftovers never go back into the mailbox.
    ///
    /// A lane that moves writes `kick` and then reads `mail`, a sender writes `mail` and then reads `kick`, all
    /// sequentially consistent: either the lane sees the mail or the sender sees where the lane is now.
    #[inline(always)]
    pub(crate) fn post(&self, bits: u32, hw: &mut impl VirtGic) {
        if self.mail.fetch_or(bits, Ordering::SeqCst) == 0 {
            let kick = self.kick.load(Ordering::SeqCst);
            if kick != 0 {
                hw.send_sgi(kick);
            }
        }
    }
}

/// The interrupt controller of one VM, shared by its lanes.
pub struct Vgic {
    /// How many lanes the VM has.
    lanes: usize,
    /// Enable bits of SPI 32–63 and 64–95: outside the lock for [`Vgic::fast_isenabler`].
    pub(crate) spi_enable: [AtomicU32; 2],
    /// SPIs that are pending outside list registers: a summary for the same path, written under the lock.
    pub(crate) spi_pending: [AtomicU32; 2],
    /// The VM has devices of the machine.
    pub(crate) has_devices: AtomicBool,
    /// What lanes may touch of each other.
    pub(crate) shared: [LaneShared; MAX_LANES],
    /// SPIs that were pulsed by who has no lane of the VM, bit 0 for INTID 32: some lane's to take.
    posted: AtomicU64,
    /// The lane that each SPI is routed to, or [`pulse::TO_ALL`], four bits each: a copy for who posts one, written under
    /// the lock.
    posted_to: [AtomicU64; SPI_WORDS],
    /// Everything else.
    state: spin::Mutex<State>,
}

impl Vgic {
    /// The controller of a VM with `lanes` lanes (1 to 8; other values are clamped), in its reset state.
    #[must_use]
    pub const fn new(lanes: usize) -> Self {
        let lanes = if lanes == 0 {
            1
        } else if lanes > MAX_LANES {
            MAX_LANES
        } else {
            lanes
        };
        Self {
            lanes,
            spi_enable: [const { AtomicU32::new(0) }; 2],
            spi_pending: [const { AtomicU32::new(0) }; 2],
            has_devices: AtomicBool::new(false),
            shared: [const { LaneShared::new() }; MAX_LANES],
            posted: AtomicU64::new(0),
            posted_to: [const { AtomicU64::new(0) }; SPI_WORDS],
            state: spin::Mutex::new(State::new(lanes)),
        }
    }

    /// How many lanes the VM has.
    #[inline]
    #[must_use]
    pub const fn lanes(&self) -> usize {
        self.lanes
    }

    /// Back to power-on, but for what is linked. The physical SPIs of that are then off and inactive, which is the
    /// caller's to see to. Only while no lane is on a CPU and none is on: each must be [`LaneGic::reset`] before it runs.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        let (linked, physical) = (state.spis.linked, state.spis.physical);
        *state = State::new(self.lanes);
        (state.spis.linked, state.spis.physical) = (linked, physical);
        for word in self.spi_enable.iter().chain(&self.spi_pending) {
            word.store(0, Ordering::SeqCst);
        }
        if self.has_devices.load(Ordering::Relaxed) {
            self.summarise_linked(&state);
        }
        if VIRTIO {
            self.forget_posted();
        }
        for shared in &self.shared {
            shared.mail.store(0, Ordering::SeqCst);
            shared.group.store(u32::MAX, Ordering::SeqCst);
        }
    }

    /// Sets the physical `ICC_SGI1R_EL1` value that interrupts the CPU of `lane` (0 = there is none).
    pub fn set_kick(&self, lane: usize, value: u64) {
        at(&self.shared, lane).kick.store(value, Ordering::SeqCst);
    }

    /// Whether the lane has mail: what a kick stands for, or stood for.
    #[inline]
    #[must_use]
    pub fn has_mail(&self, lane: usize) -> bool {
        at(&self.shared, lane).mail.load(Ordering::SeqCst) != 0
    }

    /// The mask of all lanes of the VM.
    pub(crate) const fn all_lanes(&self) -> u32 {
        (lane_bit(self.lanes - 1) << 1) - 1
    }
}
