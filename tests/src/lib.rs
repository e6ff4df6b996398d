//! Drives whole machines in QEMU the way a person does, through `cargo xtask`, and judges what they print.
//!
//! The quick set is what `cargo test -p tests` runs. `XDV_MATRIX=full` runs every one of them on every CPU model, profile and QEMU it
//! names. `XDV_BLESS=1` writes the goldens anew. `XDV_XTASK` and `XDV_QEMU` name the program and the emulator to use.
#![forbid(unsafe_code)]

pub mod archive;
pub mod elf;
pub mod golden;
pub mod gpt;
pub mod machine;
pub mod matrix;
pub mod operated;
pub mod transcript;
