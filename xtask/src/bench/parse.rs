//! Figures from the bench guest's console: `bench | bench <name> <instructions>`.

use super::judge::Figure;

/// The figure in a line, if it carries one.
pub fn figure(line: &str) -> Option<Figure> {
    let mut words = line.strip_prefix("bench | bench ")?.split_whitespace();
    let name = words.next()?;
    let value = words.next()?.parse().ok()?;
    // More words would be another form than the one agreed on.
    words.next().is_none().then(|| Figure::new(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read() {
        assert_eq!(
            figure("bench | bench hvc_psci_version 62"),
            Some(Figure::new("hvc_psci_version", 62))
        );
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "bench | bench done",
            "bench | bench x -1",
            "bench | bench x 1 2",
            "bench | note x",
            "xdv | bench x 1",
            "bench hvc 1",
            "",
        ] {
            assert_eq!(figure(line), None, "{line}");
        }
    }
}
