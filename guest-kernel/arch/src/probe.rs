//! Touching addresses that may not be there.

use aarch64_cpu::asm::barrier;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_core::addr::GuestPhys;
use guest_kernel_core::isolation::{Access, Probe, Touch};
use guest_kernel_core::paging::{Attributes, WINDOW, entry};

/// The answer of the probing instructions, in x0 and x1.
#[repr(C)]
struct Answer {
    /// What a load got. A probe only asks whether there was an answer.
    _value: u64,
    syndrome: u64,
}

// SAFETY: `vectors.s` defines these so.
unsafe extern "C" {
    fn gk_probe_read(address: u64) -> Answer;
    fn gk_probe_write(address: u64, value: u32) -> Answer;
    static gk_probe_read_access: u8;
    static gk_probe_write_access: u8;
}

/// Whether an exception comes from a probe's load or store, which expects it.
pub(crate) fn is_probe(pc: u64) -> bool {
    let read = (&raw const gk_probe_read_access).addr() as u64;
    let write = (&raw const gk_probe_write_access).addr() as u64;
    pc == read || pc == write
}

/// A page through which any physical address can be touched. There is one.
pub struct Window {
    slot: &'static AtomicU64,
}

impl Window {
    pub(crate) const fn new(slot: &'static AtomicU64) -> Self {
        Self { slot }
    }

    /// Replaces the entry, invalid first (DDI 0487, "Using break-before-make").
    fn point(&mut self, entry: u64) {
        self.slot.store(0, Ordering::Release);
        barrier::dsb(barrier::ISHST);
        // SAFETY: drops a translation that is no longer in the tables; the operand is VA[55:12].
        unsafe { asm!("tlbi vaae1is, {}", in(reg) WINDOW >> 12, options(nostack)) };
        barrier::dsb(barrier::ISH);
        self.slot.store(entry, Ordering::Release);
        barrier::dsb(barrier::ISHST);
        barrier::isb(barrier::SY);
    }
}

impl Probe for Window {
    fn touch(&mut self, address: GuestPhys, access: Access) -> Touch {
        let page = address.align_down(4096);
        self.point(entry::leaf(3, page, Attributes::Device));
        let at = WINDOW + ((address.get() - page.get()) & !3);
        let answer = match access {
            // SAFETY: the window belongs to nobody else; an abort of this load is caught.
            Access::Read => unsafe { gk_probe_read(at) },
            // SAFETY: as above. Callers write only to what is not this guest's, so that nothing of
            // ours changes if the store goes through.
            Access::Write => unsafe { gk_probe_write(at, 0x5AFE_C0DE) },
        };
        self.point(0);
        match answer.syndrome {
            0 => Touch::Done,
            syndrome => Touch::Abort(syndrome),
        }
    }
}
