//! What the lanes have been doing: exits by reason, and time. What network cards and balloons have done.

use core::fmt::{self, Write};

use arrayvec::ArrayString;
use hypervisor_arch::{say, timer};
use vcpu::psci::State;
use vcpu::trace::REASONS;

use crate::crew::Crew;
use crate::house::House;
use crate::report;
use crate::vm::{Seat, Vm};

/// How long the other CPUs are waited for, in parts of a second. They answer at once unless they are in EL2 themselves,
/// and meanwhile no guest of this CPU runs.
const PATIENCE: u64 = 50;

/// The longest line of one lane.
type Words = ArrayString<400>;

/// Shows the lanes of these machines.
pub fn show(house: &'static House, crew: &mut Crew, vms: &'static [Vm]) {
    let number = house.look_around();
    crew.look(number);
    report::wait_for(house, number, timer::frequency() / PATIENCE);
    for vm in vms {
        for (lane, seat) in vm.seats.iter().enumerate() {
            let mut words = Words::new();
            // Too many words are cut, not fatal.
            let _ = describe(&mut words, vm, lane, seat, number);
            say!("ctl: {} lane {lane}: {words}", vm.name);
            if let Some(seen) = seat.look.get(number) {
                report::refused("ctl: ", vm.name, lane, &seen.refused);
            }
        }
        #[cfg(feature = "virtio")]
        show_devices(vm);
    }
}

/// Shows what has passed a machine's network cards, and how its balloon is.
#[cfg(feature = "virtio")]
fn show_devices(vm: &Vm) {
    for (network, port) in vm.virtio.cards() {
        let (received, sent) = (port.received(), port.sent());
        let line = |text: fmt::Arguments<'_>| say!("ctl: {} net {network}: {text}", vm.name);
        line(format_args!("received {received}, sent {sent}"));
        if let Some(drops) = received.drops() {
            line(format_args!("not received: {drops}"));
        }
        if let Some(drops) = sent.drops() {
            line(format_args!("not sent: {drops}"));
        }
    }
    super::balloon::show_standing(vm);
}

fn describe(words: &mut Words, vm: &Vm, lane: usize, seat: &Seat, number: u64) -> fmt::Result {
    if vm.machine.power.state(lane) == State::Off {
        words.write_str("off, ")?;
    }
    let Some(seen) = seat.look.get(number) else {
        return words.write_str("did not answer");
    };
    let ms = seen.ran.saturating_mul(1000) / timer::frequency().max(1);
    let total = seen
        .exits
        .iter()
        .fold(0_u64, |sum, one| sum.wrapping_add(*one));
    write!(words, "ran {ms} ms, {total} exits")?;
    let mut separator = ":";
    for (reason, number) in REASONS
        .iter()
        .zip(seen.exits)
        .filter(|(_, number)| *number != 0)
    {
        write!(words, "{separator} {number} {reason}")?;
        separator = ",";
    }
    Ok(())
}
