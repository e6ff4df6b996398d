//! Reading QEMU's log of executed instructions: what EL2 did in each span that the guest marked, row by row.

use super::Work;
use super::kind::{self, Kind};

/// What the guest marks with hints that do nothing (`tests/arch/src/bench.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A span begins.
    Begin,
    /// It ends.
    End,
    /// The spans since the last row were this row's.
    Row,
}

impl Mark {
    /// The mark that an instruction is.
    pub const fn of(word: u32) -> Option<Self> {
        match word {
            0xd503_2e1f => Some(Self::Begin),
            0xd503_2e3f => Some(Self::End),
            0xd503_2e5f => Some(Self::Row),
            _ => None,
        }
    }
}

/// WFI.
const WFI: u32 = 0xd503_207f;

/// Code, and where it runs.
#[derive(Debug)]
pub struct Code {
    base: u64,
    words: Vec<u32>,
}

impl Code {
    /// The words of an image that runs at `base`.
    pub fn new(base: u64, image: &[u8]) -> Self {
        let words = image.as_chunks::<4>().0.iter();
        Self {
            base,
            words: words.map(|word| u32::from_le_bytes(*word)).collect(),
        }
    }

    /// All words with their addresses.
    pub fn words(&self) -> impl Iterator<Item = (u64, u32)> {
        (self.base..).step_by(4).zip(self.words.iter().copied())
    }

    /// The address behind the last.
    pub fn end(&self) -> u64 {
        self.base + 4 * self.words.len() as u64
    }

    fn at(&self, pc: u64) -> Option<u32> {
        let offset = pc.checked_sub(self.base)?;
        let index = usize::try_from(offset / 4).ok()?;
        self.words.get(index).copied()
    }
}

/// What was read so far.
#[derive(Debug)]
pub struct Tally<'a> {
    el2: &'a Code,
    guest: &'a Code,
    /// The last line's instruction: the next line may say that it was not executed after all.
    pending: Option<u64>,
    /// The span that goes on.
    open: Option<Work>,
    /// The spans since the last row.
    spans: Vec<Work>,
    rows: Vec<Vec<Work>>,
    /// Instructions of EL2 in all.
    executed: u64,
}

impl<'a> Tally<'a> {
    /// Nothing read yet.
    pub fn new(el2: &'a Code, guest: &'a Code) -> Self {
        Self {
            el2,
            guest,
            pending: None,
            open: None,
            spans: Vec::new(),
            rows: Vec::new(),
            executed: 0,
        }
    }

    /// Takes a line of the log: `Trace 0: 0x7fd5d0000900 [00000000/0000000040200000/00000461/ff022201]`, or
    /// `Stopped execution of TB chain before 0x7fd5d0005100 [0000000040201294]` when that instruction's turn is put off and it
    /// will come again. Other lines are not the log's; the caller is told.
    pub fn line(&mut self, line: &str) -> bool {
        if let Some(pc) = line
            .strip_prefix("Trace ")
            .and_then(|_| line.split('/').nth(1))
        {
            self.settle();
            self.pending = u64::from_str_radix(pc, 16).ok();
        } else if line.starts_with("Stopped execution") || line.starts_with("cpu_io_recompile") {
            self.pending = None;
        } else {
            return false;
        }
        true
    }

    /// The rows, each with its spans; and how many instructions EL2 executed.
    pub fn finish(mut self) -> (Vec<Vec<Work>>, u64) {
        self.settle();
        (self.rows, self.executed)
    }

    fn settle(&mut self) {
        let Some(pc) = self.pending.take() else {
            return;
        };
        if let Some(word) = self.el2.at(pc) {
            self.executed += 1;
            self.instruction(word);
        } else if let Some(mark) = self.guest.at(pc).and_then(Mark::of) {
            self.mark(mark);
        }
    }

    fn instruction(&mut self, word: u32) {
        let Some(open) = &mut self.open else {
            return;
        };
        if word == WFI {
            // So far it was the way to sleep: the operation is what wakes the CPU.
            *open = Work::default();
            return;
        }
        match kind::of(word) {
            Some(Kind::Sysreg) => open.sysreg += 1,
            Some(Kind::Barrier) => open.barrier += 1,
            Some(Kind::Tlb) => open.tlb += 1,
            None => {}
        }
    }

    fn mark(&mut self, mark: Mark) {
        match mark {
            Mark::Begin => self.open = Some(Work::default()),
            Mark::End => self.spans.extend(self.open.take()),
            Mark::Row => self.rows.push(core::mem::take(&mut self.spans)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EL2: u64 = 0x4020_0000;
    const GUEST: u64 = 0x4000_0000;
    const MRS: usize = 0;
    const ISB: usize = 1;
    const TLBI: usize = 2;
    const ADD: usize = 3;
    const SLEEP: usize = 4;

    fn image(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What a machine did, as QEMU would log it: EL2's instructions by index, and marks.
    fn tally(log: &[Result<usize, Mark>]) -> Vec<Vec<Work>> {
        let el2 = Code::new(
            EL2,
            &image(&[0xd53c_5200, 0xd503_3fdf, 0xd50c_83df, 0x8b02_0020, WFI]),
        );
        let guest = Code::new(GUEST, &image(&[0xd503_2e1f, 0xd503_2e3f, 0xd503_2e5f, 0]));
        let mut tally = Tally::new(&el2, &guest);
        let mut executed = 0;
        for step in log {
            let pc = match step {
                Ok(index) => EL2 + 4 * *index as u64,
                Err(mark) => {
                    let mut words = guest.words();
                    let found = words.find(|(_, word)| Mark::of(*word) == Some(*mark));
                    found.unwrap().0
                }
            };
            executed += u64::from(step.is_ok());
            assert!(tally.line(&format!(
                "Trace 1: 0x7f00 [00000000/{pc:016x}/00000461/ff022201] "
            )));
        }
        let (rows, counted) = tally.finish();
        assert_eq!(counted, executed);
        rows
    }

    fn work(sysreg: u64, barrier: u64, tlb: u64) -> Work {
        Work {
            sysreg,
            barrier,
            tlb,
        }
    }

    #[test]
    fn what_lies_in_a_span_belongs_to_the_next_row() {
        let (begin, end, row) = (Err(Mark::Begin), Err(Mark::End), Err(Mark::Row));
        let rows = tally(&[
            Ok(MRS),
            begin,
            Ok(MRS),
            Ok(ADD),
            Ok(MRS),
            Ok(ISB),
            end,
            Ok(TLBI),
            row,
            begin,
            Ok(TLBI),
            end,
            begin,
            end,
            end,
            row,
        ]);
        assert_eq!(
            rows,
            [vec![work(2, 1, 0)], vec![work(0, 0, 1), work(0, 0, 0)]]
        );
    }

    #[test]
    fn the_way_to_sleep_is_no_part_of_what_wakes() {
        let (begin, end, row) = (Err(Mark::Begin), Err(Mark::End), Err(Mark::Row));
        let rows = tally(&[begin, Ok(MRS), Ok(ISB), Ok(SLEEP), Ok(MRS), end, row]);
        assert_eq!(rows, [vec![work(1, 0, 0)]]);
    }

    #[test]
    fn an_instruction_that_is_put_off_counts_once() {
        let el2 = Code::new(EL2, &image(&[0xd53c_5200]));
        let guest = Code::new(GUEST, &image(&[0xd503_2e1f, 0xd503_2e3f, 0xd503_2e5f]));
        let mut tally = Tally::new(&el2, &guest);
        let trace = |pc: u64| format!("Trace 0: 0x7f00 [00000000/{pc:016x}/00000461/ff022201] ");
        tally.line(&trace(GUEST));
        tally.line(&trace(EL2));
        assert!(tally.line("Stopped execution of TB chain before 0x7f00 [0000000040200000] "));
        tally.line(&trace(EL2));
        tally.line(&trace(GUEST + 4));
        tally.line(&trace(GUEST + 8));
        assert!(tally.line("cpu_io_recompile: rewound execution of TB to 0000000040000008"));
        tally.line(&trace(GUEST + 8));
        assert!(!tally.line("qemu-system-aarch64: something is wrong"));
        assert_eq!(tally.finish(), (vec![vec![work(1, 0, 0)]], 1));
    }
}
