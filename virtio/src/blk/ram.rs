//! Disks whose sectors are in memory.

use stage2_addr::Ipa;

use super::disk::{Disk, Facts, Op, Outcome, Request, SECTOR, Status, Token};
use crate::chain::{Cursor, Segment};
use crate::memory::GuestMemory;

/// How many sectors at once: 64 KiB.
pub(super) const MOST: u32 = 128;

/// What zeroes are copied from.
static ZEROES: [u8; 512] = [0; 512];

/// Writes zeroes to memory.
pub(super) fn zero<M: GuestMemory>(memory: &M, at: u64, bytes: u64) -> Option<()> {
    let mut done = 0;
    while done < bytes {
        let now = usize::try_from(bytes - done).unwrap_or(ZEROES.len());
        let piece = ZEROES.get(..now.min(ZEROES.len()))?;
        memory.write(Ipa::new(at.checked_add(done)?), piece)?;
        done += u64::try_from(piece.len()).ok()?;
    }
    Some(())
}

/// Goes over the guest's buffers: `step` gets the bytes of the disk that a piece is for.
#[inline(always)]
pub(super) fn each(
    mut data: Cursor<'_>,
    at: u64,
    bytes: u64,
    mut step: impl FnMut(u64, Segment) -> Option<()>,
) -> Option<()> {
    // Mostly there is one.
    let len = u32::try_from(bytes).ok()?;
    match data.whole(len) {
        Some(piece) => step(at, Segment { at: piece, len }),
        None => pieces(data, at, bytes, step),
    }
}

#[inline(never)]
fn pieces(
    mut data: Cursor<'_>,
    at: u64,
    bytes: u64,
    mut step: impl FnMut(u64, Segment) -> Option<()>,
) -> Option<()> {
    let mut done = 0;
    while done < bytes {
        let most = u32::try_from(bytes - done).unwrap_or(u32::MAX);
        let piece = data.take(most)?;
        step(at.checked_add(done)?, piece)?;
        done += u64::from(piece.len);
    }
    Some(())
}

/// A disk in memory of its own, which is reached as a guest's is, under addresses that begin at 0.
#[derive(Clone, Copy)]
pub struct RamDisk<M> {
    bytes: M,
    sectors: u64,
}

impl<M: GuestMemory> RamDisk<M> {
    /// A disk of so many sectors; `None` if the memory is less.
    pub fn new(bytes: M, sectors: u64) -> Option<Self> {
        let whole = bytes.contains(Ipa::new(0), sectors.checked_mul(SECTOR)?);
        whole.then_some(Self { bytes, sectors })
    }

    fn carry_out(&self, request: &Request, data: Cursor<'_>, memory: &M) -> Option<()> {
        let (at, bytes) = (request.at(), request.bytes());
        match request.op {
            Op::Read => each(data, at, bytes, |at, piece| {
                self.bytes.copy(Ipa::new(at), memory, piece.at, piece.len)
            }),
            Op::Write => each(data, at, bytes, |at, piece| {
                memory.copy(piece.at, &self.bytes, Ipa::new(at), piece.len)
            }),
            Op::WriteZeroes { .. } => zero(&self.bytes, at, bytes),
            // It is all there at once, and there is nothing to give up.
            Op::Flush | Op::Discard => Some(()),
        }
    }
}

impl<M: GuestMemory> Disk<M> for RamDisk<M> {
    fn facts(&self) -> Facts {
        Facts {
            sectors: self.sectors,
            readonly: false,
            volatile: false,
            discards: true,
            zeroes: true,
            most: MOST,
        }
    }

    fn submit(&mut self, request: &Request, data: Cursor<'_>, memory: &M, _: Token) -> Outcome {
        done(self.carry_out(request, data, memory))
    }
}

/// A disk that is never written, and any number of guests may have.
#[derive(Clone, Copy)]
pub struct ReadOnly<'a> {
    bytes: &'a [u8],
}

impl<'a> ReadOnly<'a> {
    /// A disk of these bytes; less than a sector at their end is not on it.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

/// Copies from bytes to a guest.
pub(super) fn copy_out<M: GuestMemory>(
    bytes: &[u8],
    at: u64,
    memory: &M,
    to: Segment,
) -> Option<()> {
    let at = usize::try_from(at).ok()?;
    let end = at.checked_add(usize::try_from(to.len).ok()?)?;
    memory.write(to.at, bytes.get(at..end)?)
}

impl<M: GuestMemory> Disk<M> for ReadOnly<'_> {
    fn facts(&self) -> Facts {
        Facts {
            sectors: u64::try_from(self.bytes.len()).unwrap_or(0) / SECTOR,
            readonly: true,
            volatile: false,
            discards: false,
            zeroes: false,
            most: MOST,
        }
    }

    fn submit(&mut self, request: &Request, data: Cursor<'_>, memory: &M, _: Token) -> Outcome {
        match request.op {
            Op::Read => done(each(data, request.at(), request.bytes(), |at, piece| {
                copy_out(self.bytes, at, memory, piece)
            })),
            Op::Flush => Outcome::Done(Status::Ok),
            Op::Write | Op::Discard | Op::WriteZeroes { .. } => Outcome::Done(Status::IoError),
        }
    }
}

pub(super) fn done(moved: Option<()>) -> Outcome {
    Outcome::Done(match moved {
        Some(()) => Status::Ok,
        None => Status::IoError,
    })
}
