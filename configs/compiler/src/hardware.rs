//! The machine that a plan is for, as its own device tree describes it: what there is to give to guests.
//!
//! EL2 reads the same tree again when it boots and believes nothing of this. Here it is read to find what a person
//! means by a word, and to say what is wrong where the word stands.
//!
//! Specification: Devicetree Specification v0.4; bindings as in Linux's `Documentation/devicetree/bindings`.

use std::ops::Range;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node as _, Property as _};

/// No device tree is nested deeper; the library follows nodes by recursion.
const DEEPEST: usize = 32;
/// The first cell of an interrupt that all CPUs share, and the INTID of the first of these.
const SPI: u32 = 0;
const FIRST_SPI: u32 = 32;
/// How many of them there are (IHI 0069, 2.2).
const SPIS: u32 = 988;
/// Edge-triggered: one bit for each direction.
const EDGE: u32 = 0b11;
/// Pages of registers.
const PAGE: u64 = configs_plan::PAGE;

/// A device tree of a machine.
#[derive(Debug)]
pub(crate) struct Hardware {
    nodes: Vec<Node>,
}

/// One node of it.
#[derive(Debug)]
pub(crate) struct Node {
    /// From the root.
    pub(crate) path: String,
    /// In use, and all nodes above it.
    pub(crate) enabled: bool,
    above: Option<usize>,
    properties: Vec<(String, Vec<u8>)>,
}

/// An interrupt that all CPUs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its INTID.
    pub(crate) intid: u32,
    /// It is an edge, else a level.
    pub(crate) edge: bool,
}

/// Why a node's interrupt cannot be given with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLine {
    /// It has so many.
    Several(usize),
    /// It comes through another controller, or to one CPU alone.
    NotShared,
}

impl Node {
    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The same without the unit address.
    pub(crate) fn base_name(&self) -> &str {
        self.name().split('@').next().unwrap_or_default()
    }

    /// A property's bytes.
    pub(crate) fn property(&self, name: &str) -> Option<&[u8]> {
        let found = self.properties.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    /// A property's strings.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        let bytes = self.property(name).unwrap_or_default();
        let texts = bytes
            .split(|byte| *byte == 0)
            .filter(|text| !text.is_empty());
        texts.filter_map(|text| str::from_utf8(text).ok()).collect()
    }

    /// A property's cells.
    pub(crate) fn cells(&self, name: &str) -> Vec<u32> {
        let bytes = self.property(name).unwrap_or_default();
        let cells = bytes.as_chunks::<4>().0.iter();
        cells.map(|cell| u32::from_be_bytes(*cell)).collect()
    }

    /// Whether it says that it is of this kind.
    pub(crate) fn is(&self, compatible: &str) -> bool {
        self.texts("compatible").contains(&compatible)
    }

    fn cell(&self, name: &str) -> Option<u32> {
        self.cells(name).first().copied()
    }
}

impl Hardware {
    /// Reads a device tree.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let header = bytes.first_chunk::<8>();
        let [m0, m1, m2, m3, l0, l1, l2, l3] = *header.ok_or("it is too short")?;
        if [m0, m1, m2, m3] != 0xD00D_FEED_u32.to_be_bytes() {
            return Err("it does not begin like a compiled device tree".into());
        }
        // Tools pad device trees; the header says how long this one is.
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).ok();
        let bytes = length.and_then(|length| bytes.get(..length));
        let fdt = Fdt::new(bytes.ok_or("it is cut short")?).map_err(|error| error.to_string())?;
        let mut hardware = Self { nodes: Vec::new() };
        hardware.add(&fdt.root(), None, DEEPEST)?;
        Ok(hardware)
    }

    fn add(&mut self, node: &FdtNode<'_>, above: Option<usize>, left: usize) -> Result<(), String> {
        let left = left
            .checked_sub(1)
            .ok_or(format!("its nodes are nested more than {DEEPEST} deep"))?;
        let parent = above.and_then(|above| self.nodes.get(above));
        let path = match parent {
            None => "/".to_owned(),
            Some(parent) => format!("{}/{}", parent.path.trim_end_matches('/'), node.name()),
        };
        let mut made = Node {
            path,
            enabled: parent.is_none_or(|parent| parent.enabled),
            above,
            properties: node
                .properties()
                .map(|property| (property.name().to_owned(), property.value().to_vec()))
                .collect(),
        };
        let status = made.texts("status").first().copied();
        made.enabled &= status.is_none_or(|status| matches!(status, "okay" | "ok"));
        let index = self.nodes.len();
        self.nodes.push(made);
        node.children()
            .try_for_each(|child| self.add(&child, Some(index), left))
    }

    /// All nodes but the root, numbered.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().skip(1)
    }

    pub(crate) fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index)
    }

    /// The names of `/aliases`, and where they lead.
    pub(crate) fn aliases(&self) -> Vec<(&str, usize)> {
        let Some((_, aliases)) = self.nodes().find(|(_, node)| node.path == "/aliases") else {
            return Vec::new();
        };
        let lead = |(name, _): &'_ (String, Vec<u8>)| {
            let path = aliases.texts(name).first().copied()?;
            Some(self.at(path)?.0)
        };
        let named = aliases.properties.iter();
        named
            .filter_map(|named| Some((named.0.as_str(), lead(named)?)))
            .collect()
    }

    fn at(&self, path: &str) -> Option<(usize, &Node)> {
        self.nodes().find(|(_, node)| node.path == path)
    }

    /// The nodes that a word stands for: by alias, by path, or by name with or without unit address.
    pub(crate) fn called(&self, word: &str) -> Vec<usize> {
        let alias = self.aliases().into_iter().find(|(name, _)| *name == word);
        if let Some((_, index)) = alias {
            return vec![index];
        }
        // A component of a path without its unit address stands for any (2.2.3).
        let same = |wanted: &str, node: &Node| wanted == node.name() || wanted == node.base_name();
        let by_path = |(index, node): (usize, &Node)| {
            let mut wanted = word.split('/').rev();
            let mut at = Some((index, node));
            while let Some((_, node)) = at.filter(|(index, _)| *index != 0) {
                if !same(wanted.next()?, node) {
                    return None;
                }
                at = node
                    .above
                    .and_then(|above| Some((above, self.node(above)?)));
            }
            (wanted.next() == Some("") && wanted.next().is_none()).then_some(index)
        };
        if word.starts_with('/') {
            return match self.at(word) {
                Some((index, _)) => vec![index],
                None => self.nodes().filter_map(by_path).collect(),
            };
        }
        let named = self.nodes().filter(|(_, node)| same(word, node));
        named.map(|(index, _)| index).collect()
    }

    /// The nodes of a kind.
    pub(crate) fn of_kind(&self, compatible: &str) -> Vec<usize> {
        let of = self.nodes().filter(|(_, node)| node.is(compatible));
        of.map(|(index, _)| index).collect()
    }

    /// The serial port that EL2 takes: what `stdout-path` leads to, else the first one that is in use.
    pub(crate) fn console(&self) -> Option<usize> {
        let is_port = |index: &usize| {
            let node = self.node(*index);
            node.is_some_and(|node| node.enabled && node.is("arm,pl011"))
        };
        let chosen = self.at("/chosen").map(|(_, node)| node);
        let stdout = chosen.and_then(|node| node.texts("stdout-path").first().copied());
        let stdout = stdout.and_then(|path| path.split(':').next());
        let stdout = stdout.and_then(|path| self.called(path).first().copied());
        stdout
            .filter(is_port)
            .or_else(|| self.nodes().map(|(index, _)| index).find(is_port))
    }

    /// Where a node's registers are, as the CPUs see them. `None`: it has none that they see, or none that make sense.
    pub(crate) fn registers(&self, index: usize) -> Option<Vec<Range<u64>>> {
        let node = self.node(index)?;
        let bus = self.node(node.above?)?;
        let (address, size) = widths(bus)?;
        let cells = node.cells("reg");
        let entry = address + size;
        if cells.is_empty() || size == 0 || !cells.len().is_multiple_of(entry) {
            return None;
        }
        let range = |cells: &[u32]| {
            let (base, size) = cells.split_at_checked(address)?;
            let (base, size) = (number(base), number(size));
            let base = self.through_buses(node.above?, base, size)?;
            Some(base..base.checked_add(size)?)
        };
        cells.chunks_exact(entry).map(range).collect()
    }

    /// Where the CPUs see an address of a bus (2.3.8).
    fn through_buses(&self, bus: usize, base: u64, size: u64) -> Option<u64> {
        let node = self.node(bus)?;
        let Some(above) = node.above else {
            return Some(base);
        };
        let ranges = node.property("ranges")?;
        if ranges.is_empty() {
            return self.through_buses(above, base, size);
        }
        let ((child, length), (parent, _)) = (widths(node)?, widths(self.node(above)?)?);
        let cells = node.cells("ranges");
        let base = cells
            .chunks_exact(child + parent + length)
            .find_map(|range| {
                let (from, rest) = range.split_at_checked(child)?;
                let (to, length) = rest.split_at_checked(parent)?;
                let offset = base.checked_sub(number(from))?;
                let inside = offset.checked_add(size)? <= number(length);
                inside.then(|| number(to).checked_add(offset))?
            })?;
        self.through_buses(above, base, size)
    }

    /// Another node with registers in these pages.
    pub(crate) fn neighbour(&self, index: usize, pages: &Range<u64>) -> Option<&Node> {
        let near = |other: usize| {
            let registers = self.registers(other).unwrap_or_default();
            registers
                .iter()
                .any(|range| range.start < pages.end && pages.start < range.end)
        };
        self.nodes()
            .find(|(other, _)| *other != index && near(*other))
            .map(|(_, node)| node)
    }

    /// Another node in use with the same interrupt.
    pub(crate) fn sharer(&self, index: usize, line: Line) -> Option<&Node> {
        let same = |other: usize| {
            let theirs = self.line(other);
            matches!(theirs, Ok(Some(theirs)) if theirs.intid == line.intid)
        };
        self.nodes()
            .find(|(other, node)| *other != index && node.enabled && same(*other))
            .map(|(_, node)| node)
    }

    /// A node's one interrupt, if it has any.
    ///
    /// # Errors
    /// It cannot be given.
    pub(crate) fn line(&self, index: usize) -> Result<Option<Line>, NoLine> {
        let Some(node) = self.node(index) else {
            return Ok(None);
        };
        if node.property("interrupts-extended").is_some() {
            return Err(NoLine::NotShared);
        }
        let cells = node.cells("interrupts");
        if cells.is_empty() {
            return Ok(None);
        }
        let gic = self.interrupt_parent(index).ok_or(NoLine::NotShared)?;
        let width = gic
            .cell("#interrupt-cells")
            .filter(|_| gic.is("arm,gic-v3"));
        let width = width.and_then(|width| usize::try_from(width).ok());
        let width = width.filter(|width| *width >= 3).ok_or(NoLine::NotShared)?;
        if cells.len() != width {
            return Err(NoLine::Several(cells.len() / width));
        }
        match cells.as_slice() {
            [SPI, number, flags, ..] if *number < SPIS => Ok(Some(Line {
                intid: FIRST_SPI + number,
                edge: flags & EDGE != 0,
            })),
            _ => Err(NoLine::NotShared),
        }
    }

    fn interrupt_parent(&self, index: usize) -> Option<&Node> {
        let mut node = self.node(index)?;
        loop {
            if let Some(phandle) = node.cell("interrupt-parent") {
                return self.by_phandle(phandle);
            }
            node = self.node(node.above?)?;
        }
    }

    fn by_phandle(&self, phandle: u32) -> Option<&Node> {
        let known = |node: &&Node| {
            let of = |name| node.cell(name) == Some(phandle);
            of("phandle") || of("linux,phandle")
        };
        self.nodes.iter().find(known)
    }

    /// The frequencies of a node's clocks. `None`: one of them is not fixed.
    pub(crate) fn clocks(&self, index: usize) -> Option<Vec<u32>> {
        let phandles = self.node(index)?.cells("clocks");
        let frequency = |phandle: &u32| {
            let clock = self.by_phandle(*phandle)?;
            clock
                .cell("clock-frequency")
                .filter(|_| clock.is("fixed-clock"))
        };
        phandles.iter().map(frequency).collect()
    }
}

/// Cells of an address and of a size below a bus; no more than two make a number.
fn widths(bus: &Node) -> Option<(usize, usize)> {
    let width = |name, default| {
        let width = bus.cell(name).unwrap_or(default);
        usize::try_from(width).ok().filter(|width| *width <= 2)
    };
    let address = width("#address-cells", 2).filter(|width| *width != 0)?;
    Some((address, width("#size-cells", 1)?))
}

fn number(cells: &[u32]) -> u64 {
    cells
        .iter()
        .fold(0, |value, cell| value << 32 | u64::from(*cell))
}

/// The pages that hold these registers.
pub(crate) fn pages(registers: &Range<u64>) -> Option<Range<u64>> {
    let end = registers.end.checked_next_multiple_of(PAGE)?;
    Some(registers.start / PAGE * PAGE..end)
}

#[cfg(test)]
#[path = "hardware/tests.rs"]
mod tests;
