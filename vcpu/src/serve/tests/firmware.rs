//! What only firmware has: flash, fw_cfg, and copies out of flash by pairs of loads.

use std::vec;

use vcpu_board::flash::VARIABLES_WORDS;

use super::*;

const VARIABLES: u64 = 0x0400_0000;
const FW_CFG: u64 = 0x0902_0000;

fn firmware() -> Machine {
    let mut machine = machine(1);
    machine.add_firmware(vec![u32::MAX; VARIABLES_WORDS].leak());
    machine
}

fn put(world: &World<'_>, at: u64, width: Width, value: u64) {
    let (verdict, _) = transfer3(world, at, width, true, value);
    assert_eq!(verdict, Verdict::Complete, "{at:#x}");
}

fn get(world: &World<'_>, at: u64, width: Width) -> u64 {
    let (verdict, x3) = transfer3(world, at, width, false, 7);
    assert_eq!(verdict, Verdict::Complete, "{at:#x}");
    x3
}

#[test]
fn firmware_finds_flash_and_fw_cfg_and_nobody_else_does() {
    let plain = machine(1);
    let world = World::new(&plain, 4);
    for at in [VARIABLES, 0x0010_0000, FW_CFG, FW_CFG + 8] {
        let (verdict, _) = transfer3(&world, at, Width::Half, false, 7);
        assert!(matches!(verdict, Verdict::Inject(_)), "{at:#x}");
    }
    let flashed = firmware();
    let world = World::new(&flashed, 4);
    // What nothing is written in: behind the firmware, and behind its variables.
    for width in WIDTHS {
        for at in [0x0010_0000, VARIABLES - 8, 0x0410_0000, 0x07ff_fff8] {
            put(&world, at, width, 0);
            assert_eq!(get(&world, at, width), width.mask(), "{at:#x} {width:?}");
        }
    }
    assert_eq!(
        get(&world, FW_CFG, Width::Word),
        u64::from(u32::from_le_bytes(*b"QEMU"))
    );
    for (at, width) in [(FW_CFG + 0xa, Width::Half), (FW_CFG + 0x10, Width::Double)] {
        let (verdict, _) = transfer3(&world, at, width, false, 7);
        assert!(matches!(verdict, Verdict::Inject(_)), "no DMA");
    }
}

#[test]
fn a_reset_ends_what_the_devices_were_doing_and_keeps_what_is_stored() {
    let machine = firmware();
    let world = World::new(&machine, 4);
    put(&world, VARIABLES + 0x100, Width::Word, 0x0040_0040);
    put(&world, VARIABLES + 0x100, Width::Word, 0x1234_5678);
    put(&world, VARIABLES, Width::Word, 0x0098_0098);
    assert_eq!(get(&world, VARIABLES + 0x40, Width::Word), 0x0051_0051);
    put(&world, FW_CFG + 8, Width::Half, 0x0100);
    assert_eq!(get(&world, FW_CFG, Width::Word), 1);
    machine.reset_devices();
    assert_eq!(get(&world, VARIABLES + 0x40, Width::Word), 0xffff_ffff);
    assert_eq!(get(&world, VARIABLES + 0x100, Width::Word), 0x1234_5678);
    assert_eq!(get(&world, FW_CFG, Width::Byte), u64::from(b'Q'));
}

/// A pair that the hardware has not described, of X1 and X2 at X4.
fn pair(world: &World<'_>, far: u64, word: u32, write: bool) -> (Verdict, u64, u64) {
    world.with(0, |vcpu, port| {
        vcpu.context.x[4] = far;
        let syndrome = Syndrome {
            esr: 0x24 << 26 | 1 << 25 | u64::from(write) << 6 | 0x07,
            far,
            hpfar: (far & 0xff_ffff_ffff) >> 12 << 4,
            elr: PC,
            spsr: 0x3c5,
        };
        let ExitReason::DataAbort(abort) = decode(Exit::Sync, &syndrome) else {
            panic!()
        };
        let terminal = &mut Terminal(&world.lines);
        let (verdict, _) = transfer(vcpu, &abort, word, 0, port, terminal);
        (verdict, vcpu.context.x[1], vcpu.context.x[2])
    })
}

#[test]
fn a_pair_of_loads_finds_its_second_half_in_the_next_page() {
    /// LDP X1, X2, [X4]
    const LDP: u32 = 0xa940_0881;
    /// STP X1, X2, [X4]
    const STP: u32 = 0xa900_0881;
    let machine = firmware();
    let world = World::new(&machine, 4);
    for at in [VARIABLES + 0x1000, VARIABLES + 0x1004] {
        put(&world, at, Width::Word, 0x40);
        put(&world, at, Width::Word, at);
    }
    put(&world, VARIABLES, Width::Word, 0xff);
    let last = 0xffff_0000_0400_0ff8;
    let there = (u64::MAX, 0x0400_1004_0400_1000);
    let (verdict, first, second) = pair(&world, last, LDP, false);
    assert_eq!((verdict, (first, second)), (Verdict::Complete, there));
    // A second half that is memory, or nowhere, is no device's.
    for stage1 in [Ok(Some(RAM_BASE + 0x1000)), Err(())] {
        world.cpu(0, |cpu| cpu.stage1 = stage1);
        let (verdict, first, second) = pair(&world, last, LDP, false);
        assert!(matches!(verdict, Verdict::Inject(_)), "{stage1:?}");
        assert_eq!((first, second), there);
    }
    // No store is done by halves.
    world.cpu(0, |cpu| cpu.stage1 = Ok(None));
    let (verdict, first, second) = pair(&world, last, STP, true);
    assert!(matches!(verdict, Verdict::Inject(_)));
    assert_eq!((first, second), there);
}

#[test]
fn a_store_into_the_firmware_itself_is_lost() {
    let plain = machine(1);
    let flashed = firmware();
    // A store into the firmware itself: mapped, and not for writing.
    let store = |machine: &Machine, iss: u64| {
        let world = World::new(machine, 4);
        world.cpu(0, |cpu| {
            cpu.esr = 0x24 << 26 | 1 << 25 | iss;
            cpu.far = 0x1000;
            cpu.elr = PC;
            cpu.spsr = 0x3c5;
            cpu.el1.vbar_el1 = VBAR;
        });
        assert_eq!(world.exit(0, Exit::Sync, Path::Slow), Some(Task::Enter));
        world.cpu(0, |cpu| cpu.elr == PC + 4)
    };
    let word = 1 << 24 | 2 << 22 | 3 << 16 | 0x0f;
    assert!(store(&flashed, word | 1 << 6));
    assert!(!store(&flashed, word), "a load is not lost, it is refused");
    assert!(!store(&flashed, 0x0f | 1 << 6), "not described");
    assert!(
        !store(&flashed, word | 1 << 8 | 1 << 6),
        "cache maintenance"
    );
    assert!(!store(&plain, word | 1 << 6), "no flash");
}
