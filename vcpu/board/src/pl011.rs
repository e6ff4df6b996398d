//! The Arm PL011 UART (DDI 0183), transmit side.
//!
//! Bytes leave the moment they are written, so the transmit FIFO is always empty and the flag register is a constant.
//! The transmit interrupt behaves as a drained FIFO's does: writing data raises it (the FIFO passed its trigger level
//! on its way to empty), `UARTICR` lowers it. Linux's amba-pl011 relies on both: it writes a first batch, waits for the
//! interrupt, and masks it when it has no more.
//!
//! Nothing is ever received yet.

/// `UARTFR` with nothing to receive: transmit FIFO empty, receive FIFO empty, not busy.
pub const FLAGS: u32 = FR_TXFE | FR_RXFE;

const FR_RXFE: u32 = 1 << 4;
const FR_TXFE: u32 = 1 << 7;
/// `UARTRIS.TXRIS`.
const INT_TX: u16 = 1 << 5;
/// The interrupts that exist.
const INT_ALL: u16 = 0x7ff;

/// `UARTDR`.
pub const DR: u64 = 0x000;
/// `UARTRSR`, `UARTECR`.
pub const RSR: u64 = 0x004;
/// `UARTFR`.
pub const FR: u64 = 0x018;
/// `UARTILPR`.
pub const ILPR: u64 = 0x020;
/// `UARTIBRD`.
pub const IBRD: u64 = 0x024;
/// `UARTFBRD`.
pub const FBRD: u64 = 0x028;
/// `UARTLCR_H`.
pub const LCR_H: u64 = 0x02c;
/// `UARTCR`.
pub const CR: u64 = 0x030;
/// `UARTIFLS`.
pub const IFLS: u64 = 0x034;
/// `UARTIMSC`.
pub const IMSC: u64 = 0x038;
/// `UARTRIS`.
pub const RIS: u64 = 0x03c;
/// `UARTMIS`.
pub const MIS: u64 = 0x040;
/// `UARTICR`.
pub const ICR: u64 = 0x044;
/// `UARTDMACR`.
pub const DMACR: u64 = 0x048;

/// What a write did to the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Effect {
    /// A byte left the UART.
    pub byte: Option<u8>,
    /// The interrupt line changed to this level.
    pub line: Option<bool>,
}

/// The registers of one UART.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pl011 {
    ilpr: u16,
    ibrd: u16,
    fbrd: u16,
    lcr_h: u16,
    cr: u16,
    ifls: u16,
    imsc: u16,
    ris: u16,
    dmacr: u16,
}

impl Default for Pl011 {
    fn default() -> Self {
        Self::new()
    }
}

impl Pl011 {
    /// The state at reset.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ilpr: 0,
            ibrd: 0,
            fbrd: 0,
            lcr_h: 0,
            cr: 0x300,
            ifls: 0x12,
            imsc: 0,
            ris: 0,
            dmacr: 0,
        }
    }

    /// What `offset` reads as, if that needs no state: the flags and the data register of an idle receiver.
    #[inline]
    #[must_use]
    pub const fn fast_read(offset: u64) -> Option<u32> {
        if offset == FR { Some(FLAGS) } else { None }
    }

    /// A load of `bytes` bytes. Total: registers sit in the low half of their words, anything else reads as zero.
    #[must_use]
    pub const fn read(&self, offset: u64, bytes: u32) -> u64 {
        let word = self.register(offset & !3) as u64 >> ((offset & 3) * 8);
        match bytes {
            1 => word & 0xff,
            2 => word & 0xffff,
            _ => word,
        }
    }

    const fn register(&self, offset: u64) -> u32 {
        let value = match offset {
            FR => return FLAGS,
            ILPR => self.ilpr,
            IBRD => self.ibrd,
            FBRD => self.fbrd,
            LCR_H => self.lcr_h,
            CR => self.cr,
            IFLS => self.ifls,
            IMSC => self.imsc,
            RIS => self.ris,
            MIS => self.ris & self.imsc,
            DMACR => self.dmacr,
            // Peripheral and PrimeCell identification: PL011 r1, by Arm.
            0xfe0 => 0x11,
            0xfe4 => 0x10,
            0xfe8 => 0x14,
            0xff0 => 0x0d,
            0xff4 => 0xf0,
            0xff8 => 0x05,
            0xffc => 0xb1,
            _ => 0,
        };
        value as u32
    }

    /// A store of any width. Registers are at most 16 bits wide and take the low bits; unaligned and read-only
    /// offsets ignore it.
    pub const fn write(&mut self, offset: u64, value: u64) -> Effect {
        let before = self.line();
        let bits = low16(value);
        let mut byte = None;
        match offset {
            DR => {
                let [low, _] = bits.to_le_bytes();
                byte = Some(low);
                self.ris |= INT_TX;
            }
            ILPR => self.ilpr = bits & 0xff,
            IBRD => self.ibrd = bits,
            FBRD => self.fbrd = bits & 0x3f,
            LCR_H => self.lcr_h = bits & 0xff,
            CR => self.cr = bits & 0xff87,
            IFLS => self.ifls = bits & 0x3f,
            IMSC => self.imsc = bits & INT_ALL,
            ICR => self.ris &= !bits,
            DMACR => self.dmacr = bits & 7,
            _ => {}
        }
        let after = self.line();
        Effect {
            byte,
            line: if before == after { None } else { Some(after) },
        }
    }

    /// The level of the interrupt line.
    #[must_use]
    pub const fn line(&self) -> bool {
        self.ris & self.imsc != 0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "registers take the low 16 bits"
)]
const fn low16(value: u64) -> u16 {
    value as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOTHING: Effect = Effect {
        byte: None,
        line: None,
    };

    #[test]
    fn the_flags_say_ready_to_send_and_nothing_to_receive() {
        let uart = Pl011::default();
        assert_eq!(uart.read(FR, 4), 0x90);
        assert_eq!(Pl011::fast_read(FR), Some(0x90));
        assert_eq!(Pl011::fast_read(DR), None);
        assert_eq!(uart.read(DR, 4), 0);
        assert_eq!(uart.read(RSR, 4), 0);
    }

    #[test]
    fn identification_is_that_of_a_pl011() {
        let uart = Pl011::new();
        let id = |base| (0..4u64).fold(0, |id, n| id | uart.read(base + 4 * n, 1) << (8 * n));
        assert_eq!(id(0xfe0), 0x0014_1011);
        assert_eq!(id(0xff0), 0xb105_f00d);
    }

    #[test]
    fn settings_read_back_within_their_width() {
        let mut uart = Pl011::new();
        let table = [
            (ILPR, 0xff),
            (IBRD, 0xffff),
            (FBRD, 0x3f),
            (LCR_H, 0xff),
            (CR, 0xff87),
            (IFLS, 0x3f),
            (IMSC, 0x7ff),
            (DMACR, 7),
        ];
        for (offset, mask) in table {
            assert_eq!(uart.write(offset, u64::MAX), NOTHING);
            assert_eq!(uart.read(offset, 4), mask);
            assert_eq!(uart.read(offset, 1), mask & 0xff);
            assert_eq!(uart.read(offset + 1, 1), mask >> 8);
            assert_eq!(uart.read(offset, 2), mask);
            assert_eq!(uart.write(offset, 0), NOTHING);
            assert_eq!(uart.read(offset, 8), 0);
        }
        assert_eq!(Pl011::new().read(CR, 4), 0x300);
        assert_eq!(Pl011::new().read(IFLS, 4), 0x12);
    }

    #[test]
    fn transmission_follows_what_the_linux_driver_does() {
        let mut uart = Pl011::new();
        // Probe and startup: everything cleared, only receive interrupts on.
        assert_eq!(uart.write(ICR, 0xffff), NOTHING);
        assert_eq!(uart.write(IMSC, 0x50), NOTHING);
        // start_tx: unmask, then provoke the interrupt with a first batch.
        assert_eq!(uart.write(IMSC, 0x70), NOTHING);
        assert_eq!(
            uart.write(DR, 0x41),
            Effect {
                byte: Some(0x41),
                line: Some(true)
            }
        );
        assert_eq!(
            uart.write(DR, 0x142),
            Effect {
                byte: Some(0x42),
                line: None
            }
        );
        assert_eq!((uart.read(RIS, 4), uart.read(MIS, 4)), (0x20, 0x20));
        // The handler acknowledges all but TX and RX, sends more, and masks TX at the end.
        assert_eq!(uart.write(ICR, 0x7ff & !0x70), NOTHING);
        assert!(uart.line());
        assert_eq!(
            uart.write(IMSC, 0x50),
            Effect {
                byte: None,
                line: Some(false)
            }
        );
        assert_eq!((uart.read(RIS, 4), uart.read(MIS, 4)), (0x20, 0));
        // Unmasking again finds the FIFO still drained.
        assert_eq!(
            uart.write(IMSC, 0x20),
            Effect {
                byte: None,
                line: Some(true)
            }
        );
        assert_eq!(
            uart.write(ICR, 0x20),
            Effect {
                byte: None,
                line: Some(false)
            }
        );
        assert_eq!(uart.write(IMSC, 0), NOTHING);
        assert_eq!(
            uart.write(DR, 0x43),
            Effect {
                byte: Some(0x43),
                line: None
            }
        );
    }

    #[test]
    fn s2_15_every_offset_width_and_pattern_has_an_answer() {
        let mut uart = Pl011::new();
        for offset in 0..0x1008 {
            for pattern in [0, u64::MAX, 0xa5a5_a5a5_a5a5_a5a5] {
                for bytes in [1, 2, 4, 8] {
                    let before = uart.line();
                    let effect = uart.write(offset, pattern);
                    assert_eq!(effect.byte.is_some(), offset == DR);
                    assert_eq!(effect.line.unwrap_or(before), uart.line());
                    assert!(uart.read(offset, bytes) <= 0xffff);
                    assert_eq!(uart.read(FR, 4), u64::from(FLAGS));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_reported_line_changes_add_up_to_the_line(
            writes in proptest::collection::vec((prop::sample::select(std::vec![DR, IMSC, ICR, CR, RIS]), any::<u16>()), 0..200)
        ) {
            let mut uart = Pl011::new();
            let mut line = false;
            for (offset, value) in writes {
                let effect = uart.write(offset, u64::from(value));
                if let Some(level) = effect.line {
                    prop_assert_ne!(level, line);
                    line = level;
                }
                prop_assert_eq!(line, uart.line());
                prop_assert_eq!(uart.read(MIS, 4) != 0, line);
            }
        }
    }
}
