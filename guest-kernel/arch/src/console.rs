//! The console: XDV's, or else the UART.

use crate::{cpu, xdv};
use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use core::fmt;
use core::ptr::{self, NonNull};
use guest_kernel_core::addr::PhysRange;
use guest_kernel_core::line::Line;
use spin::{Mutex, Once};

static UART: Once<Mutex<Uart<'static>>> = Once::new();

/// Uses the UART at `registers` when XDV is not there. Call once, with the MMU on.
pub fn use_uart(registers: Option<PhysRange>) {
    let Some(range) = registers.filter(|range| range.len() >= 0x1000) else {
        return;
    };
    let address = usize::try_from(range.start().get()).unwrap_or(0);
    let Some(base) = NonNull::new(ptr::with_exposed_provenance_mut::<PL011Registers>(address))
    else {
        return;
    };
    UART.call_once(|| {
        // SAFETY: the device tree says that a PL011 is here; `mmu::turn_on` mapped it as device
        // memory, and this is the only pointer to it. Firmware left it ready to transmit.
        Mutex::new(Uart::new(unsafe { UniqueMmioPointer::new(base) }))
    });
}

/// Prints a line.
pub fn line(text: fmt::Arguments<'_>) {
    let line = Line::of(text).finish();
    if xdv::console_write(&line).is_ok() || !cpu::mmu_is_on() {
        return;
    }
    let Some(uart) = UART.get() else { return };
    // Not from handlers, except to report the end; a lane that died holding the lock must not keep
    // the report from coming out, so patience is limited.
    let mut guard = None;
    for _ in 0..1_000_000 {
        guard = uart.try_lock();
        if guard.is_some() {
            break;
        }
        core::hint::spin_loop();
    }
    let Some(mut uart) = guard else { return };
    for byte in line {
        while uart.is_tx_fifo_full() {
            core::hint::spin_loop();
        }
        uart.write_word(byte);
    }
}

/// Prints a line, like `println!`.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::console::line(format_args!($($text)*)) };
}
