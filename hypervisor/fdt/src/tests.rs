//! Trees that QEMU makes are read; trees that nobody should make are refused by name; no bytes at all make EL2 panic.

mod build;
mod devices;
mod given;
mod header;
mod mutate;
mod nodes;
mod qemu;
mod seeds;
mod virtio;
