//! What a random guest, its devices and its timers may do.

use proptest::prelude::*;
use std::vec;

use crate::vgic::{PHYSICAL_TIMER, VIRTUAL_TIMER};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Sgi {
        value: u64,
    },
    Bits {
        offset: u64,
        bits: u32,
    },
    PrivateBits {
        of: usize,
        offset: u64,
        bits: u32,
    },
    Priority {
        intid: u32,
        priority: u8,
    },
    Config {
        word: u64,
        value: u32,
    },
    Route {
        spi: u64,
        value: u64,
    },
    Control {
        value: u32,
    },
    Line {
        intid: u32,
        high: bool,
    },
    Timer {
        intid: u32,
        high: bool,
    },
    /// The line of a device of the machine.
    Device {
        which: usize,
        high: bool,
    },
    /// A device of the VM pulses, for the lane that touched it.
    Pulse {
        spis: u64,
    },
    /// And for nobody in particular.
    Post {
        intid: u32,
    },
    Guest {
        pmr: u8,
        group0: bool,
        group1: bool,
    },
    Take,
    End,
    Deactivate {
        which: usize,
    },
    Look {
        of: usize,
    },
    Leave,
}

fn spi_bits() -> impl Strategy<Value = u32> {
    // Few enough that things meet.
    prop_oneof![
        Just(1u32),
        Just(2),
        Just(0x80),
        Just(0x83),
        Just(0x8000_00ff),
        // The devices of the machine.
        Just(0x0001_0400),
        Just(u32::MAX),
        any::<u32>()
    ]
}

/// SPIs that devices of the VM pulse.
pub(super) const PULSED: [u32; 8] = [32, 33, 39, 48, 49, 63, 64, 79];

fn all_pulsed() -> u64 {
    PULSED
        .into_iter()
        .fold(0, |all, intid| all | 1 << (intid - 32))
}

/// One of them.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let group = prop::sample::select(std::vec![0x80u64, 0x100, 0x100, 0x100, 0x180, 0x200, 0x280]);
    let private = group.clone();
    prop_oneof![
        6 => (0u64..16, 0u64..16, prop::bool::weighted(0.1)).prop_map(|(sgi, targets, all)| {
            Step::Sgi { value: sgi << 24 | targets | u64::from(all) << 40 }
        }),
        6 => (group, 1u64..3, spi_bits()).prop_map(|(offset, word, bits)| {
            // Groups mostly stay as they are: all interrupts in the group that is off would be a dull guest.
            let bits = if offset == 0x80 { bits | 0xffff_ff00 } else { bits };
            Step::Bits { offset: offset + 4 * word, bits }
        }),
        6 => (0usize..4, private, spi_bits()).prop_map(|(of, offset, bits)| {
            let bits = if offset == 0x80 { bits | 0xffff_ff00 } else { bits };
            Step::PrivateBits { of, offset: 0x1_0000 + offset, bits }
        }),
        4 => (0u32..96, 0u8..31).prop_map(|(intid, priority)| Step::Priority { intid, priority: priority << 3 }),
        1 => (0u64..4, any::<u32>()).prop_map(|(word, value)| Step::Config { word, value }),
        3 => (0u64..64, 0u64..6).prop_map(|(spi, value)| Step::Route { spi, value }),
        2 => (prop::sample::select(std::vec![10u64, 48]), 0u64..4).prop_map(|(spi, value)| Step::Route { spi, value }),
        1 => (0u32..4).prop_map(|value| Step::Control { value }),
        1 => Just(Step::Control { value: 3 }),
        6 => (32u32..42, any::<bool>()).prop_map(|(intid, high)| Step::Line { intid, high }),
        4 => (prop::sample::select(std::vec![VIRTUAL_TIMER, PHYSICAL_TIMER]), any::<bool>())
            .prop_map(|(intid, high)| Step::Timer { intid, high }),
        6 => (0usize..2, any::<bool>()).prop_map(|(which, high)| Step::Device { which, high }),
        12 => prop::sample::select(PULSED.to_vec()).prop_map(|intid| Step::Pulse { spis: 1 << (intid - 32) }),
        1 => any::<u64>().prop_map(|spis| Step::Pulse { spis: spis & all_pulsed() }),
        12 => prop::sample::select(PULSED.to_vec()).prop_map(|intid| Step::Post { intid }),
        1 => (any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(pmr, group0, group1)| Step::Guest { pmr, group0, group1 }),
        1 => Just(Step::Guest { pmr: 0xf0, group0: true, group1: true }),
        20 => Just(Step::Take),
        14 => Just(Step::End),
        6 => (0usize..8).prop_map(|which| Step::Deactivate { which }),
        2 => (0usize..4).prop_map(|of| Step::Look { of }),
        3 => Just(Step::Leave),
    ]
}
