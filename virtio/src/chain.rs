//! A descriptor chain that has been judged: all of its buffers are inside the guest's memory.

use arrayvec::ArrayVec;
use stage2_addr::Ipa;

use crate::memory::GuestMemory;
use crate::queue::Broken;

/// The largest queue, and so the longest chain (virtio 1.3, 2.7.5.2).
pub const MAX_CHAIN: usize = 256;

/// The most bytes in a chain: virtio 1.3, 2.7.5.1.
const MAX_BYTES: u64 = 1 << 32;

/// A buffer that a descriptor names: inside the guest's memory, as its maker has proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it begins.
    pub at: Ipa,
    /// Bytes.
    pub len: u32,
}

/// A chain: first what the device reads, then what it writes. It is large, and is filled in place.
pub struct Chain {
    /// How the queue knows it again: the head's index (split), or the buffer's id (packed).
    pub(crate) id: u16,
    /// How many slots of the ring it takes: one of a split ring, its descriptors in a packed one.
    pub(crate) slots: u16,
    pub(crate) segments: ArrayVec<Segment, MAX_CHAIN>,
    /// How many of them are the device's to read.
    pub(crate) readable: usize,
    pub(crate) readable_len: u64,
    pub(crate) writable_len: u64,
}

/// What is left of a chain once its buffers are of no more interest: what [`Queue::push`](crate::queue) wants back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    pub(crate) id: u16,
    pub(crate) slots: u16,
}

impl Ticket {
    /// The head's index (split), or the buffer's id (packed).
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }
}

impl Chain {
    /// An empty one, to be filled.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            id: 0,
            slots: 0,
            segments: ArrayVec::new_const(),
            readable: 0,
            readable_len: 0,
            writable_len: 0,
        }
    }

    /// Forgets what it held.
    pub(crate) fn begin(&mut self, id: u16) {
        self.id = id;
        self.slots = 1;
        self.segments.clear();
        self.readable = 0;
        self.readable_len = 0;
        self.writable_len = 0;
    }

    /// Holds one buffer and nothing else, if it is inside the guest's memory.
    #[inline(always)]
    pub(crate) fn only<M: GuestMemory>(
        &mut self,
        memory: &M,
        id: u16,
        segment: Segment,
        writable: bool,
    ) -> Result<(), Broken> {
        if segment.len == 0 || !memory.contains(segment.at, u64::from(segment.len)) {
            return Err(Broken);
        }
        let len = u64::from(segment.len);
        (self.readable, self.readable_len, self.writable_len) =
            if writable { (0, 0, len) } else { (1, len, 0) };
        self.id = id;
        self.slots = 1;
        self.segments.clear();
        self.segments.try_push(segment).map_err(|_| Broken)
    }

    /// Takes one more buffer, if it is inside the guest's memory and in its place: what the device writes comes last (2.7.4.2).
    /// An empty one is refused, as other devices do: no driver has a use for it, and a chain of nothing would have an end
    /// that only its length bounds.
    #[inline]
    pub(crate) fn add<M: GuestMemory>(
        &mut self,
        memory: &M,
        segment: Segment,
        writable: bool,
    ) -> Result<(), Broken> {
        if segment.len == 0 || !memory.contains(segment.at, u64::from(segment.len)) {
            return Err(Broken);
        }
        if writable {
            self.writable_len += u64::from(segment.len);
        } else if self.writable_len == 0 {
            self.readable += 1;
            self.readable_len += u64::from(segment.len);
        } else {
            return Err(Broken);
        }
        self.segments.try_push(segment).map_err(|_| Broken)
    }

    /// It is whole. No chain has more than 2^32 bytes (2.7.5.1).
    #[inline]
    pub(crate) fn end(&self) -> Result<(), Broken> {
        if self.readable_len + self.writable_len <= MAX_BYTES {
            Ok(())
        } else {
            Err(Broken)
        }
    }

    /// What to give back to the queue.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket {
            id: self.id,
            slots: self.slots,
        }
    }

    /// Bytes that the device may read.
    #[must_use]
    pub fn readable_len(&self) -> u64 {
        self.readable_len
    }

    /// Bytes that the device may write.
    #[must_use]
    pub fn writable_len(&self) -> u64 {
        self.writable_len
    }

    /// What the device reads.
    #[must_use]
    pub fn readable(&self) -> Cursor<'_> {
        Cursor::new(self.segments.get(..self.readable).unwrap_or_default())
    }

    /// What the device writes.
    #[must_use]
    pub fn writable(&self) -> Cursor<'_> {
        Cursor::new(self.segments.get(self.readable..).unwrap_or_default())
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

/// A place in a chain's buffers, as if they were one.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    segments: &'a [Segment],
    /// Bytes of the first segment that are behind.
    offset: u32,
}

impl<'a> Cursor<'a> {
    /// The beginning of some buffers.
    #[must_use]
    pub const fn new(segments: &'a [Segment]) -> Self {
        Self {
            segments,
            offset: 0,
        }
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        let all: u64 = self.segments.iter().map(|one| u64::from(one.len)).sum();
        all - u64::from(self.offset)
    }

    /// Where the next bytes are, if that many lie in one buffer.
    #[inline(always)]
    pub fn at_once(&self, bytes: u32) -> Option<Ipa> {
        let first = self.segments.first()?;
        if first.len - self.offset < bytes {
            return None;
        }
        Some(Ipa::new(first.at.raw() + u64::from(self.offset)))
    }

    /// The same, and moves behind them.
    #[inline(always)]
    pub fn whole(&mut self, bytes: u32) -> Option<Ipa> {
        let at = self.at_once(bytes)?;
        self.offset += bytes;
        Some(at)
    }

    /// The next 32 bytes, if that many lie in one buffer; moves behind the first `bytes` of them then.
    #[inline(always)]
    pub(crate) fn quad<M: GuestMemory>(&mut self, memory: &M, bytes: u32) -> Option<[u64; 4]> {
        let first = self.segments.first()?;
        if first.len - self.offset < 32 {
            return None;
        }
        let words = memory.load_quad(Ipa::new(first.at.raw() + u64::from(self.offset)));
        self.offset += bytes.min(32);
        words
    }

    /// The next piece that lies in one buffer, of `most` bytes at most; moves behind it. `None` at the end. Never empty
    /// unless `most` is zero.
    pub fn take(&mut self, most: u32) -> Option<Segment> {
        while let [first, rest @ ..] = self.segments {
            let left = first.len - self.offset;
            if left == 0 {
                self.segments = rest;
                self.offset = 0;
                continue;
            }
            let len = left.min(most);
            let at = Ipa::new(first.at.raw() + u64::from(self.offset));
            self.offset += len;
            return Some(Segment { at, len });
        }
        None
    }

    /// Moves on; `None`, at the end, when there is not so much.
    pub fn skip(&mut self, mut bytes: u64) -> Option<()> {
        while bytes != 0 {
            let [first, rest @ ..] = self.segments else {
                return None;
            };
            let left = u64::from(first.len - self.offset);
            if bytes < left {
                self.offset += u32::try_from(bytes).unwrap_or(0);
                return Some(());
            }
            bytes -= left;
            self.segments = rest;
            self.offset = 0;
        }
        Some(())
    }

    /// Copies out exactly so many bytes; `None` when there are less.
    #[inline]
    pub fn read<M: GuestMemory>(&mut self, memory: &M, into: &mut [u8]) -> Option<()> {
        match self.whole(u32::try_from(into.len()).ok()?) {
            Some(at) => memory.read(at, into),
            None => self.gather(memory, into),
        }
    }

    #[inline(never)]
    fn gather<M: GuestMemory>(&mut self, memory: &M, mut into: &mut [u8]) -> Option<()> {
        while !into.is_empty() {
            let most = u32::try_from(into.len()).unwrap_or(u32::MAX);
            let piece = self.take(most)?;
            let (now, later) = into.split_at_mut_checked(usize::try_from(piece.len).ok()?)?;
            memory.read(piece.at, now)?;
            into = later;
        }
        Some(())
    }

    /// Copies in all of the bytes; `None`, with some of them written, when there is less room.
    pub fn write<M: GuestMemory>(&mut self, memory: &M, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let most = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let piece = self.take(most)?;
            let (now, later) = bytes.split_at_checked(usize::try_from(piece.len).ok()?)?;
            memory.write(piece.at, now)?;
            bytes = later;
        }
        Some(())
    }
}
