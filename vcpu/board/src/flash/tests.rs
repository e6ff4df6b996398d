use super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const BLOCK_BYTES: u64 = 4 * BLOCK as u64;

fn flash() -> Flash {
    Flash::new(vec![u32::MAX; VARIABLES_WORDS].leak())
}

/// A command, as drivers give it: to both chips.
fn command(flash: &mut Flash, at: u64, command: u32) {
    flash.write(at, 4, u64::from(command << 16 | command));
}

fn status(flash: &mut Flash, at: u64) -> u64 {
    command(flash, at, 0x70);
    flash.read(at, 4)
}

/// Programs one word, as a driver does.
fn program(flash: &mut Flash, at: u64, value: u32) {
    command(flash, at, 0x40);
    flash.write(at, 4, u64::from(value));
    assert_eq!(status(flash, at), 0x0080_0080);
    command(flash, 0, 0xff);
}

/// Programs words by way of the buffer.
fn program_buffer(flash: &mut Flash, at: u64, values: &[u32]) {
    let count = u32::try_from(values.len()).unwrap() - 1;
    // Some drivers name the block, as the data sheet does, and some the first word.
    let named = if count.is_multiple_of(2) {
        at / BLOCK_BYTES * BLOCK_BYTES
    } else {
        at
    };
    command(flash, named, 0xe8);
    assert_eq!(flash.read(at, 4), 0x0080_0080, "the buffer is free");
    command(flash, named, count);
    for (n, value) in (0..).zip(values) {
        flash.write(at + 4 * n, 4, u64::from(*value));
    }
    command(flash, named, 0xd0);
    assert_eq!(status(flash, at), 0x0080_0080);
    command(flash, 0, 0xff);
}

/// Erases the block that `at` is in. How often it was asked whether that is over.
fn erase(flash: &mut Flash, at: u64) -> usize {
    command(flash, at, 0x20);
    command(flash, at, 0xd0);
    let polls = (1..1000).find(|_| flash.read(at, 4) & 0x0080_0080 != 0);
    assert_eq!(status(flash, at), 0x0080_0080);
    command(flash, 0, 0xff);
    polls.unwrap()
}

fn bytes(flash: &mut Flash, at: u64, count: u64) -> Vec<u8> {
    (at..at + count)
        .map(|at| u8::try_from(flash.read(at, 1)).unwrap())
        .collect()
}

#[test]
fn a_driver_finds_two_chips_with_intel_s_commands_and_the_size_that_there_is() {
    let mut flash = flash();
    command(&mut flash, 0x55 * 4, 0x98);
    let mut query = |entry: u64| {
        let word = flash.read(4 * entry, 4);
        assert_eq!(word >> 16, word & 0xffff, "both chips");
        u32::try_from(word & 0xffff).unwrap()
    };
    let text: Vec<u32> = (0x10..0x13).map(&mut query).collect();
    assert_eq!(text, [u32::from(b'Q'), u32::from(b'R'), u32::from(b'Y')]);
    assert_eq!((query(0x13), query(0x14)), (1, 0), "Intel");
    let primary = u64::from(query(0x15));
    let text: Vec<u32> = (primary..primary + 3).map(&mut query).collect();
    assert_eq!(text, [u32::from(b'P'), u32::from(b'R'), u32::from(b'I')]);
    let chip = 1 << query(0x27);
    assert_eq!(2 * chip, VARIABLES_SIZE);
    assert_eq!(2 << query(0x2a), 4 * BUFFER, "the buffer");
    assert_eq!(query(0x2c), 1, "one kind of blocks");
    let blocks = u64::from(query(0x2d) | query(0x2e) << 8) + 1;
    let block = 256 * u64::from(query(0x2f) | query(0x30) << 8);
    assert_eq!((blocks * block, 2 * block), (chip, BLOCK_BYTES));
    for entry in (0..0x10).chain(0x40..0x200) {
        assert_eq!(query(entry), 0);
    }
}

#[test]
fn chips_say_who_they_are_and_that_nothing_is_locked() {
    let mut flash = flash();
    command(&mut flash, 0, 0x90);
    for block in (0..4).map(|block| block * BLOCK_BYTES) {
        assert_eq!(flash.read(block, 4), 0x0089_0089);
        assert_eq!(flash.read(block + 4, 4), 0x0018_0018);
        assert_eq!(flash.read(block + 8, 4), 0);
    }
    for second in [0x01, 0xd0, 0x2f, 0x03] {
        command(&mut flash, 0, 0x60);
        command(&mut flash, 0, second);
        assert_eq!(flash.read(0, 4), 0x0080_0080, "{second:#x}");
    }
}

#[test]
fn an_erasure_goes_on_by_pieces_while_it_is_asked_for() {
    let mut flash = flash();
    for at in [0, BLOCK_BYTES - 4, BLOCK_BYTES, VARIABLES_SIZE - 4] {
        program(&mut flash, at, 0);
    }
    assert_eq!(erase(&mut flash, 0x1234), BLOCK / PIECE + 1);
    assert_eq!(flash.read(0, 8), u64::MAX);
    assert_eq!(flash.read(BLOCK_BYTES - 4, 4), 0xffff_ffff);
    assert_eq!(flash.read(BLOCK_BYTES, 4), 0, "the next block stays");
    erase(&mut flash, VARIABLES_SIZE - 4);
    assert_eq!(flash.read(VARIABLES_SIZE - 4, 4), 0xffff_ffff);
    // Commands while it is busy are lost, but bring it on.
    command(&mut flash, 0, 0x20);
    command(&mut flash, 0, 0xd0);
    for _ in 0..BLOCK / PIECE {
        command(&mut flash, 0, 0xff);
    }
    assert_eq!(flash.read(0, 4), 0x0080_0080);
}

#[test]
fn wrong_sequences_are_told_and_do_nothing() {
    let errors = 0x00b0_00b0;
    let mut flash = flash();
    program(&mut flash, 0x40, 0);
    let sequences: [&[(u64, u32)]; 5] = [
        &[(0, 0x20), (0, 0xff)],
        &[(0, 0x60), (0, 0xff)],
        &[(0, 0xe8), (0, 32)],
        &[(0, 0xe8), (0, 1), (0x200, 0), (0x280, 0)],
        &[(0, 0xe8), (0, 0), (0, 0), (0, 0xff)],
    ];
    for sequence in sequences {
        for (at, value) in sequence {
            command(&mut flash, *at, *value);
        }
        assert_eq!(flash.read(0, 4), errors, "{sequence:?}");
        assert_eq!(status(&mut flash, 0), errors, "until they are cleared");
        command(&mut flash, 0, 0x50);
        assert_eq!(flash.read(0, 4), 0x0080_0080);
        command(&mut flash, 0, 0xff);
        assert_eq!(flash.read(0, 4), 0xffff_ffff);
        assert_eq!(flash.read(0x40, 4), 0);
    }
}

/// U-Boot takes the two chips for one: it gives commands and data in halves.
#[test]
fn half_words_are_programmed_as_they_come() {
    let mut flash = flash();
    for command in [0x20, 0xd0] {
        flash.write(0x2_0000, 2, command);
    }
    while flash.read(0x2_0000, 2) & 0x80 == 0 {}
    let mut expected = Vec::new();
    for command in [0xe8, 31] {
        flash.write(0x2_0000, 2, command);
    }
    for n in 0..32u16 {
        let value = n * 0x0801;
        flash.write(0x2_0440 + 2 * u64::from(n), 2, u64::from(value));
        expected.extend(value.to_le_bytes());
    }
    flash.write(0x2_0000, 2, 0xd0);
    assert_eq!(flash.read(0x2_0002, 2), 0x80);
    flash.write(0x2_0000, 2, 0xff);
    assert_eq!(bytes(&mut flash, 0x2_0440, 64), expected);
    assert_eq!(flash.read(0x2_0438, 8), u64::MAX);
    assert_eq!(flash.read(0x2_0480, 8), u64::MAX);
}

#[test]
fn what_is_behind_the_end_is_erased_for_ever() {
    let mut flash = flash();
    for at in [VARIABLES_SIZE, 0x03ff_fffc, u64::MAX - 3] {
        program(&mut flash, at, 0);
        erase(&mut flash, at);
        program_buffer(&mut flash, at & !127, &[0; BUFFER]);
        assert_eq!(flash.read(at, 4), 0xffff_ffff);
    }
    let mut none = Flash::new(&mut []);
    program(&mut none, 0, 0);
    erase(&mut none, 0);
    assert_eq!(none.read(0, 8), u64::MAX);
}

#[test]
fn a_reset_forgets_the_command_and_keeps_the_contents() {
    let mut flash = flash();
    program(&mut flash, 8, 0x1234_5678);
    command(&mut flash, 0, 0x60);
    command(&mut flash, 0, 0xff);
    flash.reset();
    assert_eq!(flash.read(8, 4), 0x1234_5678);
    assert_eq!(status(&mut flash, 0), 0x0080_0080);
}

/// What a driver does.
#[derive(Clone, Debug)]
enum Work {
    Program(u64, u32),
    Buffer(u64, Vec<u32>),
    Erase(u64),
    /// A store of so many bytes that are programmed.
    Narrow(u64, u32, u64),
}

fn work() -> impl Strategy<Value = Work> {
    // Few places, so that they meet.
    let at = prop_oneof![0u64..0x200, BLOCK_BYTES - 0x100..BLOCK_BYTES + 0x100];
    prop_oneof![
        4 => (at.clone(), any::<u32>()).prop_map(|(at, value)| Work::Program(at & !3, value)),
        4 => (at.clone(), 0..32usize, prop::collection::vec(any::<u32>(), 32)).prop_map(|(at, skip, mut values)| {
            values.truncate(32 - skip);
            Work::Buffer((at & !127) + 4 * skip as u64, values)
        }),
        1 => at.clone().prop_map(|at| Work::Erase(at & !3)),
        3 => (at, 0..4u32, any::<u64>()).prop_map(|(at, width, value)| Work::Narrow(at, 1 << width, value)),
    ]
}

proptest! {
    /// The naive model: bytes, of which programming clears bits.
    #[test]
    fn a_driver_s_work_is_what_it_says(works in prop::collection::vec(work(), 1..40)) {
        let mut flash = flash();
        let mut model = vec![0xff_u8; 8 * BLOCK];
        let clear = |model: &mut Vec<u8>, at: u64, bytes: &[u8]| {
            for (place, byte) in model.iter_mut().skip(usize::try_from(at).unwrap()).zip(bytes) {
                *place &= byte;
            }
        };
        for work in works {
            match work {
                Work::Program(at, value) => {
                    program(&mut flash, at, value);
                    clear(&mut model, at, &value.to_le_bytes());
                }
                Work::Buffer(at, values) => {
                    program_buffer(&mut flash, at, &values);
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    clear(&mut model, at, &bytes);
                }
                Work::Erase(at) => {
                    erase(&mut flash, at);
                    let block = usize::try_from(at / BLOCK_BYTES * BLOCK_BYTES).unwrap();
                    model[block..][..4 * BLOCK].fill(0xff);
                }
                Work::Narrow(at, width, value) => {
                    let at = at & !u64::from(width - 1);
                    command(&mut flash, at, 0x40);
                    if width == 8 {
                        // Two stores of 32 bits: the first is programmed, and the second is what it happens to be.
                        flash.write(at, 8, value & 0xffff_ffff | 0x00ff_00ff << 32);
                    } else {
                        flash.write(at, width, value);
                        command(&mut flash, 0, 0xff);
                    }
                    clear(&mut model, at, &value.to_le_bytes()[..width.min(4) as usize]);
                }
            }
        }
        for at in (0..0x400).chain(BLOCK_BYTES - 0x400..BLOCK_BYTES + 0x400) {
            prop_assert_eq!(flash.read(at, 1), u64::from(model[usize::try_from(at).unwrap()]));
        }
        // Every width reads the same bytes.
        for (width, at) in [(2, 0x10), (4, 0x20), (8, 0x40), (8, BLOCK_BYTES - 8)] {
            let seen = flash.read(at, width).to_le_bytes();
            prop_assert_eq!(&seen[..width as usize], &bytes(&mut flash, at, u64::from(width))[..]);
        }
    }

    /// Whatever a guest does: contents only lose bits, but for blocks that are erased whole; loads change nothing.
    #[test]
    fn nothing_but_an_erasure_sets_a_bit(
        stores in prop::collection::vec((0u64..0x100, 0..4u32, prop_oneof![
            prop::sample::select(vec![0x20u64, 0xd0, 0x40, 0xe8, 0x60, 0x70, 0x50, 0xff, 0x90, 0x98, 0x01]), any::<u64>()
        ], any::<bool>()), 0..200),
    ) {
        let mut flash = flash();
        flash.words[..0x40].fill(0x5a5a_5a5a);
        for (at, width, value, load) in stores {
            let before = flash.words[..0x40].to_vec();
            let erasing = |flash: &Flash| matches!(flash.state, State::Erasing(..));
            let busy = erasing(&flash);
            if load {
                flash.read(at, 1 << width);
            } else {
                flash.write(at, 1 << width, value);
            }
            let after = &flash.words[..0x40];
            let only_loses = before.iter().zip(after).all(|(before, after)| before & after == *after);
            let erased = after.iter().all(|word| *word == u32::MAX);
            // A store of 64 bits may begin an erasure and bring it on.
            prop_assert!(only_loses || (busy || erasing(&flash)) && erased);
            prop_assert!(!load || busy || before == after);
        }
    }
}
