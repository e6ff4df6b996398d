//! One exit, one answer.
//!
//! All that an exit means for the lane and its machine is done here, by one exhaustive match that the hypervisor and
//! the tests share. What is left needs the computer, other lanes or a clock, and is returned as a [`Task`].

use dustlib_k_abi::{ConsoleWrite, Status};

use crate::context::InsnLen;

use crate::debug::Point;
use crate::exit::{
    DataAbort, DataAbortKind, Exit, ExitReason, SError, Severity, Syndrome, TrappedInsn32, Wfx,
    decode,
};
use crate::hot::Hardware;
use crate::inject::{El1Regs, Exception, VirtualSError};
use crate::insn::StackPointer;
use crate::lane::{Cause, Vcpu, Verdict};
use crate::psci::{self, Outcome};
use crate::serve::{self, Effect, Interrupted, Lines, Wait};
use crate::smccc::trng::Wanted;
use crate::smccc::{Request, Results};
use crate::sysreg::cp14;

/// What an exit leaves to do. The lane's registers are as the guest is to find them, but for what a task still says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Task {
    /// Nothing: the guest goes on.
    Enter,
    /// Load this into MDSCR_EL1, then go on.
    Mdscr(u64),
    /// Bring this breakpoint or watchpoint of the hardware up to date with the lane's, then go on.
    Debug(Point),
    /// EL2's own interrupt: acknowledged, to be ended.
    Own(u32),
    /// An interrupt of group 0, which is nobody's here.
    GroupZero,
    /// Pend a virtual SError.
    SError(VirtualSError),
    /// Print this, then put the results into X0 and X1.
    ConsoleWrite(ConsoleWrite),
    /// Draw random bits and put the results into X0 to X3.
    Random(Wanted),
    /// Start a lane that has been claimed ([`Outcome::PowerOn`]).
    PowerOn {
        /// The lane.
        lane: usize,
        /// Its first instruction.
        entry: u64,
        /// Its X0.
        context: u64,
    },
    /// A load or store that the hardware has not described: fetch the instruction and call [`undescribed`].
    Fetch,
    /// Lend the lane's turn to this lane of its machine.
    YieldTo(usize),
    /// The lane has nothing to do for now.
    Wait(Wait),
    /// The lane is off.
    Off,
    /// The machine ends.
    Stop(Cause),
}

/// Answers an exit of a lane whose general registers are in its frame.
pub fn answer(
    lane: &mut Vcpu<'_>,
    exit: Exit,
    hw: &mut (impl Hardware + El1Regs),
    lines: &mut impl Lines,
) -> Task {
    if exit == Exit::Sync {
        let esr = hw.esr();
        if let Some((imm, verdict)) = asked(esr) {
            // A call: nothing of the syndrome but its immediate counts.
            lane.trace.note(esr, lane.context.elr);
            let task = call(lane, imm);
            if !matches!(verdict, Verdict::Resume) {
                lane.apply(verdict, InsnLen::Four, hw);
            }
            return task;
        }
    }
    let syndrome = serve::syndrome(lane, hw);
    let reason = decode(exit, &syndrome);
    lane.note(exit, &syndrome);
    let (verdict, task) = judge(lane, &syndrome, reason, hw, lines);
    if !matches!(verdict, Verdict::Resume) {
        lane.apply(verdict, syndrome.insn_len(), hw);
    }
    task
}

/// Answers the exit that [`Task::Fetch`] was about, whose syndrome is still in the CPU's registers. `fetched` is the
/// instruction and the guest's stack pointer, if the instruction could be read again: without it the exit is the abort
/// that the hardware said it was. Returns where the stack pointer moves to.
#[cold]
#[inline(never)]
pub fn undescribed(
    lane: &mut Vcpu<'_>,
    fetched: Option<(u32, u64)>,
    hw: &mut (impl Hardware + El1Regs),
    lines: &mut impl Lines,
) -> Option<StackPointer> {
    let syndrome = serve::syndrome(lane, hw);
    let ExitReason::DataAbort(abort) = decode(Exit::Sync, &syndrome) else {
        return None;
    };
    let (verdict, moved) = match fetched {
        Some((word, sp)) => serve::transfer(lane, &abort, word, sp, hw, lines),
        None => (Verdict::Inject(Exception::from_data_abort(&abort)), None),
    };
    lane.apply(verdict, syndrome.insn_len(), hw);
    moved
}

/// The immediate of an HVC or SMC, and how the guest goes on behind it: an HVC's return address is past it, an SMC's is
/// not. What `decode` says of these two classes, sooner.
const fn asked(esr: u64) -> Option<(u16, Verdict)> {
    const HVC: u64 = 0x16;
    const SMC: u64 = 0x17;
    let class = (esr >> 26) & 0x3F;
    // The two differ in the lowest bit only, and every other exit passes here too.
    if class | 1 != SMC {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the immediate has 16 bits")]
    let imm = esr as u16;
    Some(if class == HVC {
        (imm, Verdict::Resume)
    } else {
        (imm, Verdict::Complete)
    })
}

/// Exhaustive on purpose: a new kind of exit does not compile until somebody decides about it.
fn judge(
    lane: &mut Vcpu<'_>,
    syndrome: &Syndrome,
    reason: ExitReason,
    hw: &mut (impl Hardware + El1Regs),
    lines: &mut impl Lines,
) -> (Verdict, Task) {
    let verdict = match reason {
        ExitReason::Irq => return (Verdict::Resume, interrupt(lane, hw)),
        ExitReason::Fiq => return (Verdict::Resume, Task::GroupZero),
        // `asked` has found them first.
        ExitReason::Hypercall { imm } => return (Verdict::Resume, call(lane, imm)),
        ExitReason::SecureCall { imm } => return (Verdict::Complete, call(lane, imm)),
        ExitReason::SystemRegister(access) => {
            let (verdict, effect) = serve::system_register(lane, access, hw);
            return (verdict, Task::from(effect));
        }
        ExitReason::Wfx(wait) => return (Verdict::Complete, waiting(lane, &wait)),
        ExitReason::Mmio(access) => serve::mmio(lane, &access, hw, lines),
        ExitReason::DataAbort(abort) if abort.kind == DataAbortKind::NoSyndrome => {
            return (Verdict::Resume, Task::Fetch);
        }
        ExitReason::DataAbort(abort) if is_lost(lane, syndrome, &abort) => Verdict::Complete,
        ExitReason::DataAbort(abort) => Verdict::Inject(Exception::from_data_abort(&abort)),
        ExitReason::InstructionAbort(abort) => {
            Verdict::Inject(Exception::from_instruction_abort(&abort))
        }
        ExitReason::Feature(_)
        | ExitReason::Undefined { .. }
        | ExitReason::SupervisorCall { .. } => Verdict::Inject(Exception::Undefined),
        ExitReason::AArch32(trap) if !trap.passes => Verdict::Complete,
        ExitReason::AArch32(trap) if trap.kind == TrappedInsn32::Cp14 => {
            let ids = &lane.machine.ids;
            if cp14::access(syndrome.iss(), ids, &mut lane.context) {
                Verdict::Complete
            } else {
                Verdict::Inject(Exception::Undefined)
            }
        }
        ExitReason::AArch32(_) => Verdict::Inject(Exception::Undefined),
        ExitReason::Debug(_) => Verdict::Inject(Exception::reflect(syndrome)),
        ExitReason::GuestException(exception) => Verdict::Inject(Exception::own(exception)),
        ExitReason::IllegalState => Verdict::Inject(Exception::IllegalState),
        ExitReason::PcAlignment { far } => Verdict::Inject(Exception::PcAlignment { far }),
        ExitReason::SpAlignment => Verdict::Inject(Exception::SpAlignment),
        ExitReason::SError(error) => return (Verdict::Resume, system_error(&error)),
        ExitReason::OwnFault(_) => {
            let cause = Cause::Unanswerable { esr: syndrome.esr };
            return (Verdict::Resume, Task::Stop(cause));
        }
    };
    (verdict, Task::Enter)
}

/// Whether a store is one into firmware: flash is write-protected and forgets it. Nothing else of a guest is mapped
/// without the right to write, so no address is needed, and the hardware gives none (Arm ARM D19.2.57). A store that it
/// does not describe (ISV = 0) may have to move a register too, and is refused.
fn is_lost(lane: &Vcpu<'_>, syndrome: &Syndrome, abort: &DataAbort) -> bool {
    const ISV: u64 = 1 << 24;
    abort.kind == DataAbortKind::Permission
        && abort.write
        && !abort.cache_maintenance
        && syndrome.esr & ISV != 0
        && lane.machine.board.has_flash()
}

impl From<Effect> for Task {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::None => Self::Enter,
            Effect::Mdscr(value) => Self::Mdscr(value),
            Effect::Debug(point) => Self::Debug(point),
        }
    }
}

fn interrupt(lane: &mut Vcpu<'_>, hw: &mut impl Hardware) -> Task {
    match serve::interrupt(lane, hw) {
        Interrupted::Served => Task::Enter,
        Interrupted::Own(intid) => Task::Own(intid),
    }
}

/// What may have spread is nothing to go on with; everything else is the guest's to judge.
fn system_error(error: &SError) -> Task {
    if error.severity == Severity::Uncontainable {
        Task::Stop(Cause::SystemError)
    } else {
        Task::SError(VirtualSError::from_physical(error))
    }
}

/// WFI, WFE and their forms with a timeout. The instruction is complete: the architecture lets a wait end at any time.
fn waiting(lane: &Vcpu<'_>, wait: &Wfx) -> Task {
    if wait.passes {
        Task::Wait(Wait::of(lane, wait))
    } else {
        Task::Enter
    }
}

/// A lane of the machine that is to have the caller's turn.
fn yield_to(lanes: usize, other: u64) -> (Results, Task) {
    match usize::try_from(other).ok().filter(|lane| *lane < lanes) {
        Some(lane) => (Results::One(0), Task::YieldTo(lane)),
        None => {
            let refused = Status::InvalidParameters.to_register();
            (Results::One(refused), Task::Enter)
        }
    }
}

/// HVC and SMC.
fn call(lane: &mut Vcpu<'_>, imm: u16) -> Task {
    let machine = lane.machine;
    let (results, task) = match serve::call(lane, imm) {
        Request::Return(results) => (results, Task::Enter),
        Request::ConsoleWrite(write) => return Task::ConsoleWrite(write),
        Request::Random(wanted) => return Task::Random(wanted),
        Request::Exit(code) => return Task::Stop(Cause::Exit(code.0)),
        Request::YieldTo(other) => yield_to(machine.vgic.lanes(), other),
        Request::Psci(call) => {
            match psci::serve(call, &machine.power, |entry| machine.is_ram(entry)) {
                Outcome::Return(value) => (Results::One(value), Task::Enter),
                Outcome::PowerOn {
                    lane,
                    entry,
                    context,
                } => {
                    let entry = entry.raw();
                    let task = Task::PowerOn {
                        lane,
                        entry,
                        context,
                    };
                    (Results::One(0), task)
                }
                Outcome::Suspend => (Results::One(0), Task::Wait(Wait::STANDBY)),
                Outcome::PowerOffSelf => return Task::Off,
                Outcome::SystemOff => return Task::Stop(Cause::Exit(0)),
                Outcome::SystemReset => return Task::Stop(Cause::Reset),
            }
        }
    };
    results.apply(&mut lane.context.x);
    task
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_as_the_decoder_tells_it() {
        for class in 0..64u64 {
            for low in (0..1 << 26).step_by(0x1235) {
                let esr = class << 26 | low;
                let syndrome = Syndrome {
                    esr,
                    far: 0,
                    hpfar: 0,
                    elr: 0,
                    spsr: 0x3c5,
                };
                let reason = decode(Exit::Sync, &syndrome);
                let right = if let ExitReason::Hypercall { imm } = reason {
                    Some((imm, Verdict::Resume))
                } else if let ExitReason::SecureCall { imm } = reason {
                    Some((imm, Verdict::Complete))
                } else {
                    None
                };
                assert_eq!(asked(esr), right, "{esr:#x}");
            }
        }
    }
}
