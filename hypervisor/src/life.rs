//! A machine's life, carried out: who may run, how it ends, and how it begins again.
//!
//! `domain-hv` decides ([`Lifecycle`]); each CPU's crew looks at the [`Phase`] and does its lanes' share. The last lane
//! that leaves says so, and the CPU of lane 0 builds the machine anew, a piece at a time, as if that were what lane 0
//! runs: it costs the machine's own share of the CPU and nobody else's.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use domain_hv::lifecycle::{Action, Command, Event, Lifecycle, MachineState, OnCrash, Refusal};
use domain_hv::{Ending, StopReason};
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::{power, say, timer};
use spin::Mutex;
use vcpu::lane::{Cause, Vcpu};
use vcpu::vgic::VirtGic;

use crate::devices;
use crate::house::House;
use crate::report;
use crate::vm::Vm;

/// What a machine's lanes may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Live.
    Running,
    /// Stand still.
    Paused,
    /// Leave, and stay away.
    Out,
    /// The same, but that lane 0's CPU builds the machine.
    Building,
}

/// A machine's life, as its lanes see it.
#[derive(Debug)]
pub struct Life {
    cycle: Mutex<Lifecycle>,
    phase: AtomicU8,
    /// The lanes that have not left yet, as bits, and [`SPEAKER`].
    inside: AtomicU32,
    /// When a machine that waits for its restart is built, as a count; [`NEVER`] if none is due.
    due: AtomicU64,
}

/// Later than anything.
const NEVER: u64 = u64::MAX;
/// `inside`: who has ended the machine has not said so yet. Nothing may follow before that.
const SPEAKER: u32 = 1 << 31;

impl Life {
    /// A machine that is being built, which boot does.
    pub const fn new(on_crash: OnCrash) -> Self {
        Self {
            cycle: Mutex::new(Lifecycle::new(on_crash)),
            phase: AtomicU8::new(Phase::Building as u8),
            inside: AtomicU32::new(0),
            due: AtomicU64::new(NEVER),
        }
    }

    /// What the lanes may do.
    pub fn phase(&self) -> Phase {
        const RUNNING: u8 = Phase::Running as u8;
        const PAUSED: u8 = Phase::Paused as u8;
        const BUILDING: u8 = Phase::Building as u8;
        match self.phase.load(Ordering::Acquire) {
            RUNNING => Phase::Running,
            PAUSED => Phase::Paused,
            BUILDING => Phase::Building,
            _ => Phase::Out,
        }
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Where the machine is in its life.
    pub fn state(&self) -> MachineState {
        self.cycle.lock().state()
    }

    /// How often it began anew.
    pub fn restarts(&self) -> u32 {
        self.cycle.lock().restarts()
    }

    /// When somebody must look at this machine again, as a count.
    pub fn due(&self) -> u64 {
        self.due.load(Ordering::Acquire)
    }

    /// What its lanes have to know of an action. Under the lock of `cycle`, so that no two actions can overtake each
    /// other between being decided and being seen.
    fn show(&self, vm: &Vm, action: Action) {
        match action {
            Action::Nothing | Action::Refuse(_) => {}
            Action::Build => {
                self.due.store(NEVER, Ordering::Release);
                self.set(Phase::Building);
            }
            Action::Run => {
                if let Some(seat) = vm.seats.first() {
                    // Claimed, then ordered. A machine that has just been built has no lane that is on.
                    let _ = vm.machine.power.turn_on(0);
                    seat.order(vm.entry, vm.dtb);
                }
                vm.watchdog.begin(timer::now());
                self.set(Phase::Running);
            }
            Action::Pause => self.set(Phase::Paused),
            Action::Resume => {
                vm.watchdog.begin(timer::now());
                self.set(Phase::Running);
            }
            Action::Leave => {
                vm.machine.forget_input();
                let lanes = u32::try_from(vm.seats.len()).unwrap_or(31);
                let all = 1u32.checked_shl(lanes).map_or(u32::MAX, |bit| bit - 1);
                self.inside.store(all | SPEAKER, Ordering::Release);
                self.set(Phase::Out);
            }
            Action::Wait { until_ms, .. } => self.due.store(count_at(until_ms), Ordering::Release),
            // Out already, unless it was being built.
            Action::Hold | Action::Stop => {
                self.due.store(NEVER, Ordering::Release);
                self.set(Phase::Out);
            }
        }
    }
}

/// Something happened to a machine: what to do about it, beyond what its lanes find out for themselves.
fn on(house: &'static House, vm: &'static Vm, event: Event) -> Action {
    let life = &vm.life;
    let mut cycle = life.cycle.lock();
    let before = cycle.state();
    let action = cycle.on(event, now_ms());
    if event == Event::Due {
        life.due.store(NEVER, Ordering::Release);
    }
    if before == MachineState::Stopped && action == Action::Build && !house.roster.rejoin() {
        // Too late: the last machine has left, and everything is about to be switched off.
        return Action::Nothing;
    }
    if matches!(before, MachineState::Held | MachineState::Stopped) {
        // Nobody was there to read it.
        vm.machine.forget_input();
    }
    life.show(vm, action);
    action
}

fn now_ms() -> u64 {
    scale(timer::now(), 1000, timer::frequency())
}

fn count_at(ms: u64) -> u64 {
    // Not before that millisecond has begun.
    scale(ms, timer::frequency(), 1000).saturating_add(1)
}

/// `value * by / of`, where `by * of` fits: frequencies have 32 bits.
const fn scale(value: u64, by: u64, of: u64) -> u64 {
    let of = if of == 0 { 1 } else { of };
    let whole = (value / of).saturating_mul(by);
    whole.saturating_add((value % of).saturating_mul(by) / of)
}

/// The machine is built: its first lane is switched on, as CPU_ON would.
pub fn begin(house: &'static House, vm: &'static Vm) {
    #[cfg(debug_assertions)]
    crate::ghost::check(house);
    let action = on(house, vm, Event::Built);
    act(house, vm, action);
}

/// A lane's exit, or its going off, ended the machine. The first of several counts; `lane` is shown where the end was
/// not the guest's own wish.
pub fn end(house: &'static House, vm: &'static Vm, cause: Cause, lane: Option<&Vcpu<'static>>) {
    let ending = match cause {
        Cause::Exit(code) => Some(Ending::from_code(code)),
        Cause::Reset => None,
        Cause::AllLanesOff => Some(Ending::Stopped(StopReason::AllLanesOff)),
        Cause::SystemError => Some(Ending::Stopped(StopReason::SystemError)),
        Cause::Unanswerable { esr } => Some(Ending::Stopped(StopReason::Unanswerable { esr })),
    };
    // Nobody asks where a machine was that ended well.
    if announce(house, vm, ending)
        && ending != Some(Ending::Well)
        && let Some(lane) = lane
    {
        report::lane(vm, lane);
        if let Some(Ending::Stopped(_)) = ending {
            report::last_exits(vm.name, lane);
        }
    }
}

/// The machine has given no sign of life for so long.
pub fn hang(house: &'static House, vm: &'static Vm, ms: u64) {
    if announce(house, vm, Some(Ending::Stopped(StopReason::Hung { ms }))) {
        report::lanes(vm);
    }
}

/// Says how a machine ended (`None`: it wants to begin anew) and has its lanes leave; false if it was ending already.
fn announce(house: &'static House, vm: &'static Vm, ending: Option<Ending>) -> bool {
    let action = on(house, vm, ending.map_or(Event::Reset, Event::Ended));
    if action != Action::Leave {
        return false;
    }
    vm.flush();
    let name = vm.name;
    let follows = vm.life.cycle.lock().follows();
    match (follows, ending) {
        (MachineState::Building, None) => say!("guest {name}: restarting: it asked for a reset"),
        (MachineState::Building, Some(ending)) => say!("guest {name}: restarting: {ending}"),
        (MachineState::Held, Some(ending)) => say!("guest {name}: held: {ending}"),
        (_, Some(ending)) => say!("guest {name}: {ending}"),
        (_, None) => say!("guest {name}: reset"),
    }
    act(house, vm, action);
    true
}

/// What an operator wants of a machine. `accepted` is called before it is done: the end of the last machine is the end of
/// the computer, and leaves nobody to answer.
///
/// # Errors
/// It makes no sense in the state that the machine is in.
pub fn command(
    house: &'static House,
    vm: &'static Vm,
    command: Command,
    accepted: impl FnOnce(),
) -> Result<(), Refusal> {
    let action = on(house, vm, Event::Operator(command));
    if let Action::Refuse(refusal) = action {
        return Err(refusal);
    }
    if action == Action::Leave && command == Command::Stop {
        vm.flush();
        say!(
            "guest {}: {}",
            vm.name,
            Ending::Stopped(StopReason::Operator)
        );
    }
    accepted();
    act(house, vm, action);
    Ok(())
}

/// A lane has left for good.
pub fn left(house: &'static House, vm: &'static Vm, lane: usize) {
    let bit = 1u32
        .checked_shl(u32::try_from(lane).unwrap_or(32))
        .unwrap_or(0);
    gone(house, vm, bit);
}

/// One less of those that have to leave. The last one says that all have.
fn gone(house: &'static House, vm: &'static Vm, bit: u32) {
    if vm.life.inside.fetch_and(!bit, Ordering::AcqRel) == bit {
        devices::retire(vm);
        #[cfg(feature = "virtio")]
        vm.virtio.silence();
        #[cfg(debug_assertions)]
        crate::ghost::check(house);
        let action = on(house, vm, Event::Left);
        act(house, vm, action);
    }
}

/// Looks whether a machine's wait for its restart is over.
pub fn look(house: &'static House, vm: &'static Vm, now: u64) {
    if now >= vm.life.due() {
        let action = on(house, vm, Event::Due);
        act(house, vm, action);
    }
}

/// Has the lanes of a machine find out what has been decided, and says what a person is to know of it.
fn act(house: &'static House, vm: &'static Vm, action: Action) {
    match action {
        Action::Nothing | Action::Refuse(_) | Action::Hold => return,
        Action::Build | Action::Run | Action::Pause | Action::Resume | Action::Leave => {}
        Action::Wait { wait_ms, .. } => {
            say!("guest {}: restarts {wait_ms} ms after its end", vm.name);
        }
        Action::Stop => {
            if house.roster.leave() {
                say!("all guests ended");
                power::off();
            }
        }
    }
    for seat in vm.seats {
        ThisCpu.send_sgi(seat.wake);
    }
    if action == Action::Leave {
        gone(house, vm, SPEAKER);
    }
}
