//! Lanes on CPUs: every lane gets a physical CPU of its own.

use std::ops::Range;

use configs_plan::{LanePlan, MAX_CPUS, MAX_LANES, Share};

use crate::diagnostic::Diagnostic;
use crate::raw::{Field, RawGuest, RawMachine};

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

    /// Points at the limit, where the file sets it.
    fn show(&self, diagnostic: Diagnostic) -> Diagnostic {
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
    fn raise(&self, needed: u32) -> Option<String> {
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

/// Gives every lane a CPU: those the file names first, then the lowest free one. One list for each guest.
pub(crate) fn place(
    guests: &[RawGuest],
    limit: &Limit,
    found: &mut Vec<Diagnostic>,
) -> Option<Vec<Vec<LanePlan>>> {
    let before = found.len();
    for guest in guests {
        lanes(guest, found);
        if let (Some(lanes), Some(cpus)) = (&guest.lanes, &guest.cpus) {
            length(lanes, cpus, found);
        }
    }
    named(guests, limit, found);
    if found.len() == before {
        sum(guests, limit, found);
    }
    if found.len() != before {
        return None;
    }
    let named: Vec<u32> = guests
        .iter()
        .filter_map(|g| g.cpus.as_ref())
        .flat_map(values)
        .collect();
    let mut free = (0..limit.count).filter(|cpu| !named.contains(cpu));
    let placed = guests
        .iter()
        .map(|guest| match (&guest.cpus, &guest.lanes) {
            (Some(cpus), _) => Some(values(cpus).map(dedicated).collect()),
            (None, Some(lanes)) => (0..lanes.value)
                .map(|_| free.next().map(dedicated))
                .collect(),
            (None, None) => None,
        });
    placed.collect()
}

fn dedicated(cpu: u32) -> LanePlan {
    LanePlan {
        cpu,
        share: Share::Dedicated,
    }
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

/// Every CPU a file names must be there, and be named once.
fn named(guests: &[RawGuest], limit: &Limit, found: &mut Vec<Diagnostic>) {
    let mut seen: Vec<(&Field<u32>, &RawGuest)> = Vec::new();
    for guest in guests {
        for cpu in guest.cpus.iter().flat_map(|cpus| &cpus.value) {
            if cpu.value >= limit.count {
                found.push(absent(cpu, limit));
            } else if let Some((first, owner)) =
                seen.iter().find(|(first, _)| first.value == cpu.value)
            {
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
    let name = |guest: &RawGuest| {
        guest
            .name
            .as_ref()
            .map_or("a guest".to_owned(), |name| format!("`{}`", name.value))
    };
    let help =
        "each lane has a CPU of its own: name another one, or leave `cpus` out to have it chosen";
    if std::ptr::eq(guest, owner) {
        return Diagnostic::new(format!(
            "CPU {} is named twice for {}",
            cpu.value,
            name(guest)
        ))
        .at(cpu.span.clone(), "the second time")
        .see(first.span.clone(), "the first time")
        .help(help);
    }
    Diagnostic::new(format!("CPU {} is given to two guests", cpu.value))
        .at(cpu.span.clone(), format!("{} wants it too", name(guest)))
        .see(first.span.clone(), format!("{} has it", name(owner)))
        .help(help)
}

/// All lanes together must fit on the CPUs.
fn sum(guests: &[RawGuest], limit: &Limit, found: &mut Vec<Diagnostic>) {
    let needed: u32 = guests
        .iter()
        .filter_map(|guest| guest.lanes.as_ref())
        .map(|lanes| lanes.value)
        .sum();
    if needed <= limit.count {
        return;
    }
    let (lanes, verb) = (
        count(needed, "lane"),
        if needed == 1 { "does" } else { "do" },
    );
    let mut diagnostic =
        Diagnostic::new(format!("{lanes} {verb} not fit on {}", cpus(limit.count)));
    let mut total = 0u32;
    for guest in guests {
        let Some(lanes) = &guest.lanes else { continue };
        let had_room = total <= limit.count;
        total = total.saturating_add(lanes.value);
        let name = guest
            .name
            .as_ref()
            .map_or("this guest", |name| name.value.as_str());
        let label = format!("`{name}` has {}", count(lanes.value, "lane"));
        // The guest that goes over the edge is the place to look at; the others explain it.
        diagnostic = if had_room && total > limit.count {
            diagnostic.at(
                lanes.span.clone(),
                format!("{label}: one CPU each makes {total} in all"),
            )
        } else {
            diagnostic.see(lanes.span.clone(), label)
        };
    }
    let diagnostic = limit.show(diagnostic);
    found.push(match limit.raise(needed) {
        Some(raise) => diagnostic.help(format!("{raise}, or have fewer lanes")),
        None => diagnostic.help("have fewer lanes: each has a CPU of its own"),
    });
}

/// "1 CPU", "3 CPUs".
pub(crate) fn cpus(n: u32) -> String {
    count(n, "CPU")
}

fn count(n: u32, thing: &str) -> String {
    if n == 1 {
        format!("1 {thing}")
    } else {
        format!("{n} {thing}s")
    }
}
