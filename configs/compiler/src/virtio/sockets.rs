//! Socket devices: whose context id is whose, and who may talk to whom.

use configs_plan::{MAX_CID, MIN_CID};

use crate::diagnostic::Diagnostic;
use crate::raw::{Field, RawConfig, RawGuest};
use crate::suggest;

/// Judges socket devices. The guests that each guest may talk to, as the plan has them.
pub(super) fn judge(config: &RawConfig, found: &mut Vec<Diagnostic>) -> Vec<u32> {
    let guests = &config.guests;
    cids(guests, found);
    let mut sets = Vec::new();
    for guest in guests {
        let mut set = 0;
        for named in &guest.virtio.vsock_peers {
            match peer(guests, guest, named) {
                Ok(number) => set |= 1u32.checked_shl(number).unwrap_or(0),
                Err(diagnostic) => found.push(diagnostic),
            }
        }
        sets.push(set);
    }
    sets
}

/// The number of a guest that another one names, if they can talk.
fn peer(guests: &[RawGuest], guest: &RawGuest, named: &Field<String>) -> Result<u32, Diagnostic> {
    let is =
        |other: &RawGuest, name: &str| other.name.as_ref().is_some_and(|own| own.value == name);
    let at = |title: String, label: &str| Diagnostic::new(title).at(named.span.clone(), label);
    let name = named.value.as_str();
    let Some((number, other)) = (0..).zip(guests).find(|(_, other)| is(other, name)) else {
        let title = format!("there is no guest `{name}`");
        let names = guests.iter().filter_map(|guest| guest.name.as_ref());
        let near = suggest::nearest(name, names.map(|name| name.value.as_str()));
        let diagnostic = at(title, "no `[[guest]]` has this name");
        return Err(match near {
            Some(near) => {
                let help = format!("did you mean `{near}`?");
                diagnostic.fix(help, named.span.clone(), format!("\"{near}\""))
            }
            None => diagnostic,
        });
    };
    if is(guest, name) {
        let title = format!("{} talks to itself", guest.called());
        let help = "leave it out: sockets within a guest need no device";
        return Err(at(title, "its own name").help(help));
    }
    if guest.virtio.vsock.is_none() {
        let title = format!("{} has no socket device", guest.called());
        let help = "give it one, by its context id: `vsock = 3`";
        return Err(at(title, "to talk to this guest by").help(help));
    }
    if other.virtio.vsock.is_none() {
        let title = format!("`{name}` has no socket device");
        let help = format!("give it one, by its context id: `vsock = 4` in `{name}`");
        return Err(at(title, "nobody can talk to it").help(help));
    }
    let own = guest.name.as_ref().map_or("", |name| name.value.as_str());
    let answers = other
        .virtio
        .vsock_peers
        .iter()
        .any(|peer| peer.value == own);
    if !answers {
        let title = format!(
            "{} may talk to `{name}`, and `{name}` not to it",
            guest.called()
        );
        let help = format!("write `vsock_peers = [\"{own}\"]` in `{name}`: both have to want it");
        let diagnostic = at(title, "one side of it").help(help);
        let there = other.virtio.vsock.as_ref().map(|cid| cid.span.clone());
        return Err(match there {
            Some(span) => diagnostic.see(span, "the other side, which names nobody like that"),
            None => diagnostic,
        });
    }
    Ok(number)
}

/// Context ids: those of guests, and each one guest's.
fn cids(guests: &[RawGuest], found: &mut Vec<Diagnostic>) {
    let mut seen: Vec<(&RawGuest, &Field<u32>)> = Vec::new();
    for guest in guests {
        let Some(cid) = &guest.virtio.vsock else {
            continue;
        };
        if !(MIN_CID..=MAX_CID).contains(&cid.value) {
            let title = format!("no guest can have the context id {}", cid.value);
            let diagnostic = Diagnostic::new(title).at(cid.span.clone(), "its address on vsock");
            let help = "0 to 2 are those of the host, and the highest number is \"anybody\": guests have 3 and more";
            found.push(diagnostic.help(help));
        } else if let Some((first, there)) = seen.iter().find(|(_, s)| s.value == cid.value) {
            let title = format!("two guests have the context id {}", cid.value);
            let free = (MIN_CID..).find(|free| {
                let mut all = guests
                    .iter()
                    .filter_map(|guest| guest.virtio.vsock.as_ref());
                all.all(|other| other.value != *free)
            });
            let diagnostic = Diagnostic::new(title)
                .at(cid.span.clone(), guest.called())
                .see(there.span.clone(), first.called());
            let free = free.unwrap_or(MIN_CID).to_string();
            found.push(diagnostic.fix("one that is free", cid.span.clone(), free));
        }
        seen.push((guest, cid));
    }
}
