use super::*;
use proptest::prelude::*;

const FREQUENCY: u64 = 1000;
const EPOCH: u64 = 1_700_000_000;

/// So many seconds and ticks after the counter was zero.
const fn at(seconds: u64, ticks: u64) -> Moment {
    Moment {
        count: seconds * FREQUENCY + ticks,
        frequency: FREQUENCY,
    }
}

/// Every register of DDI 0224 table 3-1, the test registers of table 4-1 and the identification: what it reads as
/// at reset in second 7, and which bits a store changes for good. What is not here is zero and ignores stores.
const TABLE: [(u64, u32, u32); 19] = [
    (DR, 1_700_000_007, 0),
    (MR, 0, u32::MAX),
    (LR, 0, u32::MAX),
    (CR, 1, 0),
    (IMSC, 0, 1),
    (RIS, 0, 0),
    (MIS, 0, 0),
    (ICR, 0, 0),
    // RTCITCR, RTCITIP, RTCITOP: for integration tests of the silicon, absent.
    (0x080, 0, 0),
    (0x084, 0, 0),
    (0x088, 0, 0),
    (0xfe0, 0x31, 0),
    (0xfe4, 0x10, 0),
    (0xfe8, 0x04, 0),
    (0xfec, 0x00, 0),
    (0xff0, 0x0d, 0),
    (0xff4, 0xf0, 0),
    (0xff8, 0x05, 0),
    (0xffc, 0xb1, 0),
];

const fn part(word: u32, offset: u64, bytes: u32) -> u64 {
    let word = word as u64 >> ((offset & 3) * 8);
    match bytes {
        1 => word & 0xff,
        2 => word & 0xffff,
        _ => word,
    }
}

#[test]
fn s2_15_every_register_reads_and_keeps_what_the_table_says() {
    let now = at(7, 999);
    for offset in 0..0x1008 {
        let row = TABLE.iter().find(|row| row.0 == offset & !3);
        let (reset, mask) = row.map_or((0, 0), |row| (row.1, row.2));
        for bytes in [1, 2, 4, 8] {
            let mut rtc = Pl031::new(EPOCH);
            assert_eq!(rtc.read(offset, bytes, now), part(reset, offset, bytes));
            for pattern in [0, u64::MAX, 0xa5a5_a5a5_a5a5_a5a5] {
                let mut rtc = Pl031::new(EPOCH);
                rtc.write(offset, bytes, pattern, now);
                let taken = bytes >= 4 && offset & 3 == 0;
                let wanted = if taken { low32(pattern) & mask } else { reset };
                let wanted = if mask == 0 { reset } else { wanted };
                let read = rtc.read(offset, bytes, now);
                assert_eq!(
                    read,
                    part(wanted, offset, bytes),
                    "{offset:#x} {bytes} {pattern:#x}"
                );
                if !taken || mask == 0 {
                    assert_eq!(rtc, Pl031::new(EPOCH), "{offset:#x} {bytes}");
                }
            }
        }
    }
}

#[test]
fn identification_is_that_of_a_pl031() {
    let mut rtc = Pl031::new(0);
    let mut id = |base| {
        (0..4u64).fold(0, |id, n| {
            id | rtc.read(base + 4 * n, 1, at(0, 0)) << (8 * n)
        })
    };
    assert_eq!(id(0xfe0), 0x0004_1031);
    assert_eq!(id(0xff0), 0xb105_f00d);
}

#[test]
fn it_counts_whole_seconds_from_the_epoch() {
    let mut rtc = Pl031::new(EPOCH);
    assert_eq!(rtc.read(DR, 4, at(0, 0)), EPOCH);
    assert_eq!(rtc.read(DR, 4, at(0, 999)), EPOCH);
    assert_eq!(rtc.read(DR, 4, at(1, 0)), EPOCH + 1);
    assert_eq!(rtc.read(DR, 4, at(1 << 32, 0)), EPOCH, "32 bits");
    let unknown = Moment {
        count: 1 << 40,
        frequency: 0,
    };
    assert_eq!(rtc.read(DR, 4, unknown), EPOCH, "it stands still");
}

#[test]
fn it_can_be_set_and_forgets_that_at_reset() {
    let mut rtc = Pl031::new(EPOCH);
    rtc.write(LR, 4, 100, at(50, 1));
    assert_eq!(rtc.read(DR, 4, at(50, 999)), 100);
    assert_eq!(rtc.read(DR, 4, at(60, 0)), 110);
    assert_eq!(rtc.read(LR, 4, at(60, 0)), 100);
    rtc.write(LR, 4, 0xffff_ffff, at(70, 0));
    assert_eq!(rtc.read(DR, 4, at(71, 0)), 0);
    rtc.write(IMSC, 4, 1, at(71, 0));
    rtc.reset();
    assert_eq!(rtc, Pl031::new(EPOCH));
}

#[test]
fn the_alarm_goes_off_once_at_its_second() {
    let mut rtc = Pl031::new(EPOCH);
    rtc.write(MR, 4, EPOCH + 10, at(4, 5));
    assert_eq!(rtc.alarm(FREQUENCY), None, "masked");
    rtc.write(IMSC, 4, 1, at(4, 6));
    assert_eq!(rtc.alarm(FREQUENCY), Some(10 * FREQUENCY));
    rtc.advance(at(9, 999));
    assert!(!rtc.line());
    rtc.advance(at(10, 0));
    assert!(rtc.line());
    assert_eq!(rtc.alarm(FREQUENCY), None, "the line is up");
    assert_eq!(
        (
            rtc.read(RIS, 4, at(10, 0)),
            rtc.read(MIS, 4, at(10, 0)),
            rtc.read(ICR, 4, at(10, 0))
        ),
        (1, 1, 0)
    );
    rtc.write(ICR, 4, 0, at(10, 1));
    assert!(rtc.line(), "a zero clears nothing");
    rtc.write(ICR, 4, 1, at(10, 1));
    assert!(!rtc.line(), "also in the same second");
    rtc.advance(at(11, 0));
    assert!(!rtc.line());
    let next = 10 + TURN;
    assert_eq!(rtc.alarm(FREQUENCY), Some(next * FREQUENCY));
    rtc.advance(at(next + 3 * TURN, 0));
    assert!(rtc.line());
    rtc.write(ICR, 4, 1, at(next + 3 * TURN, 0));
    assert_eq!(rtc.alarm(FREQUENCY), Some((next + 4 * TURN) * FREQUENCY));
}

#[test]
fn the_mask_only_hides() {
    let mut rtc = Pl031::new(0);
    rtc.write(MR, 4, 5, at(0, 0));
    assert_eq!(rtc.read(RIS, 4, at(5, 0)), 1);
    assert_eq!(rtc.read(MIS, 4, at(5, 0)), 0);
    assert!(!rtc.line());
    rtc.write(IMSC, 4, 1, at(6, 0));
    assert!(rtc.line());
    rtc.write(IMSC, 4, 0xffff_fffe, at(6, 0));
    assert!(!rtc.line());
}

#[test]
fn a_match_that_is_now_is_at_once_and_one_in_the_past_is_far_away() {
    let mut rtc = Pl031::new(EPOCH);
    assert!(rtc.alarm(FREQUENCY).is_none());
    rtc.write(IMSC, 4, 1, at(0, 0));
    assert_eq!(rtc.alarm(FREQUENCY), None, "nobody has set one");
    rtc.write(MR, 4, EPOCH + 3, at(3, 500));
    assert!(rtc.line());
    rtc.write(ICR, 4, 1, at(3, 500));
    rtc.write(MR, 4, EPOCH + 2, at(3, 500));
    assert!(!rtc.line());
    assert_eq!(rtc.alarm(FREQUENCY), Some((TURN + 2) * FREQUENCY));
    // Setting the clock moves the alarm.
    rtc.write(LR, 4, EPOCH, at(4, 0));
    assert_eq!(rtc.alarm(FREQUENCY), Some(6 * FREQUENCY));
    rtc.write(LR, 4, EPOCH + 2, at(5, 0));
    assert!(rtc.line());
    // Beyond the counter's end there is no alarm.
    rtc.write(ICR, 4, 1, at(5, 0));
    assert_eq!(rtc.alarm(u64::MAX / 2), None);
    assert_eq!(rtc.alarm(0), None);
}

proptest! {
    /// Against a clock that is looked at in every second.
    #[test]
    fn alarms_are_those_of_a_comparator(
        steps in proptest::collection::vec((0u64..6, 0u64..8, 0u64..30), 0..60)
    ) {
        let mut rtc = Pl031::new(0);
        let (mut second, mut shift, mut matching, mut raised, mut unmasked) = (0u64, 0u64, None, false, false);
        for (register, wait, value) in steps {
            for _ in 0..wait {
                second += 1;
                raised |= matching == Some(second + shift);
            }
            // The line rises at the alarm's moment and not before.
            if let Some(alarm) = rtc.alarm(FREQUENCY) {
                prop_assert_eq!(alarm <= second * FREQUENCY, raised);
            }
            let now = at(second, 3);
            match register {
                0 => {
                    rtc.write(MR, 4, value, now);
                    matching = Some(value);
                    raised |= value == second + shift;
                }
                1 => {
                    // Only forward, for the model's sake.
                    shift += value;
                    rtc.write(LR, 4, second + shift, now);
                    matching = matching.or(Some(0));
                    raised |= matching == Some(second + shift);
                }
                2 => {
                    rtc.write(IMSC, 4, value, now);
                    unmasked = value & 1 != 0;
                }
                3 => {
                    rtc.write(ICR, 4, value, now);
                    raised &= value & 1 == 0;
                }
                _ => {}
            }
            prop_assert_eq!(rtc.read(DR, 4, now), second + shift);
            prop_assert_eq!(rtc.read(RIS, 4, now) != 0, raised);
            prop_assert_eq!(rtc.line(), raised && unmasked);
        }
    }
}
