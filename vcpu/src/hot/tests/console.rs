//! A store to UARTDR in every state that the console can be in.

use core::sync::atomic::Ordering;

use super::trap::Trap;
use super::twins::{Count, Twins};
use crate::rig::{World, machine};
use vcpu_board::PL011_BASE;
use vcpu_board::console::LINE_MAX;
use vcpu_board::pl011::{CR, DR, FR, ICR, IMSC, LCR_H, interrupt};

const HALF: u64 = 1;
const WORD: u64 = 2;

fn store(offset: u64, value: u64) -> Trap {
    Trap::access(PL011_BASE + offset, WORD, 3, true, value)
}

/// A guest of one lane, and its twin.
struct Pair<'m> {
    twins: Twins<'m>,
    count: Count,
}

impl Pair<'_> {
    fn trap(&self, trap: &Trap) -> bool {
        let before = self.count.answered.load(Ordering::Relaxed);
        self.twins.trap(0, trap, &self.count, &trap);
        self.count.answered.load(Ordering::Relaxed) != before
    }

    fn send(&self, bytes: &[u8]) -> bool {
        let answered = |byte: &u8| self.trap(&store(DR, (*byte).into()));
        bytes.iter().map(answered).last().unwrap_or(false)
    }
}

/// Does `prepare` to a machine that has sent a byte, then sends each of the 256; how many were answered hot.
fn answered_after(prepare: impl Fn(&Pair<'_>)) -> usize {
    let after = |byte: u8| {
        let machines = [machine(1), machine(1)];
        let pair = Pair {
            twins: Twins::new(&machines, 4),
            count: Count::default(),
        };
        assert!(!pair.send(b"a"), "the first raises the transmit interrupt");
        prepare(&pair);
        let answered = pair.send(&[byte]);
        pair.send(b"b\n");
        pair.twins.compare_all(&byte);
        answered
    };
    (0..=255).filter(|byte| after(*byte)).count()
}

/// Printable ASCII, and a carriage return.
const PLAIN: usize = 0x7f - 0x20 + 1;

#[test]
fn plain_text_is_answered_in_any_line_that_has_room() {
    let sent = |count: usize| answered_after(|pair| _ = pair.send(&[b'x'].repeat(count)));
    assert_eq!(sent(0), PLAIN);
    assert_eq!(sent(LINE_MAX - 3), PLAIN);
    assert_eq!(sent(LINE_MAX - 2), 1, "it would be full");
    assert_eq!(sent(LINE_MAX - 1), PLAIN, "it was cut");
    assert_eq!(sent(LINE_MAX), PLAIN);
    assert_eq!(answered_after(|pair| _ = pair.send(b"\n")), PLAIN);
}

#[test]
fn what_has_begun_is_ended_by_the_slow_path() {
    assert_eq!(answered_after(|pair| _ = pair.send(b"\r")), 0);
    assert_eq!(answered_after(|pair| _ = pair.send(b"\xe2\x82")), 0);
}

#[test]
fn the_transmit_interrupt_stays_right() {
    let tx = u64::from(interrupt::TX);
    let with = |stores: &[(u64, u64)]| {
        answered_after(|pair| {
            for (offset, value) in stores {
                pair.trap(&store(*offset, *value));
            }
        })
    };
    assert_eq!(with(&[(IMSC, tx)]), PLAIN, "it is up and stays up");
    assert_eq!(with(&[(IMSC, tx), (IMSC, 0)]), PLAIN);
    assert_eq!(with(&[(ICR, tx)]), 0, "it rises");
    assert_eq!(with(&[(IMSC, tx), (ICR, tx)]), 0);
    let looped = with(&[(LCR_H, 0x70), (CR, 0x381)]);
    assert_eq!(looped, 0, "the byte comes back");
}

#[test]
fn who_watches_is_told_that_a_line_begins() {
    let watched = |world: &World<'_>| world.machine.watch_console(true, 0);
    let after = |text: &[u8]| {
        answered_after(|pair| {
            pair.send(b"\n");
            pair.twins.both(|world| watched(world));
            pair.send(text);
        })
    };
    assert_eq!(after(b""), 0);
    assert_eq!(after(b"x"), PLAIN, "the time to look is set");
}

#[test]
fn typed_bytes_and_a_busy_console_are_waited_for_by_the_slow_path() {
    let typed = |world: &World<'_>| {
        world.machine.input(b"abc");
    };
    assert_eq!(answered_after(|pair| pair.twins.both(typed)), 0);

    let machine = machine(1);
    let world = World::new(&machine, 4);
    store(DR, b'a'.into()).set(&world, 0);
    let _ = world.exit(0, crate::exit::Exit::Sync, crate::rig::Path::Slow);
    store(DR, b'b'.into()).set(&world, 0);
    let guard = machine.console.lock();
    assert!(
        !world.hot(0, crate::exit::Exit::Sync),
        "another lane's turn"
    );
    drop(guard);
    assert!(world.hot(0, crate::exit::Exit::Sync));
}

#[test]
fn every_width_of_a_store_and_of_the_flags() {
    let machines = [machine(1), machine(1)];
    let pair = Pair {
        twins: Twins::new(&machines, 4),
        count: Count::default(),
    };
    pair.send(b"a");
    for sas in 0..4 {
        let value = 0x0123_4567_89ab_cd40 + sas;
        let sent = Trap::access(PL011_BASE + DR, sas, 18, true, value);
        assert_eq!(pair.trap(&sent), sas <= WORD, "{sas}");
        let looked = Trap::access(PL011_BASE + FR, sas, 18, false, u64::MAX);
        assert_eq!(pair.trap(&looked), sas <= WORD, "{sas}");
    }
    for rt in 19..32 {
        let sent = Trap::access(PL011_BASE + DR, HALF, rt, true, b'r'.into());
        assert_eq!(pair.trap(&sent), rt != 31, "{rt}");
        let looked = Trap::access(PL011_BASE + FR, HALF, rt, false, 0);
        assert_eq!(pair.trap(&looked), rt == 19, "{rt}");
    }
    let extended = Trap {
        esr: Trap::access(PL011_BASE + FR, HALF, 1, false, 0).esr | 1 << 21,
        ..Trap::access(PL011_BASE + FR, HALF, 1, false, 0)
    };
    assert!(!pair.trap(&extended));
    let line = machines[0].console.lock().line.unfinished().len();
    // The zero register is a byte as well, which is shown as four.
    assert_eq!(line, 5 + 12 + 4, "each byte came once");
}

/// What a driver does when it has no more to send: the same mask as before. Hot only if nothing comes of it.
#[test]
fn a_mask_is_written_hot_where_it_changes_nothing() {
    let tx = u64::from(interrupt::TX);
    let masks = [0, tx, 0x7ff, 0x10, 0x110, 0x810, 0x1_0010, u64::MAX];
    for before in masks {
        let machines = [machine(1), machine(1)];
        let pair = Pair {
            twins: Twins::new(&machines, 4),
            count: Count::default(),
        };
        for (sas, after) in (0..4).flat_map(|sas| masks.map(|after| (sas, after))) {
            pair.trap(&store(IMSC, before));
            let written = Trap::access(PL011_BASE + IMSC, sas, 18, true, after);
            let same = after & 0xffff == before & 0x7ff;
            assert_eq!(
                pair.trap(&written),
                sas == HALF && same,
                "{before:x} {after:x} {sas}"
            );
        }
        // With the receiver on and its level cleared, the same mask raises the interrupt again.
        let mask = Trap::access(PL011_BASE + IMSC, HALF, 3, true, before & 0x7ff);
        pair.trap(&store(IMSC, before));
        assert!(pair.trap(&mask));
        pair.twins.both(|world| _ = world.machine.input(b"a"));
        assert!(!pair.trap(&mask), "the byte goes to the UART first");
        pair.trap(&store(ICR, 0x7ff));
        assert!(!pair.trap(&mask), "something was received");
        pair.twins.compare_all(&before);
    }
}
