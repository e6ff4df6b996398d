use std::thread;
use std::vec::Vec;

use super::*;
use crate::context::Reg;
use crate::exit::Exit;
use crate::lane::Verdict;
use crate::machine::TYPED_AHEAD;
use crate::mmio::MmioAccess;
use crate::rig::{FREQUENCY, Path, Terminal, World, machine};
use crate::serve;
use crate::vgic::{Frame, lr};
use vcpu_board::pl011::{CR, DR, FR, IMSC, LCR_H, RIS};
use vcpu_board::{PL011_BASE, PL031_BASE, VIRTIO_BASE, VIRTIO_STRIDE, pl031};

const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Double];
const FEN: u64 = 1 << 4;
const RX: u64 = 1 << 4;
const RT: u64 = 1 << 6;

/// A load or store of X3 by lane 0, and what X3 is then.
fn access(world: &World<'_>, ipa: u64, width: Width, store: Option<u64>) -> (Verdict, u64) {
    world.with(0, |vcpu, port| {
        vcpu.context.x[3] = store.unwrap_or(0x5555);
        let access = MmioAccess {
            ipa: Ipa::new(ipa),
            va: ipa,
            width,
            write: store.is_some(),
            sign_extend: false,
            sixty_four: true,
            reg: Reg::from_field(3),
        };
        let verdict = serve::mmio(vcpu, &access, port, &mut Terminal(&world.lines));
        (verdict, vcpu.context.x[3])
    })
}

fn load(world: &World<'_>, ipa: u64) -> u64 {
    let (verdict, value) = access(world, ipa, Width::Word, None);
    assert_eq!(verdict, Verdict::Complete);
    value
}

fn store(world: &World<'_>, ipa: u64, value: u64) {
    let (verdict, _) = access(world, ipa, Width::Word, Some(value));
    assert_eq!(verdict, Verdict::Complete);
}

fn type_in(world: &World<'_>, bytes: &[u8]) -> usize {
    let taken = world.machine.input(bytes);
    world.with(0, |vcpu, port| console_input(vcpu, port));
    taken
}

/// A world whose guest has both SPIs on, and takes interrupts.
fn listening(machine: &Machine) -> World<'_> {
    let world = World::new(machine, 4);
    world.write(0, Frame::Distributor, 0, 4, 3);
    world.write(0, Frame::Distributor, 0x104, 4, 0xffff_ffff);
    world.cpu(0, |cpu| cpu.gic.set_guest_control(0xf8, true, true, false));
    world
}

fn pending(world: &World<'_>) -> Option<u32> {
    let index = world.next(0)?;
    Some(world.cpu(0, |cpu| lr::intid(cpu.gic.lrs[index])))
}

/// `UARTFR` as the hot path reads it, checked against the slow path's.
fn flags(world: &World<'_>) -> u64 {
    world.cpu(0, |cpu| {
        // LDR W3, [UARTFR].
        cpu.esr = 0x24 << 26 | 1 << 25 | 1 << 24 | 2 << 22 | 3 << 16 | 0x07;
        cpu.far = PL011_BASE | FR;
        cpu.hpfar = PL011_BASE >> 12 << 4;
        cpu.spsr = 0x3c5;
    });
    assert_eq!(world.exit(0, Exit::Sync, Path::Hot), None, "hot");
    let hot = world.with(0, |vcpu, _| vcpu.context.x[3]);
    assert_eq!(hot, load(world, PL011_BASE + FR));
    hot
}

#[test]
fn what_is_typed_arrives_in_order_and_interrupts_until_it_is_read() {
    let machine = machine(1);
    let world = listening(&machine);
    store(&world, PL011_BASE + LCR_H, FEN);
    store(&world, PL011_BASE + IMSC, RX | RT);
    assert_eq!(flags(&world), 0x90);
    assert_eq!(type_in(&world, b"hi"), 2);
    assert_eq!((flags(&world), pending(&world)), (0x80, Some(PL011_SPI)));
    assert_eq!(world.take(0), Some(PL011_SPI));
    assert_eq!(load(&world, PL011_BASE + DR), u64::from(b'h'));
    world.cpu(0, |cpu| cpu.gic.end(PL011_SPI));
    world.settle(Path::Slow);
    assert_eq!(pending(&world), Some(PL011_SPI), "there is more");
    assert_eq!(load(&world, PL011_BASE + DR), u64::from(b'i'));
    assert_eq!((flags(&world), pending(&world)), (0x90, None));
    assert!(world.lines.borrow().is_empty(), "input is not output");
}

/// Whoever is asked to move input moves it once: what a deaf guest leaves lying is no work for anybody else.
#[test]
fn input_that_has_no_room_is_offered_once() {
    let machine = machine(1);
    let world = listening(&machine);
    assert!(!machine.has_input());
    assert_eq!(machine.input(b"abc"), 3);
    assert!(machine.has_input());
    world.with(0, |vcpu, port| console_input(vcpu, port));
    assert!(!machine.has_input(), "one is in, two have no room");
    assert_eq!(machine.input(b"d"), 1);
    assert!(machine.has_input(), "there is something new");
    world.with(0, |vcpu, port| console_input(vcpu, port));
    for byte in b"abcd" {
        assert!(!machine.has_input());
        assert_eq!(load(&world, PL011_BASE + DR), u64::from(*byte));
    }
    assert_eq!(flags(&world), 0x90);
}

/// What was typed and is taken at another console than the UART.
fn taken(machine: &Machine) -> Vec<u8> {
    let mut taken = [0; 8];
    let count = machine.take_input(&mut taken);
    taken[..count].to_vec()
}

/// A console that comes later has what was typed before it came, the first byte too.
#[test]
fn what_nobody_has_read_at_the_uart_is_read_elsewhere() {
    let machine = machine(1);
    let world = listening(&machine);
    assert_eq!(type_in(&world, b"abc"), 3);
    assert!(!machine.waits_input(), "the UART may be read yet");
    assert!(machine.redirect_input(true));
    assert!(machine.waits_input());
    assert_eq!(taken(&machine), b"abc");
    assert_eq!(flags(&world) & 0x10, 0x10);
    assert!(machine.redirect_input(true));
    assert!(!machine.waits_input());
}

/// Who opens the UART beside another console hears there, for as long as it is open.
#[test]
fn a_driver_that_listens_at_the_uart_hears_what_is_typed() {
    let machine = machine(1);
    let world = listening(&machine);
    let ahead: &[u8] = if VIRTIO { b"ab" } else { b"b" };
    assert!(machine.redirect_input(true));
    assert_eq!(type_in(&world, b"ab"), 2);
    assert_eq!(taken(&machine), ahead, "nobody listens yet");
    store(&world, PL011_BASE + IMSC, RX);
    assert!(!machine.redirect_input(true));
    assert_eq!(type_in(&world, b"cd"), 2);
    assert!(!machine.waits_input());
    assert_eq!(
        load(&world, PL011_BASE + DR),
        u64::from(if VIRTIO { b'c' } else { b'a' })
    );
    store(&world, PL011_BASE + IMSC, 0);
    assert!(machine.redirect_input(true));
    let rest: &[u8] = if VIRTIO { b"d" } else { b"cd" };
    assert_eq!(taken(&machine), rest);
}

/// What is typed between two lives is for the next, all of it, and what was typed before is for nobody.
#[test]
fn what_is_typed_after_a_life_waits_for_the_next() {
    for redirected in [false, true] {
        let machine = machine(1);
        let world = listening(&machine);
        machine.redirect_input(redirected);
        assert_eq!(type_in(&world, b"old"), 3);
        machine.forget_input();
        assert_eq!(machine.input(b"new"), 3);
        assert!(!machine.waits_input(), "not for the console of the old");
        machine.reset_devices();
        assert!(machine.has_input());
        world.with(0, |vcpu, port| console_input(vcpu, port));
        for byte in b"new" {
            assert_eq!(load(&world, PL011_BASE + DR), u64::from(*byte));
        }
        assert_eq!(flags(&world), 0x90);
    }
}

#[test]
fn a_guest_is_told_of_input_that_another_cpu_brought() {
    let machine = machine(1);
    let world = listening(&machine);
    store(&world, PL011_BASE + IMSC, RX);
    assert_eq!(machine.input(b"x"), 1);
    assert_eq!(flags(&world), 0x90, "nobody has moved it yet");
    world.with(0, |vcpu, port| console_input(vcpu, port));
    assert_eq!(pending(&world), Some(PL011_SPI));
}

#[test]
fn typing_ahead_fills_the_uart_and_then_the_ring_and_reading_drains_both() {
    let text: Vec<u8> = (0..=255).chain(0..=255).collect();
    for (lcr_h, depth) in [(FEN, 32), (0, 1)] {
        let machine = machine(1);
        let world = listening(&machine);
        store(&world, PL011_BASE + LCR_H, lcr_h);
        assert_eq!(type_in(&world, &text[..100]), 100);
        let room = TYPED_AHEAD - (100 - depth);
        assert_eq!(type_in(&world, &text[100..]), room);
        assert_eq!(machine.input_lost(), (412 - room) as u64);
        assert_eq!(flags(&world), 0xc0, "full");
        let kept = 100 + room;
        assert_eq!(kept, TYPED_AHEAD + depth);
        for byte in &text[..kept] {
            assert_eq!(flags(&world) & 0x10, 0);
            assert_eq!(load(&world, PL011_BASE + DR), u64::from(*byte));
        }
        assert_eq!(flags(&world), 0x90);
        assert_eq!(load(&world, PL011_BASE + RIS), 0, "not an overrun either");
    }
}

#[test]
fn what_is_typed_waits_while_the_receiver_is_off_or_looped() {
    for off in [0x101, 0x381] {
        let machine = machine(1);
        let world = listening(&machine);
        store(&world, PL011_BASE + CR, off);
        assert_eq!(type_in(&world, b"y"), 1);
        assert_eq!(flags(&world), 0x90);
        store(&world, PL011_BASE + CR, 0x301);
        assert_eq!(flags(&world), 0xc0, "the holding register is full");
        assert_eq!(load(&world, PL011_BASE + DR), u64::from(b'y'));
    }
}

#[test]
fn a_loop_test_prints_nothing() {
    let machine = machine(1);
    let world = listening(&machine);
    store(&world, PL011_BASE + CR, 0x381);
    store(&world, PL011_BASE + DR, u64::from(b'\n'));
    assert_eq!(load(&world, PL011_BASE + DR), u64::from(b'\n'));
    assert!(world.lines.borrow().is_empty());
    store(&world, PL011_BASE + CR, 0x301);
    store(&world, PL011_BASE + DR, u64::from(b'\n'));
    assert_eq!(world.lines.borrow().len(), 1);
}

/// A keyboard on another CPU, faster than the guest reads.
#[test]
fn no_byte_is_lost_or_doubled_between_the_keyboard_and_the_guest() {
    const BYTES: usize = 20_000;
    let machine = machine(1);
    let world = listening(&machine);
    store(&world, PL011_BASE + LCR_H, FEN);
    let byte = |n: usize| u8::try_from(n % 251).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = 0;
            while sent < BYTES {
                let burst: Vec<u8> = (sent..BYTES.min(sent + 100)).map(byte).collect();
                sent += machine.input(&burst);
            }
        });
        let mut seen = 0;
        while seen < BYTES {
            if flags(&world) & 0x10 == 0 {
                assert_eq!(load(&world, PL011_BASE + DR), u64::from(byte(seen)));
                seen += 1;
            } else {
                world.with(0, |vcpu, port| console_input(vcpu, port));
            }
        }
    });
    assert_eq!(flags(&world), 0x90);
}

fn at(world: &World<'_>, count: u64) {
    world.cpu(0, |cpu| cpu.count = count);
    world.with(0, |vcpu, port| tick(vcpu, port));
}

#[test]
fn the_clock_tells_the_time_and_wakes_the_guest_at_its_alarm() {
    let mut machine = machine(1);
    machine.set_epoch(1_000_000);
    let world = listening(&machine);
    at(&world, 5 * FREQUENCY + 1);
    assert_eq!(load(&world, PL031_BASE + pl031::DR), 1_000_005);
    assert_eq!(machine.next_alarm(), None);
    store(&world, PL031_BASE + pl031::MR, 1_000_007);
    assert_eq!(machine.next_alarm(), None, "masked");
    store(&world, PL031_BASE + pl031::IMSC, 1);
    assert_eq!(machine.next_alarm(), Some(7 * FREQUENCY));
    at(&world, 7 * FREQUENCY - 1);
    assert_eq!(pending(&world), None);
    at(&world, 7 * FREQUENCY);
    assert_eq!(pending(&world), Some(PL031_SPI));
    assert_eq!(machine.next_alarm(), None, "served");
    store(&world, PL031_BASE + pl031::ICR, 1);
    assert_eq!(pending(&world), None);
    // Without a timer of EL2's, the next access to the clock notices.
    store(&world, PL031_BASE + pl031::MR, 1_000_009);
    world.cpu(0, |cpu| cpu.count = 9 * FREQUENCY);
    assert_eq!(load(&world, PL031_BASE + pl031::MIS), 1);
    assert_eq!(pending(&world), Some(PL031_SPI));
}

#[test]
fn s2_15_the_clock_and_the_slots_answer_every_offset_width_and_pattern() {
    let machine = machine(2);
    let world = World::new(&machine, 4);
    let windows = [
        (PL031_BASE, 0x1000),
        (VIRTIO_BASE, VIRTIO_STRIDE),
        (VIRTIO_BASE + 31 * VIRTIO_STRIDE, VIRTIO_STRIDE),
    ];
    for (base, size) in windows {
        for offset in 0..size {
            for width in WIDTHS {
                let ipa = base + offset;
                let aligned = ipa & (width.bytes() - 1) == 0;
                let complete = |verdict| matches!(verdict, Verdict::Complete) == aligned;
                for pattern in [0, u64::MAX, 0xa5a5_a5a5_a5a5_a5a5] {
                    let (verdict, _) = access(&world, ipa, width, Some(pattern));
                    assert!(complete(verdict), "S2-16: {ipa:#x} {width:?}");
                }
                let (verdict, value) = access(&world, ipa, width, None);
                assert!(complete(verdict), "S2-16: {ipa:#x} {width:?}");
                assert!(aligned || value == 0x5555, "nothing loaded");
                assert!(value <= 0xffff_ffff);
            }
        }
    }
    for slot in 0..32 {
        let slot = VIRTIO_BASE + slot * VIRTIO_STRIDE;
        let header = [0, 4, 8].map(|offset| load(&world, slot + offset));
        assert_eq!(header, [0x7472_6976, 2, 0]);
    }
    for outside in [
        PL011_BASE + 0x1000,
        PL031_BASE - 4,
        PL031_BASE + 0x1000,
        0x0902_0000,
        VIRTIO_BASE - 4,
        VIRTIO_BASE + 32 * VIRTIO_STRIDE,
        0,
        0x0400_0000,
    ] {
        for width in WIDTHS {
            for value in [None, Some(0)] {
                let (verdict, _) = access(&world, outside & !7, width, value);
                assert!(matches!(verdict, Verdict::Inject(_)), "{outside:#x}");
            }
        }
    }
}

#[test]
fn reset_devices_are_new_devices() {
    let mut machine = machine(1);
    machine.set_epoch(77);
    let world = listening(&machine);
    store(&world, PL011_BASE + LCR_H, FEN);
    store(&world, PL011_BASE + IMSC, RX);
    store(&world, PL011_BASE + DR, u64::from(b'a'));
    assert_eq!(type_in(&world, &[b'z'; 100]), 100);
    store(&world, PL031_BASE + pl031::LR, 5);
    store(&world, PL031_BASE + pl031::MR, 9);
    store(&world, PL031_BASE + pl031::IMSC, 1);
    assert!(machine.next_alarm().is_some());
    machine.forget_input();
    machine.reset_devices();
    assert_eq!(machine.console.lock().uart, Pl011::new());
    assert_eq!(*machine.rtc.lock(), Pl031::new(77));
    assert_eq!((flags(&world), machine.next_alarm()), (0x90, None));
    world.with(0, |vcpu, port| console_input(vcpu, port));
    assert_eq!(flags(&world), 0x90, "what was typed is gone");
    assert_eq!(load(&world, PL031_BASE + pl031::DR), 77);
    let mut rest = Vec::new();
    let line = &mut machine.console.lock().line;
    line.flush(&mut |text: &str| rest.push(std::string::String::from(text)));
    assert_eq!(rest, ["a"], "what was said is not");
}
