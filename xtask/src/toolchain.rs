//! The Rust side of what is needed: one bare-metal target.
//!
//! Where rustup's auto-install is off, a toolchain file installs nothing, and one naming a toolchain the
//! machine lacks would keep even this program from starting. So there is none, and the target is added here.

use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;

use crate::process;

/// EL2 and the guests' kernels: no FP or SIMD instruction is emitted, so guest FP state is safe until switched on purpose.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// The cargo that runs us, so that every build uses the same toolchain.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Where the compiler and what belongs to it are installed.
pub fn sysroot() -> anyhow::Result<PathBuf> {
    let sysroot = process::output_of(Command::new(rustc()).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(sysroot.trim()))
}

/// Whether the compiler has the target's standard library.
pub fn has_target() -> anyhow::Result<bool> {
    Ok(sysroot()?
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib")
        .is_dir())
}

/// The compiler that belongs to our cargo.
fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// Adds the target where it is missing.
pub fn ensure() -> anyhow::Result<()> {
    if has_target()? {
        return Ok(());
    }
    if process::which("rustup").is_none() {
        bail!(
            "the Rust target {TARGET} is missing and there is no rustup to add it.\n\
             Install Rust with rustup (https://rustup.rs), or install your distribution's package of that target's standard library"
        );
    }
    process::under_step(
        &format!("adding the Rust target {TARGET}"),
        Command::new("rustup").args(["target", "add", TARGET]),
    )?;
    if !has_target()? {
        bail!(
            "`rustup target add {TARGET}` ended well, but this toolchain ({}) still lacks it",
            process::output_of(Command::new(rustc()).arg("--version"))?.trim()
        );
    }
    Ok(())
}

/// Adds a component of the toolchain (`cargo fmt`, `cargo clippy`) where it is missing.
pub fn ensure_component(subcommand: &str, component: &str) -> anyhow::Result<()> {
    if process::output_of(cargo().args([subcommand, "--version"])).is_ok() {
        return Ok(());
    }
    if process::which("rustup").is_none() {
        bail!(
            "`cargo {subcommand}` is missing and there is no rustup to add it; install your distribution's {component}"
        );
    }
    process::under_step(
        &format!("adding {component}"),
        Command::new("rustup").args(["component", "add", component]),
    )
}
