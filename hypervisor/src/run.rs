//! What a CPU does all its life: it waits until its lane is switched on, runs it, and waits again.

use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::vectors::enter;
use hypervisor_arch::{cpu, debug, fault, gic, power, say, world};
use vcpu::hot::KICK;
use vcpu::lane::Vcpu;
use vcpu::psci::LastOut;
use vcpu::serve;

use crate::carry::{self, Next};
use crate::house::{self, House};
use crate::report;
use crate::vm::{Seat, Vm};

/// A CPU with an interrupt controller that works and a house to live in. Never comes back.
pub fn cpu(index: usize) -> ! {
    let Some(house) = house::get() else {
        power::off()
    };
    if let Err(error) = gic::init_this_cpu() {
        let why = format_args!("the interrupt controller of CPU {index} cannot be used: {error:?}");
        if house.lane_of(index).is_some() {
            fault::refuse(why);
        }
        say!("{why}");
        sleep(house)
    }
    debug::clear();
    let lane = house.lanes.get(index).and_then(|seat| seat.lock().take());
    match (house.lane_of(index), lane) {
        (Some((vm, _)), Some(lane)) => live(house, vm, lane),
        _ => sleep(house),
    }
}

/// A CPU without a lane still keeps EL2's own deadline.
fn sleep(house: &'static House) -> ! {
    loop {
        cpu::wait_for_interrupt();
        while let Some(intid) = gic::acknowledge() {
            gic::end(intid);
            if intid == gic::EL2_TIMER {
                report::deadline(house);
            }
        }
    }
}

/// A lane's life on its own CPU.
fn live(house: &'static House, vm: &'static Vm, lane: &mut Vcpu<'static>) -> ! {
    cpu::note_vm(Some(u32::from(vm.id.number())));
    let mut hw = ThisCpu;
    let mut has_run = false;
    loop {
        // Everything that CPU_ON will find is put in place before it comes, not after.
        lane.start(0, 0);
        if has_run {
            lane.gic.reset(&vm.machine.vgic, &mut hw);
        }
        world::configure(vm.stage2, lane.index() as u64, vm.clock.offset());
        world::load_el1(&lane.el1);
        world::load_fp(&lane.fp);
        lane.gic.arrive(&vm.machine.vgic, &mut hw);
        // Off to the other lanes only now: what they send or set from here on is for the lane's next life.
        if has_run && vm.machine.power.turned_off(lane.index()) == LastOut::NoneRemain {
            report::end(house, vm, vcpu::lane::Cause::AllLanesOff, None);
        }
        if !wait_for_order(house, vm, lane) {
            lane.gic.depart(&vm.machine.vgic, &mut hw);
            world::retire();
            sleep(house)
        }
        vm.machine.power.started(lane.index());
        run(house, vm, lane);
        lane.gic.depart(&vm.machine.vgic, &mut hw);
        world::retire();
        if vm.ended.is_claimed() {
            sleep(house)
        }
        has_run = true;
    }
}

/// Waits until the lane is switched on: true, or until its machine has ended: false.
fn wait_for_order(house: &'static House, vm: &'static Vm, lane: &mut Vcpu<'static>) -> bool {
    let Some(seat) = vm.seats.get(lane.index()) else {
        return false;
    };
    loop {
        if let Some((entry, argument)) = seat.take_order() {
            lane.context.elr = entry;
            let [x0, ..] = &mut lane.context.x;
            *x0 = argument;
            // A kick stands for all the mail there is, and one of them may have been taken for the order's.
            if vm.machine.vgic.has_mail(lane.index()) {
                let _ = lane.gic.serve(&vm.machine.vgic, &mut ThisCpu);
                // The notice that the machine has ended may have been among it, and would not come again.
                return !vm.ended.is_claimed();
            }
            return true;
        }
        if vm.ended.is_claimed() {
            return false;
        }
        cpu::wait_for_interrupt();
        idle_interrupt(house, vm, lane);
    }
}

/// An interrupt while the lane is off.
fn idle_interrupt(house: &'static House, vm: &'static Vm, lane: &mut Vcpu<'static>) {
    let Some(intid) = gic::acknowledge() else {
        return;
    };
    match intid {
        KICK => {
            gic::end(KICK);
            // An order comes first, and takes the mail along. Without one, another lane may be waiting for this one's
            // list registers.
            if !vm.seats.get(lane.index()).is_some_and(Seat::has_order) {
                let _ = lane.gic.serve(&vm.machine.vgic, &mut ThisCpu);
            }
        }
        gic::EL2_TIMER => {
            gic::end(intid);
            report::deadline(house);
        }
        _ => gic::end(intid),
    }
}

/// Runs the lane until it goes off or its machine ends.
fn run(house: &'static House, vm: &'static Vm, lane: &mut Vcpu<'static>) {
    let mut hw = ThisCpu;
    loop {
        let exit = enter(lane);
        let task = serve::answer(lane, exit, &mut hw, &mut vm.port());
        match carry::out(house, vm, lane, task, &mut hw) {
            // A lane that has its CPU to itself waits there: the guest looks again.
            Next::Enter | Next::Wait(_) => {}
            Next::Leave => return,
        }
    }
}
