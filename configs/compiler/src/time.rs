//! Times as text: `"10ms"`, `"5s"`.

use crate::quantity::Wrong;

/// The units, and how many microseconds each has.
const UNITS: [(&str, u64); 3] = [("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// Reads a time in microseconds: a whole number and one of `us`, `ms`, `s`. Who leaves the unit out probably means
/// milliseconds.
pub(crate) fn parse(text: &str) -> Result<u64, Wrong> {
    parse_with(text, "ms")
}

/// The same where who leaves the unit out probably means seconds.
pub(crate) fn parse_long(text: &str) -> Result<u64, Wrong> {
    parse_with(text, "s")
}

fn parse_with(text: &str, missing: &str) -> Result<u64, Wrong> {
    let wrong = |why: String, meant: Option<String>| Wrong { why, meant };
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if digits.is_empty() {
        return Err(wrong("this is not a time".to_owned(), None));
    }
    if let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) {
        let micros = digits.parse::<u64>().ok();
        let micros = micros.and_then(|n| n.checked_mul(*factor));
        return micros.ok_or(wrong("this is longer than any time here".to_owned(), None));
    }
    if unit.is_empty() {
        let meant = Some(format!("{digits}{missing}"));
        return Err(wrong("the unit is missing".to_owned(), meant));
    }
    let plain: String = unit
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '_')
        .collect::<String>()
        .to_lowercase();
    if let Some(fraction) = plain.strip_prefix(['.', ',']) {
        let why = "only whole numbers are times".to_owned();
        return Err(wrong(why, whole(digits, fraction)));
    }
    let meant = unit_of(&plain).and_then(|factor| {
        let micros = digits.parse::<u64>().ok()?.checked_mul(factor)?;
        Some(written(micros))
    });
    let why = format!("`{}` is not a unit", unit.trim());
    Err(wrong(why, meant))
}

/// What people write for a unit, in microseconds.
fn unit_of(word: &str) -> Option<u64> {
    Some(match word {
        "us" | "µs" | "μs" | "usec" | "usecs" | "microseconds" => 1,
        "ms" | "msec" | "msecs" | "milliseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000,
        "h" | "hour" | "hours" => 3_600_000_000,
        _ => return None,
    })
}

/// `0` and `5s` mean `500ms`: a fraction of a unit in whole numbers of a smaller one, where that is exact.
fn whole(digits: &str, fraction: &str) -> Option<String> {
    let end = fraction.find(|c: char| !c.is_ascii_digit())?;
    let (tenths, unit) = fraction
        .split_at_checked(end)
        .filter(|(tenths, _)| (1..=6).contains(&tenths.len()))?;
    let scale = 10u64.checked_pow(u32::try_from(tenths.len()).ok()?)?;
    let scaled = digits
        .parse::<u64>()
        .ok()?
        .checked_mul(scale)?
        .checked_add(tenths.parse().ok()?)?;
    let exact = scaled.checked_mul(unit_of(unit)?)?;
    exact.is_multiple_of(scale).then(|| written(exact / scale))
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
    let (unit, factor) = UNITS
        .iter()
        .find(|(_, factor)| micros.is_multiple_of(*factor))
        .unwrap_or(&("us", 1));
    format!("{}{space}{unit}", micros / factor)
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
