//! What a Linux guest is tested with where no program of a distribution does: files and disks against a model, what is
//! left of them when a guest ends at any moment, streams whose every byte is compared, and how long one operation takes.
//!
//! Each says in a line what it saw, and ends with 1 when it was not as it should be.

#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod commands;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    commands::main()
}

/// It is made for Linux guests; its own tests run where there is a Linux.
#[cfg(not(target_os = "linux"))]
fn main() {}
