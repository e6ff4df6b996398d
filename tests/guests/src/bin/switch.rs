//! What a frame's way from one card to another costs: prints `bench <name> <instructions>` a row, as the bench guest does.
//!
//! Both cards are this guest's, in its first two slots, so that a frame is sent and received on one lane, and nothing else
//! is counted: from the notification until the guest goes on, with the frame in the other card's buffer and that card's
//! interrupt pending in the lane's interface.
//!
//! The guest's MMU is off, so that its rings are uncached for it and cached for EL2: as QEMU has no caches, it runs there only.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::memory::SpareRam;
use tests_arch::{bench, gic, println, sys};
use tests_guests::card::{CARD, Card};
use tests_guests::{interrupts, tree};

tests_arch::entry!(main);

/// Frames that are not counted: the first ones have everything to be found.
const BEFORE: u64 = 8;
/// Frames that are.
const FRAMES: u64 = 200;
/// How long they are: what Ethernet has for the least and for the most.
const SIZES: [(&str, u64); 2] = [("switch_frame_64", 64), ("switch_frame_1514", 1514)];

/// Sends a frame; the ticks from the notification until the guest goes on. `None` if it is not there then.
fn send(from: &mut Card<'_>, to: &mut Card<'_>, bytes: u64) -> Option<u64> {
    to.give();
    let (register, value) = from.ready();
    let ticks = bench::store(register, value);
    let pending = gic::highest_pending() == u64::from(to.intid());
    let here = to.has_received(from, bytes);
    let intid = gic::acknowledge();
    let status = to.acknowledge();
    if intid < gic::SPURIOUS_FIRST {
        gic::end(intid);
    }
    (pending && here && status == 1).then_some(ticks)
}

fn row(name: &str, from: &mut Card<'_>, to: &mut Card<'_>, bytes: u64) -> Result<u64, u64> {
    from.compose(to, bytes);
    let (mut least, mut most) = (u64::MAX, 0);
    for nth in 0..BEFORE + FRAMES {
        let ticks = send(from, to, bytes).ok_or(nth)?;
        if nth >= BEFORE {
            least = least.min(ticks);
            most = most.max(ticks);
        }
    }
    if least != most {
        println!("note {name}: {least} to {most}");
    }
    Ok(most)
}

fn main(fdt: &'static [u8]) -> u32 {
    interrupts::quiet();
    let Some(ram) = SpareRam::behind_image(tree::spare_end(fdt)) else {
        println!("switch: no memory");
        return 1;
    };
    let cards = (Card::start(0, &ram, 0), Card::start(1, &ram, CARD));
    let (Some(mut from), Some(mut to)) = cards else {
        println!("switch: two network cards are wanted");
        return 1;
    };
    for card in [&from, &to] {
        interrupts::set_priority(card.intid(), 0xa0);
        // As the device tree says of it.
        interrupts::make_edge(card.intid());
        interrupts::prepare_spi(card.intid());
    }
    let frequency = sys::cntfrq().max(1);
    for (name, bytes) in SIZES {
        match row(name, &mut from, &mut to, bytes) {
            Ok(ticks) => {
                bench::row();
                println!("bench {name} {}", ticks * 1_000_000_000 / frequency);
            }
            Err(nth) => {
                println!("switch: frame {nth} of {bytes} bytes did not arrive");
                return 1;
            }
        }
    }
    println!("bench done");
    0
}
