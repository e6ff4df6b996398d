//! Addresses that cannot be confused: guest IPAs, host physical addresses, page counts.
//!
//! A hypervisor that passes addresses as `usize` sooner or later hands a guest's address to the machine. Here
//! [`Ipa`] (what a guest calls physical) and [`HostPhys`] (what the memory bus calls physical) are different types
//! with private fields, and arithmetic that could leave the address space returns an `Option`. Ranges are proven when
//! they are made: a [`Region`] is never empty, never misaligned and never wraps, so nobody downstream asks again.
#![no_std]
#![forbid(unsafe_code)]

mod address;
mod region;
mod span;

pub use address::{Address, HostPhys, Ipa, PageCount};
pub use region::{HostRegion, IpaRegion, Region, RegionError};
pub use span::{Span, SpanError};

/// The translation granule used throughout: 4 KiB.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
