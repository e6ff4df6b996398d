//! Sizes of memory as text: `"64M"`, `"1G"`.

use crate::quantity::{Kind, Wrong};

static SIZE: Kind = Kind {
    one: "a size",
    several: "sizes",
    too_large: "this is more than any machine has",
    units: &[("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)],
    spoken,
};

/// Reads a size: a whole number and one of `K`, `M`, `G`.
pub(crate) fn parse(text: &str) -> Result<u64, Wrong> {
    SIZE.parse(text, "M")
}

/// What people write for a unit, in bytes.
fn spoken(word: &str) -> Option<u64> {
    Some(match word {
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    })
}

/// A size as it is written in a config: in the largest unit that says it exactly.
pub(crate) fn written(bytes: u64) -> String {
    match SIZE.unit(bytes) {
        Some((unit, worth)) => format!("{}{unit}", bytes / worth),
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
            ("99999999999999999999MB", None),
            ("1.5K", None),
            ("1024MB", Some("1G")),
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
