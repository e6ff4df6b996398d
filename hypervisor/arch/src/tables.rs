//! The two ports of `stage2`: the memory that holds translation tables, and the TLBs.

use core::arch::asm;
use core::ptr;

use stage2::{Stale, TableIndex, TableMemory, Tlb};
use stage2_addr::{Address, HostPhys, PAGE_SIZE};

/// Translation tables in EL2's identity-mapped memory (and, before the MMU is on, in memory as it is).
#[derive(Clone, Copy, Debug)]
pub struct TableFrames;

/// The bytes of a table.
const PAGE_BYTES: usize = 4096;

fn entry(table: HostPhys, index: TableIndex) -> *mut u64 {
    let base = usize::try_from(table.raw()).unwrap_or(0);
    ptr::with_exposed_provenance_mut::<u64>(base + index.get() * 8)
}

impl TableMemory for TableFrames {
    fn read(&self, table: HostPhys, index: TableIndex) -> u64 {
        // SAFETY: `stage2` passes only frames of a quota, which were granted to hold tables and nothing
        // else; 512 aligned entries fit a frame. Volatile: table walkers read and write beside us.
        unsafe { entry(table, index).read_volatile() }
    }

    fn write(&mut self, table: HostPhys, index: TableIndex, descriptor: u64) {
        // SAFETY: as above. An aligned 64-bit store is single-copy atomic.
        unsafe { entry(table, index).write_volatile(descriptor) }
    }

    fn zero(&mut self, table: HostPhys) {
        let base = entry(table, TableIndex::FIRST);
        for line in (0..PAGE_BYTES).step_by(64) {
            // SAFETY: 64 bytes of the frame, as above. No walker reaches it, so that pairs need not be atomic.
            unsafe {
                asm!(
                    "stp xzr, xzr, [{at}]",
                    "stp xzr, xzr, [{at}, #16]",
                    "stp xzr, xzr, [{at}, #32]",
                    "stp xzr, xzr, [{at}, #48]",
                    at = in(reg) base.wrapping_byte_add(line),
                    options(nostack, preserves_flags),
                );
            }
        }
    }

    fn publish(&mut self) {
        aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
    }
}

/// The TLBs of all CPUs in the inner shareable domain.
#[derive(Clone, Copy, Debug)]
pub struct AllTlbs;

/// Page by page up to this many pages; beyond, the whole address space goes at once.
const BY_PAGE: u64 = 64;

impl Tlb for AllTlbs {
    fn invalidate(&self, stale: &Stale) {
        aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
        match stale {
            Stale::Guest { vmid, range, .. } => {
                let here: u64;
                // SAFETY: reads a register.
                unsafe {
                    asm!("mrs {}, vttbr_el2", out(reg) here, options(nomem, nostack, preserves_flags))
                };
                let tag = u64::from(vmid.raw()) << 48;
                // SAFETY: no guest runs on this CPU while EL2 does; only the tag counts for a TLBI, and
                // the register is put back below.
                unsafe {
                    asm!("msr vttbr_el2, {}", "isb", in(reg) tag, options(nostack, preserves_flags))
                };
                if range.pages().raw() <= BY_PAGE {
                    for page in range.iter_pages() {
                        // SAFETY: invalidating a translation is always allowed.
                        unsafe {
                            asm!("tlbi ipas2e1is, {}", in(reg) page.raw() >> 12, options(nostack, preserves_flags))
                        };
                    }
                    // Stage-1-and-2 entries carry no IPA: after the stage-2 ones are gone everywhere, all
                    // combined ones of this machine go (Arm ARM D8.17.6).
                    // SAFETY: as above.
                    unsafe {
                        asm!(
                            "dsb ish",
                            "tlbi vmalle1is",
                            options(nostack, preserves_flags)
                        )
                    };
                } else {
                    // SAFETY: as above.
                    unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
                }
                // SAFETY: restores what was read.
                unsafe {
                    asm!("dsb ish", "msr vttbr_el2, {}", "isb", in(reg) here, options(nostack, preserves_flags))
                };
            }
            Stale::AllGuests => {
                // SAFETY: as above.
                unsafe {
                    asm!(
                        "tlbi alle1is",
                        "dsb ish",
                        "isb",
                        options(nostack, preserves_flags)
                    )
                };
            }
            Stale::El2 { range, .. } => {
                if range.pages().raw() <= BY_PAGE {
                    for page in range.iter_pages() {
                        // SAFETY: as above.
                        unsafe {
                            asm!("tlbi vae2is, {}", in(reg) page.to_raw() / PAGE_SIZE, options(nostack, preserves_flags))
                        };
                    }
                } else {
                    // SAFETY: as above.
                    unsafe { asm!("tlbi alle2is", options(nostack, preserves_flags)) };
                }
                // SAFETY: a barrier.
                unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
            }
        }
    }
}
