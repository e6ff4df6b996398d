//! Exceptions: interrupts are handed on, a probe's abort is answered, all else is reported.

use crate::{entry, image, probe, stack};
use arm_gic::InterruptGroup;
use arm_gic::gicv3::GicCpuInterface;
use core::fmt;
use guest_kernel_core::syndrome::Syndrome;

/// The interrupted context, as `vectors.s` lays it out.
#[repr(C)]
pub struct Frame {
    x: [u64; 31],
    sp: u64,
    elr: u64,
    spsr: u64,
    esr: u64,
    far: u64,
}

const _: () = assert!(size_of::<Frame>() == 288);

/// An exception that has no answer, for people.
pub struct Report<'f> {
    frame: &'f Frame,
    kind: u64,
}

impl Report<'_> {
    /// General-purpose registers, from x0.
    #[must_use]
    pub const fn registers(&self) -> &[u64; 31] {
        &self.frame.x
    }

    /// Where it happened: the address, and its distance from the start of the image, which is the
    /// address in the ELF file.
    #[must_use]
    pub fn pc(&self) -> (u64, u64) {
        let pc = self.frame.elr;
        (pc, pc.wrapping_sub(image::start().get()))
    }

    /// Whether it is a stack that ran into its guard page.
    #[must_use]
    pub fn is_stack_overflow(&self) -> bool {
        Syndrome(self.frame.esr).is_own_data_abort() && stack::is_guard(self.frame.far)
    }

    /// The registers that tell what happened, with their names.
    #[must_use]
    pub const fn details(&self) -> [(&'static str, u64); 4] {
        let Frame {
            sp, esr, far, spsr, ..
        } = *self.frame;
        [("esr", esr), ("far", far), ("spsr", spsr), ("sp", sp)]
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let syndrome = Syndrome(self.frame.esr);
        match self.kind {
            2 => return f.write_str("unexpected FIQ"),
            3 => return f.write_str("SError"),
            5 => return f.write_str("SError in a handler"),
            6 => return f.write_str("exception from EL0, where nothing runs"),
            _ => {}
        }
        if self.is_stack_overflow() {
            return write!(f, "stack overflow at {:#x}", self.frame.far);
        }
        write!(f, "{syndrome}")?;
        if syndrome.has_address() {
            write!(f, " {:#x}", self.frame.far)?;
        }
        if self.kind == 4 {
            f.write_str(", in a handler")?;
        }
        Ok(())
    }
}

/// Called by the vectors. `kind` is the vector's number there.
#[unsafe(no_mangle)]
extern "C" fn gk_exception(kind: u64, frame: &mut Frame) {
    match kind {
        0 if Syndrome(frame.esr).is_own_data_abort() && probe::is_probe(frame.elr) => {
            // The instruction after a probe's access returns x1 as the syndrome.
            let [_, x1, ..] = &mut frame.x;
            *x1 = frame.esr;
            frame.elr = frame.elr.wrapping_add(4);
        }
        1 => take_interrupt(),
        _ => entry::gk_kernel_fatal(&Report { frame, kind }),
    }
}

fn take_interrupt() {
    // Reading the number acknowledges. `None` is a spurious interrupt: there is nothing to end.
    if let Some(intid) = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1) {
        entry::gk_kernel_interrupt(intid.raw_value());
        GicCpuInterface::end_interrupt(intid, InterruptGroup::Group1);
    }
}
