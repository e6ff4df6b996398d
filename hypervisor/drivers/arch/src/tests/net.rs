//! The network card.

use proptest::prelude::*;
use virtio_drivers::transport::{DeviceStatus, DeviceType};

use super::fake::{Fake, Memory, PAGES};
use crate::Refusal;
use crate::net::{LEAST, MOST, Net, RECEIVED, SENT};

type Driver = Net<Memory, Fake>;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

fn open() -> (Fake, Driver) {
    let fake = Fake::new(DeviceType::Network, u64::MAX, &MAC);
    let net = Net::open(fake.clone()).unwrap();
    (fake, net)
}

fn refusal(change: impl FnOnce(&mut super::fake::State)) -> Option<Refusal> {
    let fake = Fake::new(DeviceType::Network, 1 << 5, &MAC);
    Driver::open(fake.change(change).clone()).err()
}

/// The device receives a frame: what is before it and how long it is it may lie about.
fn arrive(fake: &Fake, bytes: &[u8], written: u32) -> bool {
    let Some((head, parts)) = fake.pop(0) else {
        return false;
    };
    assert_eq!((parts.len(), parts[0].len), (1, 2048));
    parts[0].write(bytes);
    fake.push(0, head.into(), written);
    true
}

fn frame(len: usize, byte: u8) -> Vec<u8> {
    let mut bytes = vec![0xee; 12];
    bytes.resize(12 + len, byte);
    bytes
}

fn next(net: &mut Driver) -> Option<Vec<u8>> {
    let mut seen = None;
    net.receive(|frame| seen = Some(frame.to_vec()))
        .then_some(seen.unwrap_or_default())
}

#[test]
fn what_cannot_be_driven_is_refused() {
    assert_eq!(refusal(|_| ()), None);
    let other = |state: &mut super::fake::State| state.kind = DeviceType::Block;
    assert_eq!(refusal(other), Some(Refusal::OtherDevice));
    assert_eq!(refusal(|s| s.features = 1 << 5), Some(Refusal::Features));
    assert_eq!(refusal(|s| s.most = 255), Some(Refusal::Queue));
    assert_eq!(refusal(|s| s.config.truncate(5)), Some(Refusal::Config));
    assert_eq!(refusal(|s| s.step = 1), Some(Refusal::Config));
    PAGES.set(Driver::PAGES);
    assert_eq!(refusal(|_| ()), None);
    PAGES.set(Driver::PAGES - 1);
    assert_eq!(refusal(|_| ()), Some(Refusal::Memory));
    PAGES.set(usize::MAX);
}

#[test]
fn a_card_has_an_address_or_none_and_no_offloads() {
    let (fake, net) = open();
    assert_eq!(fake.0.borrow().agreed, 1 << 32 | 1 << 5);
    assert!(fake.0.borrow().status.contains(DeviceStatus::DRIVER_OK));
    assert_eq!(net.mac(), Some(MAC));
    assert!(fake.is_muted(1) && !fake.is_muted(0));
    let none = Fake::new(DeviceType::Network, 0, &[]);
    assert_eq!(Driver::open(none).unwrap().mac(), None);
}

#[test]
fn frames_arrive_in_order_and_buffers_go_back() {
    let (fake, mut net) = open();
    assert_eq!(next(&mut net), None);
    for round in 0..100_u8 {
        let count = RECEIVED - usize::from(round) % RECEIVED;
        for n in 0..count {
            let bytes = frame(LEAST + n + usize::from(round), round);
            let written = u32::try_from(bytes.len()).unwrap();
            assert!(arrive(&fake, &bytes, written));
        }
        net.quiet();
        for n in 0..count {
            let len = LEAST + n + usize::from(round);
            assert_eq!(next(&mut net), Some(vec![round; len]));
        }
        assert_eq!(next(&mut net), None);
    }
    net.mute(true);
    assert!(fake.is_muted(0));
    net.mute(false);
    assert!(!fake.is_muted(0));
    assert!((0..RECEIVED).all(|_| arrive(&fake, &[], 12)));
    assert!(!arrive(&fake, &[], 12));
}

#[test]
fn what_is_too_short_is_no_frame_and_what_is_too_long_a_lie() {
    for written in [0, 1, 11, 12, 25] {
        let (fake, mut net) = open();
        arrive(&fake, &frame(20, 1), written);
        assert!(net.receive(|_| panic!("no frame")) && !net.is_broken());
    }
    let (fake, mut net) = open();
    arrive(&fake, &frame(MOST, 1), 2048);
    assert_eq!(next(&mut net), Some(vec![1; MOST]));
    for written in [2049, 4096, u32::MAX] {
        let (fake, mut net) = open();
        let resets = fake.0.borrow().resets;
        arrive(&fake, &frame(20, 1), written);
        assert!(net.receive(|_| panic!("no frame")) && net.is_broken());
        assert!(fake.0.borrow().resets > resets);
        assert!(!net.receive(|_| panic!("no frame")));
        assert!(!net.transmit(LEAST, |_| true));
    }
}

#[test]
fn frames_leave_as_they_were_written() {
    let (fake, mut net) = open();
    for round in 0..100_u8 {
        let len = LEAST + 20 * usize::from(round);
        let wrote = net.transmit(len, |frame| {
            assert_eq!(frame.len(), len);
            frame.fill(round);
            true
        });
        assert_eq!(wrote, len <= MOST);
        assert_eq!(fake.0.borrow().notified[1], round.into());
        net.flush();
        net.flush();
        assert_eq!(fake.0.borrow().notified[1], u32::from(round) + 1);
        let (head, parts) = fake.pop(1).expect("it is on its way");
        let mut wanted = vec![0; 12];
        wanted.resize(12 + len, round);
        assert_eq!((parts.len(), parts[0].read()), (1, wanted));
        fake.push(1, head.into(), 0);
    }
    let before = fake.0.borrow().notified[1];
    for len in [0, LEAST - 1, MOST + 1, usize::MAX] {
        assert!(!net.transmit(len, |_| panic!("no such frame")));
    }
    assert!(!net.transmit(LEAST, |_| false));
    net.flush();
    assert!(fake.pop(1).is_none() && fake.0.borrow().notified[1] == before);
}

#[test]
fn a_card_that_does_not_send_costs_frames_and_nothing_else() {
    let (fake, mut net) = open();
    for _ in 0..SENT {
        assert!(net.transmit(LEAST, |_| true));
    }
    assert!(!net.transmit(LEAST, |_| panic!("no room")));
    // It is told all the same: nobody else would have it send them.
    assert_eq!(fake.0.borrow().notified[1], 1);
    let (head, _) = fake.pop(1).unwrap();
    fake.push(1, head.into(), 0);
    assert!(net.transmit(MOST, |_| true));
    assert!(!net.transmit(LEAST, |_| panic!("no room")) && !net.is_broken());
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(u32),
    Send(usize),
    Sent,
    Look,
    Lie(usize, u32, u32),
    Jump(usize, u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2100_u32).prop_map(Step::Arrive),
        4 => (0..2100_usize).prop_map(Step::Send),
        4 => Just(Step::Sent),
        4 => Just(Step::Look),
        1 => (0..2_usize, 0..300_u32, any::<u32>()).prop_map(|(q, id, len)| Step::Lie(q, id, len)),
        1 => (0..2_usize, any::<u16>()).prop_map(|(q, used)| Step::Jump(q, used)),
    ]
}

proptest! {
    #[test]
    fn no_lie_of_a_card_is_a_panic(steps in prop::collection::vec(step(), 1..200)) {
        let (fake, mut net) = open();
        for step in steps {
            let alive = fake.0.borrow().rings[0].size != 0;
            match step {
                Step::Arrive(written) if alive => {
                    arrive(&fake, &[], written);
                }
                Step::Send(len) => {
                    net.transmit(len, |frame| frame.len() == len);
                }
                Step::Sent if alive => {
                    if let Some((head, _)) = fake.pop(1) {
                        fake.push(1, head.into(), 0);
                    }
                }
                Step::Lie(queue, id, len) if alive => fake.push(queue, id, len),
                Step::Jump(queue, used) if alive => fake.set_used(queue, used),
                Step::Look => {
                    net.quiet();
                    let mut most = 0..=RECEIVED;
                    while most.next().is_some() && net.receive(|frame| assert!(frame.len() <= MOST)) {}
                }
                Step::Arrive(_) | Step::Sent | Step::Lie(..) | Step::Jump(..) => {}
            }
        }
    }
}
