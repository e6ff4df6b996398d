//! Which devices of the machine each guest is given: what the words of `devices` mean, and whether they may.
//!
//! The rules are those of `docs/adr/0009-devices-of-the-machine.md`. EL2 holds them again.

mod refusal;

use std::ops::Range;

use configs_plan::{
    DEVICES_BASE, DEVICES_INTIDS, DeviceKind, DevicePlan, MAX_DEVICE, MAX_DEVICES, PAGE, RTC_BASE,
    RTC_INTID,
};

use crate::diagnostic::Diagnostic;
use crate::hardware::{Hardware, Line, Node, pages};
use crate::raw::{Field, RawGuest};
use refusal::Refusal;

/// What a person may call devices of a kind on a machine that has one of it.
const WORDS: [(&str, DeviceKind); 3] = [
    ("serial", DeviceKind::Pl011),
    ("rtc", DeviceKind::Pl031),
    ("gpio", DeviceKind::Pl061),
];
/// Properties that mean the same in a guest's device tree, which has no node that they could refer to.
const CARRIED: [&str; 8] = [
    "compatible",
    "clock-names",
    "arm,primecell-periphid",
    "gpio-controller",
    "#gpio-cells",
    "gpio-line-names",
    "interrupt-controller",
    "#interrupt-cells",
];

/// A device that a guest is given.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// As the plan says it.
    pub(crate) plan: DevicePlan,
    /// Its path in the machine's device tree.
    pub(crate) path: String,
    /// The name of its node, without unit address.
    pub(crate) name: String,
    /// Its interrupt is an edge.
    pub(crate) edge: bool,
    /// Properties that are the same in the guest's device tree.
    pub(crate) carried: Vec<(&'static str, Vec<u8>)>,
    /// The frequencies of its clocks.
    pub(crate) clocks: Vec<u32>,
}

impl Given {
    /// Whether it stands in the place of the emulated clock.
    pub(crate) fn is_rtc(&self) -> bool {
        self.plan.ipa == RTC_BASE
    }
}

/// A device as it is in the machine.
#[derive(Debug)]
struct Found {
    index: usize,
    kind: DeviceKind,
    pages: Range<u64>,
    line: Option<Line>,
    clocks: Vec<u32>,
}

/// A word that was understood: whose it is, and the node.
struct Asked<'c> {
    guest: &'c RawGuest,
    word: &'c Field<String>,
    index: usize,
}

/// Finds what every guest is given, in the order of the guests.
pub(crate) fn give(
    guests: &[RawGuest],
    hardware: &Hardware,
    found: &mut Vec<Diagnostic>,
) -> Vec<Vec<Given>> {
    let mut asked: Vec<Asked<'_>> = Vec::new();
    let mut all = Vec::new();
    for guest in guests {
        let words = guest.devices.as_ref().map(|list| list.value.as_slice());
        let mut given: Vec<Given> = Vec::new();
        for word in words.unwrap_or_default() {
            if given.len() == MAX_DEVICES {
                found.push(refusal::too_many(word));
                break;
            }
            match one(word, hardware) {
                Ok(device) => {
                    let earlier = asked.iter().find(|earlier| earlier.index == device.index);
                    if let Some(earlier) = earlier {
                        found.push(refusal::twice(earlier, guest, word, hardware));
                        continue;
                    }
                    asked.push(Asked {
                        guest,
                        word,
                        index: device.index,
                    });
                    given.extend(placed(&device, hardware, &given));
                }
                Err(refusal) => found.push(refusal.explain(word, hardware)),
            }
        }
        all.push(given);
    }
    all
}

/// The devices of the machine that could be given: the shortest word for each, and its path.
fn available(hardware: &Hardware) -> Vec<(String, String)> {
    let can = |(index, node): (usize, &Node)| {
        judge(index, hardware).ok()?;
        let alias = hardware.aliases().into_iter().find(|(_, at)| *at == index);
        let alias = alias.map(|(name, _)| name.to_owned());
        let kind = WORDS.iter().map(|(word, _)| (*word).to_owned());
        let word = alias.into_iter().chain(kind);
        let mut word = word.filter(|word| matches!(meant(word, hardware), Ok(at) if at == index));
        Some((
            word.next().unwrap_or_else(|| node.path.clone()),
            node.path.clone(),
        ))
    };
    hardware.nodes().filter_map(can).collect()
}

/// One word.
fn one(word: &Field<String>, hardware: &Hardware) -> Result<Found, Refusal> {
    judge(meant(&word.value, hardware)?, hardware)
}

/// The node that a word stands for: an alias, a path, a node's name, or else what the device is.
fn meant(word: &str, hardware: &Hardware) -> Result<usize, Refusal> {
    let mut called = hardware.called(word);
    if called.is_empty()
        && let Some((_, kind)) = WORDS.iter().find(|(known, _)| *known == word)
    {
        called = hardware.of_kind(kind.compatible());
    }
    match called.as_slice() {
        [] => Err(Refusal::Unknown),
        [one] => Ok(*one),
        _ => {
            let paths = called.iter().filter_map(|index| hardware.node(*index));
            Err(Refusal::Ambiguous(
                paths.map(|node| node.path.clone()).collect(),
            ))
        }
    }
}

/// Whether a device may be given to anybody.
fn judge(index: usize, hardware: &Hardware) -> Result<Found, Refusal> {
    let node = hardware.node(index).ok_or(Refusal::Unknown)?;
    if hardware.console() == Some(index) {
        return Err(Refusal::Console);
    }
    if refusal::hands_out_interrupts(node) {
        return Err(Refusal::InterruptController);
    }
    if let Some(sign) = refusal::sign_of_dma(node) {
        return Err(Refusal::Dma(sign));
    }
    let kind = DeviceKind::ALL
        .into_iter()
        .find(|kind| node.is(kind.compatible()))
        .ok_or_else(|| Refusal::of_unknown_kind(node, hardware.registers(index)))?;
    if !node.enabled {
        return Err(Refusal::Disabled);
    }
    let registers = hardware.registers(index).ok_or(Refusal::NoRegisters)?;
    let [registers] = registers.as_slice() else {
        return Err(Refusal::Ranges(registers.len()));
    };
    let pages = pages(registers).filter(|_| !registers.is_empty());
    let pages = pages.ok_or(Refusal::NoRegisters)?;
    if pages.end - pages.start > MAX_DEVICE || pages.end > configs_plan::HOST_LIMIT {
        return Err(Refusal::NoRegisters);
    }
    if let Some(other) = hardware.neighbour(index, &pages) {
        return Err(Refusal::SharedPage(other.path.clone()));
    }
    let line = hardware.line(index).map_err(Refusal::Line)?;
    if let Some(other) = line.and_then(|line| hardware.sharer(index, line)) {
        return Err(Refusal::SharedLine(other.path.clone()));
    }
    Ok(Found {
        index,
        kind,
        line,
        clocks: hardware.clocks(index).ok_or(Refusal::Clock)?,
        pages,
    })
}

/// Gives a device its place in the guest: the emulated clock's, if it is one and that is free, else the next on the
/// platform bus. `before` are the guest's other devices.
fn placed(device: &Found, hardware: &Hardware, before: &[Given]) -> Option<Given> {
    let node = hardware.node(device.index)?;
    let size = device.pages.end.checked_sub(device.pages.start)?;
    let is_rtc =
        device.kind == DeviceKind::Pl031 && size == PAGE && !before.iter().any(Given::is_rtc);
    let (ipa, intid) = if is_rtc {
        (RTC_BASE, RTC_INTID)
    } else {
        let bus = before.iter().filter(|other| !other.is_rtc());
        let free = bus.clone().map(|other| other.plan.ipa + other.plan.size);
        let number = u32::try_from(bus.count()).ok()?;
        let intid = DEVICES_INTIDS.start.checked_add(number)?;
        (free.max().unwrap_or(DEVICES_BASE), intid)
    };
    let carried = CARRIED
        .iter()
        .filter_map(|name| Some((*name, node.property(name)?.to_vec())));
    Some(Given {
        plan: DevicePlan {
            kind: device.kind,
            host: device.pages.start,
            size,
            ipa,
            intid: device.line.map(|_| intid),
        },
        path: node.path.clone(),
        name: node.base_name().to_owned(),
        edge: device.line.is_some_and(|line| line.edge),
        carried: carried.collect(),
        clocks: device.clocks.clone(),
    })
}
