//! The table that Linux carries of its own symbols (`CONFIG_KALLSYMS`), found in an arm64 `Image` without any help.
//!
//! Written by `scripts/kallsyms.c`, read by `kernel/kallsyms.c`. Names are strings of tokens, one byte each, of which
//! there are 256: the *token table* has them as text, one behind the other, and the *token index* where each begins. The
//! *names* are a length and tokens each, the *markers* say where every 256th name begins, and the *offsets*, 32 bits
//! each, are the addresses from the first one on. Where these lie to each other has changed over the years:
//!
//! ```text
//! until 6.3:  offsets, base, number, names, markers, (order of names,) token table, token index
//! from 6.4:   number, names, markers, token table, token index, offsets, base, order of names
//! ```
//!
//! The file is foreign: whatever it holds, this ends, and finds names or none.

/// How many tokens there are.
const TOKENS: usize = 256;
/// How many names lie between two markers.
const MARKED: usize = 256;
/// Every symbol table has names with digits in them, and a digit's token is the digit.
const DIGITS: &[u8] = b"\x000\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
/// The token of the first digit.
const FIRST_DIGIT: usize = 0x30;
/// No token is longer than a name can be.
const LONGEST_TOKEN: usize = 512;
/// How far before the token table the markers are looked for: three bytes a symbol may lie between.
const BEFORE: usize = 4 << 20;
/// Fewer names than 16 markers' are no kernel.
const FEWEST: usize = 16;
/// 256 names take no less and no more.
const STEP: std::ops::Range<u32> = 300..60_000;

/// Every symbol, its type in front of its name, and its distance from the first.
pub(super) fn read(image: &[u8]) -> Option<Vec<(u64, String)>> {
    let mut from = 0;
    while let Some(found) = find(image, from) {
        from = found.saturating_add(1);
        let symbols = Tokens::around(image, from).and_then(|tokens| symbols(image, &tokens));
        if symbols.is_some() {
            return symbols;
        }
    }
    None
}

fn find(image: &[u8], from: usize) -> Option<usize> {
    let rest = image.get(from..)?;
    let at = rest.windows(DIGITS.len()).position(|w| w == DIGITS)?;
    from.checked_add(at)
}

/// The tokens and where their table and their index lie.
struct Tokens<'i> {
    text: Vec<&'i [u8]>,
    start: usize,
    index_end: usize,
}

impl<'i> Tokens<'i> {
    /// The tokens of which the first digit's lies at `digit`.
    fn around(image: &'i [u8], digit: usize) -> Option<Self> {
        let mut start = digit;
        for _ in 0..FIRST_DIGIT {
            let ends = start.checked_sub(1)?;
            let low = ends.saturating_sub(LONGEST_TOKEN);
            let before = image.get(low..ends)?;
            let nul = before.iter().rposition(|byte| *byte == 0)?;
            start = low.checked_add(nul)?.checked_add(1)?;
        }
        let (mut text, mut index) = (Vec::new(), Vec::new());
        let mut end = start;
        for _ in 0..TOKENS {
            let rest = image.get(end..)?;
            let length = rest
                .iter()
                .take(LONGEST_TOKEN)
                .position(|byte| *byte == 0)?;
            text.push(rest.get(..length)?);
            index.push(u16::try_from(end.checked_sub(start)?).ok()?);
            end = end.checked_add(length)?.checked_add(1)?;
        }
        let is_index = |at: &usize| {
            index
                .iter()
                .enumerate()
                .all(|(nth, value)| half(image, *at, nth) == Some(*value))
        };
        let place = [2, 4, 8].map(|align| end.next_multiple_of(align));
        let index_at = place.into_iter().find(is_index)?;
        Some(Self {
            text,
            start,
            index_end: index_at.checked_add(2 * TOKENS)?,
        })
    }

    /// A name in words.
    fn expand(&self, name: &[u8]) -> Option<String> {
        let mut text = Vec::new();
        for token in name {
            text.extend_from_slice(self.text.get(usize::from(*token))?);
        }
        String::from_utf8(text).ok()
    }
}

fn symbols(image: &[u8], tokens: &Tokens<'_>) -> Option<Vec<(u64, String)>> {
    let (at, markers) = markers(image, tokens.start)?;
    let names = names(image, at, &markers)?;
    let bytes = names.list.len().checked_mul(4)?.next_multiple_of(8);
    // Number and base take eight bytes each.
    let before = names.start.checked_sub(16)?.checked_sub(bytes);
    let behind = Some(tokens.index_end.next_multiple_of(8));
    let offsets = [before, behind]
        .into_iter()
        .flatten()
        .find_map(|at| offsets(image, at, names.list.len()))?;
    let symbol = |(offset, name): (u32, &[u8])| Some((u64::from(offset), tokens.expand(name)?));
    offsets.into_iter().zip(names.list).map(symbol).collect()
}

/// The markers before this place: where they lie, and they.
fn markers(image: &[u8], before: usize) -> Option<(usize, Vec<u32>)> {
    let last = before - before % 4;
    let low = last.saturating_sub(BEFORE);
    (low..last).rev().step_by(4).find_map(|end| {
        let at = end.checked_sub(3)?;
        if word(image, at, 0)? != 0 {
            return None;
        }
        let mut markers = vec![0];
        let mut previous = 0u32;
        while let Some(next) = word(image, at, markers.len())
            && next
                .checked_sub(previous)
                .is_some_and(|step| STEP.contains(&step))
        {
            markers.push(next);
            previous = next;
        }
        (markers.len() >= FEWEST).then_some((at, markers))
    })
}

struct Names<'i> {
    start: usize,
    list: Vec<&'i [u8]>,
}

/// The names that end before their markers.
fn names<'i>(image: &'i [u8], markers_at: usize, markers: &[u32]) -> Option<Names<'i>> {
    let last = usize::try_from(*markers.last()?).ok()?;
    let highest = markers_at.checked_sub(last)?;
    let lowest = highest.saturating_sub(usize::try_from(STEP.end).ok()?);
    let highest = highest - highest % 8;
    (lowest..=highest).rev().step_by(8).find_map(|start| {
        let number = usize::try_from(word(image, start.checked_sub(8)?, 0)?).ok()?;
        if number.div_ceil(MARKED) != markers.len() {
            return None;
        }
        let (mut list, mut at) = (Vec::with_capacity(number), start);
        for nth in 0..number {
            if nth % MARKED == 0 {
                let marker = usize::try_from(*markers.get(nth / MARKED)?).ok()?;
                if at != start.checked_add(marker)? {
                    return None;
                }
            }
            let (length, first) = length(image, at)?;
            at = first.checked_add(length)?;
            list.push(image.get(first..at)?);
        }
        (at <= markers_at).then_some(Names { start, list })
    })
}

/// A name's length, and where the name itself begins. Of two bytes if the first has its highest bit set.
fn length(image: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = usize::from(*image.get(at)?);
    let next = at.checked_add(1)?;
    if first & 0x80 == 0 {
        return Some((first, next));
    }
    let second = usize::from(*image.get(next)?);
    Some((second << 7 | first & 0x7f, next.checked_add(1)?))
}

/// So many addresses, which only grow.
fn offsets(image: &[u8], at: usize, number: usize) -> Option<Vec<u32>> {
    let offsets: Option<Vec<u32>> = (0..number).map(|nth| word(image, at, nth)).collect();
    offsets.filter(|list| list.is_sorted() && list.first() != list.last())
}

/// The `nth` 32-bit number from `at` on.
fn word(image: &[u8], at: usize, nth: usize) -> Option<u32> {
    let from = at.checked_add(nth.checked_mul(4)?)?;
    let bytes = image.get(from..from.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The `nth` 16-bit number from `at` on.
fn half(image: &[u8], at: usize, nth: usize) -> Option<u16> {
    let from = at.checked_add(nth.checked_mul(2)?)?;
    let bytes = image.get(from..from.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}
