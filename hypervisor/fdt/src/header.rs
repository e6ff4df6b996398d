//! The header: where the blocks are, proven to lie inside the blob before anybody reads them.

use core::ops::Range;

use super::MAX_RESERVED;
use super::error::{FdtError, Stop, Thing, Why};
use super::node::Way;

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

    fn total(&self, way: &Way<'_>) -> Result<usize, Stop> {
        let wrong = |why| way.thing(Thing::TotalSize, why, u64::from(self.total));
        if self.magic != MAGIC {
            return Err(way.thing(Thing::Magic, Why::NoTree, u64::from(self.magic)));
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

/// How many bytes the blob that begins with `header` has in all.
///
/// # Errors
/// When it is no device tree, or its size is not between 40 bytes and 2 MiB.
pub fn total_size(header: &[u8; HEADER_BYTES]) -> Result<usize, FdtError> {
    let way = Way::new();
    let total = Header::of(header).total(&way);
    total.map_err(|_| way.error())
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
    pub(super) fn new(bytes: &'dt [u8], way: &Way<'_>) -> Result<Self, Stop> {
        let wrong = |what, why, value: u32| Err(way.thing(what, why, u64::from(value)));
        let Some(header) = bytes.first_chunk() else {
            return Err(way.thing(Thing::TotalSize, Why::NoHeader, bytes.len() as u64));
        };
        let header = Header::of(header);
        let total = header.total(way)?;
        let Some(bytes) = bytes.get(..total) else {
            return wrong(Thing::TotalSize, Why::Cut, header.total);
        };
        let address = bytes.as_ptr().addr();
        if !address.is_multiple_of(8) {
            return Err(way.thing(Thing::Address, Why::Eight, address as u64));
        }
        if header.version < VERSION {
            return wrong(Thing::Version, Why::Old, header.version);
        }
        if header.last_comp > VERSION {
            return wrong(Thing::LastComp, Why::New, header.last_comp);
        }
        let block = |what, offset, size, align| block(way, total, what, offset, size, align);
        let size = index(header.structure_size);
        let structure = block(Thing::Structure, header.structure, size, 4)?;
        if !size.is_multiple_of(4) {
            return wrong(Thing::StructureSize, Why::Tokens, header.structure_size);
        }
        let size = index(header.strings_size);
        let strings = block(Thing::Strings, header.strings, size, 1)?;
        if overlap(&structure, &strings) {
            return wrong(Thing::Strings, Why::Shared, header.strings);
        }
        let offset = header.reservations;
        let start = block(Thing::Reservations, offset, 0, 8)?.start;
        let size = reservations(bytes, start);
        if size > MAX_RESERVED * ENTRY {
            let most = MAX_RESERVED as u64;
            return Err(way.thing(Thing::Reservations, Why::TooMany, most));
        }
        let map = block(Thing::Reservations, offset, size.saturating_add(ENTRY), 8)?;
        if overlap(&map, &structure) || overlap(&map, &strings) {
            return wrong(Thing::Reservations, Why::Shared, offset);
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
    way: &Way<'_>,
    total: usize,
    what: Thing,
    offset: u32,
    size: usize,
    align: usize,
) -> Result<Range<usize>, Stop> {
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
    Err(way.thing(what, why, u64::from(offset)))
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Bytes of the entries at `start`, which end with one that is zero, or with the blob; or more than there is room for.
fn reservations(bytes: &[u8], start: usize) -> usize {
    let entries = bytes.get(start..).unwrap_or_default().chunks(ENTRY);
    let used = entries.take(MAX_RESERVED + 1);
    let used = used.take_while(|entry| entry.iter().any(|byte| *byte != 0));
    used.map(<[u8]>::len).sum()
}
