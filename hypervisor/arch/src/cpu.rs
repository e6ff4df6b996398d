//! The machine's CPUs: who we run on, and how another one is started.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use aarch64_cpu::registers::{MPIDR_EL1, Readable, TPIDR_EL2};

use crate::mmu;
use crate::power::{self, PowerError};
use crate::registers;

/// What a CPU owns for itself. `TPIDR_EL2` points at it from the CPU's first instructions on; it is
/// only ever shared (all fields are atomics), so no two references to it can conflict.
#[repr(C)]
#[derive(Debug)]
pub struct CpuLocal {
    /// Top of the stack on which this CPU reports its own faults. First: the vectors read it.
    pub(crate) emergency_top: AtomicU64,
    /// Logical number: the position in the device tree.
    pub(crate) index: AtomicU32,
    /// The machine on this CPU, for reports: its number plus one, 0 for none.
    pub(crate) vm: AtomicU32,
    /// Set once this CPU reports a fault: a second one powers off at once.
    pub(crate) faulting: AtomicBool,
    /// Its redistributor's address, 0 before that is readied.
    pub(crate) redistributor: AtomicU64,
    /// Whether its virtual CPU interface is as most are.
    pub(crate) is_common: AtomicBool,
    /// Which of the PPIs that lanes are linked to are on there.
    pub(crate) ppis: AtomicU32,
}

impl CpuLocal {
    /// A CPU with this number whose fault reports run on the stack ending at `emergency_top`.
    #[must_use]
    pub const fn new(index: u32, emergency_top: u64) -> Self {
        Self {
            emergency_top: AtomicU64::new(emergency_top),
            index: AtomicU32::new(index),
            vm: AtomicU32::new(0),
            faulting: AtomicBool::new(false),
            redistributor: AtomicU64::new(0),
            is_common: AtomicBool::new(false),
            ppis: AtomicU32::new(0),
        }
    }
}

/// The boot CPU's own, before any memory is known.
pub(crate) static BOOT_LOCAL: CpuLocal = CpuLocal::new(0, 0);

/// What a secondary CPU finds in `x0` with its MMU off. Cleaned to memory before the CPU starts.
#[repr(C)]
#[derive(Debug)]
pub struct CpuStart {
    pub(crate) mair: u64,
    pub(crate) tcr: u64,
    pub(crate) ttbr0: u64,
    pub(crate) stack_top: u64,
    pub(crate) local: u64,
    pub(crate) run: fn(usize) -> !,
    pub(crate) index: usize,
}

/// The stacks of one secondary CPU.
#[derive(Clone, Copy, Debug)]
pub struct CpuStacks {
    /// Top of the run loop's stack, 16-byte aligned.
    pub top: u64,
    /// Top of the stack for fault reports.
    pub emergency_top: u64,
}

/// This CPU's own record.
pub(crate) fn local() -> &'static CpuLocal {
    let pointer = core::ptr::with_exposed_provenance::<CpuLocal>(
        usize::try_from(TPIDR_EL2.get()).unwrap_or(0),
    );
    // SAFETY: the entry code sets TPIDR_EL2 to `BOOT_LOCAL` or to an arena object that is never freed,
    // before any Rust runs; EL2 alone can write the register.
    unsafe { &*pointer }
}

/// The logical number of the CPU this runs on.
#[must_use]
pub fn index() -> usize {
    local().index.load(Ordering::Relaxed) as usize
}

/// Says which machine's lane this CPU runs (for fault reports only).
pub fn note_vm(vm: Option<u32>) {
    local()
        .vm
        .store(vm.map_or(0, |vm| vm.saturating_add(1)), Ordering::Relaxed);
}

/// Says which logical CPU the boot CPU is.
pub fn set_boot_index(index: u32) {
    local().index.store(index, Ordering::Relaxed);
}

/// The affinity of the CPU this runs on: MPIDR_EL1 without its flag bits.
#[must_use]
pub fn affinity() -> u64 {
    MPIDR_EL1.get() & 0xFF_00FF_FFFF
}

/// Prepares the start of a CPU, which will call `run(index)` on its own stack; `None` when the arena is full. All of
/// this before the first [`start`]: it changes EL2's tables, which no other CPU may be walking then.
pub fn prepare(
    arena: &mut crate::memory::Arena,
    stacks: CpuStacks,
    index: u32,
    run: fn(usize) -> !,
) -> Option<&'static CpuStart> {
    let local = arena.alloc(CpuLocal::new(index, stacks.emergency_top))?;
    let translation = mmu::translation();
    let start = arena.alloc(CpuStart {
        mair: translation.mair,
        tcr: translation.tcr,
        ttbr0: translation.ttbr0,
        stack_top: stacks.top,
        local: core::ptr::from_ref(local).addr() as u64,
        run,
        index: index as usize,
    })?;
    Some(start)
}

/// Starts the CPU with this affinity.
///
/// # Errors
/// What PSCI CPU_ON answered (DEN0022, 5.6).
pub fn start(affinity: u64, start: &'static CpuStart) -> Result<(), PowerError> {
    let start = core::ptr::from_ref(start).addr() as u64;
    crate::cache::clean_to_memory(start, size_of::<CpuStart>() as u64);
    power::cpu_on(affinity, crate::image::secondary_entry(), start)
}

/// Whether a physical interrupt is pending (ISR_EL1.I, Arm ARM D19.2.64; at EL2 it is the physical one).
#[must_use]
pub fn is_interrupted() -> bool {
    registers::read_isr_el1() & 1 << 7 != 0
}

/// Waits until an interrupt is pending, whether masked or not.
pub fn wait_for_interrupt() {
    // What was set to interrupt it is set.
    registers::isb();
    aarch64_cpu::asm::wfi();
}
