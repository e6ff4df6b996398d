//! The figures for a person to read.

use super::baseline::Baseline;
use super::judge::Figure;
use super::rows::{self, CARRIES, ROWS, Row};
use crate::say;

/// XDV beside its limits and its peers, and what was not measured.
pub fn render(figures: &[Figure], baseline: Option<&Baseline>) -> String {
    let heading = [
        "operation",
        "XDV",
        "sysreg",
        "barrier",
        "tlb",
        "limit",
        "dream",
        "baseline",
        "bare",
        "EL2 floor",
        "best peer",
        "Xen 4.17",
        "KVM 6.1 VHE",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let figure_of = |name: &str| figures.iter().find(|figure| figure.name == name);
    lines.extend(
        ROWS.iter()
            .filter(|row| row.limit.is_some() || figure_of(row.name).is_some())
            .map(|row| line(row, figure_of(row.name), baseline)),
    );
    let unknown = figures
        .iter()
        .filter(|figure| ROWS.iter().all(|row| row.name != figure.name));
    lines.extend(unknown.map(|figure| vec![figure.name.clone(), figure.value.to_string()]));
    let mut text = say::table(&lines);
    text.push_str("Instructions (ratios to bare EL1 for Linux, bytes for the last row), loop overhead included; no speculation mitigations, as this CPU asks for none.\n");
    text.push_str("sysreg, barrier, tlb: accesses to system registers, barriers, operations on TLBs and caches that EL2 executes in one operation.\n");
    text.push_str(&carried(figures));
    text
}

/// How many bytes an instruction carries, at each size that was measured.
fn carried(figures: &[Figure]) -> String {
    let shares = CARRIES.iter().filter_map(|(name, bytes)| {
        let figure = figures.iter().find(|figure| figure.name == *name)?;
        let count = u32::try_from(figure.value).ok()?;
        let share = f64::from(*bytes) / f64::from(count.max(1));
        Some(format!("{name} {share:.2}"))
    });
    let shares: Vec<_> = shares.collect();
    if shares.is_empty() {
        return String::new();
    }
    format!("Bytes per instruction: {}.\n", shares.join(", "))
}

fn line(row: &Row, figure: Option<&Figure>, baseline: Option<&Baseline>) -> Vec<String> {
    let value = figure.map(|figure| figure.value);
    let cell = |value: Option<u64>| {
        value.map_or_else(|| "-".to_owned(), |value| rows::shown(row.name, value))
    };
    let over = value
        .zip(row.limit)
        .is_some_and(|(value, limit)| value > limit);
    let mut cells = vec![
        row.name.to_owned(),
        format!("{}{}", cell(value), if over { " !" } else { "" }),
    ];
    let work = figure.and_then(|figure| figure.work);
    cells.extend(match work {
        Some(work) => work.parts().map(|(_, count)| count.to_string()),
        None => [(); 3].map(|()| "-".to_owned()),
    });
    cells.extend([cell(row.limit), cell(row.dream)]);
    cells.push(cell(baseline.and_then(|baseline| baseline.value(row.name))));
    cells.extend(row.peers.iter().map(|peer| cell(*peer)));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::trace::Work;

    #[test]
    fn bytes_per_instruction_are_shown_of_what_was_measured() {
        let text = render(&[Figure::new("blk_read_4k", 16_384)], None);
        assert!(
            text.ends_with("Bytes per instruction: blk_read_4k 0.25.\n"),
            "{text}"
        );
        assert!(!render(&[], None).contains("Bytes per"));
    }

    #[test]
    fn every_operation_that_carries_bytes_is_a_row() {
        assert!(CARRIES.iter().all(|(name, _)| rows::named(name).is_some()));
    }

    #[test]
    fn what_is_over_its_limit_is_marked_and_what_is_missing_is_a_dash() {
        let mut figure = Figure::new("hvc_psci_version", 81);
        figure.work = Some(Work {
            sysreg: 5,
            barrier: 1,
            tlb: 0,
        });
        let text = render(&[figure], None);
        assert!(
            text.contains("hvc_psci_version          81 !  5       1        0    80"),
            "{text}"
        );
        assert!(
            text.lines()
                .any(|line| line.starts_with("smc_psci_version          -")),
            "{text}"
        );
    }
}
