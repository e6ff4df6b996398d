//! Whether figures are within their limits and no worse than the baseline.

use std::fmt;

use serde_json::{Map, Value, json};

use super::baseline::Baseline;
use super::rows::{self, Needs, ROWS, Unit};
use super::trace::Work;
use crate::say;

/// A figure may grow by so many percent over the baseline.
const GROWTH: u64 = 2;
/// The same for an I/O of a whole Linux.
const GROWTH_IO: u64 = 8;

/// One measured figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The operation.
    pub name: String,
    /// Instructions, bytes or ten-thousandths, as the row counts.
    pub value: u64,
    /// Of a ratio: the instructions under XDV, and without.
    pub of: Option<(u64, u64)>,
    /// Of an operation: what EL2 does in it besides.
    pub work: Option<Work>,
}

impl Figure {
    /// A count.
    pub fn new(name: &str, value: u64) -> Self {
        Self {
            name: name.to_owned(),
            value,
            of: None,
            work: None,
        }
    }

    /// Takes over what was seen of it in a traced machine.
    pub fn traced_as(&mut self, traced: &[Self]) {
        let Some(traced) = traced.iter().find(|traced| traced.name == self.name) else {
            return;
        };
        self.work = traced.work;
        if self.value.abs_diff(traced.value) > self.value / 4 {
            say::note(&format!(
                "{}: {}, but {} where it is traced; its sysreg, barrier and tlb may be of another path",
                self.name, self.value, traced.value
            ));
        }
    }

    /// A ratio, rounded up to ten-thousandths.
    pub fn ratio(name: &str, under_xdv: u64, bare: u64) -> Self {
        let exact = (u128::from(under_xdv) * u128::from(rows::WHOLE)).div_ceil(bare.max(1).into());
        Self {
            name: name.to_owned(),
            value: u64::try_from(exact).unwrap_or(u64::MAX),
            of: Some((under_xdv, bare)),
            work: None,
        }
    }
}

/// Which rows a run can measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Those that need interrupts or a second CPU.
    pub interrupts: bool,
    /// Those that need Debian's kernel.
    pub linux: bool,
    /// Those that need virtio devices besides.
    pub virtio: bool,
}

impl Scope {
    /// All of them.
    pub const ALL: Self = Self {
        interrupts: true,
        linux: true,
        virtio: true,
    };

    fn has(self, name: &str) -> bool {
        rows::named(name).is_some_and(|row| match row.needs {
            Needs::OneCpu => true,
            Needs::Interrupts => self.interrupts,
            Needs::Linux => self.linux,
            Needs::Virtio => self.virtio,
        })
    }
}

/// What there is to say of a figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Over the limit: name, figure, limit.
    OverLimit(String, u64, u64),
    /// Grown over the baseline: name, figure, baseline.
    Grown(String, u64, u64),
    /// In the baseline but not measured.
    Vanished(String),
    /// Better than the baseline by more than it may grow.
    Better(String),
}

impl Verdict {
    /// Whether it fails the bench.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Better(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverLimit(name, value, limit) => {
                let [value, limit] = [value, limit].map(|one| rows::shown(name, *one));
                write!(f, "{name}: {value} is over its limit of {limit}")
            }
            Self::Grown(name, value, before) => {
                let growth = growth(name);
                let [value, before] = [value, before].map(|one| rows::shown(name, *one));
                write!(
                    f,
                    "{name}: {value} is more than {growth} % over the baseline of {before}"
                )
            }
            Self::Vanished(name) => write!(f, "{name}: in the baseline, but not measured"),
            Self::Better(name) => write!(
                f,
                "{name}: better than the baseline; `cargo xtask bench --update-baseline` keeps it so"
            ),
        }
    }
}

/// The figures in the order of the yardstick; those it does not know come last, and only where nothing is left out.
pub fn known(mut figures: Vec<Figure>, scope: Scope) -> Vec<Figure> {
    let place = |figure: &Figure| {
        ROWS.iter()
            .position(|row| row.name == figure.name)
            .unwrap_or(ROWS.len())
    };
    figures.retain(|figure| scope.interrupts || scope.has(&figure.name));
    figures.sort_by_key(place);
    figures
}

/// Judges figures.
pub fn all(figures: &[Figure], baseline: Option<&Baseline>, scope: Scope) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for figure in figures {
        let limit = rows::named(&figure.name).and_then(|row| row.limit);
        let (name, value) = (figure.name.clone(), figure.value);
        if let Some(limit) = limit.filter(|limit| value > *limit) {
            verdicts.push(Verdict::OverLimit(name, value, limit));
        }
        let Some(before) = baseline.and_then(|baseline| baseline.value(&figure.name)) else {
            continue;
        };
        let growth = growth(&figure.name);
        if grown_by(growth, before, figure.value) {
            verdicts.push(Verdict::Grown(figure.name.clone(), figure.value, before));
        } else if grown_by(growth, figure.value, before) {
            verdicts.push(Verdict::Better(figure.name.clone()));
        }
    }
    if let Some(baseline) = baseline {
        let traced = figures.iter().filter(|_| scope.interrupts);
        verdicts.extend(traced.flat_map(|figure| work(figure, baseline)));
    }
    let promised = baseline
        .into_iter()
        .flat_map(Baseline::names)
        .filter(|name| scope == Scope::ALL || scope.has(name));
    verdicts.extend(
        promised
            .filter(|name| figures.iter().all(|figure| figure.name != **name))
            .map(|name| Verdict::Vanished(name.clone())),
    );
    verdicts
}

/// Judges figures of the EL2 with virtio: by the limits alone, which it has in common with the one without.
pub fn with_virtio(figures: &[Figure]) -> Vec<Verdict> {
    let over = figures.iter().filter_map(|figure| {
        let limit = rows::named(&figure.name)?.limit?;
        let name = format!("{}, on the EL2 with virtio", figure.name);
        (figure.value > limit).then_some(Verdict::OverLimit(name, figure.value, limit))
    });
    over.collect()
}

/// Judges what EL2 does in an operation besides executing instructions.
fn work(figure: &Figure, baseline: &Baseline) -> Vec<Verdict> {
    let Some(before) = baseline.work(&figure.name) else {
        return Vec::new();
    };
    let Some(now) = figure.work else {
        return vec![Verdict::Vanished(format!("{}, traced", figure.name))];
    };
    let parts = now.parts().into_iter().zip(before.parts());
    let judged = parts.filter_map(|((part, now), (_, before))| {
        let name = format!("{}, {part}", figure.name);
        if grown(before, now) {
            Some(Verdict::Grown(name, now, before))
        } else {
            grown(now, before).then_some(Verdict::Better(name))
        }
    });
    judged.collect()
}

fn grown(before: u64, after: u64) -> bool {
    grown_by(GROWTH, before, after)
}

fn grown_by(percent: u64, before: u64, after: u64) -> bool {
    u128::from(after) * 100 > u128::from(before) * u128::from(100 + percent)
}

/// By how many percent a figure may grow.
fn growth(name: &str) -> u64 {
    let is_io = rows::named(name).is_some_and(|row| row.needs == Needs::Virtio);
    if is_io { GROWTH_IO } else { GROWTH }
}

/// The figures as `bench --json` prints them.
pub fn json(figures: &[Figure], qemu: &str, cpu: &str) -> Value {
    let ops: Vec<Value> = figures.iter().map(one).collect();
    json!({"qemu": qemu, "cpu": cpu, "ops": ops})
}

fn one(figure: &Figure) -> Value {
    let row = rows::named(&figure.name);
    let limit = row.and_then(|row| row.limit);
    match row.map_or(Unit::Count, |row| row.unit) {
        Unit::Count => {
            let mut op = Map::new();
            op.insert("name".to_owned(), json!(figure.name));
            op.insert("instructions".to_owned(), json!(figure.value));
            op.insert("limit".to_owned(), json!(limit));
            for (part, count) in figure.work.iter().flat_map(Work::parts) {
                op.insert(part.to_owned(), json!(count));
            }
            Value::Object(op)
        }
        Unit::Ratio => {
            let (under_xdv, bare) = figure.of.unzip();
            json!({
                "name": figure.name, "ratio": rows::fraction(figure.value), "limit": limit.map(rows::fraction),
                "instructions": under_xdv, "bare_instructions": bare,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Scope = Scope {
        interrupts: false,
        linux: false,
        virtio: false,
    };

    fn figures(list: &[(&str, u64)]) -> Vec<Figure> {
        list.iter()
            .map(|(name, value)| Figure::new(name, *value))
            .collect()
    }

    fn judged(now: &[(&str, u64)], before: &[(&str, u64)]) -> Vec<Verdict> {
        all(
            &figures(now),
            Some(&Baseline::of(&figures(before), "10.0.2", "cortex-a57")),
            Scope::ALL,
        )
    }

    #[test]
    fn the_el2_with_virtio_has_the_same_limits() {
        let seen = figures(&[("gicr_typer_read", 115), ("sgi_write", 131), ("unknown", 1)]);
        let verdicts = with_virtio(&seen);
        assert_eq!(
            verdicts,
            [Verdict::OverLimit(
                "sgi_write, on the EL2 with virtio".to_owned(),
                131,
                130
            )]
        );
        assert!(verdicts.iter().all(Verdict::is_failure));
    }

    #[test]
    fn two_percent_is_the_border() {
        assert_eq!(
            judged(&[("scrub_per_mib", 1020)], &[("scrub_per_mib", 1000)]),
            []
        );
        assert_eq!(
            judged(&[("scrub_per_mib", 1021)], &[("scrub_per_mib", 1000)]),
            [Verdict::Grown("scrub_per_mib".to_owned(), 1021, 1000)]
        );
        assert_eq!(
            judged(&[("scrub_per_mib", 900)], &[("scrub_per_mib", 1000)]),
            [Verdict::Better("scrub_per_mib".to_owned())]
        );
    }

    #[test]
    fn the_limit_holds_without_a_baseline() {
        assert_eq!(
            all(&figures(&[("hvc_psci_version", 80)]), None, Scope::ALL),
            []
        );
        assert_eq!(
            all(&figures(&[("hvc_psci_version", 81)]), None, Scope::ALL),
            [Verdict::OverLimit("hvc_psci_version".to_owned(), 81, 80)]
        );
    }

    #[test]
    fn a_row_cannot_vanish_except_where_it_is_not_measured() {
        let before = Baseline::of(&figures(&[("timer_irq_wfi", 50)]), "10.0.2", "c");
        assert_eq!(
            all(&[], Some(&before), Scope::ALL),
            [Verdict::Vanished("timer_irq_wfi".to_owned())]
        );
        assert_eq!(all(&[], Some(&before), SYNC), []);
    }

    #[test]
    fn rows_come_in_the_order_of_the_yardstick() {
        let sorted = known(
            figures(&[
                ("new_row", 1),
                ("eoi", 4),
                ("ipi_wfi_oneway", 9),
                ("hvc_psci_version", 60),
            ]),
            Scope::ALL,
        );
        assert_eq!(
            sorted
                .iter()
                .map(|figure| figure.name.as_str())
                .collect::<Vec<_>>(),
            ["hvc_psci_version", "ipi_wfi_oneway", "eoi", "new_row"]
        );
        assert_eq!(
            known(figures(&[("ipi_wfi_oneway", 9), ("eoi", 4)]), SYNC).len(),
            1
        );
    }

    #[test]
    fn a_ratio_is_judged_and_shown_as_one() {
        let figure = |xdv| Figure::ratio(rows::LINUX, xdv, 1_000_000);
        assert_eq!(figure(1_000_001).value, 10_001);
        assert_eq!(all(&[figure(1_002_000)], None, Scope::ALL), []);
        let over = all(&[figure(1_002_001)], None, Scope::ALL);
        assert_eq!(
            over.iter().map(Verdict::to_string).collect::<Vec<_>>(),
            ["linux_to_init: 1.0021 is over its limit of 1.0020"]
        );
        assert_eq!(
            json(&[figure(1_000_500)], "10.0.2", "c")["ops"].to_string(),
            r#"[{"bare_instructions":1000000,"instructions":1000500,"limit":1.002,"name":"linux_to_init","ratio":1.0005}]"#
        );
    }

    #[test]
    fn without_debian_s_kernel_only_its_rows_may_be_missing() {
        let before = Baseline::of(
            &figures(&[(rows::LINUX, 10_006), ("eoi", 4)]),
            "10.0.2",
            "c",
        );
        let scope = Scope {
            linux: false,
            ..Scope::ALL
        };
        assert_eq!(all(&figures(&[("eoi", 4)]), Some(&before), scope), []);
        assert_eq!(
            all(&figures(&[("eoi", 4)]), Some(&before), Scope::ALL),
            [Verdict::Vanished(rows::LINUX.to_owned())]
        );
    }

    #[test]
    fn one_barrier_more_is_too_many() {
        let traced = |sysreg, barrier| {
            let mut figure = Figure::new("sgi_write", 114);
            figure.work = Some(Work {
                sysreg,
                barrier,
                tlb: 0,
            });
            figure
        };
        let before = Baseline::of(&[traced(90, 2)], "10.0.2", "c");
        let judged = |now: Figure, scope| all(&[now], Some(&before), scope);
        assert_eq!(judged(traced(91, 2), Scope::ALL), []);
        let grown = Verdict::Grown("sgi_write, barrier".to_owned(), 3, 2);
        assert_eq!(judged(traced(90, 3), Scope::ALL), [grown]);
        let better = Verdict::Better("sgi_write, barrier".to_owned());
        assert_eq!(judged(traced(90, 1), Scope::ALL), [better]);
        let vanished = Verdict::Vanished("sgi_write, traced".to_owned());
        let untraced = Figure::new("sgi_write", 114);
        assert_eq!(judged(untraced.clone(), Scope::ALL), [vanished]);
        assert_eq!(judged(untraced, SYNC), []);
        assert_eq!(
            json(&[traced(90, 2)], "10.0.2", "c")["ops"].to_string(),
            r#"[{"barrier":2,"instructions":114,"limit":130,"name":"sgi_write","sysreg":90,"tlb":0}]"#
        );
    }

    #[test]
    fn the_json_has_the_agreed_form() {
        let value = json(
            &figures(&[("hvc_psci_version", 62), ("declined_read", 70)]),
            "10.0.2",
            "cortex-a57",
        );
        assert_eq!(
            value.to_string(),
            r#"{"cpu":"cortex-a57","ops":[{"instructions":62,"limit":80,"name":"hvc_psci_version"},{"instructions":70,"limit":null,"name":"declined_read"}],"qemu":"10.0.2"}"#
        );
    }
}
