//! The arm64 `Image`: what its header says, judged (Linux `Documentation/arch/arm64/booting.rst`, "Call the kernel image").

use std::fmt;

use crate::summary::size;

/// Bytes of the header.
const HEADER: usize = 64;
/// "ARM\x64", at byte 56.
const MAGIC: [u8; 4] = *b"ARMd";
/// An `Image` lies `text_offset` bytes above a multiple of this.
pub(crate) const IMAGE_ALIGN: u64 = 2 << 20;
const PAGE: u64 = 4096;

/// A kernel whose header is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// How far above a multiple of [`IMAGE_ALIGN`] it lies; a multiple of 4 KiB, below [`IMAGE_ALIGN`].
    pub(crate) text_offset: u64,
    /// How much memory it takes, from its first byte: the file, and what it clears behind it.
    pub(crate) memory: u64,
}

/// Why a file is no kernel that boots here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnImage {
    /// The file is empty.
    Empty,
    /// It is something else, which is named here.
    Other(&'static str, &'static str),
    /// It is nothing known.
    Unknown,
    /// It ends inside its header.
    Short(usize),
    /// It does not say how much memory it takes.
    NoSize,
    /// It says it takes less memory than its file has bytes.
    SmallSize {
        /// What its header says.
        said: u64,
        /// What the file has.
        file: u64,
    },
    /// It says it takes more than any machine has.
    HugeSize(u64),
    /// It is for big-endian CPUs.
    BigEndian,
    /// Its text offset is not a multiple of 4 KiB below 2 MiB.
    TextOffset(u64),
}

/// Whether bytes have the signature of an arm64 `Image`.
pub(crate) fn has_magic(bytes: &[u8]) -> bool {
    bytes.get(56..60) == Some(MAGIC.as_slice())
}

impl Image {
    /// Judges a kernel file.
    pub(crate) fn judge(file: &[u8]) -> Result<Self, NotAnImage> {
        if file.is_empty() {
            return Err(NotAnImage::Empty);
        }
        if let Some((what, help)) = foreign(file) {
            return Err(NotAnImage::Other(what, help));
        }
        if !has_magic(file) {
            return Err(NotAnImage::Unknown);
        }
        let header = file.get(..HEADER).ok_or(NotAnImage::Short(file.len()))?;
        let field = |nth: usize| {
            header
                .chunks_exact(8)
                .nth(nth)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u64::from_le_bytes)
        };
        let (text_offset, image_size, flags) = (field(1), field(2), field(3));
        let file_size = u64::try_from(file.len()).unwrap_or(u64::MAX);
        if flags & 1 != 0 {
            return Err(NotAnImage::BigEndian);
        }
        if image_size == 0 {
            return Err(NotAnImage::NoSize);
        }
        if image_size < file_size {
            return Err(NotAnImage::SmallSize {
                said: image_size,
                file: file_size,
            });
        }
        if image_size > configs_plan::RAM_LIMIT {
            return Err(NotAnImage::HugeSize(image_size));
        }
        if text_offset >= IMAGE_ALIGN || !text_offset.is_multiple_of(PAGE) {
            return Err(NotAnImage::TextOffset(text_offset));
        }
        Ok(Self {
            text_offset,
            memory: image_size,
        })
    }
}

/// What a file is by its first bytes, when it is a kernel in a format that does not boot here, or none at all.
fn foreign(file: &[u8]) -> Option<(&'static str, &'static str)> {
    const UNPACK: &str = "XDV unpacks gzip and zstd: unpack it, and name the arm64 `Image` in it";
    const BUILD: &str = "name the kernel's `arch/arm64/boot/Image`";
    if file.get(0x202..0x206) == Some(b"HdrS") {
        return Some((
            "an x86 Linux kernel (bzImage)",
            "guests are Arm machines: name a kernel for arm64",
        ));
    }
    if file.get(56..60) == Some(b"RSC\x05") {
        return Some((
            "a RISC-V Linux kernel",
            "guests are Arm machines: name a kernel for arm64",
        ));
    }
    // A kernel with an EFI stub is an EFI program and an `Image` at once.
    if file.starts_with(b"MZ") && !has_magic(file) {
        return Some((
            "an EFI program",
            "a kernel inside it can be taken out: `objcopy -O binary -j .linux FILE Image`",
        ));
    }
    let signatures: [(&[u8], &str, &str); 8] = [
        (b"\xFD7zXZ\0", "an xz file", UNPACK),
        (b"BZh", "a bzip2 file", UNPACK),
        (b"\x04\x22\x4D\x18", "an lz4 file", UNPACK),
        (b"\x02\x21\x4C\x18", "an lz4 file", UNPACK),
        (b"\x27\x05\x19\x56", "a U-Boot image (uImage)", BUILD),
        (
            b"\xD0\x0D\xFE\xED",
            "a device tree or a U-Boot FIT image",
            BUILD,
        ),
        (
            b"070701",
            "a cpio archive",
            "an archive is an `initrd`, not a kernel",
        ),
        (b"#!", "a script", BUILD),
    ];
    signatures
        .iter()
        .find(|(magic, ..)| file.starts_with(magic))
        .map(|(_, what, help)| (*what, *help))
}

impl NotAnImage {
    /// What to do.
    pub(crate) fn help(self) -> &'static str {
        match self {
            Self::Empty => "build or fetch it again",
            Self::Other(_, help) => help,
            Self::Unknown | Self::Short(_) => {
                "a kernel is an arm64 `Image` (for Linux, `arch/arm64/boot/Image`), an ELF file, or one of these in \
                 gzip or zstd; if this is a raw one, entered at its first byte, add `format = \"raw\"`"
            }
            Self::NoSize => "kernels before Linux 3.17 do not say it; take a newer one",
            Self::SmallSize { .. } | Self::HugeSize(_) | Self::TextOffset(_) => {
                "the file is damaged, or was not linked as an arm64 `Image`: build or fetch it again"
            }
            Self::BigEndian => "take one built with `CONFIG_CPU_LITTLE_ENDIAN`",
        }
    }
}

impl fmt::Display for NotAnImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the file is empty"),
            Self::Other(what, _) => write!(f, "this is {what}"),
            Self::Unknown => write!(f, "no kernel's signature is in this file"),
            Self::Short(n) => write!(f, "the file ends after {n} bytes, inside the header"),
            Self::NoSize => write!(
                f,
                "its header does not say how much memory it takes (image_size is 0)"
            ),
            Self::SmallSize { said, file } => {
                write!(
                    f,
                    "its header says it takes {said} bytes (image_size), but the file has {file}"
                )
            }
            Self::HugeSize(said) => {
                write!(f, "its header says it takes {} (image_size)", size(*said))
            }
            Self::BigEndian => write!(f, "it is built for big-endian CPUs"),
            Self::TextOffset(offset) => {
                write!(
                    f,
                    "its text_offset {offset:#x} is not a multiple of 4 KiB below 2 MiB"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(length: usize, text_offset: u64, image_size: u64, flags: u64) -> Vec<u8> {
        let mut file = vec![0; length.max(HEADER)];
        file[8..16].copy_from_slice(&text_offset.to_le_bytes());
        file[16..24].copy_from_slice(&image_size.to_le_bytes());
        file[24..32].copy_from_slice(&flags.to_le_bytes());
        file[56..60].copy_from_slice(&MAGIC);
        file.truncate(length);
        file
    }

    #[test]
    fn headers_are_judged() {
        assert_eq!(
            Image::judge(&file(4096, 0x8_0000, 8192, 0)),
            Ok(Image {
                text_offset: 0x8_0000,
                memory: 8192
            })
        );
        assert_eq!(
            Image::judge(&file(64, 0, 64, 0b1110)),
            Ok(Image {
                text_offset: 0,
                memory: 64
            })
        );
        for (bytes, error) in [
            (Vec::new(), NotAnImage::Empty),
            (file(62, 0, 64, 0), NotAnImage::Short(62)),
            (file(30, 0, 64, 0), NotAnImage::Unknown),
            (vec![1], NotAnImage::Unknown),
            (file(64, 0, 0, 0), NotAnImage::NoSize),
            (
                file(64, 0, 63, 0),
                NotAnImage::SmallSize { said: 63, file: 64 },
            ),
            (file(64, 0, u64::MAX, 0), NotAnImage::HugeSize(u64::MAX)),
            (file(64, 0, 64, 1), NotAnImage::BigEndian),
            (file(64, 0x800, 64, 0), NotAnImage::TextOffset(0x800)),
            (
                file(64, IMAGE_ALIGN, 64, 0),
                NotAnImage::TextOffset(IMAGE_ALIGN),
            ),
        ] {
            assert_eq!(Image::judge(&bytes), Err(error));
            assert!(!error.to_string().is_empty() && !error.help().is_empty());
        }
    }

    #[test]
    fn other_files_are_named() {
        for (at, magic, what) in [
            (0, b"MZ\0\0".as_slice(), "an EFI program"),
            (0, b"\xFD7zXZ\0", "an xz file"),
            (0, b"BZh", "a bzip2 file"),
            (0, b"\x04\x22\x4D\x18", "an lz4 file"),
            (0, b"\x27\x05\x19\x56", "a U-Boot image (uImage)"),
            (
                0,
                b"\xD0\x0D\xFE\xED",
                "a device tree or a U-Boot FIT image",
            ),
            (0, b"070701", "a cpio archive"),
            (0, b"#!", "a script"),
            (0x202, b"HdrS", "an x86 Linux kernel (bzImage)"),
            (56, b"RSC\x05", "a RISC-V Linux kernel"),
        ] {
            let mut file = vec![0; 4096];
            file[at..at + magic.len()].copy_from_slice(magic);
            let error = Image::judge(&file).expect_err(what);
            assert_eq!(error.to_string(), format!("this is {what}"));
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_keeps_the_rules(mut bytes in prop::collection::vec(any::<u8>(), 0..200), text_offset: u64, image_size in 0u64..1000) {
            if let Some(place) = bytes.get_mut(56..60) {
                place.copy_from_slice(&MAGIC);
            }
            if let Some(place) = bytes.get_mut(8..16) {
                place.copy_from_slice(&(text_offset & 0x3F_F000).to_le_bytes());
            }
            if let Some(place) = bytes.get_mut(16..24) {
                place.copy_from_slice(&image_size.to_le_bytes());
            }
            if let Ok(image) = Image::judge(&bytes) {
                prop_assert!(image.text_offset < IMAGE_ALIGN && image.text_offset % PAGE == 0);
                prop_assert!(image.memory >= bytes.len() as u64 && image.memory != 0);
            }
        }
    }
}
