//! Sizes of memory as text: `"64M"`, `"1G"`.

/// What is wrong with a size, and what was perhaps meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What is wrong: follows "`memory` …" in a message's label.
    pub(crate) why: String,
    /// How it is written right, where that is clear.
    pub(crate) meant: Option<String>,
}

const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// Reads a size: a whole number and one of `K`, `M`, `G`.
pub(crate) fn parse(text: &str) -> Result<u64, Wrong> {
    let wrong = |why: &str, meant: Option<String>| Wrong {
        why: why.to_owned(),
        meant,
    };
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if digits.is_empty() {
        let negative =
            text.starts_with('-') && text.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
        return Err(wrong(
            if negative {
                "a size cannot be negative"
            } else {
                "this is not a size"
            },
            None,
        ));
    }
    let Some((_, factor)) = UNITS
        .iter()
        .find(|(letter, _)| unit.strip_prefix(*letter) == Some(""))
    else {
        return Err(wrong_unit(digits, unit));
    };
    let too_large = || wrong("this is more than any machine has", None);
    digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(*factor))
        .ok_or_else(too_large)
}

/// What is wrong with digits that are not followed by exactly one unit.
fn wrong_unit(digits: &str, unit: &str) -> Wrong {
    if unit.is_empty() {
        return Wrong {
            why: "the unit is missing".to_owned(),
            meant: Some(format!("{digits}M")),
        };
    }
    let plain: String = unit
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '_')
        .collect::<String>()
        .to_lowercase();
    if let Some(fraction) = plain.strip_prefix('.').or(plain.strip_prefix(',')) {
        return Wrong {
            why: "only whole numbers are sizes".to_owned(),
            meant: whole(digits, fraction),
        };
    }
    let meant = match plain.as_str() {
        "k" | "kb" | "kib" => Some(format!("{digits}K")),
        "m" | "mb" | "mib" => Some(format!("{digits}M")),
        "g" | "gb" | "gib" => Some(format!("{digits}G")),
        "t" | "tb" | "tib" => digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(1024))
            .map(|n| format!("{n}G")),
        _ => None,
    };
    Wrong {
        why: format!("`{}` is not a unit", unit.trim()),
        meant,
    }
}

/// `1` and `5g` mean `1536M`: a fraction of one unit in whole numbers of the next, where that is exact.
fn whole(digits: &str, fraction: &str) -> Option<String> {
    let end = fraction.find(|c: char| !c.is_ascii_digit())?;
    let (tenths, unit) = fraction
        .split_at_checked(end)
        .filter(|(tenths, _)| (1..=3).contains(&tenths.len()))?;
    let (factor, next) = match unit.chars().next()? {
        'g' => (1024u64, 'M'),
        'm' => (1024, 'K'),
        _ => return None,
    };
    let scale = 10u64.checked_pow(u32::try_from(tenths.len()).ok()?)?;
    let scaled = digits
        .parse::<u64>()
        .ok()?
        .checked_mul(scale)?
        .checked_add(tenths.parse().ok()?)?;
    let exact = scaled.checked_mul(factor)?;
    exact
        .is_multiple_of(scale)
        .then(|| format!("{}{next}", exact / scale))
}

/// A size as it is written in a config: in the largest unit that says it exactly.
pub(crate) fn written(bytes: u64) -> String {
    match UNITS.iter().find(|(_, unit)| bytes.is_multiple_of(*unit)) {
        Some((letter, unit)) => format!("{}{letter}", bytes / unit),
        None => format!("{}K", bytes.div_ceil(1 << 10)),
    }
}

/// An address as it is written in a config: `0x8000_0000`.
pub(crate) fn address(address: u64) -> String {
    let digits = format!("{address:x}");
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(4).rev().collect();
    let groups: Vec<_> = groups
        .iter()
        .map(|group| String::from_utf8_lossy(group))
        .collect();
    format!("0x{}", groups.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse("64M"), Ok(64 << 20));
        assert_eq!(parse("1G"), Ok(1 << 30));
        assert_eq!(parse("2048K"), Ok(2 << 20));
        assert_eq!(parse("0M"), Ok(0));
        assert_eq!(parse("007M"), Ok(7 << 20));
    }

    #[test]
    fn what_is_meant_is_said() {
        for (text, meant) in [
            ("64", Some("64M")),
            ("64MB", Some("64M")),
            ("64MiB", Some("64M")),
            ("64 M", Some("64M")),
            ("64m", Some("64M")),
            ("1T", Some("1024G")),
            ("1.5G", Some("1536M")),
            ("0.5G", Some("512M")),
            ("1.25M", Some("1280K")),
            ("1.3G", None),
            ("1.5", None),
            ("64X", None),
            ("64M ", Some("64M")),
            ("-64M", None),
            ("-", None),
            ("", None),
            ("M", None),
            ("99999999999999999999M", None),
            ("18446744073709551615G", None),
            ("99999999999999999999T", None),
            ("6４M", None),
        ] {
            assert_eq!(
                parse(text).expect_err(text).meant.as_deref(),
                meant,
                "{text}"
            );
        }
    }

    #[test]
    fn addresses_have_groups_of_four_digits() {
        assert_eq!(address(0), "0x0");
        assert_eq!(address(0x1234), "0x1234");
        assert_eq!(address(0x8000_0000), "0x8000_0000");
        assert_eq!(address(u64::MAX), "0xffff_ffff_ffff_ffff");
    }

    #[test]
    fn what_is_written_is_read_again() {
        for bytes in [0, 1 << 10, 1 << 20, 3 << 20, 1 << 30, 1536 << 20, 255 << 30] {
            assert_eq!(parse(&written(bytes)), Ok(bytes));
        }
        assert_eq!(written(1), "1K");
    }
}
