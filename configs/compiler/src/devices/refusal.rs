//! Why a device is not given, at the word that asks for it.

use std::ops::Range;

use super::{Asked, WORDS, available};
use crate::diagnostic::Diagnostic;
use crate::hardware::{Hardware, NoLine, Node};
use crate::raw::{Field, RawGuest};
use crate::suggest;

/// How many devices of a name are shown.
const MOST_SHOWN: usize = 3;
/// Devices that read and write memory by themselves.
const MASTERS: [&str; 12] = [
    "virtio,mmio",
    "qemu,fw-cfg-mmio",
    "pci-host-ecam-generic",
    "pci-host-cam-generic",
    "arm,pl080",
    "arm,pl081",
    "arm,pl110",
    "arm,pl111",
    "arm,pl330",
    "generic-ehci",
    "generic-ohci",
    "generic-xhci",
];
/// Properties that only such devices have, or the controllers of DMA itself.
const SIGNS: [&str; 6] = [
    "dma-coherent",
    "dma-ranges",
    "iommus",
    "iommu-map",
    "msi-map",
    "#dma-cells",
];
/// Interrupt controllers, and the translation of what is no interrupt yet.
const GICS: [&str; 5] = [
    "arm,gic-v3",
    "arm,gic-v3-its",
    "arm,gic-v2m-frame",
    "arm,gic-400",
    "arm,cortex-a15-gic",
];

/// Why a word is not answered with a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unknown,
    Ambiguous(Vec<String>),
    Console,
    InterruptController,
    /// It does DMA, and this tells it.
    Dma(String),
    /// It is of a kind of which nothing is known.
    Kind(String),
    /// It is no device with registers.
    NoDevice,
    Disabled,
    NoRegisters,
    Ranges(usize),
    SharedPage(String),
    SharedLine(String),
    Line(NoLine),
    Clock,
}

/// Whether interrupts come through this node: the GIC, or a part of it.
pub(super) fn hands_out_interrupts(node: &Node) -> bool {
    GICS.iter().any(|gic| node.is(gic))
}

/// What tells that a device does DMA.
pub(super) fn sign_of_dma(node: &Node) -> Option<String> {
    let property = SIGNS.iter().find(|sign| node.property(sign).is_some());
    let kind = MASTERS.iter().find(|kind| node.is(kind));
    let kind = kind.map(|kind| format!("its kind is `{kind}`"));
    kind.or_else(|| property.map(|sign| format!("it has `{sign}`")))
}

impl Refusal {
    /// A node that is of no kind which is known to do no DMA.
    pub(super) fn of_unknown_kind(node: &Node, registers: Option<Vec<Range<u64>>>) -> Self {
        let kinds = node.texts("compatible");
        match kinds.first() {
            Some(kind) if registers.is_some() => Self::Kind((*kind).to_owned()),
            _ => Self::NoDevice,
        }
    }

    /// Says it to the person who wrote `word`.
    pub(super) fn explain(&self, word: &Field<String>, hardware: &Hardware) -> Diagnostic {
        let name = &word.value;
        let (title, label, note, help) = match self {
            Self::Unknown => return unknown(word, hardware),
            Self::Ambiguous(paths) => (
                format!("`{name}` stands for {} devices", paths.len()),
                "which one?".to_owned(),
                None,
                Some(pick(paths)),
            ),
            Self::Console => (
                format!("`{name}` is the console, which XDV keeps"),
                "XDV's own serial port".to_owned(),
                None,
                Some("leave it out: each guest has a serial port of its own, which is shown under the guest's name".to_owned()),
            ),
            Self::InterruptController => (
                format!("`{name}` is the interrupt controller, which XDV keeps"),
                "every interrupt of the machine comes through it".to_owned(),
                None,
                Some("leave it out: each guest has a virtual GICv3".to_owned()),
            ),
            Self::Dma(sign) => (
                format!("`{name}` does DMA, and no SMMU keeps it to one guest's memory"),
                sign.clone(),
                Some("who programs it could have it read and write the memory of all guests, and XDV's"),
                None,
            ),
            Self::Kind(kind) => (
                format!("`{name}` is not known to do no DMA"),
                format!("nothing is known of `{kind}`"),
                Some("there is no SMMU that would keep a device that does to one guest's memory"),
                None,
            ),
            Self::NoDevice
            | Self::Disabled
            | Self::NoRegisters
            | Self::Ranges(_)
            | Self::SharedPage(_)
            | Self::SharedLine(_)
            | Self::Line(_)
            | Self::Clock => self.misfit(name),
        };
        let diagnostic = Diagnostic::new(title).at(word.span.clone(), label);
        let diagnostic = match note {
            Some(note) => diagnostic.note(note),
            None => diagnostic,
        };
        diagnostic.help(help.unwrap_or_else(|| choice(hardware)))
    }

    /// A device that would do no harm, but is not made to be given.
    fn misfit(&self, name: &str) -> (String, String, Option<&'static str>, Option<String>) {
        let (title, label, note) = match self {
            Self::Disabled => (
                format!("`{name}` is not in use"),
                "its device tree says that it, or its bus, is disabled",
                None,
            ),
            Self::NoRegisters => (
                format!("`{name}` has no registers that could be given"),
                "`reg` leads to none, or to too many",
                None,
            ),
            Self::Ranges(count) => (
                format!("`{name}` has {count} ranges of registers"),
                "one can be given",
                None,
            ),
            Self::SharedPage(other) => (
                format!("`{name}` shares a page with `{other}`"),
                "its registers are not alone",
                Some(
                    "a guest is given whole pages of 4 KiB, all of whose registers are the device's",
                ),
            ),
            Self::SharedLine(other) => (
                format!("`{name}` shares its interrupt with `{other}`"),
                "an interrupt goes to one guest",
                None,
            ),
            Self::Line(NoLine::Several(count)) => (
                format!("`{name}` has {count} interrupts"),
                "one can be given",
                None,
            ),
            Self::Line(NoLine::NotShared) => (
                format!("the interrupt of `{name}` cannot be given with it"),
                "it is no shared interrupt (SPI) of the GIC",
                None,
            ),
            Self::Clock => (
                format!("a clock of `{name}` cannot be given with it"),
                "it is not a `fixed-clock`",
                Some("a clock controller serves more than one device, and XDV does not drive it"),
            ),
            Self::Unknown
            | Self::Ambiguous(_)
            | Self::Console
            | Self::InterruptController
            | Self::Dma(_)
            | Self::Kind(_)
            | Self::NoDevice => (
                format!("`{name}` is no device that could be given"),
                "it has no registers of its own",
                None,
            ),
        };
        (title, label.to_owned(), note, None)
    }
}

/// Which of several.
fn pick(paths: &[String]) -> String {
    let shown = paths.iter().take(MOST_SHOWN);
    let shown: Vec<_> = shown.map(|path| format!("`{path}`")).collect();
    let more = match paths.len().saturating_sub(MOST_SHOWN) {
        0 => String::new(),
        more => format!(", or one of {more} others"),
    };
    format!("write its path: {}{more}", shown.join(" or "))
}

/// A word that nothing is called by.
fn unknown(word: &Field<String>, hardware: &Hardware) -> Diagnostic {
    let name = &word.value;
    let diagnostic = Diagnostic::new(format!("the machine has no device `{name}`")).at(
        word.span.clone(),
        "no alias, path or name in its device tree",
    );
    let known = available(hardware);
    let mut words: Vec<&str> = known.iter().map(|(word, _)| word.as_str()).collect();
    words.extend(known.iter().map(|(_, path)| path.as_str()));
    words.extend(hardware.aliases().into_iter().map(|(alias, _)| alias));
    words.extend(hardware.nodes().map(|(_, node)| node.base_name()));
    // A word of ours for what this machine does not have would lead from one refusal to the next.
    let is_kind = WORDS.iter().any(|(known, _)| known == name);
    match suggest::nearest(name, words).filter(|_| !is_kind) {
        Some(near) => diagnostic.fix(
            format!("did you mean `{near}`?"),
            word.span.clone(),
            format!("\"{near}\""),
        ),
        None => diagnostic.help(choice(hardware)),
    }
}

/// What could be given.
fn choice(hardware: &Hardware) -> String {
    let known = available(hardware);
    let each = |(word, path): &(String, String)| {
        if word == path {
            format!("`{path}`")
        } else {
            format!("`{word}` ({path})")
        }
    };
    let shown: Vec<String> = known.iter().map(each).collect();
    match shown.split_last() {
        None => "nothing of this machine can be given: leave `devices` out".into(),
        Some((only, [])) => format!("of this machine, {only} can be given"),
        Some((last, rest)) => {
            format!(
                "of this machine, {} and {last} can be given",
                rest.join(", ")
            )
        }
    }
}

/// A device that was given already.
pub(super) fn twice(
    earlier: &Asked<'_>,
    guest: &RawGuest,
    word: &Field<String>,
    hardware: &Hardware,
) -> Diagnostic {
    let path = hardware
        .node(earlier.index)
        .map_or("", |node| node.path.as_str());
    let same_guest = std::ptr::eq(earlier.guest, guest);
    let (title, label, before, help) = if same_guest {
        (
            format!("{} is given `{}` twice", guest.called(), word.value),
            "the second time".to_owned(),
            "the first time".to_owned(),
            "leave one of them out",
        )
    } else {
        (
            format!("`{}` is given to two guests", word.value),
            format!("to {}", guest.called()),
            format!("to {} already", earlier.guest.called()),
            "a device has one owner: leave it to one of the two",
        )
    };
    let diagnostic = Diagnostic::new(title)
        .at(word.span.clone(), label)
        .see(earlier.word.span.clone(), before);
    let (one, other) = (earlier.word.value.as_str(), word.value.as_str());
    let diagnostic = match (one == path, other == path) {
        _ if one == other => diagnostic,
        (true, _) => diagnostic.note(format!("`{other}` is `{path}`")),
        (_, true) => diagnostic.note(format!("`{one}` is `{path}`")),
        _ => diagnostic.note(format!("`{one}` and `{other}` are both `{path}`")),
    };
    diagnostic.help(help)
}

/// More than a guest can have.
pub(super) fn too_many(word: &Field<String>) -> Diagnostic {
    let most = configs_plan::MAX_DEVICES;
    Diagnostic::new("these are too many devices for one guest")
        .at(word.span.clone(), "the first one too many")
        .help(format!("a guest is given at most {most} devices"))
}
