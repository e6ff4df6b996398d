//! The header: where the blocks are, proven to lie inside the blob before anybody reads them.

use core::ops::Range;

use super::MAX_RESERVED;
use super::error::{FdtError, Thing, Why, Wrong};

/// Size of a version 17 header (Devicetree Specification 5.2).
const HEADER_BYTES: usize = 40;
/// No machine's tree is larger; Linux has the same limit (Documentation/arch/arm64/booting.rst).
const MAX_BYTES: u32 = 2 << 20;
const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
/// Bytes of an entry of the reservation block (5.3): address and size.
const ENTRY: usize = 16;

/// The fields in their order.
struct Header {
    magic: u32,
    total: u32,
    structure: u32,
    strings: u32,
    reservations: u32,
    version: u32,
    last_comp: u32,
    strings_size: u32,
    structure_size: u32,
}

impl Header {
    #[inline(never)]
    fn of(bytes: &[u8; HEADER_BYTES]) -> Self {
        let mut words = [0; 10];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        let [
            magic,
            total,
            structure,
            strings,
            reservations,
            version,
            last_comp,
            _,
            strings_size,
            structure_size,
        ] = words;
        Self {
            magic,
            total,
            structure,
            strings,
            reservations,
            version,
            last_comp,
            strings_size,
            structure_size,
        }
    }

    fn total(&self) -> Result<usize, Wrong> {
        let wrong = |why| wrong(Thing::TotalSize, why, self.total);
        if self.magic != MAGIC {
            return Err(self::wrong(Thing::Magic, Why::NoTree, self.magic));
        }
        if index(self.total) < HEADER_BYTES {
            return Err(wrong(Why::Small));
        }
        if self.total > MAX_BYTES {
            return Err(wrong(Why::Large));
        }
        Ok(index(self.total))
    }
}

/// An offset or size as an index. On a machine with narrower indices the largest one, which no blob reaches.
fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn wrong(what: Thing, why: Why, value: u32) -> Wrong {
    Wrong::new(what, why, u64::from(value))
}

/// How many bytes the blob that begins with `header` has in all.
///
/// # Errors
/// When it is no device tree, or its size is not between 40 bytes and 2 MiB.
pub fn total_size(header: &[u8; HEADER_BYTES]) -> Result<usize, FdtError> {
    let total = Header::of(header).total();
    total.map_err(|wrong| FdtError::new(wrong, &[]))
}

/// A blob whose header has been proven: every block lies inside it, aligned, and no two share a byte.
#[derive(Clone, Debug)]
pub(super) struct Blob<'dt> {
    /// The whole blob, exactly `totalsize` bytes.
    pub(super) bytes: &'dt [u8],
    /// Where the structure block is.
    pub(super) structure: Range<usize>,
    /// The strings block, which holds the names of the properties.
    pub(super) strings: &'dt [u8],
    /// The memory reservation block, without the terminator: whole entries, and not more than there is room for.
    pub(super) reservations: &'dt [u8],
}

impl<'dt> Blob<'dt> {
    /// Judges the header of the blob at the start of `bytes`.
    pub(super) fn new(bytes: &'dt [u8]) -> Result<Self, Wrong> {
        let long = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let Some(header) = bytes.first_chunk() else {
            return Err(Wrong::new(
                Thing::TotalSize,
                Why::NoHeader,
                long(bytes.len()),
            ));
        };
        let header = Header::of(header);
        let total = header.total()?;
        let cut = wrong(Thing::TotalSize, Why::Cut, header.total);
        let bytes = bytes.get(..total).ok_or(cut)?;
        let address = bytes.as_ptr().addr();
        if !address.is_multiple_of(8) {
            return Err(Wrong::new(Thing::Address, Why::Eight, long(address)));
        }
        if header.version < VERSION {
            return Err(wrong(Thing::Version, Why::Old, header.version));
        }
        if header.last_comp > VERSION {
            return Err(wrong(Thing::LastComp, Why::New, header.last_comp));
        }
        let structure = block(
            total,
            Thing::Structure,
            header.structure,
            index(header.structure_size),
            4,
        )?;
        if !structure.len().is_multiple_of(4) {
            return Err(wrong(
                Thing::StructureSize,
                Why::Tokens,
                header.structure_size,
            ));
        }
        let strings = block(
            total,
            Thing::Strings,
            header.strings,
            index(header.strings_size),
            1,
        )?;
        if overlap(&structure, &strings) {
            return Err(wrong(Thing::Strings, Why::Shared, header.strings));
        }
        let offset = header.reservations;
        let start = block(total, Thing::Reservations, offset, 0, 8)?.start;
        let size = reservations(bytes, start)?;
        let whole = size.saturating_add(ENTRY);
        let map = block(total, Thing::Reservations, offset, whole, 8)?;
        if overlap(&map, &structure) || overlap(&map, &strings) {
            return Err(wrong(Thing::Reservations, Why::Shared, header.reservations));
        }
        let map = bytes.get(map).unwrap_or_default();
        Ok(Self {
            bytes,
            strings: bytes.get(strings).unwrap_or_default(),
            structure,
            reservations: map.get(..size).unwrap_or_default(),
        })
    }
}

/// One block of the blob, if it lies between the header and the end.
#[inline(never)]
fn block(
    total: usize,
    what: Thing,
    offset: u32,
    size: usize,
    align: usize,
) -> Result<Range<usize>, Wrong> {
    let start = index(offset);
    let end = start.saturating_add(size);
    let why = if start < HEADER_BYTES {
        Why::InHeader
    } else if !start.is_multiple_of(align) {
        Why::Misaligned
    } else if end > total {
        Why::Outside
    } else {
        return Ok(start..end);
    };
    Err(wrong(what, why, offset))
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Bytes of the entries at `start`, which end with one that is zero, or with the blob.
fn reservations(bytes: &[u8], start: usize) -> Result<usize, Wrong> {
    let entries = bytes.get(start..).unwrap_or_default().chunks(ENTRY);
    let mut size = 0_usize;
    for entry in entries.take_while(|entry| entry.iter().any(|byte| *byte != 0)) {
        size = size.saturating_add(entry.len());
        if size > MAX_RESERVED * ENTRY {
            return Err(Wrong::new(
                Thing::Reservations,
                Why::TooMany,
                MAX_RESERVED as u64,
            ));
        }
    }
    Ok(size)
}
