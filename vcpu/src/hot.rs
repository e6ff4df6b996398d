//! The hot path: the exits that guests take by the million, answered before the rest of the registers
//! has been saved.
//!
//! Each function returns true when it did exactly what the slow path ([`crate::serve`]) would have
//! done, and false when it changed nothing that a guest or the slow path could tell. It decides nothing
//! of its own: values come from the same tables, interrupts go through the same primitives, and the PC
//! moves by the same function. A differential test holds the two against each other.
//!
//! Only X0 to X19 are in the frame here. An access through another register declines, but for a byte to the UART: what
//! register a driver was compiled to take for it is chance, so the vector saves the others and asks again.
//!
//! What a virtio driver does for each interrupt is answered here as well. A notification has its device served, which takes
//! a stack: the vector saves the other registers, changes to the stack that the run loop has left, and calls [`warm`].

use crate::context::Pc;
use crate::lane::Vcpu;
use crate::smccc;
use crate::trace::Source;
use crate::vgic::{Sent, VIRTUAL_TIMER, Vgic, VirtGic};
use vcpu_board::{GICD_BASE, GICR_BASE, GICR_STRIDE, PL011_BASE, pl011};

mod warm;

use warm::Place;
pub use warm::warm;

/// The SGI by which one CPU makes another look at its mail.
pub const KICK: u32 = 7;

/// The registers of an exit, on the CPU that took it.
pub trait Hardware: VirtGic {
    /// ESR_EL2.
    fn esr(&self) -> u64;
    /// FAR_EL2.
    fn far(&self) -> u64;
    /// HPFAR_EL2.
    fn hpfar(&self) -> u64;
    /// ELR_EL2.
    fn elr(&self) -> u64;
    /// Writes ELR_EL2.
    fn set_elr(&mut self, value: u64);
    /// SPSR_EL2.
    fn spsr(&self) -> u64;
    /// Writes SPSR_EL2.
    fn set_spsr(&mut self, value: u64);
    /// SCTLR_EL1, the guest's.
    fn sctlr_el1(&self) -> u64;
    /// The IPA behind an address that the guest can read, at EL0 or EL1, by its own stage 1; `None` when there is none.
    fn translate(&self, va: u64, el0: bool) -> Option<u64>;
    /// CNTPCT_EL0: the physical counter.
    fn count(&self) -> u64;
    /// CNTFRQ_EL0: how often it counts in a second.
    fn frequency(&self) -> u64;
    /// Reads ICC_IAR1_EL1: acknowledges the most urgent physical interrupt.
    fn acknowledge(&mut self) -> u32;
    /// Writes ICC_EOIR1_EL1: drops the running priority (EOImode 1).
    fn drop_priority(&mut self, intid: u32);
}

const EC_HVC: u64 = 0x16;
const EC_SMC: u64 = 0x17;
const EC_SYSREG: u64 = 0x18;
const EC_DATA_ABORT: u64 = 0x24;

/// How many registers the vector has saved.
const SAVED: u64 = 20;

/// What became of a synchronous exception.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[must_use]
pub enum Answer {
    /// It is the slow path's.
    Declined = 0,
    /// It was answered.
    Done = 1,
    /// To be asked once more, of [`uart_saved`], when all general registers are in the frame. It only reads those that were not.
    Unsaved = 2,
    /// To be answered by [`warm`], when all general registers are in the frame that it may want. It takes a stack.
    Warm = 4,
}

/// A synchronous exception.
#[inline(always)]
pub fn sync(vcpu: &mut Vcpu, hw: &mut impl Hardware) -> Answer {
    let esr = hw.esr();
    let class = (esr >> 26) & 0x3F;
    // In this order, and by one bit: it is the shortest for all of them together.
    if class == EC_DATA_ABORT {
        return data_abort(vcpu, esr, hw);
    }
    if class & EC_SYSREG & !EC_SMC != 0 {
        if class != EC_SYSREG {
            return Answer::Declined;
        }
        let pc = pc(hw);
        if pc.is_el1() {
            return system_register(vcpu, esr, pc, hw);
        }
        return Answer::Declined;
    }
    match class {
        EC_HVC => {
            if !call(vcpu, esr) {
                return Answer::Declined;
            }
            vcpu.trace.note(esr, hw.elr());
            Answer::Done
        }
        EC_SMC => {
            let pc = pc(hw);
            if pc.is_el1() && call(vcpu, esr) {
                return finish(vcpu, esr, pc, hw);
            }
            Answer::Declined
        }
        _ => Answer::Declined,
    }
}

#[inline(always)]
fn data_abort(vcpu: &mut Vcpu, esr: u64, hw: &mut impl Hardware) -> Answer {
    let pc = pc(hw);
    if !pc.is_el1() {
        return Answer::Declined;
    }
    match mmio(vcpu, esr, hw) {
        Access::Done => finish(vcpu, esr, pc, hw),
        Access::Declined => Answer::Declined,
        // X0 to X15: one bit tells.
        Access::Uart if esr & 1 << 20 == 0 => uart(vcpu, esr, pc, hw),
        Access::Uart => Answer::Unsaved,
        Access::Slot => Answer::Warm,
    }
}

#[inline(always)]
fn pc(hw: &impl Hardware) -> Pc {
    Pc {
        elr: hw.elr(),
        spsr: hw.spsr(),
    }
}

/// A physical interrupt. What it declines it leaves in [`Vcpu::interrupt`], because acknowledging
/// cannot be undone.
#[inline(always)]
pub fn irq(vcpu: &mut Vcpu, hw: &mut impl Hardware) -> bool {
    let intid = hw.acknowledge();
    acknowledged(vcpu, intid, hw)
}

/// The rest of [`irq`], once the interrupt is acknowledged.
#[inline(always)]
pub fn acknowledged(vcpu: &mut Vcpu, intid: u32, hw: &mut impl Hardware) -> bool {
    if intid == VIRTUAL_TIMER {
        hw.drop_priority(VIRTUAL_TIMER);
        if vcpu.gic.fast_timer(hw) {
            vcpu.trace
                .note_interrupt(VIRTUAL_TIMER, Source::Timer, hw.elr());
            return true;
        }
    } else if intid == KICK {
        hw.drop_priority(KICK);
        hw.deactivate(KICK);
        let machine = vcpu.machine;
        return match vcpu.gic.kick_once(&machine.vgic, hw) {
            Ok(()) => {
                vcpu.trace.note_interrupt(KICK, Source::Kick, hw.elr());
                true
            }
            Err(mail) => kick_rest(vcpu, mail, hw),
        };
    }
    vcpu.interrupt = intid;
    false
}

/// The rest of a kick: several SGIs, or one without a list register. A tail call of [`irq`].
#[cold]
#[inline(never)]
fn kick_rest(vcpu: &mut Vcpu, mail: u32, hw: &mut impl Hardware) -> bool {
    let machine = vcpu.machine;
    let done = vcpu.gic.kick_rest(&machine.vgic, mail, hw);
    if done {
        vcpu.trace.note_interrupt(KICK, Source::Kick, hw.elr());
    } else {
        vcpu.interrupt = KICK;
    }
    done
}

/// The rest of an SGI to the lane itself: it needs a list register. A tail call of [`sync`].
#[cold]
#[inline(never)]
fn place_sgi(vcpu: &mut Vcpu, esr: u64, sgi: u32, hw: &mut impl Hardware) -> Answer {
    if vcpu.gic.place_new_sgi(sgi, hw) {
        finish(vcpu, esr, pc(hw), hw)
    } else {
        Answer::Declined
    }
}

/// HVC and SMC: only answers that need nothing but the function's number.
#[inline(always)]
fn call(vcpu: &mut Vcpu, esr: u64) -> bool {
    if esr & 0xFFFF != 0 {
        return false;
    }
    let [x0, ..] = &mut vcpu.context.x;
    match smccc::instant(*x0) {
        Some(answer) => {
            *x0 = answer;
            true
        }
        None => false,
    }
}

/// Moves the PC past the instruction and remembers the exit.
#[inline(always)]
fn finish(vcpu: &mut Vcpu, esr: u64, pc: Pc, hw: &mut impl Hardware) -> Answer {
    vcpu.trace.note(esr, pc.elr);
    resume(pc, hw)
}

#[inline(always)]
fn resume(pc: Pc, hw: &mut impl Hardware) -> Answer {
    let next = pc.step_over_a64();
    hw.set_elr(next.elr);
    hw.set_spsr(next.spsr);
    Answer::Done
}

/// The registers of the short frame by an instruction's register field; `None` for others.
#[inline(always)]
fn saved<'a>(vcpu: &'a mut Vcpu<'_>, field: u64) -> Option<&'a mut u64> {
    let number = field & 31;
    if number >= SAVED {
        return None;
    }
    vcpu.context.x.get_mut(usize::try_from(number).ok()?)
}

/// Identification registers, and ICC_SGI1R_EL1.
#[inline(always)]
fn system_register(vcpu: &mut Vcpu, esr: u64, pc: Pc, hw: &mut impl Hardware) -> Answer {
    /// ISS without Rt: op0 3, op1 0, CRn 12, CRm 11, op2 5, a write.
    const SGI1R: u64 = 3 << 20 | 5 << 17 | 12 << 10 | 11 << 1;
    const WITHOUT_RT: u64 = 0x1FF_FFFF & !(31 << 5);
    let machine = vcpu.machine;
    if let Some(value) = machine.ids.read((esr & 0x1FF_FFFF) as u32) {
        let Some(register) = saved(vcpu, esr >> 5) else {
            return Answer::Declined;
        };
        *register = value;
        return finish(vcpu, esr, pc, hw);
    }
    if esr & WITHOUT_RT != SGI1R {
        return Answer::Declined;
    }
    let Some(value) = saved(vcpu, esr >> 5).copied() else {
        return Answer::Declined;
    };
    match vcpu.gic.send_fast(&machine.vgic, value, hw) {
        Sent::Done => finish(vcpu, esr, pc, hw),
        Sent::Declined => Answer::Declined,
        Sent::Unplaced(sgi) => place_sgi(vcpu, esr, sgi, hw),
    }
}

/// ISS of a data abort, WnR: a store.
const WRITE: u64 = 1 << 6;
/// SAS: a byte or a halfword, a word, a doubleword.
const WORD: u64 = 1 << 23;
const DOUBLE: u64 = 1 << 22;

/// What has become of an access.
enum Access {
    Done,
    Declined,
    /// It may be the UART's: [`uart`] is due.
    Uart,
    /// [`warm`] answers it.
    Slot,
}

/// Accesses to the registers that guests use most, 32 bits wide, and 64 bits of GICR_TYPER.
#[inline(always)]
fn mmio(vcpu: &mut Vcpu, esr: u64, hw: &mut impl Hardware) -> Access {
    /// What must be so: ISV, no sign extension, no maintenance, no table walk, a translation fault.
    const SHAPE: u64 = 1 << 24 | 1 << 21 | 1 << 10 | 1 << 8 | 1 << 7 | 0x3C;
    const DESCRIBED: u64 = 1 << 24 | 0x04;
    const EE: u64 = 1 << 25;
    if esr & SHAPE != DESCRIBED || hw.sctlr_el1() & EE != 0 {
        return Access::Declined;
    }
    if esr & WORD == 0 {
        return Access::Uart;
    }
    let (hpfar, far) = (hw.hpfar(), hw.far());
    if let Some(place) = Place::of(hpfar, far) {
        return place.access(vcpu, esr);
    }
    let (page, offset) = (page(hpfar), far & 0xFFF);
    if esr & WRITE == 0 {
        let (Some(value), Some(register)) = (
            read(vcpu, page, offset, esr & DOUBLE != 0),
            saved(vcpu, esr >> 16),
        ) else {
            return Access::Declined;
        };
        *register = value;
        return Access::Done;
    }
    match saved(vcpu, esr >> 16).copied() {
        #[expect(clippy::cast_possible_truncation, reason = "a word is stored")]
        Some(value) if esr & DOUBLE == 0 => write(vcpu, page | offset, value as u32),
        _ => Access::Declined,
    }
}

/// HPFAR_EL2.FIPA: the number of the page that the guest went to, times 16.
const FIPA: u64 = 0x0000_FFFF_FFFF_FFF0;

#[inline(always)]
const fn page(hpfar: u64) -> u64 {
    (hpfar & FIPA) << 8
}

/// What a driver does for every character, in any width (Linux's takes halfwords): is there room, then the byte; and after
/// the last that it has no more, by a mask that mostly was so before. A tail
/// call of [`sync`] for an access that the hardware has described in full.
#[inline(never)]
fn uart(vcpu: &mut Vcpu, esr: u64, pc: Pc, hw: &mut impl Hardware) -> Answer {
    const RING: u32 = 1 << 8;
    /// SAS of less than a word: a halfword, not a byte.
    const HALF: u64 = 1 << 22;
    if hw.hpfar() & FIPA != PL011_BASE >> 8 {
        return Answer::Declined;
    }
    let (machine, field, offset) = (vcpu.machine, esr >> 16, hw.far() & 0xFFF);
    let done = if esr & WRITE == 0 {
        let Some(flags) = machine.fast_uart_read(offset) else {
            return Answer::Declined;
        };
        // The one flag that does not fit in a byte, if one is loaded. Only a closed loop brings it.
        if flags & RING != 0 {
            return Answer::Declined;
        }
        let Some(register) = saved(vcpu, field) else {
            return Answer::Declined;
        };
        *register = u64::from(flags);
        true
    } else if offset == pl011::DR {
        stored(vcpu, field).is_some_and(|value| machine.fast_uart_write(value))
    } else {
        offset == pl011::IMSC
            && esr & HALF != 0
            && stored(vcpu, field).is_some_and(|value| machine.fast_uart_mask(value))
    };
    if !done {
        return Answer::Declined;
    }
    vcpu.trace.note_data_abort(esr, pc.elr);
    resume(pc, hw)
}

/// What follows [`Answer::Unsaved`].
#[inline(always)]
pub fn uart_saved(vcpu: &mut Vcpu, hw: &mut impl Hardware) -> Answer {
    uart(vcpu, hw.esr(), pc(hw), hw)
}

/// A register that is stored, when all are in the frame. `None` for the zero register.
#[inline(always)]
fn stored(vcpu: &Vcpu, field: u64) -> Option<u64> {
    let number = usize::try_from(field & 31).ok()?;
    vcpu.context.x.get(number).copied()
}

/// Registers whose value is known without a lock.
#[inline(always)]
fn read(vcpu: &Vcpu, page: u64, offset: u64, double: bool) -> Option<u64> {
    const TYPER: u64 = 0x8;
    let word = match page {
        PL011_BASE => vcpu.machine.fast_uart_read(offset),
        GICD_BASE => Vgic::fast_gicd_read(offset),
        _ => {
            let vgic = &vcpu.machine.vgic;
            let frame = page.wrapping_sub(GICR_BASE);
            let lane = usize::try_from(frame / GICR_STRIDE).ok()?;
            if offset != TYPER || !frame.is_multiple_of(GICR_STRIDE) || lane >= vgic.lanes() {
                return None;
            }
            let typer = vgic.gicr_typer(lane);
            return Some(if double { typer } else { typer & 0xFFFF_FFFF });
        }
    };
    if double { None } else { word.map(u64::from) }
}

/// GICD_ISENABLER1 and 2.
#[inline(always)]
fn write(vcpu: &Vcpu, ipa: u64, value: u32) -> Access {
    const ISENABLER: u64 = GICD_BASE + 0x100;
    const UARTDR: u64 = PL011_BASE + pl011::DR - ISENABLER;
    let word = match ipa.wrapping_sub(ISENABLER) {
        4 => 1,
        8 => 2,
        UARTDR => return Access::Uart,
        _ => return Access::Declined,
    };
    if vcpu.machine.vgic.fast_isenabler(word, value) {
        Access::Done
    } else {
        Access::Declined
    }
}

#[cfg(test)]
mod tests;
