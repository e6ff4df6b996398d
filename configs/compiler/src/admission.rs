//! Explains why lanes find no CPU: who has what, and what to change.

use crate::cpus::{Limit, count, cpus};
use crate::diagnostic::Diagnostic;
use crate::place::{self, Cpu, Failure, Part, WHOLE, Want};
use crate::raw::RawGuest;

/// CPUs shown at most.
const MOST_SHOWN: usize = 4;

/// What to say about the lane that found no CPU.
pub(crate) fn explain(
    guests: &[RawGuest],
    wants: &[Want],
    failure: &Failure,
    limit: &Limit,
) -> Diagnostic {
    let case = Case {
        guests,
        wants,
        failure,
        limit,
    };
    let Some(want) = wants.get(failure.lane) else {
        return Diagnostic::new("the lanes do not fit on the CPUs");
    };
    let is_shared = failure.cpus.iter().any(|cpu| !cpu.is_dedicated);
    match (want.part, want.cpu) {
        (Part::Dedicated, _) => case.too_many_dedicated(),
        (Part::Budget(_) | Part::Rest, Some(cpu)) => case.named_is_full(want, cpu),
        (Part::Budget(_) | Part::Rest, None) if !is_shared => case.none_left(want),
        (Part::Budget(percent), None) => case.full(want, percent),
        (Part::Rest, None) => case.nothing_left(want),
    }
}

struct Case<'c> {
    guests: &'c [RawGuest],
    wants: &'c [Want],
    failure: &'c Failure,
    limit: &'c Limit,
}

impl Case<'_> {
    /// More dedicated lanes than CPUs.
    fn too_many_dedicated(&self) -> Diagnostic {
        let there = u32::try_from(self.failure.cpus.len()).unwrap_or(u32::MAX);
        let named = |cpu: &&Cpu| !cpu.is_dedicated && !cpu.lanes.is_empty();
        let shared = self.failure.cpus.iter().filter(named).count();
        let room = there.saturating_sub(u32::try_from(shared).unwrap_or(u32::MAX));
        let all = self
            .wants
            .iter()
            .filter(|want| want.part == Part::Dedicated);
        let all = u32::try_from(all.count()).unwrap_or(u32::MAX);
        let (lanes, verb) = (
            count(all, "dedicated lane"),
            if all == 1 { "does" } else { "do" },
        );
        let left = if room == there {
            cpus(there)
        } else {
            format!("the {} that nobody has named", cpus(room))
        };
        let mut diagnostic = Diagnostic::new(format!("{lanes} {verb} not fit on {left}"));
        let (mut total, mut over) = (0u32, 1);
        for guest in self.guests {
            let Some(lanes) = &guest.lanes else { continue };
            if !guest.is_dedicated() {
                if let Some(cpus) = &guest.cpus {
                    let label = format!("named by {}", guest.called());
                    diagnostic = diagnostic.see(cpus.span.clone(), label);
                }
                continue;
            }
            let had_room = total <= room;
            total = total.saturating_add(lanes.value);
            let label = format!("{} has {}", guest.called(), count(lanes.value, "lane"));
            // The guest that goes over the edge is the place to look at; the others explain it.
            diagnostic = if had_room && total > room {
                over = lanes.value;
                let label = format!("{label}: one CPU each makes {total} in all");
                diagnostic.at(lanes.span.clone(), label)
            } else {
                diagnostic.see(lanes.span.clone(), label)
            };
        }
        let change = format!("let lanes share CPUs: `lanes = {over}`");
        self.bigger(diagnostic, &change, &change)
    }

    /// Dedicated lanes have all CPUs.
    fn none_left(&self, want: &Want) -> Diagnostic {
        let mut diagnostic = Diagnostic::new("no CPU is left for lanes that share");
        for guest in self.guests {
            let Some(lanes) = &guest.lanes else { continue };
            if guest.is_dedicated() {
                let label = format!("{} has {} to itself", guest.called(), cpus(lanes.value));
                diagnostic = diagnostic.see(lanes.span.clone(), label);
            }
        }
        if let Some(guest) = self.guests.get(want.guest)
            && let Some(lanes) = &guest.lanes
        {
            let label = format!("{} has nowhere to run", guest.called());
            diagnostic = diagnostic.at(lanes.span.clone(), label);
        }
        self.bigger(
            diagnostic,
            "have fewer dedicated lanes",
            "have fewer dedicated lanes",
        )
    }

    /// A CPU that is named for more than there is of it.
    fn named_is_full(&self, want: &Want, cpu: u32) -> Diagnostic {
        let mut promised = 0u32;
        let mut diagnostics = Vec::new();
        for other in self.wants.iter().filter(|other| other.cpu == Some(cpu)) {
            promised = promised.saturating_add(percent(other.part));
            diagnostics.push(other);
        }
        let mut diagnostic = Diagnostic::new(format!(
            "CPU {cpu} is named for lanes that want {promised} % of it"
        ));
        // The last lane of the failing guest that names it is the place to look at; one mark a guest is enough.
        let mut marked = Vec::new();
        for other in diagnostics {
            let Some(guest) = self.guests.get(other.guest) else {
                continue;
            };
            if marked.contains(&other.guest) {
                continue;
            }
            marked.push(other.guest);
            let same = self
                .wants
                .iter()
                .filter(|w| w.guest == other.guest && w.cpu == Some(cpu));
            let lanes = u32::try_from(same.count()).unwrap_or(u32::MAX);
            let label = format!("{}: {}", guest.called(), wanted(other.part, lanes));
            let mut spans = guest.cpus.iter().flat_map(|cpus| &cpus.value).rev();
            let Some(field) = spans.find(|field| field.value == cpu) else {
                continue;
            };
            diagnostic = if other.guest == want.guest {
                diagnostic.at(field.span.clone(), label)
            } else {
                diagnostic.see(field.span.clone(), label)
            };
        }
        diagnostic.help("lower a budget, name another CPU, or leave `cpus` out to have CPUs chosen")
    }

    /// No CPU has as much left as a budget wants.
    fn full(&self, want: &Want, percent: u32) -> Diagnostic {
        let there = u32::try_from(self.failure.cpus.len()).unwrap_or(u32::MAX);
        let title = format!("these budgets do not fit on {}", cpus(there));
        let mut diagnostic = self.budgets(Diagnostic::new(title), Some(want));
        if let Some(guest) = self.guests.get(want.guest)
            && let Some(budget) = &guest.budget
        {
            let lanes = guest.lanes.as_ref().map_or(1, |lanes| lanes.value);
            let whom = match lanes {
                1 => "it".to_owned(),
                _ => format!("lane {}", self.number(want.guest)),
            };
            let wanted = wanted(want.part, lanes);
            let label = format!(
                "{}: {wanted}, and no CPU has {percent} % left for {whom}",
                guest.called()
            );
            diagnostic = diagnostic.at(budget.span.clone(), label);
        }
        let lower = (1..percent)
            .rev()
            .find(|less| self.fits_with(want.guest, *less));
        let name = self
            .guests
            .get(want.guest)
            .map_or(String::new(), RawGuest::called);
        let change = match lower {
            Some(less) => format!("write `budget = \"{less}%\"` for {name}, or less for others"),
            None => "lower the budgets".to_owned(),
        };
        self.bigger(self.figures(diagnostic), &change, &change)
    }

    /// Not one percent is left for a lane without a budget.
    fn nothing_left(&self, want: &Want) -> Diagnostic {
        let guest = self.guests.get(want.guest);
        let name = guest.map_or(String::new(), RawGuest::called);
        let title = format!("the budgets leave nothing for {name}");
        let mut diagnostic = self.budgets(Diagnostic::new(title), None);
        if let Some(lanes) = guest.and_then(|guest| guest.lanes.as_ref()) {
            let label = match lanes.value {
                1 => "its lane".to_owned(),
                _ => format!("its lane {}", self.number(want.guest)),
            };
            let label = format!("{label} has no budget, and needs at least 1 % of a CPU");
            diagnostic = diagnostic.at(lanes.span.clone(), label);
        }
        // The largest budget is the one to take from.
        let largest = self
            .guests
            .iter()
            .enumerate()
            .filter_map(|(nth, guest)| Some((guest.budget.as_ref()?.value, nth)))
            .max_by_key(|(percent, nth)| (*percent, std::cmp::Reverse(*nth)));
        let lower = largest.and_then(|(percent, nth)| {
            let less = (1..percent).rev().find(|less| self.fits_with(nth, *less))?;
            let name = self.guests.get(nth)?.called();
            Some(format!(
                "leave something: `budget = \"{less}%\"` for {name} would do"
            ))
        });
        let change = lower.unwrap_or("lower the budgets, or have fewer lanes".to_owned());
        self.bigger(self.figures(diagnostic), &change, &change)
    }

    /// Points at all budgets but those of one guest.
    fn budgets(&self, mut diagnostic: Diagnostic, but: Option<&Want>) -> Diagnostic {
        for (nth, guest) in self.guests.iter().enumerate() {
            let (Some(budget), Some(lanes)) = (&guest.budget, &guest.lanes) else {
                continue;
            };
            if but.is_none_or(|but| but.guest != nth) {
                let label = wanted(Part::Budget(budget.value), lanes.value);
                let label = format!("{}: {label}", guest.called());
                diagnostic = diagnostic.see(budget.span.clone(), label);
            }
        }
        diagnostic
    }

    /// Who has how much of which CPU, those with most room first.
    fn figures(&self, diagnostic: Diagnostic) -> Diagnostic {
        let mut order: Vec<(usize, &Cpu)> = self.failure.cpus.iter().enumerate().collect();
        order.sort_by_key(|(nth, cpu)| (std::cmp::Reverse(cpu.room()), *nth));
        let mut shown: Vec<_> = order.iter().take(MOST_SHOWN).collect();
        shown.sort_by_key(|(nth, _)| *nth);
        let mut diagnostic = shown
            .into_iter()
            .fold(diagnostic, |diagnostic, (nth, cpu)| {
                diagnostic.note(format!("CPU {nth}: {}", self.figure(cpu)))
            });
        if let Some(more) = order
            .len()
            .checked_sub(MOST_SHOWN)
            .filter(|more| *more != 0)
        {
            diagnostic = diagnostic.note(format!("the other {more} CPUs have no more left"));
        }
        diagnostic
    }

    fn figure(&self, cpu: &Cpu) -> String {
        let mut parts: Vec<(usize, Part, u32)> = Vec::new();
        for want in cpu.lanes.iter().filter_map(|lane| self.wants.get(*lane)) {
            match parts.iter_mut().find(|(guest, _, _)| *guest == want.guest) {
                Some((_, _, lanes)) => *lanes = lanes.saturating_add(1),
                None => parts.push((want.guest, want.part, 1)),
            }
        }
        let mut words: Vec<String> = parts
            .into_iter()
            .map(|(guest, part, lanes)| {
                let name = self
                    .guests
                    .get(guest)
                    .map_or(String::new(), RawGuest::called);
                let percent = percent(part).saturating_mul(lanes);
                format!("{name} has {percent} %")
            })
            .collect();
        words.push(format!("{} % left", cpu.room()));
        words.join(", ")
    }

    /// The number of the lane that failed, within its guest.
    fn number(&self, guest: usize) -> usize {
        let before = self.wants.iter().take(self.failure.lane);
        before.filter(|want| want.guest == guest).count()
    }

    /// Whether all would fit if this guest's budget were another.
    fn fits_with(&self, guest: usize, percent: u32) -> bool {
        let mut wants = self.wants.to_vec();
        for want in wants.iter_mut().filter(|want| want.guest == guest) {
            want.part = Part::Budget(percent);
        }
        let there = u32::try_from(self.failure.cpus.len()).unwrap_or(u32::MAX);
        place::on(&wants, there).is_ok()
    }

    /// Ends with what to do: a bigger machine where there can be one, or `change`; `only` where there cannot.
    fn bigger(&self, diagnostic: Diagnostic, change: &str, only: &str) -> Diagnostic {
        let diagnostic = self.limit.show(diagnostic);
        let needed = place::smallest(self.wants, 1);
        diagnostic.help(match needed.and_then(|needed| self.limit.raise(needed)) {
            Some(raise) => format!("{raise}, or {change}"),
            None => only.to_owned(),
        })
    }
}

/// At least how much of a CPU this is.
fn percent(part: Part) -> u32 {
    match part {
        Part::Dedicated => WHOLE,
        Part::Budget(percent) => percent,
        Part::Rest => 1,
    }
}

/// "60 % for each of 2 lanes".
fn wanted(part: Part, lanes: u32) -> String {
    let at_least = if part == Part::Rest { "at least " } else { "" };
    let percent = percent(part);
    if lanes == 1 {
        format!("{at_least}{percent} %")
    } else {
        format!("{at_least}{percent} % for each of {lanes} lanes")
    }
}
