//! Memory that guests or devices change at any moment, as EL2 reaches it: by copying, to and from any address.
//!
//! Ordinary Rust references into such memory would be unsound, and byte-wise volatile copies slow. Here the bytes are
//! moved by assembly, which the compiler cannot look into: what somebody else changes meanwhile is copied as it is found.

use core::arch::asm;
use core::ptr;

use stage2_addr::Ipa;
use virtio::GuestMemory;

use crate::memory::GuestRam;

/// A range of memory under the addresses that its owner has for it.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Its first byte, for EL2, which maps it for good.
    base: u64,
    /// The same for its owner.
    first: u64,
    bytes: u64,
}

impl Reach {
    /// A guest's RAM, which begins at `first` for the guest, or RAM of a disk's, which begins at 0.
    #[must_use]
    pub fn guest(ram: &GuestRam, first: Ipa) -> Self {
        let region = ram.region();
        Self {
            base: region.base().raw(),
            first: first.raw(),
            bytes: region.bytes(),
        }
    }

    /// The address of `len` bytes at `at`, if all of them are inside.
    #[inline(always)]
    fn at(&self, at: Ipa, len: u64) -> Option<*mut u8> {
        let offset = at.raw().wrapping_sub(self.first);
        if offset > self.bytes || len > self.bytes - offset {
            return None;
        }
        // Cannot wrap: the range is inside memory.
        let address = self.base.wrapping_add(offset);
        Some(ptr::with_exposed_provenance_mut(
            usize::try_from(address).ok()?,
        ))
    }
}

/// Copies bytes that nobody has a reference into.
///
/// # Safety
/// Both ranges are mapped, and EL2 may read the one and write the other.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, len: u64) {
    // SAFETY: the caller's. Normal memory takes any address and width; `__copy_any` changes the registers named, and of the
    // guest's vector registers none in the end. CPTR_EL2 does not trap these at EL2 (`world::configure`).
    unsafe {
        asm!(
            "bl __copy_any",
            inout("x0") to => _, inout("x1") from => _, inout("x2") len => _,
            out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x30") _,
        );
    }
}

core::arch::global_asm!(
    r#"
    // Only while the MMU is on: the addresses have no alignment.
    //
    // The vector registers are the guest's. Eight of them wait on the stack while they carry 256 bytes in eighteen
    // instructions; general registers would take 34. No guest has SVE, whose registers would lose their upper parts by this.
    .pushsection .text.asm, "ax"
    .arch_extension fp
    .arch_extension simd
    .balign 16
    .global __copy_any
__copy_any:
    subs    x2, x2, #256
    b.lo    2f
    stp     q0, q1, [sp, #-128]!
    stp     q2, q3, [sp, #32]
    stp     q4, q5, [sp, #64]
    stp     q6, q7, [sp, #96]
1:  ldp     q0, q1, [x1, #32]
    ldp     q2, q3, [x1, #64]
    ldp     q4, q5, [x1, #96]
    ldp     q6, q7, [x1, #128]
    stp     q0, q1, [x0, #32]
    stp     q2, q3, [x0, #64]
    stp     q4, q5, [x0, #96]
    stp     q6, q7, [x0, #128]
    ldp     q0, q1, [x1, #160]
    ldp     q2, q3, [x1, #192]
    ldp     q4, q5, [x1, #224]
    ldp     q6, q7, [x1], #256
    stp     q0, q1, [x0, #160]
    stp     q2, q3, [x0, #192]
    stp     q4, q5, [x0, #224]
    stp     q6, q7, [x0], #256
    subs    x2, x2, #256
    b.hs    1b
    ldp     q6, q7, [sp, #96]
    ldp     q4, q5, [sp, #64]
    ldp     q2, q3, [sp, #32]
    ldp     q0, q1, [sp], #128
    // The low eight bits still say how many are left.
2:  tst     x2, #255
    b.eq    8f
    tbz     x2, #7, 3f
    ldp     x3, x4, [x1, #16]
    ldp     x5, x6, [x1, #32]
    ldp     x7, x8, [x1, #48]
    ldp     x9, x10, [x1, #64]
    stp     x3, x4, [x0, #16]
    stp     x5, x6, [x0, #32]
    stp     x7, x8, [x0, #48]
    stp     x9, x10, [x0, #64]
    ldp     x3, x4, [x1, #80]
    ldp     x5, x6, [x1, #96]
    ldp     x7, x8, [x1, #112]
    ldp     x9, x10, [x1], #128
    stp     x3, x4, [x0, #80]
    stp     x5, x6, [x0, #96]
    stp     x7, x8, [x0, #112]
    stp     x9, x10, [x0], #128
3:  tbz     x2, #6, 3f
    ldp     x3, x4, [x1], #16
    ldp     x5, x6, [x1], #16
    ldp     x7, x8, [x1], #16
    ldp     x9, x10, [x1], #16
    stp     x3, x4, [x0], #16
    stp     x5, x6, [x0], #16
    stp     x7, x8, [x0], #16
    stp     x9, x10, [x0], #16
3:  tbz     x2, #5, 3f
    ldp     x3, x4, [x1], #16
    ldp     x5, x6, [x1], #16
    stp     x3, x4, [x0], #16
    stp     x5, x6, [x0], #16
3:  tbz     x2, #4, 4f
    ldp     x3, x4, [x1], #16
    stp     x3, x4, [x0], #16
4:  tbz     x2, #3, 5f
    ldr     x3, [x1], #8
    str     x3, [x0], #8
5:  tbz     x2, #2, 6f
    ldr     w3, [x1], #4
    str     w3, [x0], #4
6:  tbz     x2, #1, 7f
    ldrh    w3, [x1], #2
    strh    w3, [x0], #2
7:  tbz     x2, #0, 8f
    ldrb    w3, [x1]
    strb    w3, [x0]
8:  ret
    .arch_extension nosimd
    .arch_extension nofp
    .popsection
    "#
);

/// Loads and stores of one width, at once where the address is aligned (Arm ARM B2.2.1).
macro_rules! number {
    ($load:ident, $store:ident, $type:ty, $ldr:literal, $str:literal) => {
        #[inline(always)]
        fn $load(&self, at: Ipa) -> Option<$type> {
            let from = self.at(at, size_of::<$type>() as u64)?;
            let value: $type;
            // SAFETY: mapped RAM; assembly, as somebody else may write it now.
            unsafe {
                asm!($ldr, out(reg) value, in(reg) from, options(nostack, preserves_flags, readonly));
            }
            Some(value)
        }

        #[inline(always)]
        fn $store(&self, at: Ipa, value: $type) -> Option<()> {
            let to = self.at(at, size_of::<$type>() as u64)?;
            // SAFETY: mapped RAM that no reference covers.
            unsafe {
                asm!($str, in(reg) value, in(reg) to, options(nostack, preserves_flags));
            }
            Some(())
        }
    };
}

impl GuestMemory for Reach {
    #[inline(always)]
    fn contains(&self, at: Ipa, len: u64) -> bool {
        self.at(at, len).is_some()
    }

    #[inline]
    fn read(&self, at: Ipa, into: &mut [u8]) -> Option<()> {
        let from = self.at(at, into.len() as u64)?;
        // SAFETY: mapped RAM inside the range; `into` is EL2's own.
        unsafe { copy(from, into.as_mut_ptr(), into.len() as u64) };
        Some(())
    }

    #[inline]
    fn write(&self, at: Ipa, bytes: &[u8]) -> Option<()> {
        let to = self.at(at, bytes.len() as u64)?;
        // SAFETY: mapped RAM inside the range, which no reference covers; `bytes` is EL2's own.
        unsafe { copy(bytes.as_ptr(), to, bytes.len() as u64) };
        Some(())
    }

    #[inline(always)]
    fn copy(&self, from: Ipa, other: &Self, to: Ipa, len: u32) -> Option<()> {
        let from = self.at(from, u64::from(len))?;
        let to = other.at(to, u64::from(len))?;
        // SAFETY: mapped RAM inside both ranges, which no reference covers but shared ones of who only reads.
        unsafe { copy(from, to, u64::from(len)) };
        Some(())
    }

    number!(
        load_u16,
        store_u16,
        u16,
        "ldrh {0:w}, [{1}]",
        "strh {0:w}, [{1}]"
    );
    number!(
        load_u32,
        store_u32,
        u32,
        "ldr {0:w}, [{1}]",
        "str {0:w}, [{1}]"
    );
    number!(load_u64, store_u64, u64, "ldr {0}, [{1}]", "str {0}, [{1}]");

    #[inline(always)]
    fn store_u8(&self, at: Ipa, value: u8) -> Option<()> {
        let to = self.at(at, 1)?;
        // SAFETY: mapped RAM that no reference covers.
        unsafe {
            asm!("strb {0:w}, [{1}]", in(reg) value, in(reg) to, options(nostack, preserves_flags))
        };
        Some(())
    }

    #[inline(always)]
    fn load_pair(&self, at: Ipa) -> Option<[u64; 2]> {
        let from = self.at(at, 16)?;
        let (first, second): (u64, u64);
        // SAFETY: mapped RAM; assembly, as somebody else may write it now.
        unsafe {
            asm!(
                "ldp {0}, {1}, [{2}]",
                out(reg) first, out(reg) second, in(reg) from,
                options(nostack, preserves_flags, readonly),
            );
        }
        Some([first, second])
    }

    #[inline(always)]
    fn load_quad(&self, at: Ipa) -> Option<[u64; 4]> {
        let from = self.at(at, 32)?;
        let (first, second, third, fourth): (u64, u64, u64, u64);
        // SAFETY: mapped RAM; assembly, as somebody else may write it now.
        unsafe {
            asm!(
                "ldp {0}, {1}, [{4}]",
                "ldp {2}, {3}, [{4}, #16]",
                out(reg) first, out(reg) second, lateout(reg) third, lateout(reg) fourth, in(reg) from,
                options(nostack, preserves_flags, readonly),
            );
        }
        Some([first, second, third, fourth])
    }

    #[inline(always)]
    fn store_quad(&self, at: Ipa, values: [u64; 4]) -> Option<()> {
        let to = self.at(at, 32)?;
        let [first, second, third, fourth] = values;
        // SAFETY: mapped RAM that no reference covers.
        unsafe {
            asm!(
                "stp {0}, {1}, [{4}]",
                "stp {2}, {3}, [{4}, #16]",
                in(reg) first, in(reg) second, in(reg) third, in(reg) fourth, in(reg) to,
                options(nostack, preserves_flags),
            );
        }
        Some(())
    }

    #[inline(always)]
    fn acquire(&self) {
        // SAFETY: a barrier.
        unsafe { asm!("dmb ishld", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn release(&self) {
        // SAFETY: a barrier.
        unsafe { asm!("dmb ish", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn fence(&self) {
        // SAFETY: a barrier.
        unsafe { asm!("dmb ish", options(nostack, preserves_flags)) };
    }
}
