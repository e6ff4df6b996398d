//! A disk that is an image until it is written: the image never changes, what is written goes into memory beside it.

use stage2_addr::Ipa;

use super::disk::{Disk, Facts, Op, Outcome, Request, SECTOR, Status, Token};
use super::ram::{MOST, done, each, zero};
use crate::chain::{Cursor, Segment};
use crate::memory::GuestMemory;

/// The unit of copying on write.
pub const BLOCK: u64 = 4096;
const BLOCK_BYTES: u32 = 4096;

/// A block's entry in the map: it is as in the image, or all zeroes; any other is its place in the overlay, plus one.
const BASE: u32 = 0;
const ZEROES: u32 = u32::MAX;

/// No block is free but those never used.
const NONE: u32 = u32::MAX;

/// A copy-on-write disk over an image.
pub struct Snapshot<'a, M> {
    base: &'a [u8],
    sectors: u64,
    overlay: M,
    /// How many blocks the overlay has room for.
    room: u32,
    map: &'a mut [u32],
    /// Blocks of the overlay from here on were never used.
    fresh: u32,
    /// A block that was used and is free again. It holds the number of the next one.
    free: u32,
}

impl<'a, M: GuestMemory> Snapshot<'a, M> {
    /// A disk of so many sectors, which begins with the image and goes on with zeroes. The overlay is memory that is
    /// reached as a guest's is, under addresses that begin at 0, and has room for so many blocks. `None` if it is smaller, or
    /// the map has no entry for each block of the disk.
    pub fn new(
        base: &'a [u8],
        sectors: u64,
        overlay: M,
        room: u32,
        map: &'a mut [u32],
    ) -> Option<Self> {
        let bytes = sectors.checked_mul(SECTOR)?;
        let blocks = usize::try_from(bytes.div_ceil(BLOCK)).ok()?;
        let fits = map.len() >= blocks
            && room < ZEROES - 1
            && overlay.contains(Ipa::new(0), u64::from(room) * BLOCK);
        if !fits {
            return None;
        }
        let mut new = Self {
            base,
            sectors,
            overlay,
            room,
            map,
            fresh: 0,
            free: NONE,
        };
        new.forget();
        Some(new)
    }

    /// All that was written is gone: the disk is its image again.
    pub fn forget(&mut self) {
        self.map.fill(BASE);
        self.fresh = 0;
        self.free = NONE;
    }

    fn entry(&mut self, block: u64) -> Option<&mut u32> {
        self.map.get_mut(usize::try_from(block).ok()?)
    }

    /// A block of the overlay that nobody has.
    fn allocate(&mut self) -> Option<u32> {
        if self.free != NONE {
            let block = self.free;
            self.free = self.overlay.load_u32(place(block, 0))?;
            return Some(block);
        }
        if self.fresh == self.room {
            return None;
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }

    fn release(&mut self, block: u32) -> Option<()> {
        self.overlay.store_u32(place(block, 0), self.free)?;
        self.free = block;
        Some(())
    }

    /// Copies the image's bytes, and zeroes behind its end.
    fn copy_base(&self, at: u64, memory: &M, to: Segment) -> Option<()> {
        let from = usize::try_from(at).ok()?;
        let len = usize::try_from(to.len).ok()?;
        let rest = self.base.get(from..).unwrap_or_default();
        let bytes = rest.get(..len).unwrap_or(rest);
        memory.write(to.at, bytes)?;
        let behind = u64::try_from(bytes.len()).ok()?;
        zero(memory, to.at.raw() + behind, u64::from(to.len) - behind)
    }

    /// Goes over the blocks that a range touches: number, where in it, how many bytes, how many were before.
    fn blocks(
        &mut self,
        at: u64,
        bytes: u64,
        mut step: impl FnMut(&mut Self, u64, u32, u32, u64) -> Option<()>,
    ) -> Option<()> {
        let mut behind = 0;
        while behind < bytes {
            let here = at.checked_add(behind)?;
            let offset = here % BLOCK;
            let len = (BLOCK - offset).min(bytes - behind);
            let (offset, now) = (u32::try_from(offset).ok()?, u32::try_from(len).ok()?);
            step(self, here / BLOCK, offset, now, behind)?;
            behind += len;
        }
        Some(())
    }

    fn read(&mut self, at: u64, memory: &M, to: Segment) -> Option<()> {
        self.blocks(at, to.len.into(), |this, block, offset, len, behind| {
            let to = Segment {
                at: Ipa::new(to.at.raw() + behind),
                len,
            };
            match *this.entry(block)? {
                BASE => this.copy_base(block * BLOCK + u64::from(offset), memory, to),
                ZEROES => zero(memory, to.at.raw(), len.into()),
                own => (this.overlay).copy(place(own - 1, offset), memory, to.at, len),
            }
        })
    }

    /// Puts bytes into a block. `fill` writes them to where it is told.
    fn put(
        &mut self,
        block: u64,
        offset: u32,
        len: u32,
        fill: impl FnOnce(&M, Ipa) -> Option<()>,
    ) -> Option<()> {
        let old = *self.entry(block)?;
        if old != BASE && old != ZEROES {
            return fill(&self.overlay, place(old - 1, offset));
        }
        let own = self.allocate()?;
        let filled = self.fill_around(block, old, own, offset, len);
        if filled
            .and_then(|()| fill(&self.overlay, place(own, offset)))
            .is_none()
        {
            // What the overlay held there before is nobody's to see.
            self.release(own)?;
            return None;
        }
        *self.entry(block)? = own + 1;
        Some(())
    }

    /// What of a block is not written is as it was.
    fn fill_around(&self, block: u64, old: u32, own: u32, offset: u32, len: u32) -> Option<()> {
        let end = offset.checked_add(len)?;
        for (from, to) in [(0, offset), (end, BLOCK_BYTES)] {
            let at = place(own, from);
            let len = to.checked_sub(from)?;
            if old == ZEROES {
                zero(&self.overlay, at.raw(), len.into())?;
            } else {
                let from = block * BLOCK + u64::from(from);
                self.copy_base(from, &self.overlay, Segment { at, len })?;
            }
        }
        Some(())
    }

    fn write(&mut self, at: u64, memory: &M, from: Segment) -> Option<()> {
        self.blocks(at, from.len.into(), |this, block, offset, len, behind| {
            let from = Ipa::new(from.at.raw() + behind);
            this.put(block, offset, len, |overlay, to| {
                memory.copy(from, overlay, to, len)
            })
        })
    }

    /// The block becomes what an entry without a place says.
    fn drop_block(&mut self, block: u64, becomes: u32) -> Option<()> {
        let entry = self.entry(block)?;
        let old = core::mem::replace(entry, becomes);
        if old != BASE && old != ZEROES {
            self.release(old - 1)?;
        }
        Some(())
    }

    fn clear(&mut self, at: u64, bytes: u64) -> Option<()> {
        self.blocks(at, bytes, |this, block, offset, len, _| {
            if len == BLOCK_BYTES {
                return this.drop_block(block, ZEROES);
            }
            if *this.entry(block)? == ZEROES {
                return Some(());
            }
            this.put(block, offset, len, |overlay, to| {
                zero(overlay, to.raw(), len.into())
            })
        })
    }

    fn discard(&mut self, at: u64, bytes: u64) -> Option<()> {
        self.blocks(at, bytes, |this, block, _, len, _| {
            if len == BLOCK_BYTES && *this.entry(block)? != ZEROES {
                return this.drop_block(block, BASE);
            }
            Some(())
        })
    }
}

/// Where a byte of the overlay's block is.
fn place(block: u32, offset: u32) -> Ipa {
    Ipa::new(u64::from(block) * BLOCK + u64::from(offset))
}

impl<M: GuestMemory> Disk<M> for Snapshot<'_, M> {
    fn renew(&mut self) {
        self.forget();
    }

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
        let (at, bytes) = (request.at(), request.bytes());
        match request.op {
            Op::Read => done(each(data, at, bytes, |at, to| self.read(at, memory, to))),
            Op::Write => done(each(data, at, bytes, |at, from| {
                self.write(at, memory, from)
            })),
            Op::WriteZeroes { .. } => done(self.clear(at, bytes)),
            Op::Discard => done(self.discard(at, bytes)),
            Op::Flush => Outcome::Done(Status::Ok),
        }
    }
}
