//! A kernel file becomes bytes in memory: unpacked, laid out, and with what it asks of its place.
//!
//! What a file is, is told by its content: an arm64 `Image`, an ELF file, or one of these in gzip, zstd or an EFI
//! program. A file that is none of them is refused. It is a raw kernel only where the machine file says so, since any
//! file at all could be one.

use std::fmt;
use std::rc::Rc;

use configs_plan::{FLASH_SIZE, PAGE, RAM_BASE};

use crate::elf::{self, NotAnElf};
use crate::image::{IMAGE_ALIGN, Image, NotAnImage};
use crate::unpack::{self, NotUnpacked, Packing};

/// A raw kernel lies this far above the beginning of RAM: where old kernels were linked, and below it room to work.
const RAW_OFFSET: u64 = 0x8_0000;

/// A kernel as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) bytes: Rc<Vec<u8>>,
    pub(crate) footprint: Footprint,
    pub(crate) format: Format,
    /// What it was taken out of.
    pub(crate) packing: Option<Packing>,
}

/// What a kernel asks of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) place: Place,
    /// How much memory it takes, from its first byte.
    pub(crate) memory: u64,
    /// Where it is entered, from its first byte.
    pub(crate) entry: u64,
    /// It may look for its device tree at the start of RAM, where QEMU's `virt` has it for whatever is no Linux:
    /// firmware, programs without an operating system.
    pub(crate) tree_first: bool,
}

/// Where a kernel may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `offset` above any multiple of `align`.
    Anywhere {
        align: u64,
        /// Below `align`.
        offset: u64,
        /// Where it lies unless the machine file says otherwise.
        usual: u64,
    },
    /// Only here.
    Fixed(u64),
    /// In flash, which is no RAM.
    Flash,
}

/// What a kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    Image,
    Elf,
    Raw,
    Firmware,
}

/// Why a file is no kernel that boots here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotAKernel {
    Packed(NotUnpacked),
    /// What was in a packed file, if it was packed, is wrong.
    Elf(Option<Packing>, NotAnElf),
    Image(Option<Packing>, NotAnImage),
    TooLargeForFlash,
}

/// Finds out what a file is. Unpacked, it may have `limit` bytes.
pub(crate) fn judge(file: &Rc<Vec<u8>>, limit: u64) -> Result<Kernel, NotAKernel> {
    let (bytes, packing) = unpack::unpack(file, limit).map_err(NotAKernel::Packed)?;
    let image = |bytes: Rc<Vec<u8>>| {
        let image = Image::judge(&bytes).map_err(|why| NotAKernel::Image(packing, why))?;
        Ok(Kernel {
            bytes,
            footprint: of_image(image),
            format: Format::Image,
            packing,
        })
    };
    if !bytes.starts_with(elf::MAGIC) {
        return image(bytes);
    }
    let flat = elf::read(&bytes, limit).map_err(|why| NotAKernel::Elf(packing, why))?;
    if crate::image::has_magic(&flat.bytes) {
        return image(Rc::new(flat.bytes));
    }
    let place = if flat.movable {
        let offset = flat.low % IMAGE_ALIGN;
        Place::Anywhere {
            align: IMAGE_ALIGN,
            offset,
            usual: RAM_BASE.saturating_add(offset),
        }
    } else {
        Place::Fixed(flat.low)
    };
    Ok(Kernel {
        footprint: Footprint {
            place,
            memory: flat.memory,
            entry: flat.entry,
            tree_first: true,
        },
        bytes: Rc::new(flat.bytes),
        format: Format::Elf,
        packing,
    })
}

/// A file that the machine file calls raw: it lies as it is, and is entered at its first byte.
pub(crate) fn raw(file: &Rc<Vec<u8>>) -> Result<Kernel, NotAKernel> {
    if file.is_empty() {
        return Err(NotAKernel::Image(None, NotAnImage::Empty));
    }
    Ok(Kernel {
        footprint: Footprint {
            place: Place::Anywhere {
                align: PAGE,
                offset: 0,
                usual: RAM_BASE.saturating_add(RAW_OFFSET),
            },
            memory: u64::try_from(file.len()).unwrap_or(u64::MAX),
            entry: 0,
            tree_first: true,
        },
        bytes: Rc::clone(file),
        format: Format::Raw,
        packing: None,
    })
}

/// A file that the machine file calls firmware: it lies in flash, and is entered at its first byte.
pub(crate) fn firmware(file: &Rc<Vec<u8>>) -> Result<Kernel, NotAKernel> {
    let mut kernel = raw(file)?;
    if kernel.footprint.memory > FLASH_SIZE {
        return Err(NotAKernel::TooLargeForFlash);
    }
    kernel.footprint.place = Place::Flash;
    kernel.format = Format::Firmware;
    Ok(kernel)
}

fn of_image(image: Image) -> Footprint {
    Footprint {
        place: Place::Anywhere {
            align: IMAGE_ALIGN,
            offset: image.text_offset,
            usual: RAM_BASE.saturating_add(image.text_offset),
        },
        memory: image.memory,
        entry: 0,
        tree_first: false,
    }
}

impl Kernel {
    /// Whether it is firmware, which finds flash for its variables and fw_cfg.
    pub(crate) fn is_firmware(&self) -> bool {
        self.format == Format::Firmware
    }

    /// How a memory map calls it; `start` is where its first byte lies.
    pub(crate) fn described(&self, start: u64) -> String {
        let entered = match self.footprint.entry {
            0 => "its start".to_owned(),
            entry => format!("{:#x}", start.saturating_add(entry)),
        };
        let what = match (self.format, self.packing) {
            (Format::Image, None) => String::new(),
            (format, None) => format!(" ({format})"),
            (format, Some(packing)) => format!(" ({format}, unpacked from {packing})"),
        };
        format!("kernel{what}, entered at {entered}")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "Image",
            Self::Elf => "ELF",
            Self::Raw => "raw",
            Self::Firmware => "firmware",
        })
    }
}

impl NotAKernel {
    fn why(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packed(why) => write!(f, "{why}"),
            Self::Elf(_, why) => write!(f, "{why}"),
            Self::Image(_, why) => write!(f, "{why}"),
            Self::TooLargeForFlash => f.write_str("it is larger than 64 MiB, a flash bank"),
        }
    }

    /// What to do.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::Packed(why) => why.help().to_owned(),
            Self::Elf(_, why) => why.help(),
            Self::Image(_, why) => why.help().to_owned(),
            Self::TooLargeForFlash => {
                "firmware for QEMU's `virt` machine fits into one of its flash banks".to_owned()
            }
        }
    }
}

impl fmt::Display for NotAKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Elf(packing, _) | Self::Image(packing, _)) = self else {
            return self.why(f);
        };
        if let Some(packing) = packing {
            write!(f, "unpacked from {packing}: ")?;
        }
        self.why(f)
    }
}
