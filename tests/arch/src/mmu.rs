//! A flat stage-1 map, for the probes that must reach stage 2: with the MMU off every access is Device memory, and stage 1
//! itself would answer a misaligned one or a `DC ZVA` (DDI 0487 D8.2.9).
//!
//! VA = IPA for the first TiB: Normal for RAM, Device for the rest. [`normal`] is the same TiB once more, Normal throughout.

use core::arch::asm;
use core::cell::UnsafeCell;

use crate::memory;

const ENTRIES: usize = 512;
const TIB: u64 = 1 << 40;
const GIB: u64 = 1 << 30;

#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; ENTRIES]>);

// SAFETY: written by lane 0 before the MMU is on, read by the hardware only afterwards.
unsafe impl Sync for Table {}

static LEVEL0: Table = Table(UnsafeCell::new([0; ENTRIES]));
static LEVEL1: [Table; 4] = [const { Table(UnsafeCell::new([0; ENTRIES])) }; 4];

/// Block, valid, accessed, inner shareable; MAIR index 0 = Device, 1 = Normal.
const DEVICE: u64 = 0b01 | 1 << 10 | 3 << 8;
const NORMAL: u64 = DEVICE | 1 << 2;

/// The address whose access is Normal memory at this IPA (below 1 TiB).
#[must_use]
pub const fn normal(ipa: u64) -> u64 {
    ipa.wrapping_add(TIB)
}

fn fill(table: &Table, entry: impl Fn(u64) -> u64) {
    let entries = table.0.get().cast::<u64>();
    for (slot, index) in (0..ENTRIES).zip(0..) {
        let value = entry(index);
        // SAFETY: `slot` < 512, inside the table; see `Sync`.
        unsafe { entries.wrapping_add(slot).write_volatile(value) };
    }
}

/// Makes the map and switches the MMU on for this lane. `ram_end` = first address behind this guest's RAM.
pub fn enable(ram_end: u64) {
    let ram = GIB..ram_end.next_multiple_of(GIB);
    for (table, number) in LEVEL1.iter().zip(0..) {
        let alias = number >= 2;
        let base = (number % 2) * (TIB / 2);
        fill(table, |index| {
            let ipa = base + index * GIB;
            ipa | if alias || ram.contains(&ipa) {
                NORMAL
            } else {
                DEVICE
            }
        });
    }
    fill(&LEVEL0, |index| {
        usize::try_from(index)
            .ok()
            .and_then(|index| LEVEL1.get(index))
            .map_or(0, |table| memory::address_of(table.0.get()) | 0b11)
    });
    // T0SZ 16, write-back inner-shareable walks, 4 KiB, no TTBR1, 40-bit IPA.
    let tcr: u64 = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32;
    // SAFETY: the map is the identity for everything this image uses, so nothing moves under Rust's feet.
    unsafe {
        asm!(
            "dsb sy",
            "msr mair_el1, {mair}",
            "msr tcr_el1, {tcr}",
            "msr ttbr0_el1, {root}",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            "mrs {scratch}, sctlr_el1",
            "orr {scratch}, {scratch}, #1",
            "orr {scratch}, {scratch}, #4",
            "orr {scratch}, {scratch}, #0x1000",
            "bic {scratch}, {scratch}, #2",
            "msr sctlr_el1, {scratch}",
            "isb",
            mair = in(reg) 0xff04u64,
            tcr = in(reg) tcr,
            root = in(reg) memory::address_of(LEVEL0.0.get()),
            scratch = out(reg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// Gives the upper half of the address space a root and a control of its own: `control` is the upper half of TCR_EL1's
/// first word (T1SZ, EPD1, IRGN1, ORGN1, SH1 and TG1, from bit 0 up), `tagged` its TBI1. The lower half, where this image
/// is, stays as it is.
pub fn upper(root: u64, control: u64, tagged: bool) {
    // SAFETY: nothing of this image is in the upper half.
    unsafe {
        asm!(
            "dsb sy",
            "mrs {scratch}, tcr_el1",
            "bfi {scratch}, {control}, #16, #16",
            "bfi {scratch}, {tagged}, #38, #1",
            "msr ttbr1_el1, {root}",
            "msr tcr_el1, {scratch}",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            control = in(reg) control,
            tagged = in(reg) u64::from(tagged),
            root = in(reg) root,
            scratch = out(reg) _,
            options(nostack, preserves_flags)
        );
    }
}
