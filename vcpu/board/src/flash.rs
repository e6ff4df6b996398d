//! The flash that firmware keeps its variables in: NOR flash with Intel's command set.
//!
//! Two chips of 16 bits lie side by side, as on QEMU's `virt`, so a word has 32 bits, a command is given to both in one
//! store, and both answer. Commands, status bits and the query table are those of JEDEC's JESD68.01 and of Intel's
//! StrataFlash P30 data sheet (306666). Programming only clears bits, erasing sets those of a whole block; no block is
//! ever locked.
//!
//! A guest never has this memory mapped: what is stored, too, is read by loads that exit. A firmware reads it rarely, and
//! every address of a chip changes its meaning with one store. Nothing is done at once that takes long: erasing goes on
//! by a piece each time that the guest asks whether it is over.

/// Bytes of the flash.
pub const VARIABLES_SIZE: u64 = 1 << 20;
/// Its words.
pub const VARIABLES_WORDS: usize = 1 << 18;

/// Words that are erased together: 256 KiB.
const BLOCK: usize = 1 << 16;
/// Words that one access may erase.
const PIECE: usize = 1 << 12;
/// Words that are programmed together, from a multiple of as many: 32 of each chip.
const BUFFER: usize = 32;

/// Status: ready.
const READY: u32 = 1 << 7;
/// Status: erasing and programming failed, which together mean a sequence of commands that there is not.
const SEQUENCE: u32 = 1 << 5 | 1 << 4;

/// The commands' second word, where they have one.
const CONFIRM: u8 = 0xd0;

/// What Intel's manufacturer code and the chip's own are: those of QEMU's flash.
const MAKER: u32 = 0x89;
const CHIP: u32 = 0x18;

/// Where the query table begins.
const QUERY_START: usize = 0x10;
/// The query table of one chip (JESD68.01 2.4).
static QUERY: [u8; 0x30] = [
    b'Q', b'R', b'Y', // 0x10
    0x01, 0x00, // 0x13: Intel's extended command set
    0x31, 0x00, // 0x15: whose own table is here
    0x00, 0x00, 0x00, 0x00, // 0x17: no other command set
    0x17, 0x20, // 0x1b: 1.7 V to 2.0 V
    0x00, 0x00, // 0x1d: no voltage for programming
    0x06, 0x06, 0x06, 0x00, // 0x1f: usual times: 64 us a word, 64 us a buffer, 64 ms a block
    0x02, 0x02, 0x02, 0x00, // 0x23: at most four times that
    0x13, // 0x27: 2^19 bytes
    0x01, 0x00, // 0x28: 16 bits wide
    0x06, 0x00, // 0x2a: 2^6 bytes of buffer
    0x01, // 0x2c: all blocks alike
    0x03, 0x00, // 0x2d: four
    0x00, 0x02, // 0x2f: of 0x200 * 256 bytes
    b'P', b'R', b'I', b'1', b'0', // 0x31
    0x00, 0x00, 0x00, 0x00, // 0x36: nothing optional
    0x00, // 0x3a: nothing while an erasure is suspended
    0x00, 0x00, // 0x3b: no block status
    0x18, // 0x3d: 1.8 V
    0x00, // 0x3e
    0x00, // 0x3f: no protection registers
];

/// What the chips expect, and what they answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// They answer with what is stored.
    Array,
    /// With the status, here and in all that follow.
    Status,
    /// With who they are.
    Identity,
    /// With the query table.
    Query,
    /// The next store is programmed.
    Program,
    /// The next store confirms that a block is to be erased.
    Erase,
    /// The next store says how a block is to be locked.
    Lock,
    /// The next store says how many words the buffer gets, less one.
    Count,
    /// The buffer gets so many words, and one.
    Fill(usize),
    /// The next store confirms that the buffer is to be programmed.
    Flush,
    /// They are busy: the words from the first to the second are still to be erased.
    Erasing(usize, usize),
}

/// The flash.
#[derive(Debug)]
pub struct Flash {
    words: &'static mut [u32],
    state: State,
    errors: u32,
    buffer: [u32; BUFFER],
    /// Where the buffer goes, once it has a word.
    window: Option<usize>,
}

impl Flash {
    /// The flash whose contents are these words, after power-on.
    #[must_use]
    pub const fn new(words: &'static mut [u32]) -> Self {
        Self {
            words,
            state: State::Array,
            errors: 0,
            buffer: [0; BUFFER],
            window: None,
        }
    }

    /// As after power-on; what is stored stays, that is what flash is for.
    pub fn reset(&mut self) {
        self.state = State::Array;
        self.errors = 0;
    }

    /// A load of 1, 2, 4 or 8 bytes.
    pub fn read(&mut self, offset: u64, bytes: u32) -> u64 {
        let at = word(offset);
        let mut value = u64::from(self.load(at));
        if bytes > 4 {
            value |= u64::from(self.load(at.wrapping_add(1))) << 32;
        }
        (value >> lane(offset)) & mask(bytes)
    }

    /// A store of 1, 2, 4 or 8 bytes.
    pub fn write(&mut self, offset: u64, bytes: u32, value: u64) {
        let at = word(offset);
        if bytes > 4 {
            let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
            self.store(at, u32::from_le_bytes([a, b, c, d]), a);
            self.store(at.wrapping_add(1), u32::from_le_bytes([e, f, g, h]), e);
        } else {
            // Programming ones changes nothing.
            let shifted = (value | !mask(bytes)).rotate_left(lane(offset));
            let [a, b, c, d, ..] = shifted.to_le_bytes();
            let [command, ..] = value.to_le_bytes();
            self.store(at, u32::from_le_bytes([a, b, c, d]), command);
        }
    }

    fn load(&mut self, at: usize) -> u32 {
        let chip = match self.state {
            State::Array => return self.words.get(at).copied().unwrap_or(u32::MAX),
            State::Identity => match at % BLOCK {
                0 => MAKER,
                1 => CHIP,
                // Also: this block is not locked.
                _ => 0,
            },
            State::Query => {
                let entry = at.checked_sub(QUERY_START).and_then(|at| QUERY.get(at));
                u32::from(entry.copied().unwrap_or(0))
            }
            State::Erasing(..) => {
                self.go_on();
                self.errors
            }
            State::Status
            | State::Program
            | State::Erase
            | State::Lock
            | State::Count
            | State::Fill(_)
            | State::Flush => READY | self.errors,
        };
        chip << 16 | chip
    }

    /// A word to program, and the command it is if none is expected.
    fn store(&mut self, at: usize, data: u32, command: u8) {
        self.state = match self.state {
            State::Array | State::Status | State::Identity | State::Query => {
                self.command(self.state, command)
            }
            State::Program => {
                self.program(at, data);
                State::Status
            }
            State::Erase if command == CONFIRM => {
                let block = at - at % BLOCK;
                State::Erasing(block, block.saturating_add(BLOCK))
            }
            // Lock, unlock, lock down, and a configuration that means nothing here.
            State::Lock if matches!(command, CONFIRM | 0x01 | 0x2f | 0x03) => State::Status,
            State::Count if (data as usize & 0xffff) < BUFFER => {
                self.buffer = [u32::MAX; BUFFER];
                self.window = None;
                State::Fill(data as usize & 0xffff)
            }
            State::Fill(left) if self.window.is_none_or(|window| window == at - at % BUFFER) => {
                self.window = Some(at - at % BUFFER);
                if let Some(word) = self.buffer.get_mut(at % BUFFER) {
                    *word &= data;
                }
                left.checked_sub(1).map_or(State::Flush, State::Fill)
            }
            State::Flush if command == CONFIRM => {
                if let Some(window) = self.window {
                    for (at, data) in (window..).zip(self.buffer) {
                        self.program(at, data);
                    }
                }
                State::Status
            }
            State::Erase | State::Lock | State::Count | State::Fill(_) | State::Flush => {
                self.errors = SEQUENCE;
                State::Status
            }
            State::Erasing(..) => {
                self.go_on();
                return;
            }
        };
    }

    fn command(&mut self, before: State, command: u8) -> State {
        match command {
            // Also AMD's reset, which drivers try before they know the chip.
            0xff | 0xf0 => State::Array,
            0x70 => State::Status,
            0x50 => {
                self.errors = 0;
                before
            }
            0x90 => State::Identity,
            0x98 => State::Query,
            0x10 | 0x40 => State::Program,
            0x20 => State::Erase,
            0x60 => State::Lock,
            0xe8 => State::Count,
            _ => before,
        }
    }

    fn program(&mut self, at: usize, data: u32) {
        if let Some(word) = self.words.get_mut(at) {
            *word &= data;
        }
    }

    /// Erases the next piece.
    fn go_on(&mut self) {
        let State::Erasing(next, end) = self.state else {
            return;
        };
        let stop = end.min(next.saturating_add(PIECE));
        if let Some(piece) = self.words.get_mut(next..stop) {
            piece.fill(u32::MAX);
        }
        self.state = if stop == end {
            State::Status
        } else {
            State::Erasing(stop, end)
        };
    }
}

/// The number of a word; past the end for what no flash is as large as.
fn word(offset: u64) -> usize {
    usize::try_from(offset / 4).unwrap_or(usize::MAX)
}

/// How far the byte at this offset is shifted in its word.
const fn lane(offset: u64) -> u32 {
    8 * (offset & 3) as u32
}

/// That many bytes of ones: 1, 2, 4 or 8.
pub(crate) const fn mask(bytes: u32) -> u64 {
    match bytes {
        1 => 0xff,
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
