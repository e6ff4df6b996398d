//! The machine's own disks: each guest has its sectors of them, and no other.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use tests::gpt::{self, SECTOR};
use tests::machine::scratch;
use tests::matrix::{self, Point};

const SECTORS: usize = 16384;
/// The partitions of the disk: numbers, and the names that are in its table.
const PARTITIONS: [(u64, u64, &str); 2] = [(2048, 4095, "left one"), (4096, 8191, "right one")];
/// What guests may write.
const WRITTEN: [Range<usize>; 3] = [2048..4096, 4096..8192, 12288..14336];

fn file(name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = scratch()?.join(format!("{name}-{}-{number}.img", std::process::id()));
    fs::write(&path, bytes)?;
    Ok(path)
}

/// VIO-25: two VMs' disks in one backing store.
#[test]
fn vio_25_guests_on_one_disk_write_their_own_sectors_and_no_other() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("max")]) {
        let before = gpt::disk(SECTORS, &PARTITIONS);
        let fixed: Vec<u8> = (0..256 * SECTOR).map(gpt::filling).collect();
        let (disk, second) = (file("parts", &before)?, file("fixed", &fixed)?);
        let transcript = point
            .machine("tests/configs/disk-parts.toml")
            .disk(&disk)
            .disk(&second)
            .smp(2)
            .run()?;
        transcript.no_panic()?;
        for (guest, sectors) in [("a", 2048), ("b", 4096), ("c", 2048)] {
            transcript.well(guest)?;
            let done = format!(": {sectors} sectors, ");
            let mut lines = transcript.lines_of(guest);
            let line = lines.find(|line| line.contains("virtio: blk") && line.contains(&done));
            line.with_context(|| format!("{guest} has no disk{done}\n{}", transcript.text()))?;
        }
        transcript.ended(0)?;
        let after = fs::read(&disk)?;
        ensure!(after.len() == before.len());
        for sector in 0..SECTORS {
            let bytes = sector * SECTOR..(sector + 1) * SECTOR;
            let is_same = before[bytes.clone()] == after[bytes];
            let part = WRITTEN.iter().find(|part| part.contains(&sector));
            // The guest kernel writes the first 64 KiB of a disk, and the last.
            let is_end =
                |part: &Range<usize>| sector < part.start + 128 || sector >= part.end - 128;
            ensure!(
                is_same != part.is_some_and(is_end),
                "sector {sector} is {}",
                if is_same { "as before" } else { "changed" }
            );
        }
        ensure!(fs::read(&second)? == fixed, "the fixed disk was written");
    }
    Ok(())
}

/// VIO-19: a guest resets itself with reads of the machine's disk on their way, which takes a second or two for them. Its next
/// life begins before they are done, and finds nothing of them in its memory.
#[test]
fn vio_19_what_a_life_was_reading_lands_in_no_other() -> anyhow::Result<()> {
    let transcript = Point::of("max")
        .machine("tests/configs/disk-lives.toml")
        .disk(&file("lives", &vec![0xa5; 4096 * SECTOR])?)
        .slow_disk(4)
        .run()?;
    transcript.no_panic()?;
    for life in 1..=3 {
        transcript.has(&format!(
            "reader | reader: life {life}, clean true, 0 words are not its own"
        ))?;
    }
    let mut lines = transcript.lines_of("reader");
    let ended = |line: &&str| line.contains("reader: ends with ");
    let on_their_way = lines.by_ref().filter(ended).count();
    ensure!(on_their_way == 2, "{on_their_way} lives ended so");
    ensure!(!transcript.text().contains("ends with 0 reads"));
    // All of eight reads, by the last one.
    transcript.has("reader | reader: 65536 words were read")?;
    transcript.well("reader")?;
    transcript.ended(0)
}

/// Runs a machine that EL2 is to refuse.
fn refused(config: &str, disk: &[u8], why: &str) -> anyhow::Result<()> {
    let transcript = Point::of("max")
        .machine(&format!("tests/configs/{config}.toml"))
        .disk(&file("refused", disk)?)
        .disk(&file("second", &[0; 256 * SECTOR])?)
        .smp(2)
        .run()?;
    transcript.no_panic()?;
    transcript.has(why)?;
    ensure!(transcript.lines_of("a").next().is_none());
    ensure!(transcript.ended(0).is_err());
    Ok(())
}

#[test]
fn vio_25_sectors_that_are_in_two_disks_are_refused() -> anyhow::Result<()> {
    let disk = gpt::disk(SECTORS, &PARTITIONS);
    let why = "disk some: of its 200 sectors from 4000 on, some are left's too";
    refused("disk-meeting", &disk, why)?;
    // As far as the disk goes.
    let small = gpt::disk(4150, &PARTITIONS[..1]);
    let why = "disk some: the machine's disk has only 4150 sectors";
    refused("disk-meeting", &small, why)
}

#[test]
fn what_a_partition_table_says_is_not_believed() -> anyhow::Result<()> {
    let good = gpt::disk(SECTORS, &PARTITIONS);
    let damaged = |at: usize| {
        let mut disk = good.clone();
        disk[at] ^= 1;
        disk
    };
    let why = "has a GPT with a wrong checksum of its header";
    refused("disk-parts", &damaged(SECTOR + 40), why)?;
    let why = "has a GPT with a wrong checksum of its entries";
    refused("disk-parts", &damaged(2 * SECTOR + 32), why)?;
    let over = gpt::disk(SECTORS, &[(2048, 4096, "left one"), PARTITIONS[1]]);
    let why = "has a GPT where another has sectors of partition 2";
    refused("disk-parts", &over, why)?;
    let none = gpt::disk(SECTORS, &PARTITIONS[..1]);
    refused("disk-parts", &none, "has no such partition in its GPT")?;
    refused("disk-parts", &vec![0; SECTORS * SECTOR], "has no GPT")
}
