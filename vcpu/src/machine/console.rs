//! A machine's serial port and the line that it has begun, under one lock.

use core::ops::{Deref, DerefMut};

use spin::{Mutex, MutexGuard};
use vcpu_board::console::LineBuffer;
use vcpu_board::pl011::Pl011;

use super::unfinished::Watch;

/// A machine's serial port and the line it has begun.
#[cfg_attr(test, derive(Clone, Debug, PartialEq))]
pub struct Console {
    /// The port.
    pub uart: Pl011,
    /// What was written through it, or by hypercall, since the last line's end.
    pub line: LineBuffer,
    /// Whether its unfinished lines are of interest.
    pub(super) watch: Watch,
    /// How long the line may become by bytes of plain text that do nothing else; zero, while each does more. What the hot
    /// path would have to ask of all of the above for every byte. Right whenever nobody has the lock.
    open: u8,
}

impl Console {
    const fn new() -> Self {
        Self {
            uart: Pl011::new(),
            line: LineBuffer::new(),
            watch: Watch::OFF,
            open: 0,
        }
    }

    /// Takes bytes up to the first that ends a line, or all; how many. A line on the real port takes long, and between
    /// two of them the caller has others to serve.
    pub fn write(&mut self, bytes: &[u8], emit: &mut dyn FnMut(&str)) -> usize {
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            taken += self.line.push_text(rest);
            let Some(byte) = bytes.get(taken) else {
                break;
            };
            let mut ended = false;
            self.line.push(*byte, &mut |text: &str| {
                emit(text);
                ended = true;
            });
            taken += 1;
            if ended {
                break;
            }
        }
        taken
    }

    /// A byte for `UARTDR` that becomes part of the line and does nothing else; false, and nothing changed, if it would.
    #[inline(always)]
    fn lengthen(&mut self, byte: u8) -> bool {
        if matches!(byte, 0x20..=0x7e) {
            return self.line.push_below(self.open, byte);
        }
        let is_end = byte == b'\r' && self.open != 0;
        if is_end {
            self.line.push_carriage();
            self.open = 0;
        }
        is_end
    }

    #[inline(never)]
    fn settle(&mut self) {
        let more = !self.uart.sends_only() || self.is_idle();
        self.open = if more { 0 } else { self.line.open() };
    }
}

/// A console that lanes, their operator and the hypercall share.
pub struct Shared(Mutex<Console>);

impl Shared {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Console::new()))
    }

    /// Waits for one's turn.
    #[inline]
    pub fn lock(&self) -> Turn<'_> {
        Turn(self.0.lock())
    }

    /// What a byte for `UARTDR` is to the hot path, which does not wait: true if it has become part of the line and does
    /// nothing else, false if nothing has changed.
    #[inline(always)]
    pub(crate) fn lengthen(&self, byte: u8) -> bool {
        match self.0.try_lock() {
            Some(mut console) => console.lengthen(byte),
            None => false,
        }
    }
}

/// One's turn at a console.
pub struct Turn<'a>(MutexGuard<'a, Console>);

impl Deref for Turn<'_> {
    type Target = Console;

    #[inline]
    fn deref(&self) -> &Console {
        &self.0
    }
}

impl DerefMut for Turn<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Console {
        &mut self.0
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;
    use vcpu_board::pl011::{CR, DR, ICR};

    /// What happens to a console.
    #[derive(Clone, Debug)]
    enum Step {
        Byte(u8),
        Store(u64, u64),
        Call(Vec<u8>),
        Watch(bool),
        Flush,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            20 => (0x20_u8..0x7f).prop_map(Step::Byte),
            3 => prop_oneof![Just(b'\r'), Just(b'\n'), Just(0xc3), any::<u8>()].prop_map(Step::Byte),
            1 => prop_oneof![Just((ICR, 0x20)), Just((CR, 0x381)), Just((CR, 0x301))].prop_map(|(at, value)| Step::Store(at, value)),
            1 => proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(0xe2), 0x61_u8..0x64], 0..300).prop_map(Step::Call),
            1 => any::<bool>().prop_map(Step::Watch),
            1 => Just(Step::Flush),
        ]
    }

    /// Does it; a byte as the hot path tries to, if `is_hot`. Whether that was tried and done.
    fn act(console: &Shared, step: &Step, is_hot: bool, lines: &mut Vec<String>) -> bool {
        if let (Step::Byte(byte), true) = (step, is_hot)
            && console.lengthen(*byte)
        {
            return true;
        }
        let console = &mut *console.lock();
        let emit = &mut |text: &str| lines.push(String::from(text));
        match step {
            Step::Byte(byte) => {
                if let Some(sent) = console.uart.write(DR, (*byte).into()) {
                    console.line.push(sent, emit);
                    let _ = console.begins();
                }
            }
            Step::Store(offset, value) => _ = console.uart.write(*offset, *value),
            Step::Call(bytes) => {
                _ = console.write(bytes, emit);
                let _ = console.begins();
            }
            Step::Watch(on) => console.watch.set(*on),
            Step::Flush => console.line.flush(emit),
        }
        false
    }

    proptest! {
        #[test]
        fn what_the_hot_path_takes_becomes_the_same_line(steps in proptest::collection::vec(step(), 0..600)) {
            let consoles = [Shared::new(), Shared::new()];
            let mut lines = [Vec::new(), Vec::new()];
            for step in &steps {
                let [hot, slow] = &consoles;
                let [shown, right] = &mut lines;
                let before = slow.lock().clone();
                let done = act(hot, step, true, shown);
                act(slow, step, false, right);
                let (hot, slow) = (hot.0.lock(), slow.0.lock());
                prop_assert_eq!(&*hot, &*slow, "{:?}", step);
                if done {
                    // Nobody has to be told of anything.
                    prop_assert_eq!(&before.uart, &slow.uart);
                    prop_assert_eq!(before.watch, slow.watch);
                }
            }
            prop_assert_eq!(&lines[0], &lines[1]);
        }
    }

    #[test]
    fn nobody_waits_for_a_console_that_is_taken() {
        let console = Shared::new();
        act(&console, &Step::Byte(b'a'), false, &mut Vec::new());
        let turn = console.lock();
        assert!(!console.lengthen(b'b'));
        drop(turn);
        assert!(console.lengthen(b'b'));
        assert_eq!(console.lock().line.unfinished(), "ab");
    }
}
