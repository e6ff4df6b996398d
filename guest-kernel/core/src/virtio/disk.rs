//! A disk against a model of it.
//!
//! The model does not hold what was written but how often: what a sector holds follows from its number and from that.
//! The first and the last sectors are used, so that both ends of the disk are.

use super::Wrong;
use super::random::Choices;
use crate::pattern::mix;

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Sectors that are used, half of them at each end.
const USED: usize = 256;
/// The most sectors at once.
const MOST: usize = 16;

/// A disk.
pub trait Disk {
    /// How many sectors it has.
    fn sectors(&self) -> u64;
    /// Whether it cannot be written.
    fn is_readonly(&self) -> bool;
    /// Reads whole sectors; says whether it did.
    fn read(&mut self, sector: u64, into: &mut [u8]) -> bool;
    /// Writes whole sectors; says whether it did.
    fn write(&mut self, sector: u64, bytes: &[u8]) -> bool;
    /// Lets everything that was written reach the disk; says whether it did.
    fn flush(&mut self) -> bool;
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Done {
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
}

/// A disk and what it should hold.
struct Checked<'d, D> {
    disk: &'d mut D,
    /// How often each used sector was written.
    times: [u32; USED],
    /// Sectors at each end.
    half: u64,
    /// It is also asked for what it must refuse.
    beyond: bool,
    done: Done,
}

/// Writes, reads and flushes at random, and compares. Overwrites the first and the last 64 KiB.
///
/// # Errors
/// The first thing that is wrong, and at which sector.
pub fn check<D: Disk>(
    disk: &mut D,
    choices: &mut Choices,
    rounds: u32,
    beyond: bool,
) -> Result<Done, Wrong> {
    let half = (disk.sectors() / 2).min(USED as u64 / 2);
    if half < MOST as u64 {
        return Err(Wrong::Refused(disk.sectors()));
    }
    let mut checked = Checked {
        disk,
        times: [0; USED],
        half,
        beyond,
        done: Done::default(),
    };
    if checked.disk.is_readonly() {
        return checked.readonly(choices, rounds);
    }
    for at in (0..2 * half).step_by(MOST) {
        checked.write(at, (2 * half - at).min(MOST as u64))?;
    }
    for _ in 0..rounds {
        let (at, count) = checked.choose(choices);
        match choices.below(16) {
            0 => checked.flush()?,
            1..8 => checked.write(at, count)?,
            _ => checked.read(at, count)?,
        }
    }
    checked.flush()?;
    for at in (0..2 * half).step_by(MOST) {
        checked.read(at, (2 * half - at).min(MOST as u64))?;
    }
    if checked.beyond {
        checked.beyond()?;
    }
    Ok(checked.done)
}

impl<D: Disk> Checked<'_, D> {
    /// A few used sectors, all at one end.
    fn choose(&self, choices: &mut Choices) -> (u64, u64) {
        let count = 1 + choices.below(MOST as u64);
        let end = choices.below(2) * self.half;
        (end + choices.below(self.half - count + 1), count)
    }

    /// The number of a used sector on the disk.
    fn sector(&self, at: u64) -> u64 {
        match at.checked_sub(self.half) {
            None => at,
            Some(behind) => self.disk.sectors() - self.half + behind,
        }
    }

    fn write(&mut self, at: u64, count: u64) -> Result<(), Wrong> {
        let mut bytes = [0; MOST * SECTOR];
        let sectors = bytes.chunks_exact_mut(SECTOR).zip(at..at + count);
        for (bytes, at) in sectors {
            let sector = self.sector(at);
            if let Some(times) = self.times.get_mut(index(at)) {
                *times += 1;
                let words = bytes.chunks_exact_mut(8).zip(content(sector, *times));
                words.for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
            }
        }
        self.done.writes += 1;
        let sector = self.sector(at);
        let bytes = bytes.get(..index(count) * SECTOR).unwrap_or_default();
        self.disk
            .write(sector, bytes)
            .then_some(())
            .ok_or(Wrong::Refused(sector))
    }

    fn read(&mut self, at: u64, count: u64) -> Result<(), Wrong> {
        let mut bytes = [0xA5; MOST * SECTOR];
        let bytes = bytes.get_mut(..index(count) * SECTOR).unwrap_or_default();
        let sector = self.sector(at);
        self.done.reads += 1;
        if !self.disk.read(sector, bytes) {
            return Err(Wrong::Refused(sector));
        }
        for (bytes, at) in bytes.chunks_exact(SECTOR).zip(at..) {
            let sector = self.sector(at);
            let times = self.times.get(index(at)).copied().unwrap_or(0);
            let mut words = bytes.chunks_exact(8).zip(content(sector, times));
            if !words.all(|(bytes, word)| bytes == word.to_le_bytes()) {
                return Err(Wrong::Changed(sector));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Wrong> {
        self.done.flushes += 1;
        self.disk.flush().then_some(()).ok_or(Wrong::Refused(0))
    }

    /// Behind the last sector there is none, nor is there half a request.
    fn beyond(&mut self) -> Result<(), Wrong> {
        let end = self.disk.sectors();
        let mut bytes = [0; 2 * SECTOR];
        for sector in [end, end - 1, u64::MAX / 1024] {
            if self.disk.read(sector, &mut bytes) || self.disk.write(sector, &bytes) {
                return Err(Wrong::Accepted(sector));
            }
        }
        self.read(2 * self.half - 1, 1)
    }

    /// Every sector is the same when it is read again, and no write is taken.
    fn readonly(mut self, choices: &mut Choices, rounds: u32) -> Result<Done, Wrong> {
        let mut bytes = [[0; MOST * SECTOR]; 2];
        for _ in 0..rounds {
            let (at, count) = self.choose(choices);
            let sector = self.sector(at);
            for bytes in &mut bytes {
                let bytes = bytes.get_mut(..index(count) * SECTOR).unwrap_or_default();
                if !self.disk.read(sector, bytes) {
                    return Err(Wrong::Refused(sector));
                }
                self.done.reads += 1;
                let other: [u8; SECTOR] = core::array::from_fn(|at| at.to_le_bytes()[0]);
                if self.beyond && self.disk.write(sector, &other) {
                    return Err(Wrong::Accepted(sector));
                }
            }
            let [first, second] = &bytes;
            if first != second {
                return Err(Wrong::Changed(sector));
            }
        }
        Ok(self.done)
    }
}

/// The words of a sector that was written so often.
fn content(sector: u64, times: u32) -> impl Iterator<Item = u64> {
    let seed = mix(sector ^ u64::from(times) << 40);
    (0..(SECTOR / 8) as u64).map(move |word| mix(seed ^ word))
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a disk.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        Readonly,
        LosesAWrite,
        MovesASector,
        Shortened,
        Endless,
        WritableReadonly,
    }

    struct Ram {
        bytes: Vec<u8>,
        fault: Fault,
        writes: u32,
    }

    impl Ram {
        fn new(sectors: usize, fault: Fault) -> Self {
            let bytes = (0..sectors * SECTOR)
                .map(|at| (at / 700).to_le_bytes()[0])
                .collect();
            Self {
                bytes,
                fault,
                writes: 0,
            }
        }

        fn range(&self, sector: u64, len: usize) -> Option<std::ops::Range<usize>> {
            let sector = match self.fault {
                Fault::MovesASector if sector >= 300 => sector - 1,
                Fault::Endless => sector % self.sectors().saturating_sub(16).max(1),
                Fault::None
                | Fault::Readonly
                | Fault::LosesAWrite
                | Fault::MovesASector
                | Fault::Shortened
                | Fault::WritableReadonly => sector,
            };
            let end = self.sectors() - u64::from(self.fault == Fault::Shortened);
            let start = index(sector.checked_mul(SECTOR as u64)?);
            (start + len <= index(end) * SECTOR).then_some(start..start + len)
        }
    }

    impl Disk for Ram {
        fn sectors(&self) -> u64 {
            (self.bytes.len() / SECTOR) as u64
        }
        fn is_readonly(&self) -> bool {
            matches!(self.fault, Fault::Readonly | Fault::WritableReadonly)
        }
        fn read(&mut self, sector: u64, into: &mut [u8]) -> bool {
            let range = self.range(sector, into.len());
            range.is_some_and(|range| {
                into.copy_from_slice(&self.bytes[range]);
                true
            })
        }
        fn write(&mut self, sector: u64, bytes: &[u8]) -> bool {
            self.writes += 1;
            let Some(range) = self
                .range(sector, bytes.len())
                .filter(|_| self.fault != Fault::Readonly)
            else {
                return false;
            };
            if self.fault != Fault::LosesAWrite || !self.writes.is_multiple_of(100) {
                self.bytes[range].copy_from_slice(bytes);
            }
            true
        }
        fn flush(&mut self) -> bool {
            true
        }
    }

    fn checked(sectors: usize, fault: Fault) -> Result<Done, Wrong> {
        check(
            &mut Ram::new(sectors, fault),
            &mut Choices::new("disk"),
            2000,
            true,
        )
    }

    #[test]
    fn a_disk_that_keeps_what_it_is_given_passes() {
        for sectors in [32, 100, 256, 4096] {
            let done = checked(sectors, Fault::None).unwrap();
            assert!(
                done.reads > 800 && done.writes > 700 && done.flushes > 80,
                "{done:?}"
            );
        }
        let done = checked(2048, Fault::Readonly).unwrap();
        assert_eq!((done.reads, done.writes), (4000, 0));
    }

    #[test]
    fn one_that_does_not_is_found() {
        assert!(matches!(
            checked(4096, Fault::LosesAWrite),
            Err(Wrong::Changed(_))
        ));
        assert!(matches!(
            checked(400, Fault::MovesASector),
            Err(Wrong::Changed(_))
        ));
        assert!(matches!(
            checked(4096, Fault::Shortened),
            Err(Wrong::Refused(_))
        ));
        assert!(matches!(
            checked(4096, Fault::Endless),
            Err(Wrong::Accepted(_) | Wrong::Changed(_))
        ));
        assert!(matches!(
            checked(4096, Fault::WritableReadonly),
            Err(Wrong::Accepted(_))
        ));
        assert_eq!(checked(31, Fault::None), Err(Wrong::Refused(31)));
    }
}
