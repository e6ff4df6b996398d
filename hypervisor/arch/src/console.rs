//! The physical console: one PL011, shared by EL2 and every guest, a whole line at a time.
//!
//! One line may be *open*: the attached guest's, or EL2's own prompt, shown before it has ended. Whoever speaks next
//! closes it with a line feed, and its owner shows it again from its beginning. So a line is never mixed with another,
//! and every line that has ended was shown once in one piece.

use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use arm_pl011_uart::{
    DataBits, FifoLevel, Interrupts, LineConfig, PL011Registers, Parity, StopBits, Uart,
    UniqueMmioPointer,
};
use spin::RelaxStrategy;
use spin::mutex::TicketMutex;
use stage2_addr::HostRegion;

/// EL2's own name in front of its lines. The config compiler refuses it for a guest.
const OWN_NAME: &str = "xdv";
/// What EL2's prompt begins with, behind the name.
const PROMPT: &str = "> ";

/// Baud rate and clock where the loader left the UART unconfigured; QEMU ignores both.
const BAUD: u32 = 115_200;
const CLOCK_HZ: u32 = 24_000_000;

/// How many polls a fault report waits for a lock that its holder may never give back.
const FAULT_PATIENCE: u32 = 1_000_000;

/// First come, first served: a guest that prints without end must not keep the others from printing.
static CONSOLE: TicketMutex<Option<Console>, Yield> = TicketMutex::new(None);
/// Where the UART is, for a report that cannot have the lock.
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// How a CPU waits for its turn.
struct Yield;

impl RelaxStrategy for Yield {
    fn relax() {
        // SAFETY: a hint. An emulator that runs one CPU at a time turns to the others.
        unsafe { core::arch::asm!("yield", options(nomem, nostack, preserves_flags)) };
    }
}

/// The UART, and the line that is open on it.
struct Console {
    uart: Uart<'static>,
    open: Option<Open>,
}

/// A line that has been shown in part.
#[derive(Clone, Copy)]
struct Open {
    name: &'static str,
    shown: usize,
}

/// Takes the UART at this address. The region must be mapped as device memory (the caller of this
/// safe function can only have it from the device tree, which `boot` maps before anything else).
pub(crate) fn open(uart: HostRegion) {
    ADDRESS.store(uart.base().raw(), Ordering::Relaxed);
    let Some(mut uart) = driver() else {
        return;
    };
    let line = LineConfig {
        data_bits: DataBits::Bits8,
        parity: Parity::None,
        stop_bits: StopBits::One,
    };
    // A clock that cannot make the rate leaves the loader's settings in place: then those are right.
    let _ = uart.enable(line, BAUD, CLOCK_HZ);
    uart.set_interrupt_masks(Interrupts::empty());
    *CONSOLE.lock() = Some(Console { uart, open: None });
}

fn driver() -> Option<Uart<'static>> {
    let address = usize::try_from(ADDRESS.load(Ordering::Relaxed)).ok()?;
    let registers = core::ptr::with_exposed_provenance_mut::<PL011Registers>(address);
    // SAFETY: the machine's PL011, mapped as device memory. `open` is called once, by `boot`, and a fault report that
    // makes a second driver does so only when the first one's user will not come back: all it can do is mix lines.
    let pointer = unsafe { UniqueMmioPointer::new(NonNull::new(registers)?) };
    Some(Uart::new(pointer))
}

/// Writes through to the UART, `\n` as `\r\n`.
struct Port<'a>(&'a mut Uart<'static>);

impl Port<'_> {
    fn byte(&mut self, byte: u8) {
        while self.0.is_tx_fifo_full() {
            core::hint::spin_loop();
        }
        self.0.write_word(byte);
    }
}

impl Write for Port<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.byte(b'\r');
            }
            self.byte(byte);
        }
        Ok(())
    }
}

impl Console {
    /// Ends the line that is open, if it is not this speaker's. How much of this speaker's line is shown already.
    fn turn_to(&mut self, name: Option<&str>) -> Option<usize> {
        let open = self.open.take()?;
        if name == Some(open.name) {
            return Some(open.shown);
        }
        let _ = writeln!(Port(&mut self.uart));
        None
    }

    /// Shows what of a line is not shown yet. `lead` stands before the text.
    fn show(&mut self, name: &'static str, lead: &str, text: &str) {
        let shown = self.turn_to(Some(name));
        let mut port = Port(&mut self.uart);
        let _ = match shown {
            Some(shown) => port.write_str(text.get(shown..).unwrap_or_default()),
            None => write!(port, "{name} | {lead}{text}"),
        };
        let shown = text.len();
        self.open = Some(Open { name, shown });
    }

    fn end_line(&mut self) {
        self.turn_to(None);
    }
}

/// Prints one line under a guest's name. The text is the guest's, already made harmless; it begins with what
/// [`guest_partial`] has shown of it.
pub fn guest_line(name: &'static str, text: &str) {
    if let Some(console) = CONSOLE.lock().as_mut() {
        console.show(name, "", text);
        console.end_line();
    }
}

/// Shows a guest's line as far as it has come. To be called for one guest at a time: the attached one.
pub fn guest_partial(name: &'static str, text: &str) {
    if let Some(console) = CONSOLE.lock().as_mut() {
        console.show(name, "", text);
    }
}

/// Prints one line of EL2's own.
pub fn own_line(text: fmt::Arguments) {
    if let Some(console) = CONSOLE.lock().as_mut() {
        console.end_line();
        let _ = writeln!(Port(&mut console.uart), "{OWN_NAME} | {text}");
    }
}

/// Shows EL2's prompt with what was typed at it.
pub fn prompt(text: &str) {
    if let Some(console) = CONSOLE.lock().as_mut() {
        console.show(OWN_NAME, PROMPT, text);
    }
}

/// Takes the last so many characters, all of one byte, off the prompt, where it is on the screen; `text` is what is left.
pub fn prompt_erased(text: &str, count: usize) {
    if let Some(console) = CONSOLE.lock().as_mut() {
        if let Some(open) = console.open.as_mut().filter(|open| open.name == OWN_NAME) {
            open.shown = text.len();
            for _ in 0..count {
                let _ = Port(&mut console.uart).write_str("\x08 \x08");
            }
        } else {
            console.show(OWN_NAME, PROMPT, text);
        }
    }
}

/// Ends the line that is open, if one is.
pub fn end_line() {
    if let Some(console) = CONSOLE.lock().as_mut() {
        console.end_line();
    }
}

/// From now on the UART interrupts when somebody types, and after a pause in it (DDI 0183, 2.8).
pub fn listen() {
    if let Some(console) = CONSOLE.lock().as_mut() {
        let uart = &mut console.uart;
        uart.set_interrupt_fifo_levels(FifoLevel::Bytes4, FifoLevel::Bytes16);
        uart.set_interrupt_masks(Interrupts::RXI | Interrupts::RTI);
    }
}

/// Takes what was typed, up to a buffer full; how many bytes. The interrupt is over when the last byte is taken.
pub fn typed(into: &mut [u8]) -> usize {
    let mut guard = CONSOLE.lock();
    let Some(console) = guard.as_mut() else {
        return 0;
    };
    let mut count = 0;
    while let Some(place) = into.get_mut(count) {
        match console.uart.read_word() {
            Ok(Some(byte)) => {
                *place = byte;
                count += 1;
            }
            // A break, or a byte that came damaged, was taken out. What came after a byte that was lost is lost with it.
            Err(_) => {}
            Ok(None) => break,
        }
    }
    count
}

/// Prints one of EL2's own lines while reporting a fault. A lock held by a CPU that will not give it back (perhaps this
/// one) is passed by after a while.
pub(crate) fn fault_line(text: fmt::Arguments) {
    for _ in 0..FAULT_PATIENCE {
        if let Some(mut guard) = CONSOLE.try_lock() {
            if let Some(console) = guard.as_mut() {
                console.end_line();
                let _ = writeln!(Port(&mut console.uart), "{OWN_NAME} | {text}");
            }
            return;
        }
        Yield::relax();
    }
    if let Some(mut uart) = driver() {
        // Whatever the holder was at.
        let _ = writeln!(Port(&mut uart), "\n{OWN_NAME} | {text}");
    }
}

/// Prints one of EL2's own lines on the console.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::console::own_line(format_args!($($arg)*)) };
}
