//! Files and devices without the page cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use nix::fcntl::OFlag;

/// What direct transfers begin at and are multiples of, on any disk of today.
pub const BLOCK: usize = 4096;

/// Opens a file or a device for transfers that go to the disk at once.
pub fn open(path: &Path, create: bool) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(path)
        .with_context(|| format!("cannot open {} for direct transfers", path.display()))
}

/// Memory that begins where a direct transfer may.
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    from: usize,
    length: usize,
}

impl Buffer {
    /// So many bytes, all zero.
    pub fn new(length: usize) -> Self {
        let memory = vec![0; length.saturating_add(BLOCK)];
        let from = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self {
            memory,
            from,
            length,
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let end = self.from.saturating_add(self.length);
        self.memory.get(self.from..end).unwrap_or_default()
    }

    /// The bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let end = self.from.saturating_add(self.length);
        self.memory.get_mut(self.from..end).unwrap_or_default()
    }

    /// Writes all of it.
    pub fn write(&self, file: &File, at: u64) -> io::Result<()> {
        file.write_all_at(self.bytes(), at)
    }

    /// Reads as much.
    pub fn read(&mut self, file: &File, at: u64) -> io::Result<()> {
        file.read_exact_at(self.bytes_mut(), at)
    }
}
