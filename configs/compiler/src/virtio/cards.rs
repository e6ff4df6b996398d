//! Which guests are on which networks, and their cards there.

use std::net::Ipv4Addr;

use configs_plan::{MAX_VLAN, NetworkPlan, VirtioDevice};

use super::{mac, unknown};
use crate::diagnostic::Diagnostic;
use crate::raw::{Field, RawCard, RawGuest, RawNetwork};

/// A card and its address.
struct Card<'c> {
    guest: &'c RawGuest,
    asked: &'c RawCard,
    network: usize,
    mac: [u8; 6],
}

/// The networks. `None`: something is wrong, and reported.
pub(super) fn judge(
    networks: &[RawNetwork],
    found: &mut Vec<Diagnostic>,
) -> Vec<Option<NetworkPlan<String>>> {
    let mut first: Option<&Field<bool>> = None;
    let mut all = Vec::new();
    for network in networks {
        let uplink = network.uplink.as_ref().filter(|uplink| uplink.value);
        match (first, uplink) {
            (Some(first), Some(again)) => {
                let diagnostic = Diagnostic::new("two networks have the uplink")
                    .at(again.span.clone(), "the second")
                    .see(first.span.clone(), "the first");
                let help = "the machine has one network card: leave it to one of the two";
                found.push(diagnostic.help(help));
            }
            (None, Some(_)) => first = uplink,
            (_, None) => {}
        }
        all.push(network.name.as_ref().map(|name| NetworkPlan {
            name: name.value.clone(),
            has_uplink: uplink.is_some(),
            echo: network.echo.as_ref().and_then(|echo| address(echo, found)),
        }));
    }
    all
}

/// The address at which the hypervisor answers.
fn address(echo: &Field<String>, found: &mut Vec<Diagnostic>) -> Option<[u8; 4]> {
    let parsed = echo.value.parse::<Ipv4Addr>();
    let unusable = |ip: &Ipv4Addr| ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast();
    if let Some(ip) = parsed.ok().filter(|ip| !unusable(ip)) {
        return Some(ip.octets());
    }
    let title = format!("`{}` is no IPv4 address of a station", echo.value);
    let diagnostic = Diagnostic::new(title).at(echo.span.clone(), "where should it answer?");
    found.push(diagnostic.help("write four numbers: `echo = \"10.0.0.1\"`"));
    None
}

/// The cards of every guest, in the order of the guests.
pub(super) fn give(
    guests: &[RawGuest],
    networks: &[RawNetwork],
    found: &mut Vec<Diagnostic>,
) -> Vec<Vec<VirtioDevice>> {
    let known = found.is_empty() || !networks.is_empty();
    let mut cards: Vec<Card<'_>> = Vec::new();
    let mut all = Vec::new();
    for guest in guests {
        let mut given = Vec::new();
        for asked in &guest.virtio.networks {
            let names = || networks.iter().map(|network| network.name.as_ref());
            let same = |other: Option<&Field<String>>| {
                other.is_some_and(|other| other.value == asked.name.value)
            };
            let Some(network) = names().position(same) else {
                if known {
                    found.push(unknown("network", &asked.name, names().flatten()));
                }
                continue;
            };
            let stated = match asked.mac.as_ref().map(|mac| (mac, mac::parse(&mac.value))) {
                None => None,
                Some((_, Ok(mac))) => Some(mac),
                Some((field, Err(why))) => {
                    found.push(wrong_mac(field, why));
                    continue;
                }
            };
            let taken = |mac: [u8; 6]| cards.iter().find(|c| c.network == network && c.mac == mac);
            let mac = stated.unwrap_or_else(|| {
                let name = guest.name.as_ref().map_or("", |name| name.value.as_str());
                mac::derived(name, &asked.name.value, |mac| taken(mac).is_some())
            });
            let card = Card {
                guest,
                asked,
                network,
                mac,
            };
            if let Some(earlier) = taken(mac) {
                found.push(card.twice(earlier));
                continue;
            }
            cards.push(card);
            let vlan = vlan(asked, found);
            let rate = rate(asked, found);
            if let (Some(vlan), Some(rate)) = (vlan, rate) {
                given.push(VirtioDevice::Net {
                    network: u32::try_from(network).unwrap_or(u32::MAX),
                    mac,
                    vlan,
                    rate,
                });
            }
        }
        all.push(given);
    }
    // Who is said to be on none may have been misspelt.
    if found.is_empty() {
        unused(networks, &cards, found);
    }
    all
}

/// Refuses networks that nobody is on.
fn unused(networks: &[RawNetwork], cards: &[Card<'_>], found: &mut Vec<Diagnostic>) {
    for (nth, network) in networks.iter().enumerate() {
        let (false, Some(name)) = (cards.iter().any(|c| c.network == nth), &network.name) else {
            continue;
        };
        let title = format!("no guest is on the network `{}`", name.value);
        let diagnostic = Diagnostic::new(title).at(name.span.clone(), "named here only");
        let help = format!(
            "put a guest on it, `networks = [\"{}\"]`, or remove it",
            name.value
        );
        found.push(diagnostic.help(help));
    }
}

impl Card<'_> {
    /// Two cards with one address: not both are derived, since those go out of each other's way.
    fn twice(&self, earlier: &Card<'_>) -> Diagnostic {
        let span = |card: &Card<'_>| {
            let mac = card.asked.mac.as_ref().unwrap_or(&card.asked.name);
            mac.span.clone()
        };
        let title = format!(
            "two cards of the network `{}` have one MAC address",
            self.asked.name.value
        );
        Diagnostic::new(title)
            .at(span(self), format!("of {}", self.guest.called()))
            .see(span(earlier), format!("of {}", earlier.guest.called()))
            .help("leave `mac` out to have one chosen, which stays the same from run to run")
    }
}

fn wrong_mac(field: &Field<String>, why: mac::Wrong) -> Diagnostic {
    let title = format!("{:?} cannot be a card's MAC address", field.value);
    let diagnostic = Diagnostic::new(title).at(field.span.clone(), why.words());
    match why.meant(&field.value) {
        Some(meant) => {
            let help = "so it would be one";
            diagnostic.fix(help, field.span.clone(), format!("\"{meant}\""))
        }
        None => diagnostic.help(
            "write six bytes, `mac = \"02:00:00:00:00:01\"`, or leave it out to have one chosen",
        ),
    }
}

/// The VLAN; zero for none.
fn vlan(card: &RawCard, found: &mut Vec<Diagnostic>) -> Option<u16> {
    let Some(field) = &card.vlan else {
        return Some(0);
    };
    let vlan = u16::try_from(field.value).unwrap_or(u16::MAX);
    if (1..=MAX_VLAN).contains(&vlan) {
        return Some(vlan);
    }
    let diagnostic = Diagnostic::new(format!("there is no VLAN {}", field.value));
    let help = "VLANs are 1 to 4094; leave `vlan` out for frames without a tag";
    found.push(
        diagnostic
            .at(field.span.clone(), "not its number")
            .help(help),
    );
    None
}

/// The bytes it may send in a second; zero for any number.
fn rate(card: &RawCard, found: &mut Vec<Diagnostic>) -> Option<u64> {
    let Some(field) = &card.rate else {
        return Some(0);
    };
    if field.value == 0 {
        let diagnostic = Diagnostic::new("a card with this rate never sends anything");
        let help = "leave `rate` out for a card without a limit";
        found.push(diagnostic.at(field.span.clone(), "nothing").help(help));
        return None;
    }
    Some(field.value)
}
