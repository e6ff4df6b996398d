//! A lane that fills everything it owns with patterns of its own, gives its CPU away in every way there is, and looks
//! whether all of it is still there. Beside others of its kind on one CPU, whatever a hypervisor forgets to switch is
//! another lane's pattern.
//!
//! Command line: `keeper=<n>` (0 to 7, which patterns), `rounds=<n>` of each life (default 100), `lives=<n>` (2).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::fmt::Arguments;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tests_arch::keep::{self, Frame, REGISTERS, Way};
use tests_arch::{call, gic, keep_points, lane, println, smp, sys, timer};
use tests_guests::pattern::Pattern;
use tests_guests::tree;

tests_arch::entry!(main);

/// CNTP's PPI.
const PHYSICAL_TIMER: u32 = 30;
/// The priority of everything that is to wake a lane, above every mask that the patterns set.
const PRIORITY: u32 = 0x1010_1010;
/// An SGI that the timers preempt, or a `WFI` in its handler would never end (IHI 0069 4.8.6).
const HANDLED: u32 = 7;
/// What its priority, 0x18, makes of the running priority and of ICC_AP1R0_EL1.
const RUNNING: [u64; 2] = [0x18, 1 << 3];
const IDLE: [u64; 2] = [0xff, 0];
/// PSTATE.I.
const IRQ: u64 = 1 << 7;
/// Interrupts of one ping-pong.
const PINGS: u64 = 6;

static KEEPER: AtomicU64 = AtomicU64::new(0);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static LANES: AtomicU64 = AtomicU64::new(1);
/// Where each lane is, so that two can begin a ping-pong together.
static ARRIVED: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// What happened, of all lanes.
static DONE: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
static WAITED: AtomicU64 = AtomicU64::new(0);
static PINGED: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);
static FRESH: AtomicU64 = AtomicU64::new(0);

fn count(counter: &AtomicU64, by: u64) {
    // Lanes may lose a count to each other: these are figures, not checks.
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// One round of one lane: what it wants to find, and what it must not compare.
struct Round {
    lane: usize,
    number: u64,
    label: &'static str,
    way: Way,
    /// The general registers that the way uses.
    used: u32,
    want: Frame,
    /// The bits of each system register that are compared.
    masks: [u64; REGISTERS.len()],
    wrong: u32,
}

impl Round {
    fn set(&mut self, register: usize, value: u64) {
        if let Some(slot) = self.want.system.get_mut(register) {
            *slot = value;
        }
    }

    fn get(&self, register: usize) -> u64 {
        self.want.system.get(register).copied().unwrap_or(0)
    }

    fn compare_bits(&mut self, register: usize, mask: u64) {
        if let Some(slot) = self.masks.get_mut(register) {
            *slot = mask;
        }
    }

    fn use_x<const N: usize>(&mut self, values: [u64; N], used: u32) {
        for (slot, value) in self.want.x.iter_mut().zip(values) {
            *slot = value;
        }
        self.used = used;
    }

    /// A timer that fires so many ticks from now.
    fn arm(&mut self, value: usize, control: usize, ticks: u64) {
        self.set(value, sys::cntvct() + ticks);
        self.set(control, 1);
        self.compare_bits(control, 3);
        self.set(keep::ICC_IGRPEN1_EL1, self.get(keep::ICC_IGRPEN1_EL1) | 1);
    }

    /// Interrupts are taken in the middle of it, by vectors that use what an exception uses.
    fn open(&mut self) {
        self.set(keep::DAIF, self.get(keep::DAIF) & !IRQ);
        self.compare_bits(keep::DAIF, 0x340);
        self.set(keep::ICC_CTLR_EL1, 0);
        self.set(keep::ICC_IGRPEN1_EL1, 1);
        for register in [
            keep::ELR_EL1,
            keep::SPSR_EL1,
            keep::CNTV_CTL_EL0,
            keep::CNTP_CTL_EL0,
        ] {
            self.compare_bits(register, 0);
        }
    }

    fn complain(&mut self, name: Arguments<'_>, want: u64, got: u64) {
        self.wrong += 1;
        if self.wrong <= 4 {
            println!(
                "keeper FAIL lane {} round {} {}: {name} is {got:#x}, not {want:#x}",
                self.lane, self.number, self.label,
            );
        }
    }

    fn compare(&mut self, got: &Frame) {
        let want = self.want;
        for (index, (want, got)) in want.x.iter().zip(&got.x).enumerate() {
            if want != got && self.used >> index & 1 == 0 {
                self.complain(format_args!("X{index}"), *want, *got);
            }
        }
        if want.sp != got.sp {
            self.complain(format_args!("SP_EL1"), want.sp, got.sp);
        }
        for (index, (want, got)) in want.v.iter().zip(&got.v).enumerate() {
            if want != got {
                let half = if index % 2 == 0 { "low" } else { "high" };
                self.complain(format_args!("V{}, {half} half,", index / 2), *want, *got);
            }
        }
        let masks = self.masks;
        let all = want
            .system
            .iter()
            .zip(&got.system)
            .zip(masks)
            .zip(REGISTERS);
        for (((want, got), mask), register) in all {
            if (want ^ got) & mask != 0 {
                self.complain(format_args!("{}", register.name), *want & mask, *got & mask);
            }
        }
    }

    /// Ends the guest if anything was wrong.
    fn judge(&self) {
        if self.wrong != 0 {
            println!("keeper FAIL {} registers", self.wrong);
            call::exit(3);
        }
    }
}

/// A lane through one life.
struct Keeper {
    lane: usize,
    partner: usize,
    /// The bits of each system register that keep what is written to them.
    learnt: [u64; REGISTERS.len()],
    /// What the registers hold that are only read.
    fixed: Frame,
}

/// Everything written as `must`, with all or none of the other bits.
fn extreme(all: bool) -> Frame {
    let mut frame = Frame::ZERO;
    for (slot, register) in frame.system.iter_mut().zip(REGISTERS) {
        *slot = register.must | if all { register.may } else { 0 };
    }
    frame.sp = keep::stack_pointer(0);
    if let Some(vectors) = frame.system.get_mut(keep::VBAR_EL1) {
        *vectors |= keep::vectors();
    }
    frame
}

impl Keeper {
    fn new(lane: usize) -> Self {
        gic::init_lane();
        let frame = gic::redistributor(lane) + 0x1_0000;
        for word in 0..8 {
            let handled = if word == 1 { 0x0800_0000 } else { 0 };
            gic::write32(frame + 0x400 + 4 * word, PRIORITY | handled);
        }
        gic::write32(frame + 0x100, 1 << PHYSICAL_TIMER);
        keep::look_for_optional();
        let partner = if (lane ^ 1) < usize::try_from(LANES.load(Relaxed)).unwrap_or(1) {
            lane ^ 1
        } else {
            lane
        };
        let mut keeper = Self {
            lane,
            partner,
            learnt: [0; REGISTERS.len()],
            fixed: Frame::ZERO,
        };
        keep_points::arm(keeper.place(), KEEPER.load(Relaxed) % 2 == 1);
        // More than once: what another lane has left in between must not look like bits that do not exist.
        for _ in 0..3 {
            let ones = keep::give_away(Way::Nothing, &extreme(true));
            let zeros = keep::give_away(Way::Nothing, &extreme(false));
            let both = ones.system.iter().zip(&zeros.system).zip(REGISTERS);
            for (slot, ((one, zero), register)) in keeper.learnt.iter_mut().zip(both) {
                *slot |= one & !zero & register.may;
            }
            keeper.fixed = zeros;
        }
        keeper
    }

    fn place(&self) -> usize {
        usize::try_from(KEEPER.load(Relaxed) % 8).unwrap_or(0) * 8 + self.lane
    }

    /// Takes whatever is pending, so that what comes next is waited for.
    fn drain() {
        loop {
            let intid = gic::acknowledge();
            if intid >= gic::SPURIOUS_FIRST {
                return;
            }
            gic::end(intid);
        }
    }

    /// Acknowledges this one, and ends whatever comes before it.
    fn take(wanted: u32) {
        loop {
            let intid = gic::acknowledge();
            if intid == wanted {
                return;
            }
            if intid < gic::SPURIOUS_FIRST {
                gic::end(intid);
            }
        }
    }

    /// A round with nothing in it but patterns.
    fn patterns(&self, life: u64, number: u64) -> Round {
        let mut pattern = Pattern::new([KEEPER.load(Relaxed), wide(self.lane), life, number]);
        let mut want = extreme(false);
        want.x = core::array::from_fn(|_| pattern.next());
        want.v = core::array::from_fn(|_| pattern.next());
        want.sp = keep::stack_pointer(pattern.next());
        let mut masks = self.learnt;
        let all = want.system.iter_mut().zip(&mut masks).zip(REGISTERS);
        for (index, ((value, mask), register)) in all.enumerate() {
            *value |= pattern.next() & *mask;
            *mask |= register.must;
            if !keep::is_written(index) {
                *value = self.fixed.system.get(index).copied().unwrap_or(0);
                *mask = u64::MAX;
            }
        }
        Round {
            lane: self.lane,
            number,
            label: "",
            way: Way::Nothing,
            used: 0,
            want,
            masks,
            wrong: 0,
        }
    }

    /// Chooses the way, and what it needs.
    fn prepare(&self, round: &mut Round, kind: u64) {
        let short = timer::ticks(1) / 4 * (1 + round.number % 8);
        let now = sys::cntvct();
        let (virtual_timer, physical_timer) = (
            (keep::CNTV_CVAL_EL0, keep::CNTV_CTL_EL0),
            (keep::CNTP_CVAL_EL0, keep::CNTP_CTL_EL0),
        );
        let to = |sgi: u64, lanes: u64| sgi << 24 | lanes;
        let partner = 1 << self.partner;
        (round.label, round.way) = match kind {
            0 | 9 => ("WFI", Way::Wfi),
            1 => ("WFI, physical timer", Way::Wfi),
            2 | 8 => ("spinning", Way::Spin),
            3 => ("WFE", Way::Wfe),
            4 => ("CPU_SUSPEND", Way::Hvc),
            5 => ("IPIs and WFI", Way::Ping),
            6 => ("IPIs and WFE", Way::Ping),
            _ => ("SGIs", Way::Storm),
        };
        match round.way {
            Way::Wfi | Way::Wfe | Way::Hvc => {
                let (value, control) = if kind == 1 {
                    physical_timer
                } else {
                    virtual_timer
                };
                round.arm(value, control, short);
                if round.way == Way::Hvc {
                    round.use_x([call::id::CPU_SUSPEND, 0], 0b1111);
                }
            }
            Way::Spin => {
                let threshold = timer::ticks(1) / 4;
                round.use_x([0, 0, threshold, now + timer::ticks(30)], 0b111);
            }
            Way::Storm => {
                let sgi = to(1 + round.number % 7, 1 << self.lane | partner);
                let until = now + timer::ticks(1) / 2;
                let x2 = round.want.x.get(2).copied().unwrap_or(0);
                round.use_x([sgi, 0, x2, until], 0b10);
                round.open();
            }
            Way::Ping => {
                let (pongs, timers) = keep::counters();
                let [even, odd] = [0, 1].map(|n| to(u64::from(keep::PING) + n, partner));
                let by_wfe = u64::from(kind == 6);
                round.use_x([even, odd, pongs, timers, PINGS, by_wfe], 0b1100_0011);
                round.arm(virtual_timer.0, virtual_timer.1, timer::ticks(20_000));
                round.open();
            }
            Way::Nothing => {}
        }
    }

    fn meet(&self, at: u64) {
        let (Some(own), Some(other)) = (ARRIVED.get(self.lane), ARRIVED.get(self.partner)) else {
            return;
        };
        own.store(at, Relaxed);
        while other.load(Relaxed) < at {
            sys::wfe();
        }
    }

    fn round(&self, life: u64, number: u64) {
        let kind = number % 10;
        // A handler that has not ended its interrupt loses the CPU too.
        let handles = kind >= 8;
        if number.is_multiple_of(3) && self.partner != self.lane {
            gic::send(self.partner, 8 + u32::try_from(number % 4).unwrap_or(0));
        }
        Self::drain();
        if kind == 5 || kind == 6 {
            // Nobody sends the other one anything from here to the first of the pings.
            self.meet(life * ROUNDS.load(Relaxed) + number + 1);
        }
        if handles {
            gic::send(self.lane, HANDLED);
            Self::take(HANDLED);
        }
        let mut round = self.patterns(life, number);
        self.prepare(&mut round, kind);
        let [rpr, ap1r0] = if handles { RUNNING } else { IDLE };
        if handles {
            // The finest grouping: the other ones take 0x10 and 0x18 for the same.
            round.set(keep::ICC_BPR1_EL1, 3);
        }
        round.set(keep::ICC_RPR_EL1, rpr);
        round.set(keep::ICC_AP1R0_EL1, ap1r0);
        let (before, sgis) = (sys::cntvct(), keep::sgis());
        let got = keep::give_away(round.way, &round.want);
        let ticks = sys::cntvct() - before;
        if handles {
            gic::end(HANDLED);
        }
        round.compare(&got);
        Self::outcome(&mut round, &got, ticks);
        count(&TAKEN, keep::sgis() - sgis);
        let place = 1 << self.place();
        let (breaks, watches) = keep_points::pass();
        for (name, at) in [("breakpoints", breaks), ("watchpoints", watches)] {
            if at != place {
                round.complain(format_args!("{name}, by place,"), place, at);
            }
        }
        round.judge();
        count(&DONE, 1);
    }

    /// What the way itself has to say.
    fn outcome(round: &mut Round, got: &Frame, ticks: u64) {
        let [x0, _, x2, _, _, _, x6, ..] = got.x;
        match round.way {
            Way::Wfi => count(&WAITED, u64::from(ticks >= timer::ticks(1) / 4)),
            Way::Hvc => {
                count(&WAITED, u64::from(ticks >= timer::ticks(1) / 4));
                if x0 != 0 {
                    round.complain(format_args!("the call's answer"), 0, x0);
                }
            }
            Way::Spin => count(&LOST, u64::from(x2 == 0)),
            Way::Ping => {
                count(&PINGED, x6);
                if x6 != PINGS {
                    round.complain(format_args!("the number of answers"), PINGS, x6);
                }
            }
            Way::Nothing | Way::Wfe | Way::Storm => {}
        }
    }

    fn live(&self, life: u64) {
        for number in 0..ROUNDS.load(Relaxed) {
            self.round(life, number);
        }
    }
}

/// A lane's first instruction finds nothing of anybody's.
fn look_at_fresh(lane: usize, life: u64) {
    let mut round = Round {
        lane,
        number: life,
        label: "after CPU_ON",
        way: Way::Nothing,
        used: 0,
        want: Frame::ZERO,
        masks: core::array::from_fn(|number| REGISTERS.get(number).map_or(0, |one| one.may)),
        wrong: 0,
    };
    round.compare_bits(keep::VBAR_EL1, u64::MAX);
    round.set(keep::DAIF, 0x140);
    round.compare(&keep::found_at_entry());
    round.judge();
    count(&FRESH, 1);
}

/// What a sibling does of its life.
fn sibling(life: u64) {
    let lane = lane::number();
    look_at_fresh(lane, life);
    Keeper::new(lane).live(life);
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let setting = |key, default| {
        tree::option(line, key)
            .and_then(tree::number)
            .unwrap_or(default)
    };
    KEEPER.store(setting("keeper", 0), Relaxed);
    ROUNDS.store(setting("rounds", 100), Relaxed);
    gic::init_distributor();
    let lanes = smp::lanes();
    LANES.store(wide(lanes), Relaxed);
    let keeper = Keeper::new(0);
    let bits: u32 = keeper.learnt.iter().map(|mask| mask.count_ones()).sum();
    println!(
        "keeper {} lanes {lanes}, {} registers, {bits} bits",
        KEEPER.load(Relaxed),
        31 + 1 + 32 + REGISTERS.len()
    );
    for life in 0..setting("lives", 2) {
        for other in 1..lanes {
            let status = keep::start(other, sibling, life);
            if status != 0 {
                println!("keeper FAIL CPU_ON of lane {other}: {status:#x}");
                return 4;
            }
        }
        keeper.live(life);
        for other in 1..lanes {
            smp::wait_off(other);
        }
    }
    let [done, lost, waited, pinged, taken, fresh] =
        [&DONE, &LOST, &WAITED, &PINGED, &TAKEN, &FRESH].map(|counter| counter.load(Relaxed));
    println!(
        "keeper ok rounds {done}, lost the CPU {lost}, waited {waited}, pings {pinged}, interrupted {taken}, fresh lives {fresh}"
    );
    0
}
