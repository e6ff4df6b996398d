//! Tokens gathered into nodes: a node is shown once its properties are complete, with the way down to it.

use core::ops::ControlFlow;

use arrayvec::ArrayVec;

use super::error::{FdtError, NodePath, Problem};
use super::header::be32;
use super::model::Models;
use super::tree::{Token, Tree};

/// How deep nodes may nest. The deepest trees of real machines have about eight levels.
pub(super) const MAX_DEPTH: usize = 16;

macro_rules! properties {
    ($($name:ident = $text:literal,)*) => {
        /// The properties that EL2 reads.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Prop {
            $(#[doc = $text] $name,)*
        }

        /// The values of one node's properties, as raw bytes.
        #[derive(Default)]
        #[expect(non_snake_case, reason = "each field is named for its variant of `Prop`")]
        struct Props<'dt> {
            $($name: Option<&'dt [u8]>,)*
        }

        impl Prop {
            const ALL: &[(&'static str, Self)] = &[$(($text, Self::$name),)*];

            /// The name in the tree.
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The property of a name.
            fn named(name: &[u8]) -> Option<Self> {
                // Most of a tree's properties are none of these, and most of them are told by their length.
                Self::ALL
                    .iter()
                    .find(|(known, _)| known.len() == name.len() && known.as_bytes() == name)
                    .map(|(_, prop)| *prop)
            }
        }

        impl<'dt> Props<'dt> {
            fn get(&self, prop: Prop) -> Option<&'dt [u8]> {
                match prop {
                    $(Prop::$name => self.$name,)*
                }
            }

            fn slot(&mut self, prop: Prop) -> &mut Option<&'dt [u8]> {
                match prop {
                    $(Prop::$name => &mut self.$name,)*
                }
            }
        }
    };
}

properties! {
    AddressCells = "#address-cells",
    SizeCells = "#size-cells",
    InterruptCells = "#interrupt-cells",
    Compatible = "compatible",
    DeviceType = "device_type",
    EnableMethod = "enable-method",
    InitrdStart = "linux,initrd-start",
    InitrdEnd = "linux,initrd-end",
    Interrupts = "interrupts",
    InterruptNames = "interrupt-names",
    Method = "method",
    Ranges = "ranges",
    RedistributorRegions = "#redistributor-regions",
    RedistributorStride = "redistributor-stride",
    Reg = "reg",
    RngSeed = "rng-seed",
    Status = "status",
    StdoutPath = "stdout-path",
}

/// One open node: what its children need of it.
#[derive(Clone, Copy)]
pub(super) struct Frame<'dt> {
    name: &'dt [u8],
    /// Whether the node and all nodes above it are in use.
    enabled: bool,
    /// Cells of an address and of a size in the children's `reg`, not judged: a PCI bus has 3, and nobody asks.
    pub(super) address_cells: u32,
    pub(super) size_cells: u32,
    pub(super) ranges: Option<&'dt [u8]>,
}

impl<'dt> Frame<'dt> {
    /// A node of which only the name is known, with the specification's defaults (2.3.5).
    fn open(name: &'dt [u8], enabled: bool) -> Self {
        let (address_cells, size_cells, ranges) = (2, 1, None);
        Self {
            name,
            enabled,
            address_cells,
            size_cells,
            ranges,
        }
    }

    /// The name without its unit address.
    pub(super) fn base_name(&self) -> &'dt [u8] {
        self.name
            .split(|byte| *byte == b'@')
            .next()
            .unwrap_or_default()
    }
}

/// Whether `path` leads to the last of `frames`, of which the first is the root. A component without a unit address
/// stands for any.
pub(super) fn is_at(frames: &[Frame<'_>], path: &[u8]) -> bool {
    let mut wanted = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty());
    let same = frames.iter().skip(1).all(|frame| {
        wanted
            .next()
            .is_some_and(|part| part == frame.name || part == frame.base_name())
    });
    same && wanted.next().is_none()
}

/// The path of the last of `frames`, of which the first is the root.
#[cold]
#[inline(never)]
pub(super) fn path_of(frames: &[Frame<'_>]) -> NodePath {
    let mut path = NodePath::root();
    for frame in frames.iter().skip(1) {
        path.push(frame.name);
    }
    path
}

/// A node with all its properties, and its ancestors.
pub(super) struct Node<'n, 'dt> {
    /// From the root to the node itself; never empty.
    frames: &'n [Frame<'dt>],
    props: &'n Props<'dt>,
}

impl<'dt> Node<'_, 'dt> {
    /// How many nodes are above this one.
    pub(super) fn depth(&self) -> usize {
        self.frames.len().saturating_sub(1)
    }

    /// From the root down to the node itself.
    pub(super) fn frames(&self) -> &[Frame<'dt>] {
        self.frames
    }

    /// From the root down to the parent.
    pub(super) fn ancestors(&self) -> &[Frame<'dt>] {
        self.frames.split_last().map_or(&[], |(_, above)| above)
    }

    /// The node's name without its unit address.
    pub(super) fn base_name(&self) -> &'dt [u8] {
        self.frames.last().map_or(&[], Frame::base_name)
    }

    /// Whether this is a child of the top-level node `parent`.
    pub(super) fn is_child_of(&self, parent: &str) -> bool {
        self.depth() == 2
            && self
                .frames
                .get(1)
                .is_some_and(|f| f.name == parent.as_bytes())
    }

    /// Whether this is the top-level node `name`.
    pub(super) fn is_top(&self, name: &str) -> bool {
        self.depth() == 1
            && self
                .frames
                .get(1)
                .is_some_and(|f| f.name == name.as_bytes())
    }

    /// Whether the node and all above it are in use (2.3.4).
    pub(super) fn enabled(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.enabled)
    }

    /// The property's bytes.
    pub(super) fn get(&self, prop: Prop) -> Option<&'dt [u8]> {
        self.props.get(prop)
    }

    /// The bytes of a property that must be there.
    pub(super) fn need(&self, prop: Prop) -> Result<&'dt [u8], FdtError> {
        self.get(prop)
            .ok_or_else(|| self.wrong(prop, Problem::Missing))
    }

    /// The text of a property without its last NUL; the NULs inside it part its strings.
    fn text(&self, prop: Prop) -> Result<Option<&'dt [u8]>, FdtError> {
        match self.get(prop).map(<[u8]>::split_last) {
            None => Ok(None),
            Some(Some((0, text))) => Ok(Some(text)),
            Some(_) => Err(self.wrong(prop, Problem::Unterminated)),
        }
    }

    /// The strings of a property: none when it is missing.
    pub(super) fn strings(&self, prop: Prop) -> Result<impl Iterator<Item = &'dt [u8]>, FdtError> {
        let text = self.text(prop)?.into_iter();
        Ok(text.flat_map(|text| text.split(|byte| *byte == 0)))
    }

    /// The only or first string of a property.
    pub(super) fn string(&self, prop: Prop) -> Result<Option<&'dt [u8]>, FdtError> {
        let first = |text: &'dt [u8]| text.split(|byte| *byte == 0).next();
        Ok(self.text(prop)?.and_then(first))
    }

    /// Whether the property has the string `value` as its first.
    pub(super) fn says(&self, prop: Prop, value: &str) -> Result<bool, FdtError> {
        Ok(self.string(prop)? == Some(value.as_bytes()))
    }

    /// What `compatible` lists.
    pub(super) fn models(&self) -> Result<Models, FdtError> {
        let mut models = Models::default();
        if let Some(text) = self.text(Prop::Compatible)? {
            text.split(|byte| *byte == 0)
                .for_each(|name| models.add(name));
        }
        Ok(models)
    }

    /// A property of one cell.
    pub(super) fn cell(&self, prop: Prop) -> Result<Option<u32>, FdtError> {
        let Some(bytes) = self.get(prop) else {
            return Ok(None);
        };
        match be32(bytes, 0) {
            Some(value) if bytes.len() == 4 => Ok(Some(value)),
            _ => Err(self.wrong(prop, Problem::Length(bytes.len()))),
        }
    }

    /// The error that `prop` of this node is wrong.
    #[cold]
    #[inline(never)]
    pub(super) fn wrong(&self, prop: Prop, problem: Problem) -> FdtError {
        FdtError::Property {
            node: self.path(),
            name: prop.name(),
            problem,
        }
    }

    /// Where the node is.
    pub(super) fn path(&self) -> NodePath {
        path_of(self.frames)
    }
}

/// What [`each`] calls for a node.
pub(super) type VisitNode<'v, 'dt> =
    &'v mut dyn FnMut(&Node<'_, 'dt>) -> Result<ControlFlow<()>, FdtError>;

/// Shows every node, parents first, until `visit` breaks off.
pub(super) fn each<'dt>(tree: &Tree<'_, 'dt>, visit: VisitNode<'_, 'dt>) -> Result<(), FdtError> {
    let mut gather = Gather::default();
    let mut stopped = false;
    tree.walk(&mut |at, token| {
        let flow = gather.token(at, token, visit)?;
        stopped = flow.is_break();
        Ok(flow)
    })?;
    let why = match (gather.frames.is_empty(), gather.seen_root) {
        _ if stopped => return Ok(()),
        (true, true) => return Ok(()),
        (true, false) => "there is no root node",
        (false, _) => "the tree ends inside a node",
    };
    Err(FdtError::Structure {
        offset: gather.last,
        why,
    })
}

/// The way down to the token that is being looked at.
#[derive(Default)]
struct Gather<'dt> {
    frames: ArrayVec<Frame<'dt>, MAX_DEPTH>,
    props: Props<'dt>,
    /// Whether the innermost node may still get properties: they come before its children (5.4.2).
    open: bool,
    seen_root: bool,
    last: usize,
}

impl<'dt> Gather<'dt> {
    fn token(
        &mut self,
        at: usize,
        token: Token<'dt>,
        visit: VisitNode<'_, 'dt>,
    ) -> Result<ControlFlow<()>, FdtError> {
        let wrong = |why| FdtError::Structure { offset: at, why };
        self.last = at;
        match token {
            Token::Begin(name) => {
                if self.frames.is_empty() && core::mem::replace(&mut self.seen_root, true) {
                    return Err(wrong("a second root node"));
                }
                if name.is_empty() && !self.frames.is_empty() {
                    return Err(wrong("a node has no name"));
                }
                if self.complete(visit)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                let enabled = self.frames.last().is_none_or(|parent| parent.enabled);
                let frame = Frame::open(name, enabled);
                self.frames
                    .try_push(frame)
                    .map_err(|_| wrong("nodes nest too deeply"))?;
                self.props = Props::default();
                self.open = true;
                Ok(ControlFlow::Continue(()))
            }
            Token::Prop(..) if !self.open => Err(wrong("a property outside its node")),
            Token::Prop(name, value) => self.property(name, value),
            Token::End => {
                let flow = self.complete(visit)?;
                self.frames
                    .pop()
                    .ok_or_else(|| wrong("a node ends that never began"))?;
                Ok(flow)
            }
        }
    }

    fn property(&mut self, name: &[u8], value: &'dt [u8]) -> Result<ControlFlow<()>, FdtError> {
        let Some(prop) = Prop::named(name) else {
            return Ok(ControlFlow::Continue(()));
        };
        if self.props.slot(prop).replace(value).is_some() {
            let (node, problem) = (path_of(&self.frames), Problem::Twice);
            return Err(FdtError::Property {
                node,
                name: prop.name(),
                problem,
            });
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Shows the innermost node when its properties have just ended.
    fn complete(&mut self, visit: VisitNode<'_, 'dt>) -> Result<ControlFlow<()>, FdtError> {
        if !core::mem::replace(&mut self.open, false) {
            return Ok(ControlFlow::Continue(()));
        }
        let node = Node {
            frames: &self.frames,
            props: &self.props,
        };
        let address_cells = node.cell(Prop::AddressCells)?;
        let size_cells = node.cell(Prop::SizeCells)?;
        let status = node.string(Prop::Status)?;
        if let Some(frame) = self.frames.last_mut() {
            frame.address_cells = address_cells.unwrap_or(frame.address_cells);
            frame.size_cells = size_cells.unwrap_or(frame.size_cells);
            frame.ranges = self.props.get(Prop::Ranges);
            frame.enabled &= status.is_none_or(|text| text == b"okay" || text == b"ok");
        }
        visit(&Node {
            frames: &self.frames,
            props: &self.props,
        })
    }
}
