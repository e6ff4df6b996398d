//! Senders at the same time.

use std::sync::Mutex;
use std::thread;
use std::vec::Vec;

use super::lan::{Card, frame, lan, mac, pattern};
use crate::device::Device;

/// Each sends to all others while all others send, and one of them is reset again and again (VIO-20).
#[test]
fn senders_at_each_other_neither_hang_nor_lose_count() {
    let (switch, cards) = lan(4);
    let cards: Vec<Mutex<Card>> = cards.into_iter().map(Mutex::new).collect();
    let rounds = 300;
    thread::scope(|scope| {
        for (at, card) in cards.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut card = card.lock().unwrap();
                    for to in (0..4).filter(|to| *to != at) {
                        let bytes = frame(mac(to), mac(at), 0x88b5, &pattern(60 + round, round));
                        let _ = card.frame(&bytes);
                    }
                    for got in card.frames() {
                        let from = usize::from(got[11]) - 1;
                        let seed = got.len() - 14 - 60;
                        let whole = frame(mac(at), mac(from), 0x88b5, &pattern(60 + seed, seed));
                        assert_eq!(got, whole);
                    }
                    card.refill();
                    if at == 3 && round % 50 == 49 {
                        // What is taken from the port is not touched any more.
                        card.net.reset();
                        let before = card.ram.peek(crate::fake::BASE, 0x1000);
                        thread::yield_now();
                        assert_eq!(card.ram.peek(crate::fake::BASE, 0x1000), before);
                        let new = Card::new(switch, 3, super::lan::PLAIN);
                        *card = new;
                    }
                }
            });
        }
    });
    let mut all = 0;
    for (port, card) in switch.ports().iter().zip(&cards) {
        let got = port.received();
        all += got.frames + got.dropped.iter().sum::<u64>();
        assert!(!card.lock().unwrap().net.is_broken());
    }
    // Frames for the one that was reset may have come when nobody was there to count them.
    let sent: u64 = switch.ports().iter().map(|port| port.sent().frames).sum();
    assert_eq!(sent, 4 * 3 * rounds as u64);
    assert!(all <= sent && all > sent / 2);
}
