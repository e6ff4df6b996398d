//! A device's blocks against a model: several threads at once, each in a part of its own, so that requests of all sizes
//! are on their way together. A request that fails is asked for again and counted; what is read must always be what was
//! written last.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::direct::{self, BLOCK, Buffer};
use super::fsx::same;
use super::random::Random;

const THREADS: u64 = 4;
/// The largest request, in blocks.
const MOST: u64 = 64;
const BLOCK_BYTES: u64 = 4096;
/// How often a request that fails is asked for before the device counts as broken.
const PATIENCE: u32 = 1000;

/// What one thread or all of them did.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    written: u64,
    compared: u64,
    zeroed: u64,
    flushes: u64,
    errors: u64,
}

/// Runs for a while, and compares every block at the end.
pub fn run(path: &Path, time: Duration, seed: u64) -> anyhow::Result<()> {
    let blocks = direct::open(path, false)?.seek(SeekFrom::End(0))? / BLOCK_BYTES;
    let each = blocks / THREADS;
    ensure!(each > MOST, "{} is too small", path.display());
    let begin = Instant::now();
    let mut all = Done::default();
    let done: Vec<anyhow::Result<Done>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                scope.spawn(move || {
                    let mut part = Part::new(path, number * each, each, seed ^ number)?;
                    while begin.elapsed() < time {
                        part.step()?;
                    }
                    part.all()?;
                    Ok(part.done)
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<Done>>| {
            thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
        };
        threads.into_iter().map(join).collect()
    });
    for done in done {
        let done = done.with_context(|| format!("seed {seed}"))?;
        all.written += done.written;
        all.compared += done.compared;
        all.zeroed += done.zeroed;
        all.flushes += done.flushes;
        all.errors += done.errors;
    }
    println!(
        "disk: {} MiB written, {} MiB read, {} MiB zeroed, {} flushes, {} errors answered by asking again, seed {seed}: as the model has it",
        all.written >> 8,
        all.compared >> 8,
        all.zeroed >> 8,
        all.flushes,
        all.errors
    );
    Ok(())
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Nothing: what an earlier life left.
    Nothing,
    /// It is zero.
    Zero,
    /// It was written with the bytes of this seed.
    Seed(u64),
}

struct Part {
    file: File,
    first: u64,
    blocks: Vec<Known>,
    random: Random,
    done: Done,
}

impl Part {
    fn new(path: &Path, first: u64, blocks: u64, seed: u64) -> anyhow::Result<Self> {
        Ok(Self {
            file: direct::open(path, false)?,
            first,
            blocks: vec![Known::Nothing; usize::try_from(blocks)?],
            random: Random::new(seed),
            done: Done::default(),
        })
    }

    fn count(&self) -> u64 {
        u64::try_from(self.blocks.len()).unwrap_or(0)
    }

    fn step(&mut self) -> anyhow::Result<()> {
        let at = self.random.below(self.count());
        let most = if self.random.below(4) == 0 { MOST } else { 4 };
        let length = (1 + self.random.below(most)).min(self.count() - at);
        match self.random.below(100) {
            0..45 => self.write(at, length),
            45..92 => self.read(at, length),
            92..96 => self.zero(at, length),
            _ => {
                self.done.flushes += 1;
                let (file, errors) = (&self.file, &mut self.done.errors);
                patiently(errors, || file.sync_data()).context("a flush")
            }
        }
    }

    fn write(&mut self, at: u64, length: u64) -> anyhow::Result<()> {
        let mut buffer = Buffer::new(usize::try_from(length)?.saturating_mul(BLOCK));
        let from = usize::try_from(at)?;
        for (chunk, known) in buffer
            .bytes_mut()
            .chunks_mut(BLOCK)
            .zip(self.blocks.iter_mut().skip(from))
        {
            let seed = self.random.next();
            *known = Known::Seed(seed);
            Random::new(seed).fill(chunk);
        }
        let (file, errors) = (&self.file, &mut self.done.errors);
        let place = (self.first + at) * BLOCK_BYTES;
        patiently(errors, || buffer.write(file, place))
            .with_context(|| format!("{length} blocks written at byte {place}"))?;
        self.done.written += length;
        Ok(())
    }

    fn read(&mut self, at: u64, length: u64) -> anyhow::Result<()> {
        let mut buffer = Buffer::new(usize::try_from(length)?.saturating_mul(BLOCK));
        let (file, errors) = (&self.file, &mut self.done.errors);
        let place = (self.first + at) * BLOCK_BYTES;
        let what = || format!("{length} blocks read at byte {place}");
        patiently(errors, || buffer.read(file, place)).with_context(what)?;
        let mut wanted = vec![0; BLOCK];
        let known = self.blocks.iter().skip(usize::try_from(at)?);
        for (number, (chunk, known)) in (0..).zip(buffer.bytes().chunks(BLOCK).zip(known)) {
            match known {
                Known::Nothing => continue,
                Known::Zero => wanted.fill(0),
                Known::Seed(seed) => Random::new(*seed).fill(&mut wanted),
            }
            same(&wanted, chunk, place + number * BLOCK_BYTES).with_context(what)?;
        }
        self.done.compared += length;
        Ok(())
    }

    /// Zeroes blocks by a request for that, where the device has one.
    fn zero(&mut self, at: u64, length: u64) -> anyhow::Result<()> {
        let place = i64::try_from((self.first + at) * BLOCK_BYTES)?;
        let bytes = i64::try_from(length * BLOCK_BYTES)?;
        let how = if self.random.below(2) == 0 {
            FallocateFlags::FALLOC_FL_ZERO_RANGE
        } else {
            FallocateFlags::FALLOC_FL_PUNCH_HOLE
        };
        let (file, errors) = (&self.file, &mut self.done.errors);
        let flags = how | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let mut refused = false;
        patiently(errors, || match fallocate(file, flags, place, bytes) {
            Err(Errno::EOPNOTSUPP) => {
                refused = true;
                Ok(())
            }
            other => other.map_err(io::Error::from),
        })
        .with_context(|| format!("{length} blocks zeroed at byte {place}"))?;
        if !refused {
            let (from, count) = (usize::try_from(at)?, usize::try_from(length)?);
            for known in self.blocks.iter_mut().skip(from).take(count) {
                *known = Known::Zero;
            }
            self.done.zeroed += length;
        }
        Ok(())
    }

    fn all(&mut self) -> anyhow::Result<()> {
        let mut at = 0;
        while at < self.count() {
            let length = MOST.min(self.count() - at);
            self.read(at, length)?;
            at += length;
        }
        Ok(())
    }
}

/// Whether a device said that it could not.
pub fn is_io_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EIO as i32)
}

/// Asks again for what fails with an I/O error.
pub fn patiently(errors: &mut u64, mut ask: impl FnMut() -> io::Result<()>) -> anyhow::Result<()> {
    let mut left = PATIENCE;
    loop {
        match ask() {
            Err(error) if is_io_error(&error) && left > 0 => {
                *errors += 1;
                left -= 1;
            }
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_file_of_the_host_is_as_the_model_has_it_until_somebody_else_writes() {
        let path = std::env::current_exe().unwrap();
        let path = path.with_file_name(format!("disk-{}", std::process::id()));
        std::fs::write(&path, vec![0; 4 << 20]).unwrap();
        run(&path, Duration::from_millis(300), 3).unwrap();
        let mut part = Part::new(&path, 0, 200, 1).unwrap();
        part.write(100, 64).unwrap();
        part.all().unwrap();
        part.file = File::options().read(true).write(true).open(&path).unwrap();
        part.file.write_all_at(b"!", 130 * 4096 + 7).unwrap();
        let error = format!("{:#}", part.all().unwrap_err());
        assert!(error.contains("byte 532487 is"), "{error}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_fails_is_asked_for_again_but_not_for_ever() {
        let mut errors = 0;
        let mut left = 3;
        let eio = || io::Error::from_raw_os_error(Errno::EIO as i32);
        let ask = || {
            left -= 1;
            if left > 0 { Err(eio()) } else { Ok(()) }
        };
        patiently(&mut errors, ask).unwrap();
        assert_eq!(errors, 2);
        assert!(patiently(&mut errors, || Err(eio())).is_err());
        assert!(patiently(&mut errors, || Err(io::ErrorKind::NotFound.into())).is_err());
    }
}
