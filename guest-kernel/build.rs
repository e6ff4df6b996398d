//! Hands the linker the image's layout.

use std::env;

fn main() {
    let manifest = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=arch/image.ld");
    println!("cargo:rustc-link-arg-bins=-T{manifest}/arch/image.ld");
}
