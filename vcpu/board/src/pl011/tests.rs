use super::interrupt::{ALL, BE, CTS, DCD, DSR, OE, RI, RT, RX, TX};
use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const FEN: u64 = 1 << 4;
const BRK: u64 = 1;
const RXE: u64 = 1 << 9;
const LBE: u64 = 1 << 7;

/// What a store makes of what is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    /// These bits are kept.
    Keeps(u16),
    /// Nothing is kept; it may do something.
    Acts,
    /// Ignored.
    Nothing,
}

/// Every register of DDI 0183 table 3-1, the test registers of table 4-1 and the identification: what it reads as at
/// reset, and what a store does. What is not here reads as zero and ignores stores.
const TABLE: [(u64, u16, Store); 26] = [
    (DR, 0, Store::Acts),
    (RSR, 0, Store::Acts),
    (FR, 0x90, Store::Nothing),
    (ILPR, 0, Store::Keeps(0xff)),
    (IBRD, 0, Store::Keeps(0xffff)),
    (FBRD, 0, Store::Keeps(0x3f)),
    (LCR_H, 0, Store::Keeps(0xff)),
    (CR, 0x300, Store::Keeps(0xff87)),
    (IFLS, 0x12, Store::Keeps(0x3f)),
    (IMSC, 0, Store::Keeps(0x7ff)),
    (RIS, 0, Store::Nothing),
    (MIS, 0, Store::Nothing),
    (ICR, 0, Store::Acts),
    (DMACR, 0, Store::Keeps(7)),
    // UARTTCR, UARTITIP, UARTITOP, UARTTDR: for integration tests of the silicon, absent.
    (0x080, 0, Store::Nothing),
    (0x084, 0, Store::Nothing),
    (0x088, 0, Store::Nothing),
    (0x08c, 0, Store::Nothing),
    (0xfe0, 0x11, Store::Nothing),
    (0xfe4, 0x10, Store::Nothing),
    (0xfe8, 0x34, Store::Nothing),
    (0xfec, 0x00, Store::Nothing),
    (0xff0, 0x0d, Store::Nothing),
    (0xff4, 0xf0, Store::Nothing),
    (0xff8, 0x05, Store::Nothing),
    (0xffc, 0xb1, Store::Nothing),
];

fn entry(offset: u64) -> (u16, Store) {
    let found = TABLE.iter().find(|row| row.0 == offset);
    found.map_or((0, Store::Nothing), |row| (row.1, row.2))
}

const fn part(word: u16, offset: u64, bytes: u32) -> u64 {
    let word = word as u64 >> ((offset & 3) * 8);
    match bytes {
        1 => word & 0xff,
        2 => word & 0xffff,
        _ => word,
    }
}

#[test]
fn s2_15_every_register_reads_and_keeps_what_the_table_says() {
    for offset in 0..0x1008 {
        let (reset, store) = entry(offset & !3);
        for bytes in [1, 2, 4, 8] {
            let mut uart = Pl011::new();
            assert_eq!(
                uart.read(offset, bytes),
                part(reset, offset, bytes),
                "{offset:#x} {bytes}"
            );
            for pattern in [0, u64::MAX, 0xa5a5_a5a5_a5a5_a5a5] {
                let mut uart = Pl011::new();
                let left = uart.write(offset, pattern);
                assert_eq!(left.is_some(), offset == DR, "{offset:#x}");
                let wanted = match store {
                    // A store beside a register's start is none to it.
                    Store::Keeps(mask) if offset & 3 == 0 => low16(pattern) & mask,
                    Store::Keeps(_) | Store::Acts | Store::Nothing => reset,
                };
                let read = uart.read(offset, bytes);
                assert_eq!(
                    read,
                    part(wanted, offset, bytes),
                    "{offset:#x} {bytes} {pattern:#x}"
                );
                if store == Store::Nothing || offset & 3 != 0 {
                    assert_eq!(uart, Pl011::new(), "{offset:#x} {pattern:#x}");
                }
            }
        }
    }
}

#[test]
fn identification_is_that_of_a_pl011_with_fifos_of_32() {
    let mut uart = Pl011::new();
    let mut id = |base| (0..4u64).fold(0, |id, n| id | uart.read(base + 4 * n, 1) << (8 * n));
    assert_eq!(id(0xfe0), 0x0034_1011);
    assert_eq!(id(0xff0), 0xb105_f00d);
}

fn ris(uart: &Pl011) -> u16 {
    uart.raw_interrupts()
}

fn enabled() -> Pl011 {
    let mut uart = Pl011::new();
    uart.write(LCR_H, 0x60 | FEN);
    uart.write(CR, 0x301);
    uart.write(IMSC, u64::from(RX | RT));
    uart
}

fn type_in(uart: &mut Pl011, bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| uart.receive(**byte)).count()
}

fn read_out(uart: &mut Pl011) -> Vec<u8> {
    let mut bytes = Vec::new();
    while uart.read(FR, 4) & u64::from(FR_RXFE) == 0 {
        bytes.push(u8::try_from(uart.read(DR, 4)).unwrap());
    }
    bytes
}

#[test]
fn the_fifo_is_32_deep_and_the_holding_register_one() {
    for (lcr_h, depth) in [(FEN, 32), (0, 1)] {
        let mut uart = Pl011::new();
        uart.write(LCR_H, lcr_h);
        for filled in 0..depth {
            let empty = if filled == 0 { FR_RXFE } else { 0 };
            assert_eq!(uart.flags(), FR_TXFE | empty);
            assert_eq!(uart.room(), depth - filled);
            assert!(uart.receive(u8::try_from(filled).unwrap()));
        }
        assert_eq!(uart.flags(), FR_TXFE | FR_RXFF);
        let full = uart.clone();
        assert!(!uart.receive(99));
        assert_eq!(uart, full, "refused, not overrun");
        let wanted: Vec<u8> = (0..32).take(depth).collect();
        assert_eq!(read_out(&mut uart), wanted);
        assert_eq!(uart.flags(), FLAGS_AT_RESET);
        assert_eq!(uart.read(DR, 4), 0, "nothing more");
    }
}

#[test]
fn the_receive_interrupt_comes_at_the_level_and_goes_below_it() {
    for (select, level) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28), (5, 28), (7, 28)] {
        let mut uart = enabled();
        uart.write(IFLS, select << 3);
        for count in 1..=DEPTH {
            assert!(uart.receive(7));
            let wanted = if count >= level { RX | RT } else { RT };
            assert_eq!(ris(&uart), wanted, "{select} {count}");
        }
        for left in (0..DEPTH).rev() {
            let _ = uart.read(DR, 4);
            let wanted = match left {
                0 => 0,
                _ if left >= level => RX | RT,
                _ => RT,
            };
            assert_eq!(ris(&uart), wanted, "{select} {left}");
        }
    }
    // Without FIFOs a character is all there is.
    let mut uart = enabled();
    uart.write(LCR_H, 0);
    assert!(uart.receive(7));
    assert_eq!(ris(&uart), RX | RT);
    let _ = uart.read(DR, 4);
    assert_eq!(ris(&uart), 0);
}

#[test]
fn a_level_that_is_lowered_to_what_is_there_is_reached() {
    let mut uart = enabled();
    assert_eq!(type_in(&mut uart, b"12345"), 5);
    assert_eq!(ris(&uart), RT);
    uart.write(IFLS, 0);
    assert_eq!(ris(&uart), RX | RT);
}

#[test]
fn who_masks_the_timeout_gets_an_interrupt_for_each_character() {
    let mut uart = enabled();
    uart.write(IMSC, u64::from(RX));
    assert!(!uart.line());
    assert!(uart.receive(b'x'));
    assert_eq!((ris(&uart), uart.line()), (RX | RT, true));
    assert_eq!(uart.read(DR, 4), u64::from(b'x'));
    assert_eq!((ris(&uart), uart.line()), (0, false));
    // What was there when the timeout was masked counts as well.
    uart.write(IMSC, u64::from(RT));
    assert!(uart.receive(b'y'));
    assert_eq!(ris(&uart), RT);
    uart.write(IMSC, u64::from(RX));
    assert!(uart.line());
}

#[test]
fn the_timeout_lasts_while_there_is_something_to_read() {
    let mut uart = enabled();
    uart.write(IMSC, u64::from(RT));
    assert!(uart.receive(b'x') && uart.receive(b'y'));
    uart.write(ICR, u64::from(ALL));
    assert_eq!(ris(&uart), RT, "it times out anew");
    let _ = uart.read(DR, 4);
    assert!(uart.line());
    let _ = uart.read(DR, 4);
    assert!(!uart.line());
}

#[test]
fn clearing_the_receive_interrupt_lasts_until_the_next_character() {
    let mut uart = enabled();
    uart.write(IFLS, 0);
    assert_eq!(type_in(&mut uart, b"1234"), 4);
    uart.write(ICR, u64::from(RX));
    assert_eq!(ris(&uart), RT);
    assert!(uart.receive(b'5'));
    assert_eq!(ris(&uart), RX | RT);
}

#[test]
fn the_receiver_keeps_bytes_out_only_while_it_is_off_or_looped() {
    for (cr, room) in [
        (0x300, 32),
        (0x301, 32),
        (RXE, 32),
        (0x101, 0),
        (0, 0),
        (0x301 | LBE, 0),
    ] {
        let mut uart = enabled();
        uart.write(CR, cr);
        assert_eq!(uart.room(), room, "{cr:#x}");
        assert_eq!(uart.receive(1), room != 0);
    }
}

#[test]
fn switching_the_fifos_empties_them() {
    for (from, to) in [(FEN, 0), (0, FEN)] {
        let mut uart = Pl011::new();
        uart.write(LCR_H, from);
        assert!(uart.receive(b'x'));
        uart.write(LCR_H, from | 0x60);
        assert_eq!(ris(&uart), RX | RT, "the word's length does not matter");
        uart.write(LCR_H, to | 0x60);
        assert_eq!((ris(&uart), uart.flags()), (0, FLAGS_AT_RESET));
        assert_eq!(uart.read(DR, 4), 0);
    }
}

#[test]
fn a_closed_loop_returns_what_is_sent() {
    let mut uart = enabled();
    uart.write(CR, 0x301 | LBE);
    for byte in b"loop" {
        assert_eq!(uart.write(DR, u64::from(*byte)), None, "nothing leaves");
    }
    assert_eq!(ris(&uart), TX | RT);
    assert_eq!(read_out(&mut uart), b"loop");
    uart.write(CR, 0x101 | LBE);
    assert_eq!(uart.write(DR, 1), None);
    assert_eq!(uart.flags(), FLAGS_AT_RESET, "no receiver");
    uart.write(CR, 0x301);
    assert_eq!(uart.write(DR, 0x141), Some(0x41));
}

#[test]
fn an_overrun_is_told_at_once_and_with_the_next_character() {
    let mut uart = enabled();
    uart.write(CR, 0x301 | LBE);
    for byte in 0..33 {
        uart.write(DR, byte);
    }
    assert_eq!(ris(&uart), TX | RX | RT | OE);
    assert_eq!(uart.read(RSR, 4), 8);
    assert_eq!(uart.read(DR, 4), 0, "the first one, unharmed");
    assert_eq!(uart.read(RSR, 4), 8, "until it is cleared");
    uart.write(DR, 0x77);
    uart.write(RSR, 0);
    uart.write(ICR, u64::from(OE));
    assert_eq!((uart.read(RSR, 4), ris(&uart) & OE), (0, 0));
    for byte in 1..32 {
        assert_eq!(uart.read(DR, 4), byte);
    }
    assert_eq!(uart.read(DR, 4), 0x877, "the one after the lost one");
    assert_eq!(uart.read(RSR, 4), 0);
    uart.write(DR, 0x78);
    assert_eq!(uart.read(DR, 4), 0x78);
}

#[test]
fn a_break_in_a_closed_loop_is_one_zero_with_its_mark() {
    let mut uart = enabled();
    uart.write(LCR_H, FEN | BRK);
    assert_eq!(ris(&uart), 0, "nobody is there to receive it");
    uart.write(CR, 0x301 | LBE);
    assert_eq!(ris(&uart), BE | RT);
    uart.write(LCR_H, FEN | BRK | 0x60);
    uart.write(LCR_H, FEN);
    assert_eq!(uart.read(DR, 4), 0x400);
    assert_eq!(uart.read(RSR, 4), 4);
    assert_eq!(uart.flags() & FR_RXFE, FR_RXFE, "once");
    uart.write(ICR, u64::from(BE));
    uart.write(LCR_H, FEN | BRK);
    assert_eq!(ris(&uart), BE | RT);
    uart.write(LCR_H, FEN);
    uart.write(DR, 5);
    assert_eq!(uart.read(DR, 4), 0x400);
    assert_eq!((uart.read(DR, 4), uart.read(RSR, 4)), (5, 0));
}

#[test]
fn the_modem_is_our_own_outputs_while_the_loop_is_closed() {
    let outputs = [
        (1 << 10, 1 << 1, DSR),
        (1 << 11, 1, CTS),
        (1 << 12, 1 << 2, DCD),
        (1 << 13, 1 << 8, RI),
    ];
    for (output, input, interrupt) in outputs {
        let mut uart = Pl011::new();
        uart.write(CR, RXE | output);
        assert_eq!((uart.flags(), ris(&uart)), (FLAGS_AT_RESET, 0));
        uart.write(CR, RXE | output | LBE);
        assert_eq!(
            (uart.flags(), ris(&uart)),
            (FLAGS_AT_RESET | input, interrupt)
        );
        uart.write(ICR, u64::from(interrupt));
        uart.write(CR, RXE | output | LBE);
        assert_eq!(ris(&uart), 0, "no change");
        uart.write(CR, RXE | LBE);
        assert_eq!((uart.flags(), ris(&uart)), (FLAGS_AT_RESET, interrupt));
    }
}

#[test]
fn transmission_follows_what_the_linux_driver_does() {
    let mut uart = Pl011::new();
    // Probe and startup: everything cleared, only receive interrupts on.
    uart.write(ICR, 0xffff);
    uart.write(IMSC, 0x50);
    assert!(!uart.line());
    // start_tx: unmask, then provoke the interrupt with a first batch.
    uart.write(IMSC, 0x70);
    assert!(!uart.line());
    assert_eq!(uart.write(DR, 0x41), Some(0x41));
    assert_eq!(uart.write(DR, 0x142), Some(0x42));
    assert!(uart.line());
    assert_eq!((uart.read(RIS, 4), uart.read(MIS, 4)), (0x20, 0x20));
    // The handler acknowledges all but TX and RX, sends more, and masks TX at the end.
    uart.write(ICR, 0x7ff & !0x70);
    assert!(uart.line());
    uart.write(IMSC, 0x50);
    assert!(!uart.line());
    assert_eq!((uart.read(RIS, 4), uart.read(MIS, 4)), (0x20, 0));
    // Unmasking again finds the FIFO still drained.
    uart.write(IMSC, 0x20);
    assert!(uart.line());
    uart.write(ICR, 0x20);
    assert!(!uart.line());
    uart.write(IMSC, 0);
    assert_eq!(uart.write(DR, 0x43), Some(0x43));
    assert!(!uart.line());
}

#[test]
fn reception_follows_what_the_linux_driver_does() {
    let mut uart = Pl011::new();
    // Typed before anybody listens: the driver drains it, and unmasks.
    uart.write(LCR_H, 0x70);
    assert_eq!(type_in(&mut uart, b"early"), 5);
    uart.write(ICR, u64::from(OE | BE | RT | RX));
    assert_eq!(read_out(&mut uart), b"early");
    uart.write(IMSC, u64::from(RT | RX));
    assert!(!uart.line());
    assert_eq!(type_in(&mut uart, b"a line\r"), 7);
    assert!(uart.line());
    // The handler clears everything but RX, RT and TX, and reads until the FIFO is empty.
    assert_eq!(uart.read(RIS, 4), u64::from(RT));
    uart.write(ICR, 0);
    assert_eq!(read_out(&mut uart), b"a line\r");
    assert_eq!((uart.line(), uart.read(RIS, 4)), (false, 0));
}

/// A load or store of a guest, or a byte from outside.
#[derive(Clone, Debug)]
enum Step {
    Load(u64),
    Store(u64, u16),
    Byte(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offsets = || prop::sample::select(TABLE.map(|row| row.0).to_vec());
    let busy = || prop::sample::select(std::vec![DR, LCR_H, CR, IFLS, IMSC, ICR]);
    let step = prop_oneof![
        offsets().prop_map(Step::Load),
        Just(Step::Load(DR)),
        (offsets(), any::<u16>()).prop_map(|(offset, value)| Step::Store(offset, value)),
        (busy(), any::<u16>()).prop_map(|(offset, value)| Step::Store(offset, value)),
        any::<u8>().prop_map(Step::Byte),
    ];
    proptest::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn flags_interrupts_and_room_always_agree_with_the_fifo(steps in steps()) {
        let mut uart = Pl011::new();
        for step in steps {
            let (held, room) = (uart.fifo.len(), uart.room());
            match step {
                Step::Load(offset) => {
                    let value = uart.read(offset, 4);
                    prop_assert!(value <= 0xffff);
                    let taken = usize::from(offset == DR && held != 0);
                    prop_assert_eq!(uart.fifo.len(), held - taken);
                }
                Step::Store(offset, value) => {
                    let sent = uart.write(offset, u64::from(value));
                    prop_assert_eq!(sent.is_some(), offset == DR && uart.cr & CR_LBE == 0);
                }
                Step::Byte(byte) => {
                    prop_assert_eq!(uart.receive(byte), room != 0);
                    prop_assert_eq!(uart.fifo.len(), held + usize::from(room != 0));
                }
            }
            let held = uart.fifo.len();
            let flags = uart.flags();
            prop_assert_eq!(u64::from(flags), uart.read(FR, 4));
            prop_assert_eq!(flags & FR_RXFE != 0, held == 0);
            prop_assert_eq!(flags & FR_RXFF != 0, held == uart.depth());
            prop_assert_eq!(flags & FR_TXFE, FR_TXFE);
            prop_assert!(held <= uart.depth());
            prop_assert_eq!(ris(&uart) & RT != 0, held != 0);
            prop_assert!(held != 0 || ris(&uart) & RX == 0);
            prop_assert_eq!(uart.read(MIS, 4) != 0, uart.line());
            prop_assert_eq!(uart.read(MIS, 4), uart.read(RIS, 4) & uart.read(IMSC, 4));
        }
    }
}
