//! The structure block as a row of tokens.

use core::ops::ControlFlow;

use fdt_rs::base::DevTree;
use fdt_rs::base::parse::ParsedTok;
use fdt_rs::prelude::FallibleIterator;

use super::error::FdtError;
use super::header::{Blob, be32};

/// Longer names of nodes or properties are refused, so that no byte is read often.
const MAX_NAME: usize = 127;

/// `fdt-rs` looks for the end of a node's name in so many bytes. Real trees have longer names.
const FDT_RS_NAME: usize = 29;

const FDT_BEGIN_NODE: u32 = 1;
const FDT_END: u32 = 9;

/// One step through a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token<'dt> {
    /// A node begins. Its name includes the unit address.
    Begin(&'dt [u8]),
    /// A property of the innermost open node.
    Prop(&'dt [u8], &'dt [u8]),
    /// The innermost open node ends.
    End,
}

/// What a [`Tree`] calls for each token, with the token's offset in the blob.
pub(super) type Visit<'v, 'dt> =
    &'v mut dyn FnMut(usize, Token<'dt>) -> Result<ControlFlow<()>, FdtError>;

/// A tree whose header is proven, read with the crate `fdt-rs`. The rest of the reader knows only this type, so that
/// another crate can take its place.
pub(super) struct Tree<'b, 'dt> {
    blob: &'b Blob<'dt>,
    tree: DevTree<'dt>,
}

impl<'b, 'dt> Tree<'b, 'dt> {
    /// The tree in a blob.
    pub(super) fn new(blob: &'b Blob<'dt>) -> Result<Self, FdtError> {
        let why = "fdt-rs does not accept the header";
        let tree = hypervisor_fdt_arch::open(blob.bytes());
        let tree = tree.ok_or(FdtError::Structure { offset: 0, why })?;
        Ok(Self { blob, tree })
    }

    /// Shows every token up to the end of the tree, or until `visit` breaks off. That nodes nest is for the visitor to
    /// see; that names are short, printable and inside their block has been checked.
    pub(super) fn walk(&self, visit: Visit<'_, 'dt>) -> Result<(), FdtError> {
        let mut at = self.blob.structure().start;
        let mut names = Names::of(self.blob.strings());
        // Every step but the last moves on by at least a word, so the loop ends with the block.
        loop {
            let (behind, step) = self
                .step(at, &mut names)
                .map_err(|why| FdtError::Structure { offset: at, why })?;
            match step {
                Step::Finish => return Ok(()),
                Step::Nothing => {}
                Step::Token(token) => {
                    if visit(at, token)?.is_break() {
                        return Ok(());
                    }
                }
            }
            at = behind;
        }
    }

    /// What is at `at`, and the offset behind it (Devicetree Specification 5.4).
    ///
    /// `fdt-rs` bounds its reads by the whole blob only, asserts in debug builds that more than a word is left, and
    /// knows no names of more than 29 bytes. So the word is looked at first, and the offset is checked afterwards.
    fn step(&self, at: usize, names: &mut Names<'dt>) -> Result<(usize, Step<'dt>), &'static str> {
        let block = self.blob.structure();
        let inside = self.blob.bytes().get(..block.end).unwrap_or_default();
        let endless = "the structure block has no FDT_END";
        let kind = be32(inside, at).ok_or(endless)?;
        if kind == FDT_END {
            return Ok((at, Step::Finish));
        }
        let rest = inside.get(at.saturating_add(4)..).unwrap_or_default();
        if rest.len() < 4 {
            return Err(endless);
        }
        if kind == FDT_BEGIN_NODE {
            let name = text(rest, "a node's name has no end")?;
            if name.len() > FDT_RS_NAME {
                let behind = at.saturating_add(4 + name.len() + 1).next_multiple_of(4);
                return Ok((behind, Step::Token(Token::Begin(name))));
            }
        }
        let mut iter = self.tree.parse_iter();
        iter.offset = at;
        // `fdt-rs` has one error for everything that can be wrong here; there is nothing in it to pass on.
        let token = iter.next().ok().flatten().ok_or("a malformed token")?;
        if iter.offset > block.end {
            return Err("a token leaves the structure block");
        }
        let step = match token {
            ParsedTok::BeginNode(node) => Step::Token(Token::Begin(node.name)),
            ParsedTok::EndNode => Step::Token(Token::End),
            ParsedTok::Prop(prop) => {
                let name = names.at(prop.name_offset)?;
                Step::Token(Token::Prop(name, prop.prop_buf))
            }
            ParsedTok::Nop => Step::Nothing,
        };
        Ok((iter.offset, step))
    }
}

/// What is at one place of the structure block.
enum Step<'dt> {
    Token(Token<'dt>),
    /// `FDT_NOP`
    Nothing,
    /// `FDT_END`
    Finish,
}

/// How many names of properties are remembered.
const NAMES: usize = 64;

/// The names of properties. Trees have hundreds of properties and some forty names, so that those which have been
/// checked are remembered, each in the only place that its offset may have.
struct Names<'dt> {
    strings: &'dt [u8],
    checked: [Option<(usize, &'dt [u8])>; NAMES],
}

impl<'dt> Names<'dt> {
    fn of(strings: &'dt [u8]) -> Self {
        Self {
            strings,
            checked: [None; NAMES],
        }
    }

    /// The name at `offset` of the strings block.
    fn at(&mut self, offset: usize) -> Result<&'dt [u8], &'static str> {
        let outside = "a property's name is not in the strings block";
        let known = self.checked.get(offset % NAMES).copied().flatten();
        if let Some((_, name)) = known.filter(|(at, _)| *at == offset) {
            return Ok(name);
        }
        let name = text(self.strings.get(offset..).ok_or(outside)?, outside)?;
        if name.is_empty() {
            return Err("a property has no name");
        }
        if let Some(place) = self.checked.get_mut(offset % NAMES) {
            *place = Some((offset, name));
        }
        Ok(name)
    }
}

/// The name at the start of `bytes`: printable, and ended by a NUL before it becomes too long. `endless` is the complaint
/// that there is none.
fn text<'dt>(bytes: &'dt [u8], endless: &'static str) -> Result<&'dt [u8], &'static str> {
    let window = bytes.get(..=MAX_NAME).unwrap_or(bytes);
    let end = window.iter().position(|byte| !byte.is_ascii_graphic());
    let (name, rest) = end
        .and_then(|end| window.split_at_checked(end))
        .ok_or(endless)?;
    match rest {
        [0, ..] => Ok(name),
        _ if rest.contains(&0) => Err("a name with bytes that are not printable ASCII"),
        _ => Err(endless),
    }
}
