//! Descriptors of a chain, one after another, as the lint reads them.

use stage2_addr::Ipa;

use super::Report;
use super::rules::Broken;
use crate::chain::MAX_CHAIN;
use crate::memory::GuestMemory;

/// Descriptor flags (virtio 1.3, 2.7.5, 2.8.13).
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// Bytes of a chain that are looked at for changes: a header. Data may change under way, and does: a page of a file that
/// is written back may be written to at that moment, and is written back again.
const LOOKED_AT: u64 = 16;

/// A descriptor.
#[derive(Clone, Copy)]
pub(super) struct Descriptor {
    pub at: u64,
    pub len: u32,
    pub flags: u16,
    /// Split: the next one; packed: the buffer's id.
    pub link: u16,
}

impl Descriptor {
    /// The descriptor at an address of a table. In a packed ring the id stands where a split one has its flags.
    pub fn read<M: GuestMemory>(at: u64, packed: bool, memory: &M) -> Option<Self> {
        let address = memory.load_u64(Ipa::new(at))?;
        let rest = memory.load_u64(Ipa::new(at.checked_add(8)?))?;
        let [a, b, c, d, e, f, g, h] = rest.to_le_bytes();
        let (first, second) = (u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
        let (flags, link) = if packed {
            (second, first)
        } else {
            (first, second)
        };
        Some(Self {
            at: address,
            len: u32::from_le_bytes([a, b, c, d]),
            flags,
            link,
        })
    }
}

/// What is known of chains in flight, by head or id.
pub(super) struct Flight {
    bits: [u64; MAX_CHAIN / 64],
    descriptors: [u32; MAX_CHAIN],
    contents: [u32; MAX_CHAIN],
}

impl Flight {
    pub(super) const EMPTY: Self = Self {
        bits: [0; MAX_CHAIN / 64],
        descriptors: [0; MAX_CHAIN],
        contents: [0; MAX_CHAIN],
    };

    pub fn clear(&mut self) {
        self.bits = [0; MAX_CHAIN / 64];
    }

    pub fn has(&self, id: u16) -> bool {
        let word = self.bits.get(usize::from(id / 64));
        word.is_some_and(|word| word >> (id % 64) & 1 != 0)
    }

    pub fn depart(&mut self, id: u16, sums: Sums) {
        let index = usize::from(id);
        if let Some(word) = self.bits.get_mut(usize::from(id / 64)) {
            *word |= 1 << (id % 64);
        }
        if let Some(place) = self.descriptors.get_mut(index) {
            *place = sums.descriptors;
        }
        if let Some(place) = self.contents.get_mut(index) {
            *place = sums.contents;
        }
    }

    pub fn land(&mut self, id: u16) -> Option<Sums> {
        let index = usize::from(id);
        let was = self.has(id);
        if let Some(word) = self.bits.get_mut(usize::from(id / 64)) {
            *word &= !(1 << (id % 64));
        }
        let sums = Sums {
            descriptors: *self.descriptors.get(index)?,
            contents: *self.contents.get(index)?,
        };
        was.then_some(sums)
    }
}

/// Check sums of a chain: two that differ are of different chains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sums {
    pub descriptors: u32,
    pub contents: u32,
}

impl Sums {
    pub const START: Self = Self {
        descriptors: 0x811c_9dc5,
        contents: 0x811c_9dc5,
    };
}

/// Adds to a check sum (FNV-1a by words).
const fn add(sum: u32, word: u32) -> u32 {
    (sum ^ word).wrapping_mul(0x0100_0193).rotate_left(5)
}

/// What has been seen of a chain so far.
pub(super) struct Walk {
    pub sums: Sums,
    pub count: u16,
    total: u64,
    writable: bool,
    /// The first buffers of either kind, for who judges contents.
    pub first_readable: Option<(u64, u32)>,
    pub readable: u64,
    pub written: u64,
    sound: bool,
}

impl Walk {
    pub const fn new() -> Self {
        Self {
            sums: Sums::START,
            count: 0,
            total: 0,
            writable: false,
            first_readable: None,
            readable: 0,
            written: 0,
            sound: true,
        }
    }

    /// Whether nothing was wrong with it.
    pub const fn is_sound(&self) -> bool {
        self.sound
    }

    pub fn wrong(&mut self, rule: Broken, at: u16, report: &mut Report<'_>) {
        self.sound = false;
        report.at(rule, at);
    }

    /// A buffer, or a descriptor of a table, whatever else it says.
    pub fn descriptor(&mut self, one: &Descriptor) {
        self.count = self.count.saturating_add(1);
        let [a, b, c, d, e, f, g, h] = one.at.to_le_bytes();
        let mut sum = self.sums.descriptors;
        for word in [
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
            one.len,
            // The two bits with which a packed descriptor says whose it is are not its content.
            u32::from(one.flags & 0x7f) << 16 | u32::from(one.link),
        ] {
            sum = add(sum, word);
        }
        self.sums.descriptors = sum;
    }

    /// A buffer.
    pub fn buffer<M: GuestMemory>(
        &mut self,
        one: &Descriptor,
        at: u16,
        memory: &M,
        report: &mut Report<'_>,
    ) {
        let is_written = one.flags & WRITE != 0;
        if self.writable && !is_written {
            self.wrong(Broken::ChainOrder, at, report);
        }
        self.writable |= is_written;
        self.total += u64::from(one.len);
        if self.total > 1 << 32 {
            self.wrong(Broken::ChainTotal, at, report);
        }
        if !memory.contains(Ipa::new(one.at), one.len.into()) {
            self.wrong(Broken::BufferOutside, at, report);
            return;
        }
        if is_written {
            self.written += u64::from(one.len);
            return;
        }
        if self.first_readable.is_none() {
            self.first_readable = Some((one.at, one.len));
        }
        let left = LOOKED_AT.saturating_sub(self.readable);
        self.readable += u64::from(one.len);
        for offset in 0..left.min(one.len.into()) {
            // Inside memory, so it does not wrap.
            let Some(place) = Ipa::new(one.at).checked_add(offset) else {
                return;
            };
            let mut byte = [0];
            if memory.read(place, &mut byte).is_some() {
                let [byte] = byte;
                self.sums.contents = add(self.sums.contents, byte.into());
            }
        }
    }

    /// An indirect table. `packed` tables are not linked.
    pub fn table<M: GuestMemory>(
        &mut self,
        one: &Descriptor,
        at: u16,
        size: u16,
        packed: bool,
        memory: &M,
        report: &mut Report<'_>,
    ) {
        let entries = one.len / 16;
        if !one.len.is_multiple_of(16) || entries == 0 {
            return self.wrong(Broken::IndirectLength, at, report);
        }
        if !memory.contains(Ipa::new(one.at), one.len.into()) {
            return self.wrong(Broken::BufferOutside, at, report);
        }
        let mut index = 0;
        for count in 0.. {
            if count >= u32::from(size) {
                return self.wrong(Broken::ChainLong, at, report);
            }
            let Some(inner) = Descriptor::read(one.at + 16 * u64::from(index), packed, memory)
            else {
                return;
            };
            self.descriptor(&inner);
            if inner.flags & INDIRECT != 0 {
                return self.wrong(Broken::IndirectNested, at, report);
            }
            self.buffer(&inner, at, memory, report);
            if packed {
                index += 1;
                if index >= entries {
                    return;
                }
            } else {
                if inner.flags & !(NEXT | WRITE | INDIRECT) != 0 {
                    self.wrong(Broken::DescriptorFlags, at, report);
                }
                if inner.flags & NEXT == 0 {
                    return;
                }
                index = inner.link.into();
                if index >= entries {
                    return self.wrong(Broken::NextRange, at, report);
                }
            }
        }
    }
}
