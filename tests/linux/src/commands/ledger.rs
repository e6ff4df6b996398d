//! What must be left of a disk when its guest ends at any moment: batches of records at random places, each batch flushed,
//! then a word that says so, flushed too. Whoever comes next reads the word and demands every record of every batch up to
//! it. Of the batch behind it any part may be there; nothing else may have changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::direct::{self, BLOCK, Buffer};
use super::random::Random;

const MAGIC: u64 = u64::from_le_bytes(*b"xdvledgr");
const BLOCK_BYTES: u64 = 4096;
/// Records, and the most of a batch. The first two blocks hold the word, in turns: a torn one spares the other.
const RECORDS: u64 = 1024;
const WORDS: u64 = 2;
const BATCH: u64 = 24;
/// How often it says how far it is.
const SAYS: Duration = Duration::from_millis(100);

/// Looks at what an earlier life left, and goes on for a while.
pub fn run(path: &Path, time: Duration) -> anyhow::Result<()> {
    let file = direct::open(path, true)?;
    if (&file).seek(SeekFrom::End(0))? < (RECORDS + WORDS) * BLOCK_BYTES {
        let mut zero = Buffer::new(BLOCK);
        zero.bytes_mut().fill(0);
        for at in 0..RECORDS + WORDS {
            zero.write(&file, at * BLOCK_BYTES)?;
        }
        file.sync_all()?;
    }
    let (batch, life) = found(&file)?;
    println!("ledger: life {}, {batch} batches found and right", life + 1);
    keep(&file, batch, life + 1, time)
}

/// The last batch that was flushed, in which life; its records are all there.
fn found(file: &File) -> anyhow::Result<(u64, u64)> {
    let mut words = Vec::new();
    for at in 0..WORDS {
        if let Some([0, batch, life]) = read(file, at)? {
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
        let seen = read(file, at)?;
        let right = match seen {
            Some([place, number, _]) => place == at && number == wanted,
            None => wanted == 0,
        };
        // One that was being written: new, old, or parts of both.
        if !right && !begun.contains(&at) {
            bail!("block {at} is {seen:?} instead of batch {wanted}, and {batch} were flushed");
        }
    }
    Ok((batch, life))
}

fn keep(file: &File, mut batch: u64, life: u64, time: Duration) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut said = begin;
    while begin.elapsed() < time {
        batch += 1;
        for at in places(batch) {
            write(file, at, [at, batch, life])?;
        }
        file.sync_data().context("a flush")?;
        write(file, batch % WORDS, [0, batch, life])?;
        file.sync_data().context("a flush")?;
        if said.elapsed() > SAYS {
            said = Instant::now();
            println!("ledger: flushed {batch}");
        }
    }
    println!("ledger: {batch} batches flushed");
    Ok(())
}

/// Where a batch's records are: the same in every life.
fn places(batch: u64) -> Vec<u64> {
    let mut random = Random::new(batch);
    let count = 1 + random.below(BATCH);
    (0..count).map(|_| WORDS + random.below(RECORDS)).collect()
}

/// What a record says, if it is one and whole: where it is, its batch and its life.
fn read(file: &File, at: u64) -> anyhow::Result<Option<[u64; 3]>> {
    let mut buffer = Buffer::new(BLOCK);
    buffer
        .read(file, at * BLOCK_BYTES)
        .with_context(|| format!("block {at} read"))?;
    let mut head = buffer.bytes().chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let mut next = || head.next().unwrap_or(0);
    let (magic, record) = (next(), [next(), next(), next()]);
    let mut whole = Buffer::new(BLOCK);
    compose(&mut whole, record);
    Ok((magic == MAGIC && whole.bytes() == buffer.bytes()).then_some(record))
}

fn write(file: &File, at: u64, record: [u64; 3]) -> anyhow::Result<()> {
    let mut buffer = Buffer::new(BLOCK);
    compose(&mut buffer, record);
    buffer
        .write(file, at * BLOCK_BYTES)
        .with_context(|| format!("block {at} written"))
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

    fn ledger(name: &str) -> (std::path::PathBuf, File) {
        let path = std::env::current_exe().unwrap();
        let path = path.with_file_name(format!("ledger-{name}-{}", std::process::id()));
        run(&path, Duration::from_millis(100)).unwrap();
        let file = direct::open(&path, false).unwrap();
        (path, file)
    }

    #[test]
    fn lives_follow_each_other() {
        let (path, file) = ledger("lives");
        let (first, life) = found(&file).unwrap();
        assert!(first > 0 && life == 1);
        run(&path, Duration::from_millis(50)).unwrap();
        let (second, life) = found(&file).unwrap();
        assert!(second > first && life == 2);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn of_the_batch_behind_the_word_any_part_may_be_there_and_of_earlier_ones_all_must() {
        let (path, file) = ledger("torn");
        let (batch, _) = found(&file).unwrap();
        let begun = places(batch + 1);
        // Half a record of the next batch.
        let mut torn = Buffer::new(BLOCK);
        compose(&mut torn, [begun[0], batch + 1, 1]);
        torn.bytes_mut()[512..].fill(0);
        torn.write(&file, begun[0] * BLOCK_BYTES).unwrap();
        found(&file).unwrap();
        // A record of the last batch as an earlier one left it.
        let lost = places(batch).into_iter().find(|at| !begun.contains(at));
        if let Some(at) = lost {
            write(&file, at, [at, batch - 1, 1]).unwrap();
            assert!(found(&file).is_err());
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_word_that_was_torn_is_the_one_before_it() {
        let (path, file) = ledger("word");
        let (batch, _) = found(&file).unwrap();
        write(&file, (batch + 1) % WORDS, [9, 9, 9]).unwrap();
        assert_eq!(found(&file).unwrap().0, batch);
        std::fs::remove_file(path).unwrap();
    }
}
