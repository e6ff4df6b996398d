//! The isolation check: what is not this guest's cannot be reached.
//!
//! The kernel maps addresses that its device tree does not give it and touches them. The only right
//! answer is a synchronous external abort, for loads and for stores; a value, or any other
//! exception, is a breach.

use crate::addr::{GuestPhys, PhysRange};
use crate::machine::Machine;
use core::fmt;

/// The unit that is probed: one address of a page stands for it.
pub const PAGE: u64 = 4096;

/// How an address is touched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// By a load.
    Read,
    /// By a store.
    Write,
}

/// What came of touching an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Touch {
    /// It went through.
    Done,
    /// It took a data abort with this `ESR_EL1`.
    Abort(u64),
}

/// An answer that a well isolated machine does not give.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Breach {
    /// Foreign memory could be touched.
    Reached(GuestPhys, Access),
    /// The access was refused, but not with a synchronous external abort.
    WrongAbort(GuestPhys, Access, u64),
    /// This guest's own memory could not be touched, so the probe proves nothing.
    OwnRefused(GuestPhys),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |access: &Access| match access {
            Access::Read => "read",
            Access::Write => "written",
        };
        match self {
            Self::Reached(at, access) => {
                write!(f, "{at} is not this guest's but was {}", verb(access))
            }
            Self::WrongAbort(at, access, esr) => {
                write!(f, "{at} was not {}, but with esr {esr:#x}", verb(access))
            }
            Self::OwnRefused(at) => write!(f, "{at} is this guest's but was refused"),
        }
    }
}

/// What the check needs from the hardware.
pub trait Probe {
    /// Maps the page of `address` as device memory, touches it, unmaps it.
    fn touch(&mut self, address: GuestPhys, access: Access) -> Touch;
}

/// The addresses to probe in a machine whose physical addresses have `bits` bits: both neighbours
/// of everything the tree names, every power of two, and powers of two above RAM, where the
/// host's memory goes on if anywhere; all of them outside what the tree names.
pub fn foreign<'m>(machine: &'m Machine<'_>, bits: u32) -> impl Iterator<Item = GuestPhys> + 'm {
    let named = || machine.claimed.iter().chain(&machine.memory);
    let below = named().filter_map(|range| range.start().get().checked_sub(PAGE));
    let above = named().map(|range| range.end().get());
    let powers = (12..bits.min(52)).map(|bit| 1u64 << bit);
    let past_ram = machine.memory.iter().flat_map(|range| {
        (12..34).filter_map(|bit| Some(range.end().checked_add(1 << bit)?.get()))
    });
    let candidates = below.chain(above).chain(powers).chain(past_ram);
    candidates
        .map(|address| GuestPhys::new(address).align_down(PAGE))
        .filter(move |address| address.get() >> bits.min(52) == 0)
        .filter(move |address| !named().any(|range| page_touches(*range, *address)))
}

fn page_touches(range: PhysRange, page: GuestPhys) -> bool {
    range.grow_to(PAGE).is_none_or(|range| range.contains(page))
}

/// Exception class of a data abort taken without a change of level (DDI 0487, ESR_EL1.EC).
const DATA_ABORT_SAME_LEVEL: u64 = 0x25;
/// Fault status "synchronous external abort, not on translation table walk" (ISS.DFSC).
const EXTERNAL_ABORT: u64 = 0x10;

fn is_external_abort(esr: u64) -> bool {
    (esr >> 26) & 0x3F == DATA_ABORT_SAME_LEVEL && esr & 0x3F == EXTERNAL_ABORT
}

/// Probes one of this guest's own addresses, which must answer, then every foreign one, which must
/// not. Returns how many addresses were refused.
///
/// # Errors
/// The first breach.
pub fn check(
    probe: &mut impl Probe,
    own: GuestPhys,
    foreign: impl Iterator<Item = GuestPhys>,
) -> Result<u32, Breach> {
    if probe.touch(own, Access::Read) != Touch::Done {
        return Err(Breach::OwnRefused(own));
    }
    let mut refused = 0;
    for address in foreign {
        for access in [Access::Read, Access::Write] {
            match probe.touch(address, access) {
                Touch::Abort(esr) if is_external_abort(esr) => {}
                Touch::Abort(esr) => return Err(Breach::WrongAbort(address, access, esr)),
                Touch::Done => return Err(Breach::Reached(address, access)),
            }
        }
        refused += 1;
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::two_lanes;

    const ABORT: Touch = Touch::Abort((0x25 << 26) | (1 << 25) | 0x10);

    struct Fake<F>(F);

    impl<F: FnMut(GuestPhys, Access) -> Touch> Probe for Fake<F> {
        fn touch(&mut self, address: GuestPhys, access: Access) -> Touch {
            (self.0)(address, access)
        }
    }

    fn run(answer: impl Fn(GuestPhys, Access) -> Touch) -> Result<u32, Breach> {
        let tree = two_lanes();
        let machine = Machine::from_fdt(&tree).unwrap();
        let own = machine.memory[0].start();
        check(&mut Fake(answer), own, foreign(&machine, 40))
    }

    fn own(address: GuestPhys) -> bool {
        address.get() == 0x4000_0000
    }

    #[test]
    fn only_external_aborts_for_every_foreign_address_pass() {
        let refused = run(|at, _| if own(at) { Touch::Done } else { ABORT }).unwrap();
        assert!(refused > 30, "{refused}");
    }

    #[test]
    fn a_value_a_wrong_abort_and_a_dead_probe_are_breaches() {
        let hole = GuestPhys::new(0x4400_0000);
        let read_through = |at, access| match (at == hole, access) {
            (true, Access::Write) => Touch::Done,
            _ => {
                if own(at) {
                    Touch::Done
                } else {
                    ABORT
                }
            }
        };
        assert_eq!(run(read_through), Err(Breach::Reached(hole, Access::Write)));
        let translation = Touch::Abort((0x25 << 26) | 7);
        assert!(matches!(
            run(|at, _| if own(at) { Touch::Done } else { translation }),
            Err(Breach::WrongAbort(_, Access::Read, _))
        ));
        assert!(matches!(run(|_, _| ABORT), Err(Breach::OwnRefused(_))));
        for breach in [
            Breach::Reached(hole, Access::Read),
            Breach::WrongAbort(hole, Access::Write, 0),
            Breach::OwnRefused(hole),
        ] {
            assert!(breach.to_string().contains("0x44000000"));
        }
    }

    #[test]
    fn foreign_addresses_are_outside_everything_the_tree_names() {
        let tree = two_lanes();
        let machine = Machine::from_fdt(&tree).unwrap();
        for address in foreign(&machine, 36) {
            assert!(address.is_aligned(PAGE) && address.get() < 1 << 36);
            assert!(
                !machine.claimed.iter().any(|range| range.contains(address)),
                "{address}"
            );
            assert!(
                !machine.memory.iter().any(|range| range.contains(address)),
                "{address}"
            );
        }
        assert!(
            foreign(&machine, 36).any(|a| a.get() == 0x4400_0000),
            "just past RAM"
        );
        assert!(
            foreign(&machine, 36).any(|a| a.get() == 0x07FF_F000),
            "just before the GIC"
        );
    }
}
