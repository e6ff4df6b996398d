//! A file against a model of it in memory: random writes, reads, truncations, holes and flushes, through the page cache
//! and past it, as Apple's and later everybody's `fsx` does.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};

use super::direct::{self, BLOCK, Buffer};
use super::random::Random;

/// How large the file may grow, and the largest transfer.
const LARGEST: u64 = 4 << 20;
const TRANSFER: u64 = 256 << 10;
/// How many operations a complaint shows.
const SHOWN: usize = 20;

/// Runs for a while, and compares everything at the end.
pub fn run(path: &Path, time: Duration, seed: u64) -> anyhow::Result<()> {
    let mut fsx = Fsx::new(path, seed)?;
    let begin = Instant::now();
    while begin.elapsed() < time {
        fsx.step()?;
    }
    fsx.forget()?;
    fsx.read(0, fsx.size(), false)?;
    println!(
        "fsx: {} operations, {} MiB written, {} MiB read, seed {seed}: as the model has it",
        fsx.operations,
        fsx.written >> 20,
        fsx.compared >> 20
    );
    Ok(())
}

struct Fsx<'a> {
    path: &'a Path,
    cached: File,
    direct: File,
    model: Vec<u8>,
    random: Random,
    last: VecDeque<String>,
    operations: u64,
    written: u64,
    compared: u64,
}

impl<'a> Fsx<'a> {
    fn new(path: &'a Path, seed: u64) -> anyhow::Result<Self> {
        let cached = cached(path)?;
        cached.set_len(0)?;
        Ok(Self {
            path,
            cached,
            direct: direct::open(path, false)?,
            model: Vec::new(),
            random: Random::new(seed),
            last: VecDeque::new(),
            operations: 0,
            written: 0,
            compared: 0,
        })
    }

    fn size(&self) -> u64 {
        u64::try_from(self.model.len()).unwrap_or(u64::MAX)
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.operations = self.operations.saturating_add(1);
        let at = self.random.below(LARGEST);
        let length = self
            .random
            .below(TRANSFER)
            .min(LARGEST.saturating_sub(at))
            .max(1);
        let (block_at, block_length) = (at & !4095, length.next_multiple_of(4096));
        match self.random.below(100) {
            0..25 => self.write(at, length, false),
            25..45 => self.write(block_at, block_length.min(LARGEST - block_at), true),
            45..65 => self.read(at, length, false),
            65..80 => self.read(block_at, block_length, true),
            80..86 => self.resize(at),
            86..90 => self.zero(at, length, FallocateFlags::FALLOC_FL_PUNCH_HOLE),
            90..94 => self.zero(at, length, FallocateFlags::FALLOC_FL_ZERO_RANGE),
            94..97 => self.note("fdatasync".to_owned(), |fsx| Ok(fsx.cached.sync_data()?)),
            97..99 => self.forget(),
            _ => self.note("reopen".to_owned(), |fsx| {
                fsx.cached = cached(fsx.path)?;
                fsx.direct = direct::open(fsx.path, false)?;
                Ok(())
            }),
        }
    }

    /// Does one thing, and remembers it for a complaint.
    fn note(
        &mut self,
        what: String,
        act: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.last.len() >= SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(what);
        act(self).with_context(|| {
            let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
            format!("operation {} ({})", self.operations, last.join(", "))
        })
    }

    fn write(&mut self, at: u64, length: u64, direct: bool) -> anyhow::Result<()> {
        let way = if direct { "direct " } else { "" };
        self.note(format!("{way}write {length} at {at}"), |fsx| {
            let mut buffer = Buffer::new(usize::try_from(length)?);
            fsx.random.fill(buffer.bytes_mut());
            let file = if direct { &fsx.direct } else { &fsx.cached };
            buffer.write(file, at)?;
            fsx.written = fsx.written.saturating_add(length);
            let (from, end) = (usize::try_from(at)?, usize::try_from(at + length)?);
            if fsx.model.len() < end {
                fsx.model.resize(end, 0);
            }
            if let Some(part) = fsx.model.get_mut(from..end) {
                part.copy_from_slice(buffer.bytes());
            }
            Ok(())
        })
    }

    fn read(&mut self, at: u64, length: u64, direct: bool) -> anyhow::Result<()> {
        let length = length.min(self.size().saturating_sub(at));
        let way = if direct { "direct " } else { "" };
        self.note(format!("{way}read {length} at {at}"), |fsx| {
            let wanted = usize::try_from(length)?;
            // The end of a file may be in the middle of a block; a direct read asks for all of it.
            let mut buffer = Buffer::new(wanted.next_multiple_of(BLOCK));
            let file = if direct { &fsx.direct } else { &fsx.cached };
            let mut got = 0;
            while got < wanted {
                let rest = buffer.bytes_mut().get_mut(got..).unwrap_or_default();
                match file.read_at(rest, at + u64::try_from(got)?)? {
                    0 => bail!("the file ends after {got} bytes"),
                    more => got += more,
                }
            }
            let from = usize::try_from(at)?;
            let model = fsx.model.get(from..from + wanted).unwrap_or_default();
            same(model, buffer.bytes().get(..wanted).unwrap_or_default(), at)?;
            fsx.compared = fsx.compared.saturating_add(length);
            Ok(())
        })
    }

    fn resize(&mut self, to: u64) -> anyhow::Result<()> {
        self.note(format!("resize to {to}"), |fsx| {
            fsx.cached.set_len(to)?;
            fsx.model.resize(usize::try_from(to)?, 0);
            Ok(())
        })
    }

    fn zero(&mut self, at: u64, length: u64, how: FallocateFlags) -> anyhow::Result<()> {
        self.note(format!("{how:?} {length} at {at}"), |fsx| {
            let flags = how | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            match fallocate(
                &fsx.cached,
                flags,
                i64::try_from(at)?,
                i64::try_from(length)?,
            ) {
                Ok(()) => {}
                Err(Errno::EOPNOTSUPP) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let from = usize::try_from(at)?.min(fsx.model.len());
            let end = usize::try_from(at + length)?.min(fsx.model.len());
            fsx.model.get_mut(from..end).unwrap_or_default().fill(0);
            Ok(())
        })
    }

    /// Everything to the disk, and out of memory.
    fn forget(&mut self) -> anyhow::Result<()> {
        self.note("fsync and forget".to_owned(), |fsx| {
            fsx.cached.sync_all()?;
            posix_fadvise(&fsx.cached, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
            Ok(())
        })
    }
}

fn cached(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Complains about the first byte that differs.
pub fn same(wanted: &[u8], seen: &[u8], at: u64) -> anyhow::Result<()> {
    if wanted == seen {
        return Ok(());
    }
    let bad = wanted.iter().zip(seen).position(|(a, b)| a != b);
    let count = wanted.iter().zip(seen).filter(|(a, b)| a != b).count();
    let bad = bad.unwrap_or(wanted.len().min(seen.len()));
    bail!(
        "byte {} is {:x?} instead of {:x?} ({count} of {} differ)",
        at.saturating_add(u64::try_from(bad)?),
        seen.get(bad),
        wanted.get(bad),
        wanted.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let folder = std::env::current_exe().unwrap();
        folder.with_file_name(format!("fsx-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_file_of_the_host_is_as_the_model_has_it() {
        let path = scratch("well");
        run(&path, Duration::from_millis(500), 3).unwrap();
        std::fs::remove_file(path).unwrap();
    }

    /// A bit that changes behind its back is seen at the end at the latest.
    #[test]
    fn a_flipped_bit_is_seen() {
        let path = scratch("flipped");
        let mut fsx = Fsx::new(&path, 5).unwrap();
        fsx.write(0, 100_000, false).unwrap();
        fsx.cached
            .write_all_at(&[!fsx.model[77_777]], 77_777)
            .unwrap();
        let error = format!("{:#}", fsx.read(4096, 80_000, true).unwrap_err());
        assert!(
            error.contains("byte 77777 is") && error.contains("write 100000 at 0"),
            "{error}"
        );
        std::fs::remove_file(path).unwrap();
    }
}
