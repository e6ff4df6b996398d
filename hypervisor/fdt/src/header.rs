//! The header: where the blocks are, proven to lie inside the blob before anybody reads them.

use core::ops::Range;

use super::MAX_RESERVED;
use super::error::{FdtError, Problem};

/// Size of a version 17 header (Devicetree Specification 5.2).
const HEADER_BYTES: usize = 40;
/// No machine's tree is larger; Linux has the same limit (Documentation/arch/arm64/booting.rst).
const MAX_BYTES: u32 = 2 << 20;
const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;

// Offsets of the header's fields.
const AT_MAGIC: usize = 0;
const AT_TOTALSIZE: usize = 4;
const AT_OFF_STRUCT: usize = 8;
const AT_OFF_STRINGS: usize = 12;
const AT_OFF_RSVMAP: usize = 16;
const AT_VERSION: usize = 20;
const AT_LAST_COMP: usize = 24;
const AT_SIZE_STRINGS: usize = 32;
const AT_SIZE_STRUCT: usize = 36;

/// The big-endian word at `at`.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*word))
}

/// The big-endian doubleword at `at`.
pub(super) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*word))
}

/// An offset or size as an index. On a machine with narrower indices the largest one, which no blob reaches.
fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn wrong(field: &'static str, value: u32, why: &'static str) -> FdtError {
    FdtError::Header {
        field,
        value: u64::from(value),
        why,
    }
}

/// How many bytes the blob that begins with `header` has in all.
///
/// # Errors
/// When it is no device tree, or its size is not between 40 bytes and 2 MiB.
pub fn total_size(header: &[u8; HEADER_BYTES]) -> Result<usize, FdtError> {
    let magic = be32(header, AT_MAGIC).unwrap_or(0);
    if magic != MAGIC {
        return Err(wrong("magic", magic, "this is no device tree"));
    }
    let total = be32(header, AT_TOTALSIZE).unwrap_or(0);
    if index(total) < HEADER_BYTES {
        return Err(wrong("totalsize", total, "smaller than the header"));
    }
    if total > MAX_BYTES {
        return Err(wrong("totalsize", total, "larger than 2 MiB"));
    }
    Ok(index(total))
}

/// A blob whose header has been proven: every block lies inside it, aligned, and no two share a byte.
#[derive(Clone, Debug)]
pub(super) struct Blob<'dt> {
    bytes: &'dt [u8],
    structure: Range<usize>,
    strings: &'dt [u8],
    reservations: usize,
}

impl<'dt> Blob<'dt> {
    /// Judges the header of the blob at the start of `bytes`.
    pub(super) fn new(bytes: &'dt [u8]) -> Result<Self, FdtError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            let value = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let (field, why) = ("totalsize", "there are not even the 40 bytes of a header");
            return Err(FdtError::Header { field, value, why });
        };
        let total = total_size(header)?;
        let field = |at| be32(header, at).unwrap_or(0);
        let Some(bytes) = bytes.get(..total) else {
            let why = "larger than the memory it was found in";
            return Err(wrong("totalsize", field(AT_TOTALSIZE), why));
        };
        if !bytes.as_ptr().addr().is_multiple_of(8) {
            let value = u64::try_from(bytes.as_ptr().addr()).unwrap_or(u64::MAX);
            let (field, why) = ("address", "not a multiple of 8");
            return Err(FdtError::Header { field, value, why });
        }
        if field(AT_VERSION) < VERSION {
            return Err(wrong("version", field(AT_VERSION), "older than 17"));
        }
        if field(AT_LAST_COMP) > VERSION {
            let why = "not compatible with version 17";
            return Err(wrong("last_comp_version", field(AT_LAST_COMP), why));
        }
        let block = |name, off, size, align| block(total, name, field(off), field(size), align);
        let structure = block("off_dt_struct", AT_OFF_STRUCT, AT_SIZE_STRUCT, 4)?;
        if !structure.len().is_multiple_of(4) {
            let why = "not a whole number of tokens";
            return Err(wrong("size_dt_struct", field(AT_SIZE_STRUCT), why));
        }
        let strings = block("off_dt_strings", AT_OFF_STRINGS, AT_SIZE_STRINGS, 1)?;
        if overlap(&structure, &strings) {
            let why = "the strings block overlaps the structure block";
            return Err(wrong("off_dt_strings", field(AT_OFF_STRINGS), why));
        }
        let off_rsvmap = field(AT_OFF_RSVMAP);
        let map = index(off_rsvmap)..reservations_end(bytes, off_rsvmap)?;
        if overlap(&map, &structure) || overlap(&map, &strings) {
            let why = "the reservation block overlaps another";
            return Err(wrong("off_mem_rsvmap", off_rsvmap, why));
        }
        Ok(Self {
            bytes,
            strings: bytes.get(strings).unwrap_or_default(),
            structure,
            reservations: map.start,
        })
    }

    /// The whole blob, exactly `totalsize` bytes.
    pub(super) fn bytes(&self) -> &'dt [u8] {
        self.bytes
    }

    /// Where the structure block is.
    pub(super) fn structure(&self) -> Range<usize> {
        self.structure.clone()
    }

    /// The strings block, which holds the names of the properties.
    pub(super) fn strings(&self) -> &'dt [u8] {
        self.strings
    }

    /// The entries of the memory reservation block: address and size, without the terminator.
    pub(super) fn reservations(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..=MAX_RESERVED).map_while(|n| reservation(self.bytes, self.reservations, n))
    }
}

/// One block of the blob, if it lies between the header and the end.
fn block(
    total: usize,
    name: &'static str,
    offset: u32,
    size: u32,
    align: usize,
) -> Result<Range<usize>, FdtError> {
    let start = index(offset);
    if start < HEADER_BYTES {
        return Err(wrong(name, offset, "inside the header"));
    }
    if !start.is_multiple_of(align) {
        return Err(wrong(name, offset, "misaligned"));
    }
    match start.checked_add(index(size)) {
        Some(end) if end <= total => Ok(start..end),
        _ => Err(wrong(name, offset, "the block ends outside the blob")),
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The `n`th entry of the reservation block at `start`, or `None` for the terminator and past the end.
fn reservation(bytes: &[u8], start: usize, n: usize) -> Option<(u64, u64)> {
    let at = start.checked_add(n.checked_mul(16)?)?;
    let entry = (be64(bytes, at)?, be64(bytes, at.checked_add(8)?)?);
    (entry != (0, 0)).then_some(entry)
}

/// Where the reservation block at `offset` ends, its terminator included.
fn reservations_end(bytes: &[u8], offset: u32) -> Result<usize, FdtError> {
    let start = index(offset);
    if start < HEADER_BYTES {
        return Err(wrong("off_mem_rsvmap", offset, "inside the header"));
    }
    if !start.is_multiple_of(8) {
        return Err(wrong("off_mem_rsvmap", offset, "misaligned"));
    }
    let count = (0..=MAX_RESERVED)
        .take_while(|n| reservation(bytes, start, *n).is_some())
        .count();
    if count > MAX_RESERVED {
        let problem = Problem::TooMany(MAX_RESERVED);
        return Err(FdtError::Reservation {
            index: count,
            problem,
        });
    }
    let end = start.saturating_add(count.saturating_add(1).saturating_mul(16));
    if end > bytes.len() {
        return Err(wrong(
            "off_mem_rsvmap",
            offset,
            "the block has no terminator",
        ));
    }
    Ok(end)
}
