//! From an ELF to the flat Image that a loader of arm64 Linux boots.
//!
//! The segments are laid out from the lowest address up. Relocations stay inside (`.rela.dyn` is loaded) and the
//! image applies them to itself, so nothing here depends on where it will run.

use anyhow::{Context, bail, ensure};
use object::Endianness;
use object::elf::{FileHeader64, SHF_ALLOC, SHF_WRITE, SHT_PROGBITS};
use object::read::elf::{FileHeader, SectionHeader};

/// More than any kernel of ours; a bad link that spreads segments over the address space is caught here.
const LARGEST: u64 = 64 << 20;
/// Linux, `Documentation/arch/arm64/booting.rst`: the magic and where it is.
const MAGIC: (usize, &[u8; 4]) = (56, b"ARM\x64");
/// The same: the effective size, which must cover the zeroed part too.
const IMAGE_SIZE: usize = 16;

/// A flat arm64 Image.
#[derive(Debug)]
pub struct Image {
    /// What is loaded.
    pub bytes: Vec<u8>,
    /// Bytes of code and constants.
    pub text_rodata: u64,
}

impl Image {
    /// Flattens an ELF.
    pub fn from_elf(elf: &[u8]) -> anyhow::Result<Self> {
        let flat = configs_compiler::lay_out(elf, LARGEST).map_err(anyhow::Error::msg)?;
        ensure!(
            flat.entry == 0,
            "the entry point is {:#x} bytes behind the image's first",
            flat.entry
        );
        judge(&flat.bytes, flat.memory)?;
        Ok(Self {
            bytes: flat.bytes,
            text_rodata: text_rodata(elf)?,
        })
    }
}

/// The header must say what the loader needs to know.
fn judge(bytes: &[u8], memory_end: u64) -> anyhow::Result<()> {
    let (at, magic) = MAGIC;
    if bytes.get(at..at + magic.len()) != Some(magic) {
        bail!("no arm64 magic at offset {at}");
    }
    let field = bytes
        .get(IMAGE_SIZE..IMAGE_SIZE + 8)
        .and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    let size = u64::from_le_bytes(field.context("the header is cut short")?);
    ensure!(
        size >= memory_end,
        "the header's image_size {size:#x} does not cover the {memory_end:#x} bytes that the image uses"
    );
    Ok(())
}

/// Code and constants: what is loaded, never written, and is not a table for the self-relocation.
fn text_rodata(elf: &[u8]) -> anyhow::Result<u64> {
    let header = FileHeader64::<Endianness>::parse(elf).context("not a 64-bit ELF")?;
    let endian = header.endian()?;
    let looked_at = SHF_ALLOC | SHF_WRITE;
    let sections = header.sections(endian, elf)?;
    let constant = sections.iter().filter(|section| {
        section.sh_type(endian) == SHT_PROGBITS && section.sh_flags(endian) & looked_at == SHF_ALLOC
    });
    Ok(constant.map(|section| section.sh_size.get(endian)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(size: u64) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[16..24].copy_from_slice(&size.to_le_bytes());
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn a_header_that_covers_its_memory_is_accepted() {
        assert!(judge(&image(0x1_0000), 0x1_0000).is_ok());
    }

    #[test]
    fn a_header_that_is_too_small_or_absent_is_refused() {
        assert!(judge(&image(0xffff), 0x1_0000).is_err());
        assert!(judge(&image(0), 1).is_err());
        assert!(judge(&[0; 64], 0).is_err());
        assert!(judge(b"ARM\x64", 0).is_err());
    }

    #[test]
    fn what_is_no_elf_is_refused() {
        assert!(Image::from_elf(b"MZ").is_err());
        assert!(Image::from_elf(&[]).is_err());
    }
}
