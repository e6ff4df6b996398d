//! Completion of device accesses, against a model that works byte by byte.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

fn access(sas: u64, sign_extend: bool, sixty_four: bool, reg: u64) -> MmioAccess {
    MmioAccess {
        ipa: Ipa::new(0x0900_0000),
        va: 0,
        width: Width::from_sas(sas),
        write: false,
        sign_extend,
        sixty_four,
        reg: Reg::from_field(reg),
    }
}

fn filled() -> Context {
    let mut context = Context::new(0x1000);
    for n in 0..31 {
        context.set(
            Reg::from_field(n),
            0x1122_3344_5566_7788_u64.rotate_left(u32::try_from(n).unwrap()),
        );
    }
    context
}

/// What a load leaves behind, from the bytes that came over the bus in the order of their addresses.
fn model_load(bytes: &[u8], endian: Endian, sign: bool, sixty_four: bool) -> u64 {
    let mut ordered: Vec<u8> = bytes.to_vec();
    if endian == Endian::Big {
        ordered.reverse();
    }
    let negative = sign && ordered.last().unwrap() & 0x80 != 0;
    ordered.resize(8, if negative { 0xff } else { 0 });
    let value = u64::from_le_bytes(ordered.try_into().unwrap());
    if sixty_four {
        value
    } else {
        value & 0xffff_ffff
    }
}

proptest! {
    #[test]
    fn a_load_is_what_the_bytes_say(
        bus in any::<u64>(), sas in 0_u64..4, sign in any::<bool>(), sixty_four in any::<bool>(), reg in 0_u64..32,
        big in any::<bool>(),
    ) {
        let access = access(sas, sign, sixty_four, reg);
        let endian = if big { Endian::Big } else { Endian::Little };
        let width = usize::try_from(access.width.bytes()).unwrap();
        let expected = model_load(&bus.to_le_bytes()[..width], endian, sign, sixty_four);
        let before = filled();
        let mut after = before.clone();
        access.complete_load(&mut after, bus, endian);
        for n in 0..32 {
            let n = Reg::from_field(n);
            let want = if n == access.reg && n != Reg::XZR { expected } else { before.get(n) };
            prop_assert_eq!(after.get(n), want);
        }
        prop_assert_eq!(after.pc(), before.pc(), "the PC is not this function's business");
    }

    #[test]
    fn a_store_puts_the_low_bytes_on_the_bus(value in any::<u64>(), sas in 0_u64..4, reg in 0_u64..32, big in any::<bool>()) {
        let access = access(sas, false, false, reg);
        let endian = if big { Endian::Big } else { Endian::Little };
        let mut context = filled();
        context.set(access.reg, value);
        let width = usize::try_from(access.width.bytes()).unwrap();
        let mut bytes = context.get(access.reg).to_le_bytes()[..width].to_vec();
        if big {
            bytes.reverse();
        }
        bytes.resize(8, 0);
        prop_assert_eq!(access.store_value(&context, endian), u64::from_le_bytes(bytes.try_into().unwrap()));
    }
}

#[test]
fn signed_loads_of_a_guest() {
    // (SAS, 64-bit register, bus, LDRS* result)
    let table = [
        (0, false, 0x80, 0xffff_ff80),
        (0, true, 0x80, 0xffff_ffff_ffff_ff80),
        (0, true, 0x7f, 0x7f),
        (1, false, 0x8000, 0xffff_8000),
        (1, true, 0x8000, 0xffff_ffff_ffff_8000),
        (2, true, 0x8000_0000, 0xffff_ffff_8000_0000),
        (2, true, 0x7fff_ffff, 0x7fff_ffff),
    ];
    for (sas, sixty_four, bus, expected) in table {
        let access = access(sas, true, sixty_four, 3);
        assert_eq!(access.load_value(bus, Endian::Little), expected);
    }
}

#[test]
fn the_zero_register_discards_a_load_and_stores_zero() {
    let access = access(3, false, true, 31);
    let mut context = filled();
    let before = context.clone();
    access.complete_load(&mut context, u64::MAX, Endian::Little);
    assert_eq!(context, before);
    assert_eq!(access.store_value(&context, Endian::Little), 0);
}

#[test]
fn byte_order_follows_the_level_the_guest_is_at() {
    let (e0e, ee) = (1 << 24, 1 << 25);
    assert_eq!(Endian::of(spsr::EL1H, 0), Endian::Little);
    assert_eq!(Endian::of(spsr::EL1H, e0e), Endian::Little);
    assert_eq!(Endian::of(spsr::EL1T, ee), Endian::Big);
    assert_eq!(Endian::of(spsr::EL0T, ee), Endian::Little);
    assert_eq!(Endian::of(spsr::EL0T, e0e), Endian::Big);
    assert_eq!(Endian::of(0x10, ee | e0e), Endian::Little);
    assert_eq!(Endian::of(0x10 | spsr::E32, 0), Endian::Big);
}

#[test]
fn a_width_is_a_power_of_two_and_alignment_is_to_it() {
    for sas in 0..4 {
        let width = Width::from_sas(sas);
        assert_eq!(width.bytes(), 1 << sas);
        assert_eq!(u64::from(width.bits()), 8 << sas);
        assert_eq!(width.mask().count_ones(), width.bits());
        for offset in 0..8 {
            let mut access = access(sas, false, false, 0);
            access.ipa = Ipa::new(0x1000 + offset);
            assert_eq!(access.is_aligned(), offset % width.bytes() == 0);
        }
    }
    assert_eq!(Width::from_sas(7), Width::Double);
}
