//! The operator's balloons: what is asked of a guest, and what it says.
//!
//! New figures of a guest's memory come when its driver has run, perhaps on this very CPU. So nobody waits here: the
//! answer is said when they are there, or after a while without them.

use hypervisor_arch::{say, timer};
use virtio::balloon::{Refusal, Standing, Wish};

use crate::crew::Crew;
use crate::vm::Vm;

/// How long a guest has for its figures, and how long nobody looks for them, in parts of a second.
const PATIENCE: u64 = 4;
const PAUSE: u64 = 1000;

/// Somebody wants to know what a guest says of its memory.
#[derive(Clone, Copy)]
pub struct Wanted {
    vm: &'static Vm,
    since: u64,
}

fn standing(vm: &Vm, wish: Wish) -> Result<Standing, Refusal> {
    vm.virtio.balloon(wish, vm.ram.region().bytes())
}

/// Asks a guest for so many bytes in all, or shows how its balloon is: at once, or when the guest has said more.
pub fn answer(crew: &mut Crew, wanted: &mut Option<Wanted>, vm: &'static Vm, bytes: Option<u64>) {
    let since = timer::now();
    let wish = match bytes {
        Some(bytes) => Wish::bytes(bytes, vm.ram.region().bytes()),
        None => Ok(Wish::STATISTICS),
    };
    match wish.and_then(|wish| standing(vm, wish)) {
        Err(refusal) => say!("ctl: error: {}: {refusal}", vm.name),
        Ok(standing) if bytes.is_none() && standing.is_driven => {
            *wanted = Some(Wanted { vm, since });
            crew.look_outside_at(since.saturating_add(timer::frequency() / PAUSE));
        }
        Ok(standing) => {
            show_pages(vm, &standing);
            say!("ctl: ok");
        }
    }
}

/// The answer is due, if it has come, or will not, or somebody else wants to be answered now. When to look again for one
/// that is not.
pub fn look(wanted: Wanted, now: u64, is_urgent: bool) -> Option<u64> {
    let Wanted { vm, since } = wanted;
    if let Ok(standing) = standing(vm, Wish::NOTHING) {
        let has_come = standing.told.is_some_and(|told| told >= since);
        let end = since.saturating_add(timer::frequency() / PATIENCE);
        if !has_come && !is_urgent && standing.is_driven && now < end {
            return Some(now.saturating_add(timer::frequency() / PAUSE));
        }
        show_all(vm, &standing, now);
    }
    say!("ctl: ok");
    None
}

fn show_all(vm: &Vm, standing: &Standing, now: u64) {
    show_pages(vm, standing);
    if !standing.is_driven {
        return;
    }
    let age = now.saturating_sub(standing.told.unwrap_or(now)) / timer::frequency().max(1);
    match age {
        0 => say!("ctl: {} memory: {}", vm.name, standing.memory()),
        _ => say!("ctl: {} memory {age} s ago: {}", vm.name, standing.memory()),
    }
    say!("ctl: {} paging: {}", vm.name, standing.paging());
}

/// Shows how a guest's balloon is, if it has one.
pub fn show_standing(vm: &Vm) {
    if let Ok(standing) = standing(vm, Wish::NOTHING) {
        show_pages(vm, &standing);
    }
}

fn show_pages(vm: &Vm, standing: &Standing) {
    let memory = vm.ram.region().bytes();
    say!("ctl: {} balloon: {}", vm.name, standing.pages(memory));
}
