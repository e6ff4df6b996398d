//! MAC addresses (IEEE 802, clause 8).

/// Why a text is no card's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Not six bytes of two hexadecimal digits.
    Shape,
    /// That of a group.
    Group,
    /// All zeros.
    Zero,
}

impl Wrong {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Shape => "not six bytes such as `02:00:00:00:00:01`",
            Self::Group => "that of a group: its first byte is odd",
            Self::Zero => "nobody's",
        }
    }

    /// The address that was perhaps meant.
    pub(super) fn meant(self, text: &str) -> Option<String> {
        let plain: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let others = text
            .chars()
            .all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '-' | '.' | ' '));
        if plain.len() != 12 || !others {
            return None;
        }
        let digits = u64::from_str_radix(&plain, 16).ok()?;
        let [_, _, first, rest @ ..] = digits.to_be_bytes();
        let [a, b, c, d, e] = rest;
        let bytes = [first & !1, a, b, c, d, e];
        (bytes != [0; 6]).then(|| written(bytes))
    }
}

/// Reads an address: six bytes of two hexadecimal digits each, with colons between them.
pub(super) fn parse(text: &str) -> Result<[u8; 6], Wrong> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().ok_or(Wrong::Shape)?;
        if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Wrong::Shape);
        }
        *byte = u8::from_str_radix(part, 16).map_err(|_| Wrong::Shape)?;
    }
    let [first, ..] = mac;
    match parts.next() {
        Some(_) => Err(Wrong::Shape),
        None if mac == [0; 6] => Err(Wrong::Zero),
        None if first & 1 != 0 => Err(Wrong::Group),
        None => Ok(mac),
    }
}

/// An address as it is written.
pub(crate) fn written(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The address of a guest's card on a network: always the same, locally administered, and none that is taken.
pub(super) fn derived(guest: &str, network: &str, taken: impl Fn([u8; 6]) -> bool) -> [u8; 6] {
    // FNV-1a (Fowler, Noll, Vo; draft-eastlake-fnv): any hash would do that is the same in each build.
    let words = guest.bytes().chain([0]).chain(network.bytes());
    let hash = words.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    let address = |nth: u64| {
        let [_, _, _, a, b, c, d, e] = (hash ^ hash >> 40).wrapping_add(nth).to_be_bytes();
        [0x02, a, b, c, d, e]
    };
    let mut all = (0..).map(address);
    all.find(|mac| !taken(*mac)).unwrap_or_else(|| address(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let mac = [2, 0, 0xAB, 0xCD, 0, 1];
        assert_eq!(parse("02:00:ab:CD:00:01"), Ok(mac));
        assert_eq!(written(mac), "02:00:ab:cd:00:01");
        for text in [
            "",
            "02",
            "02:00:ab:cd:00",
            "02:00:ab:cd:00:01:02",
            "2:0:0:0:0:1",
        ] {
            assert_eq!(parse(text), Err(Wrong::Shape), "{text}");
        }
        for text in [
            "02-00-ab-cd-00-01",
            "02:00:ab:cd:00:+1",
            "02:00:ab:cd:00:0é",
        ] {
            assert_eq!(parse(text), Err(Wrong::Shape), "{text}");
        }
        assert_eq!(parse("01:00:00:00:00:01"), Err(Wrong::Group));
        assert_eq!(parse("ff:ff:ff:ff:ff:ff"), Err(Wrong::Group));
        assert_eq!(parse("00:00:00:00:00:00"), Err(Wrong::Zero));
    }

    #[test]
    fn what_is_meant_is_said() {
        for (text, meant) in [
            ("02-00-ab-cd-00-01", Some("02:00:ab:cd:00:01")),
            ("0200.abcd.0001", Some("02:00:ab:cd:00:01")),
            ("03:00:00:00:00:01", Some("02:00:00:00:00:01")),
            ("00:00:00:00:00:00", None),
            ("02:00", None),
            ("zz:00:00:00:00:01", None),
        ] {
            let why = parse(text).expect_err(text);
            assert_eq!(why.meant(text).as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn derived_addresses_are_stable_local_and_apart() {
        let free = |_| false;
        assert_eq!(written(derived("web", "lan", free)), "02:15:48:65:07:40");
        let mut seen = std::collections::BTreeSet::new();
        for guest in 0..50 {
            for network in ["lan", "dmz"] {
                let mac = derived(&format!("guest-{guest}"), network, |mac| {
                    seen.contains(&mac)
                });
                assert_eq!(mac[0], 2);
                assert!(seen.insert(mac));
            }
        }
        let first = derived("web", "lan", free);
        assert_ne!(derived("web", "lan", |mac| mac == first), first);
    }
}
