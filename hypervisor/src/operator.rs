//! The operator's side of the console: what is typed, and the commands of people and scripts.
//!
//! The UART interrupts one CPU, the one that booted. It takes what was typed; `domain-hv` tells commands from the
//! guest's bytes. A guest's bytes go to its machine, and lane 0's CPU moves them into its UART when it looks around.
//! Every command is answered at once, by lines that a script can read as well (docs/console.md); but for one that asks a
//! guest for something, which is answered when that has come, or after a while.

#[cfg(feature = "virtio")]
mod balloon;
mod stats;

use core::fmt;

use arrayvec::ArrayVec;
use configs_plan::MAX_GUESTS;
use domain_hv::lifecycle::{Command, MachineState};
use domain_hv::prompt::{self, Heard, Prompt, Request};
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::{console, gic, say, timer};
use spin::Mutex;
use vcpu::psci::State;
use vcpu::vgic::VirtGic;

use crate::crew::Crew;
use crate::devices;
use crate::house::House;
use crate::life;
use crate::vm::Vm;

/// Bytes taken from the UART at a time: its FIFO's depth.
const CHUNK: usize = 32;
/// How often in a row. Then guests run again, whoever types without end.
const CHUNKS: usize = 8;

/// Who types.
pub struct Operator {
    /// The UART's interrupt.
    intid: Option<u32>,
    desk: Mutex<Desk>,
}

/// What the operator is at.
struct Desk {
    prompt: Prompt,
    at: At,
}

/// Where the operator stands between two commands.
struct At {
    /// The machine whose keyboard it is.
    attached: usize,
    /// What the last command still waits for.
    #[cfg(feature = "virtio")]
    wanted: Option<balloon::Wanted>,
}

impl Operator {
    /// An operator whose keyboard is the first machine's, and interrupts with this.
    pub const fn at(intid: Option<u32>) -> Self {
        Self {
            intid,
            desk: Mutex::new(Desk {
                prompt: Prompt::new(),
                at: At {
                    attached: 0,
                    #[cfg(feature = "virtio")]
                    wanted: None,
                },
            }),
        }
    }
}

/// Has the UART interrupt this CPU.
pub fn listen(house: &'static House) {
    if let Some(first) = house.vms.first() {
        first.machine.watch_console(true, timer::now());
    }
    match house.operator.intid {
        Some(intid) => {
            gic::route_here(intid);
            console::listen();
        }
        None => say!("nobody can type: the device tree gives the serial port no interrupt"),
    }
}

/// An interrupt of EL2's own that this CPU has acknowledged: what it was for is done where it is the operator's, and it
/// is ended. One of a device that a machine was given is that machine's to end.
pub fn interrupt(house: &'static House, crew: &mut Crew, intid: u32) {
    if gic::is_shared(intid) && shared(house, crew, intid) {
        return;
    }
    gic::end(intid);
}

/// An interrupt that all CPUs share. True when it is a machine's to end.
#[cold]
#[inline(never)]
fn shared(house: &'static House, crew: &mut Crew, intid: u32) -> bool {
    if house.operator.intid == Some(intid) {
        hear(house, crew);
        return false;
    }
    #[cfg(feature = "virtio")]
    if crate::virtio::fired(house, crew, intid) {
        return false;
    }
    devices::fired(house, intid)
}

/// Takes what was typed.
fn hear(house: &'static House, crew: &mut Crew) {
    let mut desk = house.operator.desk.lock();
    for _ in 0..CHUNKS {
        let mut bytes = [0; CHUNK];
        let count = console::typed(&mut bytes);
        for byte in bytes.iter().take(count) {
            take(house, crew, &mut desk, *byte);
        }
        if count < CHUNK {
            break;
        }
    }
    deliver(house, desk.at.attached);
}

/// Has a machine look at what was typed for it.
fn deliver(house: &'static House, index: usize) {
    let typed = house.vms.get(index).filter(|vm| vm.machine.has_input());
    #[cfg(feature = "virtio")]
    let typed = typed.filter(|vm| !vm.virtio.input());
    if let Some(seat) = typed.and_then(|vm| vm.seats.first()) {
        ThisCpu.send_sgi(seat.wake);
    }
}

fn take(house: &'static House, crew: &mut Crew, desk: &mut Desk, byte: u8) {
    let Desk { prompt, at } = desk;
    match prompt.hear(byte) {
        Heard::Guest(byte) => {
            if let Some(vm) = house.vms.get(at.attached) {
                // What has no room is lost, as on any serial line, and counted.
                vm.machine.input(&[byte]);
            }
        }
        Heard::Prompt(text) => console::prompt(text),
        Heard::Erased(text, count) => console::prompt_erased(text, count),
        Heard::Closed => console::end_line(),
        Heard::Command(text) => {
            console::end_line();
            answer(house, crew, at, text);
        }
        Heard::Nothing => {}
    }
}

/// Carries out a command and says what came of it.
fn answer(house: &'static House, crew: &mut Crew, at: &mut At, text: &str) {
    #[cfg(feature = "virtio")]
    if let Some(wanted) = at.wanted.take() {
        let _ = balloon::look(wanted, timer::now(), true);
    }
    let request = match prompt::parse(text) {
        Ok(request) => request,
        Err(complaint) => return refuse(&complaint),
    };
    match request {
        Request::Help => {
            for line in prompt::HELP {
                say!("ctl: {line}");
            }
        }
        Request::List => list(house, at.attached),
        Request::Attach(name) => match find(house, name) {
            Some((index, vm)) => attach(house, core::mem::replace(&mut at.attached, index), vm),
            None => return,
        },
        Request::Life(command, name) => match find(house, name) {
            Some((_, vm)) => return live(house, vm, command),
            None => return,
        },
        Request::Stats(None) => stats::show(house, crew, house.vms),
        Request::Stats(Some(name)) => match find(house, name) {
            Some((_, vm)) => stats::show(house, crew, core::slice::from_ref(vm)),
            None => return,
        },
        #[cfg(feature = "virtio")]
        Request::Balloon(name, size) => match find(house, name) {
            Some((_, vm)) => return balloon::answer(crew, &mut at.wanted, vm, size),
            None => return,
        },
    }
    say!("ctl: ok");
}

/// Says what a command has waited for, if it has come, or will not; when to look again.
#[cfg(feature = "virtio")]
pub fn look(house: &'static House, now: u64) -> u64 {
    let at = &mut house.operator.desk.lock().at;
    let later = at
        .wanted
        .and_then(|wanted| balloon::look(wanted, now, false));
    if later.is_none() {
        at.wanted = None;
    }
    later.unwrap_or(u64::MAX)
}

/// What is typed goes to this machine, and its unfinished lines are shown.
fn attach(house: &'static House, before: usize, vm: &'static Vm) {
    deliver(house, before);
    let now = timer::now();
    if let Some(before) = house.vms.get(before) {
        before.machine.watch_console(false, now);
    }
    vm.machine.watch_console(true, now);
    vm.show_unfinished(now);
}

fn refuse(why: &dyn fmt::Display) {
    say!("ctl: error: {why}");
}

/// The machine of this name; refuses if there is none.
fn find(house: &'static House, name: &str) -> Option<(usize, &'static Vm)> {
    let names: ArrayVec<&str, MAX_GUESTS> = house
        .vms
        .iter()
        .map(|vm| vm.name)
        .take(MAX_GUESTS)
        .collect();
    match prompt::guest(name, &names) {
        Ok(index) => Some((index, house.vms.get(index)?)),
        Err(none) => {
            refuse(&none);
            None
        }
    }
}

fn live(house: &'static House, vm: &'static Vm, command: Command) {
    if let Err(refusal) = life::command(house, vm, command, || say!("ctl: ok")) {
        refuse(&refusal);
    }
}

/// Shows every machine.
fn list(house: &'static House, attached: usize) {
    let width = house.vms.iter().map(|vm| vm.name.len()).max().unwrap_or(0);
    for (index, vm) in house.vms.iter().enumerate() {
        let state = vm.life.state();
        say!(
            "ctl: {:width$}  {state}, {} of {} lanes on, {} MiB, restarts {}{}",
            vm.name,
            lanes_on(vm, state),
            vm.seats.len(),
            vm.ram.region().bytes() >> 20,
            u64::from(vm.life.restarts()),
            if index == attached { ", attached" } else { "" }
        );
    }
}

/// How many lanes of a machine are on. Those of one that is over have no state.
fn lanes_on(vm: &Vm, state: MachineState) -> usize {
    if !matches!(state, MachineState::Running | MachineState::Paused) {
        return 0;
    }
    let is_on = |lane: &usize| vm.machine.power.state(*lane) != State::Off;
    (0..vm.seats.len()).filter(is_on).count()
}
