//! Changing live entries: unmap, protect, and the splits they need.
//!
//! A leaf that lies wholly in the region is cleared, or has its permissions rewritten in place, which the architecture
//! allows without a break: the changes for which it wants break-before-make (Arm DDI 0487, "Using break-before-make when
//! updating translation table entries") are of memory type, cacheability, output address, block size and globalness. A
//! block that lies in the region partly is *split*: the table that replaces it is built aside, complete; the block is
//! broken; and only [`Tables::settle`] links the table, against a receipt.

use core::fmt;

use stage2_addr::{Address, HostPhys, PageCount, Region};

use crate::descriptor::{self, Entry, INVALID, Level};
use crate::flush::Ticket;
use crate::tables::End;
use crate::{Access, Attrs, FlushDebt, Format, Receipt, TableIndex, TableMemory, Tables};

/// Why a change was refused. Nothing has been written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// The inputs reach past the walk's size.
    InputBeyondRange {
        /// The last input address.
        last: u64,
    },
    /// There is nothing to protect.
    NotMapped {
        /// The first input address that is not mapped.
        ipa: u64,
    },
    /// The regime does not map this.
    Inadmissible {
        /// What a page would have become.
        attrs: Attrs,
    },
    /// The quota has too few frames for the tables that splitting takes.
    QuotaExhausted {
        /// How many the change takes.
        needed: PageCount,
        /// How many there are.
        available: PageCount,
    },
    /// An earlier change waits for its receipt.
    Unsettled,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputBeyondRange { last } => {
                write!(f, "{last:#x} is beyond the translated range")
            }
            Self::NotMapped { ipa } => write!(f, "{ipa:#x} is not mapped"),
            Self::Inadmissible { attrs } => write!(f, "{attrs} is not mapped here"),
            Self::QuotaExhausted { needed, available } => {
                write!(
                    f,
                    "splitting takes {needed} table frames, {available} are left"
                )
            }
            Self::Unsettled => f.write_str("an earlier change is not settled"),
        }
    }
}

impl core::error::Error for ChangeError {}

/// Why a receipt settles nothing here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettleError {
    /// It is the receipt for something else: other tables, or a change settled before.
    WrongReceipt,
}

impl fmt::Display for SettleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongReceipt => {
                f.write_str("the receipt is not for the open change of these tables")
            }
        }
    }
}

impl core::error::Error for SettleError {}

/// A replacement that waits for the flush.
#[derive(Clone, Copy, Debug)]
struct Link {
    table: HostPhys,
    index: TableIndex,
    descriptor: u64,
}

/// A change that has been written as far as it may be before the flush.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenChange {
    sequence: u64,
    /// A contiguous region cuts at most two blocks.
    links: [Option<Link>; 2],
}

/// What happens to a leaf in the region.
#[derive(Clone, Copy)]
enum Edit {
    Remove,
    Protect(Access),
}

/// How an entry's range lies to the region.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cover {
    None,
    Part,
    Whole,
}

/// A change under way.
struct Work {
    start: u64,
    end: u64,
    edit: Edit,
    links: [Option<Link>; 2],
    /// What the TLBs may hold of it: the region, and the whole of every block that it cuts.
    stale_start: u64,
    stale_end: u64,
    leaf_only: bool,
}

impl Work {
    fn of<A: Address>(region: &Region<A>, edit: Edit) -> Self {
        let (start, end) = (region.base().to_raw(), region.end().to_raw());
        Self {
            start,
            end,
            edit,
            links: [None; 2],
            stale_start: start,
            stale_end: end,
            leaf_only: true,
        }
    }

    fn cover(&self, base: u64, bytes: u64) -> Cover {
        let end = base.saturating_add(bytes);
        if end <= self.start || self.end <= base {
            Cover::None
        } else if self.start <= base && end <= self.end {
            Cover::Whole
        } else {
            Cover::Part
        }
    }

    /// Remembers to link `descriptor` where a block has been broken.
    fn replace_later(&mut self, link: Link, base: u64, bytes: u64) {
        if let Some(free) = self.links.iter_mut().find(|link| link.is_none()) {
            *free = Some(link);
        }
        self.stale_start = self.stale_start.min(base);
        self.stale_end = self.stale_end.max(base.saturating_add(bytes));
        self.leaf_only = false;
    }

    fn links_into(&self, table: HostPhys) -> bool {
        self.links.iter().flatten().any(|link| link.table == table)
    }
}

impl<F: Format> Tables<F> {
    /// Removes every translation of `region`; pages that have none are no error. Blocks at its ends are split. Tables
    /// that become empty go back to the quota when the receipt is settled.
    ///
    /// # Errors
    /// See [`ChangeError`]; the tables are then as they were.
    pub fn unmap<M: TableMemory>(
        &mut self,
        memory: &mut M,
        region: Region<F::Input>,
    ) -> Result<FlushDebt, ChangeError> {
        self.change(memory, region, Edit::Remove)
    }

    /// Gives every page of `region`, all of which are mapped, this access. Memory type and frames stay: to change
    /// those, unmap, settle, and map.
    ///
    /// # Errors
    /// See [`ChangeError`]; the tables are then as they were.
    pub fn protect<M: TableMemory>(
        &mut self,
        memory: &mut M,
        region: Region<F::Input>,
        access: Access,
    ) -> Result<FlushDebt, ChangeError> {
        self.check_bounds(&region)?;
        let mut at = region.base().to_raw();
        while at < region.end().to_raw() {
            let slot = self.find(memory, at);
            let End::Leaf { bits, .. } = slot.end else {
                return Err(ChangeError::NotMapped { ipa: at });
            };
            let attrs = Attrs {
                access,
                ..self.format.decode(bits)
            };
            self.format
                .encode(attrs)
                .ok_or(ChangeError::Inadmissible { attrs })?;
            at = (at & !(slot.level.entry_bytes() - 1)).saturating_add(slot.level.entry_bytes());
        }
        self.change(memory, region, Edit::Protect(access))
    }

    /// Completes the change that the receipt's debt came from: links what replaces broken blocks, and frees the tables
    /// that it emptied. This is the *make* of break-before-make.
    ///
    /// # Errors
    /// When the receipt is for something else; nothing is changed then.
    pub fn settle<M: TableMemory>(
        &mut self,
        memory: &mut M,
        receipt: Receipt,
    ) -> Result<(), SettleError> {
        let open = self.open.ok_or(SettleError::WrongReceipt)?;
        if receipt.ticket()
            != (Ticket::Tables {
                root: self.root,
                sequence: open.sequence,
            })
        {
            return Err(SettleError::WrongReceipt);
        }
        // Whatever is linked now was written before the flush, whose barrier has published it.
        for link in open.links.iter().flatten() {
            memory.write(link.table, link.index, link.descriptor);
        }
        self.quota.reclaim(memory);
        self.open = None;
        memory.publish();
        Ok(())
    }

    fn check_bounds(&self, region: &Region<F::Input>) -> Result<(), ChangeError> {
        if !self.is_settled() {
            return Err(ChangeError::Unsettled);
        }
        if self.has_inputs(region) {
            Ok(())
        } else {
            Err(ChangeError::InputBeyondRange {
                last: region.last().to_raw(),
            })
        }
    }

    fn change<M: TableMemory>(
        &mut self,
        memory: &mut M,
        region: Region<F::Input>,
        edit: Edit,
    ) -> Result<FlushDebt, ChangeError> {
        self.check_bounds(&region)?;
        let mut work = Work::of(&region, edit);
        let needed = PageCount::new(self.splits(memory, &work));
        let available = self.quota.available();
        let exhausted = ChangeError::QuotaExhausted { needed, available };
        if needed > available {
            return Err(exhausted);
        }
        let level = self.shape.start_level();
        for nth in 0..self.shape.root_pages().raw() {
            let base = nth.saturating_mul(level.table_bytes());
            let root = self.shape.root_table(self.root, base);
            self.edit_table(memory, root, level, base, &mut work)
                .ok_or(exhausted)?;
        }
        memory.publish();
        self.sequence += 1;
        self.open = Some(OpenChange {
            sequence: self.sequence,
            links: work.links,
        });
        let from = F::Input::from_raw(work.stale_start);
        let stale = Region::between(from, F::Input::from_raw(work.stale_end)).unwrap_or(region);
        let ticket = Ticket::Tables {
            root: self.root,
            sequence: self.sequence,
        };
        Ok(FlushDebt::new(
            self.format.stale(stale, work.leaf_only),
            ticket,
        ))
    }

    /// How many tables the blocks that the region cuts will take. They are where it begins and where it ends.
    fn splits<M: TableMemory>(&self, memory: &M, work: &Work) -> u64 {
        let block_at = |input: u64| {
            let slot = self.find(memory, input);
            let base = input & !(slot.level.entry_bytes() - 1);
            let cut = work.cover(base, slot.level.entry_bytes()) == Cover::Part;
            (cut && matches!(slot.end, End::Leaf { .. })).then_some((slot.level, base))
        };
        let (first, last) = (block_at(work.start), block_at(work.end - 1));
        let cost = |block: Option<(Level, u64)>| {
            block.map_or(0, |(level, base)| split_cost(level, base, work))
        };
        if first == last {
            cost(first)
        } else {
            cost(first) + cost(last)
        }
    }

    /// Edits the part of the region that a table covers. The table is at `frame`, of `level`, for inputs from `base`.
    /// Tells whether the table is empty afterwards. `None` when the quota is exhausted, which `splits` has excluded.
    fn edit_table<M: TableMemory>(
        &mut self,
        memory: &mut M,
        frame: HostPhys,
        level: Level,
        base: u64,
        work: &mut Work,
    ) -> Option<bool> {
        if work.cover(base, level.table_bytes()) == Cover::None {
            return Some(false);
        }
        let bytes = level.entry_bytes();
        let from = work.start.max(base) & !(bytes - 1);
        let to = work.end.min(base.saturating_add(level.table_bytes()));
        let mut touched = false;
        let mut at = from;
        while at < to {
            let index = level.index(at);
            match Entry::decode(memory.read(frame, index), level) {
                Entry::Invalid => {}
                Entry::Table {
                    frame: child,
                    level: below,
                } => {
                    if self.edit_table(memory, child, below, at, work)? {
                        memory.write(frame, index, INVALID);
                        self.quota.release(memory, child);
                        work.leaf_only = false;
                        touched = true;
                    }
                }
                Entry::Leaf { output, bits } if work.cover(at, bytes) == Cover::Whole => {
                    memory.write(frame, index, self.edited(level, output, bits, work.edit));
                    touched = true;
                }
                Entry::Leaf { output, bits } => {
                    let table = self.build_split(memory, level, at, (output, bits), work)?;
                    memory.write(frame, index, INVALID);
                    work.replace_later(
                        Link {
                            table: frame,
                            index,
                            descriptor: descriptor::table(table),
                        },
                        at,
                        bytes,
                    );
                }
            }
            at = at.saturating_add(bytes);
        }
        Some(touched && !work.links_into(frame) && is_empty(memory, frame, level))
    }

    /// A complete table for what a block at `level` becomes, not yet linked.
    fn build_split<M: TableMemory>(
        &mut self,
        memory: &mut M,
        level: Level,
        base: u64,
        (output, bits): (HostPhys, u64),
        work: &Work,
    ) -> Option<HostPhys> {
        let below = level.down()?;
        let bytes = below.entry_bytes();
        let table = self.quota.take(memory)?;
        for index in TableIndex::all() {
            let offset = bytes.saturating_mul(u64::try_from(index.get()).ok()?);
            let (at, output) = (base.saturating_add(offset), output.checked_add(offset)?);
            let descriptor = match work.cover(at, bytes) {
                Cover::None => descriptor::leaf(below, output, bits),
                Cover::Whole => self.edited(below, output, bits, work.edit),
                Cover::Part => {
                    descriptor::table(self.build_split(memory, below, at, (output, bits), work)?)
                }
            };
            memory.write(table, index, descriptor);
        }
        Some(table)
    }

    /// What a leaf wholly in the region becomes.
    fn edited(&self, level: Level, output: HostPhys, bits: u64, edit: Edit) -> u64 {
        let kept = match edit {
            Edit::Remove => None,
            Edit::Protect(access) => self.format.encode(Attrs {
                access,
                ..self.format.decode(bits)
            }),
        };
        kept.map_or(INVALID, |bits| descriptor::leaf(level, output, bits))
    }
}

/// Tables that replace one block which the region cuts: one, and one for each of its parts that is cut in turn. Only
/// the parts in which the region begins and ends can be.
fn split_cost(level: Level, base: u64, work: &Work) -> u64 {
    let Some(below) = level.down() else { return 0 };
    let bytes = below.entry_bytes();
    let block = base..base.saturating_add(level.entry_bytes());
    let cost = |part: u64| match work.cover(part, bytes) {
        Cover::Part if block.contains(&part) => split_cost(below, part, work),
        Cover::Part | Cover::Whole | Cover::None => 0,
    };
    let (first, last) = (work.start & !(bytes - 1), (work.end - 1) & !(bytes - 1));
    1 + cost(first) + if first == last { 0 } else { cost(last) }
}

fn is_empty<M: TableMemory>(memory: &M, table: HostPhys, level: Level) -> bool {
    TableIndex::all().all(|index| !Entry::decode(memory.read(table, index), level).is_valid())
}
