//! A guest that needs what it was promised, beside whoever shares its CPU: a job in every period, which must be done
//! before the next; or, with `greedy`, all that it can get. Under icount, with a counter of 1 GHz, an instruction is a tick.
//!
//! Command line: `run_ms=<n>` (default 500), `period_us=<n>` (10000), `job_us=<n>` of pure work in each (2970), `greedy`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::{gic, println, sys, timer};
use tests_guests::tree;

tests_arch::entry!(main);

/// Instructions of one turn of `sys::turn`.
const TURN: u64 = 2;
/// Turns between two looks at the clock.
const CHUNK: u64 = 5_000;

fn micros(ticks: u64) -> u64 {
    ticks / (sys::cntfrq() / 1_000_000).max(1)
}

/// Sleeps until the counter is there.
fn sleep_until(count: u64) {
    sys::set_cntv_cval(count);
    sys::set_cntv_ctl(1);
    while sys::cntvct() < count {
        sys::wfi();
    }
    timer::disarm();
    let intid = gic::acknowledge();
    if intid < gic::SPURIOUS_FIRST {
        gic::end(intid);
    }
}

/// A job in every period: how many, how many of them late, the longest from its release to its end, and all the work.
fn periodic(run: u64, period: u64, job: u64) -> [u64; 4] {
    let (mut jobs, mut late, mut longest) = (0, 0, 0u64);
    let mut release = sys::cntvct() + period;
    let end = release + run;
    while release < end {
        sleep_until(release);
        sys::turn(job / TURN);
        let took = sys::cntvct().saturating_sub(release);
        longest = longest.max(took);
        late += u64::from(took > period);
        jobs += 1;
        // A late job does not make the next one late as well.
        release += period * took.div_ceil(period).max(1);
    }
    [jobs, late, longest, jobs * job]
}

/// All that there is.
fn greedy(run: u64) -> u64 {
    let end = sys::cntvct() + run;
    let mut work = 0;
    while sys::cntvct() < end {
        sys::turn(CHUNK);
        work += CHUNK * TURN;
    }
    work
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let setting = |key, default| {
        tree::option(line, key)
            .and_then(tree::number)
            .unwrap_or(default)
    };
    let per_us = (sys::cntfrq() / 1_000_000).max(1);
    let run = timer::ticks(setting("run_ms", 500));
    let period = setting("period_us", 10_000) * per_us;
    let job = setting("job_us", 2_970) * per_us;
    gic::init_distributor();
    gic::init_lane();
    let start = sys::cntvct();
    if line.split_whitespace().any(|word| word == "greedy") {
        let work = greedy(run);
        let all = sys::cntvct() - start;
        println!(
            "quiet ok share {} of 100000, work {} us in {} us",
            work * 100_000 / all.max(1),
            micros(work),
            micros(all)
        );
        return 0;
    }
    let [jobs, late, longest, work] = periodic(run, period, job);
    println!(
        "quiet ok late {late} of {jobs} jobs, longest {} us of {} us, work {} us in {} us",
        micros(longest),
        micros(period),
        micros(work),
        micros(sys::cntvct() - start)
    );
    0
}
