//! What the lanes of one machine share, as far as a lane's exits touch it.

use spin::Mutex;
use stage2_addr::Ipa;
use vcpu_board::console::LineBuffer;
use vcpu_board::pl011::Pl011;
use vcpu_board::{Board, Device, RAM_BASE};

use crate::idregs::IdRegs;
use crate::inject::Features;
use crate::psci::Power;
use crate::smccc::Workarounds;
use crate::vgic::Vgic;

/// The shared half of a machine. Every field is either constant or takes care of its own concurrency.
pub struct Machine {
    /// The identification registers, the same on all lanes.
    pub ids: IdRegs,
    /// What the CPU adds to an exception entry.
    pub features: Features,
    /// What a guest is told of firmware mitigations.
    pub workarounds: Workarounds,
    /// The interrupt controller.
    pub vgic: Vgic,
    /// Which lanes are on.
    pub power: Power,
    /// Who answers at which address.
    pub board: Board,
    /// The console.
    pub console: Mutex<Console>,
}

/// A machine's serial port and the line it has begun.
pub struct Console {
    /// The port.
    pub uart: Pl011,
    /// What was written through it, or by hypercall, since the last line's end.
    pub line: LineBuffer,
}

impl Machine {
    /// A machine with this many lanes (1 to 8) and this much RAM, as it is before anything has run.
    #[must_use]
    pub fn new(
        lanes: usize,
        ram_bytes: u64,
        ids: IdRegs,
        features: Features,
        workarounds: Workarounds,
    ) -> Self {
        Self {
            ids,
            features,
            workarounds,
            vgic: Vgic::new(lanes),
            power: Power::new(lanes),
            board: Board::new(lanes, Ipa::new(RAM_BASE), ram_bytes),
            console: Mutex::new(Console {
                uart: Pl011::new(),
                line: LineBuffer::new(),
            }),
        }
    }

    /// Whether an address is in the machine's RAM.
    #[must_use]
    pub fn is_ram(&self, ipa: Ipa) -> bool {
        self.board
            .find(ipa)
            .is_some_and(|place| place.device == Device::Ram)
    }
}

#[cfg(test)]
mod tests;
