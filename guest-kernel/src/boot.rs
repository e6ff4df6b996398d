//! From the device tree to the built-in program, on the first lane.

use crate::last_words::refuse;
use crate::program;
use crate::shared::{SHARED, Shared};
use arrayvec::ArrayVec;
use guest_kernel_arch::{console, cpu, gic, mmu, say, virtio, xdv};
use guest_kernel_core::check::BAD_COMMAND_LINE;
use guest_kernel_core::machine::{Conduit, Machine};
use guest_kernel_core::options::{Level, Options};
use guest_kernel_core::pattern::Pattern;

/// Until the MMU is on, only plain loads and stores: no locks, no `Once`.
pub fn first_lane(tree: &'static [u8]) -> ! {
    let mut machine = Machine::from_fdt(tree).unwrap_or_else(|error| {
        // Nobody has said how to call; XDV at least can be asked.
        xdv::detect(Conduit::Hvc);
        refuse(format_args!("{error}"))
    });
    xdv::detect(machine.conduit);
    put_this_cpu_first(&mut machine);
    let (mut free, window) =
        mmu::turn_on(&machine, tree).unwrap_or_else(|error| refuse(format_args!("{error}")));
    console::use_uart(machine.uart);
    let command_line = machine.command_line;
    let options = Options::parse(command_line).unwrap_or_else(|bad| {
        say!("{bad}");
        crate::last_words::leave(BAD_COMMAND_LINE)
    });
    gic::init(&machine).unwrap_or_else(|error| refuse(format_args!("{error}")));
    let slots = if options.virtio.is_empty() {
        ArrayVec::new()
    } else {
        virtio::slots(&machine, &mut free)
    };
    let pattern = Pattern::new(machine.name, options.level == Level::Full);
    let shared = SHARED.call_once(|| Shared {
        machine,
        tree,
        options,
        free,
        pattern,
    });
    gic::init_lane(shared.machine.timer_intid)
        .unwrap_or_else(|error| refuse(format_args!("{error}")));
    cpu::unmask();
    program::first_lane(shared, window, slots)
}

/// Lane 0 is the CPU that runs first, wherever the tree lists it.
fn put_this_cpu_first(machine: &mut Machine<'_>) {
    let me = cpu::affinity();
    match machine.cpus.iter().position(|cpu| *cpu == me) {
        Some(index) => machine.cpus.swap(0, index),
        None => refuse(format_args!("this CPU is not in the device tree")),
    }
}
