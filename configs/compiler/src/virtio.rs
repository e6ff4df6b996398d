//! Virtio: the disks and networks of a machine, and each guest's devices in their slots.

use configs_plan::{
    DiskPlan, Faults, Lint, MAX_VIRTIO, NetworkPlan, Offer, Strike, VirtioDevice, VirtioPlan,
};

use crate::BundleFile;
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::files::Files;
use crate::names::{self, Named};
use crate::raw::{Console, Field, RawConfig, RawGuest};
use crate::suggest;
use disks::Disk;

mod cards;
mod disks;
pub(crate) mod mac;
mod script;
mod sockets;
mod users;

/// What a kernel finds on its command line that speaks through a virtio console and was told of none: the console, and
/// the serial port until that is there, so that what goes wrong before is seen.
const VIRTIO_CONSOLE: &str = "console=hvc0 earlycon";

/// All of a machine that is virtio.
#[derive(Debug, Default)]
pub(crate) struct Virtio {
    pub(crate) disks: Vec<DiskPlan<String>>,
    /// What each disk is, for a person.
    pub(crate) disk_words: Vec<String>,
    pub(crate) networks: Vec<NetworkPlan<String>>,
    /// The images for the bundle.
    pub(crate) images: Vec<BundleFile>,
    /// Each guest's.
    pub(crate) guests: Vec<Devices>,
}

/// What a guest has of virtio.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices {
    /// Its devices, in the order of their slots.
    pub(crate) slots: Vec<VirtioPlan>,
    pub(crate) lint: Lint,
    pub(crate) faults: Option<Faults>,
    pub(crate) script: Vec<Strike>,
    pub(crate) offer: Offer,
}

/// Settles what a guest speaks through, and tells its kernel.
pub(crate) fn complete(guest: &mut RawGuest, environment: &dyn Environment) {
    let Some(kernel) = &guest.kernel else { return };
    // Who names a console on the command line has chosen.
    let cmdline = guest.cmdline.as_ref().map_or("", |field| &field.value);
    let mut named = cmdline.split_whitespace();
    let chosen = named.any(|word| word.starts_with("console=") && !word.starts_with("console=hvc"));
    let initrd = guest.initrd.as_ref();
    let usual = !chosen
        && initrd
            .is_some_and(|initrd| environment.has_virtio_console(&kernel.value, &initrd.value));
    if guest.virtio.console.is_none() && usual {
        guest.virtio.console = Some(Field {
            value: Console::Virtio,
            span: kernel.span.clone(),
        });
    }
    let Some(console) = guest
        .virtio
        .console
        .as_ref()
        .filter(|c| c.value == Console::Virtio)
    else {
        return;
    };
    let field = guest.cmdline.get_or_insert_with(|| Field {
        value: String::new(),
        span: console.span.clone(),
    });
    let mut words = field.value.split_whitespace();
    if !words.any(|word| word.starts_with("console=")) {
        let all = format!("{VIRTIO_CONSOLE} {}", field.value);
        field.value = all.trim_end().to_owned();
    }
}

/// Judges all of it.
pub(crate) fn judge(
    config: &RawConfig,
    files: &mut Files<'_>,
    found: &mut Vec<Diagnostic>,
) -> Virtio {
    let (raw, guests) = (&config.disks, &config.guests);
    let disk_names: Vec<_> = raw.iter().filter_map(|disk| disk.name.as_ref()).collect();
    names::judge(&disk_names, Named::Disk, found);
    let of_networks = config.networks.iter();
    let net_names: Vec<_> = of_networks.filter_map(|net| net.name.as_ref()).collect();
    names::judge(&net_names, Named::Network, found);

    let disks: Vec<_> = raw
        .iter()
        .map(|disk| disks::judge(disk, files, found))
        .collect();
    disks::judge_parts(raw, &disks, found);
    let users = users::give(guests, raw, found);
    let networks = cards::judge(&config.networks, found);
    let cards = cards::give(guests, &config.networks, found);
    let peers = sockets::judge(config, found);

    let lists = users.into_iter().zip(cards).zip(peers);
    let devices = guests.iter().zip(lists);
    let devices =
        devices.map(|(guest, ((disks, cards), peers))| slots(guest, disks, cards, peers, found));
    let mut all = Virtio {
        guests: devices.collect(),
        networks: networks.into_iter().flatten().collect(),
        ..Virtio::default()
    };
    for Disk { plan, image, what } in disks.into_iter().flatten() {
        all.images.extend(image.and_then(|bytes| {
            let name = plan.kind.image()?.file.clone();
            let data = bytes.to_vec();
            Some(BundleFile { name, data })
        }));
        all.disk_words.push(what);
        all.disks.push(plan);
    }
    all
}

/// A guest's devices, each with the slot that is its place in this order: console, disks and networks in the order of
/// the file, random numbers, sockets, balloon. Kernels number what they find so.
fn slots(
    guest: &RawGuest,
    disks: Vec<VirtioDevice>,
    cards: Vec<VirtioDevice>,
    peers: u32,
    found: &mut Vec<Diagnostic>,
) -> Devices {
    let said = &guest.virtio;
    let is = |flag: &Option<Field<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
    let mut devices = Vec::new();
    let console = said.console.as_ref();
    if console.is_some_and(|console| console.value == Console::Virtio) {
        devices.push(VirtioDevice::Console);
    }
    devices.extend(disks);
    devices.extend(cards);
    let rest = [
        said.vsock.as_ref().map(|cid| VirtioDevice::Vsock {
            cid: cid.value,
            peers,
        }),
        is(&said.balloon).then_some(VirtioDevice::Balloon),
    ];
    let has_others = !devices.is_empty() || rest.iter().any(Option::is_some);
    if said.rng.as_ref().map_or(has_others, |rng| rng.value) {
        devices.push(VirtioDevice::Entropy);
    }
    devices.extend(rest.into_iter().flatten());

    if devices.len() > MAX_VIRTIO {
        let title = format!("{} has {} virtio devices", guest.called(), devices.len());
        let mut diagnostic = Diagnostic::new(title);
        if let Some(name) = &guest.name {
            diagnostic = diagnostic.at(name.span.clone(), "in this guest");
        }
        let help = format!("a guest has at most {MAX_VIRTIO}: console, disks, networks and all");
        found.push(diagnostic.help(help));
    }
    let lint = said.lint.as_ref().filter(|lint| lint.value != Lint::Off);
    let faults = said.faults.as_ref();
    if devices.is_empty() {
        let spans = lint.map(|lint| ("watch", lint.span.clone()));
        let spans = spans.or(faults.map(|faults| ("disturb", faults.span.clone())));
        let offer = said.offer.as_ref();
        let spans = spans.or(offer.map(|offer| ("restrict", offer.span.clone())));
        if let Some((verb, span)) = spans {
            let title = format!("{} has no virtio device to {verb}", guest.called());
            let diagnostic = Diagnostic::new(title).at(span, "asked for here");
            let help = "give it one, such as `rng = true`, or leave this out";
            found.push(diagnostic.help(help));
        }
    }
    let plans = (0..).zip(devices);
    let slots: Vec<_> = plans
        .map(|(slot, device)| VirtioPlan { slot, device })
        .collect();
    let script = script::judge(guest, &slots, found);
    Devices {
        slots,
        script,
        lint: lint.map_or(Lint::Off, |lint| lint.value),
        faults: faults
            .map(|faults| faults.value)
            .filter(|faults| faults.rates() != [0; 8]),
        offer: said
            .offer
            .as_ref()
            .map_or_else(Offer::default, |offer| offer.value),
    }
}

/// A disk or network that there is none of.
fn unknown<'c>(
    noun: &str,
    asked: &Field<String>,
    names: impl Iterator<Item = &'c Field<String>>,
) -> Diagnostic {
    let names: Vec<&str> = names.map(|name| name.value.as_str()).collect();
    let diagnostic = Diagnostic::new(format!("there is no {noun} `{}`", asked.value));
    if let Some(near) = suggest::nearest(&asked.value, names.iter().copied()) {
        let diagnostic =
            diagnostic.at(asked.span.clone(), format!("no `[[{noun}]]` has this name"));
        let help = format!("did you mean `{near}`?");
        return diagnostic.fix(help, asked.span.clone(), format!("\"{near}\""));
    }
    let label = format!("no `[[{noun}]]` has this name");
    let diagnostic = diagnostic.at(asked.span.clone(), label);
    match names.as_slice() {
        [] if noun == "disk" && configs_plan::check_name(&asked.value).is_err() => {
            diagnostic.help(format!(
                "guests name disks of this file: add one, outside of the guests:\n\n[[disk]]\nname = \"root\"\nimage = {:?}",
                asked.value
            ))
        }
        [] => {
            let example = if noun == "disk" {
                "\nsize = \"64M\""
            } else {
                ""
            };
            diagnostic.help(format!(
                "add it, outside of the guests:\n\n[[{noun}]]\nname = {:?}{example}",
                asked.value
            ))
        }
        names => diagnostic.help(format!("there is {}", suggest::list(names.iter().copied()))),
    }
}
