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
    pub fn first_overlap(&self, region: &HostRegion) -> Option<Extent<O>> {
        let before = self.after(region.base()).saturating_sub(1);
        self.iter()
            .skip(before)
            .take_while(|extent| extent.region.base() < region.end())
            .copied()
            .find(|extent| extent.region.overlaps(region))
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
        let at = self.after(region.base());
        let touching = |index: Option<usize>, edge: fn(&HostRegion, &HostRegion) -> bool| {
            let index = index?;
            let extent = self
                .get(index)
                .filter(|extent| extent.owner == owner && edge(&extent.region, &region))?;
            Some((index, extent.region))
        };
        let below = touching(at.checked_sub(1), |mine, new| mine.end() == new.base());
        let above = touching(Some(at), |mine, new| new.end() == mine.base());
        let join = |base: &HostRegion, end: &HostRegion| {
            HostRegion::between(base.base(), end.end()).unwrap_or(region)
        };
        match (below, above) {
            (Some((left, low)), Some((right, high))) => {
                self.set(
                    left,
                    Extent {
                        region: join(&low, &high),
                        owner,
                    },
                );
                self.remove(right);
            }
            (Some((left, low)), None) => self.set(
                left,
                Extent {
                    region: join(&low, &region),
                    owner,
                },
            ),
            (None, Some((right, high))) => self.set(
                right,
                Extent {
                    region: join(&region, &high),
                    owner,
                },
            ),
            (None, None) => self.insert(at, Extent { region, owner })?,
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
        match (low, high) {
            (None, None) => self.remove(at),
            (Some(rest), None) | (None, Some(rest)) => self.set(
                at,
                Extent {
                    region: rest,
                    owner,
                },
            ),
            (Some(low), Some(high)) => {
                self.insert(
                    at + 1,
                    Extent {
                        region: high,
                        owner,
                    },
                )?;
                self.set(at, Extent { region: low, owner });
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
        within
            .iter()
            .filter_map(|ram| self.fit_in(ram, pages, align))
            .min()
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
        let useful = [1 << 30, 2 << 20, PAGE_SIZE]
            .into_iter()
            .filter(|align| *align <= bytes);
        let fit = useful
            .filter_map(|align| self.first_fit(within, pages, align))
            .next()
            .ok_or(refused)?;
        self.claim(fit, owner)?;
        Ok(fit)
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

    fn get(&self, index: usize) -> Option<Extent<O>> {
        if index < self.len {
            self.slots.get(index).copied().flatten()
        } else {
            None
        }
    }

    /// How many extents begin at or below `address`.
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
            core::mem::swap(slot, &mut moving);
        }
        self.len += 1;
        Ok(())
    }

    fn remove(&mut self, index: usize) {
        if let Some(tail) = self.slots.get_mut(index..self.len) {
            let mut moving = None;
            for slot in tail.iter_mut().rev() {
                core::mem::swap(slot, &mut moving);
            }
            self.len -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
