//! What a guest gets for any request, and that no draw is like another.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever a test does not expect fails it"
)]

use super::*;
use crate::smccc::{Call, Workarounds};
use proptest::prelude::*;
use std::{collections::BTreeSet, vec::Vec};

struct Ones;

impl Entropy for Ones {
    fn draw(&mut self) -> Option<[u64; 3]> {
        Some([u64::MAX; 3])
    }
}

struct Dry;

impl Entropy for Dry {
    fn draw(&mut self) -> Option<[u64; 3]> {
        None
    }
}

fn ask(function: u32, x1: u64) -> Request {
    let x = [u64::from(function), x1, 0, 0];
    Call { imm: 0, x }.parse(Workarounds::default())
}

fn one(x0: i64) -> Request {
    Request::Return(Results::One(x0.cast_unsigned()))
}

#[test]
fn the_interface_is_1_0_and_says_what_it_has() {
    assert_eq!(ask(TRNG_VERSION, 0), one(0x1_0000));
    for function in [
        TRNG_VERSION,
        TRNG_FEATURES,
        TRNG_GET_UUID,
        TRNG_RND32,
        TRNG_RND64,
    ] {
        assert_eq!(ask(TRNG_FEATURES, u64::from(function)), one(0));
    }
    assert_eq!(ask(TRNG_FEATURES, 0x8400_0054), one(-1));
    assert_eq!(ask(0xc400_0050, 0), one(-1), "only RND has a 64-bit form");
    let uuid: u128 = 0x3722_2422_e5e2_48a4_906e_af9e_7321_464e;
    let bytes = uuid.to_be_bytes();
    for (index, word) in UUID_WORDS.iter().enumerate() {
        assert_eq!(word.to_le_bytes()[..4], bytes[index * 4..index * 4 + 4]);
    }
    assert_eq!(
        ask(TRNG_GET_UUID, 0),
        Request::Return(Results::Four(UUID_WORDS))
    );
}

/// Every number of bits of both calls: so many ones, from X3 up, and nothing else.
#[test]
fn as_many_bits_as_were_asked_for() {
    for (function, width, most) in [(TRNG_RND32, 32, 96), (TRNG_RND64, 64, 192)] {
        for bits in 0..=300 {
            let refused = Request::Return(Results::Four([INVALID_PARAMETERS, 0, 0, 0]));
            if bits == 0 || bits > most {
                assert_eq!(ask(function, bits), refused);
                continue;
            }
            let Request::Random(wanted) = ask(function, bits) else {
                panic!("{bits}")
            };
            let Results::Four([0, x1, x2, x3]) = wanted.answer(&mut Ones) else {
                panic!("{bits}")
            };
            for (index, word) in [x3, x2, x1].into_iter().enumerate() {
                let left = bits.saturating_sub(index as u64 * width).min(width);
                assert_eq!(u64::from(word.count_ones()), left);
                assert_eq!(u64::from(word.trailing_ones()), left);
            }
            assert_eq!(
                wanted.answer(&mut Dry),
                Results::Four([NO_ENTROPY, 0, 0, 0])
            );
        }
    }
    assert_eq!(
        ask(TRNG_RND32, 0xffff_ffff_0000_0001),
        ask(TRNG_RND32, 1),
        "W1"
    );
    assert_ne!(ask(TRNG_RND64, 1 << 32 | 1), ask(TRNG_RND64, 1));
}

#[test]
fn without_a_seed_and_without_hardware_there_is_nothing() {
    let mut pool = Pool::new(None);
    assert_eq!(pool.draw(|| None), None);
    let mut last = 3;
    let failing = || {
        last -= 1;
        (last > 0).then_some(7)
    };
    assert_eq!(pool.draw(failing), None, "half a key is none");
    assert!(pool.draw(|| Some(7)).is_some());
    assert!(pool.draw(|| None).is_some(), "keyed by now");
}

#[test]
fn hardware_adds_to_a_seed_and_does_not_replace_it() {
    let draw = |seed: u8, fresh: Option<u64>| Pool::new(Some([seed; 32])).draw(|| fresh).unwrap();
    let all: BTreeSet<_> = [
        draw(1, None),
        draw(2, None),
        draw(1, Some(5)),
        draw(2, Some(5)),
        draw(1, Some(6)),
    ]
    .into();
    assert_eq!(all.len(), 5);
}

#[test]
fn no_draw_repeats_and_the_bits_are_even() {
    let mut pool = Pool::new(Some([3; 32]));
    let words: Vec<u64> = (0..2000)
        .flat_map(|_| pool.draw(|| None).unwrap())
        .collect();
    assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
    for bit in 0..64 {
        let ones = words.iter().filter(|word| *word >> bit & 1 == 1).count();
        // 3000 expected, with a standard deviation of 39.
        assert!((2800..3200).contains(&ones), "bit {bit}: {ones}");
    }
}

proptest! {
    #[test]
    fn any_argument_has_an_answer(function in prop::sample::select(&[TRNG_VERSION, TRNG_FEATURES, TRNG_GET_UUID, TRNG_RND32, TRNG_RND64][..]), x1 in any::<u64>()) {
        match ask(function, x1) {
            Request::Return(_) => {}
            Request::Random(wanted) => prop_assert!((1..=192).contains(&wanted.bits)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
