//! A device tree overlay of the guest's own (`dtc -@` of a source with `/plugin/;`), applied to the generated tree.
//!
//! An overlay may add nodes and properties, and may change what is a matter of taste: `/chosen`'s command line, console
//! and seeds, aliases, the machine's name. It may not change a word of what describes the machine: a guest that is told
//! of other memory, CPUs or interrupts than it has would fail where nobody looks for the cause.

use std::fmt;

use dtoolkit::error::OverlayError;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::model::overlay::OverlayApplier;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node as _, Property as _};

use crate::dtb::Written;

const MAGIC: [u8; 4] = 0xD00D_FEED_u32.to_be_bytes();
/// No device tree is nested deeper; the library follows nodes by recursion.
const DEEPEST: usize = 32;
/// Nodes to which nothing may be added either.
const CLOSED: [&str; 5] = ["memory", "cpus", "psci", "timer", "intc"];
/// The parts of an overlay that are no fragments.
const SYMBOLS: &str = "__symbols__";
const TABLES: [&str; 3] = [SYMBOLS, "__fixups__", "__local_fixups__"];
const CHOSEN: &str = "/chosen";
const INITRD: [&str; 2] = ["linux,initrd-start", "linux,initrd-end"];
/// What may be changed: node, property. An empty property stands for all of them.
const FREE: [(&str, &str); 8] = [
    ("/", "model"),
    ("/", "compatible"),
    (CHOSEN, "bootargs"),
    (CHOSEN, "stdout-path"),
    (CHOSEN, "kaslr-seed"),
    (CHOSEN, "rng-seed"),
    ("/aliases", ""),
    ("/__symbols__", ""),
];

/// Why an overlay was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotApplied {
    /// It is the source of one.
    Source,
    /// It is something else.
    NotADeviceTree,
    /// It ends early: bytes it has, and should have.
    Truncated(usize, u32),
    /// It is wrong, in the reader's words.
    Damaged(String),
    /// It is a whole device tree.
    NotAnOverlay,
    /// A fragment is not called `fragment@N`.
    FragmentName(String),
    /// It does not fit on the generated tree.
    Unfit(OverlayError),
    /// It changes what describes the machine: node, property.
    Untrue(String, String),
    /// It adds to a node that describes the machine.
    Closed(String),
}

/// Applies an overlay to a generated device tree, whose labels become part of it.
pub(crate) fn apply(generated: &Written, overlay: &[u8]) -> Result<Vec<u8>, NotApplied> {
    let overlay = read(overlay)?;
    let damaged = |error: dtoolkit::error::FdtParseError| NotApplied::Damaged(error.to_string());
    let mut base = DeviceTree::from_fdt(&Fdt::new(&generated.bytes).map_err(damaged)?);
    let mut symbols = DeviceTreeNode::new_unchecked(SYMBOLS);
    for (label, path) in &generated.labels {
        symbols.add_property(DeviceTreeProperty::new_unchecked(label, path.as_str()));
    }
    base.root.add_child(symbols);
    // Where the initrd lies is found when all lengths are known: no overlay says it, be it right or wrong.
    let initrd: Vec<_> = INITRD
        .iter()
        .filter_map(|name| chosen(&mut base)?.remove_property(name))
        .collect();
    let mut tree = base.clone();
    OverlayApplier::new(&mut tree)
        .apply_overlay(&overlay)
        .map_err(NotApplied::Unfit)?;
    compare("", &base.root, &tree.root)?;
    if let Some(chosen) = chosen(&mut tree) {
        if let Some(name) = INITRD
            .iter()
            .find(|name| chosen.property_mut(name).is_some())
        {
            return Err(NotApplied::Untrue(CHOSEN.to_owned(), (*name).to_owned()));
        }
        for property in initrd {
            chosen.add_property(property);
        }
    }
    Ok(tree.to_dtb())
}

fn chosen(tree: &mut DeviceTree) -> Option<&mut DeviceTreeNode> {
    tree.find_node_mut(CHOSEN)
}

/// An overlay as far as it can be judged alone.
fn read(bytes: &[u8]) -> Result<Fdt<'_>, NotApplied> {
    let head = bytes.get(..4);
    if head != Some(MAGIC.as_slice()) {
        return Err(if bytes.trim_ascii_start().starts_with(b"/dts-v1/") {
            NotApplied::Source
        } else {
            NotApplied::NotADeviceTree
        });
    }
    // Tools pad device trees; the header says how long this one is.
    let stated = bytes.get(4..8).and_then(|b| b.try_into().ok());
    let stated = stated.map_or(0, u32::from_be_bytes);
    let bytes = usize::try_from(stated)
        .ok()
        .and_then(|length| bytes.get(..length))
        .ok_or(NotApplied::Truncated(bytes.len(), stated))?;
    let fdt = Fdt::new(bytes).map_err(|error| NotApplied::Damaged(error.to_string()))?;
    if is_deep(&fdt.root(), DEEPEST) {
        let why = format!("its nodes are nested more than {DEEPEST} deep");
        return Err(NotApplied::Damaged(why));
    }
    let mut fragments = 0usize;
    for node in fdt.root().children() {
        if TABLES.contains(&node.name()) || node.child("__overlay__").is_none() {
            continue;
        }
        if node.name_without_address() != "fragment" {
            return Err(NotApplied::FragmentName(node.name().to_owned()));
        }
        fragments = fragments.saturating_add(1);
    }
    if fragments == 0 {
        return Err(NotApplied::NotAnOverlay);
    }
    Ok(fdt)
}

fn is_deep(node: &FdtNode<'_>, left: usize) -> bool {
    match left.checked_sub(1) {
        None => true,
        Some(left) => node.children().any(|child| is_deep(&child, left)),
    }
}

/// Refuses a change of what was generated. `path` is the node's, empty for the root.
fn compare(path: &str, was: &DeviceTreeNode, is: &DeviceTreeNode) -> Result<(), NotApplied> {
    let shown = if path.is_empty() { "/" } else { path };
    let may_change = |property: &str| {
        FREE.iter()
            .any(|(node, free)| *node == shown && (free.is_empty() || *free == property))
    };
    for property in was.properties() {
        let now = is.property(property.name());
        let same = now.is_some_and(|now| now.value() == property.value());
        if !same && !may_change(property.name()) {
            let name = property.name().to_owned();
            return Err(NotApplied::Untrue(shown.to_owned(), name));
        }
    }
    if is_closed(path)
        && (was.properties().count() != is.properties().count()
            || was.children().count() != is.children().count())
    {
        return Err(NotApplied::Closed(shown.to_owned()));
    }
    for child in is.children() {
        let path = format!("{path}/{}", child.name());
        match was.children().find(|was| was.name() == child.name()) {
            Some(was) => compare(&path, was, child)?,
            None if is_closed(&path) => return Err(NotApplied::Closed(path)),
            None => added(&path, child)?,
        }
    }
    Ok(())
}

/// Whether a path is that of a closed node, or leads through one.
fn is_closed(path: &str) -> bool {
    let top = path.split('/').nth(1).unwrap_or_default();
    CLOSED.contains(&top.split('@').next().unwrap_or_default())
}

/// Refuses memory and CPUs that the machine has not.
fn added(path: &str, node: &DeviceTreeNode) -> Result<(), NotApplied> {
    if let Some(kind) = node.property("device_type") {
        let kind = kind.value();
        if kind.starts_with(b"memory\0") || kind.starts_with(b"cpu\0") {
            return Err(NotApplied::Closed(path.to_owned()));
        }
    }
    node.children()
        .try_for_each(|child| added(&format!("{path}/{}", child.name()), child))
}

impl NotApplied {
    /// What to do.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Source => "compile it: `dtc -@ -I dts -O dtb -o mine.dtbo mine.dtso`",
            Self::NotADeviceTree | Self::NotAnOverlay => {
                "an overlay has `/plugin/;` at its head and is compiled: `dtc -@ -I dts -O dtb -o mine.dtbo mine.dtso`"
            }
            Self::Truncated(..) | Self::Damaged(_) => "compile it again",
            Self::FragmentName(_) => "call its fragments `fragment@0`, `fragment@1` and so on",
            Self::Unfit(OverlayError::UnresolvedSymbol(_) | OverlayError::TargetNotFound(_)) => {
                "the labels of a guest's device tree are `gic`, `apb_pclk`, `uart0`, `rtc0`, `virtio0` to `virtio31`, \
                 `cpu0` to `cpu7`, and `device0` and so on for devices of the machine; other nodes are named by `target-path`, such as \"/chosen\""
            }
            Self::Unfit(_) => "compile it again with `dtc -@`",
            Self::Untrue(..) | Self::Closed(_) => {
                "XDV describes the machine; an overlay adds nodes and properties to it, and may change the \
                 command line, console and seeds in `/chosen`, `/aliases`, `model` and `compatible`"
            }
        }
    }
}

impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => write!(f, "this is the source of a device tree, not compiled"),
            Self::NotADeviceTree => write!(f, "this is not a compiled device tree"),
            Self::Truncated(has, stated) => {
                write!(f, "the file has {has} bytes, its header says {stated}")
            }
            Self::Damaged(why) => write!(f, "it is damaged: {why}"),
            Self::NotAnOverlay => {
                write!(f, "this is a device tree without fragments, not an overlay")
            }
            Self::FragmentName(name) => write!(
                f,
                "its fragment `{name}` has another name than `fragment@N`"
            ),
            Self::Unfit(OverlayError::UnresolvedSymbol(label)) => {
                write!(f, "it refers to `&{label}`, and no node has this label")
            }
            Self::Unfit(OverlayError::TargetNotFound(path)) => {
                write!(f, "its target `{path}` is not in the guest's device tree")
            }
            Self::Unfit(why) => write!(f, "{why}"),
            Self::Untrue(node, property) => {
                write!(
                    f,
                    "it changes `{property}` of `{node}`, which describes the machine"
                )
            }
            Self::Closed(node) => write!(f, "it adds to `{node}`, which describes the machine"),
        }
    }
}
