//! The generic timer's interrupts (bindings/timer/arm,arch_timer.yaml).

use super::TimerIrqs;
use super::error::{FdtError, NodePath, Problem};
use super::header::be32;
use super::machine::once;
use super::model::Models;
use super::node::{Node, Prop};

/// What the first four interrupts are for, where the tree gives them names.
const NAMES: [&str; 4] = ["sec-phys", "phys", "virt", "hyp-phys"];
/// The first cell of an interrupt that is private to a processor (bindings/interrupt-controller/arm,gic-v3.yaml).
const PPI: u32 = 1;

/// What is known of the timer so far. The interrupts wait until the GIC has said how wide they are.
#[derive(Default)]
pub(super) struct Timer<'dt> {
    seen: bool,
    found: Option<(NodePath, &'dt [u8])>,
}

impl<'dt> Timer<'dt> {
    /// Looks at an enabled node.
    pub(super) fn node(&mut self, node: &Node<'_, 'dt>, models: &Models) -> Result<(), FdtError> {
        if !models.timer {
            return Ok(());
        }
        once(&mut self.seen, node, "timer")?;
        if node.get(Prop::InterruptNames).is_some() {
            let mut names = node.strings(Prop::InterruptNames)?;
            if !NAMES
                .iter()
                .all(|name| names.next() == Some(name.as_bytes()))
            {
                let problem = Problem::Not("sec-phys, phys, virt, hyp-phys");
                return Err(node.wrong(Prop::InterruptNames, problem));
            }
        }
        self.found = Some((node.path(), node.need(Prop::Interrupts)?));
        Ok(())
    }

    /// The four interrupts, where each has so many cells.
    pub(super) fn finish(&self, cells: usize) -> Result<TimerIrqs, FdtError> {
        let what = "enabled timer (arm,armv8-timer)";
        let (node, bytes) = self.found.ok_or(FdtError::Missing { what })?;
        let name = Prop::Interrupts.name();
        let wrong = |problem| FdtError::Property {
            node,
            name,
            problem,
        };
        let entry = cells.saturating_mul(4);
        if entry == 0 || !bytes.len().is_multiple_of(entry) || bytes.len() / entry < NAMES.len() {
            return Err(wrong(Problem::Length(bytes.len())));
        }
        let mut intids = [0; 4];
        for (n, cells) in bytes.chunks_exact(entry).take(NAMES.len()).enumerate() {
            let (kind, number) = (be32(cells, 0).unwrap_or(0), be32(cells, 4).unwrap_or(0));
            if kind != PPI {
                return Err(wrong(Problem::Not("a list of PPIs")));
            }
            if number >= 16 {
                return Err(wrong(Problem::Value(u64::from(number))));
            }
            let intid = number.saturating_add(16);
            if intids.contains(&intid) {
                return Err(wrong(Problem::Taken(u64::from(number))));
            }
            if let Some(slot) = intids.get_mut(n) {
                *slot = intid;
            }
        }
        let [secure, phys, virt, hyp] = intids;
        Ok(TimerIrqs {
            secure,
            phys,
            virt,
            hyp,
        })
    }
}
