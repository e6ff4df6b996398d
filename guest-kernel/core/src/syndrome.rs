//! An exception's syndrome in words (DDI 0487, ESR_EL1).

use core::fmt;

/// The value of `ESR_EL1`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Syndrome(pub u64);

impl Syndrome {
    /// The exception class.
    #[must_use]
    pub const fn class(self) -> u64 {
        (self.0 >> 26) & 0x3F
    }

    /// Whether this is a data or instruction abort, so that `FAR_EL1` tells where.
    #[must_use]
    pub const fn has_address(self) -> bool {
        matches!(self.class(), 0x20 | 0x21 | 0x22 | 0x24 | 0x25 | 0x34 | 0x35)
    }

    /// Whether this is a data abort taken from this level.
    #[must_use]
    pub const fn is_own_data_abort(self) -> bool {
        self.class() == 0x25
    }

    const fn class_name(self) -> &'static str {
        match self.class() {
            0x00 => "undefined instruction",
            0x01 => "trapped WFI or WFE",
            0x07 => "floating-point access",
            0x0E => "illegal execution state",
            0x15 => "SVC",
            0x18 => "trapped system register access",
            0x20 | 0x21 => "instruction abort",
            0x22 => "misaligned pc",
            0x24 | 0x25 => "data abort",
            0x26 => "misaligned stack",
            0x2C => "floating-point exception",
            0x2F => "SError",
            0x30 | 0x31 => "breakpoint",
            0x3C => "BRK",
            _ => "unknown exception",
        }
    }

    const fn fault_name(self) -> &'static str {
        match self.0 & 0x3F {
            0x00..=0x03 => "address size fault",
            0x04..=0x07 => "translation fault",
            0x08..=0x0B => "access flag fault",
            0x0C..=0x0F => "permission fault",
            0x10 => "external abort",
            0x14..=0x17 => "external abort on a table walk",
            0x21 => "alignment fault",
            0x30 => "TLB conflict",
            _ => "other fault",
        }
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class_name())?;
        match self.class() {
            0x20 | 0x21 => write!(f, ", {}", self.fault_name()),
            0x24 | 0x25 => {
                // WnR is bit 6 of a data abort's syndrome.
                let verb = if self.0 & (1 << 6) == 0 {
                    "reading"
                } else {
                    "writing"
                };
                write!(f, ", {}, {verb}", self.fault_name())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aborts_say_what_was_wrong() {
        for (esr, words) in [
            (0x9600_0007, "data abort, translation fault, reading"),
            (0x9600_004F, "data abort, permission fault, writing"),
            (0x9600_0010, "data abort, external abort, reading"),
            (0x8600_000F, "instruction abort, permission fault"),
            (0x0200_0000, "undefined instruction"),
        ] {
            assert_eq!(Syndrome(esr).to_string(), words);
        }
        assert!(Syndrome(0x9600_0007).is_own_data_abort());
    }

    #[test]
    fn every_syndrome_has_words() {
        for class in 0..64u64 {
            for fault in 0..64u64 {
                let syndrome = Syndrome((class << 26) | fault);
                assert!(!syndrome.to_string().is_empty());
                assert_eq!(syndrome.class(), class);
                assert_eq!(
                    syndrome.has_address(),
                    [0x20, 0x21, 0x22, 0x24, 0x25, 0x34, 0x35].contains(&class)
                );
            }
        }
    }
}
