//! The structure block as a row of tokens.

use core::ops::ControlFlow;

use super::error::FdtError;
use super::header::{Blob, be32};

/// Longer names of nodes or properties are refused, so that no byte is read often.
const MAX_NAME: usize = 127;

const FDT_BEGIN_NODE: u32 = 1;
const FDT_END_NODE: u32 = 2;
const FDT_PROP: u32 = 3;
const FDT_NOP: u32 = 4;
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

/// The structure block of a tree whose header is proven.
pub(super) struct Tree<'b, 'dt>(&'b Blob<'dt>);

impl<'b, 'dt> Tree<'b, 'dt> {
    /// The tree in a blob.
    pub(super) const fn new(blob: &'b Blob<'dt>) -> Self {
        Self(blob)
    }

    /// Shows every token up to the end of the tree, or until `visit` breaks off. That nodes nest is for the visitor to
    /// see; that names are short, printable and inside their block has been checked.
    pub(super) fn walk(&self, visit: Visit<'_, 'dt>) -> Result<(), FdtError> {
        let mut at = self.0.structure().start;
        let mut names = Names::of(self.0.strings());
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
    fn step(&self, at: usize, names: &mut Names<'dt>) -> Result<(usize, Step<'dt>), &'static str> {
        let block = self.0.structure();
        let inside = self.0.bytes().get(..block.end).unwrap_or_default();
        let endless = "the structure block has no FDT_END";
        let kind = be32(inside, at).ok_or(endless)?;
        if kind == FDT_END {
            return Ok((at, Step::Finish));
        }
        let body = at.saturating_add(4);
        let rest = inside.get(body..).unwrap_or_default();
        if rest.len() < 4 {
            return Err(endless);
        }
        let (len, step) = match kind {
            FDT_BEGIN_NODE => {
                let name = text(rest, "a node's name has no end")?;
                (name.len() + 1, Step::Token(Token::Begin(name)))
            }
            FDT_END_NODE => (0, Step::Token(Token::End)),
            FDT_PROP => property(rest, names)?,
            FDT_NOP => (0, Step::Nothing),
            _ => return Err("a malformed token"),
        };
        let behind = body.saturating_add(len).next_multiple_of(4);
        if behind > block.end {
            return Err(OUTSIDE);
        }
        Ok((behind, step))
    }
}

const OUTSIDE: &str = "a token leaves the structure block";

/// The property whose length, name and value begin at the start of `rest`, and how many bytes they take.
fn property<'dt>(
    rest: &'dt [u8],
    names: &mut Names<'dt>,
) -> Result<(usize, Step<'dt>), &'static str> {
    let word = |at| be32(rest, at).and_then(|word| usize::try_from(word).ok());
    let (len, name) = word(0).zip(word(4)).ok_or(OUTSIDE)?;
    let end = len.saturating_add(8);
    let value = rest.get(8..end).ok_or(OUTSIDE)?;
    let name = names.at(name)?;
    Ok((end, Step::Token(Token::Prop(name, value))))
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
