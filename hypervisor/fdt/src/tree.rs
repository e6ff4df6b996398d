//! The structure block as a row of tokens.

use fdt_rs::base::DevTree;
use fdt_rs::base::iters::DevTreeParseIter;
use fdt_rs::base::parse::ParsedTok;
use fdt_rs::prelude::FallibleIterator;

use super::cells::number;
use super::error::{Stop, Thing, Why};
use super::header::Blob;
use super::node::Way;

/// Longer names of nodes or properties are refused, so that no byte is read often.
const MAX_NAME: usize = 127;

/// `fdt-rs` looks for the end of a node's name in so many bytes. Real trees have longer names.
const FDT_RS_NAME: usize = 29;

const FDT_BEGIN_NODE: u64 = 1;
const FDT_END: u64 = 9;

/// What is at one place of the structure block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token<'dt> {
    /// A node begins. Its name includes the unit address.
    Begin(&'dt [u8]),
    /// A property of the innermost open node.
    Prop(&'dt [u8], &'dt [u8]),
    /// The innermost open node ends.
    End,
    /// Nothing is here: `FDT_NOP`.
    Nothing,
    /// The tree ends.
    Finish,
}

/// A tree whose header is proven, read with the crate `fdt-rs`. The rest of the reader knows only this type, so that
/// another crate can take its place.
pub(super) struct Tree<'dt> {
    /// The blob that it is in.
    pub(super) blob: Blob<'dt>,
    tree: DevTree<'dt>,
}

impl<'dt> Tree<'dt> {
    /// The tree in a blob.
    pub(super) fn new(blob: Blob<'dt>, way: &Way<'_>) -> Result<Self, Stop> {
        let refused = || way.thing(Thing::FdtRs, Why::Refused, 0);
        let tree = hypervisor_fdt_arch::open(blob.bytes).ok_or_else(refused)?;
        Ok(Self { blob, tree })
    }

    /// What is at `at`, and the offset behind it, which is larger (Devicetree Specification 5.4). That nodes nest is
    /// for the caller to see; that names are short, printable and inside their block has been checked.
    ///
    /// `fdt-rs` bounds its reads by the whole blob only, asserts in debug builds that more than a word is left, and
    /// knows no names of more than 29 bytes. So the word is looked at first, and the offset is checked afterwards.
    #[inline(never)]
    pub(super) fn token(&self, at: usize) -> Result<(usize, Token<'dt>), Why> {
        let end = self.blob.structure.end;
        let inside = self.blob.bytes.get(at..end).unwrap_or_default();
        let (kind, rest) = inside.split_at_checked(4).ok_or(Why::Endless)?;
        let kind = number(kind);
        if kind == FDT_END {
            return Ok((at, Token::Finish));
        }
        if rest.len() < 4 {
            return Err(Why::Endless);
        }
        let mut begun = &[][..];
        if kind == FDT_BEGIN_NODE {
            begun = text(rest, Why::NodeName)?;
            if begun.len() > FDT_RS_NAME {
                let behind = at.saturating_add(4 + begun.len() + 1).next_multiple_of(4);
                return Ok((behind, Token::Begin(begun)));
            }
        }
        // Made by hand: `parse_iter` would read the header again, and panic if it could not.
        let mut iter = DevTreeParseIter {
            offset: at,
            fdt: &self.tree,
        };
        // `fdt-rs` has one error for everything that can be wrong here; there is nothing in it to pass on.
        let token = match iter.next() {
            Ok(Some(ParsedTok::BeginNode(_))) => Token::Begin(begun),
            Ok(Some(ParsedTok::EndNode)) => Token::End,
            Ok(Some(ParsedTok::Prop(prop))) => {
                let strings = self.blob.strings.get(prop.name_offset..);
                let name = text(strings.unwrap_or_default(), Why::PropName)?;
                if name.is_empty() {
                    return Err(Why::NoPropName);
                }
                Token::Prop(name, prop.prop_buf)
            }
            Ok(Some(ParsedTok::Nop)) => Token::Nothing,
            Ok(None) | Err(_) => return Err(Why::Malformed),
        };
        if iter.offset > end {
            return Err(Why::Leaves);
        }
        Ok((iter.offset, token))
    }
}

/// The name at the start of `bytes`: printable, and ended by a NUL before it becomes too long. `endless` is the complaint
/// that there is none.
#[inline(never)]
fn text(bytes: &[u8], endless: Why) -> Result<&[u8], Why> {
    let window = bytes.get(..=MAX_NAME).unwrap_or(bytes);
    let strange = |byte: &u8| !byte.is_ascii_graphic();
    let end = window.iter().position(strange).ok_or(endless)?;
    match window.split_at_checked(end) {
        Some((name, [0, ..])) => Ok(name),
        _ => Err(Why::Unprintable),
    }
}
