//! The register table, row by row, and every offset with every width and pattern.

use super::world::World;
use crate::vgic::table::{DISTRIBUTOR, Policy, REDISTRIBUTOR, Register, Row};
use crate::vgic::{Frame, Refused, Vgic};

const FRAMES: [(&[Row], Frame, u32); 2] = [
    (DISTRIBUTOR, Frame::Distributor, 0x1_0000),
    (REDISTRIBUTOR, Frame::Redistributor(1), 0x2_0000),
];

#[test]
fn the_tables_cover_their_frames_without_gap_or_overlap() {
    for (rows, _, size) in FRAMES {
        let mut next = 0;
        for row in rows {
            assert_eq!(row.first(), next, "{}", row.name);
            assert!(row.end() > row.first() && row.widths() != 0 && !row.name.is_empty());
            assert_eq!(
                row.register == Register::None,
                row.policy == Policy::RazWi || row.policy == Policy::Refused
            );
            next = row.end();
        }
        assert_eq!(next, size);
    }
}

#[test]
fn every_row_does_what_its_policy_says_at_each_end_and_width() {
    for (rows, frame, _) in FRAMES {
        for row in rows {
            for bytes in [1, 2, 4, 8] {
                let world = World::at_reset(2, 4);
                for offset in [
                    u64::from(row.first()),
                    u64::from(row.end() - bytes.min(row.end() - row.first())),
                ] {
                    let legal = row.widths() & bytes != 0 && offset % u64::from(bytes) == 0;
                    let before = world.try_read(0, frame, offset, bytes);
                    let written = world.try_write(0, frame, offset, bytes, u64::MAX);
                    let after = world.try_read(0, frame, offset, bytes);
                    let name = (row.name, offset, bytes);
                    if !legal || row.policy == Policy::Refused {
                        assert_eq!(
                            (before, written, after),
                            (Err(Refused), Err(Refused), Err(Refused)),
                            "{name:?}"
                        );
                        continue;
                    }
                    assert_eq!(written, Ok(()), "{name:?}");
                    match row.policy {
                        Policy::RazWi => assert_eq!((before, after), (Ok(0), Ok(0)), "{name:?}"),
                        Policy::ReadOnly => assert_eq!(before, after, "{name:?}"),
                        Policy::Implemented | Policy::Refused => {
                            assert_eq!(
                                after.unwrap(),
                                written_back(row, offset, bytes),
                                "{name:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// What an implemented register reads after all ones were written.
fn written_back(row: &Row, offset: u64, bytes: u32) -> u64 {
    match row.register {
        Register::Control => 0x53,
        Register::Waker => 0b110,
        Register::Group | Register::SetEnable | Register::SetPending | Register::SetActive => {
            0xffff_ffff
        }
        Register::ClearEnable | Register::ClearPending | Register::ClearActive => 0,
        Register::Priority => 0xf8f8_f8f8 & ((1 << (8 * bytes)) - 1),
        Register::Config if row.base() == 32 => 0xaaaa_aaaa,
        Register::Config => [0xaaaa_aaaa, 0][usize::try_from((offset / 4) & 1).unwrap()],
        Register::Route if bytes == 8 => 0xff_80ff_ffff,
        Register::Route => [0x80ff_ffff, 0xff][usize::try_from((offset / 4) & 1).unwrap()],
        Register::None
        | Register::Type
        | Register::Implementer
        | Register::LaneType
        | Register::Identification => unreachable!("not writable"),
    }
}

#[test]
fn gic_01_every_offset_width_and_pattern_has_an_answer() {
    let world = World::new(2, 4);
    for (_, frame, size) in FRAMES {
        for offset in 0..u64::from(size) + 8 {
            // The long reserved stretches are all alike.
            if offset % 4 != 0 && offset % 0x100 > 0x20 {
                continue;
            }
            for bytes in [0, 1, 2, 3, 4, 8, 16] {
                for pattern in [0, u64::MAX, 0xa5a5_a5a5_5a5a_5a5a] {
                    let written = world.try_write(0, frame, offset, bytes, pattern);
                    let read = world.try_read(1, frame, offset, bytes);
                    assert_eq!(written.is_ok(), read.is_ok());
                    if let Ok(value) = read {
                        assert!(
                            bytes >= 8 || value < 1 << (8 * bytes),
                            "{frame:?} {offset:#x}"
                        );
                    }
                }
            }
        }
        world.settle();
    }
}

#[test]
fn gic_02_halves_of_wide_registers_merge_and_wide_accesses_to_narrow_ones_are_refused() {
    let world = World::new(2, 4);
    let d = Frame::Distributor;
    world.write(0, d, 0x6108, 8, 0x12_0003_0201);
    world.write(0, d, 0x610c, 4, 0x34);
    assert_eq!(world.read(0, d, 0x6108, 8), 0x34_0003_0201);
    world.write(0, d, 0x6108, 4, 1);
    assert_eq!(world.read(0, d, 0x6108, 8), 0x34_0000_0001);
    assert_eq!(
        (world.read(0, d, 0x6108, 4), world.read(0, d, 0x610c, 4)),
        (1, 0x34)
    );
    assert_eq!(world.try_read(0, d, 0x100, 8), Err(Refused));
    assert_eq!(world.try_read(0, d, 0x4, 8), Err(Refused));
    let r = Frame::Redistributor(1);
    assert_eq!(world.read(0, r, 8, 8), 1 << 32 | 1 << 8 | 1 << 4);
    assert_eq!(
        (world.read(0, r, 8, 4), world.read(0, r, 12, 4)),
        (1 << 8 | 1 << 4, 1)
    );
}

#[test]
fn gic_04_interrupts_that_do_not_exist_are_ignored() {
    let world = World::new(1, 4);
    let d = Frame::Distributor;
    for intid in [96u64, 1019] {
        for base in [0x80, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380] {
            world.write(0, d, base + intid / 32 * 4, 4, u64::MAX);
            assert_eq!(world.read(0, d, base + intid / 32 * 4, 4), 0);
        }
        world.write(0, d, 0x400 + intid, 1, 0xff);
        world.write(0, d, 0xc00 + intid / 16 * 4, 4, u64::MAX);
        world.write(0, d, 0x6000 + 8 * intid, 8, u64::MAX);
        assert_eq!(world.read(0, d, 0x6000 + 8 * intid, 8), 0);
    }
    world.settle();
    assert_eq!(world.ack(0), None);
}

#[test]
fn identification_says_gicv3_with_96_interrupts() {
    let world = World::at_reset(3, 4);
    let d = Frame::Distributor;
    assert_eq!(world.read(0, d, 4, 4), u64::from(Vgic::GICD_TYPER));
    assert_eq!(Vgic::fast_gicd_read(4), Some(Vgic::GICD_TYPER));
    assert_eq!(
        Vgic::fast_gicd_read(8),
        None,
        "GICD_IIDR is read once at boot"
    );
    assert_eq!(Vgic::fast_gicd_read(0), None);
    assert_eq!(32 * ((Vgic::GICD_TYPER & 0x1f) + 1), 96);
    assert_eq!(
        world.read(0, d, 8, 4),
        world.read(0, Frame::Redistributor(2), 4, 4)
    );
    for frame in [d, Frame::Redistributor(0), Frame::Redistributor(2)] {
        assert_eq!(world.read(0, frame, 0xffe8, 4) >> 4, 3, "ArchRev");
        let class = (0..4u64).fold(0, |id, n| {
            id | world.read(0, frame, 0xfff0 + 4 * n, 4) << (8 * n)
        });
        assert_eq!(class, 0xb105_f00d);
    }
    for lane in 0..3 {
        let typer = world.vgic.gicr_typer(lane);
        assert_eq!(world.read(0, Frame::Redistributor(lane), 8, 8), typer);
        assert_eq!(typer >> 32, lane as u64);
        assert_eq!(typer >> 4 & 1 != 0, lane == 2, "Last");
    }
}

#[test]
fn the_waker_sleeps_and_wakes() {
    let world = World::at_reset(1, 4);
    let r = Frame::Redistributor(0);
    assert_eq!(world.read(0, r, 0x14, 4), 0b110);
    world.write(0, r, 0x14, 4, 0);
    assert_eq!(world.read(0, r, 0x14, 4), 0);
}

#[test]
fn lane_counts_are_clamped() {
    assert_eq!(
        [
            Vgic::new(0).lanes(),
            Vgic::new(8).lanes(),
            Vgic::new(99).lanes()
        ],
        [1, 8, 8]
    );
}
