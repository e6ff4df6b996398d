//! One exit, one answer.

use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::{gic, world};
use stage2_addr::Ipa;
use vcpu::exit::{DataAbort, DataAbortKind, ExitReason, Severity, Syndrome};
use vcpu::inject::{Exception, VirtualSError};
use vcpu::lane::{Cause, Vcpu, Verdict};
use vcpu::serve::{self, Effect, Interrupted};

use crate::house::House;
use crate::vm::Vm;
use crate::{calls, report};

/// Answers an exit. Exhaustive on purpose: a new kind of exit does not compile until somebody decides about it.
pub fn dispatch(
    house: &'static House,
    vm: &'static Vm,
    lane: &mut Vcpu<'static>,
    syndrome: &Syndrome,
    reason: ExitReason,
    hw: &mut ThisCpu,
) -> Verdict {
    match reason {
        ExitReason::Irq => interrupt(house, vm, lane, hw),
        ExitReason::Hypercall { imm } => calls::call(vm, lane, imm, Verdict::Resume, hw),
        ExitReason::SecureCall { imm } => calls::call(vm, lane, imm, Verdict::Complete, hw),
        ExitReason::Mmio(access) => serve::mmio(lane, &access, hw, &mut vm.port()),
        ExitReason::SystemRegister(access) => system_register(lane, access, hw),
        ExitReason::Wfx(wait) => serve::wait(&wait),
        ExitReason::DataAbort(abort) => data_abort(vm, lane, &abort, hw),
        ExitReason::InstructionAbort(abort) => {
            Verdict::Inject(Exception::from_instruction_abort(&abort))
        }
        ExitReason::Feature(_)
        | ExitReason::Undefined { .. }
        | ExitReason::SupervisorCall { .. } => Verdict::Inject(Exception::Undefined),
        ExitReason::AArch32(trap) if !trap.passes => Verdict::Complete,
        ExitReason::AArch32(_) => Verdict::Inject(Exception::Undefined),
        ExitReason::Debug(_) => Verdict::Inject(Exception::reflect(syndrome)),
        ExitReason::GuestException(exception) => Verdict::Inject(Exception::own(exception)),
        ExitReason::IllegalState => Verdict::Inject(Exception::IllegalState),
        ExitReason::PcAlignment { far } => Verdict::Inject(Exception::PcAlignment { far }),
        ExitReason::SpAlignment => Verdict::Inject(Exception::SpAlignment),
        // What may have spread is nothing to go on with; everything else is the guest's to judge.
        ExitReason::SError(error) if error.severity == Severity::Uncontainable => {
            Verdict::Stop(Cause::SystemError)
        }
        ExitReason::SError(error) => {
            world::pend_virtual_serror(VirtualSError::from_physical(&error));
            Verdict::Resume
        }
        ExitReason::Fiq => {
            gic::discard_group0();
            Verdict::Resume
        }
        ExitReason::OwnFault(_) => Verdict::Stop(Cause::Unanswerable { esr: syndrome.esr }),
    }
}

fn interrupt(
    house: &'static House,
    vm: &'static Vm,
    lane: &mut Vcpu<'static>,
    hw: &mut ThisCpu,
) -> Verdict {
    match serve::interrupt(lane, hw) {
        Interrupted::Served => Verdict::Resume,
        Interrupted::Notice if vm.ended.is_claimed() => Verdict::Yield,
        Interrupted::Notice => {
            report::look(vm, lane, hw);
            Verdict::Resume
        }
        Interrupted::Own(intid) => {
            gic::end(intid);
            if intid == gic::EL2_TIMER {
                report::look(vm, lane, hw);
                report::deadline(house);
            }
            Verdict::Resume
        }
    }
}

fn system_register(
    lane: &mut Vcpu<'static>,
    access: vcpu::sysreg::SysRegAccess,
    hw: &mut ThisCpu,
) -> Verdict {
    let (verdict, effect) = serve::system_register(lane, access, hw);
    match effect {
        Effect::None => {}
        Effect::Mdscr(value) => world::set_mdscr(value),
    }
    verdict
}

/// A data abort that is no described device access. Only an instruction that the hardware left undescribed is looked
/// at again; everything else has its architected answer.
fn data_abort(
    vm: &'static Vm,
    lane: &mut Vcpu<'static>,
    abort: &DataAbort,
    hw: &mut ThisCpu,
) -> Verdict {
    let refused = Verdict::Inject(Exception::from_data_abort(abort));
    if abort.kind != DataAbortKind::NoSyndrome {
        return refused;
    }
    let pc = lane.context.pc();
    let mut word = [0; 4];
    let fetched =
        world::fetch_address(pc.elr, pc.is_el0()).and_then(|ipa| vm.read(Ipa::new(ipa), &mut word));
    if fetched.is_none() {
        return refused;
    }
    let sp = world::stack_pointer(pc.source());
    let (verdict, moved) = serve::transfer(
        lane,
        abort,
        u32::from_le_bytes(word),
        sp,
        hw,
        &mut vm.port(),
    );
    if let Some(moved) = moved {
        world::set_stack_pointer(pc.source(), moved.0);
    }
    verdict
}
