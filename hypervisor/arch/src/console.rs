//! The physical console: one PL011, shared by EL2 and every guest, a whole line at a time.

use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use arm_pl011_uart::{
    DataBits, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer,
};
use spin::Mutex;
use stage2_addr::HostRegion;

/// EL2's own name in front of its lines. The config compiler refuses it for a guest.
const OWN_NAME: &str = "xdv";

/// Baud rate and clock where the loader left the UART unconfigured; QEMU ignores both.
const BAUD: u32 = 115_200;
const CLOCK_HZ: u32 = 24_000_000;

/// How many polls a fault report waits for a lock that its holder may never give back.
const FAULT_PATIENCE: u32 = 1_000_000;

static UART: Mutex<Option<Uart<'static>>> = Mutex::new(None);

/// Lines by EL2 itself, for tests of the console's fairness and as a sign of life.
static OWN_LINES: AtomicU32 = AtomicU32::new(0);

/// Takes the UART at this address. The region must be mapped as device memory (the caller of this
/// safe function can only have it from the device tree, which `boot` maps before anything else).
pub(crate) fn open(uart: HostRegion) {
    let Some(registers) = NonNull::new(core::ptr::with_exposed_provenance_mut::<PL011Registers>(
        usize::try_from(uart.base().raw()).unwrap_or(0),
    )) else {
        return;
    };
    // SAFETY: the region is the machine's PL011, mapped as device memory, and this is its only driver:
    // `open` is called once, by `boot`.
    let pointer = unsafe { UniqueMmioPointer::new(registers) };
    let mut uart = Uart::new(pointer);
    let line = LineConfig {
        data_bits: DataBits::Bits8,
        parity: Parity::None,
        stop_bits: StopBits::One,
    };
    // A clock that cannot make the rate leaves the loader's settings in place: then those are right.
    let _ = uart.enable(line, BAUD, CLOCK_HZ);
    *UART.lock() = Some(uart);
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

/// Prints one line under a guest's name. The text is the guest's, already made harmless.
pub fn guest_line(name: &str, text: &str) {
    if let Some(uart) = UART.lock().as_mut() {
        let _ = writeln!(Port(uart), "{name} | {text}");
    }
}

/// Prints one line of EL2's own.
pub fn own_line(text: fmt::Arguments) {
    OWN_LINES.fetch_add(1, Ordering::Relaxed);
    if let Some(uart) = UART.lock().as_mut() {
        let _ = writeln!(Port(uart), "{OWN_NAME} | {text}");
    }
}

/// Prints EL2's own lines while reporting a fault: a lock held by a CPU that will not give it back
/// (perhaps this one) is broken after a while.
pub(crate) fn fault_line(text: fmt::Arguments) {
    let mut patience = FAULT_PATIENCE;
    let mut guard = loop {
        if let Some(guard) = UART.try_lock() {
            break guard;
        }
        patience -= 1;
        if patience == 0 {
            // SAFETY: the machine is about to be switched off, and the worst a second writer can do
            // to the UART is to mix two lines.
            unsafe { UART.force_unlock() };
            patience = FAULT_PATIENCE;
        }
        core::hint::spin_loop();
    };
    if let Some(uart) = guard.as_mut() {
        let _ = writeln!(Port(uart), "{OWN_NAME} | {text}");
    }
}

/// Prints one of EL2's own lines on the console.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::console::own_line(format_args!($($arg)*)) };
}
