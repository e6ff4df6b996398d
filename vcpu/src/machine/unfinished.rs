//! The line that a guest has begun and not ended: for whoever is attached to the machine, it is a prompt, or the echo of
//! what is typed.
//!
//! Lines are shown when they end. The unfinished one of a watched console is shown too, once nothing was added to it
//! for a while. That costs a guest that writes whole lines next to nothing: its first byte sets a time, and who looks
//! then and finds that the line has moved on only sets another.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vcpu_board::console::Mark;

use crate::machine::{Console, Machine};

/// Later than anything.
const NEVER: u64 = u64::MAX;

/// How long a line stands still before it is shown, in parts of a second. As long as nobody has typed anything, nobody
/// waits for a prompt, and the log of a run is best made of whole lines.
const UNASKED: u64 = 5;
/// Once somebody has.
const STILL: u64 = 33;
/// For the first output after something was typed, which most likely is its echo.
const ECHO: u64 = 250;

/// Whether a console's unfinished lines are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    on: bool,
    /// It is on, and no time to look is set.
    idle: bool,
    /// Where the output was when somebody last looked.
    mark: Mark,
}

impl Watch {
    pub(super) const OFF: Self = Self {
        on: false,
        idle: false,
        mark: Mark::START,
    };

    #[cfg(test)]
    pub(super) const fn set(&mut self, on: bool) {
        self.on = on;
        self.idle = on;
    }
}

/// When somebody has to look, and how soon after output began.
pub(super) struct Pace {
    /// A count; [`NEVER`] if nobody has to.
    due: AtomicU64,
    /// Something was typed, ever.
    asked: AtomicBool,
    /// Something was typed and nothing was written since.
    echo: AtomicBool,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            due: AtomicU64::new(NEVER),
            asked: AtomicBool::new(false),
            echo: AtomicBool::new(false),
        }
    }

    pub(super) fn was_typed(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.echo.store(true, Ordering::Relaxed);
    }

    fn wait(&self, hz: u64) -> u64 {
        if self.echo.swap(false, Ordering::Relaxed) {
            hz / ECHO
        } else if self.asked.load(Ordering::Relaxed) {
            hz / STILL
        } else {
            hz / UNASKED
        }
    }
}

impl Console {
    /// Whether the next output begins something ([`begins`](Self::begins)).
    #[inline(always)]
    pub(crate) const fn is_idle(&self) -> bool {
        self.watch.idle
    }

    /// To be asked after each output: whether [`Machine::console_begun`] has to be called.
    #[inline(always)]
    pub fn begins(&mut self) -> bool {
        if !self.watch.idle {
            return false;
        }
        self.watch.idle = false;
        self.watch.mark = self.line.mark();
        true
    }
}

impl Machine {
    /// From now on unfinished lines are of interest, or not. One that is there already is due at once.
    pub fn watch_console(&self, on: bool, now: u64) {
        let console = &mut *self.console.lock();
        let is_due = on && !console.line.unfinished().is_empty();
        console.watch = Watch {
            on,
            idle: on && !is_due,
            mark: console.line.mark(),
        };
        let due = if is_due { now } else { NEVER };
        self.pace.due.store(due, Ordering::Release);
    }

    /// When [`show_unfinished`](Self::show_unfinished) has to be called, as a count; `u64::MAX` if it has not.
    #[inline]
    #[must_use]
    pub fn console_due(&self) -> u64 {
        self.pace.due.load(Ordering::Acquire)
    }

    /// Output has begun ([`Console::begins`]): sets the time to look.
    #[cold]
    pub fn console_begun(&self, now: u64, hz: u64) {
        let due = now.saturating_add(self.pace.wait(hz));
        self.pace.due.store(due, Ordering::Release);
    }

    /// Looks at the unfinished line, if that is due, and has it shown if it stands still.
    pub fn show_unfinished(&self, now: u64, hz: u64, show: impl FnOnce(&str)) {
        let console = &mut *self.console.lock();
        if now < self.console_due() || self.console_due() == NEVER {
            return;
        }
        let mark = console.line.mark();
        let text = console.line.unfinished();
        let moves = mark != console.watch.mark;
        console.watch.mark = mark;
        let due = if console.watch.on && moves && !text.is_empty() {
            now.saturating_add(self.pace.wait(hz))
        } else {
            if console.watch.on && !text.is_empty() {
                show(text);
            }
            console.watch.idle = console.watch.on;
            NEVER
        };
        self.pace.due.store(due, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::machine;
    use std::string::{String, ToString};

    /// A thousand ticks a second.
    const HZ: u64 = 1000;

    fn write(machine: &Machine, text: &str, now: u64) {
        let console = &mut *machine.console.lock();
        for byte in text.bytes() {
            console.line.push(byte, &mut |_| ());
        }
        if console.begins() {
            machine.console_begun(now, HZ);
        }
    }

    fn shown(machine: &Machine, now: u64) -> Option<String> {
        let mut shown = None;
        machine.show_unfinished(now, HZ, |text| shown = Some(text.to_string()));
        shown
    }

    #[test]
    fn a_console_that_nobody_watches_is_never_due() {
        let machine = machine(1);
        write(&machine, "# ", 0);
        assert_eq!(machine.console_due(), NEVER);
        assert_eq!(shown(&machine, NEVER), None);
    }

    #[test]
    fn a_prompt_is_shown_once_when_it_stands_still() {
        let machine = machine(1);
        machine.watch_console(true, 0);
        assert_eq!(machine.console_due(), NEVER);
        write(&machine, "# ", 1000);
        assert_eq!(machine.console_due(), 1200);
        assert_eq!(shown(&machine, 1199), None);
        assert_eq!(shown(&machine, 1200).as_deref(), Some("# "));
        assert_eq!(machine.console_due(), NEVER);
        assert_eq!(shown(&machine, 5000), None);
        write(&machine, "l", 6000);
        assert_eq!(shown(&machine, 6200).as_deref(), Some("# l"));
    }

    #[test]
    fn an_echo_is_shown_almost_at_once_and_later_output_soon() {
        let machine = machine(1);
        machine.watch_console(true, 0);
        machine.input(b"l");
        write(&machine, "l", 1000);
        assert_eq!(machine.console_due(), 1004);
        assert_eq!(shown(&machine, 1004).as_deref(), Some("l"));
        write(&machine, "\n# ", 2000);
        assert_eq!(machine.console_due(), 2030);
        assert_eq!(shown(&machine, 2030).as_deref(), Some("# "));
    }

    #[test]
    fn a_line_that_goes_on_is_left_to_go_on() {
        let machine = machine(1);
        machine.watch_console(true, 0);
        for n in 0..10 {
            write(&machine, "word ", n * 100);
            let _ = shown(&machine, n * 100 + 50);
            write(&machine, "word ", n * 100 + 50);
            assert_eq!(shown(&machine, n * 100 + 99), None, "{n}");
        }
        write(&machine, "\n", 1000);
        assert_eq!(shown(&machine, 1300), None);
        assert_eq!(machine.console_due(), NEVER);
        // The next line is noticed all the same.
        write(&machine, "x", 2000);
        assert_eq!(machine.console_due(), 2200);
    }

    #[test]
    fn who_attaches_sees_the_prompt_that_is_there() {
        let machine = machine(1);
        write(&machine, "# ", 0);
        machine.watch_console(true, 70);
        assert_eq!(machine.console_due(), 70);
        assert_eq!(shown(&machine, 70).as_deref(), Some("# "));
        machine.watch_console(false, 80);
        write(&machine, "more", 90);
        assert_eq!(machine.console_due(), NEVER);
    }
}
