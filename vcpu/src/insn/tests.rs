//! Instruction words as an assembler writes them, every word there is, and transfers against a naive machine.

use super::*;
use proptest::prelude::*;
use std::{thread, vec::Vec};

const EL1H: u64 = spsr::EL1H;

fn x(n: u64) -> Reg {
    Reg::from_field(n)
}

#[test]
fn words_of_an_assembler() {
    let ldr_post = decode(0xb840_4420).unwrap(); // ldr w0, [x1], #4
    assert_eq!(ldr_post.rt, x(0));
    assert_eq!(ldr_post.base, Base::General(x(1)));
    assert_eq!((ldr_post.offset, ldr_post.indexing), (4, Indexing::Post));
    assert_eq!((ldr_post.width, ldr_post.write), (Width::Word, false));
    assert!(!ldr_post.sixty_four && !ldr_post.sign_extend && ldr_post.rt2.is_none());

    let str_pre = decode(0xf800_8c62).unwrap(); // str x2, [x3, #8]!
    assert_eq!((str_pre.rt, str_pre.base), (x(2), Base::General(x(3))));
    assert_eq!((str_pre.offset, str_pre.indexing), (8, Indexing::Pre));
    assert!(str_pre.write && str_pre.sixty_four);

    let ldp = decode(0xa940_0440).unwrap(); // ldp x0, x1, [x2]
    assert_eq!((ldp.rt, ldp.rt2), (x(0), Some(x(1))));
    assert_eq!((ldp.offset, ldp.indexing), (0, Indexing::Offset));

    let push = decode(0xa9bf_7bfd).unwrap(); // stp x29, x30, [sp, #-16]!
    assert_eq!((push.rt, push.rt2), (x(29), Some(x(30))));
    assert_eq!((push.base, push.offset), (Base::StackPointer, -16));
    assert_eq!(push.indexing, Indexing::Pre);

    let ldpsw = decode(0x6940_0440).unwrap(); // ldpsw x0, x1, [x2]
    assert!(ldpsw.sign_extend && ldpsw.sixty_four && ldpsw.width == Width::Word);
    let ldrsb = decode(0x38c0_1420).unwrap(); // ldrsb w0, [x1], #1
    assert!(ldrsb.sign_extend && !ldrsb.sixty_four && ldrsb.width == Width::Byte);
    let ldrsw = decode(0xb880_4c20).unwrap(); // ldrsw x0, [x1, #4]!
    assert!(ldrsw.sign_extend && ldrsw.sixty_four && ldrsw.width == Width::Word);
    let ldnp = decode(0xa840_0440).unwrap(); // ldnp x0, x1, [x2]
    assert_eq!(ldnp.indexing, Indexing::Offset);
}

#[test]
fn what_is_not_emulated_is_refused() {
    let refused = [
        (0x885f_7c20, "ldxr w0, [x1]"),
        (0x8800_7c41, "stxr w0, w1, [x2]"),
        (0xad40_0400, "ldp q0, q1, [x0]"),
        (0x3cc1_0400, "ldr q0, [x0], #16"),
        (0xb820_8020, "swp w0, w0, [x1]"),
        (0xb820_0020, "ldadd w0, w0, [x1]"),
        (0x88a0_7c20, "cas w0, w0, [x1]"),
        (0x0820_7c00, "casp"),
        (0xd50b_7420, "dc zva, x0"),
        (0xb840_0820, "ldtr w0, [x1]"),
        (0xb840_0020, "ldur w0, [x1]"),
        (0xb940_0020, "ldr w0, [x1]"),
        (0xf8a0_4820, "prfm"),
        (0x6900_0440, "stgp x0, x1, [x2]"),
        (0xf83f_d000, "ld64b x0, [x0]"),
        (0xf820_0420, "ldraa x0, [x1]"),
        (0xa940_0040, "ldp x0, x0, [x2]: one register twice"),
        (0xf840_8400, "ldr x0, [x0], #8: base and target"),
        (0xf800_8400, "str x0, [x0], #8"),
        (0xa9c1_0400, "ldp x0, x1, [x0, #16]!"),
        (0xa981_0001, "stp x1, x0, [x0, #16]!"),
        (0, "udf"),
        (u32::MAX, "unallocated"),
    ];
    for (word, text) in refused {
        assert_eq!(decode(word), None, "{text}");
    }
    // XZR as target and SP as base share the number 31 and do not clash.
    assert!(decode(0xf840_87ff).is_some(), "ldr xzr, [sp], #8");
}

/// Every word is decoded; those accepted are as many as the encoding tables allow, and all are plain.
#[test]
fn every_word_there_is() {
    let threads = thread::available_parallelism().map_or(2, usize::from) as u64;
    let part = (1_u64 << 32) / threads + 1;
    let accepted: u64 = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|n| {
                scope.spawn(move || {
                    let mut count = 0;
                    for word in n * part..((n + 1) * part).min(1 << 32) {
                        let word = u32::try_from(word).unwrap();
                        if let Some(i) = decode(word) {
                            count += 1;
                            assert_eq!(word & 1 << 26, 0, "{word:#x} is SIMD or FP");
                            assert!(i.offset.unsigned_abs() <= 512, "{word:#x}");
                            assert!(i.rt2.is_some() || i.indexing != Indexing::Offset);
                        }
                    }
                    count
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap()).sum()
    });
    // Pairs of different registers, each imm7 and base; with write-back neither may be the base, save SP (31).
    let distinct = 32 * 31;
    let loads_moving = 31 * (31 * 30) + distinct;
    let stores_moving = 31 * (31 * 31) + 32 * 32;
    // Offset forms: LDP (2) + LDNP (2) + LDPSW; STP (2) + STNP (2). Moving: pre and post of LDP (2) + LDPSW, STP (2).
    let pairs = 128 * (5 * distinct * 32 + 4 * 32 * 32 * 32 + 6 * loads_moving + 4 * stores_moving);
    // STR and LDR of 4 widths, LDRS to X of 3, LDRS to W of 2; pre and post; 9-bit offset.
    let singles = 512 * 2 * (4 + 4 + 3 + 2) * (31 * 31 + 32);
    assert_eq!(accepted, pairs + singles);
}

/// Memory, registers and an instruction described by its parts instead of its bits.
#[derive(Clone, Debug)]
struct Case {
    pair: bool,
    load: bool,
    size: u32,
    signed: bool,
    indexing: u32,
    imm: i64,
    rt: u64,
    rt2: u64,
    rn: u64,
    bus: [u64; 2],
    base: u64,
}

fn case() -> impl Strategy<Value = Case> {
    (
        (
            any::<bool>(),
            any::<bool>(),
            0_u32..4,
            any::<bool>(),
            0_u32..2,
            -64_i64..64,
        ),
        (0_u64..32, 0_u64..32, 0_u64..32),
        any::<[u64; 2]>(),
        0_u64..0x200,
    )
        .prop_map(
            |((pair, load, size, signed, indexing, imm), (rt, rt2, rn), bus, page)| Case {
                pair,
                load,
                // Pairs are words or doubles.
                size: if pair { 2 | size & 1 } else { size },
                // LDPSW and LDRS to X, where they exist.
                signed: signed && load && (if pair { size & 1 == 0 } else { size < 3 }),
                indexing,
                imm,
                rt,
                rt2,
                rn,
                bus,
                base: 0xffff_0000_0000_0000 | page << 12 | 0x800,
            },
        )
}

impl Case {
    /// As an assembler encodes it.
    fn word(&self) -> u32 {
        let post = self.indexing == 0;
        let [rt, rt2, rn] = [self.rt, self.rt2, self.rn].map(|r| u32::try_from(r).unwrap());
        let imm = u32::try_from(self.imm & 0x1ff).unwrap();
        if self.pair {
            let opc = if self.signed { 1 } else { (self.size & 1) << 1 };
            opc << 30
                | 0b101 << 27
                | (if post { 1 } else { 3 }) << 23
                | u32::from(self.load) << 22
                | (imm & 0x7f) << 15
                | rt2 << 10
                | rn << 5
                | rt
        } else {
            let opc = if self.signed { 2 } else { u32::from(self.load) };
            self.size << 30
                | 0b111 << 27
                | opc << 22
                | imm << 12
                | (if post { 1 } else { 3 }) << 10
                | rn << 5
                | rt
        }
    }

    fn unpredictable(&self) -> bool {
        let clash = self.rn != 31 && (self.rn == self.rt || self.pair && self.rn == self.rt2);
        clash || self.pair && self.load && self.rt == self.rt2
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn a_transfer_is_what_the_naive_machine_does(case in case()) {
        let mut context = Context::new(0);
        for n in 0..31 {
            context.set(x(n), 0x0101_0101_0101_0101 * (n + 1));
        }
        context.set(x(case.rn), case.base);
        let sp = if case.rn == 31 { case.base } else { 0x1000 };
        let bytes = 1_u64 << case.size;
        let offset = if case.pair { case.imm * i64::try_from(bytes).unwrap() } else { case.imm };
        let moved = case.base.wrapping_add_signed(offset);
        let address = if case.indexing == 0 { case.base } else { moved };
        let at = Situation { spsr: EL1H, sp, far: address, write: !case.load, endian: Endian::Little };
        let elements: u64 = if case.pair { 2 } else { 1 };
        let leaves = (address & 0xfff) + elements * bytes > 0x1000;
        let fits = address.is_multiple_of(bytes) && (case.load || !leaves);

        let prepared = Transfer::prepare(case.word(), &context, at);
        prop_assert_eq!(prepared.is_some(), fits && !case.unpredictable());
        let Some(transfer) = prepared else { return Ok(()) };

        // Nothing has happened yet, and the accesses are the elements in order.
        let accesses: Vec<_> = transfer.accesses().collect();
        prop_assert_eq!(accesses.len() as u64, elements);
        let mask = u64::MAX >> (64 - 8 * bytes);
        for (n, access) in accesses.iter().enumerate() {
            prop_assert_eq!(access.offset, n as u64 * bytes);
            prop_assert_eq!(access.width.bytes(), bytes);
            let reg = if n == 0 { case.rt } else { case.rt2 };
            prop_assert_eq!(access.store, (!case.load).then(|| context.get(x(reg)) & mask));
        }

        let mut expected = context.clone();
        if case.load {
            let load = |bus: u64| {
                let value = bus & mask;
                let negative = case.signed && value >> (8 * bytes - 1) & 1 == 1;
                if negative { value | !mask } else { value }
            };
            expected.set(x(case.rt), load(case.bus[0]));
            if case.pair {
                expected.set(x(case.rt2), load(case.bus[1]));
            }
        }
        expected.set(x(case.rn), moved);
        let sp_after = transfer.complete(&mut context, case.bus);
        prop_assert_eq!(sp_after, (case.rn == 31).then_some(StackPointer(moved)));
        prop_assert_eq!(context, expected);
    }

    #[test]
    fn a_word_that_another_lane_has_changed_resolves_nothing(word in any::<u32>(), far in any::<u64>(), sp in any::<u64>()) {
        let context = Context::new(0);
        let at = Situation { spsr: EL1H, sp, far, write: false, endian: Endian::Little };
        if let Some(transfer) = Transfer::prepare(word, &context, at) {
            prop_assert!(!transfer.instruction().write);
            prop_assert!(far & 0xfff <= 0x1000 - transfer.instruction().width.bytes());
        }
    }
}

#[test]
fn a_fault_elsewhere_or_of_the_other_direction_is_refused() {
    let mut context = Context::new(0);
    context.set(x(1), 0x0900_0000);
    let ldr_post = 0xb840_4420; // ldr w0, [x1], #4
    let at = Situation {
        spsr: EL1H,
        sp: 0,
        far: 0x0900_0000,
        write: false,
        endian: Endian::Little,
    };
    assert!(Transfer::prepare(ldr_post, &context, at).is_some());
    let wrong = [
        Situation {
            far: 0x0900_0004,
            ..at
        },
        Situation { write: true, ..at },
        Situation { spsr: 0x10, ..at },
    ];
    for at in wrong {
        assert_eq!(Transfer::prepare(ldr_post, &context, at), None);
    }
    context.set(x(1), 0x0900_0002);
    let misaligned = Situation {
        far: 0x0900_0002,
        ..at
    };
    assert_eq!(Transfer::prepare(ldr_post, &context, misaligned), None);
}

#[test]
fn a_big_endian_guest_is_served_in_its_order() {
    let mut context = Context::new(0);
    context.set(x(1), 0x0900_0000);
    context.set(x(0), 0x1122_3344);
    let at = Situation {
        spsr: EL1H,
        sp: 0,
        far: 0x0900_0000,
        write: true,
        endian: Endian::Big,
    };
    let str_post = 0xb800_4420; // str w0, [x1], #4
    let store = Transfer::prepare(str_post, &context, at).unwrap();
    assert_eq!(store.accesses().next().unwrap().store, Some(0x4433_2211));
    let ldr_post = 0xb840_4420;
    let at = Situation { write: false, ..at };
    let load = Transfer::prepare(ldr_post, &context, at).unwrap();
    assert_eq!(load.complete(&mut context, [0x4433_2211, 0]), None);
    assert_eq!(context.get(x(0)), 0x1122_3344);
    assert_eq!(context.get(x(1)), 0x0900_0004);
}
