//! XDV: the EL2 binary. Composition only.
//!
//! Here the pure crates meet: `domain-hv` says who is who, `stage2` maps, `vcpu` answers a guest's
//! exits, and the plan says what there is. What each of them decides is tested on the host; what is
//! left for this crate is to introduce them to each other and to the machine.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod alike;
mod boot;
mod build;
mod carry;
mod crew;
mod devices;
mod entropy;
mod fill;
#[cfg(debug_assertions)]
mod ghost;
mod house;
mod life;
mod operator;
mod report;
mod run;
mod seeds;
#[cfg(feature = "virtio")]
mod virtio;
mod vm;
mod watch;

hypervisor_arch::entry!(boot::main);
