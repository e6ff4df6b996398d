//! The vector registers, which nothing of these guests uses: what is in them stays, unless somebody else changes it.

use core::arch::asm;

/// V0 to V31, low halves first.
pub type Vectors = [u64; 64];

/// Fills all of them.
pub fn fill(with: &Vectors) {
    // SAFETY: loads the bytes of the array; code compiled without FP and SIMD keeps nothing in these registers.
    unsafe {
        asm!(
            ".arch_extension fp", ".arch_extension simd",
            "ld1 {{v0.2d, v1.2d, v2.2d, v3.2d}}, [{0}], #64",
            "ld1 {{v4.2d, v5.2d, v6.2d, v7.2d}}, [{0}], #64",
            "ld1 {{v8.2d, v9.2d, v10.2d, v11.2d}}, [{0}], #64",
            "ld1 {{v12.2d, v13.2d, v14.2d, v15.2d}}, [{0}], #64",
            "ld1 {{v16.2d, v17.2d, v18.2d, v19.2d}}, [{0}], #64",
            "ld1 {{v20.2d, v21.2d, v22.2d, v23.2d}}, [{0}], #64",
            "ld1 {{v24.2d, v25.2d, v26.2d, v27.2d}}, [{0}], #64",
            "ld1 {{v28.2d, v29.2d, v30.2d, v31.2d}}, [{0}]",
            ".arch_extension nosimd", ".arch_extension nofp",
            inout(reg) with.as_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
}

/// What is in them.
#[must_use]
pub fn read() -> Vectors {
    let mut found = [0; 64];
    // SAFETY: stores as many bytes as the array has.
    unsafe {
        asm!(
            ".arch_extension fp", ".arch_extension simd",
            "st1 {{v0.2d, v1.2d, v2.2d, v3.2d}}, [{0}], #64",
            "st1 {{v4.2d, v5.2d, v6.2d, v7.2d}}, [{0}], #64",
            "st1 {{v8.2d, v9.2d, v10.2d, v11.2d}}, [{0}], #64",
            "st1 {{v12.2d, v13.2d, v14.2d, v15.2d}}, [{0}], #64",
            "st1 {{v16.2d, v17.2d, v18.2d, v19.2d}}, [{0}], #64",
            "st1 {{v20.2d, v21.2d, v22.2d, v23.2d}}, [{0}], #64",
            "st1 {{v24.2d, v25.2d, v26.2d, v27.2d}}, [{0}], #64",
            "st1 {{v28.2d, v29.2d, v30.2d, v31.2d}}, [{0}]",
            ".arch_extension nosimd", ".arch_extension nofp",
            inout(reg) found.as_mut_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
    found
}
