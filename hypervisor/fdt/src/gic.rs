//! The interrupt controller (bindings/interrupt-controller/arm,gic-v3.yaml).

use arrayvec::ArrayVec;
use stage2_addr::HostRegion;

use super::MAX_GICR;
use super::cells::{self, Reg};
use super::error::{FdtError, Problem};
use super::machine::{covering, once};
use super::model::Models;
use super::node::{Node, Prop};

/// The frames of a GICv3 are 64 KiB (IHI 0069, 12.10); a redistributor has two at least.
const FRAME: u64 = 0x1_0000;

/// What is known of the interrupt controller so far.
#[derive(Default)]
pub(super) struct Gic {
    seen: bool,
    other: Option<&'static str>,
    gicd: Option<HostRegion>,
    pub(super) gicr: ArrayVec<HostRegion, MAX_GICR>,
    interrupt_cells: usize,
}

impl Gic {
    /// Looks at an enabled node.
    pub(super) fn node(&mut self, node: &Node<'_, '_>, models: &Models) -> Result<(), FdtError> {
        if !models.gic_v3 {
            self.other = self.other.or(models.other_gic);
            return Ok(());
        }
        once(&mut self.seen, node, "GICv3")?;
        self.interrupt_cells = match node.cell(Prop::InterruptCells)? {
            Some(3) => 3,
            Some(4) => 4,
            Some(other) => {
                return Err(node.wrong(Prop::InterruptCells, Problem::Value(u64::from(other))));
            }
            None => return Err(node.wrong(Prop::InterruptCells, Problem::Missing)),
        };
        // Zero is what the binding calls "no stride given"; a GICv4 redistributor has four frames.
        let stride = node.get(Prop::RedistributorStride).map_or(0, cells::number);
        if !matches!(stride, 0 | 0x2_0000 | 0x4_0000) {
            return Err(node.wrong(Prop::RedistributorStride, Problem::Value(stride)));
        }
        let count = node.cell(Prop::RedistributorRegions)?.unwrap_or(1);
        let wanted = usize::try_from(count).unwrap_or(usize::MAX);
        if wanted == 0 || wanted > MAX_GICR {
            let problem = Problem::Value(u64::from(count));
            return Err(node.wrong(Prop::RedistributorRegions, problem));
        }
        self.frames(node, wanted)
    }

    /// `reg` has the distributor, then `wanted` ranges of redistributors, then what only a GICv2 guest needs.
    fn frames(&mut self, node: &Node<'_, '_>, wanted: usize) -> Result<(), FdtError> {
        let wrong = |problem| node.wrong(Prop::Reg, problem);
        let mut regs = cells::regs(node)?;
        let mut frame = |least: u64| {
            let len = node.get(Prop::Reg).map_or(0, <[u8]>::len);
            let reg = regs.next().ok_or_else(|| wrong(Problem::Length(len)))??;
            let reg @ Reg { base, size } = cells::translate(node, reg)?;
            if size < least {
                return Err(wrong(Problem::TooSmall(size)));
            }
            if !base.is_multiple_of(FRAME) {
                return Err(wrong(Problem::Misaligned(base)));
            }
            covering(reg).map_err(wrong)
        };
        self.gicd = Some(frame(FRAME)?);
        for _ in 0..wanted {
            let region = frame(2 * FRAME)?;
            self.gicr
                .try_push(region)
                .map_err(|_| wrong(Problem::TooMany(MAX_GICR)))?;
        }
        Ok(())
    }

    /// The distributor.
    pub(super) fn gicd(&self) -> Result<HostRegion, FdtError> {
        let (needs, what) = ("a GICv3", "enabled GICv3 (arm,gic-v3)");
        self.gicd.ok_or(match self.other {
            Some(has) => FdtError::Unsupported { needs, has },
            None => FdtError::Missing { what },
        })
    }

    /// How many cells describe one interrupt.
    pub(super) fn interrupt_cells(&self) -> Result<usize, FdtError> {
        self.gicd().map(|_| self.interrupt_cells)
    }
}
