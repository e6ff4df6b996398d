//! Budgets, periods, priorities and watchdogs: what each guest's keys can say, and what they come to on a CPU.

use configs_plan::{
    MAX_PERIOD_US, MAX_PRIORITY, MAX_WATCHDOG_MS, MIN_PERIOD_US, MIN_WATCHDOG_MS, Share,
};

use crate::diagnostic::Diagnostic;
use crate::place::{Cpu, Part, WHOLE};
use crate::raw::{Field, RawGuest};
use crate::time::{shown, written};

/// The period of lanes whose guest says none, in microseconds.
pub(crate) const PERIOD: u64 = 10_000;
/// The priority of lanes whose guest says none.
pub(crate) const PRIORITY: u32 = 2;
/// Periods come in steps of this, so that every percent of one is a whole number of microseconds.
const PERIOD_STEP: u64 = 100;

/// Judges what each guest says by itself.
pub(crate) fn judge(guests: &[RawGuest], found: &mut Vec<Diagnostic>) {
    for guest in guests {
        if guest.is_dedicated() {
            without_meaning(guest, found);
        }
        found.extend(guest.budget.as_ref().and_then(budget));
        found.extend(guest.period.as_ref().and_then(period));
        found.extend(guest.priority.as_ref().and_then(priority));
        found.extend(guest.watchdog.as_ref().and_then(watchdog));
    }
}

/// A lane with a CPU to itself has nobody to share its time with.
fn without_meaning(guest: &RawGuest, found: &mut Vec<Diagnostic>) {
    let keys = [
        ("budget", guest.budget.as_ref().map(|field| &field.span)),
        ("period", guest.period.as_ref().map(|field| &field.span)),
        ("priority", guest.priority.as_ref().map(|field| &field.span)),
    ];
    for (key, span) in keys {
        let (Some(span), Some(dedicated)) = (span, &guest.dedicated) else {
            continue;
        };
        let diagnostic = Diagnostic::new(format!("`{key}` means nothing for dedicated lanes"))
            .at(span.clone(), "there is nobody to divide the time with")
            .see(
                dedicated.span.clone(),
                format!("{} has its CPUs to itself", guest.called()),
            );
        found.push(diagnostic.help(format!(
            "remove the line with `{key}`, or write `lanes = {}` to share CPUs",
            guest.lanes.as_ref().map_or(1, |lanes| lanes.value)
        )));
    }
}

fn budget(field: &Field<u32>) -> Option<Diagnostic> {
    let here = || field.span.clone();
    match field.value {
        0 => Some(
            Diagnostic::new("a budget of nothing promises nothing")
                .at(here(), "no lane runs on this")
                .help("write at least \"1%\", or leave `budget` out for an equal part of what others leave"),
        ),
        1..=WHOLE => None,
        percent => Some(
            Diagnostic::new(format!("{percent} % of a CPU is more than a lane can use"))
                .at(here(), "a lane runs on one CPU at a time")
                .note("`budget` is for each lane: 2 lanes with \"80%\" have 160 % together")
                .fix("all of a CPU", here(), format!("\"{WHOLE}%\"")),
        ),
    }
}

fn period(field: &Field<u64>) -> Option<Diagnostic> {
    let here = || field.span.clone();
    let (least, most) = (u64::from(MIN_PERIOD_US), u64::from(MAX_PERIOD_US));
    let near = field.value.clamp(least, most).next_multiple_of(PERIOD_STEP);
    if near == field.value {
        return None;
    }
    let diagnostic = if (least..=most).contains(&field.value) {
        let title = format!("a period comes in steps of {}", shown(PERIOD_STEP));
        Diagnostic::new(title).at(
            here(),
            format!("{} is not a whole number of them", shown(field.value)),
        )
    } else {
        let title = format!("a period is {} to {}", shown(least), shown(most));
        let label = if field.value < least {
            "too short: switching would cost more than it gives"
        } else {
            "too long: a lane could wait for most of it"
        };
        Diagnostic::new(title).at(here(), label)
    };
    Some(diagnostic.fix("the nearest", here(), format!("\"{}\"", written(near))))
}

fn priority(field: &Field<u32>) -> Option<Diagnostic> {
    (field.value > u32::from(MAX_PRIORITY)).then(|| {
        Diagnostic::new(format!("there is no priority {}", field.value))
            .at(field.span.clone(), format!("more than {MAX_PRIORITY}"))
            .note("priorities order who gets the time that no budget promises; budgets hold at any priority")
            .help(format!(
                "write a number from 0 (last) to {MAX_PRIORITY} (first)"
            ))
    })
}

fn watchdog(field: &Field<u64>) -> Option<Diagnostic> {
    let here = || field.span.clone();
    let least = u64::from(MIN_WATCHDOG_MS).saturating_mul(1_000);
    let most = u64::from(MAX_WATCHDOG_MS).saturating_mul(1_000);
    let near = field.value.clamp(least, most).next_multiple_of(1_000);
    if near == field.value {
        return None;
    }
    if field.value == 0 {
        return Some(
            Diagnostic::new("a watchdog cannot wait for nothing")
                .at(here(), "no time at all")
                .help("leave `watchdog` out to have none"),
        );
    }
    let diagnostic = if (least..=most).contains(&field.value) {
        Diagnostic::new("a watchdog counts milliseconds").at(here(), "not a whole number of them")
    } else {
        let title = format!("a watchdog waits for {} to {}", shown(least), shown(most));
        let label = if field.value < least {
            "too short: a busy guest would be taken for a hung one"
        } else {
            "too long"
        };
        Diagnostic::new(title).at(here(), label)
    };
    Some(diagnostic.fix("the nearest", here(), format!("\"{}\"", written(near))))
}

/// What a lane has of the CPU it is on.
pub(crate) fn share(guest: &RawGuest, part: Part, cpu: &Cpu) -> Share {
    let period = guest.period.as_ref().map_or(PERIOD, |field| field.value);
    let budget = match part {
        Part::Dedicated => return Share::Dedicated,
        Part::Budget(percent) => period.saturating_mul(u64::from(percent)) / u64::from(WHOLE),
        // Rounded down, so that the parts are no more than the whole.
        Part::Rest => {
            let left = WHOLE.saturating_sub(cpu.promised);
            let parts = WHOLE.saturating_mul(cpu.rest.max(1));
            period.saturating_mul(u64::from(left)) / u64::from(parts)
        }
    };
    let priority = guest
        .priority
        .as_ref()
        .map_or(PRIORITY, |field| field.value);
    Share::Shared {
        budget_us: u32::try_from(budget).unwrap_or(u32::MAX),
        period_us: u32::try_from(period).unwrap_or(u32::MAX),
        priority: u8::try_from(priority).unwrap_or(u8::MAX),
    }
}
