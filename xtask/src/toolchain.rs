//! The Rust side of what is needed: a bare-metal target, and one for programs that Linux guests are tested with.
//!
//! Where rustup's auto-install is off, a toolchain file installs nothing, and one naming a toolchain the
//! machine lacks would keep even this program from starting. So there is none, and targets are added here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::process;

/// EL2 and the guests' kernels: no FP or SIMD instruction is emitted, so guest FP state is safe until switched on purpose.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// Programs for Linux guests: linked with what the target brings along, they need no library and no linker of the host's.
pub const LINUX_TARGET: &str = "aarch64-unknown-linux-musl";

/// The cargo that runs us, so that every build uses the same toolchain; our own where the one that runs us works for
/// another project.
pub fn cargo() -> Command {
    tool("CARGO", "cargo")
}

/// Where the compiler and what belongs to it are installed.
pub fn sysroot() -> anyhow::Result<PathBuf> {
    let sysroot = process::output_of(rustc().args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(sysroot.trim()))
}

/// Whether the compiler has a target's standard library.
pub fn has_target(target: &str) -> anyhow::Result<bool> {
    Ok(sysroot()?
        .join("lib/rustlib")
        .join(target)
        .join("lib")
        .is_dir())
}

/// The compiler that belongs to our cargo.
fn rustc() -> Command {
    tool("RUSTC", "rustc")
}

/// What belongs to the toolchain, in our own folder: elsewhere another project may have chosen another toolchain.
///
/// Where we are its runner, that project's cargo (and rustup) have told us besides what holds for that project alone.
fn tool(variable: &str, name: &str) -> Command {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let caller = std::env::var_os("CARGO_MANIFEST_DIR");
    // `cargo xtask` and the tests are called by our own cargo, and a person calls us by none.
    let is_runner = caller
        .zip(ours.parent())
        .is_some_and(|(caller, root)| !Path::new(&caller).starts_with(root));
    let said = std::env::var_os(variable).filter(|_| !is_runner);
    let mut command = Command::new(said.unwrap_or_else(|| name.into()));
    command.current_dir(ours);
    if is_runner {
        let of_project = std::env::vars_os().map(|(variable, _)| variable);
        for variable in of_project.filter(|one| one.to_str().is_some_and(is_of_a_project)) {
            command.env_remove(variable);
        }
    }
    command
}

/// Whether a variable says what holds for one project: its toolchain, its target, its flags, and what cargo and rustup
/// tell the programs they start.
fn is_of_a_project(variable: &str) -> bool {
    let kept = ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_TERM_COLOR"];
    let starts = [
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_UNSTABLE_",
    ];
    let whole = [
        "CARGO",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MANIFEST_DIR",
        "RUSTC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ];
    !kept.contains(&variable)
        && (whole.contains(&variable) || starts.iter().any(|start| variable.starts_with(start)))
}

/// Adds a target where it is missing.
pub fn ensure(target: &str) -> anyhow::Result<()> {
    if has_target(target)? {
        return Ok(());
    }
    if process::which("rustup").is_none() {
        bail!(
            "the Rust target {target} is missing and there is no rustup to add it.\n\
             Install Rust with rustup (https://rustup.rs), or install your distribution's package of that target's standard library"
        );
    }
    process::fetching(
        &format!("adding the Rust target {target}"),
        tool("RUSTUP", "rustup").args(["target", "add", target]),
    )?;
    if !has_target(target)? {
        bail!(
            "`rustup target add {target}` ended well, but this toolchain ({}) still lacks it",
            process::output_of(rustc().arg("--version"))?.trim()
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
    process::fetching(
        &format!("adding {component}"),
        tool("RUSTUP", "rustup").args(["component", "add", component]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_project_says_of_itself_is_not_for_us() {
        for theirs in [
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUNNER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(is_of_a_project(theirs), "{theirs}");
        }
        for everybodys in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_NET_OFFLINE",
            "PATH",
        ] {
            assert!(!is_of_a_project(everybodys), "{everybodys}");
        }
    }
}
