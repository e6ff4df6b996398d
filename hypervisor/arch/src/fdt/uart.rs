//! The serial port for EL2's reports (Devicetree Specification 3.6 and 3.3; bindings/serial/pl011.yaml).

use core::ops::ControlFlow;

use stage2_addr::HostRegion;

use super::cells;
use super::error::{FdtError, Problem};
use super::machine::covering;
use super::node::{Node, Prop, each};
use super::tree::{Token, Tree};

/// The PL011 that `stdout-path` leads to, or else the first one that is enabled.
pub(super) fn find<'dt>(
    tree: &dyn Tree<'dt>,
    stdout: Option<&'dt [u8]>,
) -> Result<HostRegion, FdtError> {
    let path = match stdout.map(without_options) {
        Some(path) if path.starts_with(b"/") => Some(path),
        Some(name) => alias(tree, name)?,
        None => None,
    };
    let mut found = None;
    each(tree, &mut |node| {
        if !node.enabled() || !node.is_compatible("arm,pl011")? {
            return Ok(ControlFlow::Continue(()));
        }
        if path.is_some_and(|path| node.is_at(path)) {
            found = Some(registers(node));
            return Ok(ControlFlow::Break(()));
        }
        if found.is_none() {
            found = Some(registers(node));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    found.unwrap_or(Err(FdtError::Missing {
        what: "enabled PL011 serial port (arm,pl011)",
    }))
}

/// `stdout-path` may say how the port is set up: `/pl011@9000000:115200n8`.
fn without_options(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// The path that `/aliases` has for `name`.
fn alias<'dt>(tree: &dyn Tree<'dt>, name: &[u8]) -> Result<Option<&'dt [u8]>, FdtError> {
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

/// The device's first range of registers.
fn registers(node: &Node<'_, '_>) -> Result<HostRegion, FdtError> {
    let wrong = |problem| node.wrong(Prop::Reg, problem);
    let reg = cells::regs(node)?.next().ok_or(wrong(Problem::Missing))??;
    covering(cells::translate(node, reg)?).map_err(wrong)
}
