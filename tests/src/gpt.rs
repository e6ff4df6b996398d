//! Disks with a GUID partition table, as a partitioning tool leaves them (UEFI 2.10, 5.3).

use std::ops::Range;

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Entries of the table, and bytes of each.
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
/// Where the table's checksum is, and the header's own.
const SUM: usize = SECTOR + 88;
const HEADER_SUM: usize = SECTOR + 16;

/// A disk of so many sectors with partitions: first sector, last sector, name. No other sector is empty.
#[must_use]
pub fn disk(sectors: usize, partitions: &[(u64, u64, &str)]) -> Vec<u8> {
    let mut disk: Vec<u8> = (0..sectors * SECTOR).map(filling).collect();
    let table = 2 * SECTOR..2 * SECTOR + ENTRIES * ENTRY;
    put(&mut disk, 0, &vec![0; table.end]);
    // The MBR's record that protects a GPT, and its signature.
    put(&mut disk, 450, &[0xee]);
    put(&mut disk, 510, &[0x55, 0xaa]);
    for (number, (first, last, name)) in partitions.iter().enumerate() {
        let entry = table.start + number * ENTRY;
        put(&mut disk, entry, &[7; 16]);
        put(&mut disk, entry + 16, &[8; 16]);
        put(&mut disk, entry + 32, &first.to_le_bytes());
        put(&mut disk, entry + 40, &last.to_le_bytes());
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        put(&mut disk, entry + 56, &name);
    }
    let (sectors, behind) = (sectors as u64, (table.end / SECTOR) as u64);
    put(&mut disk, SECTOR, b"EFI PART");
    for (field, value) in [(8, 0x1_0000_u32), (12, 92), (80, 128), (84, 128)] {
        put(&mut disk, SECTOR + field, &value.to_le_bytes());
    }
    let longs = [
        (24, 1),
        (32, sectors - 1),
        (40, behind),
        (48, sectors - behind),
        (72, 2),
    ];
    for (field, value) in longs {
        put(&mut disk, SECTOR + field, &u64::to_le_bytes(value));
    }
    seal(&mut disk, SUM, table);
    seal(&mut disk, HEADER_SUM, SECTOR..SECTOR + 92);
    disk
}

fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    let places = disk.iter_mut().skip(at);
    places.zip(bytes).for_each(|(to, from)| *to = *from);
}

/// Puts the checksum of some bytes at a place.
fn seal(disk: &mut [u8], at: usize, bytes: Range<usize>) {
    let sum = crc32(disk.get(bytes).unwrap_or_default());
    put(disk, at, &sum.to_le_bytes());
}

/// What is in a byte of a sector that is nobody's.
#[must_use]
pub const fn filling(at: usize) -> u8 {
    let [low, ..] = (at / SECTOR * 7 + at % SECTOR + 1).to_le_bytes();
    low
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), step)
    })
}
