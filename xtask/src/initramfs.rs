//! An initramfs in cpio's `newc` form, written here so that no `cpio` program is needed.
//! Format: Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`.

use anyhow::Context;

/// `S_IFREG`, `S_IFDIR`, `S_IFLNK`, `S_IFCHR` of stat(2).
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// An archive under construction.
#[derive(Debug, Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    /// Adds a folder.
    pub fn folder(&mut self, name: &str) -> anyhow::Result<&mut Self> {
        self.entry(name, FOLDER | 0o755, &[], (0, 0))
    }

    /// Adds a file that may be executed.
    pub fn program(&mut self, name: &str, content: &[u8]) -> anyhow::Result<&mut Self> {
        self.entry(name, FILE | 0o755, content, (0, 0))
    }

    /// Adds a file that may only be read.
    pub fn file(&mut self, name: &str, content: &[u8]) -> anyhow::Result<&mut Self> {
        self.entry(name, FILE | 0o644, content, (0, 0))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, to: &str) -> anyhow::Result<&mut Self> {
        self.entry(name, LINK | 0o777, to.as_bytes(), (0, 0))
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) -> anyhow::Result<&mut Self> {
        self.entry(name, DEVICE | 0o600, &[], (major, minor))
    }

    /// The finished archive.
    pub fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[], (0, 0))?;
        Ok(self.bytes)
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        content: &[u8],
        device: (u32, u32),
    ) -> anyhow::Result<&mut Self> {
        self.entries = self.entries.saturating_add(1);
        let size = u32::try_from(content.len())
            .with_context(|| format!("{name} is too large for cpio"))?;
        let name_size = u32::try_from(name.len())
            .ok()
            .and_then(|n| n.checked_add(1))
            .context("a cpio name is too long")?;
        // ino, mode, uid, gid, nlink, mtime, size, device of the file (2), device it is (2), length of the name, check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(self)
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Initramfs::default();
        archive
            .folder("bin")
            .unwrap()
            .program("init", b"#!x\n")
            .unwrap()
            .link("bin/sh", "busybox")
            .unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn headers_are_110_bytes_and_everything_is_padded_to_four() {
        let bytes = sample();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[110..114], b"bin\0");
        // 110 + 4 is padded to 116, where the next header is.
        assert_eq!(&bytes[116..122], b"070701");
    }

    #[test]
    fn the_archive_ends_with_its_trailer() {
        assert!(sample().windows(11).any(|window| window == b"TRAILER!!!\0"));
    }

    #[test]
    fn the_size_is_in_the_seventh_field() {
        let bytes = sample();
        let field = &bytes[116 + 6 + 6 * 8..116 + 6 + 7 * 8];
        assert_eq!(field, b"00000004");
    }
}
