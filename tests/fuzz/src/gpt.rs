//! Partition tables: bytes on a disk that anybody may have written.

use hypervisor_drivers::gpt::{FIRST_SECTORS, GptError, Header, MOST, Table};
use hypervisor_drivers::{SECTOR, Sectors};

use crate::input::Input;

/// Bytes of the disk that are anything but zero at all.
const BYTES: usize = 32 << 10;

/// A disk: what comes from the input, and zeroes behind it.
struct Disk {
    bytes: Vec<u8>,
    block: usize,
    sectors: u64,
}

/// A table: a good one of a few partitions, some of its fields changed, its checksums made right or not.
pub fn table(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let mut disk = Disk::good(&mut input, kind);
    disk.damage(&mut input);
    if kind & 2 == 0 {
        disk.seal();
    }
    let first = &disk.bytes[..FIRST_SECTORS * SECTOR as usize];
    // Disks may be shorter than what is read of them.
    let first = &first[..first.len() - usize::from(kind >> 6) * 2500];
    let Ok(header) = Header::read(first, disk.sectors) else {
        return;
    };
    let wanted = header.entries();
    assert!(wanted.end() <= disk.sectors, "beyond the disk");
    assert!(
        wanted.count() * SECTOR <= MOST as u64,
        "more than there is room"
    );
    let entries = disk.read(wanted);
    if let Ok(table) = header.table(&entries) {
        disk.judge(&entries, &table);
    }
}

impl Disk {
    fn good(input: &mut Input<'_>, kind: u8) -> Self {
        let block = if kind & 1 == 0 { 512 } else { 4096 };
        let (count, size) = (u64::from(input.byte() % 16) + 1, 128 << (input.byte() % 3));
        let table = (count * size).div_ceil(block);
        let blocks = 64 + u64::from(input.half());
        let mut disk = Self {
            bytes: vec![0; BYTES],
            block: block as usize,
            sectors: blocks * block / SECTOR,
        };
        disk.bytes[450] = 0xEE;
        disk.put(510, &[0x55, 0xAA]);
        disk.put(disk.block, b"EFI PART");
        for (at, value, len) in [
            (8, 0x1_0000, 4),
            (12, 92, 4),
            (24, 1, 8),
            (32, blocks - 1, 8),
            (40, 2 + table, 8),
            (48, blocks - 2, 8),
            (72, 2, 8),
            (80, count, 4),
            (84, size, 4),
        ] {
            disk.put(disk.block + at, &value.to_le_bytes()[..len]);
        }
        let mut next = 2 + table;
        for number in 0..count {
            let (gap, len) = (input.byte(), input.byte());
            if gap & 1 != 0 {
                continue;
            }
            let last = next + u64::from(gap / 32) + u64::from(len);
            let entry = 2 * disk.block + (number * size) as usize;
            disk.bytes[entry] = 1 + gap;
            disk.put(entry + 32, &(next + u64::from(gap / 32)).to_le_bytes());
            disk.put(entry + 40, &last.to_le_bytes());
            disk.put(entry + 56, &[b'a' + len % 4, 0]);
            next = last + 1;
        }
        disk
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn number(&self, at: usize, len: usize) -> u64 {
        let bytes = self.bytes.get(at..at + len).unwrap_or_default();
        let digits = bytes.iter().rev();
        digits.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Changes a few bytes: of the header, of the entries, of what is before both.
    fn damage(&mut self, input: &mut Input<'_>) {
        while !input.is_empty() {
            let selector = input.byte();
            let base = match selector % 4 {
                0 => self.block,
                1 | 2 => 2 * self.block,
                _ => 440,
            };
            let at = base + usize::from(input.byte()) + usize::from(selector / 64) * 128;
            let value = [input.byte(), input.byte()];
            self.put(at, &value[..1 + usize::from(selector >> 2 & 1)]);
        }
    }

    /// Makes the checksums right, as far as what they are of is there.
    fn seal(&mut self) {
        let header = self.block;
        let size = self
            .number(header + 80, 4)
            .saturating_mul(self.number(header + 84, 4));
        let at = self
            .number(header + 72, 8)
            .saturating_mul(self.block as u64);
        let range = usize::try_from(at).ok().zip(usize::try_from(size).ok());
        let range = range.and_then(|(at, size)| Some(at..at.checked_add(size)?));
        if let Some(entries) = range.and_then(|range| self.bytes.get(range)) {
            let sum = crc(entries);
            self.put(header + 88, &sum.to_le_bytes());
        }
        self.put(header + 16, &[0; 4]);
        let len = self.number(header + 12, 4) as usize;
        if let Some(bytes) = self.bytes.get(header..header.saturating_add(len)) {
            let sum = crc(bytes);
            self.put(header + 16, &sum.to_le_bytes());
        }
    }

    fn read(&self, sectors: Sectors) -> Vec<u8> {
        let from = sectors.first().saturating_mul(SECTOR);
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let mut bytes = self.bytes.get(from..).unwrap_or_default().to_vec();
        bytes.resize((sectors.count() * SECTOR) as usize, 0);
        bytes
    }

    /// A table that was found right, against what is on the disk.
    fn judge(&self, entries: &[u8], table: &Table<'_>) {
        let header = self.block;
        let least = self.number(header + 40, 8) * self.block as u64 / SECTOR;
        let most = (self.number(header + 48, 8) + 1) * self.block as u64 / SECTOR;
        let (count, size) = (self.number(header + 80, 4), self.number(header + 84, 4));
        let mut seen: Vec<Sectors> = Vec::new();
        let mut names: Vec<&[u8]> = Vec::new();
        for (number, entry) in (1..).zip(entries.chunks_exact(size as usize)) {
            let is_used = number <= count && entry[..16] != [0; 16];
            let found = table.number(number as u32);
            assert_eq!(found.is_ok(), is_used, "partition {number}: {found:?}");
            let Ok(found) = found else {
                assert_eq!(found, Err(GptError::NoPartition));
                continue;
            };
            assert!(found.first() >= least && found.end() <= most && most <= self.sectors);
            let over = seen.iter().any(|other| other.overlap(found));
            assert!(!over, "{number} has another one's sectors");
            seen.push(found);
            names.push(&entry[56..128]);
        }
        for number in [0, count as u32 + 1, u32::MAX] {
            assert_eq!(table.number(number), Err(GptError::NoPartition));
        }
        for name in ["a", "b", "c", "d"] {
            let raw = [name.as_bytes()[0], 0, 0, 0];
            let mut places = (names.iter().zip(&seen))
                .filter(|(one, _)| one.starts_with(&raw))
                .map(|(_, sectors)| *sectors);
            let expected = match (places.next(), places.next()) {
                (Some(one), None) => Ok(one),
                (None, _) => Err(GptError::NoPartition),
                (Some(_), Some(_)) => Err(GptError::Ambiguous),
            };
            assert_eq!(table.named(name), expected, "{name}");
        }
        assert_eq!(table.named(""), Err(GptError::NoPartition));
    }
}

/// CRC-32 as in ISO 3309 (UEFI 2.10, 5.3.1).
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 != 0 { 0xEDB8_8320 } else { 0 };
        }
    }
    !crc
}
