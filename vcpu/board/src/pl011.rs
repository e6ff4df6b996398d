//! The Arm PL011 UART (DDI 0183), revision r1p5: FIFOs of 32.
//!
//! # Sending
//! Bytes leave the moment they are written, so the transmit FIFO is always empty. The transmit interrupt behaves as a
//! drained FIFO's does: writing data raises it (the FIFO passed its trigger level on its way to empty), `UARTICR` lowers
//! it. Linux's amba-pl011 relies on both: it writes a first batch, waits for the interrupt, and masks it when it has no
//! more.
//!
//! # Receiving
//! There is no clock: a byte arrives when there is room for it, and the 32 bit times that the receive timeout waits
//! have always passed. Hence the timeout interrupt is high exactly while there is something to read; clearing it makes
//! it time out anew. The receive interrupt is latched at the programmed level, and goes when a read takes the FIFO
//! below it or `UARTICR` clears it.
//!
//! # Where drivers expect QEMU's
//! What boots on QEMU's `virt` shall boot here, and that UART is lenient. So bytes come and go whatever `UARTEN` and
//! `TXE` say, because early consoles enable nothing; only a cleared `RXE` keeps bytes out. While the timeout interrupt
//! is masked, the receive interrupt's level is one byte, because drivers that know no timeout would wait for the rest
//! of a FIFO that a person does not fill. And the modem's inputs are low.

use crate::ring::Ring;

/// How many characters the receive FIFO holds (r1p5).
pub const DEPTH: usize = 32;

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

/// `UARTFR` at reset: transmit FIFO empty, receive FIFO empty, not busy, no modem.
pub const FLAGS_AT_RESET: u16 = FR_TXFE | FR_RXFE;

const FR_CTS: u16 = 1;
const FR_DSR: u16 = 1 << 1;
const FR_DCD: u16 = 1 << 2;
const FR_RXFE: u16 = 1 << 4;
const FR_RXFF: u16 = 1 << 6;
const FR_TXFE: u16 = 1 << 7;
const FR_RI: u16 = 1 << 8;

const LCR_BRK: u16 = 1;
const LCR_FEN: u16 = 1 << 4;

const CR_LBE: u16 = 1 << 7;
const CR_RXE: u16 = 1 << 9;
const CR_DTR: u16 = 1 << 10;
const CR_RTS: u16 = 1 << 11;
const CR_OUT1: u16 = 1 << 12;
const CR_OUT2: u16 = 1 << 13;

/// The bits of `UARTIMSC`, `UARTRIS`, `UARTMIS` and `UARTICR`.
pub mod interrupt {
    /// nUARTRI changed.
    pub const RI: u16 = 1;
    /// nUARTCTS changed.
    pub const CTS: u16 = 1 << 1;
    /// nUARTDCD changed.
    pub const DCD: u16 = 1 << 2;
    /// nUARTDSR changed.
    pub const DSR: u16 = 1 << 3;
    /// Receive.
    pub const RX: u16 = 1 << 4;
    /// Transmit.
    pub const TX: u16 = 1 << 5;
    /// Receive timeout.
    pub const RT: u16 = 1 << 6;
    /// Break error.
    pub const BE: u16 = 1 << 9;
    /// Overrun error.
    pub const OE: u16 = 1 << 10;
    /// All that exist, framing and parity errors among them.
    pub const ALL: u16 = 0x7ff;
}

/// What a character in the receive FIFO has besides its eight bits, as `UARTDR` shows it.
const DATA_BE: u16 = 1 << 10;
const DATA_OE: u16 = 1 << 11;
/// `UARTRSR.OE`.
const RSR_OE: u16 = 1 << 3;

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
    dmacr: u16,
    rsr: u16,
    /// `UARTFR`, kept so that reading it costs nothing.
    flags: u16,
    /// `UARTRIS` without the timeout, which follows the FIFO.
    latched: u16,
    /// A character was lost; the next one that is kept says so (DDI 0183, 2.4.2, overrun bit).
    overrun: bool,
    fifo: Ring<u16, DEPTH>,
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
            dmacr: 0,
            rsr: 0,
            flags: FLAGS_AT_RESET,
            latched: 0,
            overrun: false,
            fifo: Ring::new(0),
        }
    }

    /// A load of `bytes` bytes. Total: registers sit in the low half of their words, anything else reads as zero.
    /// Reading any part of `UARTDR` takes the character out.
    pub fn read(&mut self, offset: u64, bytes: u32) -> u64 {
        let register = match offset & !3 {
            DR => self.take(),
            other => self.register(other),
        };
        let word = u64::from(register) >> ((offset & 3) * 8);
        match bytes {
            1 => word & 0xff,
            2 => word & 0xffff,
            _ => word,
        }
    }

    fn register(&self, offset: u64) -> u16 {
        match offset {
            RSR => self.rsr,
            FR => self.flags,
            ILPR => self.ilpr,
            IBRD => self.ibrd,
            FBRD => self.fbrd,
            LCR_H => self.lcr_h,
            CR => self.cr,
            IFLS => self.ifls,
            IMSC => self.imsc,
            RIS => self.raw_interrupts(),
            MIS => self.raw_interrupts() & self.imsc,
            DMACR => self.dmacr,
            // Peripheral and PrimeCell identification: PL011 r1p5, by Arm.
            0xfe0 => 0x11,
            0xfe4 => 0x10,
            0xfe8 => 0x34,
            0xff0 => 0x0d,
            0xff4 => 0xf0,
            0xff8 => 0x05,
            0xffc => 0xb1,
            _ => 0,
        }
    }

    /// A store of any width; the byte that left the UART, if one did. Registers are at most 16 bits wide and take the
    /// low bits; unaligned and read-only offsets ignore it.
    pub fn write(&mut self, offset: u64, value: u64) -> Option<u8> {
        let bits = low16(value);
        match offset {
            DR => return self.send(bits),
            RSR => self.rsr = 0,
            ILPR => self.ilpr = bits & 0xff,
            IBRD => self.ibrd = bits,
            FBRD => self.fbrd = bits & 0x3f,
            LCR_H => self.set_line_control(bits & 0xff),
            CR => self.set_control(bits & 0xff87),
            IFLS => {
                self.ifls = bits & 0x3f;
                self.judge_level();
            }
            IMSC => {
                self.imsc = bits & interrupt::ALL;
                self.judge_level();
            }
            ICR => self.latched &= !bits,
            DMACR => self.dmacr = bits & 7,
            _ => {}
        }
        None
    }

    /// A byte from outside; false, and nothing changed, when there is no [`room`](Self::room).
    #[must_use]
    pub fn receive(&mut self, byte: u8) -> bool {
        let fits = self.room() != 0;
        if fits {
            self.arrive(u16::from(byte));
        }
        fits
    }

    /// Whether a driver wants to be told of what comes from outside.
    #[must_use]
    pub const fn is_heard(&self) -> bool {
        self.imsc & (interrupt::RX | interrupt::RT) != 0
    }

    /// Takes a byte that came from outside and that nobody has read.
    pub fn take_unread(&mut self) -> Option<u8> {
        let [byte, _] = (!self.fifo.is_empty()).then(|| self.take())?.to_le_bytes();
        Some(byte)
    }

    /// How many bytes from outside there is room for. None while the receiver is off or looped back.
    #[must_use]
    pub const fn room(&self) -> usize {
        if self.cr & (CR_RXE | CR_LBE) == CR_RXE {
            self.depth().saturating_sub(self.fifo.len())
        } else {
            0
        }
    }

    /// `UARTFR`.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> u16 {
        self.flags
    }

    /// The level of the interrupt line.
    #[inline]
    #[must_use]
    pub const fn line(&self) -> bool {
        self.raw_interrupts() & self.imsc != 0
    }

    /// `UARTIMSC`, if a write of the same changes no register: with nothing received there is no level to be judged anew.
    #[must_use]
    pub const fn settled_mask(&self) -> Option<u16> {
        if self.fifo.is_empty() {
            Some(self.imsc)
        } else {
            None
        }
    }

    /// Whether a byte that is written now leaves and changes no register: the transmit interrupt is up already, and
    /// nothing leads back into our own receiver.
    #[inline]
    #[must_use]
    pub const fn sends_only(&self) -> bool {
        self.latched & interrupt::TX != 0 && !self.is_looped()
    }

    const fn raw_interrupts(&self) -> u16 {
        if self.fifo.is_empty() {
            self.latched
        } else {
            self.latched | interrupt::RT
        }
    }

    const fn is_looped(&self) -> bool {
        self.cr & CR_LBE != 0
    }

    /// With the FIFOs off there is one holding register.
    const fn depth(&self) -> usize {
        if self.lcr_h & LCR_FEN != 0 { DEPTH } else { 1 }
    }

    /// How many characters raise the receive interrupt (`UARTIFLS.RXIFLSEL`; reserved values as the highest).
    const fn level(&self) -> usize {
        if self.lcr_h & LCR_FEN == 0 || self.imsc & interrupt::RT == 0 {
            return 1;
        }
        match self.ifls >> 3 {
            0 => DEPTH / 8,
            1 => DEPTH / 4,
            2 => DEPTH / 2,
            3 => DEPTH / 4 * 3,
            _ => DEPTH / 8 * 7,
        }
    }

    fn judge_level(&mut self) {
        if self.fifo.len() >= self.level() {
            self.latched |= interrupt::RX;
        }
    }

    fn send(&mut self, bits: u16) -> Option<u8> {
        let [byte, _] = bits.to_le_bytes();
        self.latched |= interrupt::TX;
        if !self.is_looped() {
            return Some(byte);
        }
        if self.cr & CR_RXE != 0 {
            self.arrive(u16::from(byte));
        }
        None
    }

    /// A character at the receiver.
    fn arrive(&mut self, character: u16) {
        let lost = if self.overrun { DATA_OE } else { 0 };
        if self.fifo.len() >= self.depth() || !self.fifo.push(character | lost) {
            self.overrun = true;
            self.rsr |= RSR_OE;
            self.latched |= interrupt::OE;
            return;
        }
        self.overrun = false;
        if character & DATA_BE != 0 {
            self.latched |= interrupt::BE;
        }
        self.judge_level();
        self.judge_flags();
    }

    /// A read of `UARTDR`. `UARTRSR` keeps the errors of the character read last, and an overrun until it is cleared.
    fn take(&mut self) -> u16 {
        let Some(character) = self.fifo.pop() else {
            return 0;
        };
        self.rsr = self.rsr & RSR_OE | character >> 8 & !RSR_OE;
        if self.fifo.len() < self.level() {
            self.latched &= !interrupt::RX;
        }
        self.judge_flags();
        character
    }

    /// Switching the FIFOs on or off empties them: drivers do it for that.
    fn set_line_control(&mut self, bits: u16) {
        let before = self.lcr_h;
        self.lcr_h = bits;
        if (before ^ bits) & LCR_FEN != 0 {
            self.fifo.clear();
            self.overrun = false;
            self.latched &= !interrupt::RX;
        }
        if bits & !before & LCR_BRK != 0 {
            self.send_break();
        }
        self.judge_flags();
    }

    fn set_control(&mut self, bits: u16) {
        let before = self.cr;
        self.cr = bits;
        self.judge_flags();
        if bits & !before & CR_LBE != 0 && self.lcr_h & LCR_BRK != 0 {
            self.send_break();
        }
    }

    /// A break reaches nobody but our own receiver, which loads one zero character for it.
    fn send_break(&mut self) {
        if self.cr & (CR_LBE | CR_RXE) == CR_LBE | CR_RXE {
            self.arrive(DATA_BE);
        }
    }

    /// `UARTFR` anew, and the interrupts of modem inputs that changed. There is no modem: its inputs are low, or with
    /// the loop closed our own outputs (DDI 0183, 3.3.8, LBE).
    fn judge_flags(&mut self) {
        const MODEM: [(u16, u16, u16); 4] = [
            (CR_RTS, FR_CTS, interrupt::CTS),
            (CR_DTR, FR_DSR, interrupt::DSR),
            (CR_OUT1, FR_DCD, interrupt::DCD),
            (CR_OUT2, FR_RI, interrupt::RI),
        ];
        let mut flags = FR_TXFE;
        if self.fifo.is_empty() {
            flags |= FR_RXFE;
        }
        if self.fifo.len() >= self.depth() {
            flags |= FR_RXFF;
        }
        for (output, input, interrupt) in MODEM {
            if self.is_looped() && self.cr & output != 0 {
                flags |= input;
            }
            if (flags ^ self.flags) & input != 0 {
                self.latched |= interrupt;
            }
        }
        self.flags = flags;
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
mod tests;
