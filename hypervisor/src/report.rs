//! What a person reads when something ends.

use core::fmt::{self, Write};

use arrayvec::ArrayString;
use domain_hv::lifecycle::MachineState;
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::{power, say, timer, world};
use stage2_addr::Ipa;
use vcpu::lane::Vcpu;
use vcpu::psci::State;
use vcpu::refused::Refused;

use crate::house::House;
use crate::vm::{Seat, Seen, Vm};

/// How long the boot CPU waits for the other lanes to say where they are, in parts of a second.
const PATIENCE: u64 = 4;

/// How many callers a report names.
const CALLS: usize = 8;

/// How many of a lane's last exits a report shows.
const SHOWN: usize = 8;

/// The number of what crews have looked at by themselves, before anybody asked for a look around.
pub const BEFORE_ANY: u64 = 1;

/// The longest report of one machine's lanes.
type Words = ArrayString<400>;

/// Says where the lane in this CPU was when its exit ended the machine, and who had called whom to get there.
pub fn lane(vm: &Vm, lane: &Vcpu<'static>) {
    let mut calls = Words::new();
    // The procedure call standard's frame records (AAPCS64 6.4.6): the caller's, which lies higher, and where it goes
    // on. Who keeps none has some other number in x29.
    let mut record = lane.context.x.get(29).copied().unwrap_or(0);
    for _ in 0..CALLS {
        let mut words = [0; 16];
        let place = world::guest_address(record, false);
        let read = place.and_then(|ipa| vm.read(Ipa::new(ipa), &mut words));
        let (callers, back) = words.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        if read.is_none() || word(back) == 0 {
            break;
        }
        let before = if calls.is_empty() {
            ", called from"
        } else {
            ""
        };
        let _ = write!(calls, "{before} {:#x}", word(back));
        if word(callers) <= record {
            break;
        }
        record = word(callers);
    }
    let own = world::last_exception();
    let (index, pc) = (lane.index(), lane.context.elr);
    place(vm.name, index, pc, own, &lane.refused, &calls);
}

/// Shows a lane's last exits, oldest first.
pub fn last_exits(name: &str, lane: &Vcpu<'static>) {
    let trace = &lane.trace;
    let skip = trace.iter().count().saturating_sub(SHOWN);
    let index = lane.index();
    say!(
        "  {name} lane {index}: the last of {} exits:",
        trace.count()
    );
    for record in trace.iter().skip(skip) {
        let (what, number) = match record.interrupt() {
            Some(intid) => ("interrupt", u64::from(intid)),
            None => ("esr", record.cause),
        };
        say!(
            "  {name} lane {index}: {what} {number:#x} at pc {:#x}",
            record.pc
        );
    }
}

/// Says where a machine's lanes were when their CPUs last looked.
pub fn lanes(vm: &Vm) {
    let words = describe_all(vm, BEFORE_ANY);
    say!("  {words}");
    places(vm, BEFORE_ANY);
}

/// Where each lane was that is on, as this look has seen it.
fn places(vm: &Vm, number: u64) {
    for (lane, seat) in vm.seats.iter().enumerate() {
        if let Some(seen) = seat.look.get(number).filter(|_| is_on(vm, lane)) {
            place(vm.name, lane, seen.pc, seen.own, &seen.refused, "");
        }
    }
}

/// Where a lane is, what its own last exception was, and what it was refused.
fn place(name: &str, index: usize, pc: u64, own: [u64; 4], refusals: &Refused, calls: &str) {
    let [vbar, esr, elr, far] = own;
    say!("  {name} lane {index}: pc {pc:#x}, vbar {vbar:#x}{calls}");
    say!("  {name} lane {index}: its last exception: esr {esr:#x} at pc {elr:#x}, far {far:#x}");
    refused("  ", name, index, refusals);
}

/// What a lane was refused, if anything.
pub fn refused(before: &str, name: &str, index: usize, refused: &Refused) {
    if *refused != Refused::NONE {
        say!("{before}{name} lane {index}: {refused}");
    }
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
    let el1 = &lane.el1;
    let seen = Seen {
        pc: lane.context.elr,
        pstate: lane.context.spsr,
        own: if resident {
            world::last_exception()
        } else {
            [el1.vbar_el1, el1.esr_el1, el1.elr_el1, el1.far_el1]
        },
        refused: lane.refused,
        ran,
        exits: lane.trace.by_reason(),
    };
    seat.look.note(number, seen);
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
            u64::from(house.deadline_ms.unwrap_or(0))
        );
        if state == MachineState::Running {
            places(vm, number);
        }
    }
    power::off()
}

/// Waits until every CPU has taken part in a look around, for so many ticks at most.
pub fn wait_for(house: &'static House, number: u64, ticks: u64) {
    let until = timer::now().saturating_add(ticks);
    let has_looked = |seat: &Seat| seat.look.was_taken(number);
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
        (
            true,
            Some(Seen {
                pc,
                own: [vbar, ..],
                ..
            }),
        ) if pc.wrapping_sub(vbar) < VECTORS => {
            write!(words, "in its own exception vectors at pc {pc:#x}")
        }
        (true, Some(Seen { pc, pstate, .. })) if pstate & INTERRUPTS_MASKED != 0 => {
            write!(words, "at pc {pc:#x} with interrupts masked")
        }
        (true, Some(Seen { pc, .. })) => write!(words, "at pc {pc:#x}"),
    }
}
