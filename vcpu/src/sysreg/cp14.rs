//! The debug registers that AArch32 user mode may read (Arm ARM G8.3). They trap with all others (MDCR_EL2.TDA, TDRA).
//!
//! A guest that does not want them read sets MDSCR_EL1.TDCC, which the hardware has, and takes the trap itself.

use crate::context::{Context, Reg, spsr};
use crate::debug::dbgdidr;
use crate::idregs::IdRegs;

/// Opc1, Opc2, CRn and CRm of ISS for MCR and MRC (Arm ARM D24.2.40).
const NAME: u32 = 7 << 17 | 7 << 14 | 15 << 10 | 15 << 1;
const fn name(crn: u32, crm: u32) -> u32 {
    crn << 10 | crm << 1
}

const DBGDIDR: u32 = name(0, 0);
const DBGDSCR_INT: u32 = name(0, 1);
const DBGDTR_INT: u32 = name(0, 5);
const DBGDRAR: u32 = name(1, 0);
const DBGDSAR: u32 = name(2, 0);

/// MRC or MCR, coproc 14, with this ISS: true when it is done, false when it is undefined. There is no debugger behind
/// the communication channel: nothing has been received, and what is sent is lost.
pub fn access(iss: u32, ids: &IdRegs, context: &mut Context) -> bool {
    let read = iss & 1 != 0;
    let value = match (iss & NAME, read) {
        (DBGDIDR, true) => dbgdidr(ids.get(5, 0)),
        (DBGDSCR_INT | DBGDTR_INT | DBGDRAR | DBGDSAR, true) => 0,
        (DBGDTR_INT, false) => return true,
        _ => return false,
    };
    match Reg::from_field(u64::from(iss >> 5)) {
        // R15: the flags.
        Reg::XZR => context.spsr = context.spsr & !spsr::NZCV | value & spsr::NZCV,
        register => context.set(register, value),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idregs::Limits;

    fn ids() -> IdRegs {
        let host = |crm, op2| if (crm, op2) == (5, 0) { 0x1030_5006 } else { 0 };
        IdRegs::sanitise(&host, Limits::MAX)
    }

    fn run(iss: u32) -> (bool, Context) {
        let mut context = Context::new(0);
        context.x = [9; 31];
        context.spsr = 0x1d0 | spsr::NZCV;
        (access(iss, &ids(), &mut context), context)
    }

    const R3: u32 = 3 << 5;

    #[test]
    fn what_user_mode_may_read_has_a_value() {
        for (register, value) in [
            (DBGDIDR, 0x3516_0000),
            (DBGDSCR_INT, 0),
            (DBGDTR_INT, 0),
            (DBGDRAR, 0),
            (DBGDSAR, 0),
        ] {
            let (done, context) = run(register | R3 | 1);
            assert!(done);
            assert_eq!((context.x[2], context.x[3], context.x[4]), (9, value, 9));
            assert_eq!(context.spsr & spsr::NZCV, spsr::NZCV);
        }
        let (done, context) = run(DBGDSCR_INT | 31 << 5 | 1);
        assert!(done);
        assert_eq!((context.x, context.spsr), ([9; 31], 0x1d0), "the flags");
    }

    /// Every name, read and written: five are read, one is written, the rest is undefined and changes nothing.
    #[test]
    fn nothing_else_has() {
        let (mut read, mut written) = (0, 0);
        for iss in (0..1_u32 << 20).filter(|iss| iss & (31 << 5) == R3) {
            let (done, context) = run(iss);
            let changed = context.x != [9; 31] || context.spsr != 0x1d0 | spsr::NZCV;
            assert_eq!(changed, done && iss & 1 == 1, "{iss:#x}");
            read += u32::from(done && iss & 1 == 1);
            written += u32::from(done && iss & 1 == 0);
        }
        assert_eq!((read, written), (5, 1));
    }
}
