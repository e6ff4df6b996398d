//! More pending than there are list registers, with each of the two interrupt groups on or off.

use tests_arch::gic;

use crate::interrupts::{ISPENDR0, quiet};
use crate::score::Score;

/// How many SGIs there are.
const SGIS: u32 = 16;

/// GIC-13 in both groups. With group 0 on and group 1 off an emulator raises the maintenance interrupt for group 0 going
/// off (`VGrp0D`) without end, where EL2 asks for it.
pub fn crowded(score: &mut Score) {
    quiet();
    let mut case = score.case("GIC-13g");
    for (zero, one) in [(0, 0), (1, 0), (1, 1), (0, 1), (1, 0)] {
        gic::set_igrpen0(zero);
        gic::set_igrpen1(one);
        (0..SGIS).for_each(|intid| gic::send(0, intid));
        // What is pending is asked of all that EL2 knows.
        let pending = gic::read32(ISPENDR0);
        case.check(
            pending & 0xffff == 0xffff,
            format_args!("pending {pending:#x} with groups {zero}, {one}"),
        );
        gic::set_igrpen1(1);
        let mut seen = 0u32;
        for _ in 0..SGIS {
            let intid = gic::acknowledge();
            if intid < SGIS {
                seen |= 1 << intid;
                gic::end(intid);
            }
        }
        case.check(
            seen == 0xffff,
            format_args!("{seen:#x} came with groups {zero}, {one}"),
        );
    }
    gic::set_igrpen0(0);
}
