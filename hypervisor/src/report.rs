//! What a person reads when something ends.

use core::fmt::{self, Write};

use arrayvec::ArrayString;
use domain_hv::lifecycle::MachineState;
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::{power, say, timer};
use vcpu::inject::El1Regs;
use vcpu::lane::Vcpu;
use vcpu::psci::State;

use crate::house::House;
use crate::vm::{Seat, Seen, Vm};

/// How long the boot CPU waits for the other lanes to say where they are, in parts of a second.
const PATIENCE: u64 = 4;

/// How many of a lane's last exits a report shows.
const SHOWN: usize = 8;

/// The number of what crews have looked at by themselves, before anybody asked for a look around.
pub const BEFORE_ANY: u64 = 1;

/// The longest report of one machine's lanes.
type Words = ArrayString<400>;

/// Shows a lane's last exits, oldest first.
pub fn last_exits(lane: &Vcpu<'static>) {
    let trace = &lane.trace;
    let skip = trace.iter().count().saturating_sub(SHOWN);
    say!(
        "  lane {} after {} exits, the last of them:",
        lane.index(),
        trace.count()
    );
    for record in trace.iter().skip(skip) {
        match record.interrupt() {
            Some(intid) => say!("    interrupt {intid} at pc {:#x}", record.pc),
            None => say!("    esr {:#010x} at pc {:#x}", record.cause, record.pc),
        }
    }
}

/// Says where a machine's lanes were when their CPUs last looked.
pub fn lanes(vm: &Vm) {
    let words = describe_all(vm, BEFORE_ANY);
    say!("  {words}");
}

fn describe_all(vm: &Vm, number: u64) -> Words {
    let mut words = Words::new();
    for lane in 0..vm.seats.len() {
        // Too many words are cut, not fatal.
        let _ = describe(&mut words, vm, lane, number);
    }
    words
}

/// Notes where a lane is, whose world is in this CPU or not, and for how long it has run.
pub fn look(seat: &Seat, number: u64, lane: &Vcpu<'static>, resident: bool, ran: u64) {
    let vbar = if resident {
        ThisCpu.vbar()
    } else {
        lane.el1.vbar_el1
    };
    seat.look.note(
        number,
        Seen {
            pc: lane.context.elr,
            pstate: lane.context.spsr,
            vbar,
            ran,
            exits: lane.trace.by_reason(),
        },
    );
}

/// The run is over: says what every machine that still runs is doing, and switches off.
pub fn deadline(house: &'static House, number: u64) -> ! {
    let running = || house.vms.iter().filter(|vm| !vm.life.state().is_over());
    wait_for(house, number, timer::frequency() / PATIENCE);
    for vm in running() {
        vm.flush();
        let state = vm.life.state();
        let words = match state {
            MachineState::Running => describe_all(vm, number),
            MachineState::Building
            | MachineState::Paused
            | MachineState::Leaving
            | MachineState::Waiting
            | MachineState::Held
            | MachineState::Stopped => {
                let mut words = Words::new();
                let _ = write!(words, "{state}");
                words
            }
        };
        say!(
            "guest {}: still running after {} ms: {words}",
            vm.name,
            house.deadline_ms.unwrap_or(0)
        );
    }
    power::off()
}

/// Waits until every CPU has taken part in a look around, for so many ticks at most.
pub fn wait_for(house: &'static House, number: u64, ticks: u64) {
    let until = timer::now().saturating_add(ticks);
    let has_looked = |seat: &Seat| seat.look.get(number).is_some();
    let answered = || house.vms.iter().all(|vm| vm.seats.iter().all(has_looked));
    while !answered() && timer::now() < until {
        // YIELD, not only ISB: an emulator that runs one CPU at a time then turns to the others.
        vcpu::vgic::VirtGic::relax(&mut ThisCpu);
    }
}

fn is_on(vm: &Vm, lane: usize) -> bool {
    vm.machine.power.state(lane) != State::Off
}

/// Bits 9:6 of PSTATE: D, A, I and F.
const INTERRUPTS_MASKED: u64 = 1 << 7;
/// A vector table's length.
const VECTORS: u64 = 0x800;

fn describe(words: &mut Words, vm: &Vm, lane: usize, number: u64) -> fmt::Result {
    let comma = if words.is_empty() { "" } else { ", " };
    write!(words, "{comma}lane {lane} ")?;
    let look = vm.seats.get(lane).and_then(|seat| seat.look.get(number));
    match (is_on(vm, lane), look) {
        (false, _) => write!(words, "off"),
        (true, None) => write!(words, "did not answer"),
        (true, Some(Seen { pc, vbar, .. })) if pc.wrapping_sub(vbar) < VECTORS => {
            write!(words, "in its own exception vectors at pc {pc:#x}")
        }
        (true, Some(Seen { pc, pstate, .. })) if pstate & INTERRUPTS_MASKED != 0 => {
            write!(words, "at pc {pc:#x} with interrupts masked")
        }
        (true, Some(Seen { pc, .. })) => write!(words, "at pc {pc:#x}"),
    }
}
