//! Lanes on CPUs: what the file and the command line say about them.

use std::ops::Range;

use configs_plan::{LanePlan, MAX_CPUS, MAX_LANES};

use crate::diagnostic::Diagnostic;
use crate::place::{self, Part, Want};
use crate::raw::{Field, RawGuest, RawMachine};
use crate::{admission, shares};

/// How many CPUs there are, and who says so.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    count: u32,
    by: By,
}

#[derive(Clone, Debug)]
enum By {
    CommandLine,
    File(Range<usize>),
    Hypervisor,
}

impl Limit {
    /// The command line knows best, then the file; else the machine is as large as EL2 can use.
    pub(crate) fn new(
        command_line: Option<u32>,
        machine: &RawMachine,
        found: &mut Vec<Diagnostic>,
    ) -> Self {
        let bad = |count: u32| count == 0 || count > MAX_CPUS;
        match (command_line, &machine.cpus) {
            (Some(count), _) if bad(count) => {
                let title = format!("XDV runs on 1 to {MAX_CPUS} CPUs, not on {count}");
                found.push(Diagnostic::new(title).help("give another number to `--smp`"));
                Self {
                    count: MAX_CPUS,
                    by: By::Hypervisor,
                }
            }
            (Some(count), _) => Self {
                count,
                by: By::CommandLine,
            },
            (None, Some(field)) if bad(field.value) => {
                let diagnostic = Diagnostic::new(format!(
                    "XDV runs on 1 to {MAX_CPUS} CPUs, not on {}",
                    field.value
                ));
                let label = format!("must be 1 to {MAX_CPUS}");
                found.push(
                    diagnostic
                        .at(field.span.clone(), label)
                        .help("leave `cpus` out for the smallest machine that fits"),
                );
                Self {
                    count: MAX_CPUS,
                    by: By::Hypervisor,
                }
            }
            (None, Some(field)) => Self {
                count: field.value,
                by: By::File(field.span.clone()),
            },
            (None, None) => Self {
                count: MAX_CPUS,
                by: By::Hypervisor,
            },
        }
    }

    /// How many CPUs there are, if anybody says so.
    fn stated(&self) -> Option<u32> {
        match self.by {
            By::CommandLine | By::File(_) => Some(self.count),
            By::Hypervisor => None,
        }
    }

    /// Points at the limit, where the file sets it.
    pub(crate) fn show(&self, diagnostic: Diagnostic) -> Diagnostic {
        match &self.by {
            By::CommandLine => diagnostic.note(format!("`--smp {}` was given", self.count)),
            By::File(span) => diagnostic.see(
                span.clone(),
                format!("the machine has {}", cpus(self.count)),
            ),
            By::Hypervisor => diagnostic.note(format!("XDV runs on at most {MAX_CPUS} CPUs")),
        }
    }

    /// How the machine gets `needed` CPUs, if it can.
    pub(crate) fn raise(&self, needed: u32) -> Option<String> {
        match self.by {
            _ if needed > MAX_CPUS => None,
            By::CommandLine => Some(format!(
                "give the machine {} with `--smp {needed}`",
                cpus(needed)
            )),
            By::File(_) => Some(format!(
                "give the machine {}: `cpus = {needed}`, or `--smp {needed}`",
                cpus(needed)
            )),
            By::Hypervisor => None,
        }
    }
}

/// Lanes in their places.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Each guest's lanes.
    pub(crate) lanes: Vec<Vec<LanePlan>>,
    /// The smallest number of CPUs on which all of them have a place.
    pub(crate) least: u32,
}

/// Gives every lane a CPU and its share of it.
pub(crate) fn place(
    guests: &[RawGuest],
    limit: &Limit,
    found: &mut Vec<Diagnostic>,
) -> Option<Placed> {
    let before = found.len();
    for guest in guests {
        lanes(guest, found);
        if let (Some(lanes), Some(cpus)) = (&guest.lanes, &guest.cpus) {
            length(lanes, cpus, found);
        }
    }
    named(guests, limit, found);
    shares::judge(guests, found);
    if found.len() != before {
        return None;
    }
    let wants = wants(guests);
    let count = limit.stated().or_else(|| comfortable(guests, &wants));
    let (places, cpus) = match place::on(&wants, count.unwrap_or(limit.count)) {
        Ok(placed) => placed,
        Err(failure) => {
            found.push(admission::explain(guests, &wants, &failure, limit));
            return None;
        }
    };
    let mut lanes = vec![Vec::new(); guests.len()];
    for (want, cpu) in wants.iter().zip(places) {
        let on = cpus.get(usize::try_from(cpu).ok()?)?;
        let share = shares::share(guests.get(want.guest)?, want.part, on);
        lanes.get_mut(want.guest)?.push(LanePlan { cpu, share });
    }
    let all = guests.iter().all(|guest| guest.lanes.is_some());
    let least = place::smallest(&wants, 1)?;
    all.then_some(Placed { lanes, least })
}

/// What all lanes want, in the order of the file.
fn wants(guests: &[RawGuest]) -> Vec<Want> {
    let mut wants = Vec::new();
    for (nth, guest) in guests.iter().enumerate() {
        let part = match &guest.budget {
            _ if guest.is_dedicated() => Part::Dedicated,
            Some(budget) => Part::Budget(budget.value),
            None => Part::Rest,
        };
        let named: Vec<u32> = guest.cpus.iter().flat_map(values).collect();
        let count = guest.lanes.as_ref().map_or(0, |lanes| lanes.value);
        wants.extend((0..count).map(|lane| {
            Want {
                guest: nth,
                cpu: usize::try_from(lane)
                    .ok()
                    .and_then(|lane| named.get(lane))
                    .copied(),
                part,
            }
        }));
    }
    wants
}

/// How many CPUs a machine has of which nobody says it: one for each dedicated lane, and as many more as the guest
/// with the most shared lanes has, or as it takes to keep what is promised.
fn comfortable(guests: &[RawGuest], wants: &[Want]) -> Option<u32> {
    let dedicated = wants.iter().filter(|want| want.part == Part::Dedicated);
    let dedicated = u32::try_from(dedicated.count()).unwrap_or(u32::MAX);
    let shared = guests.iter().filter(|guest| !guest.is_dedicated());
    let most = shared.filter_map(|guest| Some(guest.lanes.as_ref()?.value));
    place::smallest(
        wants,
        dedicated.saturating_add(most.max().unwrap_or(0)).max(1),
    )
}

fn values(cpus: &Field<Vec<Field<u32>>>) -> impl Iterator<Item = u32> + '_ {
    cpus.value.iter().map(|cpu| cpu.value)
}

fn lanes(guest: &RawGuest, found: &mut Vec<Diagnostic>) {
    let Some(lanes) = &guest.lanes else { return };
    let at_most = format!("write a number from 1 to {MAX_LANES}");
    if lanes.value == 0 {
        let diagnostic =
            Diagnostic::new("a guest needs a lane").at(lanes.span.clone(), "no lane, nothing runs");
        found.push(diagnostic.help(at_most));
    } else if usize::try_from(lanes.value).is_ok_and(|lanes| lanes > MAX_LANES) {
        let diagnostic =
            Diagnostic::new(format!("{} lanes are too many for one guest", lanes.value));
        found.push(
            diagnostic
                .at(lanes.span.clone(), format!("more than {MAX_LANES}"))
                .help(at_most),
        );
    }
}

/// `cpus` must name one CPU for each lane.
fn length(lanes: &Field<u32>, cpus: &Field<Vec<Field<u32>>>, found: &mut Vec<Diagnostic>) {
    let named = cpus.value.len();
    if u32::try_from(named) == Ok(lanes.value) || lanes.value == 0 {
        return;
    }
    let diagnostic = Diagnostic::new("`cpus` must name one CPU for each lane")
        .at(
            cpus.span.clone(),
            if named == 1 {
                "names 1 CPU".to_owned()
            } else {
                format!("names {named} CPUs")
            },
        )
        .see(lanes.span.clone(), count(lanes.value, "lane"));
    found.push(match named {
        0 => diagnostic.help("leave `cpus` out to have CPUs chosen"),
        _ => diagnostic.help("make the two agree, or leave `cpus` out to have CPUs chosen"),
    });
}

/// Every CPU a file names must be there, and one that a dedicated lane has must be named once.
fn named(guests: &[RawGuest], limit: &Limit, found: &mut Vec<Diagnostic>) {
    let mut seen: Vec<(&Field<u32>, &RawGuest)> = Vec::new();
    for guest in guests {
        for cpu in guest.cpus.iter().flat_map(|cpus| &cpus.value) {
            let other = seen.iter().find(|(first, owner)| {
                first.value == cpu.value && (guest.is_dedicated() || owner.is_dedicated())
            });
            if cpu.value >= limit.count {
                found.push(absent(cpu, limit));
            } else if let Some((first, owner)) = other {
                found.push(taken(cpu, guest, first, owner));
            }
            seen.push((cpu, guest));
        }
    }
}

fn absent(cpu: &Field<u32>, limit: &Limit) -> Diagnostic {
    let last = limit.count.saturating_sub(1);
    let there = if last == 0 {
        "CPU 0 is the only one".to_owned()
    } else {
        format!("CPUs 0 to {last} are there")
    };
    let diagnostic = Diagnostic::new(format!("the machine has no CPU {}", cpu.value))
        .at(cpu.span.clone(), there);
    let diagnostic = limit.show(diagnostic);
    match limit.raise(cpu.value.saturating_add(1)) {
        Some(raise) => diagnostic.help(format!("{raise}, or name another CPU")),
        None => diagnostic.help("name one of them, or leave `cpus` out to have CPUs chosen"),
    }
}

fn taken(cpu: &Field<u32>, guest: &RawGuest, first: &Field<u32>, owner: &RawGuest) -> Diagnostic {
    let help = "a dedicated lane has its CPU to itself: name another one, or leave `cpus` out to have it chosen";
    if std::ptr::eq(guest, owner) {
        let title = format!("CPU {} is named twice for {}", cpu.value, guest.called());
        return Diagnostic::new(title)
            .at(cpu.span.clone(), "the second time")
            .see(first.span.clone(), "the first time")
            .help(help);
    }
    let has = |guest: &RawGuest, verb: &str| {
        let alone = if guest.is_dedicated() {
            " to itself"
        } else {
            ""
        };
        format!("{} {verb}{alone}", guest.called())
    };
    Diagnostic::new(format!("CPU {} is given to two guests", cpu.value))
        .at(cpu.span.clone(), has(guest, "wants it"))
        .see(first.span.clone(), has(owner, "has it"))
        .help(help)
}

/// "1 CPU", "3 CPUs".
pub(crate) fn cpus(n: u32) -> String {
    count(n, "CPU")
}

/// "1 lane", "3 lanes".
pub(crate) fn count(n: u32, thing: &str) -> String {
    if n == 1 {
        format!("1 {thing}")
    } else {
        format!("{n} {thing}s")
    }
}
