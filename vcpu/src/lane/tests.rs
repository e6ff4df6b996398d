use super::*;
use crate::context::FpState;
use crate::rig::{RAM, World, machine};
use crate::vgic::Frame;
use core::mem::offset_of;

#[test]
fn the_vectors_can_rely_on_the_layout() {
    assert_eq!(offset_of!(Vcpu<'_>, context), 0);
    assert_eq!(align_of::<Vcpu<'_>>(), 16);
}

#[test]
fn a_started_lane_has_nothing_of_its_former_life() {
    let machine = machine(2);
    let mut lane = Vcpu::new(&machine, 1);
    assert_eq!(lane.index(), 1);
    lane.context.x = [u64::MAX; 31];
    lane.context.spsr = 0;
    lane.context.host_sp = 0x1234_0000;
    lane.el1.ttbr0_el1 = 7;
    lane.el1.sctlr_el1 = 1;
    lane.fp.v = [u128::MAX; 32];
    lane.interrupt = 7;
    lane.trace.note(1, 2);
    lane.start(0x4020_0000, 0xabcd);
    assert_eq!((lane.context.elr, lane.context.spsr), (0x4020_0000, 0x3c5));
    assert_eq!(lane.context.host_sp, 0x1234_0000, "EL2's own");
    assert_eq!(lane.context.x[0], 0xabcd);
    assert_eq!(lane.context.x[1..], [0; 30]);
    assert_eq!(lane.el1, El1State::reset());
    assert_eq!(lane.fp, FpState::reset());
    assert_eq!(lane.sysregs, sysreg::Lane::reset());
    assert_eq!(lane.interrupt, NO_INTERRUPT);
    assert_eq!(lane.trace.count(), 1, "the report wants the whole story");
}

#[test]
fn an_exit_is_noted_by_its_kind() {
    let machine = machine(1);
    let mut lane = Vcpu::new(&machine, 0);
    let syndrome = Syndrome {
        esr: 0x5600_0000,
        elr: 0x80,
        ..Syndrome::default()
    };
    lane.interrupt = 33;
    let seen = [Exit::Sync, Exit::Irq, Exit::Fiq, Exit::SError].map(|exit| {
        lane.note(exit, &syndrome);
        let record = lane.trace.iter().last().unwrap();
        assert_eq!(record.pc, 0x80);
        (record.cause & 0xffff_ffff, record.interrupt())
    });
    let none = (1023, Some(1023));
    assert_eq!(seen, [(0x5600_0000, None), (33, Some(33)), none, none]);
}

#[test]
fn a_verdict_moves_the_guest_as_it_says() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    let apply = |verdict, length| {
        world.with(0, |vcpu, port| {
            vcpu.context.elr = 0x1000;
            vcpu.context.spsr = 0x3c5;
            port.cpu.el1.vbar_el1 = 0x8000;
            port.cpu.el1.elr_el1 = 0;
            vcpu.apply(verdict, length, port);
            (vcpu.context.elr, port.cpu.el1.elr_el1)
        })
    };
    let inject = Verdict::Inject(Exception::Undefined);
    for length in [InsnLen::Two, InsnLen::Four] {
        // In AArch64 every instruction has four bytes, whatever the syndrome says.
        assert_eq!(apply(Verdict::Complete, length), (0x1004, 0));
        assert_eq!(apply(inject, length), (0x8200, 0x1000));
        assert_eq!(apply(Verdict::Resume, length), (0x1000, 0));
    }
}

#[test]
fn an_exception_entry_has_the_features_of_the_machine() {
    let machine = machine(1);
    assert!(machine.features.pan);
    let world = World::new(&machine, 4);
    world.with(0, |vcpu, port| {
        vcpu.context.spsr = 0x5;
        port.cpu.el1.sctlr_el1 = 0;
        vcpu.apply(Verdict::Inject(Exception::SpAlignment), InsnLen::Four, port);
        assert_eq!(vcpu.context.spsr, 0x3c5 | 1 << 22, "PAN");
    });
    assert_eq!(machine.board.lanes(), 1);
    assert!(machine.is_ram(stage2_addr::Ipa::new(0x4000_0000 + RAM - 1)));
}

#[test]
fn a_lane_that_is_away_is_woken_by_the_timers_it_would_see() {
    let machine = machine(1);
    let world = World::new(&machine, 4);
    let clock = VmClock::starting_at(1000);
    let event = |enable: u64| {
        world.write(0, Frame::Redistributor(0), 0x1_0180, 4, 0xffff_ffff);
        world.write(0, Frame::Redistributor(0), 0x1_0100, 4, enable);
        world.with(0, |vcpu, _| {
            vcpu.el1.cntv_ctl_el0 = 1;
            vcpu.el1.cntv_cval_el0 = 700;
            vcpu.el1.cntp_ctl_el0 = 1;
            vcpu.el1.cntp_cval_el0 = 1600;
            vcpu.next_event(clock, 1200)
        })
    };
    world.write(0, Frame::Distributor, 0, 4, 3);
    assert_eq!(event(0), None, "both interrupts are disabled");
    assert_eq!(event(1 << 27), Some(1700));
    assert_eq!(event(1 << 30), Some(1600));
    assert_eq!(event(1 << 27 | 1 << 30), Some(1600));
}
