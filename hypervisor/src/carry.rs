//! What an exit leaves to do beyond the lane and its machine: the computer, memory, other lanes, the end.

use dustlib_k_abi::{ConsoleWrite, Status};
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::{debug, gic, timer, world};
use stage2_addr::Ipa;
use vcpu::lane::Vcpu;
use vcpu::serve::{self, Lines, Task, Wait};
use vcpu::smccc::Results;
use vcpu::vgic::VirtGic;

use crate::entropy;
use crate::house::House;
use crate::life;
use crate::vm::Vm;

/// Bytes copied out of a guest at a time, so that a long text costs no more stack than a short one.
const CHUNK: usize = 256;

/// What becomes of the lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Next {
    /// It goes on.
    Enter,
    /// It goes on, and no device of its machine knows of the exit.
    EnterAtOnce,
    /// It has nothing to do for now.
    Wait(Wait),
    /// It lends its turn to this lane of its machine.
    YieldTo(usize),
    /// The CPU's run loop has to look around.
    Look,
    /// The same, for this interrupt of EL2's own, which was acknowledged.
    Own(u32),
    /// It is off.
    Off,
}

/// Carries out a task.
pub fn out(
    house: &'static House,
    vm: &'static Vm,
    lane: &mut Vcpu<'static>,
    task: Task,
    hw: &mut ThisCpu,
) -> Next {
    match task {
        Task::Enter => {}
        Task::Mdscr(value) => world::set_mdscr(value),
        Task::Debug(point) => debug::update(&lane.sysregs.debug, point),
        Task::Own(intid) => return Next::Own(intid),
        Task::GroupZero => gic::discard_group0(),
        Task::SError(error) => world::pend_virtual_serror(error),
        Task::ConsoleWrite(write) => {
            let (status, taken) = console_write(vm, write);
            Results::Two([status.to_register(), taken]).apply(&mut lane.context.x);
        }
        Task::Random(wanted) => {
            let results = wanted.answer(&mut entropy::Shared);
            results.apply(&mut lane.context.x);
        }
        Task::PowerOn {
            lane: target,
            entry,
            context,
        } => {
            if let Some(seat) = vm.seats.get(target) {
                seat.order(entry, context);
                hw.send_sgi(seat.wake);
            }
            return Next::EnterAtOnce;
        }
        Task::Fetch => fetch(vm, lane, hw),
        Task::YieldTo(other) => return Next::YieldTo(other),
        Task::Wait(wait) => return Next::Wait(wait),
        Task::Off => return Next::Off,
        Task::Stop(cause) => {
            life::end(house, vm, cause, Some(lane));
            return Next::Look;
        }
    }
    Next::Enter
}

/// A load or store that the hardware has left undescribed: looks at the instruction itself, once.
fn fetch(vm: &'static Vm, lane: &mut Vcpu<'static>, hw: &mut ThisCpu) {
    let pc = lane.context.pc();
    let mut word = [0; 4];
    let fetched = world::guest_address(pc.elr, pc.is_el0())
        .and_then(|ipa| vm.read(Ipa::new(ipa), &mut word))
        .map(|()| (u32::from_le_bytes(word), world::stack_pointer(pc.source())));
    if let Some(moved) = serve::undescribed(lane, fetched, hw, &mut vm.port()) {
        world::set_stack_pointer(pc.source(), moved.0);
    }
}

/// Takes the beginning of a guest's text, copied out once: no more than ends a line, because printing that may take 20 ms
/// during which the CPU hears nothing. The guest comes again for the rest.
fn console_write(vm: &'static Vm, write: ConsoleWrite) -> (Status, u64) {
    let mut chunk = [0; CHUNK];
    let length = usize::try_from(write.len()).unwrap_or(CHUNK).min(CHUNK);
    let bytes = chunk.get_mut(..length).unwrap_or_default();
    if bytes.is_empty() {
        return (Status::Success, 0);
    }
    if vm.read(Ipa::new(write.address()), bytes).is_none() {
        return (Status::InvalidParameters, 0);
    }
    let mut port = vm.port();
    let mut console = vm.machine.console.lock();
    let taken = console.write(bytes, &mut |text: &str| port.line(text));
    if console.begins() {
        let (now, hz) = (timer::now(), timer::frequency());
        vm.machine.console_begun(now, hz);
    }
    (Status::Success, taken as u64)
}
