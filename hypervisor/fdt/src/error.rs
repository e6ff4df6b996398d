//! What can be wrong with a device tree, said so that the person at the serial console can find the spot.
//!
//! A complaint is a thing, a phrase and a number. Only at the end it gets the path of its node.

use core::fmt;

use arrayvec::ArrayString;

use super::model::Model;
use super::node::{Frame, Prop};

/// Enumerations whose variants are words to print.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum $name { $(#[doc = $text] $variant,)* }

        impl $name {
            /// All of them, in order.
            #[allow(dead_code, reason = "only properties and models are searched for")]
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)*];
            const TEXTS: &[&'static str] = &[$($text,)*];

            /// The one that is written like this.
            #[allow(dead_code, reason = "only some words are searched for")]
            pub(super) fn named(name: &[u8]) -> Option<Self> {
                let nth = $crate::error::position(Self::TEXTS, name)?;
                Self::ALL.get(nth).copied()
            }

            /// What is printed for it.
            #[allow(dead_code, reason = "only some words are printed")]
            pub(super) fn text(self) -> &'static str {
                Self::TEXTS.get(self as usize).copied().unwrap_or_default()
            }
        }
    };
}
pub(super) use words;

/// Which of `texts` is `name`.
#[inline(never)]
pub(super) fn position(texts: &[&str], name: &[u8]) -> Option<usize> {
    // The length first: most names are told apart by it, without a call.
    texts
        .iter()
        .position(|text| text.len() == name.len() && text.as_bytes() == name)
}

words! {
    /// What is neither a property nor a model, but can be wrong as well.
    Thing {
        Address = "header: the address",
        Magic = "header: magic",
        TotalSize = "header: totalsize",
        Version = "header: version",
        LastComp = "header: last_comp_version",
        Structure = "header: off_dt_struct",
        StructureSize = "header: size_dt_struct",
        Strings = "header: off_dt_strings",
        Reservations = "header: off_mem_rsvmap",
        FdtRs = "header: fdt-rs",
        Block = "the structure block",
        Reservation = "a memory reservation",
        Node = "a node of this name",
        Memory = "an enabled memory node",
        Cpu = "an enabled processor in /cpus",
        Distributor = "the distributor",
        Redistributor = "a redistributor",
        Serial = "the serial port",
        Bundle = "the boot bundle",
    }
}

words! {
    /// What can be wrong with something. After a space at its end comes a number.
    Why {
        // The header.
        NoTree = "is of no device tree: ",
        NoHeader = "is less than the 40 bytes of a header: ",
        Small = "is smaller than the header: ",
        Large = "is larger than 2 MiB: ",
        Cut = "is larger than the memory it was found in: ",
        Eight = "is not a multiple of 8: ",
        Old = "is older than 17: ",
        New = "is not compatible with version 17: ",
        InHeader = "is inside the header: ",
        Outside = "has a block that ends outside the blob: ",
        Shared = "has a block that overlaps another: ",
        Tokens = "is not a whole number of tokens: ",
        Refused = "does not accept it",
        // The structure block.
        Endless = "has no FDT_END from ",
        Malformed = "has a malformed token at ",
        Leaves = "has a token that leaves it at ",
        NodeName = "has a node whose name has no end at ",
        PropName = "has a property whose name is not in the strings block at ",
        NoPropName = "has a property without a name at ",
        NoName = "has a node without a name at ",
        Unprintable = "has a name that is not printable ASCII at ",
        NoRoot = "has no root node before ",
        TwoRoots = "has a second root node at ",
        Inside = "ends inside a node at ",
        NoBegin = "has a node that ends but never began at ",
        Deep = "has nodes that nest too deeply at ",
        Stray = "has a property outside its node at ",
        // Properties and what they describe.
        Missing = "is missing",
        Twice = "is there twice",
        Length = "has the wrong length ",
        Value = "has the unusable value ",
        Unterminated = "is a string without an end",
        Empty = "has an empty region at ",
        Wraps = "wraps around from ",
        Misaligned = "is misaligned: ",
        TooSmall = "is too small, of this length: ",
        Overlaps = "overlaps RAM or another device at ",
        Taken = "repeats the value of an earlier one: ",
        OutsideRam = "is not in RAM at ",
        NotMapped = "does not map the address ",
        TooMany = "has more entries than there is room for: ",
        NotOneValue = "is not one affinity value without a size",
        NotPsci = "is not psci",
        NotMethod = "is not smc or hvc",
        NotPpis = "is not a list of PPIs",
        NotNames = "does not begin with sec-phys, phys, virt, hyp-phys",
        NoNode = "is missing: no enabled node is compatible",
        NoGicV3 = "is what this machine has; EL2 needs a GICv3",
        OldPsci = "is what this machine has; EL2 needs PSCI 0.2 or newer",
    }
}

/// What something is wrong with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// A property of a node.
    Prop(Prop),
    /// A node of this model.
    Model(Model),
    /// Anything else.
    Thing(Thing),
}

/// A complaint without the path of its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub(super) what: What,
    pub(super) why: Why,
    /// How many nodes lead to the place, the root included; none for what is not in a node.
    pub(super) nodes: usize,
    pub(super) value: u64,
}

/// The end of the reading: there is a complaint, and the way to the node at hand has it. Most functions here can
/// complain, and none of them should carry the complaint about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stop;

/// Why EL2 does not accept the machine's device tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdtError {
    /// The path of the node as far as it fits: a report may be short, but never wrong memory.
    path: ArrayString<80>,
    wrong: Wrong,
}

impl FdtError {
    /// The complaint `wrong`, made when `way` led from the root to the node at hand.
    #[cold]
    #[inline(never)]
    pub(super) fn new(wrong: Wrong, way: &[Frame<'_>]) -> Self {
        let mut path = ArrayString::new();
        for frame in way.iter().take(wrong.nodes).skip(1) {
            let _ = path.try_push_str("/");
            for byte in frame.name {
                let _ = path.try_push(char::from(*byte));
            }
        }
        Self { path, wrong }
    }
}

impl fmt::Display for FdtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong {
            what,
            why,
            nodes,
            value,
        } = self.wrong;
        let what = match what {
            What::Prop(prop) => prop.text(),
            What::Model(model) => model.text(),
            What::Thing(thing) => thing.text(),
        };
        let colon = match nodes {
            0 => "",
            1 => "/: ",
            _ => ": ",
        };
        let why = why.text();
        write!(f, "device tree: {}{colon}{what} {why}", self.path)?;
        if why.ends_with(' ') {
            write!(f, "{value:#x}")?;
        }
        Ok(())
    }
}

impl core::error::Error for FdtError {}
