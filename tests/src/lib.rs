//! End-to-end tests in QEMU.
#![forbid(unsafe_code)]
