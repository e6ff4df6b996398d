//! Every exit of a kind, where there are finitely many.

use core::sync::atomic::Ordering;
use std::{println, vec::Vec};

use super::trap::{HVC, SMC, SYSREG, Trap, esr, sysreg_iss};
use super::twins::{Count, Twins};
use crate::rig::echoing;
use crate::vgic::Frame;
use vcpu_board::{GICD_BASE, GICR_BASE, GICR_STRIDE, PL011_BASE, VIRTIO_BASE, VIRTIO_STRIDE};

/// Runs `traps` on a machine of two lanes whose interrupts are on, a new one now and then, and tells how many there
/// were and how many of them the hot path has answered.
fn run(name: &str, traps: impl Iterator<Item = Trap>) -> (u64, u64) {
    let count = Count::default();
    let mut traps = traps.peekable();
    while traps.peek().is_some() {
        let machines = [echoing(2), echoing(2)];
        let twins = Twins::new(&machines, 4);
        twins.both(|world| {
            world.write(0, Frame::Distributor, 0, 4, 3);
            for lane in 0..2 {
                world.write(lane, Frame::Redistributor(lane), 0x1_0100, 4, 0x0800_ffff);
                world.cpu(lane, |cpu| {
                    cpu.gic.set_guest_control(0xf8, true, true, false);
                });
                world.with(lane, |vcpu, _| {
                    for (n, x) in vcpu.context.x.iter_mut().enumerate() {
                        *x = (0x0123_4567_0000_0000 * (n as u64 + 1)) | (1 << n);
                    }
                });
            }
        });
        for trap in traps.by_ref().take(1024) {
            twins.trap(0, &trap, &count, &name);
        }
        twins.compare_all(&name);
    }
    let cases = count.cases.load(Ordering::Relaxed);
    let answered = count.answered.load(Ordering::Relaxed);
    println!("hot path: {cases} differential cases, {name}, {answered} answered hot");
    (cases, answered)
}

/// EL1h, EL1t, EL0, and AArch32 user mode; in the first also with BTYPE and SS.
const MODES: [u64; 5] = [0x3c5, 0x20_0fc5, 0x4, 0x0, 0x10];

#[test]
fn every_class_in_every_mode() {
    let traps = (0..64).flat_map(|class| {
        MODES.into_iter().flat_map(move |spsr| {
            [0, 1, 0x22, 0x1ff_ffff, 0x0300_0007].map(|iss| Trap {
                spsr,
                ..Trap::new(esr(class, iss))
            })
        })
    });
    assert_eq!(run("every class", traps), (64 * 25, 0));
}

#[test]
fn every_identification_register_and_every_general_register() {
    let traps = (0..128_u64).flat_map(|low| {
        (0..32_u64).flat_map(move |rt| {
            [(false, 0x3c5), (true, 0x3c5), (true, 0x4), (true, 0)].map(|(read, spsr)| Trap {
                spsr,
                ..Trap::new(esr(SYSREG, sysreg_iss(3 << 14 | low, rt, read)))
            })
        })
    });
    // CRm 1 to 7, X0 to X19, at EL1.
    assert_eq!(
        run("identification registers", traps),
        (128 * 32 * 4, 56 * 20 * 2)
    );
}

#[test]
fn every_system_register() {
    let traps = (0..1 << 16_u64).flat_map(|raw| {
        [(5, true), (5, false), (30, true)]
            .map(|(rt, read)| Trap::new(esr(SYSREG, sysreg_iss(raw, rt, read))))
    });
    let (cases, answered) = run("system registers", traps);
    // The identification registers' reads, and ICC_SGI1R_EL1.
    assert_eq!((cases, answered), (3 << 16, 56));
}

#[test]
fn every_sgi_register_value_with_one_or_two_targets() {
    let raw = 3 << 14 | 12 << 7 | 11 << 3 | 5;
    let traps = (0..16_u64).flat_map(|sgi| {
        (0..256_u64).flat_map(move |targets| {
            [0, 1 << 16, 1 << 32, 1 << 40, 1 << 44].map(|more| Trap {
                x: (7, sgi << 24 | targets | more),
                ..Trap::new(esr(SYSREG, sysreg_iss(raw, 7, false)))
            })
        })
    });
    let (_, answered) = run("SGIs", traps);
    assert!(answered >= 16, "the other lane's are answered hot");
}

#[test]
fn every_call_of_every_owner() {
    let functions: Vec<u64> = (0..64_u64)
        .flat_map(|owner| {
            (0..0x1_0000_u64)
                .step_by(0x100)
                .flat_map(move |block| [0, 1, 3, 0x40, 0xff].map(|low| owner << 24 | block | low))
        })
        .collect();
    let traps = functions.iter().flat_map(|function| {
        [(HVC, 1 << 31, 0), (SMC, 3 << 30, 0), (SMC, 1 << 31, 1)].map(|(class, kind, imm)| Trap {
            x: (0, function | kind),
            ..Trap::new(esr(class, imm))
        })
    });
    let (cases, answered) = run("calls", traps);
    assert!(answered * 3 > cases);
}

/// Every offset of a page, every width, both directions; the register is X0, X19 (the last one that is saved),
/// X20 or the zero register.
fn page(name: &str, base: u64) {
    let traps = (0..0x1000_u64).flat_map(|offset| {
        (0..4).flat_map(move |sas| {
            [0, 19, 20, 31].into_iter().flat_map(move |rt| {
                [false, true].map(|write| {
                    let value = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3;
                    Trap::access(base + offset, sas, rt, write, value)
                })
            })
        })
    });
    let (cases, _) = run(name, traps);
    assert_eq!(cases, 0x1000 * 4 * 4 * 2);
}

#[test]
fn every_access_to_the_distributor() {
    page("distributor", GICD_BASE);
}

#[test]
fn every_access_to_the_redistributors() {
    page("own redistributor", GICR_BASE);
    page("own SGI frame", GICR_BASE + 0x1_0000);
    page("the other lane's redistributor", GICR_BASE + GICR_STRIDE);
    page("no lane's redistributor", GICR_BASE + 2 * GICR_STRIDE);
}

#[test]
fn every_access_to_the_uart() {
    page("UART", PL011_BASE);
}

#[test]
fn every_access_to_the_virtio_slots() {
    page("virtio slots", VIRTIO_BASE);
    page("the last virtio slots", VIRTIO_BASE + 24 * VIRTIO_STRIDE);
}

/// All registers and all fault statuses, at the registers that the hot path knows and beside them.
#[test]
fn every_register_and_fault_status_where_the_hot_path_answers() {
    let places = [
        GICD_BASE + 0x4,
        GICD_BASE + 0x8,
        GICD_BASE + 0x100,
        GICD_BASE + 0x104,
        GICD_BASE + 0x108,
        GICD_BASE + 0x10c,
        GICR_BASE + 0x8,
        GICR_BASE + 0xc,
        GICR_BASE + GICR_STRIDE + 0x8,
        PL011_BASE + 0x18,
        PL011_BASE,
        VIRTIO_BASE + 0x50,
        VIRTIO_BASE + 5 * VIRTIO_STRIDE + 0x50,
        VIRTIO_BASE + 5 * VIRTIO_STRIDE + 0x60,
        VIRTIO_BASE + 5 * VIRTIO_STRIDE + 0x64,
        VIRTIO_BASE + 5 * VIRTIO_STRIDE + 0x70,
    ];
    let traps = places.into_iter().flat_map(|ipa| {
        (0..32 * 4 * 2_u64).flat_map(move |n| {
            // The status; ISV, SSE, S1PTW, CM, FnV or none; the byte order.
            (0..64).flat_map(move |status| {
                let (rt, sas, write) = (n & 31, n >> 5 & 3, n >> 7 != 0);
                let trap = Trap::access(ipa, sas, rt, write, n << 20 | status);
                let bit = [1 << 24, 1 << 21, 1 << 7, 1 << 8, 1 << 10, 0][(n % 6) as usize];
                let with = trap.esr & !0x3f | status;
                [with, with ^ bit].map(|esr| Trap {
                    esr,
                    big_endian: status == 5 && bit == 0,
                    ..trap.clone()
                })
            })
        })
    });
    let (_, answered) = run("places that the hot path knows", traps);
    assert!(answered > 4 * 20 * 8);
}
