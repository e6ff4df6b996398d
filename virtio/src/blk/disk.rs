//! The port to whatever keeps a disk's sectors.

use crate::chain::Cursor;
use crate::memory::GuestMemory;

/// Bytes of a sector, the unit of everything in virtio-blk (5.2.4).
pub const SECTOR: u64 = 512;

/// What a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// How large it is. Does not change.
    pub sectors: u64,
    /// Writes fail.
    pub readonly: bool,
    /// What was written may be lost until it is flushed.
    pub volatile: bool,
    /// It has a use for sectors that nobody needs any more.
    pub discards: bool,
    /// It writes zeroes by itself.
    pub zeroes: bool,
    /// The most sectors of one request that moves data; at least 1. About 128 is right where the sectors are in memory.
    pub most: u32,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Sectors into the guest's buffers.
    Read,
    /// The guest's buffers into sectors.
    Write,
    /// What was written before is not lost from now on.
    Flush,
    /// Nobody needs the sectors: what they hold from now on is anything that the guest may see.
    Discard,
    /// Zeroes into sectors. They may be given up, as by [`Op::Discard`], if they read as zeroes nevertheless.
    WriteZeroes {
        /// Whether the driver would like that.
        unmap: bool,
    },
}

/// A piece of work on a disk. Its sectors are inside the disk, and a disk that is read only is not asked to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What is to be done.
    pub op: Op,
    /// The first sector; 0 for [`Op::Flush`].
    pub sector: u64,
    /// How many; none for [`Op::Flush`]; at most [`Facts::most`] for what moves or writes data.
    pub sectors: u32,
}

impl Request {
    /// Where it begins, in bytes.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.sector.wrapping_mul(SECTOR)
    }

    /// Bytes of its sectors.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.sectors) * SECTOR
    }
}

/// By what a disk and its device know a request again that is not done at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token(pub u32);

/// How many bits of a token are the number of its request's place in the device; the others tell its turns apart.
pub(super) const PLACE_BITS: u32 = 5;

impl Token {
    /// The number of its request's place in the device.
    #[must_use]
    pub const fn place(self) -> u32 {
        self.0 & ((1 << PLACE_BITS) - 1)
    }

    /// The same as a bit.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self.place()
    }
}

/// A request's end (5.2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Done.
    Ok,
    /// Not done, or not all of it.
    IoError,
    /// Nothing that this disk does.
    Unsupported,
}

impl Status {
    /// As the driver reads it.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::IoError => 1,
            Self::Unsupported => 2,
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is over.
    Done(Status),
    /// It is begun. [`Disk::finished`] will return its token, once. Whoever sees that happen polls the device.
    Pending,
    /// There is no room for it. The device asks again when it is polled, so whoever makes room polls it.
    Busy,
}

/// A disk: whatever keeps sectors, for one device.
pub trait Disk<M: GuestMemory> {
    /// What it is. Asked once.
    fn facts(&self) -> Facts;

    /// The device has taken a request, which comes here [in one piece or more](Self::submit), with tokens of this one's
    /// place: what comes next with such a token is its first piece.
    fn begins(&mut self, token: Token) {
        let _ = token;
    }

    /// Begins a request, and ends it if it can. `data` is where the guest's bytes are: at least as many as the sectors of
    /// a read or write have. It is for this call only: a write that is pending has copied them.
    fn submit(&mut self, request: &Request, data: Cursor<'_>, memory: &M, token: Token) -> Outcome;

    /// The machine that has it begins anew.
    fn renew(&mut self) {}

    /// A pending request that is over; of each it is said once.
    fn finished(&mut self) -> Option<Token> {
        None
    }

    /// How it ended: asked once of each, right after it was [`finished`](Self::finished). With `data`, which is where it was
    /// when the request was submitted, a read copies its bytes there. Without, the device has been reset meanwhile: nobody
    /// wants to know, and no memory of the guest's is touched.
    fn collect(&mut self, token: Token, data: Option<(Cursor<'_>, &M)>) -> Status {
        let _ = (token, data);
        Status::IoError
    }
}

impl<M: GuestMemory, D: Disk<M> + ?Sized> Disk<M> for &mut D {
    fn facts(&self) -> Facts {
        (**self).facts()
    }

    fn begins(&mut self, token: Token) {
        (**self).begins(token);
    }

    fn submit(&mut self, request: &Request, data: Cursor<'_>, memory: &M, token: Token) -> Outcome {
        (**self).submit(request, data, memory, token)
    }

    fn renew(&mut self) {
        (**self).renew();
    }

    fn finished(&mut self) -> Option<Token> {
        (**self).finished()
    }

    fn collect(&mut self, token: Token, data: Option<(Cursor<'_>, &M)>) -> Status {
        (**self).collect(token, data)
    }
}
