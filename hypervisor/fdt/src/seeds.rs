//! Where a guest's tree has its random bytes: the one thing that EL2 changes in a tree that it hands out.
//!
//! The tree is the guest's own, made by our compiler or changed by its owner; what is wrongly taken for the property
//! costs nobody else anything. So it is looked for, not walked to.

/// The first word of a property (Devicetree Specification 5.4.1).
const PROP: u32 = 3;
/// `/chosen` stands near the beginning; no time is spent on the rest of a large tree.
const FURTHEST: usize = 64 << 10;

/// Where the value of a property begins that has this name, its final NUL included, and a value of so many bytes.
#[must_use]
pub fn value_at(tree: &[u8], name: &[u8], length: u32) -> Option<usize> {
    let word = |at: usize| {
        tree.get(at..)?
            .first_chunk()
            .copied()
            .map(u32::from_be_bytes)
    };
    let index = |at| usize::try_from(word(at)?).ok();
    let (structure, strings) = (index(8)?, index(12)?);
    let is_it = |at: &usize| {
        let names = index(at.saturating_add(8)).and_then(|name| strings.checked_add(name));
        word(*at) == Some(PROP)
            && word(at.saturating_add(4)) == Some(length)
            && names
                .and_then(|at| tree.get(at..))
                .is_some_and(|rest| rest.starts_with(name))
    };
    let end = tree.len().min(structure.saturating_add(FURTHEST));
    let at = (structure..end).step_by(4).find(is_it)?;
    let value = at.checked_add(12)?;
    tree.get(value..value.checked_add(usize::try_from(length).ok()?)?)?;
    Some(value)
}
