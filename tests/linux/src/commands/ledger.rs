//! What must be left of a disk when its guest ends at any moment: batches of records at random places, each batch flushed,
//! then a word that says so, flushed too. Whoever comes next reads the word and demands every record of every batch up to
//! it. Of the batch behind it any sectors may be there, and in their place only what was there before; nothing else may
//! have changed. The records of a batch are on their way together. What fails is asked for again, and a write that failed
//! has left sectors that are old or new.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::direct::{self, BLOCK, Buffer};
use super::disk::{is_io_error, patiently};
use super::random::Random;

const MAGIC: u64 = u64::from_le_bytes(*b"xdvledgr");
const BLOCK_BYTES: u64 = 4096;
/// Records, and the most of a batch. The first two blocks hold the word, in turns: a torn one spares the other.
const RECORDS: u64 = 1024;
const WORDS: u64 = 2;
const BATCH: u64 = 24;
/// How many records are on their way at once.
const TOGETHER: usize = 6;
const SECTOR: usize = 512;
/// How often it says how far it is.
const SAYS: Duration = Duration::from_millis(100);

/// Looks at what an earlier life left, and goes on for a while.
pub fn run(path: &Path, time: Duration) -> anyhow::Result<()> {
    let ledger = Ledger::open(path)?;
    if (&ledger.file).seek(SeekFrom::End(0))? < (RECORDS + WORDS) * BLOCK_BYTES {
        let mut zero = Buffer::new(BLOCK);
        zero.bytes_mut().fill(0);
        for at in 0..RECORDS + WORDS {
            ledger.patiently(|| zero.write(&ledger.file, at * BLOCK_BYTES))?;
        }
        ledger.patiently(|| ledger.file.sync_all())?;
    }
    let (batch, life) = ledger.found()?;
    println!("ledger: life {}, {batch} batches found and right", life + 1);
    ledger.keep(batch, life + 1, time)
}

struct Ledger {
    file: File,
    requests: AtomicU64,
    errors: AtomicU64,
}

impl Ledger {
    fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            file: direct::open(path, true)?,
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })
    }

    /// Asks until it is done, and counts.
    fn patiently(&self, mut ask: impl FnMut() -> io::Result<()>) -> anyhow::Result<()> {
        let mut errors = 0;
        let asked = patiently(&mut errors, || {
            self.requests.fetch_add(1, Relaxed);
            ask()
        });
        self.errors.fetch_add(errors, Relaxed);
        asked
    }

    /// The last batch that was flushed, in which life; its records are all there.
    fn found(&self) -> anyhow::Result<(u64, u64)> {
        let mut words = Vec::new();
        for at in 0..WORDS {
            if let Some([0, batch, life]) = record(&self.read(at)?) {
                ensure!(batch % WORDS == at, "the word of batch {batch} is at {at}");
                words.push((batch, life));
            }
        }
        let (batch, life) = words.into_iter().max().unwrap_or((0, 0));
        let mut wanted = BTreeMap::new();
        for number in 1..=batch {
            for at in places(number) {
                wanted.insert(at, number);
            }
        }
        let begun = places(batch + 1);
        for at in WORDS..WORDS + RECORDS {
            let wanted = wanted.get(&at).copied().unwrap_or(0);
            let block = self.read(at)?;
            let seen = record(&block);
            let right = match seen {
                Some([place, number, _]) => place == at && number == wanted,
                None => wanted == 0 && block.bytes().iter().all(|byte| *byte == 0),
            };
            // One that was being written: new, old, or sectors of both.
            let torn = || begun.contains(&at) && is_of(&block, at, [wanted, batch + 1], life + 1);
            if !right && !torn() {
                bail!("block {at} is {seen:?} instead of batch {wanted}, and {batch} were flushed");
            }
        }
        Ok((batch, life))
    }

    fn keep(&self, mut batch: u64, life: u64, time: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut said = begin;
        let figures = || {
            let (requests, errors) = (self.requests.load(Relaxed), self.errors.load(Relaxed));
            format!("{requests} requests, {errors} errors")
        };
        while begin.elapsed() < time {
            batch += 1;
            self.write_all(batch, life)?;
            self.flush()?;
            self.write(batch % WORDS, [0, batch, life])?;
            self.flush()?;
            if said.elapsed() > SAYS {
                said = Instant::now();
                println!("ledger: flushed {batch}, {}", figures());
            }
        }
        println!("ledger: {batch} batches flushed, {}", figures());
        Ok(())
    }

    /// The records of a batch, several at once.
    fn write_all(&self, batch: u64, life: u64) -> anyhow::Result<()> {
        let places = places(batch);
        let share = places.len().div_ceil(TOGETHER).max(1);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for places in places.chunks(share) {
                threads.push(scope.spawn(move || {
                    places
                        .iter()
                        .try_for_each(|at| self.write(*at, [*at, batch, life]))
                }));
            }
            let join = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
                thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
            };
            threads.into_iter().try_for_each(join)
        })
    }

    fn flush(&self) -> anyhow::Result<()> {
        self.patiently(|| self.file.sync_data()).context("a flush")
    }

    fn read(&self, at: u64) -> anyhow::Result<Buffer> {
        let mut buffer = Buffer::new(BLOCK);
        self.patiently(|| buffer.read(&self.file, at * BLOCK_BYTES))
            .with_context(|| format!("block {at} read"))?;
        Ok(buffer)
    }

    fn write(&self, at: u64, record: [u64; 3]) -> anyhow::Result<()> {
        let mut new = Buffer::new(BLOCK);
        compose(&mut new, record);
        let old = self.read(at)?;
        self.patiently(|| {
            let written = new.write(&self.file, at * BLOCK_BYTES);
            if written.as_ref().is_err_and(is_io_error) {
                let seen = self.read(at).map_err(io::Error::other)?;
                if !is_mixed(&seen, [&old, &new]) {
                    return Err(io::Error::other("what failed left neither old nor new"));
                }
            }
            written
        })
        .with_context(|| format!("block {at} written"))
    }
}

/// Where a batch's records are: the same in every life.
fn places(batch: u64) -> Vec<u64> {
    let mut random = Random::new(batch);
    let count = 1 + random.below(BATCH);
    let mut places: Vec<u64> = (0..count).map(|_| WORDS + random.below(RECORDS)).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// What a record says, if it is one and whole: where it is, its batch and its life.
fn record(block: &Buffer) -> Option<[u64; 3]> {
    let mut head = block.bytes().chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let mut next = || head.next().unwrap_or(0);
    let (magic, record) = (next(), [next(), next(), next()]);
    let mut whole = Buffer::new(BLOCK);
    compose(&mut whole, record);
    (magic == MAGIC && whole.bytes() == block.bytes()).then_some(record)
}

/// Whether each sector of a block is one of these batches, 0 is none yet, written in any life up to this.
fn is_of(block: &Buffer, at: u64, batches: [u64; 2], life: u64) -> bool {
    let mut known = [false; BLOCK / SECTOR];
    let mut could_be = Buffer::new(BLOCK);
    for (batch, life) in batches
        .into_iter()
        .flat_map(|batch| (0..=life).map(move |life| (batch, life)))
    {
        if batch == 0 {
            could_be.bytes_mut().fill(0);
        } else {
            compose(&mut could_be, [at, batch, life]);
        }
        let sectors = block.bytes().chunks(SECTOR);
        for (known, (seen, one)) in known
            .iter_mut()
            .zip(sectors.zip(could_be.bytes().chunks(SECTOR)))
        {
            *known |= seen == one;
        }
    }
    known.iter().all(|known| *known)
}

/// Whether each sector of a block is that of one of these.
fn is_mixed(block: &Buffer, of: [&Buffer; 2]) -> bool {
    let [old, new] = of.map(|buffer| buffer.bytes().chunks(SECTOR));
    let mut sectors = block.bytes().chunks(SECTOR).zip(old.zip(new));
    sectors.all(|(seen, (old, new))| seen == old || seen == new)
}

/// Four words, and bytes that follow from them.
fn compose(buffer: &mut Buffer, record: [u64; 3]) {
    let [place, batch, life] = record;
    let bytes = buffer.bytes_mut();
    Random::new(place ^ batch.rotate_left(20) ^ life.rotate_left(50)).fill(bytes);
    for (chunk, word) in bytes.chunks_mut(8).zip([MAGIC, place, batch, life]) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(name: &str) -> (std::path::PathBuf, Ledger) {
        let path = std::env::current_exe().unwrap();
        let path = path.with_file_name(format!("ledger-{name}-{}", std::process::id()));
        run(&path, Duration::from_millis(100)).unwrap();
        let ledger = Ledger::open(&path).unwrap();
        (path, ledger)
    }

    #[test]
    fn lives_follow_each_other() {
        let (path, ledger) = ledger("lives");
        let (first, life) = ledger.found().unwrap();
        assert!(first > 0 && life == 1);
        run(&path, Duration::from_millis(50)).unwrap();
        let (second, life) = ledger.found().unwrap();
        assert!(second > first && life == 2);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn of_the_batch_behind_the_word_any_sectors_may_be_there_and_of_earlier_ones_all_must() {
        let (path, ledger) = ledger("torn");
        let (batch, _) = ledger.found().unwrap();
        let begun = places(batch + 1);
        // Half a record of the next batch, over what was there.
        let at = begun[0];
        let mut torn = ledger.read(at).unwrap();
        let mut next = Buffer::new(BLOCK);
        compose(&mut next, [at, batch + 1, 2]);
        torn.bytes_mut()[..2048].copy_from_slice(&next.bytes()[..2048]);
        torn.write(&ledger.file, at * BLOCK_BYTES).unwrap();
        ledger.found().unwrap();
        // Parts of sectors, and what is nobody's, are not let pass.
        let whole = torn.bytes()[2048..].to_vec();
        torn.bytes_mut()[2048..2304].copy_from_slice(&next.bytes()[2048..2304]);
        torn.write(&ledger.file, at * BLOCK_BYTES).unwrap();
        assert!(ledger.found().is_err());
        torn.bytes_mut()[2048..].copy_from_slice(&whole);
        torn.write(&ledger.file, at * BLOCK_BYTES).unwrap();
        ledger.found().unwrap();
        // A record of the last batch as an earlier one left it.
        let lost = places(batch).into_iter().find(|at| !begun.contains(at));
        if let Some(at) = lost {
            ledger.write(at, [at, batch - 1, 1]).unwrap();
            assert!(ledger.found().is_err());
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_word_that_was_torn_is_the_one_before_it() {
        let (path, ledger) = ledger("word");
        let (batch, _) = ledger.found().unwrap();
        ledger.write((batch + 1) % WORDS, [9, 9, 9]).unwrap();
        assert_eq!(ledger.found().unwrap().0, batch);
        std::fs::remove_file(path).unwrap();
    }
}
