//! A lane's loads and stores to the devices of its machine, and what reaches these devices from outside.
//!
//! A device's lock is given back before the interrupt controller's is taken: a lane that waits for either must hold
//! neither.

use core::sync::atomic::Ordering;

use stage2_addr::Ipa;
use vcpu_board::pl011::{self, Pl011};
use vcpu_board::pl031::{Moment, Pl031};
use vcpu_board::{Device, PL011_SPI, PL031_SPI, Place, virtio};

use crate::hot::Hardware;
use crate::lane::Vcpu;
use crate::machine::{Console, Machine};
use crate::mmio::Width;
use crate::serve::Lines;
use crate::vgic::Frame;

/// A load from a device; `None` when nobody answers there, or not in that width.
pub(crate) fn read(vcpu: &mut Vcpu, ipa: Ipa, width: Width, hw: &mut impl Hardware) -> Option<u64> {
    let machine = vcpu.machine;
    let Place { device, offset } = machine.board.find(ipa)?;
    let bytes = width.byte_count();
    let frame = match device {
        Device::Distributor => Frame::Distributor,
        Device::Redistributor(lane) => Frame::Redistributor(lane),
        Device::Pl011 => return Some(uart(vcpu, hw, |console| console.uart.read(offset, bytes))),
        Device::Pl031 => return Some(rtc(vcpu, hw, |rtc, now| rtc.read(offset, bytes, now))),
        Device::Virtio(_) => return Some(virtio::read_empty(offset, bytes)),
        // A fault in RAM is no device's: stage 2 maps all of it.
        Device::Ram => return None,
    };
    vcpu.gic
        .mmio_read(&machine.vgic, frame, offset, bytes, hw)
        .ok()
}

/// A store to a device; `None` when nobody takes it there, or not in that width.
pub(crate) fn write(
    vcpu: &mut Vcpu,
    ipa: Ipa,
    width: Width,
    value: u64,
    hw: &mut impl Hardware,
    lines: &mut impl Lines,
) -> Option<()> {
    let machine = vcpu.machine;
    let Place { device, offset } = machine.board.find(ipa)?;
    let bytes = width.byte_count();
    let frame = match device {
        Device::Distributor => Frame::Distributor,
        Device::Redistributor(lane) => Frame::Redistributor(lane),
        Device::Pl011 => {
            uart(vcpu, hw, |Console { uart, line }| {
                if let Some(byte) = uart.write(offset, value) {
                    line.push(byte, &mut |text: &str| lines.line(text));
                }
            });
            return Some(());
        }
        Device::Pl031 => {
            rtc(vcpu, hw, |rtc, now| rtc.write(offset, bytes, value, now));
            return Some(());
        }
        Device::Virtio(_) => return Some(()),
        Device::Ram => return None,
    };
    vcpu.gic
        .mmio_write(&machine.vgic, frame, offset, bytes, value, hw)
        .ok()
}

/// Moves what was typed ([`Machine::input`]) into the UART, as far as it has room; the rest follows as the guest
/// reads. Called by a lane of the machine that was told ([`Vgic::notify`](crate::vgic::Vgic::notify)) after an input.
pub fn console_input(vcpu: &mut Vcpu, hw: &mut impl Hardware) {
    uart(vcpu, hw, |_| ());
}

/// Looks at the real-time clock's alarm: to be called by any lane of the machine once the counter has reached
/// [`Machine::next_alarm`]. Costs next to nothing before that.
pub fn tick(vcpu: &mut Vcpu, hw: &mut impl Hardware) {
    let alarm = vcpu.machine.next_alarm();
    if alarm.is_some_and(|alarm| alarm <= hw.count()) {
        rtc(vcpu, hw, |rtc, now| rtc.advance(now));
    }
}

/// An access to the UART. Room that it made is filled at once, with what was typed ahead.
fn uart<R>(vcpu: &mut Vcpu, hw: &mut impl Hardware, access: impl FnOnce(&mut Console) -> R) -> R {
    let machine = vcpu.machine;
    let (done, changed) = {
        let console = &mut *machine.console.lock();
        let before = console.uart.line();
        let done = access(console);
        machine.refill(&mut console.uart);
        let flags = u32::from(console.uart.flags());
        machine.uart_flags.store(flags, Ordering::Relaxed);
        let after = console.uart.line();
        (done, (before != after).then_some(after))
    };
    if let Some(level) = changed {
        let level_now = |machine: &Machine| machine.console.lock().uart.line();
        set_line(vcpu, PL011_SPI, level, level_now, hw);
    }
    done
}

/// An access to the real-time clock.
fn rtc<R>(
    vcpu: &mut Vcpu,
    hw: &mut impl Hardware,
    access: impl FnOnce(&mut Pl031, Moment) -> R,
) -> R {
    let machine = vcpu.machine;
    let now = Moment {
        count: hw.count(),
        frequency: hw.frequency(),
    };
    let (done, changed) = {
        let rtc = &mut *machine.rtc.lock();
        let before = rtc.line();
        let done = access(rtc, now);
        let alarm = rtc.alarm(now.frequency).unwrap_or(u64::MAX);
        machine.alarm.store(alarm, Ordering::Release);
        let after = rtc.line();
        (done, (before != after).then_some(after))
    };
    if let Some(level) = changed {
        set_line(
            vcpu,
            PL031_SPI,
            level,
            |machine| machine.rtc.lock().line(),
            hw,
        );
    }
    done
}

/// How often a changed interrupt line is looked at again: only another lane that changes it at the same
/// moment can make a second look differ.
const LINE_LOOKS: usize = 4;

/// Tells the interrupt controller of a line that has changed, until it is what the controller was told.
fn set_line(
    vcpu: &mut Vcpu,
    spi: u32,
    mut level: bool,
    level_now: impl Fn(&Machine) -> bool,
    hw: &mut impl Hardware,
) {
    let machine = vcpu.machine;
    for _ in 0..LINE_LOOKS {
        vcpu.gic.set_line(&machine.vgic, spi, level, hw);
        let now = level_now(machine);
        if now == level {
            break;
        }
        level = now;
    }
}

impl Machine {
    /// `UARTFR`, when `offset` is its: the one register that guests read by the million, so no lock is taken for it.
    #[inline(always)]
    pub(crate) fn fast_uart_read(&self, offset: u64) -> Option<u32> {
        (offset == pl011::FR).then(|| self.uart_flags.load(Ordering::Relaxed))
    }

    fn refill(&self, uart: &mut Pl011) {
        if uart.room() == 0 || self.typed_ahead.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut typed = self.typed.lock();
        while uart.room() != 0
            && let Some(byte) = typed.pop()
        {
            // There is room.
            let _ = uart.receive(byte);
        }
        self.typed_ahead.store(typed.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
