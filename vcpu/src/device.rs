//! A lane's loads and stores to the devices of its machine, and what reaches these devices from outside.
//!
//! A device's lock is given back before the interrupt controller's is taken: a lane that waits for either must hold
//! neither.

use core::sync::atomic::Ordering;

use stage2_addr::Ipa;
use vcpu_board::pl011::{self, Pl011};
use vcpu_board::pl031::{Moment, Pl031};
use vcpu_board::{Device, PL011_SPI, PL031_SPI, Place};

use crate::hot::Hardware;
use crate::lane::Vcpu;
use crate::machine::{Console, Machine};
use crate::mmio::Width;
use crate::serve::Lines;
use crate::vgic::Frame;
use crate::virtio;
use crate::virtio::VIRTIO;

/// A load from a device; `None` when nobody answers there, or not in that width.
pub(crate) fn read(vcpu: &mut Vcpu, ipa: Ipa, width: Width, hw: &mut impl Hardware) -> Option<u64> {
    let machine = vcpu.machine;
    let Place { device, offset } = machine.board.find(ipa)?;
    let bytes = width.byte_count();
    let frame = match device {
        Device::Distributor => Frame::Distributor,
        Device::Redistributor(lane) => Frame::Redistributor(lane),
        Device::Pl011 => return Some(uart_read(vcpu, offset, bytes, hw)),
        Device::Pl031 => return Some(rtc_read(vcpu, offset, bytes, hw)),
        Device::Virtio(slot) => return Some(virtio::read(machine, slot, offset, bytes)),
        Device::Flash | Device::FwCfg => {
            return Some(firmware_read(machine, device, offset, bytes));
        }
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
            uart_write(vcpu, offset, value, hw, lines);
            return Some(());
        }
        Device::Pl031 => {
            rtc_write(vcpu, offset, bytes, value, hw);
            return Some(());
        }
        Device::Virtio(slot) => {
            virtio::write(vcpu, slot, offset, bytes, value, hw);
            return Some(());
        }
        Device::Flash | Device::FwCfg => {
            firmware_write(machine, device, offset, bytes, value);
            return Some(());
        }
        Device::Ram => return None,
    };
    vcpu.gic
        .mmio_write(&machine.vgic, frame, offset, bytes, value, hw)
        .ok()
}

/// Moves what was typed ([`Machine::input`]) into the UART, as far as it has room; the rest follows as the guest
/// reads. Called after an input by whoever has a lane of the machine.
pub fn console_input(vcpu: &mut Vcpu, hw: &mut impl Hardware) {
    uart(vcpu, hw, &mut |_| ());
}

/// Looks at the real-time clock's alarm: to be called by any lane of the machine once the counter has reached
/// [`Machine::next_alarm`]. And at what has come from devices of the computer ([`Machine::device_fired`]). Costs next to
/// nothing before that.
pub fn tick(vcpu: &mut Vcpu, hw: &mut impl Hardware) {
    let alarm = vcpu.machine.next_alarm();
    if alarm.is_some_and(|alarm| alarm <= hw.count()) {
        devices_fired(vcpu, hw);
        rtc(vcpu, hw, &mut |rtc, now| {
            rtc.advance(now);
        });
    }
}

/// What has come from devices of the computer.
#[cold]
#[inline(never)]
fn devices_fired(vcpu: &mut Vcpu, hw: &mut impl Hardware) {
    while let Some(intid) = vcpu.machine.take_fired() {
        vcpu.gic.device_fired(&vcpu.machine.vgic, intid, hw);
    }
}

// Out of line, so that what they need of the stack is not paid for by accesses to the interrupt controller.

#[inline(never)]
fn uart_read(vcpu: &mut Vcpu, offset: u64, bytes: u32, hw: &mut impl Hardware) -> u64 {
    let mut value = 0;
    uart(vcpu, hw, &mut |console| {
        value = console.uart.read(offset, bytes);
    });
    value
}

#[inline(never)]
fn uart_write(
    vcpu: &mut Vcpu,
    offset: u64,
    value: u64,
    hw: &mut impl Hardware,
    lines: &mut impl Lines,
) {
    let mut begun = false;
    uart(vcpu, hw, &mut |console| {
        if let Some(byte) = console.uart.write(offset, value) {
            console.line.push(byte, &mut |text: &str| lines.line(text));
            begun = console.begins();
        }
    });
    if begun {
        vcpu.machine.console_begun(hw.count(), hw.frequency());
    }
}

#[inline(never)]
fn rtc_read(vcpu: &mut Vcpu, offset: u64, bytes: u32, hw: &mut impl Hardware) -> u64 {
    let mut value = 0;
    rtc(vcpu, hw, &mut |rtc, now| {
        value = rtc.read(offset, bytes, now);
    });
    value
}

#[inline(never)]
fn rtc_write(vcpu: &mut Vcpu, offset: u64, bytes: u32, value: u64, hw: &mut impl Hardware) {
    rtc(vcpu, hw, &mut |rtc, now| {
        rtc.write(offset, bytes, value, now);
    });
}

#[cold]
#[inline(never)]
fn firmware_read(machine: &Machine, device: Device, offset: u64, bytes: u32) -> u64 {
    let fw_cfg = device == Device::FwCfg;
    machine.firmware.lock().read(fw_cfg, offset, bytes)
}

#[cold]
#[inline(never)]
fn firmware_write(machine: &Machine, device: Device, offset: u64, bytes: u32, value: u64) {
    let fw_cfg = device == Device::FwCfg;
    machine.firmware.lock().write(fw_cfg, offset, bytes, value);
}

/// An access to the UART. Room that it made is filled at once, with what was typed ahead.
#[inline(never)]
fn uart(vcpu: &mut Vcpu, hw: &mut impl Hardware, access: &mut dyn FnMut(&mut Console)) {
    let machine = vcpu.machine;
    let changed = {
        let console = &mut *machine.console.lock();
        let before = console.uart.line();
        access(console);
        machine.settle_uart(&mut console.uart) != before
    };
    if changed {
        set_line(vcpu, PL011_SPI, hw);
    }
}

/// An access to the real-time clock.
#[inline(never)]
fn rtc(vcpu: &mut Vcpu, hw: &mut impl Hardware, access: &mut dyn FnMut(&mut Pl031, Moment)) {
    let machine = vcpu.machine;
    let now = Moment {
        count: hw.count(),
        frequency: hw.frequency(),
    };
    let changed = {
        let rtc = &mut *machine.rtc.lock();
        let before = rtc.line();
        access(rtc, now);
        let alarm = rtc.alarm(now.frequency).unwrap_or(u64::MAX);
        machine.set_alarm(alarm);
        rtc.line() != before
    };
    if changed {
        set_line(vcpu, PL031_SPI, hw);
    }
}

/// How often a changed interrupt line is looked at again: only another lane that changes it at the same
/// moment can make a second look differ.
const LINE_LOOKS: usize = 4;

/// Tells the interrupt controller of a line that has changed, until it is what the controller was told.
#[inline(never)]
fn set_line(vcpu: &mut Vcpu, spi: u32, hw: &mut impl Hardware) {
    let machine = vcpu.machine;
    let mut level = machine.line(spi);
    for _ in 0..LINE_LOOKS {
        vcpu.gic.set_line(&machine.vgic, spi, level, hw);
        let now = machine.line(spi);
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

    /// A byte for `UARTDR` that becomes part of the guest's line and does nothing else; false, and nothing changed, if it
    /// would, or somebody else has the console.
    #[inline(always)]
    pub(crate) fn fast_uart_write(&self, value: u64) -> bool {
        // What was typed ahead is looked at after each access.
        let [byte, ..] = value.to_le_bytes();
        self.typed_ahead.load(Ordering::Relaxed) == 0 && self.console.lengthen(byte)
    }

    /// What `UARTIMSC` is to be, if it is that already and nothing else comes of it.
    #[inline(always)]
    pub(crate) fn fast_uart_mask(&self, value: u64) -> bool {
        self.typed_ahead.load(Ordering::Relaxed) == 0
            && value & 0xFFFF == u64::from(self.uart_mask.load(Ordering::Relaxed))
    }

    /// The level of a device's line.
    fn line(&self, spi: u32) -> bool {
        if spi == PL031_SPI {
            self.rtc.lock().line()
        } else {
            self.console.lock().uart.line()
        }
    }

    /// After each access to the UART: room is filled, and the flags are copied for the hot path. The line's level.
    #[inline(never)]
    fn settle_uart(&self, uart: &mut Pl011) -> bool {
        if self.typed_ahead.load(Ordering::Acquire) != 0 {
            self.refill(uart);
        }
        self.copy_uart(uart);
        uart.line()
    }

    /// Copies for the hot path what it looks at without the console's lock, which is the caller's.
    pub(crate) fn copy_uart(&self, uart: &Pl011) {
        let flags = u32::from(uart.flags());
        self.uart_flags.store(flags, Ordering::Relaxed);
        let mask = uart.settled_mask().map_or(u32::MAX, u32::from);
        self.uart_mask.store(mask, Ordering::Relaxed);
    }

    #[cold]
    fn refill(&self, uart: &mut Pl011) {
        let mut typed = self.typed.lock();
        while (!VIRTIO || !self.is_input_redirected())
            && uart.room() != 0
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
