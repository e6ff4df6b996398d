//! Everything that a lane owns and reaches, filled with given values, left alone while the CPU is given away, and read back.
//!
//! What is filled, and how it is done in assembly, is in `keep_asm`.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

use crate::call::{self, id};
use crate::keep_asm::kept_registers;
use crate::start::MAX_LANES;
use crate::{lane, memory, sys};

/// A register: its name, the bits that may be set without harm, and those that are always set.
#[derive(Debug, Clone, Copy)]
pub struct Register {
    /// As the Arm ARM names it.
    pub name: &'static str,
    /// Bits that a pattern may set.
    pub may: u64,
    /// Bits that are set in any case.
    pub must: u64,
}

macro_rules! tables {
    (
        plain [ $($name:ident $register:literal $may:expr, $must:expr;)* ]
        optional [ $($oname:ident $oregister:literal $omay:expr, $omust:expr, $bit:literal;)* ]
        fixed [ $($fname:ident $fregister:literal;)* ]
    ) => {
        /// Every system register, in the order of [`Frame::system`].
        pub const REGISTERS: &[Register] = &[
            $(Register { name: stringify!($name), may: $may, must: $must },)*
            $(Register { name: stringify!($oname), may: $omay, must: $omust },)*
            $(Register { name: stringify!($fname), may: 0, must: 0 },)*
        ];
        const WRITABLE: usize = [$($register,)* $($oregister,)*].len();
        tables!(@ 0usize, $($name)* $($oname)* $($fname)*);

        /// Which of the optional ones this CPU lets the lane have.
        fn find_optional() -> u64 {
            let mut has = 0;
            let mut bit = 1;
            $(
                // SAFETY: reads a field of PSTATE, or is undefined, which is caught.
                let there = call::caught(|| unsafe {
                    asm!(concat!("mrs {}, ", $oregister), out(reg) _, options(nostack, preserves_flags));
                });
                has |= if there.is_ok() { bit } else { 0 };
                bit <<= 1;
            )*
            let _ = bit;
            has
        }
    };
    (@ $number:expr, $first:ident $($rest:ident)*) => {
        #[doc = concat!("The number of ", stringify!($first), ".")]
        pub const $first: usize = $number;
        tables!(@ $number + 1, $($rest)*);
    };
    (@ $number:expr,) => {};
}

kept_registers!(tables);

/// SGIs from here on are counted together by [`pongs`] too.
pub const PING: u32 = 12;

/// The contents of every register.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// X0 to X30.
    pub x: [u64; 31],
    /// `SP_EL1`.
    pub sp: u64,
    /// V0 to V31, low half first.
    pub v: [u64; 64],
    /// The system registers.
    pub system: [u64; REGISTERS.len()],
}

impl Frame {
    /// All zero.
    pub const ZERO: Self = Self {
        x: [0; 31],
        sp: 0,
        v: [0; 64],
        system: [0; REGISTERS.len()],
    };
}

/// What a lane has while it gives its CPU away: the registers of this runtime, of the test, and what was found.
#[repr(C, align(4096))]
pub(crate) struct Kept {
    pub(crate) environment: Frame,
    pub(crate) want: Frame,
    pub(crate) got: Frame,
    pub(crate) has: u64,
    pub(crate) timers: u64,
    pub(crate) pongs: u64,
    pub(crate) sgis: [u64; 16],
}

/// A lane's own.
#[repr(transparent)]
pub(crate) struct Cell(UnsafeCell<Kept>);

// SAFETY: a lane touches its own element only, and through volatile accesses.
unsafe impl Sync for Cell {}

pub(crate) static KEPT: [Cell; MAX_LANES] = [const {
    Cell(UnsafeCell::new(Kept {
        environment: Frame::ZERO,
        want: Frame::ZERO,
        got: Frame::ZERO,
        has: 0,
        timers: 0,
        pongs: 0,
        sgis: [0; 16],
    }))
}; MAX_LANES];

/// How the CPU is given away. What a way needs in X0 to X7 is said with it; it leaves something else there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Not at all.
    Nothing,
    /// `WFI`.
    Wfi,
    /// `WFE`.
    Wfe,
    /// The call in X0 to X3.
    Hvc,
    /// Spinning until the counter jumps by more than X2, which is 0 then, or until it is beyond X3.
    Spin,
    /// Sending SGIs as X0 says until the counter is beyond X3.
    Storm,
    /// X4 times an SGI as X0 and X1 say in turns, each followed by waiting for one of the sibling's, which is counted at
    /// X2, or for the timer, counted at X3. X5: by `WFE` instead of `WFI`.
    Ping,
}

/// Bytes of the stack that a lane gives away with the rest.
const STACK: usize = 4096;

#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; STACK]>);

// SAFETY: only ever used as the stack of the lane whose number it has.
unsafe impl Sync for Stack {}

static STACKS: [Stack; MAX_LANES] = [const { Stack(UnsafeCell::new([0; STACK])) }; MAX_LANES];

unsafe extern "C" {
    fn tests_keep_nothing();
    fn tests_keep_wfi();
    fn tests_keep_wfe();
    fn tests_keep_hvc();
    fn tests_keep_spin();
    fn tests_keep_storm();
    fn tests_keep_ping();
    fn tests_keep_entry();
    static tests_keep_vectors: u8;
}

/// This lane's.
fn here() -> *mut Kept {
    let [first, ..] = &KEPT;
    KEPT.get(lane::number()).unwrap_or(first).0.get()
}

/// A field of it, by its offset.
fn field<T>(offset: usize) -> *mut T {
    here().wrapping_byte_add(offset).cast()
}

fn read<T: Copy>(offset: usize) -> T {
    // SAFETY: the callers name a field of `Kept` of this type; the element is the lane's own.
    unsafe { field::<T>(offset).read_volatile() }
}

fn write<T: Copy>(offset: usize, value: T) {
    // SAFETY: as for `read`.
    unsafe { field::<T>(offset).write_volatile(value) };
}

/// Fills every register with `want`, gives the CPU away, and reads every register back.
#[must_use]
pub fn give_away(way: Way, want: &Frame) -> Frame {
    let run: unsafe extern "C" fn() = match way {
        Way::Nothing => tests_keep_nothing,
        Way::Wfi => tests_keep_wfi,
        Way::Wfe => tests_keep_wfe,
        Way::Hvc => tests_keep_hvc,
        Way::Spin => tests_keep_spin,
        Way::Storm => tests_keep_storm,
        Way::Ping => tests_keep_ping,
    };
    write(offset_of!(Kept, want), *want);
    write(offset_of!(Kept, timers), 0u64);
    write(offset_of!(Kept, pongs), 0u64);
    // SAFETY: the routine keeps AAPCS64 and puts back every register that this runtime needs; the callers keep the MMU off,
    // and interrupts masked unless the vectors of `keep_asm` are in place.
    unsafe { run() };
    read(offset_of!(Kept, got))
}

/// A stack pointer for this lane: one of 128.
#[must_use]
pub fn stack_pointer(choice: u64) -> u64 {
    let [first, ..] = &STACKS;
    let stack = STACKS.get(lane::number()).unwrap_or(first).0.get();
    memory::address_of(stack) + 2048 + 16 * (choice % 128)
}

/// What this lane found at its first instruction, if nothing was given away since.
#[must_use]
pub fn found_at_entry() -> Frame {
    read(offset_of!(Kept, got))
}

/// Finds out which optional registers there are.
pub fn look_for_optional() {
    write(offset_of!(Kept, has), find_optional());
}

/// The address of the first of the four vector tables.
#[must_use]
pub fn vectors() -> u64 {
    memory::address_of(&raw const tests_keep_vectors)
}

/// Whether a register of this number is written, not only read.
#[must_use]
pub const fn is_written(number: usize) -> bool {
    number < WRITABLE
}

/// Where this lane's SGIs from [`PING`] on are counted during one [`give_away`], and where its timers are.
#[must_use]
pub fn counters() -> (u64, u64) {
    let address = |offset| memory::address_of(field::<u64>(offset));
    (
        address(offset_of!(Kept, pongs)),
        address(offset_of!(Kept, timers)),
    )
}

/// SGIs that this lane took while it gave its CPU away, since boot.
#[must_use]
pub fn sgis() -> u64 {
    let by_number: [u64; 16] = read(offset_of!(Kept, sgis));
    by_number.into_iter().fold(0, u64::wrapping_add)
}

/// Turns lane `n` on: it notes what its registers hold at its first instruction, then does `work(argument)` and turns
/// itself off. The answer is PSCI's.
pub fn start(n: usize, work: fn(u64), argument: u64) -> u64 {
    let (Some(kept), Some(lane)) = (KEPT.get(n), lane::of(n)) else {
        return u64::MAX;
    };
    lane.give_work(work, argument);
    let entry = memory::address_of_code(tests_keep_entry as *const ());
    sys::barrier();
    let number = u64::try_from(n).unwrap_or(0);
    let [status, ..] = call::hvc([id::CPU_ON, number, entry, memory::address_of(kept.0.get())]);
    status
}
