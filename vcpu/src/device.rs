//! A lane's loads and stores to the devices of its machine.

use stage2_addr::Ipa;
use vcpu_board::{Device, PL011_SPI, Place};

use crate::hot::Hardware;
use crate::lane::Vcpu;
use crate::machine::Console;
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
        Device::Pl011 => return Some(machine.console.lock().uart.read(offset, bytes)),
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
        Device::Ram => return None,
    };
    vcpu.gic
        .mmio_write(&machine.vgic, frame, offset, bytes, value, hw)
        .ok()
}

/// How often a changed interrupt line is looked at again: only another lane that changes it at the same
/// moment can make a second look differ.
const LINE_LOOKS: usize = 4;

fn uart_write(
    vcpu: &mut Vcpu,
    offset: u64,
    value: u64,
    hw: &mut impl Hardware,
    lines: &mut impl Lines,
) {
    let machine = vcpu.machine;
    let effect = {
        let mut console = machine.console.lock();
        let Console { uart, line } = &mut *console;
        let effect = uart.write(offset, value);
        if let Some(byte) = effect.byte {
            line.push(byte, &mut |text: &str| lines.line(text));
        }
        effect
    };
    // That lock is given back before the vGIC's is taken: a lane that waits for either must hold neither.
    let Some(mut level) = effect.line else {
        return;
    };
    for _ in 0..LINE_LOOKS {
        vcpu.gic.set_line(&machine.vgic, PL011_SPI, level, hw);
        let now = machine.console.lock().uart.line();
        if now == level {
            break;
        }
        level = now;
    }
}
