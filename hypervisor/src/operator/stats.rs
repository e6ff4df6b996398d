//! What the lanes have been doing: exits by reason, and time.

use core::fmt::{self, Write};

use arrayvec::ArrayString;
use hypervisor_arch::{say, timer};
use vcpu::psci::State;
use vcpu::trace::{Counts, Source};

use crate::crew::Crew;
use crate::house::House;
use crate::report;
use crate::vm::{Seat, Vm};

/// How long the other CPUs are waited for, in parts of a second. They answer at once unless they are in EL2 themselves,
/// and meanwhile no guest of this CPU runs.
const PATIENCE: u64 = 50;

/// The longest line of one lane.
type Words = ArrayString<400>;

/// What a person calls the exceptions of these classes (ESR_EL2.EC, Arm ARM D19.2.37).
const REASONS: [(&str, &[u8]); 6] = [
    ("hypercalls", &[0x12, 0x16]),
    ("secure calls", &[0x13, 0x17]),
    ("system registers", &[0x03, 0x04, 0x05, 0x08, 0x0c, 0x18]),
    ("device accesses", &[0x24]),
    ("waits", &[0x01]),
    ("debug", &[0x30, 0x32, 0x34, 0x38, 0x3a, 0x3c]),
];

/// What a person calls the interrupts.
const INTERRUPTS: [(&str, Source); 3] = [
    ("timer interrupts", Source::Timer),
    ("kicks", Source::Kick),
    ("other interrupts", Source::Other),
];

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
        }
    }
}

fn describe(words: &mut Words, vm: &Vm, lane: usize, seat: &Seat, number: u64) -> fmt::Result {
    if vm.machine.power.state(lane) == State::Off {
        words.write_str("off, ")?;
    }
    match seat.look.get(number).map(|seen| seen.ran) {
        None => words.write_str("did not answer")?,
        Some(None) => words.write_str("has a CPU of its own")?,
        Some(Some(ticks)) => {
            let ms = u128::from(ticks) * 1000 / u128::from(timer::frequency().max(1));
            write!(words, "ran {ms} ms")?;
        }
    }
    match vm.machine.counts.get(lane) {
        Some(counts) => exits(words, counts),
        None => Ok(()),
    }
}

fn exits(words: &mut Words, counts: &Counts) -> fmt::Result {
    let total = counts.total();
    write!(words, ", {total} exits")?;
    let mut named = 0;
    let mut separator = ": ";
    let mut count = |words: &mut Words, what: &str, number: u64| {
        named += number;
        if number == 0 {
            return Ok(());
        }
        write!(
            words,
            "{}{number} {what}",
            core::mem::replace(&mut separator, ", ")
        )
    };
    for (what, classes) in REASONS {
        let number = classes.iter().map(|class| counts.of_class(*class)).sum();
        count(words, what, number)?;
    }
    for (what, source) in INTERRUPTS {
        count(words, what, counts.of_interrupts(source))?;
    }
    // The lane may go on counting meanwhile.
    let rest = total.saturating_sub(named);
    if rest != 0 {
        write!(words, "{separator}{rest} others")?;
    }
    Ok(())
}
