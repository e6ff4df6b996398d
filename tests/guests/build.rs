//! Every binary here is one arm64 Image, laid out by the runtime's linker script.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../arch/guest.ld");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    // One flat image, mapped in one piece: there is no loader that could make a part of it read-only afterwards.
    println!("cargo:rustc-link-arg-bins=-znorelro");
    println!("cargo:rerun-if-changed={script}");
}
