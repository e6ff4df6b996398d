//! Tables that a tool would write, and every way that was thought of to damage them.

use std::vec::Vec;

use proptest::prelude::*;

use crate::crc::Crc;
use crate::gpt::{FIRST_SECTORS, GptError, Header};
use crate::{SECTOR, Sectors};

/// A disk with a table; all of it can be wrong.
#[derive(Clone, Debug)]
struct Disk {
    block: usize,
    blocks: u64,
    bytes: Vec<u8>,
}

const ENTRIES: usize = 128;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

impl Disk {
    /// Partitions by first and last block and name.
    fn new(block: usize, blocks: u64, partitions: &[(u64, u64, &str)]) -> Self {
        let table = (ENTRIES * 128).div_ceil(block);
        let mut bytes = std::vec![0; (2 + table) * block + FIRST_SECTORS * 512];
        bytes[446 + 4] = 0xee;
        put(&mut bytes, 510, &[0x55, 0xaa]);
        for (number, (first, last, name)) in partitions.iter().enumerate() {
            let entry = 2 * block + 128 * number;
            bytes[entry] = 7;
            put(&mut bytes, entry + 32, &first.to_le_bytes());
            put(&mut bytes, entry + 40, &last.to_le_bytes());
            for (n, unit) in name.encode_utf16().take(36).enumerate() {
                put(&mut bytes, entry + 56 + 2 * n, &unit.to_le_bytes());
            }
        }
        let header = block;
        put(&mut bytes, header, b"EFI PART");
        put(&mut bytes, header + 8, &0x1_0000_u32.to_le_bytes());
        put(&mut bytes, header + 12, &92_u32.to_le_bytes());
        let usable = 2 + table as u64;
        for (at, value) in [
            (24, 1),
            (32, blocks - 1),
            (40, usable),
            (48, blocks - usable),
            (72, 2),
        ] {
            put(&mut bytes, header + at, &u64::to_le_bytes(value));
        }
        put(&mut bytes, header + 80, &128_u32.to_le_bytes());
        put(&mut bytes, header + 84, &128_u32.to_le_bytes());
        let mut disk = Self {
            block,
            blocks,
            bytes,
        };
        disk.seal();
        disk
    }

    /// Makes the checksums right.
    fn seal(&mut self) {
        let entries = 2 * self.block;
        let word = |at: usize| {
            let bytes = self.bytes[self.block + at..].first_chunk().unwrap();
            u32::from_le_bytes(*bytes) as usize
        };
        let len = word(80).saturating_mul(word(84)).min(ENTRIES * 128);
        let sum = Crc::new().and(&self.bytes[entries..entries + len]).sum();
        let header = self.block;
        put(&mut self.bytes, header + 88, &sum.to_le_bytes());
        self.seal_header();
    }

    fn seal_header(&mut self) {
        let header = self.block;
        put(&mut self.bytes, header + 16, &[0; 4]);
        let sum = Crc::new().and(&self.bytes[header..header + 92]).sum();
        put(&mut self.bytes, header + 16, &sum.to_le_bytes());
    }

    fn sectors(&self) -> u64 {
        self.blocks * (self.block as u64 / SECTOR)
    }

    fn header(&self) -> Result<Header, GptError> {
        Header::read(&self.bytes[..FIRST_SECTORS * 512], self.sectors())
    }

    fn find(&self, find: impl Fn(crate::gpt::Table<'_>) -> Result<Sectors, GptError>) -> Found {
        let header = self.header()?;
        let from = usize::try_from(header.entries().first() * SECTOR).unwrap();
        let table = header.table(self.bytes.get(from..).unwrap_or_default())?;
        find(table).map(|sectors| (sectors.first(), sectors.count()))
    }

    fn number(&self, number: u32) -> Found {
        self.find(|table| table.number(number))
    }

    fn named(&self, name: &str) -> Found {
        self.find(|table| table.named(name))
    }

    fn change(mut self, at: usize, value: &[u8]) -> Self {
        put(&mut self.bytes, at, value);
        self
    }
}

type Found = Result<(u64, u64), GptError>;

fn disk() -> Disk {
    Disk::new(
        512,
        4096,
        &[(40, 99, "boot"), (100, 100, "ein Gerät"), (200, 4000, "")],
    )
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(Crc::new().and(b"1234").and(b"56789").sum(), 0xcbf4_3926);
}

#[test]
fn partitions_are_found_by_number_and_by_name() {
    let disk = disk();
    assert_eq!(disk.number(1), Ok((40, 60)));
    assert_eq!(disk.number(2), Ok((100, 1)));
    assert_eq!(disk.number(3), Ok((200, 3801)));
    assert_eq!(disk.named("boot"), Ok((40, 60)));
    assert_eq!(disk.named("ein Gerät"), Ok((100, 1)));
    for number in [0, 4, 128, 129, u32::MAX] {
        assert_eq!(disk.number(number), Err(GptError::NoPartition));
    }
    for name in ["", "boo", "boot2", "Boot", "ein Geraet"] {
        assert_eq!(disk.named(name), Err(GptError::NoPartition), "{name}");
    }
}

#[test]
fn blocks_of_4096_bytes_are_eight_sectors() {
    let disk = Disk::new(4096, 1000, &[(6, 6, "a"), (7, 994, "b")]);
    assert_eq!(disk.number(1), Ok((48, 8)));
    assert_eq!(disk.named("b"), Ok((56, 988 * 8)));
}

#[test]
fn names_may_fill_their_place_and_be_there_twice() {
    let long = "abcdefghijklmnopqrstuvwxyz0123456789";
    let disk = Disk::new(512, 4096, &[(40, 40, long), (41, 41, "x"), (42, 42, "x")]);
    assert_eq!(disk.named(long), Ok((40, 1)));
    assert_eq!(disk.named(&long[..35]), Err(GptError::NoPartition));
    assert_eq!(disk.named("x"), Err(GptError::Ambiguous));
    assert_eq!(disk.number(3), Ok((42, 1)));
}

#[test]
fn what_is_not_a_table_is_none() {
    assert_eq!(Header::read(&[], 100), Err(GptError::None));
    assert_eq!(Header::read(&[0; 8192], 100), Err(GptError::None));
    let no_mbr = disk().change(510, &[0]);
    assert_eq!(no_mbr.number(1), Err(GptError::Unprotected));
    let other_mbr = disk().change(450, &[0x83]);
    assert_eq!(other_mbr.number(1), Err(GptError::Unprotected));
    let hybrid = disk().change(450, &[0x83]).change(498, &[0xee]);
    assert_eq!(hybrid.number(1), Ok((40, 60)));
    let sum = disk().change(512 + 60, &[1]);
    assert_eq!(sum.number(1), Err(GptError::HeaderSum));
    let sum = disk().change(1024 + 128 * 127, &[1]);
    assert_eq!(sum.number(1), Err(GptError::EntriesSum));
}

#[test]
fn each_field_of_the_header_is_judged() {
    for (at, value) in [
        (8, 0x1_0001_u64),
        (12, 91 | 1 << 32),
        (24, 0),
        (24, 2),
        (24, 4095),
        (32, 4096),
        (32, 0),
        (32, 1),
        (40, 0),
        (40, 33),
        (48, 4096),
        (48, 10),
        (72, 0),
        (72, 1),
        (72, 3),
        (72, u64::MAX),
        (80, 128 << 32),
        (80, 128 | 64 << 32),
        (80, 128 | 384 << 32),
    ] {
        let mut disk = disk().change(512 + at, &value.to_le_bytes());
        // What shares the eight bytes is left as it was where it matters: the checksum is made right.
        disk.seal_header();
        assert_eq!(disk.number(1), Err(GptError::Header), "{at} {value:#x}");
    }
    for (count, size) in [
        (513_u32, 128_u32),
        (u32::MAX, 128),
        (17, 4096),
        (1, 1 << 17),
    ] {
        let mut disk = disk().change(512 + 80, &count.to_le_bytes());
        put(&mut disk.bytes, 512 + 84, &size.to_le_bytes());
        disk.seal_header();
        assert_eq!(disk.number(1), Err(GptError::Large));
    }
    for len in [0_u32, 91, 513, u32::MAX] {
        let disk = disk().change(512 + 12, &len.to_le_bytes());
        assert_eq!(disk.number(1), Err(GptError::Header), "{len}");
    }
}

#[test]
fn vio_25_no_partition_is_outside_or_over_another() {
    let number = |first: u64, last: u64| {
        Disk::new(512, 4096, &[(40, 99, "a"), (first, last, "b")]).number(1)
    };
    for (first, last) in [
        (33, 39),
        (100, 4063),
        (0, 39),
        (100, 99),
        (100, u64::MAX),
        (u64::MAX, 0),
    ] {
        assert_eq!(number(first, last), Err(GptError::Bounds(2)), "{first}");
    }
    for (first, last) in [(34, 40), (99, 99), (50, 60), (34, 4062), (40, 99)] {
        assert_eq!(number(first, last), Err(GptError::Overlap(2)), "{first}");
    }
    for (first, last) in [(34, 39), (100, 4062)] {
        assert_eq!(number(first, last), Ok((40, 60)));
    }
}

#[test]
fn vio_25_a_part_reaches_no_other_sector() {
    let part = Sectors::new(100, 50).unwrap();
    for sector in (0..60).chain([u64::MAX, u64::MAX - 99, u64::MAX - 100]) {
        for count in (0..60).chain([u64::MAX]) {
            let inside = sector <= 50 && count <= 50 - sector.min(50);
            let wanted = inside.then(|| 100 + sector);
            assert_eq!(part.within(sector, count), wanted, "{sector} {count}");
        }
    }
    assert_eq!(Sectors::new(5, 0), None);
    assert_eq!(Sectors::new(u64::MAX, 1), None);
    assert_eq!(
        Sectors::new(1, u64::MAX - 1)
            .unwrap()
            .within(1, u64::MAX - 2),
        Some(2)
    );
}

/// Whatever a table is, its partitions are apart from each other and inside the disk.
fn hold(disk: &Disk) {
    let found: Vec<Sectors> = (1..6)
        .filter_map(|number| disk.number(number).ok())
        .map(|(first, count)| Sectors::new(first, count).unwrap())
        .collect();
    for (n, one) in found.iter().enumerate() {
        assert!(one.end() <= disk.sectors() && one.first() > disk.block as u64 / SECTOR);
        assert!(found[n + 1..].iter().all(|other| !one.overlap(*other)));
    }
}

proptest! {
    #[test]
    fn damaged_tables_are_no_panic(
        big: bool,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_header: bool, seals: bool,
    ) {
        let mut disk = match big {
            true => Disk::new(4096, 1000, &[(6, 9, "a"), (10, 994, "b")]),
            false => disk(),
        };
        let (from, len) = match in_header {
            true => (disk.block, 92),
            false => (2 * disk.block, 3 * 128),
        };
        for (place, byte) in places {
            disk.bytes[from + place.index(len)] ^= byte;
        }
        if seals {
            disk.seal();
        }
        hold(&disk);
    }

    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), sectors: u64) {
        let _ = Header::read(&bytes, sectors);
        let header = disk().header().unwrap();
        let _ = header.table(&bytes);
    }
}
