//! Times as text: `"10ms"`, `"5s"`.

use crate::quantity::{Kind, Wrong};

/// In microseconds.
static TIME: Kind = Kind {
    one: "a time",
    several: "times",
    too_large: "this is longer than any time here",
    units: &[("s", 1_000_000), ("ms", 1_000), ("us", 1)],
    spoken,
};

/// Reads a time in microseconds: a whole number and one of `us`, `ms`, `s`. Who leaves the unit out probably means
/// milliseconds.
pub(crate) fn parse(text: &str) -> Result<u64, Wrong> {
    TIME.parse(text, "ms")
}

/// The same where who leaves the unit out probably means seconds.
pub(crate) fn parse_long(text: &str) -> Result<u64, Wrong> {
    TIME.parse(text, "s")
}

/// What people write for a unit, in microseconds.
fn spoken(word: &str) -> Option<u64> {
    Some(match word {
        "us" | "µs" | "μs" | "usec" | "usecs" | "microseconds" => 1,
        "ms" | "msec" | "msecs" | "milliseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000,
        "h" | "hour" | "hours" => 3_600_000_000,
        _ => return None,
    })
}

/// A time as it is written in a config: in the largest unit that says it exactly.
pub(crate) fn written(micros: u64) -> String {
    say(micros, "")
}

/// A time for a person to read.
pub(crate) fn shown(micros: u64) -> String {
    say(micros, " ")
}

fn say(micros: u64, space: &str) -> String {
    let (unit, worth) = TIME.unit(micros).unwrap_or(("us", 1));
    format!("{}{space}{unit}", micros / worth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(parse("10ms"), Ok(10_000));
        assert_eq!(parse("5s"), Ok(5_000_000));
        assert_eq!(parse("1500us"), Ok(1_500));
        assert_eq!(parse("0s"), Ok(0));
    }

    #[test]
    fn what_is_meant_is_said() {
        for (text, meant) in [
            ("10", Some("10ms")),
            ("10 ms", Some("10ms")),
            ("10MS", Some("10ms")),
            ("1000 ms", Some("1s")),
            ("5sec", Some("5s")),
            ("2m", Some("120s")),
            ("1h", Some("3600s")),
            ("0.5s", Some("500ms")),
            ("1,5 ms", Some("1500us")),
            ("0.0001ms", None),
            ("0.5", None),
            ("10µs", Some("10us")),
            ("10ns", None),
            ("ms", None),
            ("", None),
            ("-5s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615s", None),
            ("99999999999999999999h", None),
        ] {
            let found = parse(text).expect_err(text).meant;
            assert_eq!(found.as_deref(), meant, "{text}");
            assert!(found.is_none_or(|meant| parse(&meant).is_ok()), "{text}");
        }
    }

    #[test]
    fn a_missing_unit_depends_on_what_is_timed() {
        let meant = |found: Result<u64, Wrong>| found.expect_err("no unit").meant;
        assert_eq!(meant(parse("5")).as_deref(), Some("5ms"));
        assert_eq!(meant(parse_long("5")).as_deref(), Some("5s"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for micros in [0, 1, 999, 1_000, 1_500, 10_000, 1_000_000, 90_000_000] {
            assert_eq!(parse(&written(micros)), Ok(micros));
        }
        assert_eq!(shown(1_500), "1500 us");
    }
}
