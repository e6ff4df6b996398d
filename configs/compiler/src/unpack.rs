//! Kernels come packed: gzip (RFC 1952), zstd (RFC 8878), and the EFI program that unpacks itself (Linux
//! `drivers/firmware/efi/libstub/zboot-header.S`). EL2 unpacks nothing, so it is done here, within a bound: a file of
//! a few bytes can claim to hold any number of them.

use std::error::Error;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use ruzstd::decoding::StreamingDecoder;

use crate::summary::size;

const GZIP: &[u8] = b"\x1F\x8B";
const ZSTD: &[u8] = b"\x28\xB5\x2F\xFD";
/// A frame that a decoder skips: `0x184D2A5?`, little endian, then its length (RFC 8878 3.1.2).
const SKIPPABLE: &[u8] = b"\x2A\x4D\x18";
/// No kernel is packed more often: zboot around gzip around the `Image` are two.
const MOST_LAYERS: usize = 3;

/// What a kernel was taken out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    Zstd,
    /// An EFI program that carries a packed kernel.
    Zboot,
}

impl Packing {
    /// By the first bytes.
    fn of(file: &[u8]) -> Option<Self> {
        if file.starts_with(GZIP) {
            Some(Self::Gzip)
        } else if file.starts_with(ZSTD) {
            Some(Self::Zstd)
        } else if file.starts_with(b"MZ") && file.get(4..8) == Some(b"zimg") {
            Some(Self::Zboot)
        } else {
            None
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zboot => "zboot",
        })
    }
}

/// Why a packed kernel was not unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotUnpacked {
    /// The stream ends before its end.
    Truncated(Packing),
    /// The stream is wrong, in the decoder's words.
    Damaged(Packing, String),
    /// It holds more than this many bytes.
    TooLarge(Packing, u64),
    /// It holds nothing.
    Nothing(Packing),
    /// Behind the packed kernel come this many bytes of something else.
    Followed(Packing, usize),
    /// It is packed more often than any kernel.
    Layers,
    /// An EFI kernel whose header points outside the file.
    Header,
    /// An EFI kernel that is packed in another way.
    Method(String),
}

/// Takes a kernel out of everything it is packed in: what is found, and the outermost packing. No step takes more than
/// `limit` bytes.
pub(crate) fn unpack(
    file: &Rc<Vec<u8>>,
    limit: u64,
) -> Result<(Rc<Vec<u8>>, Option<Packing>), NotUnpacked> {
    let mut bytes = Rc::clone(file);
    let mut outermost = None;
    for _ in 0..=MOST_LAYERS {
        let Some(packing) = Packing::of(&bytes) else {
            return Ok((bytes, outermost));
        };
        outermost = outermost.or(Some(packing));
        let unpacked = match packing {
            Packing::Gzip => gunzip(&bytes, packing, limit)?,
            Packing::Zstd => unzstd(&bytes, packing, limit)?,
            Packing::Zboot => zboot(&bytes, limit)?,
        };
        if unpacked.is_empty() {
            return Err(NotUnpacked::Nothing(packing));
        }
        bytes = Rc::new(unpacked);
    }
    Err(NotUnpacked::Layers)
}

/// Reads a decoder to its end, or to the bound.
fn drain(
    decoder: impl Read,
    out: &mut Vec<u8>,
    packing: Packing,
    limit: u64,
) -> Result<(), NotUnpacked> {
    let had = u64::try_from(out.len()).unwrap_or(u64::MAX);
    let room = limit.saturating_sub(had).saturating_add(1);
    decoder
        .take(room)
        .read_to_end(out)
        .map_err(|error| failed(packing, &error))?;
    if u64::try_from(out.len()).is_ok_and(|length| length <= limit) {
        Ok(())
    } else {
        Err(NotUnpacked::TooLarge(packing, limit))
    }
}

/// Tells a stream that ends early, whose cause is a read beyond its end, from one that is wrong.
fn failed(packing: Packing, error: &(dyn Error + 'static)) -> NotUnpacked {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof) {
            return NotUnpacked::Truncated(packing);
        }
        cause = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    NotUnpacked::Damaged(packing, error.to_string())
}

/// Behind the last stream: zeros are padding; in a zboot file the kernel's length and the program follow.
fn behind(rest: &[u8], packing: Packing) -> Result<(), NotUnpacked> {
    if packing == Packing::Zboot || rest.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err(NotUnpacked::Followed(packing, rest.len()))
    }
}

/// One or more gzip members, with their checksums.
fn gunzip(mut rest: &[u8], packing: Packing, limit: u64) -> Result<Vec<u8>, NotUnpacked> {
    let mut out = Vec::new();
    while rest.starts_with(GZIP) {
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        drain(&mut decoder, &mut out, packing, limit)?;
        rest = decoder.into_inner();
    }
    behind(rest, packing)?;
    Ok(out)
}

/// One or more zstd frames, with their checksums where they have one.
fn unzstd(mut rest: &[u8], packing: Packing, limit: u64) -> Result<Vec<u8>, NotUnpacked> {
    let mut out = Vec::new();
    loop {
        if rest.starts_with(ZSTD) {
            let mut decoder =
                StreamingDecoder::new(&mut rest).map_err(|error| failed(packing, &error))?;
            drain(&mut decoder, &mut out, packing, limit)?;
            let frame = decoder.into_frame_decoder();
            if let Some(stated) = frame.get_checksum_from_data()
                && frame.get_calculated_checksum() != Some(stated)
            {
                let why = "its checksum is another".to_owned();
                return Err(NotUnpacked::Damaged(packing, why));
            }
        } else if let Some(next) = skippable(rest) {
            rest = next;
        } else {
            break;
        }
    }
    behind(rest, packing)?;
    Ok(out)
}

/// What follows a skippable frame, if one is here.
fn skippable(rest: &[u8]) -> Option<&[u8]> {
    let (head, body) = rest.split_first_chunk::<8>()?;
    let [first, a, b, c, length @ ..] = *head;
    if first & 0xF0 != 0x50 || [a, b, c] != *SKIPPABLE {
        return None;
    }
    body.get(usize::try_from(u32::from_le_bytes(length)).ok()?..)
}

/// The kernel in an EFI program: header, packed kernel, and the code that would unpack it.
fn zboot(file: &[u8], limit: u64) -> Result<Vec<u8>, NotUnpacked> {
    let word = |at: usize| {
        let bytes = file.get(at..at.saturating_add(4))?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let payload = word(8).zip(word(12)).and_then(|(start, length)| {
        let payload = file.get(start..start.checked_add(length)?)?;
        (!payload.is_empty()).then_some(payload)
    });
    let method = file.get(24..56).ok_or(NotUnpacked::Header)?;
    let method = method.split(|byte| *byte == 0).next().unwrap_or_default();
    let payload = payload.ok_or(NotUnpacked::Header)?;
    match method {
        b"gzip" => gunzip(payload, Packing::Zboot, limit),
        b"zstd" | b"zstd22" => unzstd(payload, Packing::Zboot, limit),
        other => {
            let printable = other.iter().filter(|byte| byte.is_ascii_graphic());
            let name: String = printable.map(|byte| char::from(*byte)).collect();
            Err(NotUnpacked::Method(name))
        }
    }
}

impl NotUnpacked {
    /// What to do.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Truncated(_) | Self::Damaged(..) | Self::Nothing(_) | Self::Header => {
                "the file is damaged: build or fetch it again"
            }
            Self::TooLarge(..) => {
                "a kernel must fit into its guest's memory: give the guest more, or name another file"
            }
            Self::Followed(..) => {
                "XDV makes the guest's device tree itself: name the packed kernel alone, with nothing appended"
            }
            Self::Layers => "unpack it, and name the arm64 `Image` in it",
            Self::Method(_) => {
                "XDV unpacks gzip and zstd: unpack it, and name the arm64 `Image` in it"
            }
        }
    }
}

impl fmt::Display for NotUnpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(packing) => write!(f, "this {packing} file ends too early"),
            Self::Damaged(packing, why) => write!(f, "this {packing} file is damaged: {why}"),
            Self::TooLarge(packing, limit) => write!(
                f,
                "this {packing} file unpacks to more than {}",
                size(*limit)
            ),
            Self::Nothing(packing) => write!(f, "nothing is in this {packing} file"),
            Self::Followed(packing, bytes) => write!(
                f,
                "{bytes} bytes of something else follow the {packing} stream"
            ),
            Self::Layers => write!(f, "it is packed more than {MOST_LAYERS} times"),
            Self::Header => write!(
                f,
                "this is a compressed EFI kernel (zboot) whose header points outside the file"
            ),
            Self::Method(name) => {
                write!(f, "this is an EFI kernel (zboot) compressed with `{name}`")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream without end is read to the bound and one byte on, not more: that byte tells that it is too large.
    #[test]
    fn no_more_is_unpacked_than_the_bound() {
        let mut out = vec![1; 10];
        let endless = io::repeat(0).take(1 << 20);
        let refused = drain(endless, &mut out, Packing::Gzip, 1000);
        assert_eq!(refused, Err(NotUnpacked::TooLarge(Packing::Gzip, 1000)));
        assert_eq!(out.len(), 1001);

        let mut out = vec![1; 10];
        let exact = io::repeat(0).take(990);
        assert_eq!(drain(exact, &mut out, Packing::Gzip, 1000), Ok(()));
        assert_eq!(out.len(), 1000);
    }
}
