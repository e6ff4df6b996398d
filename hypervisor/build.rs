//! Links EL2 by the script of its arch crate, which lays out sections by permission.

use std::path::PathBuf;

fn main() {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let script = folder.join("arch/image.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
    // We relocate ourselves and map read-only what is; the linker need not arrange a segment for a loader that does.
    println!("cargo:rustc-link-arg-bins=-znorelro");
    // 8 bytes say what takes 24 each otherwise.
    println!("cargo:rustc-link-arg-bins=--pack-dyn-relocs=relr");
    println!("cargo:rustc-link-arg-bins=--no-eh-frame-hdr");
}
