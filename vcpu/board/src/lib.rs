//! The machine a guest sees: its address map, its UART and clock, and the way its console bytes become lines.
//!
//! Why a crate of its own: these are values and state machines without any notion of a virtual CPU. The map is that of
//! QEMU's `virt` machine, so that what boots there boots here.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod console;
mod firmware;
pub mod flash;
pub mod fw_cfg;
mod map;
pub mod pl011;
pub mod pl031;
pub mod ring;
pub mod virtio;

pub use firmware::Firmware;
pub use map::{
    Board, Device, FLASH_BASE, FLASH_SIZE, FW_CFG_BASE, FW_CFG_SIZE, GICD_BASE, GICD_SIZE,
    GICR_BASE, GICR_STRIDE, MAX_LANES, PL011_BASE, PL011_SIZE, PL011_SPI, PL031_BASE, PL031_SIZE,
    PL031_SPI, Place, RAM_BASE, VARIABLES_BASE, VIRTIO_BASE, VIRTIO_SLOTS, VIRTIO_SPI,
    VIRTIO_STRIDE,
};
