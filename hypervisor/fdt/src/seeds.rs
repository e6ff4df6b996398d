//! Where a guest's tree has its random bytes: the one thing that EL2 changes in a tree that it hands out.
//!
//! The tree is the guest's own, made by our compiler or changed by its owner; what is wrongly taken for the property
//! costs nobody else anything. So it is looked for, not walked to.

/// The first word of a property (Devicetree Specification 5.4.1).
const PROP: usize = 3;
/// `/chosen` stands near the beginning; no time is spent on the rest of a large tree.
const FURTHEST: usize = 64 << 10;

/// Where the value of a property begins that has this name, its final NUL included, and a value of so many bytes.
#[must_use]
#[inline(never)]
pub fn value_at(tree: &[u8], name: &[u8], length: usize) -> Option<usize> {
    let names = tree.get(word(tree, 12)..)?;
    let structure = word(tree, 8);
    for at in (0..FURTHEST).step_by(4) {
        let rest = tree.get(structure.saturating_add(at)..)?;
        let (head, value) = rest.split_at_checked(12)?;
        if word(head, 0) == PROP
            && word(head, 4) == length
            && value.len() >= length
            && names
                .get(word(head, 8)..)
                .is_some_and(|rest| rest.starts_with(name))
        {
            return Some(tree.len() - value.len());
        }
    }
    None
}

/// The number at this place; the largest where there is none.
#[inline(never)]
fn word(bytes: &[u8], at: usize) -> usize {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let number = word.and_then(|word| usize::try_from(u32::from_be_bytes(*word)).ok());
    number.unwrap_or(usize::MAX)
}
