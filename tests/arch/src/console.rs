//! Lines to the console: by hypercall under XDV, by the PL011 on anything else.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::call::{self, id};
use crate::memory;

const PL011_DR: u64 = 0x0900_0000;

static BY_HYPERCALL: AtomicBool = AtomicBool::new(false);

/// Finds out who listens.
pub(crate) fn probe() {
    let answer = call::caught(|| call::hvc([id::XDV_VERSION, 0, 0, 0]));
    BY_HYPERCALL.store(
        matches!(answer, Ok([version, ..]) if version >> 16 == 1),
        Relaxed,
    );
}

/// True under XDV.
#[must_use]
pub fn by_hypercall() -> bool {
    BY_HYPERCALL.load(Relaxed)
}

/// Asks XDV to take bytes; how many it took, if it did.
#[must_use]
pub fn write(bytes: &[u8]) -> Option<usize> {
    let length = bytes.len().min(4096);
    let [status, taken, ..] = call::hvc([
        id::CONSOLE_WRITE,
        memory::address_of(bytes.as_ptr()),
        u64::try_from(length).ok()?,
        0,
    ]);
    let taken = usize::try_from(taken).ok()?;
    (status == 0 && taken <= length).then_some(taken)
}

/// Sends bytes as they are.
pub fn send(bytes: &[u8]) {
    if by_hypercall() {
        let mut rest = bytes;
        while let Some(taken) = write(rest).filter(|taken| *taken != 0) {
            rest = rest.get(taken..).unwrap_or_default();
        }
    } else {
        for byte in bytes {
            // SAFETY: the PL011's data register; the guest's own console.
            unsafe { memory::pointer::<u32>(PL011_DR).write_volatile(u32::from(*byte)) };
        }
    }
}

/// Collects a line, so that it reaches the console in one piece.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; 200],
    used: usize,
}

impl Line {
    /// Empty.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; 200],
            used: 0,
        }
    }

    /// Sends what is there.
    pub fn flush(&mut self) {
        if let Some(bytes) = self.bytes.get(..self.used) {
            send(bytes);
        }
        self.used = 0;
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.used == self.bytes.len() {
                self.flush();
            }
            if let Some(slot) = self.bytes.get_mut(self.used) {
                *slot = byte;
                self.used += 1;
            }
        }
        Ok(())
    }
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {{
        let mut line = $crate::console::Line::new();
        let _ = ::core::fmt::Write::write_fmt(&mut line, ::core::format_args!($($argument)*));
        let _ = ::core::fmt::Write::write_str(&mut line, "\n");
        line.flush();
    }};
}
