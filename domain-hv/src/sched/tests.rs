//! The scheduler against itself, against promises, and against a textbook.

mod jobs;
mod reference;
mod world;

use super::*;

const T: u64 = 10_000;

fn lane(budget: u64) -> Server {
    Server {
        budget,
        period: T,
        priority: 0,
    }
}

#[test]
fn two_spinning_lanes_get_what_they_were_promised_and_share_the_rest() {
    let mut cpu = Scheduler::new();
    let a = cpu.add(lane(2000)).unwrap();
    let b = cpu.add(lane(3000)).unwrap();
    let mut now = 77;
    cpu.wake(a, now);
    assert_eq!(
        cpu.decide(now),
        Decision {
            run: Some(a),
            until: None
        }
    );
    now += 100 * T;
    cpu.wake(b, now);
    let start = cpu.ran(a);
    let end = now + 100 * T;
    while now < end {
        let decision = cpu.decide(now);
        now = decision.until.unwrap().min(end);
    }
    cpu.settle(now);
    assert_eq!(cpu.ran(a) - start + cpu.ran(b), 100 * T);
    assert!(cpu.ran(b).abs_diff(55 * T) < T, "{}", cpu.ran(b));
}
