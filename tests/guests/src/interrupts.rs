//! The interrupt controller in a known state, and single interrupts made to order.

use tests_arch::gic::{self, GICD, GICR};
use tests_arch::probe::{self, Width};
use tests_arch::{sys, timer};

const SGI_FRAME: u64 = GICR + 0x1_0000;
/// GICR_ISENABLER0 of lane 0.
pub const ISENABLER0: u64 = SGI_FRAME + 0x100;
/// GICR_ICENABLER0 of lane 0.
pub const ICENABLER0: u64 = SGI_FRAME + 0x180;
/// GICR_ISPENDR0 of lane 0.
pub const ISPENDR0: u64 = SGI_FRAME + 0x200;
/// GICR_ICPENDR0 of lane 0.
pub const ICPENDR0: u64 = SGI_FRAME + 0x280;
/// GICR_ISACTIVER0 of lane 0.
pub const ISACTIVER0: u64 = SGI_FRAME + 0x300;
/// GICR_ICACTIVER0 of lane 0.
pub const ICACTIVER0: u64 = SGI_FRAME + 0x380;
/// GICR_IPRIORITYR0 of lane 0.
pub const IPRIORITYR0: u64 = SGI_FRAME + 0x400;

/// Everything off, nothing pending or active, the usual priorities.
pub fn quiet() {
    sys::mask();
    timer::disarm();
    gic::set_ctlr(0);
    gic::set_pmr(0xf0);
    gic::write32(ICENABLER0, u32::MAX);
    gic::write32(ICPENDR0, u32::MAX);
    gic::write32(ICACTIVER0, u32::MAX);
    for word in 1..3 {
        gic::write32(GICD + 0x180 + 4 * word, u32::MAX);
        gic::write32(GICD + 0x280 + 4 * word, u32::MAX);
        gic::write32(GICD + 0x380 + 4 * word, u32::MAX);
    }
    while gic::acknowledge() < gic::SPURIOUS_FIRST {}
    gic::init_distributor();
    gic::init_lane();
}

/// One interrupt's priority.
pub fn set_priority(intid: u32, priority: u64) {
    let base = if intid < 32 {
        IPRIORITYR0
    } else {
        GICD + 0x400
    };
    let _ = probe::write(base + u64::from(intid), Width::Byte, priority);
}

/// A shared interrupt without a source: group 1, routed to lane 0, enabled; pending is the caller's business.
pub fn prepare_spi(intid: u32) {
    let (word, bit) = (u64::from(intid / 32) * 4, 1u32 << (intid % 32));
    gic::write32(GICD + 0x80 + word, gic::read32(GICD + 0x80 + word) | bit);
    let _ = probe::write(GICD + 0x6000 + u64::from(intid) * 8, Width::Double, 0);
    gic::write32(GICD + 0x100 + word, bit);
}

/// Has a shared interrupt be an edge.
pub fn make_edge(intid: u32) {
    let config = GICD + 0xc00 + 4 * u64::from(intid / 16);
    gic::write32(config, gic::read32(config) | 2 << (2 * (intid % 16)));
}

/// Makes a shared interrupt pending.
pub fn pend_spi(intid: u32) {
    gic::write32(GICD + 0x200 + u64::from(intid / 32) * 4, 1 << (intid % 32));
}
