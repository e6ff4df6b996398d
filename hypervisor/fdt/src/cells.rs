//! `reg`, and the way of its addresses up to the processor.

use stage2_addr::{HostPhys, HostRegion, RegionError};

use super::error::{Stop, What, Why};
use super::node::{Prop, Walk};

/// One entry of `reg`: it does not wrap, but may be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reg {
    pub(super) base: u64,
    pub(super) size: u64,
}

impl Reg {
    /// The smallest run of pages that holds it.
    #[inline(never)]
    pub(super) fn covering(self) -> Result<HostRegion, Why> {
        HostRegion::covering(HostPhys::new(self.base), self.size).map_err(|error| match error {
            RegionError::Empty => Why::Empty,
            RegionError::MisalignedBase | RegionError::MisalignedLength => Why::Misaligned,
            RegionError::Wraps => Why::Wraps,
        })
    }
}

/// The big-endian number in at most eight bytes.
#[inline(never)]
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// Bytes of an address and of a size below the last of the first `nodes` nodes that lead to `node`. Addresses have one
/// or two cells, sizes none to two.
#[inline(never)]
fn widths(node: &Walk<'_, '_>, nodes: usize) -> Result<(u32, u32), Stop> {
    // Only the root has no parent, and nobody asks for its address.
    let frame = node.nth(nodes);
    let (address, size) = frame.map_or((0, 0), |frame| (frame.address_cells, frame.size_cells));
    let (wrong, cells) = match (address, size) {
        (1 | 2, 0..=2) => return Ok((address * 4, size * 4)),
        (1 | 2, _) => (Prop::SizeCells, size),
        _ => (Prop::AddressCells, address),
    };
    Err(node.stop(nodes, What::Prop(wrong), Why::Value, u64::from(cells)))
}

/// The `nth` entry of the node's `reg`, in the address space of the parent. There is a first one.
#[inline(never)]
pub(super) fn reg(node: &Walk<'_, '_>, nth: usize) -> Result<Option<Reg>, Stop> {
    let (address, size) = widths(node, node.nodes().saturating_sub(1))?;
    let address = address as usize;
    let bytes = node.need(Prop::Reg)?;
    let entry = address.saturating_add(size as usize);
    if bytes.is_empty() || !bytes.len().is_multiple_of(entry) {
        return Err(node.wrong(Prop::Reg, Why::Length, bytes.len() as u64));
    }
    let rest = bytes.get(nth.saturating_mul(entry)..).unwrap_or_default();
    let Some(cells) = rest.get(..entry) else {
        return Ok(None);
    };
    let (base, size) = cells.split_at_checked(address).unwrap_or_default();
    let reg = Reg {
        base: number(base),
        size: number(size),
    };
    match reg.base.checked_add(reg.size) {
        Some(_) => Ok(Some(reg)),
        None => Err(node.wrong(Prop::Reg, Why::Wraps, reg.base)),
    }
}

/// The `nth` entry of the node's `reg` where the processor sees it: carried through the `ranges` of every bus above
/// (2.3.8).
#[inline(never)]
pub(super) fn seen(node: &Walk<'_, '_>, nth: usize) -> Result<Option<Reg>, Stop> {
    let Some(mut reg) = reg(node, nth)? else {
        return Ok(None);
    };
    // The root's address space is the processor's.
    for bus in (2..node.nodes()).rev() {
        let ranges = node.nth(bus).and_then(|frame| frame.ranges);
        if ranges != Some(&[]) {
            reg.base = through(node, bus, ranges.unwrap_or_default(), reg)?;
        }
    }
    Ok(Some(reg))
}

/// The pages of a device's first range of registers.
#[inline(never)]
pub(super) fn device(node: &Walk<'_, '_>) -> Result<HostRegion, Stop> {
    let wrong = |why, value| node.wrong(Prop::Reg, why, value);
    let reg = seen(node, 0)?.ok_or_else(|| wrong(Why::Missing, 0))?;
    reg.covering().map_err(|why| wrong(why, reg.base))
}

/// Where `reg` begins on the far side of the last of the first `bus` nodes that lead to `node`.
fn through(node: &Walk<'_, '_>, bus: usize, ranges: &[u8], reg: Reg) -> Result<u64, Stop> {
    let wrong = |why, value| Err(node.stop(bus, What::Prop(Prop::Ranges), why, value));
    let (child, size) = widths(node, bus)?;
    let (parent, _) = widths(node, bus - 1)?;
    let (to_at, len_at) = (child as usize, (child + parent) as usize);
    let entry = (child + parent + size) as usize;
    if !ranges.len().is_multiple_of(entry) {
        return wrong(Why::Length, ranges.len() as u64);
    }
    // An entry is at least two cells long.
    let mut rest = ranges;
    while let Some((cells, more)) = rest.split_at_checked(entry) {
        rest = more;
        let part = |from, to| number(cells.get(from..to).unwrap_or_default());
        let (from, to, len) = (part(0, to_at), part(to_at, len_at), part(len_at, entry));
        if from.checked_add(len).is_none() || to.checked_add(len).is_none() {
            return wrong(Why::Wraps, from);
        }
        // Neither sum wraps: the entry ends, and so does `reg`, below 2^64.
        if from <= reg.base && reg.base.saturating_add(reg.size) <= from.saturating_add(len) {
            return Ok(to.saturating_add(reg.base - from));
        }
    }
    wrong(Why::NotMapped, reg.base)
}
