//! Rates of a network as text: `"100Mbit/s"`.

use crate::quantity::{Kind, Wrong};

/// In bytes a second. A thousand bits of a network are a thousand (IEC 80000-13).
static RATE: Kind = Kind {
    one: "a rate",
    several: "rates",
    too_large: "no network is so fast",
    units: &[
        ("Gbit/s", 125_000_000),
        ("Mbit/s", 125_000),
        ("kbit/s", 125),
    ],
    spoken,
};

/// Reads a rate in bytes a second: a whole number and one of `kbit/s`, `Mbit/s`, `Gbit/s`.
pub(crate) fn parse(text: &str) -> Result<u64, Wrong> {
    RATE.parse(text, "Mbit/s")
}

/// What people write for a unit, in bytes a second.
fn spoken(word: &str) -> Option<u64> {
    Some(match word {
        "k" | "kbit" | "kbits" | "kbps" | "kbit/s" | "kb/s" => 125,
        "m" | "mbit" | "mbits" | "mbps" | "mbit/s" | "mbits/s" => 125_000,
        "g" | "gbit" | "gbits" | "gbps" | "gbit/s" | "gbits/s" => 125_000_000,
        "mb/s" => 1_000_000,
        "gb/s" => 1_000_000_000,
        _ => return None,
    })
}

/// A rate for a person to read.
pub(crate) fn shown(bytes: u64) -> String {
    match RATE.unit(bytes) {
        Some((unit, worth)) => format!("{} {unit}", bytes / worth),
        None => format!("{bytes} B/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        assert_eq!(parse("100Mbit/s"), Ok(12_500_000));
        assert_eq!(parse("1Gbit/s"), Ok(125_000_000));
        assert_eq!(parse("64kbit/s"), Ok(8_000));
    }

    #[test]
    fn what_is_meant_is_said() {
        for (text, meant) in [
            ("100", Some("100Mbit/s")),
            ("100M", Some("100Mbit/s")),
            ("100 Mbit/s", Some("100Mbit/s")),
            ("100mbps", Some("100Mbit/s")),
            ("10MB/s", Some("80Mbit/s")),
            ("2.5G", Some("2500Mbit/s")),
            ("fast", None),
            ("", None),
            ("99999999999999999999Gbit/s", None),
        ] {
            let found = parse(text).expect_err(text).meant;
            assert_eq!(found.as_deref(), meant, "{text}");
            assert!(found.is_none_or(|meant| parse(&meant).is_ok()), "{text}");
        }
        assert_eq!(shown(12_500_000), "100 Mbit/s");
        assert_eq!(shown(1), "1 B/s");
    }
}
