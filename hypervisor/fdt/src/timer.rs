//! The generic timer's interrupts (bindings/timer/arm,arch_timer.yaml).

use super::TimerIrqs;
use super::cells::number;
use super::error::{Stop, Why};
use super::node::{Prop, Walk};

/// What the first four interrupts are for, where the tree gives them names.
const NAMES: &[u8] = b"sec-phys\0phys\0virt\0hyp-phys\0";
/// The first cell of an interrupt that is private to a processor (bindings/interrupt-controller/arm,gic-v3.yaml).
const PPI: u64 = 1;

/// Reads the node of the timer, where each interrupt has `entry` bytes.
pub(super) fn read(node: &Walk<'_, '_>, entry: usize) -> Result<TimerIrqs, Stop> {
    if node
        .get(Prop::InterruptNames)
        .is_some_and(|names| !names.starts_with(NAMES))
    {
        return Err(node.wrong(Prop::InterruptNames, Why::NotNames, 0));
    }
    let bytes = node.need(Prop::Interrupts)?;
    let wrong = |why, value| Err(node.wrong(Prop::Interrupts, why, value));
    let mut intids = [0; 4];
    if !bytes.len().is_multiple_of(entry) || bytes.len() < entry * intids.len() {
        return wrong(Why::Length, bytes.len() as u64);
    }
    let mut rest = bytes;
    for n in 0..intids.len() {
        // Two cells: what kind of interrupt, and which of them.
        let said = number(rest.get(..8).unwrap_or_default());
        rest = rest.get(entry..).unwrap_or_default();
        let ppi = said & 0xffff_ffff;
        if said >> 32 != PPI {
            return wrong(Why::NotPpis, 0);
        }
        if ppi >= 16 {
            return wrong(Why::Value, ppi);
        }
        let intid = 16 + u32::try_from(ppi).unwrap_or(0);
        if !intids.iter().all(|other| *other != intid) {
            return wrong(Why::Taken, ppi);
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
