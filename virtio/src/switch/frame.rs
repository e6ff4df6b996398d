//! A frame on its way: what was judged of it, and where the rest lies.

use stage2_addr::Ipa;

use crate::chain::Cursor;
use crate::memory::GuestMemory;
use crate::net::header::{HEADER, IPV4, IPV6, Offload};

/// The tag of a VLAN: IEEE 802.1Q, 9.4.
const TAG: u16 = 0x8100;
/// Other tags, which nobody here may use: 802.1ad's, and what switches used before it.
const PROVIDER_TAG: u16 = 0x88a8;
const OLD_TAG: u16 = 0x9100;
const OLDER_TAG: u16 = 0x9200;

/// An address, as a number: its first byte is the lowest, and two bytes above it are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mac(pub u64);

impl Mac {
    /// Everybody.
    pub const BROADCAST: Self = Self(0xffff_ffff_ffff);

    /// From its bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = bytes;
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// Whether it names more than one (IEEE 802, 8.2.2: the individual/group bit).
    pub const fn is_group(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether no switch passes it on: 01-80-C2-00-00-00 to -0F (IEEE 802.1Q, table 8-1).
    pub const fn is_link_local(self) -> bool {
        self.0 & 0xf0ff_ffff_ffff == 0x0000_00c2_8001
    }

    /// Whether somebody may be called so.
    pub const fn is_station(self) -> bool {
        self.0 != 0 && !self.is_group()
    }
}

/// The link layer's header, as it was when it was judged.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// Whom it is for.
    pub to: Mac,
    /// Who says so.
    pub from: Mac,
    /// The tag it bears.
    pub tag: Option<u16>,
    /// What follows.
    pub ethertype: u16,
}

/// Bytes of a header without a tag.
pub(crate) const LINK: usize = 14;
/// Bytes of a tag.
pub(crate) const TAG_BYTES: usize = 4;

/// Virtio's header and the link layer's, one behind the other, with a tag or without: how a packet begins. In words of
/// little-endian bytes, because most fields are parts of a word, and a copy of few bytes is a call.
pub(crate) type Start = [[u8; 8]; 4];

/// Bytes of a start without a tag.
pub(crate) const START: usize = HEADER + LINK;

impl Link {
    /// Of no frame yet.
    pub const NONE: Self = Self {
        to: Mac(0),
        from: Mac(0),
        tag: None,
        ethertype: 0,
    };

    /// Becomes that of a packet's start. The four bytes behind it are asked for if there is a tag. `None` if it has a tag
    /// behind its tag, or one that is not for VLANs.
    #[inline(always)]
    pub fn read(&mut self, start: &Start, tag: impl FnOnce() -> Option<[u8; 4]>) -> Option<()> {
        let [_, second, third, fourth] = start.map(u64::from_le_bytes);
        let [high, low, ..] = fourth.to_le_bytes();
        self.to = Mac(second >> 32 | (third & 0xffff) << 32);
        self.from = Mac(third >> 16);
        self.tag = None;
        self.ethertype = u16::from_be_bytes([high, low]);
        if self.ethertype < TAG {
            return Some(());
        }
        self.read_tag(tag)
    }

    fn read_tag(&mut self, tag: impl FnOnce() -> Option<[u8; 4]>) -> Option<()> {
        if self.ethertype == TAG {
            let [a, b, c, d] = tag()?;
            self.tag = Some(u16::from_be_bytes([a, b]));
            self.ethertype = u16::from_be_bytes([c, d]);
        }
        let is_tag = matches!(self.ethertype, TAG | PROVIDER_TAG | OLD_TAG | OLDER_TAG);
        (!is_tag).then_some(())
    }

    /// Its bytes.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        if self.tag.is_some() {
            LINK + TAG_BYTES
        } else {
            LINK
        }
    }

    /// The start for a receiver, and its bytes. `header` are the first and the second half of virtio's.
    #[inline(always)]
    fn write(&self, tag: Option<u16>, header: (u64, u32)) -> (Start, usize) {
        // Numbers of the link layer have their high byte first.
        let ethertype = u64::from(self.ethertype.swap_bytes());
        let (fourth, end) = match tag {
            None => (ethertype, START),
            Some(tag) => {
                let (kind, tag) = (u64::from(TAG.swap_bytes()), u64::from(tag.swap_bytes()));
                (kind | tag << 16 | ethertype << 32, START + TAG_BYTES)
            }
        };
        let second = u64::from(header.1) | self.to.0 << 32;
        let third = self.to.0 >> 32 | self.from.0 << 16;
        let start = [
            header.0.to_le_bytes(),
            second.to_le_bytes(),
            third.to_le_bytes(),
            fourth.to_le_bytes(),
        ];
        (start, end)
    }
}

/// Bytes in a guest's memory.
pub(crate) struct Body<'a, M> {
    /// Whose.
    pub memory: &'a M,
    /// Where they begin.
    pub at: Cursor<'a>,
    /// How many.
    pub len: u32,
}

/// A frame. Behind the header come first the bytes that are here, then those in a guest's memory.
pub(crate) struct Frame<'a, M> {
    /// The header.
    pub link: Link,
    /// The VLAN it is in; 0 if in none.
    pub vlan: u16,
    /// What its sender has left to do.
    pub offload: Offload,
    /// Bytes behind the header: those that are here and those in a guest's memory.
    pub payload: u32,
    /// The bytes that are here.
    pub text: &'a [u8],
    /// Those in a guest's memory.
    pub body: Option<Body<'a, M>>,
}

impl<M> Clone for Body<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Body<'_, M> {}

impl<M> Clone for Frame<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Frame<'_, M> {}

impl<'a, M: GuestMemory> Frame<'a, M> {
    /// Bytes in all.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        let link = u32::try_from(self.link.len()).unwrap_or(0);
        self.payload.saturating_add(link)
    }

    /// A number that is the same for both directions of a conversation, and seldom for two of them: of the addresses and
    /// ports that IP has.
    pub fn flow(&self) -> u32 {
        let mut bytes = [0; 44];
        self.peek(&mut bytes);
        let range = match (self.link.ethertype, bytes.first().map(|first| first & 15)) {
            // Without options, the ports follow the addresses.
            (IPV4, Some(5)) => 12..24,
            (IPV4, _) => 12..20,
            (IPV6, _) => 8..44,
            _ => return 0,
        };
        let words = bytes.get(range).unwrap_or_default().as_chunks::<2>().0;
        let sum = words.iter().fold(0_u32, |sum, word| {
            sum.wrapping_add(u32::from(u16::from_le_bytes(*word)))
        });
        sum.wrapping_mul(0x9e37_79b9) >> 16
    }

    /// Reads bytes of the payload, from its beginning; those that there are.
    pub fn peek(&self, into: &mut [u8]) -> usize {
        let here = into.len().min(self.text.len());
        for (to, from) in into.iter_mut().zip(self.text) {
            *to = *from;
        }
        let Some((rest, body)) = into.get_mut(here..).zip(self.body) else {
            return here;
        };
        let there = rest.len().min(usize::try_from(body.len).unwrap_or(0));
        let read = rest
            .get_mut(..there)
            .and_then(|rest| body.at.clone().read(body.memory, rest));
        here + read.map_or(0, |()| there)
    }

    /// The frame without the first bytes of its payload.
    pub fn behind(&self, bytes: u32) -> Option<Self> {
        let mut rest = *self;
        rest.payload = self.payload.checked_sub(bytes)?;
        let here = self.text.len().min(usize::try_from(bytes).ok()?);
        rest.text = self.text.get(here..)?;
        let there = bytes - u32::try_from(here).ok()?;
        if there != 0 {
            let body = rest.body.as_mut()?;
            body.len = body.len.checked_sub(there)?;
            body.at.skip(u64::from(there))?;
        }
        Some(rest)
    }

    /// The frame with no more than the first bytes of its payload.
    pub fn first(&self, bytes: u32) -> Self {
        let mut first = *self;
        first.payload = self.payload.min(bytes);
        let here = usize::try_from(bytes).map_or(self.text.len(), |n| n.min(self.text.len()));
        first.text = self.text.get(..here).unwrap_or_default();
        if let Some(body) = &mut first.body {
            let here = u32::try_from(here).unwrap_or(u32::MAX);
            body.len = body.len.min(bytes.saturating_sub(here));
        }
        first
    }

    /// How it begins for a receiver where it bears this tag, and the bytes of that.
    #[inline(always)]
    pub fn begin(&self, tag: Option<u16>) -> (Start, usize) {
        let link = if tag.is_some() {
            LINK + TAG_BYTES
        } else {
            LINK
        };
        self.link.write(tag, self.offload.write(link))
    }

    /// All of it behind headers that were [begun](Self::begin), to be poured out.
    pub fn pour<'b>(&self, start: &'b [u8]) -> Pour<'b, M>
    where
        'a: 'b,
    {
        Pour {
            start,
            text: self.text,
            body: self.body,
        }
    }

    /// Copies it into one buffer behind a start of so many bytes, if what is not here lies in one itself. `None` if it does
    /// not, or its memory is gone.
    #[inline(always)]
    pub fn copy(&self, start: &Start, end: usize, memory: &M, to: Ipa) -> Option<()> {
        let body = self.body.as_ref()?;
        let from = body.at.at_once(body.len)?;
        let behind = Ipa::new(to.raw() + end as u64);
        if self.text.is_empty() && end + usize::try_from(body.len).ok()? >= size_of::<Start>() {
            // All of the words: what of them is behind the start is written over.
            memory.store_quad(to, start.map(u64::from_le_bytes))?;
            return body.memory.copy(from, memory, behind, body.len);
        }
        memory.write(to, start.as_flattened().get(..end)?)?;
        memory.write(behind, self.text)?;
        let behind = Ipa::new(behind.raw() + self.text.len() as u64);
        body.memory.copy(from, memory, behind, body.len)
    }
}

/// What is left of a frame that is being copied: a virtio header, the link layer's, and the rest.
pub(crate) struct Pour<'a, M> {
    start: &'a [u8],
    text: &'a [u8],
    body: Option<Body<'a, M>>,
}

impl<M: GuestMemory> Pour<'_, M> {
    /// Bytes that are left.
    pub fn remaining(&self) -> u64 {
        let here = self.start.len() + self.text.len();
        let there = self.body.as_ref().map_or(0, |body| u64::from(body.len));
        u64::try_from(here).map_or(u64::MAX, |here| here + there)
    }

    /// Copies as much as there is room for; how much that was. `None` if the memory is not there.
    pub fn fill(&mut self, memory: &M, room: &mut Cursor<'_>) -> Option<u32> {
        let mut all = 0;
        for bytes in [&mut self.start, &mut self.text] {
            while !bytes.is_empty() {
                let most = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let Some(piece) = room.take(most) else {
                    return Some(all);
                };
                let (now, later) = bytes.split_at_checked(usize::try_from(piece.len).ok()?)?;
                memory.write(piece.at, now)?;
                *bytes = later;
                all += piece.len;
            }
        }
        let Some(body) = &mut self.body else {
            return Some(all);
        };
        while body.len != 0 {
            let Some(to) = room.clone().take(body.len) else {
                return Some(all);
            };
            let from = body.at.take(to.len)?;
            room.take(from.len)?;
            body.memory.copy(from.at, memory, to.at, from.len)?;
            body.len -= from.len;
            all += from.len;
        }
        Some(all)
    }

    /// Copies everything out to bytes of ours, without virtio's header; how much that was, if it fits.
    pub fn read(mut self, into: &mut [u8]) -> Option<usize> {
        let link = self.start.get(HEADER..)?;
        let (first, rest) = into.split_at_mut_checked(link.len())?;
        first.copy_from_slice(link);
        let (second, rest) = rest.split_at_mut_checked(self.text.len())?;
        second.copy_from_slice(self.text);
        let mut all = first.len() + second.len();
        if let Some(body) = &mut self.body {
            let third = rest.get_mut(..usize::try_from(body.len).ok()?)?;
            body.at.read(body.memory, third)?;
            all += third.len();
        }
        Some(all)
    }
}
