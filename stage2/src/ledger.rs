//! Who owns which frame of the machine.
//!
//! Before a frame is mapped anywhere it is claimed here, and a claim on what somebody has is refused. What nobody has
//! claimed is free, and what is free may be handed out. EL2 has no heap, so the list lives in a slice that the caller
//! gives; neighbours of one owner are kept as one extent, so the slice is as long as the machine is fragmented.

use core::fmt;

use stage2_addr::{HostPhys, HostRegion, PAGE_SIZE, PageCount};

/// Frames that one owner has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent<O> {
    /// The frames.
    pub region: HostRegion,
    /// Whose they are.
    pub owner: O,
}

/// Why the ledger was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LedgerError<O> {
    /// Somebody has a frame of it.
    Owned {
        /// The first frames in question.
        region: HostRegion,
        /// Who has them.
        by: O,
    },
    /// Not all of it is the owner's.
    NotOwned {
        /// What was to be released.
        region: HostRegion,
        /// By whom.
        by: O,
    },
    /// The slice has no room for another extent.
    Full {
        /// How many it holds.
        capacity: usize,
    },
    /// No free frames of this length.
    NoFit {
        /// How many frames were asked for.
        pages: PageCount,
    },
}

impl<O: fmt::Display> fmt::Display for LedgerError<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned { region, by } => write!(f, "{region} belongs to {by}"),
            Self::NotOwned { region, by } => write!(f, "{region} does not belong to {by}"),
            Self::Full { capacity } => {
                write!(f, "the ledger holds no more than {capacity} extents")
            }
            Self::NoFit { pages } => write!(f, "no {pages} free pages side by side"),
        }
    }
}

impl<O: fmt::Debug + fmt::Display> core::error::Error for LedgerError<O> {}

/// The list of owned frames.
#[derive(Debug)]
pub struct Ledger<'a, O> {
    /// The first `len` are `Some`, ascending, apart from each other, and no two neighbours could be one.
    slots: &'a mut [Option<Extent<O>>],
    len: usize,
}

impl<'a, O: Copy + Eq> Ledger<'a, O> {
    /// An empty ledger in `slots`, whose content does not matter.
    #[must_use]
    pub fn new(slots: &'a mut [Option<Extent<O>>]) -> Self {
        slots.fill(None);
        Self { slots, len: 0 }
    }

    /// Every extent in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = &Extent<O>> + Clone {
        self.slots.iter().take(self.len).flatten()
    }

    /// Whose the frame at `address` is; `None` when it is free.
    #[must_use]
    pub fn owner_of(&self, address: HostPhys) -> Option<O> {
        let extent = self.get(self.after(address).checked_sub(1)?)?;
        extent.region.contains(address).then_some(extent.owner)
    }

    /// Whether every frame of `region` is `owner`'s.
    #[must_use]
    pub fn owns(&self, owner: O, region: &HostRegion) -> bool {
        self.extent_holding(owner, region).is_some()
    }

    /// The first extent that has a frame of `region`.
    #[must_use]
    #[inline(never)]
    pub fn first_overlap(&self, region: &HostRegion) -> Option<Extent<O>> {
        // Of those that begin below the region only the last can reach into it.
        let mut index = self.after(region.base()).saturating_sub(1);
        loop {
            let extent = self.get(index)?;
            if extent.region.overlaps(region) {
                return Some(*extent);
            }
            if extent.region.base() >= region.end() {
                return None;
            }
            index += 1;
        }
    }

    /// Enters `region` as `owner`'s.
    ///
    /// # Errors
    /// [`LedgerError::Owned`] when any frame of it is taken, even by the same owner; [`LedgerError::Full`].
    pub fn claim(&mut self, region: HostRegion, owner: O) -> Result<(), LedgerError<O>> {
        if let Some(taken) = self.first_overlap(&region) {
            let region = taken.region.intersection(&region).unwrap_or(region);
            return Err(LedgerError::Owned {
                region,
                by: taken.owner,
            });
        }
        // The neighbours of the same owner that it touches become one with it.
        let at = self.after(region.base());
        let (mut base, mut end) = (region.base(), region.end());
        let mut below = None;
        if let Some(low) = at.checked_sub(1)
            && let Some(extent) = self.get(low)
            && extent.owner == owner
            && extent.region.end() == base
        {
            below = Some(low);
            base = extent.region.base();
        }
        let mut above = false;
        if let Some(extent) = self.get(at)
            && extent.owner == owner
            && extent.region.base() == end
        {
            above = true;
            end = extent.region.end();
        }
        let region = HostRegion::between(base, end).unwrap_or(region);
        let extent = Extent { region, owner };
        if below.is_some() && above {
            self.remove(at);
        }
        match below.or(above.then_some(at)) {
            Some(grown) => self.set(grown, extent),
            None => self.insert(at, extent)?,
        }
        Ok(())
    }

    /// Makes `region` free, all of which is `owner`'s.
    ///
    /// # Errors
    /// [`LedgerError::NotOwned`]; [`LedgerError::Full`] when it is cut from the middle of an extent and the slice has
    /// no room for the other half.
    pub fn release(&mut self, region: HostRegion, owner: O) -> Result<(), LedgerError<O>> {
        let refused = LedgerError::NotOwned { region, by: owner };
        let (at, whole) = self.extent_holding(owner, &region).ok_or(refused)?;
        let low = HostRegion::between(whole.base(), region.base()).ok();
        let high = HostRegion::between(region.end(), whole.end()).ok();
        let extent = |region| Extent { region, owner };
        match (low, high) {
            (None, None) => self.remove(at),
            (Some(rest), None) | (None, Some(rest)) => self.set(at, extent(rest)),
            (Some(low), Some(high)) => {
                self.insert(at + 1, extent(high))?;
                self.set(at, extent(low));
            }
        }
        Ok(())
    }

    /// The lowest free run of `pages` in `within` whose base is a multiple of `align`.
    #[must_use]
    pub fn first_fit(
        &self,
        within: &[HostRegion],
        pages: PageCount,
        align: u64,
    ) -> Option<HostRegion> {
        let mut lowest: Option<HostRegion> = None;
        for ram in within {
            if let Some(fit) = self.fit_in(ram, pages, align)
                && lowest.is_none_or(|other| fit < other)
            {
                lowest = Some(fit);
            }
        }
        lowest
    }

    /// Claims free frames of `within` for `owner`, aligned to the largest block that the length can fill (1 GiB from
    /// there up, else 2 MiB), or to less if they do not fit so.
    ///
    /// # Errors
    /// [`LedgerError::NoFit`]; [`LedgerError::Full`].
    pub fn allocate(
        &mut self,
        within: &[HostRegion],
        pages: PageCount,
        owner: O,
    ) -> Result<HostRegion, LedgerError<O>> {
        let refused = LedgerError::NoFit { pages };
        let bytes = pages.bytes().ok_or(refused)?;
        for align in [1 << 30, 2 << 20, PAGE_SIZE] {
            if align <= bytes
                && let Some(fit) = self.first_fit(within, pages, align)
            {
                self.claim(fit, owner)?;
                return Ok(fit);
            }
        }
        Err(refused)
    }

    /// How many frames of `within` are free.
    #[must_use]
    pub fn free_in(&self, within: &HostRegion) -> PageCount {
        let owned = self
            .iter()
            .filter_map(|extent| extent.region.intersection(within));
        let owned = owned
            .map(|region| region.pages().raw())
            .fold(0, u64::saturating_add);
        PageCount::new(within.pages().raw().saturating_sub(owned))
    }

    fn fit_in(&self, ram: &HostRegion, pages: PageCount, align: u64) -> Option<HostRegion> {
        let mut base = ram.base();
        loop {
            let aligned = base.raw().checked_next_multiple_of(align)?;
            let candidate = HostRegion::new(HostPhys::new(aligned), pages).ok()?;
            if candidate.end() > ram.end() {
                return None;
            }
            match self.first_overlap(&candidate) {
                None => return Some(candidate),
                Some(taken) => base = taken.region.end(),
            }
        }
    }

    /// The extent at `index`; those behind the last are `None`.
    fn get(&self, index: usize) -> Option<&Extent<O>> {
        self.slots.get(index)?.as_ref()
    }

    /// How many extents begin at or below `address`.
    #[inline(never)]
    fn after(&self, address: HostPhys) -> usize {
        let used = self.slots.get(..self.len).unwrap_or(&[]);
        used.partition_point(|slot| {
            slot.as_ref()
                .is_some_and(|extent| extent.region.base() <= address)
        })
    }

    fn extent_holding(&self, owner: O, region: &HostRegion) -> Option<(usize, HostRegion)> {
        let index = self.after(region.base()).checked_sub(1)?;
        let extent = self.get(index)?;
        (extent.owner == owner && extent.region.contains_region(region))
            .then_some((index, extent.region))
    }

    fn set(&mut self, index: usize, extent: Extent<O>) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(extent);
        }
    }

    fn insert(&mut self, index: usize, extent: Extent<O>) -> Result<(), LedgerError<O>> {
        let full = LedgerError::Full {
            capacity: self.slots.len(),
        };
        let mut moving = Some(extent);
        for slot in self.slots.get_mut(index..=self.len).ok_or(full)? {
            moving = core::mem::replace(slot, moving);
        }
        self.len += 1;
        Ok(())
    }

    fn remove(&mut self, index: usize) {
        if let Some(tail) = self.slots.get_mut(index..self.len) {
            let mut moving = None;
            for slot in tail.iter_mut().rev() {
                moving = core::mem::replace(slot, moving);
            }
            self.len -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
