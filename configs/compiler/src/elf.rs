//! Kernels as ELF files: 64-bit, little endian, AArch64, linked to run without help.
//!
//! An ELF file is laid out here as it will lie in memory, by its segments' *physical* addresses. If an arm64 `Image`
//! comes of that (Linux' `vmlinux` is one inside), it is judged as an `Image` and may lie anywhere. Else it lies where
//! it was linked; a position-independent one that needs no relocation may lie anywhere too. One that needs relocations
//! is refused: whether its own first instructions apply them cannot be known, and applying them twice is wrong.

use std::fmt;

use configs_plan::{PAGE, RAM_BASE, RAM_LIMIT};
use object::LittleEndian;
use object::elf::{
    DT_PLTRELSZ, DT_RELASZ, DT_RELRSZ, DT_RELSZ, ELFCLASS64, ELFDATA2LSB, EM_AARCH64, ET_DYN,
    ET_EXEC, FileHeader64, PT_DYNAMIC, PT_INTERP, PT_LOAD, ProgramHeader64,
};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

use crate::summary::size;

pub(crate) const MAGIC: &[u8] = b"\x7FELF";
const LE: LittleEndian = LittleEndian;
type Header = FileHeader64<LittleEndian>;
type Segment = ProgramHeader64<LittleEndian>;

/// An ELF file as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flat {
    /// The bytes from `low` on.
    pub bytes: Vec<u8>,
    /// The page of the lowest physical address.
    pub low: u64,
    /// How much memory it takes from `low` on.
    pub memory: u64,
    /// Where it is entered, from `low` on.
    pub entry: u64,
    /// It may lie anywhere.
    pub(crate) movable: bool,
}

/// Why an ELF file is no kernel that boots here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotAnElf {
    /// It is an ELF file, but of another kind, which is named.
    Kind(&'static str, &'static str),
    /// Its headers are wrong, in the reader's words.
    Headers(String),
    /// A segment's bytes are not all in the file.
    Truncated,
    /// Nothing in it is to be loaded.
    Nothing,
    /// A segment is larger in the file than in memory, or its addresses wrap.
    Segment(u64),
    /// Two segments lie on each other, at this address.
    Overlap(u64),
    /// It must be relocated.
    Relocations,
    /// A segment with a fixed address lies below RAM or beyond what any guest has.
    Outside(u64),
    /// Its segments lie so far apart.
    Apart(u64),
    /// It is entered outside its bytes.
    Entry(u64),
}

const BUILD: &str = "build or fetch it again";

/// Lays an ELF file out. From first to last byte it may take `limit` bytes.
pub(crate) fn read(file: &[u8], limit: u64) -> Result<Flat, NotAnElf> {
    let header = header(file)?;
    let wrong = |error: object::Error| NotAnElf::Headers(error.to_string());
    let headers = header.program_headers(LE, file).map_err(wrong)?;
    let of_type = |wanted| move |segment: &&Segment| segment.p_type(LE) == wanted;
    if headers.iter().any(|h| of_type(PT_INTERP)(&h)) {
        return Err(NotAnElf::Kind(
            "a program for an operating system",
            "name a kernel",
        ));
    }
    let mut loaded: Vec<&Segment> = headers.iter().filter(of_type(PT_LOAD)).collect();
    loaded.retain(|segment| segment.p_memsz(LE) != 0);
    loaded.sort_by_key(|segment| segment.p_paddr(LE));
    judge_order(&loaded)?;
    let (bytes, low, memory) = flatten(file, &loaded, limit)?;
    let flat = Flat {
        entry: entry(header.e_entry(LE), &loaded, low)?,
        bytes,
        low,
        memory,
        movable: header.e_type(LE) == ET_DYN && low < RAM_BASE,
    };
    if crate::image::has_magic(&flat.bytes) {
        return Ok(flat);
    }
    if relocations(file, headers).map_err(wrong)? {
        return Err(NotAnElf::Relocations);
    }
    let end = low.saturating_add(memory);
    if !flat.movable && (low < RAM_BASE || end > RAM_LIMIT) {
        let first = loaded.first().map_or(low, |segment| segment.p_paddr(LE));
        return Err(NotAnElf::Outside(first));
    }
    Ok(flat)
}

/// The lowest address that a file's segments are linked at.
pub(crate) fn lowest(file: &[u8]) -> Option<u64> {
    let segments = Header::parse(file).ok()?.program_headers(LE, file).ok()?;
    let loaded = segments
        .iter()
        .filter(|segment| segment.p_type(LE) == PT_LOAD);
    loaded.map(|segment| segment.p_vaddr(LE)).min()
}

/// The header of an ELF file for this machine.
fn header(file: &[u8]) -> Result<&Header, NotAnElf> {
    let ident = |at: usize| file.get(at).copied().unwrap_or(0);
    if ident(4) != ELFCLASS64.0 {
        return Err(NotAnElf::Kind(
            "a 32-bit ELF file",
            "guests are 64-bit Arm machines: name a kernel for arm64",
        ));
    }
    if ident(5) != ELFDATA2LSB.0 {
        return Err(NotAnElf::Kind(
            "a big-endian ELF file",
            "take one built for little-endian CPUs",
        ));
    }
    let wrong = |error: object::Error| NotAnElf::Headers(error.to_string());
    let header = Header::parse(file).map_err(wrong)?;
    header.endian().map_err(wrong)?;
    if header.e_machine(LE) != EM_AARCH64 {
        return Err(NotAnElf::Kind(
            "an ELF file for another CPU",
            "guests are Arm machines: name a kernel for arm64",
        ));
    }
    match header.e_type(LE) {
        ET_EXEC | ET_DYN => Ok(header),
        _ => Err(NotAnElf::Kind(
            "an ELF file that is not linked to run (an object file or a kernel module)",
            "name the linked kernel",
        )),
    }
}

/// Segments in the order of their addresses: sound, and none on another.
fn judge_order(loaded: &[&Segment]) -> Result<(), NotAnElf> {
    let mut end = 0u64;
    for segment in loaded {
        let start = segment.p_paddr(LE);
        let next = start.checked_add(segment.p_memsz(LE));
        let next = next.filter(|_| segment.p_filesz(LE) <= segment.p_memsz(LE));
        // Where it is linked may differ from where it lies, but must not wrap either.
        let virtual_end = segment.p_vaddr(LE).checked_add(segment.p_memsz(LE));
        let (next, _) = next.zip(virtual_end).ok_or(NotAnElf::Segment(start))?;
        if start < end {
            return Err(NotAnElf::Overlap(start));
        }
        end = next;
    }
    Ok(())
}

/// The bytes from the page of the lowest address on, that address, and how much memory all take.
fn flatten(file: &[u8], loaded: &[&Segment], limit: u64) -> Result<(Vec<u8>, u64, u64), NotAnElf> {
    let first = loaded.first().ok_or(NotAnElf::Nothing)?.p_paddr(LE);
    let low = first.saturating_sub(first % PAGE);
    let end = loaded.last().map_or(low, |segment| {
        segment.p_paddr(LE).saturating_add(segment.p_memsz(LE))
    });
    let mut bytes = Vec::new();
    for segment in loaded.iter().filter(|segment| segment.p_filesz(LE) != 0) {
        let data = segment.data(LE, file).map_err(|()| NotAnElf::Truncated)?;
        let start = segment.p_paddr(LE).saturating_sub(low);
        let stop = start.saturating_add(segment.p_filesz(LE));
        if stop > limit {
            return Err(NotAnElf::Apart(stop));
        }
        bytes.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
        bytes.extend_from_slice(data);
    }
    if bytes.is_empty() {
        return Err(NotAnElf::Nothing);
    }
    Ok((bytes, low, end.saturating_sub(low)))
}

/// Where it is entered, from `low` on. The entry is an address as linked, unless it is one only as loaded.
fn entry(entry: u64, loaded: &[&Segment], low: u64) -> Result<u64, NotAnElf> {
    let inside = |start: fn(&Segment) -> u64| {
        loaded.iter().find_map(|segment| {
            let distance = entry.checked_sub(start(segment))?;
            (distance < segment.p_filesz(LE)).then(|| segment.p_paddr(LE).saturating_add(distance))
        })
    };
    inside(|segment| segment.p_vaddr(LE))
        .or_else(|| inside(|segment| segment.p_paddr(LE)))
        .filter(|address| address.is_multiple_of(4))
        .map(|address| address.saturating_sub(low))
        .ok_or(NotAnElf::Entry(entry))
}

/// Whether something must be relocated before it runs.
fn relocations(file: &[u8], headers: &[Segment]) -> object::Result<bool> {
    for header in headers.iter().filter(|h| h.p_type(LE) == PT_DYNAMIC) {
        for entry in header.dynamic(LE, file)?.unwrap_or_default() {
            let tag = entry.d_tag(LE);
            if [DT_RELASZ, DT_RELSZ, DT_RELRSZ, DT_PLTRELSZ].contains(&tag) && entry.d_val(LE) != 0
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

impl NotAnElf {
    /// What to do.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::Kind(_, help) => (*help).to_owned(),
            Self::Headers(_) | Self::Truncated | Self::Segment(_) => {
                format!("the file is damaged: {BUILD}")
            }
            Self::Nothing | Self::Overlap(_) | Self::Entry(_) => {
                "mend its linker script".to_owned()
            }
            Self::Relocations => {
                "link it at a fixed address (`-no-pie`), or name the arm64 `Image` made of it"
                    .to_owned()
            }
            Self::Outside(_) => format!(
                "a guest's RAM begins at {RAM_BASE:#x}: link it there, or name the arm64 `Image` made of it"
            ),
            Self::Apart(_) => {
                "link its segments close together: they must fit into the guest's memory".to_owned()
            }
        }
    }
}

impl fmt::Display for NotAnElf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(what, _) => write!(f, "this is {what}"),
            Self::Headers(why) => write!(f, "this ELF file's headers are wrong: {why}"),
            Self::Truncated => write!(f, "this ELF file ends inside a segment"),
            Self::Nothing => write!(f, "this ELF file has nothing to load"),
            Self::Segment(at) => {
                write!(f, "the size of this ELF file's segment at {at:#x} is wrong")
            }
            Self::Overlap(at) => write!(f, "two segments of this ELF file lie at {at:#x}"),
            Self::Relocations => write!(f, "this ELF file must be relocated before it runs"),
            Self::Outside(at) => write!(f, "this ELF file is linked at {at:#x}, outside RAM"),
            Self::Apart(bytes) => {
                write!(f, "this ELF file's segments lie {} apart", size(*bytes))
            }
            Self::Entry(at) => write!(
                f,
                "this ELF file is entered at {at:#x}, which is in none of its segments"
            ),
        }
    }
}
