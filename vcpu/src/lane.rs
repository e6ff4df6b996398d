//! One virtual K lane.

use crate::context::{Context, El1State, FpState, InsnLen};
use crate::exit::{Exit, Syndrome};
use crate::hot::{Hardware, KICK};
use crate::inject::{self, El1Regs, Exception};
use crate::machine::Machine;
use crate::refused::Refused;
use crate::serve;
use crate::sysreg;
use crate::timer::{Timer, Timers, VmClock};
use crate::trace::{Source, Trace};
use crate::vgic::{LaneGic, PHYSICAL_TIMER, VIRTUAL_TIMER};

/// A lane: all that is its own. Exactly one CPU has it at any time, by `&mut`.
///
/// The vectors know that [`Context`] comes first and that a page of stack lies below.
#[repr(C, align(16))]
pub struct Vcpu<'m> {
    /// The general registers.
    pub context: Context,
    /// The machine this lane belongs to, shared with its other lanes.
    pub machine: &'m Machine,
    /// A physical interrupt that was acknowledged and not served yet; 1023 for none.
    pub interrupt: u32,
    /// The last exits.
    pub trace: Trace,
    /// The lane's half of the virtual GIC.
    pub gic: LaneGic,
    /// What it was refused.
    pub refused: Refused,
    /// Trapped registers that the lane keeps.
    pub sysregs: sysreg::Lane,
    /// EL1 and EL0 registers while the lane is not on a CPU.
    pub el1: El1State,
    /// FP and SIMD registers while the lane is not on a CPU.
    pub fp: FpState,
    /// A virtual SError that the lane took along when it left its CPU: VSESR_EL2.
    pub serror: Option<u64>,
}

/// No interrupt: what ICC_IAR1_EL1 reads when nothing is pending.
pub const NO_INTERRUPT: u32 = 1023;

/// What is to become of the guest after an exit was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// It goes on where its PC points: an interrupt, an HVC (whose return address is already past it), a retry.
    Resume,
    /// The trapped instruction is done: it goes on behind it.
    Complete,
    /// It takes this exception at the trapped instruction.
    Inject(Exception),
}

/// Why a machine ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It asked for it, with this code; 0 is well. PSCI SYSTEM_OFF counts as 0.
    Exit(u32),
    /// PSCI SYSTEM_RESET.
    Reset,
    /// Its last lane went off.
    AllLanesOff,
    /// An SError that the guest cannot be told about.
    SystemError,
    /// An exit that has no right answer.
    Unanswerable {
        /// ESR_EL2.
        esr: u64,
    },
}

impl<'m> Vcpu<'m> {
    /// Lane `index` of a machine, off, as if it had never run.
    #[must_use]
    pub const fn new(machine: &'m Machine, index: usize) -> Self {
        Self {
            context: Context::new(0),
            machine,
            interrupt: NO_INTERRUPT,
            gic: LaneGic::new(index),
            trace: Trace::new(),
            refused: Refused::NONE,
            sysregs: sysreg::Lane::reset(),
            el1: El1State::reset(),
            fp: FpState::reset(),
            serror: None,
        }
    }

    /// The lane's number, which is its MPIDR_EL1.Aff0.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.gic.id()
    }

    /// Readies the lane for its first instruction (PSCI CPU_ON, DEN0022 6.4): everything reset, `x0` = argument.
    pub fn start(&mut self, entry: u64, argument: u64) {
        self.context = Context {
            host_sp: self.context.host_sp,
            ..Context::new(entry)
        };
        let [x0, ..] = &mut self.context.x;
        *x0 = argument;
        self.sysregs = sysreg::Lane::reset();
        self.el1 = El1State::reset();
        self.fp = FpState::reset();
        self.serror = None;
        self.interrupt = NO_INTERRUPT;
    }

    /// The physical count at which a timer of the lane will interrupt it, while it is away and `now` is the count.
    #[must_use]
    pub fn next_event(&self, clock: VmClock, now: u64) -> Option<u64> {
        let timer = |intid, ctl, cval| {
            if self.gic.is_open(intid) {
                Timer { ctl, cval }
            } else {
                Timer::default()
            }
        };
        let el1 = &self.el1;
        let timers = Timers {
            virt: timer(VIRTUAL_TIMER, el1.cntv_ctl_el0, el1.cntv_cval_el0),
            phys: timer(PHYSICAL_TIMER, el1.cntp_ctl_el0, el1.cntp_cval_el0),
        };
        timers.next_event(clock, now)
    }

    /// Remembers an exit that the hot path has declined.
    pub fn note(&mut self, exit: Exit, syndrome: &Syndrome) {
        let (intid, source) = match (exit, self.interrupt) {
            (Exit::Sync, _) => return self.trace.note(syndrome.esr, syndrome.elr),
            (Exit::Irq, VIRTUAL_TIMER | PHYSICAL_TIMER) => (self.interrupt, Source::Timer),
            (Exit::Irq, KICK) => (KICK, Source::Kick),
            (Exit::Irq, other) => (other, Source::Other),
            (Exit::Fiq | Exit::SError, _) => (NO_INTERRUPT, Source::Other),
        };
        self.trace.note_interrupt(intid, source, syndrome.elr);
    }

    /// Carries out what of a verdict concerns the guest's registers. The only place, but for the hot
    /// path's use of the same function, where a guest's PC moves.
    ///
    /// The syndrome of the exit is still in the CPU's registers: what is refused is recorded. An exception of the
    /// guest's own is no refusal.
    pub fn apply(&mut self, verdict: Verdict, length: InsnLen, hw: &mut (impl Hardware + El1Regs)) {
        match verdict {
            Verdict::Complete => {
                let next = self.context.pc().step_over(length);
                self.context.set_pc(next);
            }
            Verdict::Inject(exception) => self.inject(exception, length, hw),
            Verdict::Resume => {}
        }
    }

    #[cold]
    #[inline(never)]
    fn inject(
        &mut self,
        exception: Exception,
        length: InsnLen,
        hw: &mut (impl Hardware + El1Regs),
    ) {
        if !matches!(exception, Exception::Own { .. }) {
            let syndrome = serve::syndrome(self, hw);
            self.refused.note(&syndrome);
        }
        let features = self.machine.features;
        let next = inject::inject(self.context.pc(), length, exception, hw, features);
        self.context.set_pc(next);
    }
}

#[cfg(test)]
mod tests;
