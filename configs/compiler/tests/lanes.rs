//! Lanes in random machine files: what the plan says of them, against the file and a naive sum.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod fixtures;

use configs_compiler::{Diagnostics, RunOptions, compile};
use configs_plan::{LanePlan, OnCrash, Plan, Share};
use fixtures::Fixtures;
use proptest::prelude::*;

/// A guest as a person may write it.
#[derive(Clone, Debug)]
struct Written {
    lanes: u32,
    dedicated: bool,
    budget: Option<u32>,
    period_ms: Option<u32>,
    priority: Option<u8>,
    on_crash: Option<&'static str>,
    watchdog_ms: Option<u32>,
}

fn any_guest() -> impl Strategy<Value = Written> {
    let words = prop::sample::select(vec!["stop", "restart", "hold"]);
    let shared = (
        1u32..=8,
        prop::option::of(prop_oneof![1u32..=100, 1u32..=25]),
        prop::option::of(prop_oneof![Just(1u32), Just(7), 1u32..=1000]),
        prop::option::of(0u8..=4),
    );
    let life = (
        prop::option::of(words),
        prop::option::of(100u32..=3_600_000),
    );
    (shared, life, prop::bool::weighted(0.2)).prop_map(|(shared, life, dedicated)| {
        let (lanes, budget, period_ms, priority) = shared;
        Written {
            lanes,
            dedicated,
            budget: budget.filter(|_| !dedicated),
            period_ms: period_ms.filter(|_| !dedicated),
            priority: priority.filter(|_| !dedicated),
            on_crash: life.0,
            watchdog_ms: life.1,
        }
    })
}

fn text(guests: &[Written], cpus: Option<u32>) -> String {
    let mut text = String::new();
    if let Some(cpus) = cpus {
        text += &format!("[machine]\ncpus = {cpus}\n");
    }
    for (nth, guest) in guests.iter().enumerate() {
        text +=
            &format!("[[guest]]\nname = \"g{nth}\"\nkernel = \"guest-kernel\"\nmemory = \"4M\"\n");
        text += &match guest.dedicated {
            true => format!("lanes = {{ count = {}, dedicated = true }}\n", guest.lanes),
            false => format!("lanes = {}\n", guest.lanes),
        };
        let line = |key: &str, value: Option<String>| {
            value.map_or(String::new(), |value| format!("{key} = {value}\n"))
        };
        text += &line("budget", guest.budget.map(|n| format!("\"{n}%\"")));
        text += &line("period", guest.period_ms.map(|n| format!("\"{n}ms\"")));
        text += &line("priority", guest.priority.map(|n| n.to_string()));
        text += &line("on_crash", guest.on_crash.map(|word| format!("\"{word}\"")));
        text += &line("watchdog", guest.watchdog_ms.map(|n| format!("\"{n}ms\"")));
    }
    text
}

fn compiled(text: &str) -> Result<Vec<u8>, Diagnostics> {
    let environment = Fixtures::default();
    let compiled = compile("t", text.as_bytes(), &environment, &RunOptions::default())?;
    Ok(compiled.plan().to_vec())
}

/// Budget and period.
fn parts(share: Share) -> Option<(u32, u32)> {
    match share {
        Share::Dedicated => None,
        Share::Shared {
            budget_us,
            period_us,
            ..
        } => Some((budget_us, period_us)),
    }
}

/// What is promised on a CPU is at most all of it, over the common multiple of the periods.
fn is_kept(lanes: &[LanePlan]) -> bool {
    let shares: Option<Vec<_>> = lanes.iter().map(|lane| parts(lane.share)).collect();
    let Some(shares) = shares else {
        return lanes.len() == 1;
    };
    let (mut over, mut under) = (0u128, 1u128);
    for (budget, period) in shares {
        let (mut a, mut b) = (under, u128::from(period));
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let common = under / a * u128::from(period);
        over = over * (common / under) + u128::from(budget) * (common / u128::from(period));
        under = common;
    }
    over <= under
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The plan says what the file says, and promises no CPU more than once.
    #[test]
    fn plans_promise_what_files_ask_for(
        guests in prop::collection::vec(any_guest(), 1..6),
        cpus in prop::option::of(1u32..=16),
    ) {
        let text = text(&guests, cpus);
        let plan = match compiled(&text) {
            Ok(plan) => plan,
            Err(refused) => {
                let words = refused.to_string();
                prop_assert!(!words.contains("fault of XDV"), "{}\n{}", text, words);
                prop_assert!(cpus.is_some(), "some machine is large enough\n{}\n{}", text, words);
                return Ok(());
            }
        };
        let plan = Plan::decode(&plan).expect("EL2 takes it");
        prop_assert!(cpus.is_none_or(|cpus| plan.cpus() <= cpus));
        let all: Vec<LanePlan> = plan.guests().flat_map(|guest| guest.lanes()).collect();
        for cpu in 0..plan.cpus() {
            let here: Vec<_> = all.iter().filter(|lane| lane.cpu == cpu).copied().collect();
            prop_assert!(is_kept(&here), "{:?}", here);
        }
        for (guest, written) in plan.guests().zip(&guests) {
            prop_assert_eq!(guest.lanes().count(), usize::try_from(written.lanes).expect("few"));
            for lane in guest.lanes() {
                let Share::Shared { budget_us, period_us, priority } = lane.share else {
                    prop_assert!(written.dedicated);
                    continue;
                };
                prop_assert!(!written.dedicated);
                prop_assert_eq!(period_us, written.period_ms.unwrap_or(10) * 1000);
                prop_assert_eq!(priority, written.priority.unwrap_or(2));
                match written.budget {
                    Some(percent) => prop_assert_eq!(budget_us * 100, period_us * percent),
                    None => prop_assert!(budget_us * 100 >= period_us, "at least one percent"),
                }
            }
            let on_crash = match written.on_crash {
                Some("restart") => OnCrash::Restart,
                Some("hold") => OnCrash::Hold,
                _ => OnCrash::Stop,
            };
            prop_assert_eq!(guest.on_crash(), on_crash);
            prop_assert_eq!(guest.watchdog_ms(), written.watchdog_ms);
        }
    }
}

/// Lanes without a budget divide what is left, and all of it.
#[test]
fn what_budgets_leave_is_divided_equally() {
    let guest = |name: &str, more: &str| {
        format!(
            "[[guest]]\nname = \"{name}\"\nkernel = \"guest-kernel\"\nmemory = \"4M\"\nlanes = 1\n{more}"
        )
    };
    let text = format!(
        "[machine]\ncpus = 1\n{}{}{}{}",
        guest("a", "budget = \"10%\"\n"),
        guest("b", ""),
        guest("c", "period = \"1ms\"\n"),
        guest("d", ""),
    );
    let plan = compiled(&text).expect("it fits");
    let plan = Plan::decode(&plan).expect("EL2 takes it");
    let parts: Vec<_> = plan
        .guests()
        .flat_map(|guest| guest.lanes())
        .map(|lane| parts(lane.share))
        .collect();
    let expected = [
        (1_000, 10_000),
        (3_000, 10_000),
        (300, 1_000),
        (3_000, 10_000),
    ];
    assert_eq!(parts, expected.map(Some));
}
