//! What a CPU does all its life: it runs the lane whose turn it is, or waits.

use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::vectors::enter;
use hypervisor_arch::{cpu, fault, gic, power, say, world};
use vcpu::exit::Exit;
use vcpu::hot::{self, Hardware};
use vcpu::serve::{self, Interrupted};

use crate::alike;
use crate::carry::{self, Next};
use crate::crew::{Crew, Turn};
use crate::house::{self, House};
use crate::operator;

/// A CPU with an interrupt controller that works and a house to live in. Never comes back.
pub fn cpu(index: usize) -> ! {
    let Some(house) = house::get() else {
        power::off()
    };
    if let Err(error) = gic::init_this_cpu() {
        let why = format_args!("the interrupt controller of CPU {index} cannot be used: {error}");
        if house.has_lanes(index) {
            fault::refuse(why);
        }
        say!("{why}");
    }
    world::configure();
    if house.has_lanes(index) {
        alike::judge(house, index);
    }
    let Some(crew) = house.crew(index) else {
        power::off()
    };
    crew.settle_in();
    loop {
        let mut turn = crew.next(house);
        loop {
            match turn {
                Turn::Run(member) => run(house, crew, member),
                Turn::Build(member) => {
                    crew.build(house, member);
                    if cpu::is_interrupted() {
                        attend(house, crew, ThisCpu.acknowledge());
                    }
                }
                Turn::Idle => {
                    cpu::wait_for_interrupt();
                    match ThisCpu.acknowledge() {
                        gic::WAKE_SGI => {
                            gic::end(gic::WAKE_SGI);
                            if let Some(member) = crew.ordered(house) {
                                turn = Turn::Run(member);
                                continue;
                            }
                        }
                        gic::CALL_SGI => {
                            gic::end(gic::CALL_SGI);
                            crew.call();
                        }
                        intid => attend(house, crew, intid),
                    }
                }
            }
            break;
        }
    }
}

/// Runs a lane until there is something to decide.
#[inline(always)]
fn run(house: &'static House, crew: &mut Crew, index: usize) {
    let mut hw = ThisCpu;
    loop {
        let Some(member) = crew.member(index) else {
            return;
        };
        let exit = enter(member.lane);
        if exit == Exit::Irq {
            if serve::is_own_interrupt(member.lane, gic::CALL_SGI) {
                gic::end(gic::CALL_SGI);
                return crew.call();
            }
            if serve::is_own_interrupt(member.lane, gic::EL2_TIMER) {
                gic::end(gic::EL2_TIMER);
                return crew.tick();
            }
        }
        let task = serve::answer(member.lane, exit, &mut hw, &mut member.vm.port());
        match carry::out(house, member.vm, member.lane, task, &mut hw) {
            Next::Enter if crew.must_rearm(index) => return,
            Next::Enter | Next::EnterAtOnce => {}
            Next::Wait(wait) if crew.wait(index, wait) => {}
            Next::YieldTo(other) if !crew.yield_to(index, other) => {}
            Next::Wait(_) | Next::YieldTo(_) => return,
            Next::Look => return crew.not_a_sign(index),
            Next::Own(intid) => {
                operator::interrupt(house, crew, intid);
                return crew.not_a_sign(index);
            }
            Next::Off => return crew.off(house, index),
        }
    }
}

/// Takes an interrupt that was acknowledged. What it means for the lane whose world is still here is done; the rest is for the crew to find
/// out.
fn attend(house: &'static House, crew: &mut Crew, intid: u32) {
    let hw = &mut ThisCpu;
    let own = match crew.resident() {
        Some(lane) => {
            if hot::acknowledged(lane, intid, hw) {
                return;
            }
            match serve::interrupt(lane, hw) {
                Interrupted::Own(intid) => Some(intid),
                Interrupted::Served => None,
            }
        }
        // None is pending any more: 1020 to 1023.
        None => (!(1020..1024).contains(&intid)).then_some(intid),
    };
    if let Some(intid) = own {
        operator::interrupt(house, crew, intid);
    }
}
