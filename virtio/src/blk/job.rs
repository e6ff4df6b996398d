//! One request of the driver, from its header to its status byte.

use super::disk::{Facts, Op, Request, SECTOR, Status, Token};
use crate::chain::{Chain, Cursor};
use crate::memory::GuestMemory;

/// A header: type, a reserved word, sector (5.2.6).
const HEADER: u64 = 16;
/// What headers and ranges are read as.
const RAW: usize = 16;

/// Types of requests.
const IN: u64 = 0;
const OUT: u64 = 1;
const FLUSH: u64 = 4;
const GET_ID: u64 = 8;
const DISCARD: u64 = 11;
const WRITE_ZEROES: u64 = 13;

/// Bytes of a disk's name.
pub const ID_BYTES: usize = 20;

/// A range of sectors in a discard or write-zeroes request: sector, count, flags (5.2.6).
const RANGE: u64 = 16;
/// The most of them in one request.
pub const MAX_RANGES: u32 = 32;
/// The most sectors of one that is discarded: what a disk in memory gives up in some ten thousand instructions.
const MOST_DISCARDED: u32 = 1 << 15;

/// `VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP`.
const UNMAP: u32 = 1;

/// A request in the device's hands. Its place is used again without being cleared.
pub struct Job {
    pub(super) chain: Chain,
    pub(super) queue: u16,
    pub(super) work: Work,
    /// What the disk has of it, if it has something.
    pub(super) token: Token,
    /// How many sectors it has.
    pub(super) slice: u32,
}

impl Job {
    /// A place for one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            chain: Chain::new(),
            queue: 0,
            work: Work::NONE,
            token: Token(0),
            slice: 0,
        }
    }

    /// Where the data of a request is that is all of it.
    #[inline(always)]
    pub(super) fn all(&self, op: Op) -> Cursor<'_> {
        if op == Op::Read {
            return self.chain.writable();
        }
        let mut readable = self.chain.readable();
        // It is there: it was read.
        if readable.whole(16).is_none() {
            let _ = readable.skip(HEADER);
        }
        readable
    }

    /// That request is with the disk, or will be: it goes on like any other.
    pub(super) fn begin(&mut self, request: &Request) {
        self.slice = request.sectors;
        self.work = Work {
            op: request.op,
            sector: request.sector,
            sectors: u64::from(request.sectors),
            ..Work::NONE
        };
    }

    /// Where the data of the next slice is.
    pub(super) fn data(&self) -> Cursor<'_> {
        let (mut cursor, before) = match self.work.op {
            Op::Read => (self.chain.writable(), self.work.done),
            Op::Write => (self.chain.readable(), HEADER + self.work.done),
            Op::Flush | Op::Discard | Op::WriteZeroes { .. } => return Cursor::new(&[]),
        };
        // The lengths were compared when the request was judged.
        let _ = cursor.skip(before);
        cursor
    }

    /// The next slice of it, or how it has ended.
    pub(super) fn next<M: GuestMemory>(
        &mut self,
        facts: &Facts,
        memory: &M,
    ) -> Result<Request, Status> {
        // Called again before the slice is done, it says the same.
        let work = &mut self.work;
        while work.sectors == 0 && work.ranges != 0 {
            let mut list = self.chain.readable();
            let mut range = [0; RAW];
            list.skip(HEADER + work.done).ok_or(Status::IoError)?;
            list.read(memory, &mut range).ok_or(Status::IoError)?;
            work.ranges -= 1;
            work.done += RANGE;
            work.take(Range::from(range), facts)?;
        }
        let most = match work.op {
            Op::Discard => MOST_DISCARDED,
            Op::Read | Op::Write | Op::Flush | Op::WriteZeroes { .. } => facts.most,
        };
        if work.sectors != 0 {
            let left = u32::try_from(work.sectors).unwrap_or(u32::MAX);
            self.slice = left.min(most);
            return Ok(Request {
                op: work.op,
                sector: work.sector,
                sectors: self.slice,
            });
        }
        if work.flush {
            work.op = Op::Flush;
            self.slice = 0;
            return Ok(Request {
                op: Op::Flush,
                sector: 0,
                sectors: 0,
            });
        }
        Err(Status::Ok)
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.work.sectors == 0 && self.work.ranges == 0 && !self.work.flush
    }

    /// How many bytes of the data were written, from the first on.
    pub(super) fn written(&self) -> u64 {
        match self.work.op {
            Op::Read => self.work.done,
            Op::Write | Op::Flush | Op::Discard | Op::WriteZeroes { .. } => 0,
        }
    }

    /// The slice is done.
    pub(super) fn step(&mut self) {
        let work = &mut self.work;
        let sectors = u64::from(self.slice);
        work.sector += sectors;
        work.sectors -= sectors;
        match work.op {
            Op::Read | Op::Write => work.done += sectors * SECTOR,
            Op::Flush => work.flush = false,
            Op::Discard | Op::WriteZeroes { .. } => {}
        }
    }
}

impl Default for Job {
    fn default() -> Self {
        Self::new()
    }
}

/// What is left to do.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub(super) op: Op,
    sector: u64,
    sectors: u64,
    /// Bytes of the guest's data that are behind: of those moved, or of the list of ranges.
    pub(super) done: u64,
    /// Ranges that are still to be read.
    ranges: u32,
    /// When all of it is done, what was written must not be lost any more.
    flush: bool,
}

impl Work {
    const NONE: Self = Self {
        op: Op::Flush,
        sector: 0,
        sectors: 0,
        done: 0,
        ranges: 0,
        flush: false,
    };

    fn take(&mut self, range: Range, facts: &Facts) -> Result<(), Status> {
        // Flags of which one has no meaning, here or at all, have to be answered so (5.2.6.2).
        let known = match self.op {
            Op::WriteZeroes { .. } => UNMAP,
            Op::Read | Op::Write | Op::Flush | Op::Discard => 0,
        };
        if range.flags & !known != 0 {
            return Err(Status::Unsupported);
        }
        if let Op::WriteZeroes { unmap } = &mut self.op {
            *unmap = range.flags & UNMAP != 0;
        }
        self.sector = range.sector;
        self.sectors = u64::from(range.sectors);
        inside(self.sector, self.sectors, facts)
    }
}

struct Range {
    sector: u64,
    sectors: u32,
    flags: u32,
}

impl From<[u8; RAW]> for Range {
    fn from(raw: [u8; RAW]) -> Self {
        let [
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            n0,
            n1,
            n2,
            n3,
            f0,
            f1,
            f2,
            f3,
        ] = raw;
        Self {
            sector: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            sectors: u32::from_le_bytes([n0, n1, n2, n3]),
            flags: u32::from_le_bytes([f0, f1, f2, f3]),
        }
    }
}

/// Whether sectors are on the disk.
fn inside(sector: u64, sectors: u64, facts: &Facts) -> Result<(), Status> {
    match sector.checked_add(sectors) {
        Some(end) if end <= facts.sectors => Ok(()),
        _ => Err(Status::IoError),
    }
}

/// Type and a reserved word, sector.
pub(super) type Header = [u64; 2];

/// Copies a header, once.
#[inline(always)]
pub(super) fn header<M: GuestMemory>(chain: &Chain, memory: &M) -> Option<Header> {
    match chain.readable().whole(16) {
        Some(at) => memory.load_pair(at),
        None => scattered(chain, memory),
    }
}

/// The same of a header in pieces.
#[cold]
#[inline(never)]
fn scattered<M: GuestMemory>(chain: &Chain, memory: &M) -> Option<Header> {
    let mut raw = [0; RAW];
    chain.readable().read(memory, &mut raw)?;
    let [
        a0,
        a1,
        a2,
        a3,
        a4,
        a5,
        a6,
        a7,
        b0,
        b1,
        b2,
        b3,
        b4,
        b5,
        b6,
        b7,
    ] = raw;
    Some([
        u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
    ])
}

/// How the device stands to requests.
pub(super) struct Manner<'a> {
    pub(super) facts: &'a Facts,
    /// Writes are over when they cannot be lost any more.
    pub(super) writethrough: bool,
    pub(super) id: &'a [u8; ID_BYTES],
}

impl Manner<'_> {
    /// What most requests are: sectors that the disk moves at once, with nothing to do afterwards. All others are
    /// [judged](Self::judge), and so are those that are nonsense.
    #[inline(always)]
    pub(super) fn at_once(&self, [kind, sector]: Header, chain: &Chain) -> Option<Request> {
        let (op, bytes) = match kind & 0xffff_ffff {
            // The last byte is the status.
            IN => (Op::Read, chain.writable_len().checked_sub(1)?),
            OUT if !self.writethrough && !self.facts.readonly => {
                (Op::Write, chain.readable_len() - HEADER)
            }
            _ => return None,
        };
        let sectors = u32::try_from(bytes / SECTOR).ok()?;
        if !bytes.is_multiple_of(SECTOR) || sectors == 0 || sectors > self.facts.most {
            return None;
        }
        inside(sector, u64::from(sectors), self.facts).ok()?;
        Some(Request {
            op,
            sector,
            sectors,
        })
    }

    /// Judges the header of a request. Either there is work to do, or the request has ended, after so many bytes of data
    /// were written.
    #[inline(never)]
    pub(super) fn judge<M: GuestMemory>(
        &self,
        [kind, sector]: Header,
        chain: &Chain,
        memory: &M,
    ) -> Result<Work, (Status, u64)> {
        let given = chain.readable_len() - HEADER;
        // The last byte is the status.
        let room = chain.writable_len().saturating_sub(1);
        let work = match kind & 0xffff_ffff {
            IN => self.data(Op::Read, sector, room),
            OUT => self.data(Op::Write, sector, given),
            FLUSH => Ok(Work {
                flush: true,
                ..Work::NONE
            }),
            DISCARD if self.facts.discards && !self.facts.readonly => self.list(Op::Discard, given),
            WRITE_ZEROES if self.facts.zeroes && !self.facts.readonly => {
                self.list(Op::WriteZeroes { unmap: false }, given)
            }
            GET_ID => return Err(self.name(chain, room, memory)),
            _ => Err(Status::Unsupported),
        };
        work.map_err(|status| (status, 0))
    }

    fn data(&self, op: Op, sector: u64, bytes: u64) -> Result<Work, Status> {
        if !bytes.is_multiple_of(SECTOR) || (op == Op::Write && self.facts.readonly) {
            return Err(Status::IoError);
        }
        let sectors = bytes / SECTOR;
        inside(sector, sectors, self.facts)?;
        Ok(Work {
            op,
            sector,
            sectors,
            flush: op == Op::Write && self.writethrough,
            ..Work::NONE
        })
    }

    fn list(&self, op: Op, bytes: u64) -> Result<Work, Status> {
        let ranges = u32::try_from(bytes / RANGE).unwrap_or(u32::MAX);
        if !bytes.is_multiple_of(RANGE) || ranges > MAX_RANGES {
            return Err(Status::IoError);
        }
        Ok(Work {
            op,
            ranges,
            flush: self.writethrough,
            ..Work::NONE
        })
    }

    fn name<M: GuestMemory>(&self, chain: &Chain, room: u64, memory: &M) -> (Status, u64) {
        if room < ID_BYTES as u64 {
            return (Status::IoError, 0);
        }
        match chain.writable().write(memory, self.id) {
            Some(()) => (Status::Ok, ID_BYTES as u64),
            None => (Status::IoError, 0),
        }
    }
}
