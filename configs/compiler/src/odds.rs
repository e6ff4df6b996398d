//! How often something happens, as text: `"1%"`, `"50ppm"`.

use crate::quantity::{Kind, Wrong};

/// In parts per million.
static ODDS: Kind = Kind {
    one: "how often something happens",
    several: "accepted",
    too_large: "this is more often than always",
    units: &[("%", 10_000), ("ppm", 1)],
    spoken,
};

/// Reads parts per million: a whole number and `%` or `ppm`.
pub(crate) fn parse(text: &str) -> Result<u64, Wrong> {
    let parts = ODDS.parse(text, "ppm")?;
    if parts > u64::from(configs_plan::MAX_RATE) {
        let why = ODDS.too_large.to_owned();
        return Err(Wrong { why, meant: None });
    }
    Ok(parts)
}

/// What people write for a unit, in parts per million.
fn spoken(word: &str) -> Option<u64> {
    Some(match word {
        "%" | "percent" | "pct" => 10_000,
        "‰" | "permille" => 1_000,
        "ppm" => 1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_read() {
        assert_eq!(parse("1%"), Ok(10_000));
        assert_eq!(parse("100%"), Ok(1_000_000));
        assert_eq!(parse("50ppm"), Ok(50));
        for (text, meant) in [
            ("50", Some("50ppm")),
            ("0.1%", Some("1000ppm")),
            ("5‰", Some("5000ppm")),
            ("1 %", Some("1%")),
            ("101%", None),
            ("1000001ppm", None),
            ("often", None),
        ] {
            let found = parse(text).expect_err(text).meant;
            assert_eq!(found.as_deref(), meant, "{text}");
        }
    }
}
