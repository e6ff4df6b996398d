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

/// What ends a line.
const END: &str = "\r\n";

/// Baud rate and clock where the loader left the UART unconfigured; QEMU ignores both.
const BAUD: u32 = 115_200;
const CLOCK_HZ: u32 = 24_000_000;

/// What a transmit FIFO holds at least (DDI 0183: 16 before r1p5).
const FIFO: usize = 16;

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
    port: Port,
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
    let depth = match uart.enable(line, BAUD, CLOCK_HZ) {
        Ok(()) => FIFO,
        Err(_) => 1,
    };
    uart.set_interrupt_masks(Interrupts::empty());
    let port = Port::new(uart, depth);
    *CONSOLE.lock() = Some(Console { port, open: None });
}

fn driver() -> Option<Uart<'static>> {
    let address = usize::try_from(ADDRESS.load(Ordering::Relaxed)).ok()?;
    let registers = core::ptr::with_exposed_provenance_mut::<PL011Registers>(address);
    // SAFETY: the machine's PL011, mapped as device memory. `open` is called once, by `boot`, and a fault report that
    // makes a second driver does so only when the first one's user will not come back: all it can do is mix lines.
    let pointer = unsafe { UniqueMmioPointer::new(NonNull::new(registers)?) };
    Some(Uart::new(pointer))
}

/// Writes through to the UART, a FIFO full at a time.
struct Port {
    uart: Uart<'static>,
    /// What the FIFO holds; one byte while it is off.
    depth: usize,
    /// How many bytes it has room for at least, without a look.
    room: usize,
}

impl Port {
    const fn new(uart: Uart<'static>, depth: usize) -> Self {
        let room = 0;
        Self { uart, depth, room }
    }

    fn put(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.room == 0 {
                while !self.uart.is_tx_fifo_empty() {
                    core::hint::spin_loop();
                }
                self.room = self.depth;
            }
            let (now, later) = rest.split_at(rest.len().min(self.room));
            for byte in now {
                self.uart.write_word(*byte);
            }
            self.room -= now.len();
            rest = later;
        }
    }
}

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text);
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
        self.port.put(END);
        None
    }

    /// Shows what of a line is not shown yet. `lead` stands before the text.
    fn show(&mut self, name: &'static str, lead: &str, text: &str) {
        let shown = self.turn_to(Some(name));
        if shown.is_none() {
            for text in [name, " | ", lead] {
                self.port.put(text);
            }
        }
        self.port
            .put(text.get(shown.unwrap_or(0)..).unwrap_or_default());
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
        let _ = write!(console.port, "{OWN_NAME} | {text}{END}");
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
                console.port.put("\x08 \x08");
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
        let uart = &mut console.port.uart;
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
        match console.port.uart.read_word() {
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
                let _ = write!(console.port, "{OWN_NAME} | {text}{END}");
            }
            return;
        }
        Yield::relax();
    }
    if let Some(uart) = driver() {
        // Whatever the holder was at.
        let _ = write!(Port::new(uart, 1), "{END}{OWN_NAME} | {text}{END}");
    }
}

/// Prints one of EL2's own lines on the console.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::console::own_line(format_args!($($arg)*)) };
}
