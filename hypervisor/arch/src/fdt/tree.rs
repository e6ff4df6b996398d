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

/// A reader of device trees. The rest of the parser knows only this, so another crate can take the place of `fdt-rs`.
pub(super) trait Tree<'dt> {
    /// Shows every token up to the end of the tree, or until `visit` breaks off. That nodes nest is for the visitor to
    /// see; that names are short, printable and inside their block has been checked.
    fn walk(&self, visit: Visit<'_, 'dt>) -> Result<(), FdtError>;
}

/// A tree read with the crate `fdt-rs`.
pub(super) struct FdtRs<'b, 'dt> {
    blob: &'b Blob<'dt>,
    tree: DevTree<'dt>,
}

impl<'b, 'dt> FdtRs<'b, 'dt> {
    /// Hands a blob with a proven header to `fdt-rs`.
    pub(super) fn new(blob: &'b Blob<'dt>) -> Result<Self, FdtError> {
        // SAFETY: `Blob::new` has proven that the slice is aligned to 8 bytes and exactly as long as its `totalsize`,
        // which is at least the header's 40 bytes, and that the structure block lies inside it on a 4-byte boundary.
        let tree = unsafe { DevTree::new(blob.bytes()) };
        let why = "fdt-rs does not accept the header";
        let tree = tree.map_err(|_| FdtError::Structure { offset: 0, why })?;
        Ok(Self { blob, tree })
    }

    /// The token at `at` and the offset behind it.
    ///
    /// `fdt-rs` bounds its reads by the whole blob only, asserts in debug builds that more than a word is left, and
    /// knows no names of more than 29 bytes. So the word is looked at first, and the offset is checked afterwards.
    fn step(&self, at: usize, names: &mut Names<'dt>) -> Result<(usize, Step<'dt>), FdtError> {
        let wrong = |why| FdtError::Structure { offset: at, why };
        let block = self.blob.structure();
        let inside = self.blob.bytes().get(..block.end).unwrap_or_default();
        let kind = be32(inside, at).ok_or_else(|| wrong("the structure block has no FDT_END"))?;
        if kind == FDT_END {
            return Ok((at, Step::Finish));
        }
        let rest = inside.get(at.saturating_add(4)..).unwrap_or_default();
        if rest.len() < 4 {
            return Err(wrong("the structure block has no FDT_END"));
        }
        if kind == FDT_BEGIN_NODE {
            let name = text(rest, "a node's name has no end").map_err(wrong)?;
            if name.len() > FDT_RS_NAME {
                let behind = at.saturating_add(4 + name.len() + 1).next_multiple_of(4);
                return Ok((behind, Step::Token(Token::Begin(name))));
            }
        }
        let mut iter = self.tree.parse_iter();
        iter.offset = at;
        // `fdt-rs` has one error for everything that can be wrong here; there is nothing in it to pass on.
        let token = iter.next().ok().flatten();
        let token = token.ok_or_else(|| wrong("a malformed token"))?;
        if iter.offset > block.end {
            return Err(wrong("a token leaves the structure block"));
        }
        let step = match token {
            ParsedTok::BeginNode(node) => Step::Token(Token::Begin(node.name)),
            ParsedTok::EndNode => Step::Token(Token::End),
            ParsedTok::Prop(prop) => {
                let name = names.at(prop.name_offset).map_err(wrong)?;
                Step::Token(Token::Prop(name, prop.prop_buf))
            }
            ParsedTok::Nop => Step::Nothing,
        };
        Ok((iter.offset, step))
    }
}

impl<'dt> Tree<'dt> for FdtRs<'_, 'dt> {
    fn walk(&self, visit: Visit<'_, 'dt>) -> Result<(), FdtError> {
        let mut at = self.blob.structure().start;
        let mut names = Names::of(self.blob.strings());
        // Every step but the last moves on by at least a word, so the loop ends with the block.
        loop {
            let (behind, step) = self.step(at, &mut names)?;
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
