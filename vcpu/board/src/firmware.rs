//! What only firmware finds on its board: the flash of its variables, and fw_cfg.

use crate::flash::{Flash, mask};
use crate::fw_cfg::FwCfg;
use crate::map::VARIABLES_BASE;

/// Both, behind one lock of their machine's.
#[derive(Debug)]
pub struct Firmware {
    flash: Flash,
    fw_cfg: FwCfg,
}

impl Firmware {
    /// Both after power-on, with these words in the flash.
    #[must_use]
    pub const fn new(variables: &'static mut [u32]) -> Self {
        Self {
            flash: Flash::new(variables),
            fw_cfg: FwCfg::RESET,
        }
    }

    /// Both after power-on. Variables stay.
    pub fn reset(&mut self) {
        self.flash.reset();
        self.fw_cfg = FwCfg::RESET;
    }

    /// A load from fw_cfg or, at this address, from flash. What is not there reads as it was erased.
    pub fn read(&mut self, fw_cfg: bool, offset: u64, bytes: u32) -> u64 {
        if fw_cfg {
            self.fw_cfg.read(offset, bytes)
        } else if let Some(offset) = offset.checked_sub(VARIABLES_BASE) {
            self.flash.read(offset, bytes)
        } else {
            mask(bytes)
        }
    }

    /// A store to fw_cfg or, at this address, to flash. The firmware's own bank is write-protected, and forgets it.
    pub fn write(&mut self, fw_cfg: bool, offset: u64, bytes: u32, value: u64) {
        if fw_cfg {
            self.fw_cfg.write(offset, bytes, value);
        } else if let Some(offset) = offset.checked_sub(VARIABLES_BASE) {
            self.flash.write(offset, bytes, value);
        }
    }
}
