//! `reg`, and the way of its addresses up to the processor.

use super::error::{FdtError, Problem};
use super::node::{Frame, Node, Prop, path_of};

/// One entry of `reg`: it does not wrap, but may be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reg {
    pub(super) base: u64,
    pub(super) size: u64,
}

/// The number in at most two cells.
pub(super) fn number(cells: &[u8]) -> u64 {
    cells
        .iter()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// Bytes of an address and of a size below the last of `frames`. Addresses have one or two cells, sizes none to two.
fn widths(frames: &[Frame<'_>]) -> Result<(usize, usize), FdtError> {
    let wrong = |prop: Prop, value| {
        let problem = Problem::Value(u64::from(value));
        FdtError::Property {
            node: path_of(frames),
            name: prop.name(),
            problem,
        }
    };
    let Some(frame) = frames.last() else {
        // Only the root has no parent, and nobody asks for its address.
        return Err(wrong(Prop::AddressCells, 0));
    };
    let address = match frame.address_cells {
        1 => 4,
        2 => 8,
        other => return Err(wrong(Prop::AddressCells, other)),
    };
    let size = match frame.size_cells {
        0 => 0,
        1 => 4,
        2 => 8,
        other => return Err(wrong(Prop::SizeCells, other)),
    };
    Ok((address, size))
}

/// The entries of the node's `reg`, at least one, in the address space of the parent.
pub(super) fn regs(
    node: &Node<'_, '_>,
) -> Result<impl Iterator<Item = Result<Reg, FdtError>>, FdtError> {
    let (address, size) = widths(node.ancestors())?;
    let bytes = node.need(Prop::Reg)?;
    let entry = address.saturating_add(size);
    if bytes.is_empty() || !bytes.len().is_multiple_of(entry) {
        return Err(node.wrong(Prop::Reg, Problem::Length(bytes.len())));
    }
    Ok(bytes.chunks_exact(entry).map(move |cells| {
        let (base, size) = cells.split_at_checked(address).unwrap_or_default();
        let (base, size) = (number(base), number(size));
        match base.checked_add(size) {
            Some(_) => Ok(Reg { base, size }),
            None => Err(node.wrong(Prop::Reg, Problem::Wraps(base, size))),
        }
    }))
}

/// Where the processor sees `reg` of this node: carried through the `ranges` of every bus above (2.3.8).
pub(super) fn translate(node: &Node<'_, '_>, reg: Reg) -> Result<Reg, FdtError> {
    let mut reg = reg;
    let mut above = node.ancestors();
    while let Some((bus, higher)) = above.split_last() {
        // The root's address space is the processor's.
        if higher.is_empty() {
            break;
        }
        let ranges = bus.ranges.ok_or_else(|| {
            let problem = Problem::NotMapped(reg.base);
            FdtError::Property {
                node: path_of(above),
                name: Prop::Ranges.name(),
                problem,
            }
        })?;
        if !ranges.is_empty() {
            reg = through(above, higher, ranges, reg)?;
        }
        above = higher;
    }
    Ok(reg)
}

/// `reg` on the far side of the last of `bus`, whose parent is the last of `higher`.
fn through(
    bus: &[Frame<'_>],
    higher: &[Frame<'_>],
    ranges: &[u8],
    reg: Reg,
) -> Result<Reg, FdtError> {
    let wrong = |problem| FdtError::Property {
        node: path_of(bus),
        name: Prop::Ranges.name(),
        problem,
    };
    let (child, size) = widths(bus)?;
    let (parent, _) = widths(higher)?;
    let entry = child.saturating_add(parent).saturating_add(size);
    if !ranges.len().is_multiple_of(entry) {
        return Err(wrong(Problem::Length(ranges.len())));
    }
    for cells in ranges.chunks_exact(entry) {
        let (from, rest) = cells.split_at_checked(child).unwrap_or_default();
        let (to, len) = rest.split_at_checked(parent).unwrap_or_default();
        let (from, to, len) = (number(from), number(to), number(len));
        if from.checked_add(len).is_none() || to.checked_add(len).is_none() {
            return Err(wrong(Problem::Wraps(from, len)));
        }
        let Some(offset) = reg.base.checked_sub(from) else {
            continue;
        };
        if offset.checked_add(reg.size).is_some_and(|end| end <= len) {
            let base = to
                .checked_add(offset)
                .ok_or(wrong(Problem::Wraps(to, len)))?;
            return Ok(Reg {
                base,
                size: reg.size,
            });
        }
    }
    Err(wrong(Problem::NotMapped(reg.base)))
}
