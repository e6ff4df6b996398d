//! What a lane tried and was refused: how often, and the last of it.
//!
//! One record a lane, however often its guest tries: a guest that is refused a million times a second leaves one line
//! in a report and nothing on the console.

use core::fmt;

use crate::exit::Syndrome;

/// The record of one lane: how often, then of the last time ESR_EL2, the PC, and for aborts FAR_EL2 and the IPA.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Refused(pub [u64; 5]);

impl Refused {
    /// Nothing was refused.
    pub const NONE: Self = Self([0; 5]);

    /// A lane got an exception for what it did.
    pub fn note(&mut self, syndrome: &Syndrome) {
        let Self([count, ..]) = *self;
        let Syndrome {
            esr, far, hpfar, ..
        } = *syndrome;
        // Aborts of instructions and of data, from a lower level (DDI 0487 D19.2.37). Others have no address.
        let is_abort = (esr >> 26) & 0b11_1011 == 0b10_0000;
        // HPFAR_EL2.FIPA, bits 47:4, is bits 55:12 of the address (D24.2.63). Some aborts leave it as it was.
        let ipa = (hpfar & 0x0000_FFFF_FFFF_FFF0) << 8 | far & 0xFFF;
        let (far, ipa) = if is_abort { (far, ipa) } else { (0, 0) };
        *self = Self([count.wrapping_add(1), esr, syndrome.elr, far, ipa]);
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([count, esr, pc, far, ipa]) = self;
        write!(
            f,
            "refusals: {count}, the last: esr {esr:#x} at pc {pc:#x}, far {far:#x}, ipa {ipa:#x}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn exit(esr: u64) -> Syndrome {
        Syndrome {
            esr,
            far: 0xffff_0000_0801_0234,
            hpfar: 0x8_0100,
            elr: 0x4020_0000,
            spsr: 0x3c5,
        }
    }

    #[test]
    fn the_last_counts_and_only_aborts_have_addresses() {
        let mut refused = Refused::NONE;
        for class in 0..64_u64 {
            refused.note(&exit(class << 26));
            let Refused([count, esr, pc, far, ipa]) = refused;
            assert_eq!((count, esr, pc), (class + 1, class << 26, 0x4020_0000));
            let addresses = if class == 0x20 || class == 0x24 {
                (0xffff_0000_0801_0234, 0x801_0234)
            } else {
                (0, 0)
            };
            assert_eq!((far, ipa), addresses, "class {class:#x}");
        }
        refused.note(&exit(0x24 << 26));
        assert_eq!(
            refused.to_string(),
            "refusals: 65, the last: esr 0x90000000 at pc 0x40200000, far 0xffff000008010234, ipa 0x8010234"
        );
    }
}
