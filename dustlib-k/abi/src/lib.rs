//! Numbers and layouts that EL2, the guest kernel and programs share.
//!
//! Of the project's own crates this is the only one on both sides of the boundary, so it holds what
//! both must agree on and nothing that only one of them needs: function identifiers, status codes,
//! and the way a request's fields travel in registers. Requests that arrive at EL2 are allegations;
//! the types here check only their shape (lengths, widths, reserved bits). Whether an address
//! belongs to the caller is for EL2 to prove.
//!
//! The calling convention is the SMC Calling Convention (Arm DEN0028), fast calls, owner 6 (vendor
//! specific hypervisor services): `x0` = function, arguments from `x1`, results from `x0`.

#![no_std]
#![forbid(unsafe_code)]

pub mod call;
pub mod console;
pub mod exit;
pub mod hvc;
mod status;
pub mod version;

pub use call::Call;
pub use console::ConsoleWrite;
pub use exit::ExitCode;
pub use status::Status;
pub use version::{Features, Version};
