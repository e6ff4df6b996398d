//! The walk from node to node: a node is shown once its properties are complete, with the way down to it.

use core::cell::Cell;

use arrayvec::ArrayVec;

use super::cells::number;
use super::error::{FdtError, Stop, Thing, What, Why, Wrong, words};
use super::model::{Model, Models, Word};
use super::tree::{Token, Tree};

/// How deep nodes may nest. The deepest trees of real machines have about eight levels.
const MAX_DEPTH: usize = 16;

words! {
    /// The properties that EL2 reads.
    Prop {
        AddressCells = "#address-cells",
        SizeCells = "#size-cells",
        InterruptCells = "#interrupt-cells",
        Compatible = "compatible",
        DeviceType = "device_type",
        DmaCoherent = "dma-coherent",
        EnableMethod = "enable-method",
        InitrdStart = "linux,initrd-start",
        InitrdEnd = "linux,initrd-end",
        Interrupts = "interrupts",
        Iommus = "iommus",
        InterruptNames = "interrupt-names",
        Method = "method",
        Ranges = "ranges",
        RedistributorRegions = "#redistributor-regions",
        RedistributorStride = "redistributor-stride",
        Reg = "reg",
        RngSeed = "rng-seed",
        Status = "status",
        StdoutPath = "stdout-path",
        // No name has spaces: this one is whatever the walk was told.
        Alias = "the alias of the serial port",
    }
}

/// One open node: what its children need of it.
#[derive(Clone, Copy)]
pub(super) struct Frame<'dt> {
    pub(super) name: &'dt [u8],
    /// Whether the node and all nodes above it are in use.
    enabled: bool,
    /// Cells of an address and of a size in the children's `reg`, not judged: a PCI bus has 3, and nobody asks.
    pub(super) address_cells: u32,
    pub(super) size_cells: u32,
    pub(super) ranges: Option<&'dt [u8]>,
}

/// The open nodes, the root first, and what is wrong with one of them.
pub(super) struct Way<'dt> {
    frames: ArrayVec<Frame<'dt>, MAX_DEPTH>,
    wrong: Cell<Wrong>,
}

impl<'dt> Way<'dt> {
    /// The way to nowhere.
    pub(super) const fn new() -> Self {
        Self {
            frames: ArrayVec::new_const(),
            wrong: Cell::new(Wrong {
                what: What::Thing(Thing::Block),
                why: Why::Refused,
                nodes: 0,
                value: 0,
            }),
        }
    }

    /// Notes a complaint, which ends the reading: about the last of the first `nodes` nodes, if it is about one.
    #[cold]
    #[inline(never)]
    pub(super) fn stop(&self, nodes: usize, what: What, why: Why, value: u64) -> Stop {
        self.wrong.set(Wrong {
            what,
            why,
            nodes,
            value,
        });
        Stop
    }

    /// The complaint that there is no node, or not the right one.
    #[cold]
    #[inline(never)]
    pub(super) fn without(&self, model: Model, why: Why) -> Stop {
        self.stop(0, What::Model(model), why, 0)
    }

    /// The complaint about something that is in no node.
    #[cold]
    #[inline(never)]
    pub(super) fn thing(&self, what: Thing, why: Why, value: u64) -> Stop {
        self.stop(0, What::Thing(what), why, value)
    }

    /// The complaint as it leaves the reader.
    pub(super) fn error(&self) -> FdtError {
        FdtError::new(self.wrong.get(), &self.frames)
    }
}

/// A node that a walk has stood at.
pub(super) struct Spot<'dt> {
    parents: ArrayVec<Frame<'dt>, MAX_DEPTH>,
    at: usize,
}

/// A walk from node to node, parents first. It stands at a node once that node's properties are complete.
pub(super) struct Walk<'w, 'dt> {
    tree: &'w Tree<'dt>,
    /// From the root to the node itself. It outlives the walk, for whoever reports what was wrong.
    way: &'w mut Way<'dt>,
    props: [Option<&'dt [u8]>; Prop::ALL.len()],
    /// A property that is wanted besides those that EL2 knows.
    alias: &'dt [u8],
    /// Where the next token is.
    at: usize,
    /// Where the innermost node began.
    began: usize,
    /// Whether the innermost node may still get properties: they come before its children (5.4.2).
    open: bool,
    seen_root: bool,
}

impl<'w, 'dt> Walk<'w, 'dt> {
    /// A walk that has not begun. The property `alias` is gathered as [`Prop::Alias`].
    pub(super) fn new(tree: &'w Tree<'dt>, way: &'w mut Way<'dt>, alias: &'dt [u8]) -> Self {
        way.frames.clear();
        Self {
            tree,
            way,
            props: [None; Prop::ALL.len()],
            alias,
            at: tree.blob.structure.start,
            began: tree.blob.structure.start,
            open: false,
            seen_root: false,
        }
    }

    /// A walk that stands once more where an earlier one has stood.
    pub(super) fn back_at(
        tree: &'w Tree<'dt>,
        way: &'w mut Way<'dt>,
        spot: &Spot<'dt>,
    ) -> Result<Self, Stop> {
        let mut walk = Self::new(tree, way, b"");
        // As many as the way had room for.
        let _ = walk.way.frames.try_extend_from_slice(&spot.parents);
        walk.at = spot.at;
        walk.seen_root = !spot.parents.is_empty();
        walk.next()?;
        Ok(walk)
    }

    /// Where the walk stands.
    pub(super) fn spot(&self) -> Spot<'dt> {
        let mut spot = Spot {
            parents: ArrayVec::new_const(),
            at: self.began,
        };
        let (_, parents) = self.way.frames.split_last().unzip();
        let _ = spot
            .parents
            .try_extend_from_slice(parents.unwrap_or_default());
        spot
    }

    /// Goes on to the next node. False when there is none.
    #[inline(never)]
    pub(super) fn next(&mut self) -> Result<bool, Stop> {
        // Every step but the last moves on by at least a word, so the loop ends with the block. The token that ends a
        // node's properties is read again when the walk goes on.
        loop {
            let token = self.tree.token(self.at);
            let (behind, token) = token.map_err(|why| self.malformed(why))?;
            if self.open && !matches!(token, Token::Prop(..) | Token::Nothing) {
                self.open = false;
                self.complete()?;
                return Ok(true);
            }
            let bad = match token {
                Token::Begin(name) => {
                    self.began = self.at;
                    self.begin(name)
                }
                Token::Prop(..) if !self.open => Some(Why::Stray),
                Token::Prop(name, value) => {
                    self.property(name, value)?;
                    None
                }
                Token::End if self.way.frames.pop().is_none() => Some(Why::NoBegin),
                Token::End | Token::Nothing => None,
                Token::Finish if !self.way.frames.is_empty() => Some(Why::Inside),
                Token::Finish if !self.seen_root => Some(Why::NoRoot),
                Token::Finish => return Ok(false),
            };
            if let Some(why) = bad {
                return Err(self.malformed(why));
            }
            self.at = behind;
        }
    }

    /// Opens a node, or says why not.
    fn begin(&mut self, name: &'dt [u8]) -> Option<Why> {
        let parent = self.way.frames.last();
        if parent.is_none() && self.seen_root {
            return Some(Why::TwoRoots);
        }
        if parent.is_some() && name.is_empty() {
            return Some(Why::NoName);
        }
        // The specification's defaults (2.3.5).
        let frame = Frame {
            name,
            enabled: parent.is_none_or(|parent| parent.enabled),
            address_cells: 2,
            size_cells: 1,
            ranges: None,
        };
        self.props = [None; Prop::ALL.len()];
        self.seen_root = true;
        self.open = true;
        self.way.frames.try_push(frame).err().map(|_| Why::Deep)
    }

    fn property(&mut self, name: &[u8], value: &'dt [u8]) -> Result<(), Stop> {
        let alias = (name == self.alias).then_some(Prop::Alias);
        let Some(prop) = alias.or_else(|| Prop::named(name)) else {
            return Ok(());
        };
        let slot = self.props.get_mut(prop as usize);
        match slot.and_then(|slot| slot.replace(value)) {
            Some(_) => Err(self.wrong(prop, Why::Twice, 0)),
            None => Ok(()),
        }
    }

    /// What the innermost node's properties mean for its children.
    fn complete(&mut self) -> Result<(), Stop> {
        let address_cells = self.cell(Prop::AddressCells)?;
        let size_cells = self.cell(Prop::SizeCells)?;
        let status = self.word(Prop::Status)?;
        let ranges = self.get(Prop::Ranges);
        if let Some(frame) = self.way.frames.last_mut() {
            frame.address_cells = address_cells.unwrap_or(frame.address_cells);
            frame.size_cells = size_cells.unwrap_or(frame.size_cells);
            frame.ranges = ranges;
            frame.enabled &= matches!(status, None | Some(Some(Word::Okay | Word::Ok)));
        }
        Ok(())
    }

    /// How many nodes lead here, the root and the node itself included.
    pub(super) fn nodes(&self) -> usize {
        self.way.frames.len()
    }

    /// The last of the first `nodes` nodes that lead here. There is at least one.
    pub(super) fn nth(&self, nodes: usize) -> Option<&Frame<'dt>> {
        self.way.frames.get(nodes.checked_sub(1)?)
    }

    /// Whether the node is a `kind`, by its name or its `device_type`.
    pub(super) fn is(&self, kind: Word) -> Result<bool, Stop> {
        let name = self.way.frames.last();
        let name = name.and_then(|frame| Word::named(base_name(frame.name)));
        Ok(name == Some(kind) || self.word(Prop::DeviceType)? == Some(Some(kind)))
    }

    /// Which node at the top this is, or which it is a child of: its depth, and the name of the node at the top. The
    /// names of nodes are never empty but for the root's.
    pub(super) fn place(&self) -> (usize, Option<Word>) {
        let top = self.way.frames.get(1);
        let top = top.and_then(|frame| Word::named(frame.name));
        (self.way.frames.len().saturating_sub(1), top)
    }

    /// Whether the node and all above it are in use (2.3.4).
    pub(super) fn enabled(&self) -> bool {
        self.way.frames.last().is_some_and(|frame| frame.enabled)
    }

    /// Whether `path` leads here. A component without a unit address stands for any.
    #[inline(never)]
    pub(super) fn is_at(&self, path: &[u8]) -> bool {
        let mut frames = self.way.frames.iter().skip(1);
        for part in path.split(|byte| *byte == b'/') {
            if part.is_empty() {
                continue;
            }
            let Some(frame) = frames.next() else {
                return false;
            };
            if part != frame.name && part != base_name(frame.name) {
                return false;
            }
        }
        frames.next().is_none()
    }

    /// The property's bytes.
    #[inline(never)]
    pub(super) fn get(&self, prop: Prop) -> Option<&'dt [u8]> {
        *self.props.get(prop as usize)?
    }

    /// The bytes of a property that must be there.
    #[inline(never)]
    pub(super) fn need(&self, prop: Prop) -> Result<&'dt [u8], Stop> {
        self.get(prop)
            .ok_or_else(|| self.wrong(prop, Why::Missing, 0))
    }

    /// The text of a property without its last NUL; the NULs inside it part its strings.
    #[inline(never)]
    fn text(&self, prop: Prop) -> Result<Option<&'dt [u8]>, Stop> {
        match self.get(prop).map(<[u8]>::split_last) {
            None => Ok(None),
            Some(Some((0, text))) => Ok(Some(text)),
            Some(_) => Err(self.wrong(prop, Why::Unterminated, 0)),
        }
    }

    /// The only or first string of a property.
    #[inline(never)]
    pub(super) fn string(&self, prop: Prop) -> Result<Option<&'dt [u8]>, Stop> {
        let text = self.text(prop)?;
        Ok(text.map(|text| until(text, 0)))
    }

    /// What the only or first string of a property means, if it is there and means anything.
    #[inline(never)]
    pub(super) fn word(&self, prop: Prop) -> Result<Option<Option<Word>>, Stop> {
        Ok(self.string(prop)?.map(Word::named))
    }

    /// What `compatible` lists.
    #[inline(never)]
    pub(super) fn models(&self) -> Result<Models, Stop> {
        let mut models = Models::default();
        if let Some(text) = self.text(Prop::Compatible)? {
            for name in text.split(|byte| *byte == 0) {
                models.add(name);
            }
        }
        Ok(models)
    }

    /// A property of one cell.
    pub(super) fn cell(&self, prop: Prop) -> Result<Option<u32>, Stop> {
        let value = self.number(prop, 4)?;
        Ok(value.and_then(|value| u32::try_from(value).ok()))
    }

    /// A property of one cell, or of two where it may have so many bytes.
    #[inline(never)]
    pub(super) fn number(&self, prop: Prop, most: usize) -> Result<Option<u64>, Stop> {
        match self.get(prop) {
            None => Ok(None),
            Some(bytes) if bytes.len() == 4 || bytes.len() == most => Ok(Some(number(bytes))),
            Some(bytes) => Err(self.wrong(prop, Why::Length, bytes.len() as u64)),
        }
    }

    /// The complaint that `prop` of this node is wrong.
    #[cold]
    #[inline(never)]
    pub(super) fn wrong(&self, prop: Prop, why: Why, value: u64) -> Stop {
        self.stop(self.nodes(), What::Prop(prop), why, value)
    }

    /// The complaint that the structure block is wrong where the walk stands.
    #[cold]
    #[inline(never)]
    fn malformed(&self, why: Why) -> Stop {
        self.way.thing(Thing::Block, why, self.at as u64)
    }

    /// The complaint about the last of the first `nodes` nodes.
    pub(super) fn stop(&self, nodes: usize, what: What, why: Why, value: u64) -> Stop {
        self.way.stop(nodes, what, why, value)
    }
}

/// The beginning of `text`, up to but not including `end`.
#[inline(never)]
pub(super) fn until(text: &[u8], end: u8) -> &[u8] {
    text.split(|byte| *byte == end).next().unwrap_or_default()
}

/// The name without its unit address.
fn base_name(name: &[u8]) -> &[u8] {
    until(name, b'@')
}
