//! The XDV guest kernel: a small SMP kernel at EL1.
//!
//! This crate composes: `guest-kernel-core` decides, `guest-kernel-arch` does, and here they are
//! introduced to each other. It runs under XDV, and just as well alone on QEMU's `virt` machine,
//! where the UART takes the place of XDV's console.

#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod boot;
mod last_words;
mod ports;
mod program;
mod shared;
mod virtio;

use core::panic::PanicInfo;
use guest_kernel_arch::exception::Report;
use guest_kernel_arch::{Kernel, cpu, power, timer};
use guest_kernel_core::interrupt::{Interrupt, pong_sgi};
use shared::{LANES, SHARED};

struct GuestKernel;

guest_kernel_arch::kernel!(GuestKernel);

impl Kernel for GuestKernel {
    fn first_lane(tree: &'static [u8]) -> ! {
        boot::first_lane(tree)
    }

    fn secondary_lane(lane: usize) -> ! {
        match SHARED.get() {
            Some(shared) => program::secondary_lane(shared, lane),
            // Lanes are started after `SHARED` is set.
            None => power::cpu_off(),
        }
    }

    fn interrupt(intid: u32) {
        let me = cpu::lane();
        let (Some(shared), Some(lane)) = (SHARED.get(), LANES.lane(me)) else {
            return;
        };
        match Interrupt::from_intid(intid, shared.machine.timer_intid) {
            Interrupt::Ping(from) => {
                lane.mailbox.ping_from(from);
                shared.send(pong_sgi(me), from);
            }
            Interrupt::Pong(from) => lane.mailbox.pong_from(from),
            Interrupt::Timer => {
                lane.ticks.arrived(timer::now());
                // The interrupt is level-triggered: it must go before it can be ended.
                timer::disarm();
            }
            Interrupt::Unexpected(intid) => {
                if !virtio::note(&shared.machine, intid) {
                    LANES.note_unexpected(intid);
                }
            }
        }
    }

    fn fatal(report: &Report<'_>) -> ! {
        last_words::exception(report)
    }

    fn panic(info: &PanicInfo<'_>) -> ! {
        last_words::panic(info)
    }
}
