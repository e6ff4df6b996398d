//! The slow path: every exit that concerns only the lane and its machine, answered in full.
//!
//! [`answer()`] is the whole of it: the run loop calls it after every exit, and so does the differential test, against
//! which the hot path is held. The hot path answers some of the same exits sooner, by the same primitives.

mod answer;

pub use answer::{Task, answer, undescribed};

use stage2_addr::Ipa;

use crate::context::Pc;
use crate::debug::Point;
use crate::device;
pub use crate::device::{console_input, tick};
use crate::exit::{DataAbort, FaultAddress, Syndrome, Wfx, WfxKind};
use crate::hot::{Hardware, KICK};
use crate::inject::{El1Regs, Exception};
use crate::insn::{Situation, StackPointer, Transfer};
use crate::lane::{NO_INTERRUPT, Vcpu, Verdict};
use crate::mmio::{Endian, MmioAccess};
use crate::smccc;
use crate::sysreg::{self, Action, Gic, SysRegAccess};
use crate::vgic::{MAINTENANCE, PHYSICAL_TIMER, SgiRegister, VIRTUAL_TIMER};

/// Where a machine's finished console lines go.
pub trait Lines {
    /// Prints one line, already free of anything a terminal would obey.
    fn line(&mut self, text: &str);
}

/// What the CPU must do beyond the lane's own state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// Load this into MDSCR_EL1.
    Mdscr(u64),
    /// Bring this breakpoint or watchpoint up to date.
    Debug(Point),
}

/// A call by HVC or SMC. Anything but an answer is the caller's to carry out.
pub fn call(vcpu: &Vcpu, imm: u16) -> smccc::Request {
    let [x0, x1, x2, x3, ..] = vcpu.context.x;
    smccc::Call {
        imm,
        x: [x0, x1, x2, x3],
    }
    .parse(vcpu.machine.workarounds)
}

/// An access to a trapped system register.
pub fn system_register(
    vcpu: &mut Vcpu,
    access: SysRegAccess,
    hw: &mut impl Hardware,
) -> (Verdict, Effect) {
    let machine = vcpu.machine;
    let el0 = vcpu.context.pc().is_el0();
    let action = sysreg::emulate(access, el0, &machine.ids, &mut vcpu.sysregs, &vcpu.context);
    match action {
        Action::Value(register, value) => vcpu.context.set(register, value),
        Action::Done | Action::SetWay => {}
        Action::Mdscr(value) => return (Verdict::Complete, Effect::Mdscr(value)),
        Action::Debug(point) => return (Verdict::Complete, Effect::Debug(point)),
        Action::Sgi { register, value } => {
            let register = match register {
                Gic::Sgi1r => SgiRegister::Sgi1r,
                Gic::Sgi0r => SgiRegister::Sgi0r,
                Gic::Asgi1r => SgiRegister::Asgi1r,
                Gic::Dir => {
                    vcpu.gic.write_dir(&machine.vgic, value, hw);
                    return (Verdict::Complete, Effect::None);
                }
                Gic::Sre => return (Verdict::Complete, Effect::None),
            };
            vcpu.gic.send_sgi(&machine.vgic, register, value, hw);
        }
        Action::Undefined(_) => return (Verdict::Inject(Exception::Undefined), Effect::None),
    }
    (Verdict::Complete, Effect::None)
}

/// A load or store that stage 2 does not map and the hardware has described.
pub fn mmio(
    vcpu: &mut Vcpu,
    access: &MmioAccess,
    hw: &mut (impl Hardware + El1Regs),
    lines: &mut impl Lines,
) -> Verdict {
    let endian = Endian::of(vcpu.context.spsr, hw.sctlr());
    let done = if !access.is_aligned() {
        None
    } else if access.write {
        let value = access.store_value(&vcpu.context, endian);
        device::write(vcpu, access.ipa, access.width, value, hw, lines)
    } else {
        device::read(vcpu, access.ipa, access.width, hw)
            .map(|bus| access.complete_load(&mut vcpu.context, bus, endian))
    };
    match done {
        Some(()) => Verdict::Complete,
        None => Verdict::Inject(Exception::refused_access(access.va, access.write)),
    }
}

/// A load or store that stage 2 does not map and the hardware has not described (ISV = 0): `word` is the instruction,
/// as fetched by EL2 after the fact, and `sp` the guest's stack pointer. Two registers or a write-back are done in
/// full or not at all; what is not understood, or cannot be the instruction that faulted, is answered with the
/// architected abort.
#[cold]
#[inline(never)]
pub fn transfer(
    vcpu: &mut Vcpu,
    abort: &DataAbort,
    word: u32,
    sp: u64,
    hw: &mut (impl Hardware + El1Regs),
    lines: &mut impl Lines,
) -> (Verdict, Option<StackPointer>) {
    let refused = (Verdict::Inject(Exception::from_data_abort(abort)), None);
    let (Some(far), FaultAddress::Exact(ipa)) = (abort.far, abort.address) else {
        return refused;
    };
    let spsr = vcpu.context.spsr;
    let situation = Situation {
        spsr,
        sp,
        far,
        write: abort.write,
        endian: Endian::of(spsr, hw.sctlr()),
    };
    let Some(transfer) = Transfer::prepare(word, &vcpu.context, situation) else {
        return refused;
    };
    let mut bus = [0; 2];
    for (access, value) in transfer.accesses().zip(&mut bus) {
        let at = if (far & 0xfff).saturating_add(access.offset) < 0x1000 {
            ipa.checked_add(access.offset)
        } else {
            let next = far.wrapping_add(access.offset);
            hw.translate(next, vcpu.context.pc().is_el0()).map(Ipa::new)
        };
        let Some(at) = at else {
            return refused;
        };
        let done = match access.store {
            Some(store) => device::write(vcpu, at, access.width, store, hw, lines),
            None => device::read(vcpu, at, access.width, hw).map(|seen| *value = seen),
        };
        if done.is_none() {
            return refused;
        }
    }
    (Verdict::Complete, transfer.complete(&mut vcpu.context, bus))
}

/// What an interrupt was about, once the guest's share of it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Interrupted {
    /// The guest's alone, or none.
    Served,
    /// EL2's own interrupt: acknowledged, to be ended by the caller.
    Own(u32),
}

/// A physical interrupt that the hot path acknowledged and left in [`Vcpu::interrupt`], with its priority
/// dropped where it is one that the hot path knows.
pub fn interrupt(vcpu: &mut Vcpu, hw: &mut impl Hardware) -> Interrupted {
    let machine = vcpu.machine;
    match core::mem::replace(&mut vcpu.interrupt, NO_INTERRUPT) {
        VIRTUAL_TIMER => {
            vcpu.gic.ppi_fired(&machine.vgic, VIRTUAL_TIMER, hw);
            Interrupted::Served
        }
        PHYSICAL_TIMER => {
            hw.drop_priority(PHYSICAL_TIMER);
            vcpu.gic.ppi_fired(&machine.vgic, PHYSICAL_TIMER, hw);
            Interrupted::Served
        }
        KICK => {
            vcpu.gic.serve(&machine.vgic, hw);
            Interrupted::Served
        }
        MAINTENANCE => {
            vcpu.gic.serve(&machine.vgic, hw);
            hw.drop_priority(MAINTENANCE);
            hw.deactivate(MAINTENANCE);
            Interrupted::Served
        }
        // Nothing was pending.
        1020..1024 => Interrupted::Served,
        intid => Interrupted::Own(intid),
    }
}

/// Whether an exit was for this interrupt, which only EL2 knows: the hot path acknowledged it and left its number. Then
/// [`answer`] is not needed.
#[inline(always)]
pub fn is_own_interrupt(vcpu: &mut Vcpu, intid: u32) -> bool {
    if vcpu.interrupt != intid {
        return false;
    }
    vcpu.interrupt = NO_INTERRUPT;
    vcpu.trace.note_foreign();
    true
}

/// How long a lane that has nothing to do may be left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    /// WFE or WFET: most likely it spins for a lock, and an event that EL2 does not see may end the wait at any time.
    pub for_event: bool,
    /// The virtual count (CNTVCT_EL0) at which the wait ends by itself.
    pub until: Option<u64>,
}

impl Wait {
    /// CPU_SUSPEND to standby, which is WFI (DEN0022 5.4).
    pub const STANDBY: Self = Self {
        for_event: false,
        until: None,
    };

    /// What the instruction says (Arm ARM D19.2.37, ISS for a trapped WF* instruction).
    fn of(lane: &Vcpu, wait: &Wfx) -> Self {
        let for_event = matches!(wait.kind, WfxKind::Wfe | WfxKind::Wfet);
        let timed = matches!(wait.kind, WfxKind::Wfit | WfxKind::Wfet);
        // A timeout whose register the hardware does not name may have run out already.
        let until = timed.then(|| {
            wait.timeout
                .map_or(0, |register| lane.context.get(register))
        });
        Self { for_event, until }
    }
}

/// The syndrome as the slow path has it: all registers are in the frame.
pub fn syndrome(vcpu: &Vcpu, hw: &impl Hardware) -> Syndrome {
    let Pc { elr, spsr } = vcpu.context.pc();
    Syndrome {
        esr: hw.esr(),
        far: hw.far(),
        hpfar: hw.hpfar(),
        elr,
        spsr,
    }
}

#[cfg(test)]
mod tests;
