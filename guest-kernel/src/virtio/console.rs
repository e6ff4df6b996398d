//! A console: lines out, and one in where somebody types.

use super::{Hal, Kind, Task, Way, Wrong, gave_up};
use core::fmt::Write as _;
use guest_kernel_arch::say;
use guest_kernel_core::line::Line;
use virtio_drivers::device::console::VirtIOConsole;

/// How many lines are written.
const LINES: u32 = 3;
/// How long nobody may type.
const PATIENCE_MS: u64 = 300_000;
/// The longest line that is said back.
const LONGEST: usize = 80;

pub fn check(transport: Way<'_>, task: &Task<'_>) -> Result<(), Wrong> {
    let gave_up = gave_up(Kind::Console);
    let mut console = VirtIOConsole::<Hal, _>::new(transport).map_err(&gave_up)?;
    for nth in 1..=LINES {
        let line = Line::of(format_args!("virtio: console: line {nth} of {LINES}")).finish();
        console.send_bytes(&line).map_err(&gave_up)?;
        let _ = console.ack_interrupt();
    }
    if !task.shared.options.types {
        return Ok(());
    }
    write!(console, "virtio: console: type: ").map_err(|_| Wrong::Driver)?;
    let mut line = [0; LONGEST];
    let mut length = 0;
    let mut patience = PATIENCE_MS;
    loop {
        match console.recv(true).map_err(&gave_up)? {
            Some(b'\r' | b'\n') => break,
            Some(byte) => {
                if let Some(into) = line.get_mut(length) {
                    *into = byte;
                    length += 1;
                }
            }
            None if patience == 0 => return Err(Wrong::Alone),
            None => {
                let before = task.interrupts();
                // What comes after it interrupts again.
                if !console.ack_interrupt().map_err(&gave_up)? {
                    task.sleep(1, || task.interrupts() != before);
                    patience -= 1;
                }
            }
        }
    }
    let line = line.get(..length).unwrap_or_default();
    let line = str::from_utf8(line).unwrap_or("?");
    let said = Line::of(format_args!("virtio: console: heard '{line}'")).finish();
    console.send_bytes(&said).map_err(&gave_up)?;
    say!("virtio: console: {} interrupts", task.interrupts());
    Ok(())
}
