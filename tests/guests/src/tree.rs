//! The guest's own device tree, read just far enough: the command line and the RAM (Devicetree Specification 0.4, chapter 5).

use core::ops::Range;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;

/// A property and the node it is in, one level below the root.
struct Property<'a> {
    node: &'a [u8],
    name: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(four))
}

fn text(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    rest.split(|byte| *byte == 0).next()
}

fn size(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

/// The first property that `wanted` takes.
fn find<'a>(tree: &'a [u8], wanted: impl Fn(&Property<'a>) -> bool) -> Option<&'a [u8]> {
    let mut at = size(word(tree, 8)?);
    let strings = size(word(tree, 12)?);
    let mut depth = 0usize;
    let mut node: &[u8] = &[];
    loop {
        let token = word(tree, at)?;
        at += 4;
        match token {
            BEGIN_NODE => {
                let name = text(tree, at)?;
                at = (at + name.len() + 1).next_multiple_of(4);
                depth += 1;
                if depth == 2 {
                    node = name;
                }
            }
            END_NODE => depth = depth.checked_sub(1)?,
            PROPERTY => {
                let length = size(word(tree, at)?);
                let name = text(tree, strings.checked_add(size(word(tree, at + 4)?))?)?;
                let value = tree.get(at + 8..at.checked_add(8)?.checked_add(length)?)?;
                at = (at + 8 + length).next_multiple_of(4);
                let property = Property { node, name };
                if depth == 2 && wanted(&property) {
                    return Some(value);
                }
            }
            NOP => {}
            _ => return None,
        }
    }
}

/// The command line; empty when there is none.
#[must_use]
pub fn command_line(tree: &[u8]) -> &str {
    let found = find(tree, |property| {
        property.node == b"chosen" && property.name == b"bootargs"
    });
    let bytes = found
        .and_then(|value| value.strip_suffix(&[0]))
        .unwrap_or(&[]);
    core::str::from_utf8(bytes).unwrap_or("")
}

/// The RAM of the first memory node, two cells each.
#[must_use]
pub fn ram(tree: &[u8]) -> Range<u64> {
    let found = find(tree, |property| {
        property.node.starts_with(b"memory") && property.name == b"reg"
    });
    let cell = |at: usize| found.and_then(|value| word(value, at)).map_or(0, u64::from);
    let base = cell(0) << 32 | cell(4);
    base..base.saturating_add(cell(8) << 32 | cell(12))
}

/// First address that a guest which fills its spare RAM must leave alone: this device tree, when it lies behind the image, else the end of RAM.
#[must_use]
pub fn spare_end(tree: &'static [u8]) -> u64 {
    let here = tests_arch::memory::address_of(tree.as_ptr());
    let end = ram(tree).end;
    if here > tests_arch::memory::image_end() && here < end {
        here
    } else {
        end
    }
}

/// The value of `key=value` in the command line.
#[must_use]
pub fn option<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|item| item.strip_prefix(key)?.strip_prefix('='))
}

/// A number, decimal or after `0x` hexadecimal.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Ranges written `0x1000-0x2000,0x8000-0x9000`, the end not included.
pub fn ranges(text: &str) -> impl Iterator<Item = Range<u64>> {
    text.split(',').filter_map(|item| {
        let (start, end) = item.split_once('-')?;
        Some(number(start)?..number(end)?)
    })
}
