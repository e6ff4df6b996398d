//! Tables, memory, TLB, judge and model, run together.

use std::vec::Vec;

use stage2_addr::{HostPhys, HostRegion, Ipa, IpaRegion, PAGE_SIZE, PageCount};

use super::bbm::Judge;
use super::model::Model;
use crate::descriptor::Entry;
use crate::fakes::{FakeMemory, FakeTlb};
use crate::{
    Access, Attrs, ChangeError, FlushDebt, Format, Geometry, GuestTables, Level, MapError,
    TableIndex, TableQuota, Vmid,
};

/// One call.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Map {
        region: IpaRegion,
        host: HostPhys,
        attrs: Attrs,
    },
    Unmap {
        region: IpaRegion,
    },
    Protect {
        region: IpaRegion,
        access: Access,
    },
}

impl Op {
    pub fn region(&self) -> IpaRegion {
        match self {
            Self::Map { region, .. } | Self::Unmap { region } | Self::Protect { region, .. } => {
                *region
            }
        }
    }
}

pub struct Machine {
    pub tables: GuestTables,
    pub memory: FakeMemory,
    pub tlb: FakeTlb,
    pub judge: Judge,
    pub model: Model,
    seen: usize,
    /// Pages that the guest touches.
    probes: Vec<u64>,
    pub refused_by_quota: usize,
}

const TABLES: u64 = 0x7000_1000;

impl Machine {
    pub fn new(ipa_bits: u32, quota: u64) -> Self {
        let mut memory = FakeMemory::new();
        let region = HostRegion::new(HostPhys::new(TABLES), PageCount::new(quota)).unwrap();
        let geometry = Geometry::new(ipa_bits, 48).unwrap();
        let mut tables = GuestTables::new(geometry, TableQuota::new(region), &mut memory).unwrap();
        tables.set_vmid(Vmid::NONE);
        let (tlb, judge, model) = (FakeTlb::default(), Judge::default(), Model::default());
        let mut machine = Self {
            tables,
            memory,
            tlb,
            judge,
            model,
            seen: 0,
            probes: Vec::new(),
            refused_by_quota: 0,
        };
        let shape = machine.tables.shape();
        for nth in 0..shape.root_pages().raw() {
            machine
                .judge
                .roots
                .insert(HostPhys::new(machine.tables.root().raw() + nth * PAGE_SIZE));
        }
        // Frames begin as garbage, which looks valid: the judge begins with tables that exist.
        machine.seen = machine.memory.log.len();
        machine
    }

    fn watch(&mut self) {
        self.judge.watch(&self.memory.log[self.seen..]);
        self.seen = self.memory.log.len();
    }

    /// Performs the call, pays, settles, and compares everything.
    pub fn run(&mut self, op: Op) {
        let region = op.region();
        let writes = self.memory.log.len();
        self.probe_also(&region);
        self.guest_reads(&[&self.model.clone()]);
        let in_use = self.tables.quota().in_use();
        let result = match op {
            Op::Map {
                region,
                host,
                attrs,
            } => {
                let result = self.tables.map(&mut self.memory, region, host, attrs);
                self.judge_map(&region, host, attrs, result);
                Ok(None)
            }
            Op::Unmap { region } => self.tables.unmap(&mut self.memory, region).map(Some),
            Op::Protect { region, access } => {
                let result = self
                    .tables
                    .protect(&mut self.memory, region, access)
                    .map(Some);
                self.judge_protect(&region, access, &result);
                result
            }
        };
        match result {
            Ok(None) => {}
            Ok(Some(debt)) => self.pay(op, debt),
            Err(error) => {
                if matches!(error, ChangeError::QuotaExhausted { .. }) {
                    self.refused_by_quota += 1;
                }
                assert_eq!(
                    self.memory.log.len(),
                    writes,
                    "a refused change wrote something: {error}"
                );
                assert_eq!(self.tables.quota().in_use(), in_use);
            }
        }
        self.watch();
        self.check();
    }

    fn judge_map(
        &mut self,
        region: &IpaRegion,
        host: HostPhys,
        attrs: Attrs,
        result: Result<(), MapError>,
    ) {
        match (result, self.model.first_mapped(region)) {
            (Ok(()), None) => self.model.map(region, host, attrs),
            (Err(MapError::AlreadyMapped { ipa }), Some(page)) => assert_eq!(ipa, page),
            (Err(MapError::QuotaExhausted { needed, available }), None) => {
                assert!(needed > available);
                self.refused_by_quota += 1;
            }
            other => panic!("mapping {region} at {host}: {other:?}"),
        }
    }

    fn judge_protect(
        &self,
        region: &IpaRegion,
        access: Access,
        result: &Result<Option<FlushDebt>, ChangeError>,
    ) {
        let hole = self.model.first_hole(region);
        let mut pages = self.model.0.range(region.base().raw()..region.end().raw());
        let format = self.tables.format;
        let bad = pages.any(|(_, (_, attrs))| format.encode(Attrs { access, ..*attrs }).is_none());
        match result {
            Ok(_) => assert!(hole.is_none() && !bad),
            Err(ChangeError::NotMapped { ipa }) => assert_eq!(Some(*ipa), hole),
            Err(ChangeError::Inadmissible { .. }) => assert!(bad),
            Err(ChangeError::QuotaExhausted { needed, available }) => assert!(needed > available),
            Err(other) => panic!("protecting {region}: {other}"),
        }
    }

    /// Between the break and the make: the guest goes on running, and nothing else may be changed.
    fn pay(&mut self, op: Op, debt: FlushDebt) {
        let before = self.model.clone();
        match op {
            Op::Unmap { region } => self.model.unmap(&region),
            Op::Protect { region, access } => self.model.protect(&region, access),
            Op::Map { .. } => panic!("mapping owes nothing"),
        }
        let after = self.model.clone();
        self.watch();
        self.guest_reads(&[&before, &after]);
        assert!(!self.tables.is_settled());
        let page = op.region();
        assert_eq!(
            self.tables.unmap(&mut self.memory, page),
            Err(ChangeError::Unsettled)
        );
        let mapped = self.tables.map(
            &mut self.memory,
            page,
            HostPhys::new(0),
            Attrs::normal(Access::RW),
        );
        assert_eq!(mapped, Err(MapError::Unsettled));
        let receipt = debt.pay(&self.tlb);
        self.judge.flushed();
        self.guest_reads(&[&before, &after]);
        self.tables.settle(&mut self.memory, receipt).unwrap();
        assert!(self.tables.quota().in_limbo() == PageCount::ZERO);
    }

    /// The pages that a region is likely to go wrong at, and some between.
    fn probe_also(&mut self, region: &IpaRegion) {
        let (base, pages) = (region.base().raw(), region.pages().raw());
        let block = Level::L2.entry_bytes();
        let ends = [base, region.last().page_floor().raw()];
        let near = ends.iter().flat_map(|page| {
            [
                page.wrapping_sub(PAGE_SIZE),
                *page,
                page + PAGE_SIZE,
                page & !(block - 1),
                page | (block - PAGE_SIZE),
            ]
        });
        let within = (0..pages).step_by(97).map(|nth| base + nth * PAGE_SIZE);
        let limit = self.tables.shape().input_end();
        self.probes
            .extend(near.chain(within).filter(|page| *page < limit));
        self.probes.sort_unstable();
        self.probes.dedup();
    }

    /// The guest touches the probes through its TLB. Under an open change it may find either state, or a fault.
    fn guest_reads(&self, allowed: &[&Model]) {
        for page in &self.probes {
            let hit = self.tlb.access(
                &self.memory,
                &self.tables.shape(),
                self.tables.root(),
                0,
                *page,
            );
            let found = hit.map(|hit| (hit.host.raw(), self.tables.format.decode(hit.bits)));
            let expected = allowed
                .iter()
                .any(|model| model.0.get(page).copied() == found);
            let broken = allowed.len() > 1 && found.is_none();
            assert!(expected || broken, "{page:#x} translates to {found:?}");
            if let (Some(hit), [_]) = (hit, allowed) {
                let walked = self
                    .tables
                    .translate(&self.memory, Ipa::new(*page))
                    .unwrap();
                assert_eq!(
                    hit.level, walked.level,
                    "{page:#x}: a block is cached where there are pages"
                );
            }
        }
    }

    /// Everything is settled: tables, TLB, model and quota agree.
    fn check(&self) {
        self.guest_reads(&[&self.model]);
        let mut pages = self.model.0.iter();
        for leaf in self.tables.leaves(&self.memory) {
            for offset in (0..leaf.level.entry_bytes()).step_by(4096) {
                let (page, (host, attrs)) =
                    pages.next().expect("a leaf that the model does not have");
                assert_eq!(
                    (leaf.input.raw() + offset, leaf.host.raw() + offset),
                    (*page, *host)
                );
                assert_eq!(leaf.attrs, *attrs);
            }
        }
        assert_eq!(pages.next(), None, "a page that no leaf has");
        assert_eq!(
            self.tables.mapped(&self.memory).raw(),
            self.model.0.len() as u64
        );
        let quota = self.tables.quota();
        let sum = quota.in_use().raw() + quota.available().raw() + quota.in_limbo().raw();
        assert_eq!(sum, quota.region().pages().raw());
        assert_eq!(
            quota.in_use().raw(),
            self.reachable(),
            "frames in use are the tables that a walk can reach"
        );
    }

    fn reachable(&self) -> u64 {
        let shape = self.tables.shape();
        let roots = (0..shape.root_pages().raw()).map(|nth| {
            let table = HostPhys::new(self.tables.root().raw() + nth * PAGE_SIZE);
            self.reachable_from(table, shape.start_level(), true)
        });
        roots.sum()
    }

    fn reachable_from(&self, table: HostPhys, level: Level, root: bool) -> u64 {
        assert!(self.tables.quota().region().contains(table));
        let entries = TableIndex::all().map(|index| self.memory.entry(table, index, level));
        assert!(
            root || entries.clone().any(Entry::is_valid),
            "{table} is linked and empty"
        );
        let children = entries.map(|entry| match entry {
            Entry::Table { frame, level } => self.reachable_from(frame, level, false),
            Entry::Invalid | Entry::Leaf { .. } => 0,
        });
        1 + children.sum::<u64>()
    }

    /// Every page of the model, and its neighbours, by translate.
    pub fn translate_all(&self) {
        for (page, (host, attrs)) in &self.model.0 {
            for offset in [0, 1, 0xfff] {
                let found = self
                    .tables
                    .translate(&self.memory, Ipa::new(page + offset))
                    .unwrap();
                assert_eq!((found.host.raw(), found.attrs), (host + offset, *attrs));
            }
            for next in [page.wrapping_sub(PAGE_SIZE), page + PAGE_SIZE] {
                let found = self.tables.translate(&self.memory, Ipa::new(next));
                assert_eq!(found.is_some(), self.model.0.contains_key(&next));
            }
        }
    }
}
