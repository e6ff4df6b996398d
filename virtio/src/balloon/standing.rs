//! What an operator wants of a balloon, how it is, and how that is said.

use core::fmt;

/// Bytes of a page, whatever the guest's are (5.5.6).
pub const PAGE: u64 = 4096;
/// What a guest says of its memory: tags below this are kept.
pub const TAGS: usize = 10;

/// What an operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    /// How many pages of 4 KiB the guest is to give up in all from now on.
    pub pages: Option<u32>,
    /// New figures of its memory.
    pub statistics: bool,
}

impl Wish {
    /// Nothing, but to know how it is.
    pub const NOTHING: Self = Self {
        pages: None,
        statistics: false,
    };

    /// New figures.
    pub const STATISTICS: Self = Self {
        pages: None,
        statistics: true,
    };

    /// So many bytes, of which only whole pages count.
    ///
    /// # Errors
    /// No balloon is as large.
    pub fn bytes(bytes: u64, memory: u64) -> Result<Self, Refusal> {
        let pages = u32::try_from(bytes / PAGE);
        Ok(Self {
            pages: Some(pages.map_err(|_| Refusal::TooLarge { bytes, memory })?),
            statistics: false,
        })
    }

    /// What of it can be wanted of a guest with so much memory, whose driver works, or not.
    pub(crate) fn judged(self, memory: u64, is_driven: bool) -> Result<Self, Refusal> {
        let bytes = u64::from(self.pages.unwrap_or(0)) * PAGE;
        if bytes > memory {
            return Err(Refusal::TooLarge { bytes, memory });
        }
        if bytes != 0 && !is_driven {
            return Err(Refusal::NoDriver);
        }
        Ok(Self {
            statistics: self.statistics && is_driven,
            ..self
        })
    }
}

/// Why a guest is not asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It has no balloon.
    NoBalloon,
    /// It does not have so many bytes.
    TooLarge {
        /// What it was to be asked for.
        bytes: u64,
        /// What it has.
        memory: u64,
    },
    /// Nobody is there to be asked.
    NoDriver,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBalloon => f.write_str(
                "it has no balloon; give it one with `balloon = true` in the machine file",
            ),
            Self::TooLarge { bytes, memory } => {
                let (bytes, memory) = (Size(*bytes), Size(*memory));
                write!(f, "{bytes} is more than it has, which is {memory}; ask for less")
            }
            Self::NoDriver => f.write_str(
                "no driver works its balloon now; ask again when its kernel has one (Linux: virtio_balloon)",
            ),
        }
    }
}

/// How a balloon is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// How many pages the guest is asked for.
    pub asked: u32,
    /// How many it says that it has given.
    pub given: u32,
    /// What it last said of its memory, by tag (5.5.6.4).
    pub values: [Option<u64>; TAGS],
    /// When that was: a count like [`Env::now`](crate::Env::now).
    pub told: Option<u64>,
    /// A driver works it.
    pub is_driven: bool,
}

/// What a figure counts.
#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Times,
}

/// A figure: its tag, what it is called, and what it counts.
type Figure = (usize, &'static str, Unit);

/// What there is, as a person reads it.
const MEMORY: &[Figure] = &[
    (5, "total", Unit::Bytes),
    (4, "free", Unit::Bytes),
    (6, "available", Unit::Bytes),
    (7, "caches", Unit::Bytes),
];

/// What has become of it.
const PAGING: &[Figure] = &[
    (0, "swapped in", Unit::Bytes),
    (1, "swapped out", Unit::Bytes),
    (2, "major faults", Unit::Times),
    (3, "minor faults", Unit::Times),
    (8, "huge pages", Unit::Times),
    (9, "huge pages not had", Unit::Times),
];

impl Standing {
    /// What the guest is asked for and what it has given, in words, where it has so much memory.
    pub const fn pages(&self, memory: u64) -> Pages<'_> {
        Pages {
            standing: self,
            memory,
        }
    }

    /// What it says of its memory, in words.
    pub const fn memory(&self) -> Figures<'_> {
        Figures {
            values: &self.values,
            figures: MEMORY,
        }
    }

    /// What it says of paging, in words.
    pub const fn paging(&self) -> Figures<'_> {
        Figures {
            values: &self.values,
            figures: PAGING,
        }
    }
}

/// [`Standing::pages`].
pub struct Pages<'a> {
    standing: &'a Standing,
    memory: u64,
}

impl fmt::Display for Pages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |pages| Size(u64::from(pages) * PAGE);
        let asked = size(self.standing.asked);
        if !self.standing.is_driven {
            return write!(f, "asked for {asked}, no driver at work");
        }
        let (given, memory) = (size(self.standing.given), Size(self.memory));
        write!(f, "asked for {asked}, given {given} of {memory}")?;
        if given.0 > self.memory {
            f.write_str(", if it is to be believed")?;
        }
        Ok(())
    }
}

/// Some of what a guest says.
pub struct Figures<'a> {
    values: &'a [Option<u64>; TAGS],
    figures: &'static [Figure],
}

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mark = "";
        for (tag, name, unit) in self.figures {
            let Some(Some(value)) = self.values.get(*tag) else {
                continue;
            };
            f.write_str(mark)?;
            mark = ", ";
            match unit {
                Unit::Bytes => write!(f, "{name} {}", Size(*value))?,
                Unit::Times => write!(f, "{value} {name}")?,
            }
        }
        if mark.is_empty() {
            f.write_str("it does not say")?;
        }
        Ok(())
    }
}

/// A number of bytes, for a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 >> 20, self.0 & 0xf_ffff);
        match (whole, rest) {
            (_, 0) => write!(f, "{whole} MiB"),
            (0, _) => write!(f, "{} KiB", rest >> 10),
            _ => write!(f, "{whole}.{} MiB", (rest * 10) >> 20),
        }
    }
}
