//! What the tables ought to say, one page at a time.

use std::collections::BTreeMap;

use stage2_addr::{HostPhys, IpaRegion, PAGE_SIZE};

use crate::{Access, Attrs};

/// Each mapped page by itself.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Model(pub BTreeMap<u64, (u64, Attrs)>);

impl Model {
    pub fn first_mapped(&self, region: &IpaRegion) -> Option<u64> {
        self.0
            .range(region.base().raw()..region.end().raw())
            .next()
            .map(|(page, _)| *page)
    }

    pub fn first_hole(&self, region: &IpaRegion) -> Option<u64> {
        region
            .iter_pages()
            .map(|page| page.raw())
            .find(|page| !self.0.contains_key(page))
    }

    pub fn map(&mut self, region: &IpaRegion, host: HostPhys, attrs: Attrs) {
        for (nth, page) in region.iter_pages().enumerate() {
            self.0
                .insert(page.raw(), (host.raw() + nth as u64 * PAGE_SIZE, attrs));
        }
    }

    pub fn unmap(&mut self, region: &IpaRegion) {
        for page in region.iter_pages() {
            self.0.remove(&page.raw());
        }
    }

    pub fn protect(&mut self, region: &IpaRegion, access: Access) {
        for (_, (_, attrs)) in self.0.range_mut(region.base().raw()..region.end().raw()) {
            attrs.access = access;
        }
    }
}
