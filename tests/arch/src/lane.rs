//! What the runtime keeps per lane: the last fault, the fix-up, the interrupt hook.
//!
//! Every field is an atomic, since the vectors write them from assembly behind the compiler's back.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::start::MAX_LANES;

/// One lane's record. The assembly reaches it through `TPIDR_EL1`.
#[repr(C)]
#[derive(Debug)]
pub struct Lane {
    pub(crate) esr: AtomicU64,
    pub(crate) elr: AtomicU64,
    pub(crate) far: AtomicU64,
    pub(crate) spsr: AtomicU64,
    /// Faults taken since boot.
    pub(crate) faults: AtomicU64,
    /// Where to resume; zero: behind the instruction.
    pub(crate) fixup: AtomicU64,
    /// Non-zero while a fault is expected.
    pub(crate) armed: AtomicU64,
    /// `fn(u32)` called with the INTID, or zero.
    pub(crate) hook: AtomicU64,
    /// Interrupts taken since boot.
    pub(crate) irqs: AtomicU64,
    /// SErrors taken since boot.
    pub(crate) serrors: AtomicU64,
    /// `fn(u64)` that a secondary lane runs, and its argument.
    pub(crate) work: AtomicU64,
    pub(crate) argument: AtomicU64,
    /// The stack pointer that `el0` comes back to.
    pub(crate) el1_sp: AtomicU64,
}

impl Lane {
    const fn new() -> Self {
        Self {
            esr: AtomicU64::new(0),
            elr: AtomicU64::new(0),
            far: AtomicU64::new(0),
            spsr: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            fixup: AtomicU64::new(0),
            armed: AtomicU64::new(0),
            hook: AtomicU64::new(0),
            irqs: AtomicU64::new(0),
            serrors: AtomicU64::new(0),
            work: AtomicU64::new(0),
            argument: AtomicU64::new(0),
            el1_sp: AtomicU64::new(0),
        }
    }
}

pub(crate) static LANES: [Lane; MAX_LANES] = [const { Lane::new() }; MAX_LANES];

/// What an exception said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// `ESR_EL1`.
    pub esr: u64,
    /// `ELR_EL1`: the instruction.
    pub elr: u64,
    /// `FAR_EL1`: the address, for aborts.
    pub far: u64,
    /// `SPSR_EL1`.
    pub spsr: u64,
}

impl Fault {
    /// Exception class, ESR bits 31..26 (DDI 0487 D24.2.40).
    #[must_use]
    pub const fn class(&self) -> u64 {
        (self.esr >> 26) & 0x3f
    }

    /// Fault status code, ESR bits 5..0, of an abort.
    #[must_use]
    pub const fn status(&self) -> u64 {
        self.esr & 0x3f
    }

    /// EC 0: an undefined instruction, which is also what a hidden register is.
    #[must_use]
    pub const fn is_undefined(&self) -> bool {
        self.class() == 0
    }

    /// A data abort from this exception level.
    #[must_use]
    pub const fn is_data_abort(&self) -> bool {
        self.class() == 0x25
    }

    /// An instruction abort from this exception level.
    #[must_use]
    pub const fn is_instruction_abort(&self) -> bool {
        self.class() == 0x21
    }

    /// A synchronous external abort, not on a table walk: what a hypervisor injects for an address that is not there.
    #[must_use]
    pub const fn is_external(&self) -> bool {
        (self.is_data_abort() || self.is_instruction_abort()) && self.status() == 0x10
    }
}

/// The record of the lane that runs this.
#[must_use]
pub fn current() -> &'static Lane {
    let pointer: *const Lane;
    // SAFETY: reading TPIDR_EL1 changes nothing.
    unsafe {
        asm!("mrs {}, tpidr_el1", out(reg) pointer, options(nomem, nostack, preserves_flags))
    };
    // SAFETY: `_start` put the address of an element of `LANES` there before any Rust ran, and nothing else writes it.
    unsafe { &*pointer }
}

/// Number of the lane that runs this.
#[must_use]
pub fn number() -> usize {
    let mpidr: u64;
    // SAFETY: reading MPIDR_EL1 changes nothing.
    unsafe { asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack, preserves_flags)) };
    usize::try_from(mpidr & 0xff).unwrap_or(0)
}

/// The record of lane `n`.
#[must_use]
pub fn of(n: usize) -> Option<&'static Lane> {
    LANES.get(n)
}

impl Lane {
    /// Interrupts this lane has taken.
    #[must_use]
    pub fn irqs(&self) -> u64 {
        self.irqs.load(Relaxed)
    }

    /// Faults this lane has taken.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.load(Relaxed)
    }

    /// SErrors this lane has taken.
    #[must_use]
    pub fn serrors(&self) -> u64 {
        self.serrors.load(Relaxed)
    }

    /// The last fault taken.
    #[must_use]
    pub fn last_fault(&self) -> Fault {
        Fault {
            esr: self.esr.load(Relaxed),
            elr: self.elr.load(Relaxed),
            far: self.far.load(Relaxed),
            spsr: self.spsr.load(Relaxed),
        }
    }

    /// Calls `hook` with the INTID of every interrupt, between acknowledge and end.
    pub fn on_interrupt(&self, hook: fn(u32)) {
        self.hook
            .store(crate::memory::address_of_code(hook as *const ()), Relaxed);
    }
    /// What the lane does when it is turned on.
    pub(crate) fn give_work(&self, work: fn(u64), argument: u64) {
        self.work
            .store(crate::memory::address_of_code(work as *const ()), Relaxed);
        self.argument.store(argument, Relaxed);
    }
}
