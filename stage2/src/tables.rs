//! One set of translation tables, and reading it.

use core::fmt;

use stage2_addr::{Address, HostPhys, PageCount, Region};

use crate::change::OpenChange;
use crate::descriptor::{Entry, INVALID};
use crate::{
    Attrs, Format, Geometry, Level, Shape, Stage2, TableIndex, TableMemory, TableQuota, Vmid,
};

/// The translation tables of one regime of one owner: a guest's stage 2, or EL2's own stage 1.
#[derive(Debug)]
pub struct Tables<F> {
    pub(crate) format: F,
    pub(crate) shape: Shape,
    pub(crate) root: HostPhys,
    pub(crate) quota: TableQuota,
    /// The change whose debt is unpaid. While there is one, no other is begun.
    pub(crate) open: Option<OpenChange>,
    pub(crate) sequence: u64,
}

/// A guest's stage 2.
pub type GuestTables = Tables<Stage2>;

/// Why tables could not be created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TablesError {
    /// The quota has no aligned place for the root.
    NoRoomForRoot {
        /// How many contiguous frames the root takes, aligned to their size.
        needed: PageCount,
        /// How many frames the quota has.
        available: PageCount,
    },
    /// The quota reaches past the addresses that a descriptor can hold.
    QuotaBeyondMachine {
        /// The last byte of the quota.
        last: HostPhys,
    },
}

impl fmt::Display for TablesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoomForRoot { needed, available } => {
                write!(
                    f,
                    "a root of {needed} aligned frames does not fit into a quota of {available}"
                )
            }
            Self::QuotaBeyondMachine { last } => {
                write!(f, "table frames up to {last} are beyond the machine")
            }
        }
    }
}

impl core::error::Error for TablesError {}

/// What an input address translates to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The machine's address of the byte.
    pub host: HostPhys,
    /// What may be done there.
    pub attrs: Attrs,
    /// The level of the leaf, hence the size of the mapping.
    pub level: Level,
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub table: HostPhys,
    pub level: Level,
    pub end: End,
}

/// How a walk ended: not at a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Invalid,
    Leaf { output: HostPhys, bits: u64 },
}

impl<F: Format> Tables<F> {
    /// Empty tables, whose frames all come from `quota`.
    ///
    /// # Errors
    /// When the root does not fit into the quota, or the quota is not addressable.
    pub fn with_format<M: TableMemory>(
        format: F,
        geometry: F::Geometry,
        mut quota: TableQuota,
        memory: &mut M,
    ) -> Result<Self, TablesError> {
        let shape: Shape = geometry.into();
        if quota.region().end().raw() > shape.output_end() {
            return Err(TablesError::QuotaBeyondMachine {
                last: quota.region().last(),
            });
        }
        let refused = TablesError::NoRoomForRoot {
            needed: shape.root_pages(),
            available: quota.available(),
        };
        let root = quota.take_root(memory, shape.root_bytes()).ok_or(refused)?;
        memory.publish();
        Ok(Self {
            format,
            shape,
            root,
            quota,
            open: None,
            sequence: 0,
        })
    }

    /// The root table, or the first of the concatenated ones: what the base register points to.
    #[must_use]
    pub fn root(&self) -> HostPhys {
        self.root
    }

    /// The size of the walk.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The frames of these tables.
    #[must_use]
    pub fn quota(&self) -> &TableQuota {
        &self.quota
    }

    /// Whether no change waits for its receipt.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.open.is_none()
    }

    /// What `input` translates to by the tables as they are now, or `None` where the walker would fault.
    pub fn translate<M: TableMemory>(&self, memory: &M, input: F::Input) -> Option<Translation> {
        let raw = input.to_raw();
        if raw >= self.shape.input_end() {
            return None;
        }
        let slot = self.find(memory, raw);
        match slot.end {
            End::Invalid => None,
            End::Leaf { output, bits } => Some(Translation {
                host: output.checked_add(raw & (slot.level.entry_bytes() - 1))?,
                attrs: self.format.decode(bits),
                level: slot.level,
            }),
        }
    }

    /// Walks to the entry that decides about `input`, which is within the range.
    pub(crate) fn find<M: TableMemory>(&self, memory: &M, input: u64) -> Slot {
        let root = self.shape.root_table(self.root, input);
        find_below(memory, root, self.shape.start_level(), input)
    }

    /// Whether every byte of `region` is within the inputs of the walk.
    pub(crate) fn has_inputs(&self, region: &Region<F::Input>) -> bool {
        region.end().to_raw() <= self.shape.input_end()
    }
}

/// Walks on from the table of `level` that `input` leads through.
pub(crate) fn find_below<M: TableMemory>(
    memory: &M,
    mut table: HostPhys,
    mut level: Level,
    input: u64,
) -> Slot {
    loop {
        let index = level.index(input);
        let end = match Entry::decode(memory.read(table, index), level) {
            Entry::Table { frame, level: next } => {
                (table, level) = (frame, next);
                continue;
            }
            Entry::Invalid => End::Invalid,
            Entry::Leaf { output, bits } => End::Leaf { output, bits },
        };
        return Slot { table, level, end };
    }
}

/// How many entries side by side from `index` on are invalid, of at most `most`, which the table has.
pub(crate) fn count_invalid<M: TableMemory>(
    memory: &M,
    table: HostPhys,
    mut index: TableIndex,
    level: Level,
    most: u64,
) -> u64 {
    let mut count = 0;
    while count < most {
        let entry = memory.read(table, index);
        if entry != INVALID && Entry::decode(entry, level).is_valid() {
            break;
        }
        index = index.next();
        count += 1;
    }
    count
}

impl Tables<Stage2> {
    /// A guest's empty stage 2. It has no VMID yet: [`set_vmid`](Self::set_vmid) before a CPU runs on it.
    ///
    /// # Errors
    /// When the root does not fit into the quota, or the quota is not addressable.
    pub fn new<M: TableMemory>(
        geometry: Geometry,
        quota: TableQuota,
        memory: &mut M,
    ) -> Result<Self, TablesError> {
        Self::with_format(Stage2 { vmid: Vmid::NONE }, geometry, quota, memory)
    }

    /// The tag under which these translations are cached.
    #[must_use]
    pub fn vmid(&self) -> Vmid {
        self.format.vmid
    }

    /// Takes the tag that a [`VmidAllocator`](crate::VmidAllocator) has given the guest.
    ///
    /// An open change keeps the old tag in its debt, and rightly so: the tag was exchanged because every TLB was
    /// flushed, and what is cached under the new one was read after the change.
    pub fn set_vmid(&mut self, vmid: Vmid) {
        self.format.vmid = vmid;
    }

    /// The value of VTTBR_EL2. CnP stays 0: CPUs hold different guests.
    #[must_use]
    pub fn vttbr(&self) -> u64 {
        u64::from(self.format.vmid.raw()) << 48 | self.root.raw()
    }
}

impl Tables<crate::el2::El2> {
    /// EL2's own tables, empty. [`root`](Self::root) is the value of TTBR0_EL2.
    ///
    /// # Errors
    /// When the root does not fit into the quota, or the quota is not addressable.
    pub fn for_el2<M: TableMemory>(
        geometry: crate::el2::El2Geometry,
        quota: TableQuota,
        memory: &mut M,
    ) -> Result<Self, TablesError> {
        Self::with_format(crate::el2::El2, geometry, quota, memory)
    }
}
