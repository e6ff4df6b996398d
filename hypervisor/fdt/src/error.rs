//! What can be wrong with a device tree, said so that the person at the serial console can find the spot.

use core::fmt;

use arrayvec::ArrayString;

/// The path of a node as far as it fits, for reports only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodePath(ArrayString<80>);

impl NodePath {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Appends one component. What does not fit is cut off: a report may be short, but never wrong memory.
    pub fn push(&mut self, name: &[u8]) {
        let mut put = |byte: char| {
            let _ = self.0.try_push(byte);
        };
        put('/');
        for byte in name {
            put(if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '?'
            });
        }
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

/// What is wrong with one property of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The node must have this property.
    Missing,
    /// The node has the property twice.
    Twice,
    /// So many bytes do not make the cells or entries that the property must hold.
    Length(usize),
    /// The value is not one that EL2 can work with.
    Value(u64),
    /// A string does not end.
    Unterminated,
    /// A region of no bytes.
    Empty(u64),
    /// A region that leaves the 64-bit address space.
    Wraps(u64, u64),
    /// A region that is not aligned as its use demands.
    Misaligned(u64),
    /// A region that is smaller than its use demands.
    TooSmall(u64),
    /// Bytes that an earlier entry already claimed.
    Overlaps(u64),
    /// A value that an earlier node already has.
    Taken(u64),
    /// Bytes that are not in the machine's RAM.
    OutsideRam(u64),
    /// No `ranges` entry of a bus above carries this address to the processor.
    NotMapped(u64),
    /// More entries than EL2 has room for.
    TooMany(usize),
    /// Anything else, in words.
    Not(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Twice => f.write_str("is there twice"),
            Self::Length(bytes) => write!(f, "has a wrong length of {bytes} bytes"),
            Self::Value(value) => write!(f, "has the unusable value {value:#x}"),
            Self::Unterminated => f.write_str("is a string without an end"),
            Self::Empty(base) => write!(f, "has an empty region at {base:#x}"),
            Self::Wraps(base, len) => write!(f, "wraps around: {len:#x} bytes from {base:#x}"),
            Self::Misaligned(value) => write!(f, "is misaligned: {value:#x}"),
            Self::TooSmall(bytes) => write!(f, "is too small: {bytes:#x} bytes"),
            Self::Overlaps(base) => write!(f, "overlaps an earlier region at {base:#x}"),
            Self::Taken(value) => write!(f, "repeats the value {value:#x} of an earlier node"),
            Self::OutsideRam(base) => write!(f, "is not in RAM at {base:#x}"),
            Self::NotMapped(base) => write!(f, "has the address {base:#x}, which no ranges map"),
            Self::TooMany(limit) => {
                write!(f, "has more entries than the {limit} there is room for")
            }
            Self::Not(what) => write!(f, "is not {what}"),
        }
    }
}

/// Why EL2 does not accept the machine's device tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FdtError {
    /// A field of the header cannot be true.
    Header {
        /// The field as the Devicetree specification names it.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What is wrong with that.
        why: &'static str,
    },
    /// The structure block is malformed.
    Structure {
        /// Where in the blob.
        offset: usize,
        /// What is wrong there.
        why: &'static str,
    },
    /// A property that EL2 needs is missing or wrong.
    Property {
        /// The node.
        node: NodePath,
        /// The property.
        name: &'static str,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A node that may be there only once is there again.
    Again {
        /// The second such node.
        node: NodePath,
        /// What it is.
        what: &'static str,
    },
    /// An entry of the memory reservation block is wrong.
    Reservation {
        /// Which entry, counted from zero.
        index: usize,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Something is where it cannot be.
    Place {
        /// What it is.
        what: &'static str,
        /// Where it begins.
        base: u64,
        /// What is wrong with that.
        problem: Problem,
    },
    /// No enabled node describes something that EL2 needs.
    Missing {
        /// What was looked for.
        what: &'static str,
    },
    /// The machine has something older or newer in place of what EL2 needs.
    Unsupported {
        /// What EL2 needs.
        needs: &'static str,
        /// The `compatible` string of what there is.
        has: &'static str,
    },
}

impl fmt::Display for FdtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("device tree: ")?;
        match self {
            Self::Header { field, value, why } => write!(f, "header: {field} = {value:#x}: {why}"),
            Self::Structure { offset, why } => write!(f, "at byte {offset:#x}: {why}"),
            Self::Property {
                node,
                name,
                problem,
            } => write!(f, "{node}: {name} {problem}"),
            Self::Again { node, what } => write!(f, "{node}: a second {what}"),
            Self::Reservation { index, problem } => {
                write!(f, "memory reservation {index} {problem}")
            }
            Self::Place {
                what,
                base,
                problem,
            } => write!(f, "the {what} at {base:#x} {problem}"),
            Self::Missing { what } => write!(f, "there is no {what}"),
            Self::Unsupported { needs, has } => {
                write!(f, "EL2 needs {needs}; this machine has {has}")
            }
        }
    }
}

impl core::error::Error for FdtError {}
