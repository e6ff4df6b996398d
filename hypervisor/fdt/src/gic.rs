//! The interrupt controller (bindings/interrupt-controller/arm,gic-v3.yaml).

use arrayvec::ArrayVec;
use stage2_addr::HostRegion;

use super::MAX_GICR;
use super::cells;
use super::error::{Stop, Why};
use super::node::{Prop, Walk};

/// The frames of a GICv3 are 64 KiB (IHI 0069, 12.10); a redistributor has two at least.
const FRAME: u64 = 0x1_0000;

/// What the node of a GICv3 says.
pub(super) struct Gic {
    pub(super) gicd: HostRegion,
    pub(super) gicr: ArrayVec<HostRegion, MAX_GICR>,
    /// Bytes of what describes one interrupt.
    pub(super) interrupt: usize,
}

/// Reads the node of a GICv3.
pub(super) fn read(node: &Walk<'_, '_>) -> Result<Gic, Stop> {
    let interrupt = match number(node, Prop::InterruptCells, 0)? {
        3 => 12,
        4 => 16,
        other => return Err(node.wrong(Prop::InterruptCells, Why::Value, other)),
    };
    // Zero is what the binding calls "no stride given"; a GICv4 redistributor has four frames.
    let stride = number(node, Prop::RedistributorStride, 0)?;
    if !matches!(stride, 0 | 0x2_0000 | 0x4_0000) {
        return Err(node.wrong(Prop::RedistributorStride, Why::Value, stride));
    }
    let count = number(node, Prop::RedistributorRegions, 1)?;
    if count == 0 || count > MAX_GICR as u64 {
        return Err(node.wrong(Prop::RedistributorRegions, Why::Value, count));
    }
    // `reg` has the distributor, then the ranges of redistributors, then what only a GICv2 guest needs.
    let gicd = frame(node, 0, FRAME)?;
    let mut gicr = ArrayVec::new();
    while (gicr.len() as u64) < count {
        let region = frame(node, gicr.len().saturating_add(1), 2 * FRAME)?;
        let _ = gicr.try_push(region);
    }
    Ok(Gic {
        gicd,
        gicr,
        interrupt,
    })
}

fn number(node: &Walk<'_, '_>, prop: Prop, default: u64) -> Result<u64, Stop> {
    Ok(node.number(prop, 8)?.unwrap_or(default))
}

/// The `nth` range of registers, which has `least` bytes.
#[inline(never)]
fn frame(node: &Walk<'_, '_>, nth: usize, least: u64) -> Result<HostRegion, Stop> {
    let wrong = |why, value| node.wrong(Prop::Reg, why, value);
    let len = node.get(Prop::Reg).map_or(0, <[u8]>::len);
    let reg = cells::seen(node, nth)?.ok_or_else(|| wrong(Why::Length, len as u64))?;
    if reg.size < least {
        return Err(wrong(Why::TooSmall, reg.size));
    }
    if !reg.base.is_multiple_of(FRAME) {
        return Err(wrong(Why::Misaligned, reg.base));
    }
    reg.covering().map_err(|why| wrong(why, reg.base))
}
