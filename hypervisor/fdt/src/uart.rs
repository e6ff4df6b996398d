//! The serial port for EL2's reports (Devicetree Specification 3.6 and 3.3; bindings/serial/pl011.yaml).

use stage2_addr::HostRegion;

use super::cells::{self, number};
use super::error::Stop;
use super::model::Word;
use super::node::{Prop, Walk, Way, until};
use super::tree::Tree;

/// How many interrupts all processors share, and the INTID of the first (IHI 0069, 2.2). The first cell of such an
/// interrupt is zero (bindings/interrupt-controller/arm,gic-v3.yaml).
const SPIS: u64 = 988;
const FIRST_SPI: u32 = 32;

/// The serial port as its node describes it.
#[derive(Clone, Copy)]
pub(super) struct Port {
    /// Its registers.
    pub(super) registers: HostRegion,
    /// The INTID of its interrupt. `None` when it has none, or none that EL2 could route: then nobody can type, which
    /// is no reason to refuse a machine.
    pub(super) intid: Option<u32>,
}

impl Port {
    /// Reads the node of a PL011, where each interrupt has `entry` bytes.
    #[inline(never)]
    pub(super) fn read(node: &Walk<'_, '_>, entry: usize) -> Result<Self, Stop> {
        let registers = cells::device(node)?;
        let interrupts = node
            .get(Prop::Interrupts)
            .and_then(|bytes| bytes.get(..entry));
        // The kind of the interrupt is zero, so the first two cells are its number.
        let spi = interrupts.and_then(|bytes| bytes.get(..8)).map(number);
        let spi = spi
            .filter(|spi| *spi < SPIS)
            .and_then(|spi| u32::try_from(spi).ok());
        let intid = spi.map(|spi| spi.saturating_add(FIRST_SPI));
        Ok(Self { registers, intid })
    }
}

/// The path that `stdout-path` stands for.
pub(super) fn path<'dt>(
    tree: &Tree<'dt>,
    way: &mut Way<'dt>,
    stdout: &'dt [u8],
) -> Result<Option<&'dt [u8]>, Stop> {
    // It may say how the port is set up: `/pl011@9000000:115200n8`.
    let name = until(stdout, b':');
    if name.starts_with(b"/") {
        return Ok(Some(name));
    }
    // A name that `/aliases` explains.
    let mut walk = Walk::new(tree, way, name);
    while walk.next()? {
        if walk.place() == (1, Some(Word::Aliases))
            && let Some(path) = walk.get(Prop::Alias)
        {
            return Ok(path
                .split_last()
                .and_then(|(end, path)| (*end == 0).then_some(path)));
        }
    }
    Ok(None)
}
