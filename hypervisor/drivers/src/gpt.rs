//! The GUID partition table (UEFI 2.10, 5.3).
//!
//! A person says `partition = 2`, and EL2 turns that into sectors when it starts. The table is bytes of a disk that
//! anybody may have written: a guest as well, if it was once given all of the disk. So it is judged as a whole before
//! anything in it is used: checksums, the protective MBR, bounds, entries that overlap. What is not right is refused, and
//! the spare table at the disk's end is not looked at: repairing a disk is no work for EL2.
//!
//! Reading it takes two steps, because where the entries are the header says: [`Header::read`] of the disk's first
//! sectors, then [`Header::table`] of the sectors that it asks for.

use crate::crc::Crc;
use crate::{SECTOR, Sectors};

/// Sectors that [`Header::read`] wants, from the disk's first one on: blocks have 4096 bytes at most.
pub const FIRST_SECTORS: usize = 16;
/// The most bytes of entries: one request. The usual table has 16384.
pub const MOST: usize = 64 << 10;

/// The sizes of a disk's blocks that are looked for.
const BLOCKS: [usize; 2] = [512, 4096];
const SIGNATURE: &[u8] = b"EFI PART";
const REVISION: u32 = 0x1_0000;
/// Bytes of the header that mean something (table 5.5).
const HEADER: usize = 92;
/// Where in the header its own checksum is.
const CHECKSUM_AT: usize = 16;
/// An entry has so many bytes times a power of two (table 5.5).
const ENTRY: usize = 128;
/// Where in an entry its name is, and how long it is (table 5.6).
const NAME_AT: usize = 56;
const NAME: usize = 72;
/// The MBR's signature, where its four records are, and the type of the one that protects a GPT (5.2.3).
const MBR_SIGNATURE: [u8; 2] = [0x55, 0xaa];
const MBR_RECORDS: usize = 446;
const PROTECTIVE: u8 = 0xee;

/// Why a disk has no table of partitions, or not the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GptError {
    /// There is no GPT.
    None,
    /// The first sector does not say that the disk has a GPT.
    Unprotected,
    /// The header's checksum is wrong.
    HeaderSum,
    /// The header says what cannot be.
    Header,
    /// There are more entries than EL2 reads.
    Large,
    /// The entries' checksum is wrong.
    EntriesSum,
    /// The partition of this number ends before it begins, or outside of where partitions may be.
    Bounds(u32),
    /// The partition of this number has sectors of another one.
    Overlap(u32),
    /// There is no such partition.
    NoPartition,
    /// There are several of this name.
    Ambiguous,
}

impl GptError {
    /// In words, after the disk's name; and the number that belongs to them.
    #[must_use]
    pub const fn words(self) -> (&'static str, Option<u32>) {
        match self {
            Self::None => ("has no GPT", None),
            Self::Unprotected => ("has a GPT, but its first sector does not say so", None),
            Self::HeaderSum => ("has a GPT with a wrong checksum of its header", None),
            Self::Header => ("has a GPT with a header that makes no sense", None),
            Self::Large => ("has a GPT with more than 64 KiB of entries", None),
            Self::EntriesSum => ("has a GPT with a wrong checksum of its entries", None),
            Self::Bounds(number) => ("has a GPT with wrong bounds of partition ", Some(number)),
            Self::Overlap(number) => (
                "has a GPT where another has sectors of partition ",
                Some(number),
            ),
            Self::NoPartition => ("has no such partition in its GPT", None),
            Self::Ambiguous => ("has several partitions of this name", None),
        }
    }
}

/// A header that is right as far as it can be judged alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Sectors of a block.
    block: u64,
    /// Blocks that partitions may have: the first and the last.
    usable: (u64, u64),
    entries: Sectors,
    count: usize,
    size: usize,
    checksum: u32,
}

impl Header {
    /// Reads the header in the first [`FIRST_SECTORS`] sectors of a disk that has `sectors`.
    ///
    /// # Errors
    /// When there is none, or one that is wrong.
    pub fn read(first: &[u8], sectors: u64) -> Result<Self, GptError> {
        let at = |block: &usize| first.get(*block..)?.get(..*block);
        let signed = |block: &[u8]| block.starts_with(SIGNATURE);
        let mut blocks = BLOCKS.iter().filter_map(at);
        let block = blocks.find(|block| signed(block)).ok_or(GptError::None)?;
        if !is_protected(first) {
            return Err(GptError::Unprotected);
        }
        Self::judge(block, sectors)
    }

    fn judge(block: &[u8], sectors: u64) -> Result<Self, GptError> {
        let sense = |sensible: bool| sensible.then_some(()).ok_or(GptError::Header);
        let len = long(block, 12, 4);
        let header = usize::try_from(len).ok().and_then(|len| block.get(..len));
        let header = header
            .filter(|header| header.len() >= HEADER)
            .ok_or(GptError::Header)?;
        let (before, rest) = header.split_at_checked(CHECKSUM_AT).unwrap_or_default();
        let behind = rest.get(4..).unwrap_or_default();
        if u64::from(Crc::new().and(before).and(&[0; 4]).and(behind).sum()) != long(rest, 0, 4) {
            return Err(GptError::HeaderSum);
        }
        sense(long(header, 8, 4) == u64::from(REVISION))?;
        let per_block = block.len() as u64 / SECTOR;
        let blocks = sectors / per_block;
        let (this, spare) = (long(header, 24, 8), long(header, 32, 8));
        let usable = (long(header, 40, 8), long(header, 48, 8));
        sense(this == 1 && spare > 1 && spare < blocks)?;
        sense(usable.0 <= usable.1 && usable.1 < blocks)?;
        let (at, count, size) = (
            long(header, 72, 8),
            long(header, 80, 4),
            long(header, 84, 4),
        );
        let whole = size.is_multiple_of(ENTRY as u64) && (size / ENTRY as u64).is_power_of_two();
        sense(whole && count > 0)?;
        let bytes = count
            .checked_mul(size)
            .filter(|bytes| *bytes <= MOST as u64);
        let bytes = bytes.ok_or(GptError::Large)?;
        // Behind the header, and before what partitions may have (5.3.1).
        let end = at.checked_add(bytes.div_ceil(block.len() as u64));
        sense(at > 1 && end.is_some_and(|end| end <= usable.0))?;
        let small = |number: u64| usize::try_from(number).map_err(|_| GptError::Header);
        let first = at.checked_mul(per_block).ok_or(GptError::Header)?;
        Ok(Self {
            block: per_block,
            usable,
            entries: Sectors::new(first, bytes.div_ceil(SECTOR)).ok_or(GptError::Header)?,
            count: small(count)?,
            size: small(size)?,
            checksum: u32::try_from(long(header, 88, 4)).map_err(|_| GptError::Header)?,
        })
    }

    /// The sectors that [`table`](Self::table) wants: at most [`MOST`] bytes.
    #[must_use]
    pub const fn entries(&self) -> Sectors {
        self.entries
    }

    /// Reads the entries, which are what [`entries`](Self::entries) begins with.
    ///
    /// # Errors
    /// When one of them is wrong, whether anybody asks for it or not.
    pub fn table<'a>(&self, entries: &'a [u8]) -> Result<Table<'a>, GptError> {
        let bytes = self.count.saturating_mul(self.size);
        let bytes = entries.get(..bytes).ok_or(GptError::EntriesSum)?;
        if Crc::new().and(bytes).sum() != self.checksum {
            return Err(GptError::EntriesSum);
        }
        let table = Table {
            bytes,
            header: *self,
        };
        for (number, entry) in table.entries() {
            let sectors = table.bounds(number, entry)?;
            for (other, entry) in table.entries().take_while(|(other, _)| *other < number) {
                if table.bounds(other, entry)?.overlap(sectors) {
                    return Err(GptError::Overlap(number));
                }
            }
        }
        Ok(table)
    }
}

/// A table that is right: its partitions are where partitions may be, and none has a sector of another.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    bytes: &'a [u8],
    header: Header,
}

impl<'a> Table<'a> {
    /// The entries that are used, by their number, from 1.
    fn entries(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let entries = (1..).zip(self.bytes.chunks_exact(self.header.size));
        // A type of all zeroes stands for none (table 5.7).
        entries.filter(|(_, entry)| !entry.starts_with(&[0; 16]))
    }

    fn bounds(&self, number: u32, entry: &[u8]) -> Result<Sectors, GptError> {
        let (first, last) = (long(entry, 32, 8), long(entry, 40, 8));
        let (least, most) = self.header.usable;
        let count = last.checked_sub(first).and_then(|less| less.checked_add(1));
        let block = self.header.block;
        let sectors = match count {
            Some(count) if first >= least && last <= most => first
                .checked_mul(block)
                .zip(count.checked_mul(block))
                .and_then(|(first, count)| Sectors::new(first, count)),
            _ => None,
        };
        sectors.ok_or(GptError::Bounds(number))
    }

    /// The partition of a number, from 1.
    ///
    /// # Errors
    /// When there is none.
    pub fn number(&self, wanted: u32) -> Result<Sectors, GptError> {
        let found = self.entries().find(|(number, _)| *number == wanted);
        let (number, entry) = found.ok_or(GptError::NoPartition)?;
        self.bounds(number, entry)
    }

    /// The partition of a name.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn named(&self, name: &str) -> Result<Sectors, GptError> {
        let mut named = self.entries().filter(|(_, entry)| has_name(entry, name));
        let (number, entry) = named.next().ok_or(GptError::NoPartition)?;
        match named.next() {
            Some(_) => Err(GptError::Ambiguous),
            None => self.bounds(number, entry),
        }
    }
}

/// Whether an entry has this name: UTF-16, ended by a zero unless it fills its place. Nothing is called nothing.
fn has_name(entry: &[u8], name: &str) -> bool {
    let bytes = entry.get(NAME_AT..).and_then(|rest| rest.get(..NAME));
    let units = bytes.unwrap_or_default().as_chunks::<2>().0.iter();
    let units = units.map(|unit| u16::from_le_bytes(*unit));
    let units = units.take_while(|unit| *unit != 0);
    !name.is_empty() && units.eq(name.encode_utf16())
}

/// Whether the first sector says that the disk has a GPT, so that nothing else has taken it since.
fn is_protected(first: &[u8]) -> bool {
    let records = first.get(MBR_RECORDS..).unwrap_or_default();
    let (records, rest) = records.split_at_checked(64).unwrap_or_default();
    let mut types = records.chunks_exact(16).filter_map(|record| record.get(4));
    rest.starts_with(&MBR_SIGNATURE) && types.any(|kind| *kind == PROTECTIVE)
}

/// The little-endian number in `len` bytes at `at`; 0 where they are not.
fn long(bytes: &[u8], at: usize, len: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(|rest| rest.get(..len));
    let bytes = bytes.unwrap_or_default().iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}
