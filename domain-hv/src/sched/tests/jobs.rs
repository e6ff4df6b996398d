//! A million jobs, each decision compared with the textbook.

use std::println;
use std::time::Instant;

use super::world::{Figures, World};

/// The figures that the documents quote: `cargo test -p domain-hv a_million_jobs -- --nocapture`.
#[test]
fn a_million_jobs_are_scheduled_by_the_book_and_none_is_late() {
    let began = Instant::now();
    let mut all = Figures::default();
    let mut sets = 0u64;
    while all.jobs < 1_000_000 {
        let mut world = World::new(sets, sets << 40, true);
        world.yields = sets.is_multiple_of(4);
        world.superfluous = sets.is_multiple_of(5).then_some(3);
        world.populate(1 + sets % 12);
        let end = world.now + 4_000_000;
        world.run_until(end);
        all.add(&world.figures);
        sets += 1;
    }
    println!(
        "{} jobs of {sets} task sets, {} decisions: {} deadlines missed, least slack {} ticks, {:.1} s",
        all.jobs,
        all.decisions,
        all.misses,
        all.least_slack.unwrap(),
        began.elapsed().as_secs_f32()
    );
    assert_eq!(all.misses, 0);
}
