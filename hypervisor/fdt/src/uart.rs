//! The serial port for EL2's reports (Devicetree Specification 3.6 and 3.3; bindings/serial/pl011.yaml).

use core::ops::ControlFlow;

use arrayvec::ArrayVec;
use stage2_addr::HostRegion;

use super::cells;
use super::error::{FdtError, Problem};
use super::header::be32;
use super::machine::covering;
use super::model::Models;
use super::node::{Frame, MAX_DEPTH, Node, Prop, each, is_at};
use super::tree::{Token, Tree};

/// The first cell of an interrupt that all processors share (bindings/interrupt-controller/arm,gic-v3.yaml).
const SPI: u32 = 0;
/// How many of these there are, and the INTID of the first (IHI 0069, 2.2).
const SPIS: u32 = 988;
const FIRST_SPI: u32 = 32;

/// The serial port as its node describes it.
pub(super) struct SerialPort<'dt> {
    /// Its registers.
    pub(super) registers: HostRegion,
    interrupts: Option<&'dt [u8]>,
}

impl SerialPort<'_> {
    /// The INTID of its interrupt, where each has so many cells. `None` when it has none, or none that EL2 could route:
    /// then nobody can type, which is no reason to refuse a machine.
    pub(super) fn intid(&self, cells: usize) -> Option<u32> {
        let bytes = self.interrupts?.get(..cells.checked_mul(4)?)?;
        let (kind, number) = (be32(bytes, 0)?, be32(bytes, 4)?);
        (kind == SPI && number < SPIS).then(|| number.saturating_add(FIRST_SPI))
    }
}

/// The first PL011 that is enabled. On most machines `stdout-path` leads to it, and the tree need not be read again.
#[derive(Default)]
pub(super) struct FirstPort<'dt> {
    /// The way down to it, and what it says.
    found: Option<(
        ArrayVec<Frame<'dt>, MAX_DEPTH>,
        Result<SerialPort<'dt>, FdtError>,
    )>,
}

impl<'dt> FirstPort<'dt> {
    /// Looks at an enabled node.
    pub(super) fn node(&mut self, node: &Node<'_, 'dt>, models: &Models) {
        if models.pl011 && self.found.is_none() {
            let frames = node.frames().iter().copied().collect();
            self.found = Some((frames, port(node)));
        }
    }

    /// The PL011 that `stdout-path` leads to, or else the first one that is enabled.
    pub(super) fn finish(
        self,
        tree: &Tree<'_, 'dt>,
        stdout: Option<&'dt [u8]>,
    ) -> Result<SerialPort<'dt>, FdtError> {
        let what = "enabled PL011 serial port (arm,pl011)";
        let (frames, first) = self.found.ok_or(FdtError::Missing { what })?;
        let path = match stdout.map(without_options) {
            Some(path) if path.starts_with(b"/") => Some(path),
            Some(name) => alias(tree, name)?,
            None => None,
        };
        match path {
            Some(path) if !is_at(&frames, path) => named(tree, path)?.unwrap_or(first),
            _ => first,
        }
    }
}

/// The enabled PL011 at `path`.
fn named<'dt>(
    tree: &Tree<'_, 'dt>,
    path: &[u8],
) -> Result<Option<Result<SerialPort<'dt>, FdtError>>, FdtError> {
    let mut found = None;
    each(tree, &mut |node| {
        if !is_at(node.frames(), path) || !node.enabled() || !node.models()?.pl011 {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some(port(node));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// `stdout-path` may say how the port is set up: `/pl011@9000000:115200n8`.
fn without_options(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// The path that `/aliases` has for `name`.
fn alias<'dt>(tree: &Tree<'_, 'dt>, name: &[u8]) -> Result<Option<&'dt [u8]>, FdtError> {
    let mut depth = 0_usize;
    let mut inside = false;
    let mut path = None;
    tree.walk(&mut |_, token| {
        match token {
            Token::Begin(node) => {
                depth = depth.saturating_add(1);
                inside = depth == 2 && node == b"aliases";
            }
            Token::End => {
                depth = depth.saturating_sub(1);
                inside = false;
            }
            Token::Prop(prop, value) if inside && prop == name => {
                path = value
                    .split_last()
                    .and_then(|(end, path)| (*end == 0).then_some(path));
                return Ok(ControlFlow::Break(()));
            }
            Token::Prop(..) => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(path)
}

/// The device's first range of registers, and its interrupts.
fn port<'dt>(node: &Node<'_, 'dt>) -> Result<SerialPort<'dt>, FdtError> {
    let wrong = |problem| node.wrong(Prop::Reg, problem);
    let reg = cells::regs(node)?
        .next()
        .ok_or_else(|| wrong(Problem::Missing))??;
    Ok(SerialPort {
        registers: covering(cells::translate(node, reg)?).map_err(wrong)?,
        interrupts: node.get(Prop::Interrupts),
    })
}
