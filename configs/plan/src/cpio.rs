//! The `newc` cpio archive: read at EL2, written on the host.
//!
//! Chosen because every tool knows it, `cpio -t` included, and because it needs no allocation to read:
//! each member is a fixed header of hexadecimal digits, a name and its bytes, each padded to four bytes
//! (format: cpio(5), "New ASCII Format"; Linux `Documentation/driver-api/early-userspace/buffer-format.rst`).

use crate::{PlanError, Why};

const MAGIC: &[u8] = b"070701";
/// Magic and thirteen numbers of eight hexadecimal digits.
const HEADER: usize = 6 + 13 * 8;
const TRAILER: &str = "TRAILER!!!";
const TYPE_MASK: u32 = 0o170_000;
const TYPE_REGULAR: u32 = 0o100_000;

/// An archive, not yet judged: each walk over it judges as it goes.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a>(&'a [u8]);

/// One regular file of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name, without a leading `./`.
    pub name: &'a str,
    /// Its bytes.
    pub data: &'a [u8],
    /// Where its header stands in the archive.
    pub offset: usize,
}

impl<'a> Archive<'a> {
    /// Takes bytes for an archive.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes of the regular file `name`, or `None` when there is none.
    ///
    /// # Errors
    /// When the archive is damaged anywhere, or has that name twice: with either, which file was meant is a guess.
    pub fn find(&self, name: &str) -> Result<Option<&'a [u8]>, PlanError> {
        let mut found = None;
        for entry in self.entries() {
            let entry = entry?;
            if entry.name == name && found.replace(entry.data).is_some() {
                let at = entry.offset as u64;
                return Err(PlanError::new(Why::MemberTwice, at));
            }
        }
        Ok(found)
    }

    /// Its regular files, in order. Ends after the first error.
    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            bytes: self.0,
            at: Some(0),
        }
    }
}

/// The regular files of an archive.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    /// Where the next member stands; `None` after the trailer or an error.
    at: Option<usize>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Taken, and put back only when the member was sound: an error is the last item.
            let at = self.at.take()?;
            let (entry, mode, next) = match member(self.bytes, at) {
                Ok(member) => member,
                Err(error) => return Some(Err(error)),
            };
            if entry.name == TRAILER {
                return None;
            }
            self.at = Some(next);
            if mode & TYPE_MASK == TYPE_REGULAR {
                return Some(Ok(entry));
            }
        }
    }
}

/// The member at `at`, its mode, and where the next one stands.
#[inline(never)]
fn member(bytes: &[u8], at: usize) -> Result<(Entry<'_>, u32, usize), PlanError> {
    let wrong = |why| PlanError::new(why, at as u64);
    let cut = wrong(Why::ArchiveCut);
    let rest = bytes.get(at..).ok_or(cut)?;
    let (header, after) = rest.split_at_checked(HEADER).ok_or(cut)?;
    let numbers = header.strip_prefix(MAGIC).unwrap_or_default();
    let field = |nth: usize| numbers.chunks_exact(8).nth(nth).and_then(hex);
    let (Some(mode), Some(size), Some(name_size)) = (field(1), field(6), field(11)) else {
        return Err(wrong(Why::Member));
    };
    // Archives are padded relative to their own start, and `at` is a multiple of four: so relative to the member. Numbers
    // of 32 bits do not make an address wrap.
    let (name_size, size) = (name_size as usize, size as usize);
    let name_end = HEADER.saturating_add(name_size);
    let data_start = name_end.next_multiple_of(4);
    let data_end = data_start.saturating_add(size);
    let next = at.saturating_add(data_end.next_multiple_of(4));

    let (name, _) = after.split_at_checked(name_size).ok_or(cut)?;
    let data = rest.get(data_start..data_end).ok_or(cut)?;
    let name = match name.split_last() {
        Some((0, name)) if name.iter().all(|byte| *byte != 0) => core::str::from_utf8(name).ok(),
        _ => None,
    };
    let name = name.ok_or(wrong(Why::MemberName))?;
    let name = name.strip_prefix("./").unwrap_or(name);
    let offset = at;
    Ok((Entry { name, data, offset }, mode, next))
}

/// A number of eight hexadecimal digits. Stricter than `from_str_radix`, which takes a sign.
#[inline(never)]
fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some((value << 4) | digit)
    })
}

#[cfg(feature = "encode")]
mod write {
    use alloc::vec::Vec;
    use alloc::{format, vec};

    use super::{HEADER, MAGIC, TRAILER, TYPE_REGULAR};

    /// Writes archives. The same files give the same bytes: there is no time, owner or inode number in them.
    #[derive(Debug, Default)]
    pub struct Writer {
        bytes: Vec<u8>,
        files: u32,
    }

    /// A file or its name is longer than the format's 32-bit fields can say.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TooLong;

    impl Writer {
        /// An empty archive.
        #[must_use]
        pub fn new() -> Self {
            Self::default()
        }

        /// Adds one file.
        ///
        /// # Errors
        /// When it has 4 GiB or more.
        pub fn file(&mut self, name: &str, data: &[u8]) -> Result<(), TooLong> {
            self.files = self.files.saturating_add(1);
            self.member(name, TYPE_REGULAR | 0o644, self.files, data)
        }

        /// Adds one file whose bytes begin on a multiple of `align`, which is one of four, behind a file of zeros if they
        /// would not by themselves.
        ///
        /// # Errors
        /// When it has 4 GiB or more.
        pub fn aligned(&mut self, name: &str, data: &[u8], align: usize) -> Result<(), TooLong> {
            let head = |name: &str| {
                let named = HEADER.saturating_add(name.len()).saturating_add(1);
                named.next_multiple_of(4)
            };
            let start = self.bytes.len().saturating_add(head(name));
            if !start.is_multiple_of(align) {
                let padding = format!("padding/{}", self.files);
                let least = start.saturating_add(head(&padding));
                let zeros = least.next_multiple_of(align).saturating_sub(least);
                self.file(&padding, &vec![0; zeros])?;
            }
            self.file(name, data)
        }

        /// Ends the archive.
        #[must_use]
        pub fn finish(mut self) -> Vec<u8> {
            // The trailer is short and empty: it cannot be too long.
            let _ = self.member(TRAILER, 0, 0, &[]);
            self.bytes
        }

        fn member(
            &mut self,
            name: &str,
            mode: u32,
            inode: u32,
            data: &[u8],
        ) -> Result<(), TooLong> {
            let size = u32::try_from(data.len()).map_err(|_| TooLong)?;
            let name_size = u32::try_from(name.len().saturating_add(1)).map_err(|_| TooLong)?;
            self.bytes.extend_from_slice(MAGIC);
            for number in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
                self.bytes
                    .extend_from_slice(format!("{number:08X}").as_bytes());
            }
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes.push(0);
            self.pad();
            self.bytes.extend_from_slice(data);
            self.pad();
            Ok(())
        }

        fn pad(&mut self) {
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
    }
}

#[cfg(feature = "encode")]
pub use write::{TooLong, Writer};
