//! Faults by script: of which device, and whether they can be.

use std::ops::RangeInclusive;

use configs_plan::{Counted, MAX_STRIKES, Strike, VirtioDevice, VirtioPlan};

use crate::diagnostic::Diagnostic;
use crate::raw::{RawGuest, RawStrike, RawVirtio, kind_word};
use crate::suggest;

/// A guest's device by its name: that of its disk or network, or the word for what it is.
type Named<'c> = (&'c str, VirtioPlan);

/// The times that a fault is about, counted from 1.
fn times(raw: &RawStrike) -> RangeInclusive<u64> {
    let count = raw.count.as_ref().map_or(1, |count| count.value);
    raw.at.value..=raw.at.value.saturating_add(count - 1)
}

/// What has been judged.
struct Judged<'c> {
    raw: &'c RawStrike,
    counted: Counted,
    strike: Strike,
}

/// A guest's script.
pub(super) fn judge(
    guest: &RawGuest,
    slots: &[VirtioPlan],
    found: &mut Vec<Diagnostic>,
) -> Vec<Strike> {
    let Some(devices) = named(&guest.virtio, slots) else {
        return Vec::new();
    };
    let mut all: Vec<Judged<'_>> = Vec::new();
    for raw in &guest.virtio.script {
        match strike(guest, raw, &devices) {
            Ok(new) => {
                found.extend(against(&all, &new));
                all.push(new);
            }
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    all.into_iter().map(|judged| judged.strike).collect()
}

/// A guest's devices with their names; `None` if it asks for a disk or network that there is none of.
fn named<'c>(said: &'c RawVirtio, slots: &[VirtioPlan]) -> Option<Vec<Named<'c>>> {
    let mut disks = said.disks.iter().map(|disk| &disk.name);
    let mut cards = said.networks.iter().map(|card| &card.name);
    let mut all = Vec::new();
    for plan in slots {
        let name = match plan.device {
            VirtioDevice::Block { .. } => &disks.next()?.value,
            VirtioDevice::Net { .. } => &cards.next()?.value,
            VirtioDevice::Console => "console",
            VirtioDevice::Entropy => "rng",
            VirtioDevice::Vsock { .. } => "vsock",
            VirtioDevice::Balloon => "balloon",
        };
        all.push((name, *plan));
    }
    let complete = disks.next().is_none() && cards.next().is_none() && !all.is_empty();
    complete.then_some(all)
}

/// One fault by itself.
fn strike<'c>(
    guest: &RawGuest,
    raw: &'c RawStrike,
    devices: &[Named<'_>],
) -> Result<Judged<'c>, Diagnostic> {
    let name = raw.device.value.as_str();
    let at = || raw.device.span.clone();
    let mut called = devices.iter().filter(|(other, _)| *other == name);
    let Some((_, device)) = called.next() else {
        let title = format!("{} has no virtio device `{name}`", guest.called());
        let names = devices.iter().map(|(name, _)| *name);
        let diagnostic = Diagnostic::new(title).at(at(), "none of its devices");
        return Err(match suggest::nearest(name, names.clone()) {
            Some(near) => {
                let help = format!("did you mean `{near}`?");
                diagnostic.fix(help, at(), format!("\"{near}\""))
            }
            None => diagnostic.help(format!("it has {}", suggest::list(names))),
        });
    };
    if called.next().is_some() {
        let title = format!("{} has two devices called `{name}`", guest.called());
        let help = "a script cannot tell them apart: let each of its disks and networks have a name of its own";
        return Err(Diagnostic::new(title).at(at(), "which of them?").help(help));
    }
    let word = kind_word(raw.kind.value);
    let Some(counted) = raw.kind.value.counted(&device.device) else {
        let title = format!("`{word}` does not happen to `{name}`");
        let help = "`short`, `error` and `reorder` are of disks, `link` is of networks, `drop` of both, and the others of every device";
        return Err(Diagnostic::new(title)
            .at(raw.kind.span.clone(), "not of such a device")
            .see(at(), "this device")
            .help(help));
    };
    Ok(Judged {
        raw,
        counted,
        strike: Strike {
            slot: device.slot,
            kind: raw.kind.value,
            first: raw.at.value - 1,
            count: raw.count.as_ref().map_or(1, |count| count.value),
        },
    })
}

/// A fault against those before it: nothing has two faults by script, and a device has not too many.
fn against(earlier: &[Judged<'_>], new: &Judged<'_>) -> Option<Diagnostic> {
    let name = new.raw.device.value.as_str();
    if new.strike.first.checked_add(new.strike.count).is_none() {
        let diagnostic = Diagnostic::new("this fault never ends");
        let diagnostic = diagnostic.at(new.raw.span.clone(), "`at` and `count` are too large");
        return Some(diagnostic.help("nobody counts so far: choose smaller numbers"));
    }
    let same = || {
        let slot = new.strike.slot;
        earlier
            .iter()
            .filter(move |other| other.strike.slot == slot)
    };
    if same().count() >= MAX_STRIKES {
        let title = format!("`{name}` has more than {MAX_STRIKES} faults by script");
        let diagnostic = Diagnostic::new(title).at(new.raw.span.clone(), "the first too many");
        let help =
            "`count` is for several one after the other, and rates are for many: `error = \"1%\"`";
        return Some(diagnostic.help(help));
    }
    let mine = times(new.raw);
    let meets = |other: &&Judged<'_>| {
        let theirs = times(other.raw);
        let both = mine.start() <= theirs.end() && theirs.start() <= mine.end();
        other.counted == new.counted && both
    };
    let other = same().find(meets)?;
    let nth = mine.start().max(times(other.raw).start()).to_owned();
    let noun = match new.counted {
        Counted::Requests => "request",
        Counted::Notifications => "notification",
        Counted::Interrupts => "interrupt",
    };
    let title = format!("{noun} {nth} of `{name}` has two faults by script");
    let word = |one: &Judged<'_>| format!("`{}` here", kind_word(one.strike.kind));
    let diagnostic = Diagnostic::new(title)
        .at(new.raw.at.span.clone(), word(new))
        .see(other.raw.at.span.clone(), word(other));
    Some(diagnostic.help("only one of them could happen: move one, or remove it"))
}
