mod firmware;

use std::vec;

use super::*;
use crate::context::Reg;
use crate::debug::Kind;
use crate::exit::{Exit, ExitReason, decode};
use crate::machine::Machine;
use crate::mmio::Width;
use crate::rig::{Path, Terminal, World, machine};
use crate::sysreg::SysReg;
use crate::vgic::{Frame, lr};
use stage2_addr::Ipa;
use vcpu_board::pl011::{DR, FR, ICR, IMSC};
use vcpu_board::{GICD_BASE, GICR_BASE, GICR_STRIDE, PL011_BASE, PL011_SPI, RAM_BASE};

const PC: u64 = 0x4008_0000;
const VBAR: u64 = 0xffff_8000_0808_0000;
const TX: u64 = 1 << 5;
const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Double];

fn access(ipa: u64, width: Width, write: bool) -> MmioAccess {
    MmioAccess {
        ipa: Ipa::new(ipa),
        va: 0xffff_0000_0000_0000 | ipa,
        width,
        write,
        sign_extend: false,
        sixty_four: true,
        reg: Reg::from_field(3),
    }
}

/// A load or store of X3 by lane 0, and what X3 is then.
fn transfer3(world: &World<'_>, ipa: u64, width: Width, write: bool, value: u64) -> (Verdict, u64) {
    world.with(0, |vcpu, port| {
        vcpu.context.x[3] = value;
        let access = access(ipa, width, write);
        let verdict = mmio(vcpu, &access, port, &mut Terminal(&world.lines));
        (verdict, vcpu.context.x[3])
    })
}

fn store(world: &World<'_>, ipa: u64, value: u64) {
    let (verdict, _) = transfer3(world, ipa, Width::Word, true, value);
    assert_eq!(verdict, Verdict::Complete);
}

#[test]
fn each_device_takes_the_widths_that_its_registers_have() {
    // The place, and which of 8, 16, 32 and 64 bits it answers.
    let table = [
        (GICD_BASE, [false, false, true, false]),
        (GICD_BASE + 0x420, [true, false, true, false]),
        (GICD_BASE + 0x6100, [false, false, true, true]),
        (GICR_BASE + 8, [false, false, true, true]),
        (GICR_BASE + 0x1_0100, [false, false, true, false]),
        (GICR_BASE + GICR_STRIDE + 0x14, [false, false, true, false]),
        (GICR_BASE + 2 * GICR_STRIDE + 8, [false; 4]),
        (PL011_BASE + FR, [true; 4]),
        (PL011_BASE + 0x20, [true; 4]),
        (RAM_BASE, [false; 4]),
        (0, [false; 4]),
        (1 << 40, [false; 4]),
    ];
    let machine = machine(2);
    let world = World::new(&machine, 4);
    for (ipa, widths) in table {
        for (width, answers) in WIDTHS.into_iter().zip(widths) {
            for write in [false, true] {
                let (verdict, _) = transfer3(&world, ipa, width, write, 0);
                let refused = Exception::refused_access(0xffff_0000_0000_0000 | ipa, write);
                let right = if answers {
                    Verdict::Complete
                } else {
                    Verdict::Inject(refused)
                };
                assert_eq!(verdict, right, "{ipa:#x} {width:?}, write {write}");
            }
        }
    }
}

#[test]
fn no_device_answers_an_access_that_is_not_aligned() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    for ipa in [GICD_BASE + 4, GICR_BASE + 8, PL011_BASE + FR] {
        for (bytes, width) in [(2, Width::Half), (4, Width::Word), (8, Width::Double)] {
            for offset in 1..bytes {
                let at = ipa & !7 | offset;
                let (verdict, x3) = transfer3(&world, at, width, false, 77);
                assert!(matches!(verdict, Verdict::Inject(_)), "{at:#x} {width:?}");
                assert_eq!(x3, 77);
            }
        }
    }
}

#[test]
fn a_load_and_a_store_obey_the_byte_order() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    let priorities = GICD_BASE + 0x420;
    let (_, typer) = transfer3(&world, GICR_BASE + 8, Width::Double, false, 0);
    assert_eq!(typer, 1 << 4, "the last redistributor");
    world.cpu(0, |cpu| cpu.el1.sctlr_el1 |= 1 << 25);
    let (_, typer) = transfer3(&world, GICR_BASE + 8, Width::Double, false, 0);
    assert_eq!(typer, (1_u64 << 4).swap_bytes());
    store(&world, priorities, 0x1020_3040);
    assert_eq!(
        transfer3(&world, priorities, Width::Word, false, 0).1,
        0x1020_3040
    );
    assert_eq!(transfer3(&world, priorities, Width::Byte, false, 0).1, 0x10);
    world.cpu(0, |cpu| cpu.el1.sctlr_el1 = 0);
    assert_eq!(
        transfer3(&world, priorities, Width::Word, false, 0).1,
        0x4030_2010
    );
}

/// A whole exit: ESR_EL2 of a load or store of X3.
fn refuse(world: &World<'_>, ipa: u64, write: bool, spsr: u64) {
    world.cpu(0, |cpu| {
        let iss = 1 << 24 | 2 << 22 | 3 << 16 | u64::from(write) << 6 | 0x07;
        cpu.esr = 0x24 << 26 | 1 << 25 | iss;
        cpu.far = 0xffff_0000_0000_0000 | ipa;
        cpu.hpfar = ipa >> 12 << 4;
        cpu.elr = PC;
        cpu.spsr = spsr;
        cpu.el1.vbar_el1 = VBAR;
    });
    let answer = world.exit(0, Exit::Sync, Path::Slow);
    assert_eq!(answer, Some(Task::Enter));
    world.cpu(0, |cpu| {
        assert!(cpu.elr.wrapping_sub(VBAR) < 0x800, "a vector")
    });
}

#[test]
fn a_refused_access_is_an_external_abort_at_the_instruction() {
    let machine = machine(1);
    for (spsr, class, vector) in [
        (0x6000_0005, 0x25, 0x200),
        (0x6000_0004, 0x25, 0),
        (0x6000_0000, 0x24, 0x400),
        (0x6000_0010, 0x24, 0x600),
    ] {
        for (ipa, write) in [(0x1234_5678, false), (GICD_BASE + 2, true)] {
            let world = World::new(&machine, 4);
            world.with(0, |vcpu, _| {
                vcpu.context.x = core::array::from_fn(|n| n as u64)
            });
            refuse(&world, ipa, write, spsr);
            world.with(0, |vcpu, port| {
                let el1 = &port.cpu.el1;
                let x: [u64; 31] = core::array::from_fn(|n| n as u64);
                assert_eq!(vcpu.context.x, x);
                assert_eq!((el1.elr_el1, el1.spsr_el1), (PC, spsr));
                assert_eq!(el1.far_el1, 0xffff_0000_0000_0000 | ipa);
                let wnr = u64::from(write) << 6;
                assert_eq!(el1.esr_el1, class << 26 | 1 << 25 | wnr | 0x10);
                assert_eq!(port.cpu.elr, VBAR + vector);
            });
        }
    }
}

/// A world whose guest has SPI 33 on, and takes interrupts.
fn with_uart_interrupt(machine: &Machine) -> World<'_> {
    let world = World::new(machine, 4);
    world.write(0, Frame::Distributor, 0, 4, 3);
    world.write(0, Frame::Distributor, 0x104, 4, 1 << (PL011_SPI - 32));
    world.cpu(0, |cpu| cpu.gic.set_guest_control(0xf8, true, true, false));
    world
}

fn taken(world: &World<'_>) -> Option<u32> {
    let index = world.next(0)?;
    Some(world.cpu(0, |cpu| lr::intid(cpu.gic.lrs[index])))
}

#[test]
fn the_uart_interrupts_by_its_spi_and_stops() {
    let machine = machine(1);
    let world = with_uart_interrupt(&machine);
    store(&world, PL011_BASE + DR, u64::from(b'a'));
    assert_eq!(taken(&world), None, "masked in the UART");
    store(&world, PL011_BASE + IMSC, TX);
    assert_eq!(taken(&world), Some(PL011_SPI));
    store(&world, PL011_BASE + ICR, TX);
    assert_eq!(taken(&world), None);
    store(&world, PL011_BASE + DR, u64::from(b'b'));
    assert_eq!(world.take(0), Some(PL011_SPI));
    // The line is still high when the guest ends it: it comes again.
    world.cpu(0, |cpu| cpu.gic.end(PL011_SPI));
    world.settle(Path::Slow);
    assert_eq!(taken(&world), Some(PL011_SPI));
    store(&world, PL011_BASE + DR, u64::from(b'\n'));
    assert_eq!(*world.lines.borrow(), ["ab"]);
}

fn mask(machine: &Machine) {
    let _ = machine.console.lock().uart.write(IMSC, 0);
}

fn unmask(machine: &Machine) {
    let _ = machine.console.lock().uart.write(IMSC, TX);
}

#[test]
fn a_line_that_another_lane_has_changed_meanwhile_is_looked_at_again() {
    let machine = machine(1);
    let world = with_uart_interrupt(&machine);
    store(&world, PL011_BASE + DR, u64::from(b'a'));
    world.meddlers.borrow_mut().push(mask);
    store(&world, PL011_BASE + IMSC, TX);
    assert_eq!(taken(&world), None, "the other lane's word is the last");
    world
        .meddlers
        .borrow_mut()
        .extend([unmask as fn(&Machine), mask]);
    unmask(&machine);
    store(&world, PL011_BASE + DR, u64::from(b'b'));
    store(&world, PL011_BASE + IMSC, 0);
    store(&world, PL011_BASE + IMSC, TX);
    assert!(world.meddlers.borrow().is_empty());
    assert_eq!(taken(&world), Some(PL011_SPI));
}

#[test]
fn a_line_that_never_rests_is_left_alone_after_a_while() {
    let machine = machine(1);
    let world = with_uart_interrupt(&machine);
    store(&world, PL011_BASE + DR, u64::from(b'a'));
    // Up by the store, then down, up, down, up by somebody else.
    let others: [fn(&Machine); 10] = [
        unmask, mask, unmask, mask, unmask, mask, unmask, mask, unmask, mask,
    ];
    *world.meddlers.borrow_mut() = others.to_vec();
    store(&world, PL011_BASE + IMSC, TX);
    assert_eq!(world.meddlers.borrow().len(), 10 - 4, "four looks");
    let _ = world.meddlers.take();
}

fn system(world: &World<'_>, reg: SysReg, read: bool, value: u64) -> ((Verdict, Effect), u64) {
    world.with(0, |vcpu, port| {
        vcpu.context.x[3] = value;
        let rt = Reg::from_field(3);
        let answer = system_register(vcpu, SysRegAccess { reg, rt, read }, port);
        (answer, vcpu.context.x[3])
    })
}

#[test]
fn system_registers_are_answered_by_what_they_are() {
    let machine = machine(2);
    let world = World::new(&machine, 4);
    let complete = (Verdict::Complete, Effect::None);
    let undefined = (Verdict::Inject(Exception::Undefined), Effect::None);
    let mdscr = SysReg::new(2, 0, 0, 2, 2);
    let answer = system(&world, mdscr, false, 0x8001).0;
    let mdscr_is = |value| (Verdict::Complete, Effect::Mdscr(value));
    assert_eq!(answer, mdscr_is(0), "the OS lock is set");
    let oslar = SysReg::new(2, 0, 1, 0, 4);
    assert_eq!(system(&world, oslar, false, 0).0, mdscr_is(0x8001));
    let (bvr0, bcr0) = (SysReg::new(2, 0, 0, 0, 4), SysReg::new(2, 0, 0, 0, 5));
    assert_eq!(system(&world, bvr0, false, PC).0, complete);
    let point = Point {
        kind: Kind::Breakpoint,
        index: 0,
    };
    let answer = system(&world, bcr0, false, 0x1e5).0;
    assert_eq!(answer, (Verdict::Complete, Effect::Debug(point)));
    assert_eq!(system(&world, bcr0, true, 0), (complete, 0x1e5));
    assert_eq!(system(&world, mdscr, true, 0), (complete, 0x8001));
    let pfr0 = SysReg::new(3, 0, 0, 4, 0);
    assert_eq!(
        system(&world, pfr0, true, 0),
        (complete, machine.ids.get(4, 0))
    );
    assert_eq!(system(&world, pfr0, false, 5), (undefined, 5));
    let sre = SysReg::new(3, 0, 12, 12, 5);
    assert_eq!(system(&world, sre, true, 0), (complete, 7));
    assert_eq!(system(&world, sre, false, 0), (complete, 0));
    let cisw = SysReg::new(1, 0, 7, 14, 2);
    assert_eq!(system(&world, cisw, false, u64::MAX), (complete, u64::MAX));
    let dir = SysReg::new(3, 0, 12, 11, 1);
    assert_eq!(system(&world, dir, false, 33), (complete, 33));
    // An SGI of group 1 to lane 1, by all three registers: two of them reach group 0 only.
    for (op2, sent) in [(6, 0), (7, 0), (5, 1 << 4)] {
        let register = SysReg::new(3, 0, 12, 11, op2);
        assert_eq!(system(&world, register, false, 4 << 24 | 2).0, complete);
        let mail = machine.vgic.shared[1]
            .mail
            .load(core::sync::atomic::Ordering::Relaxed);
        assert_eq!(mail, sent, "op2 {op2}");
    }
}

#[test]
fn interrupts_are_told_apart() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    let take = |intid| {
        world.with(0, |vcpu, port| {
            vcpu.interrupt = intid;
            let done = interrupt(vcpu, port);
            assert_eq!(vcpu.interrupt, NO_INTERRUPT, "consumed");
            done
        })
    };
    for intid in [VIRTUAL_TIMER, PHYSICAL_TIMER, KICK, MAINTENANCE, 1020, 1023] {
        assert_eq!(take(intid), Interrupted::Served, "{intid}");
    }
    // An LPI that firmware left enabled is nobody's, but has to be ended like any other.
    for intid in [0, 6, 8, 26, 33, 1019, 1024, 8192] {
        assert_eq!(take(intid), Interrupted::Own(intid));
    }
}

#[test]
fn a_wait_may_end_at_any_time() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    world.cpu(0, |cpu| cpu.esr = 0x01 << 26 | 1 << 25);
    let answer = world.exit(0, Exit::Sync, Path::Hot);
    assert_eq!(answer, Some(Task::Wait(Wait::STANDBY)));
    assert_eq!(world.cpu(0, |cpu| cpu.elr), PC + 4);
}

#[test]
fn a_call_is_parsed_from_the_first_four_registers() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    world.with(0, |vcpu, _| {
        vcpu.context.x[0] = 0xc600_0141;
        vcpu.context.x[1] = 9;
        let smccc::Request::Exit(code) = call(vcpu, 0) else {
            panic!()
        };
        assert_eq!(code.0, 9);
        let refused = smccc::Request::Return(smccc::Results::One(u64::MAX));
        assert_eq!(call(vcpu, 1), refused, "a reserved immediate");
    });
}

/// A load or store that the hardware has not described, at X4 = the UART's `offset`.
fn undescribed(world: &World<'_>, word: u32, offset: u64, write: bool) -> Verdict {
    world.with(0, |vcpu, port| {
        let ipa = PL011_BASE + offset;
        vcpu.context.x[4] = 0xffff_0000_0000_0000 | ipa;
        let syndrome = Syndrome {
            esr: 0x24 << 26 | 1 << 25 | u64::from(write) << 6 | 0x07,
            far: vcpu.context.x[4],
            hpfar: ipa >> 12 << 4,
            elr: PC,
            spsr: 0x3c5,
        };
        let ExitReason::DataAbort(abort) = decode(Exit::Sync, &syndrome) else {
            panic!()
        };
        let terminal = &mut Terminal(&world.lines);
        transfer(vcpu, &abort, word, 0, port, terminal).0
    })
}

#[test]
fn what_the_hardware_has_not_described_is_done_in_full_or_not_at_all() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    let x = |n: usize| world.with(0, |vcpu, _| vcpu.context.x[n]);
    // LDP W1, W2, [X4]: UARTIFLS and UARTIMSC.
    store(&world, PL011_BASE + IMSC, 0x7f);
    assert_eq!(
        undescribed(&world, 0x2940_0881, 0x34, false),
        Verdict::Complete
    );
    assert_eq!([x(1), x(2)], [0x12, 0x7f]);
    // STR W1, [X4], #4.
    world.with(0, |vcpu, _| vcpu.context.x[1] = 0x55);
    assert_eq!(
        undescribed(&world, 0xb800_4481, IMSC, true),
        Verdict::Complete
    );
    assert_eq!(x(4), 0xffff_0000_0000_0000 | (PL011_BASE + IMSC + 4));
    assert_eq!(machine.console.lock().uart.read(IMSC, 4), 0x55);
    // LDP W1, W2, [X4] whose second word is no device's.
    let verdict = undescribed(&world, 0x2940_0881, 0xffc, false);
    assert!(matches!(
        verdict,
        Verdict::Inject(Exception::DataAbort { .. })
    ));
    assert_eq!(x(1), 0x55, "no half of it");
    // NOP cannot have been it.
    let verdict = undescribed(&world, 0xd503_201f, 0, false);
    assert!(matches!(
        verdict,
        Verdict::Inject(Exception::DataAbort { .. })
    ));
}

#[test]
fn the_report_sees_every_exit() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    let classes = vec![0x16, 0x01, 0x18, 0x00];
    for class in &classes {
        world.cpu(0, |cpu| cpu.esr = class << 26 | 1 << 25);
        let _ = world.exit(0, Exit::Sync, Path::Hot);
    }
    world.with(0, |vcpu, _| {
        let seen: std::vec::Vec<u64> = vcpu.trace.iter().map(|record| record.class()).collect();
        assert_eq!(seen, classes);
    });
}

#[test]
fn what_is_refused_is_recorded_and_what_is_answered_is_not() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    let record = |esr: u64, path| {
        world.cpu(0, |cpu| {
            (cpu.esr, cpu.elr, cpu.spsr) = (esr, PC, 0x3c5);
            (cpu.far, cpu.hpfar) = (0xdead, 0x300_0000 << 4 >> 8);
        });
        let _ = world.exit(0, Exit::Sync, path);
        world.with(0, |vcpu, _| vcpu.refused.0)
    };
    // A call, a read of an ID register, a breakpoint of its own.
    for esr in [0x16 << 26, 0x18 << 26 | 1 << 25 | 0x0030_0009, 0x30 << 26] {
        assert_eq!(record(esr, Path::Slow), [0; 5], "{esr:#x}");
    }
    let hidden = 0x07 << 26 | 1 << 25;
    assert_eq!(record(hidden, Path::Slow), [1, hidden, PC, 0, 0]);
    let nothing = 0x24 << 26 | 1 << 25 | 1 << 24 | 0x07;
    let [count, esr, pc, far, ipa] = record(nothing, Path::Slow);
    assert_eq!((count, esr, pc, far), (2, nothing, PC, 0xdead));
    assert_eq!(ipa, 0x300_0000 << 4 >> 8 << 8 | 0xead);
}
