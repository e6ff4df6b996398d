//! Parts of a CPU as text: `"30%"`.

use crate::quantity::Wrong;
use crate::time;

/// Reads a part of a CPU in percent: a whole number and `%`.
pub(crate) fn parse(text: &str) -> Result<u64, Wrong> {
    let wrong = |why: &str, meant: Option<String>| Wrong {
        why: why.to_owned(),
        meant,
    };
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (number, has_sign) = match plain.strip_suffix('%') {
        Some(number) => (number, true),
        None => (plain.as_str(), false),
    };
    let is_whole = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    if is_whole && has_sign && plain == text {
        let too_large = wrong("this is more than any machine has", None);
        return number.parse().map_err(|_| too_large);
    }
    if is_whole {
        let why = if has_sign {
            "there is a space in it"
        } else {
            "the percent sign is missing"
        };
        return Err(wrong(why, Some(format!("{number}%"))));
    }
    if time::parse(text).is_ok() {
        return Err(wrong(
            "this is a time: a budget is the part of each period that a lane is sure of",
            None,
        ));
    }
    match hundredths(number) {
        // Without the sign, a fraction is one of 1.
        Some(parts) if !has_sign && parts <= 100 => Err(wrong(
            "the percent sign is missing",
            Some(format!("{parts}%")),
        )),
        Some(parts) if has_sign => {
            let down = (parts / 100).max(1);
            Err(wrong(
                "only whole percents are parts",
                Some(format!("{down}%")),
            ))
        }
        _ => Err(wrong("this is not a part of a CPU", None)),
    }
}

/// `0.3` and `12.5` in hundredths, cut to two digits behind the point.
fn hundredths(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once(['.', ','])?;
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let two: String = fraction.chars().chain(['0', '0']).take(2).collect();
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(two.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read() {
        assert_eq!(parse("30%"), Ok(30));
        assert_eq!(parse("100%"), Ok(100));
        assert_eq!(parse("0%"), Ok(0));
        assert_eq!(parse("150%"), Ok(150));
    }

    #[test]
    fn what_is_meant_is_said() {
        for (text, meant) in [
            ("30", Some("30%")),
            ("30 %", Some("30%")),
            ("0.3", Some("30%")),
            ("0,25", Some("25%")),
            ("1.0", Some("100%")),
            ("12.5%", Some("12%")),
            ("0.5%", Some("1%")),
            ("1.5", None),
            ("3ms", None),
            ("half", None),
            ("%", None),
            ("", None),
            ("-5%", None),
            (".5", None),
            ("99999999999999999999%", None),
            ("99999999999999999999.5%", None),
        ] {
            let found = parse(text).expect_err(text).meant;
            assert_eq!(found.as_deref(), meant, "{text}");
        }
    }
}
