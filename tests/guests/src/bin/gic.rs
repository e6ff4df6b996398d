//! The interrupt controller under abuse (GIC-03, -05 .. -09, -11 .. -15, TMR-01, TMR-02): storms, more pending than there are list registers,
//! wrong orders, wrong numbers.
//!
//! Command line: `storm=<n>` SGIs in a storm (default 20000); `wrap` also sets a deadline at the end of time, which plus a counter offset wraps: QEMU
//! before 8.2 then fires its own timer for ever and stands still as a whole.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tests_arch::gic::{self, GICD, GICR, GICR_STRIDE};
use tests_arch::probe::{self, Width};
use tests_arch::{lane, println, smp, sys, timer};
use tests_guests::interrupts::{
    ICACTIVER0, ICENABLER0, ICPENDR0, ISACTIVER0, ISENABLER0, ISPENDR0, pend_spi, prepare_spi,
    quiet, set_priority,
};
use tests_guests::score::Score;
use tests_guests::{groups, tree};

tests_arch::entry!(main);

/// GIC-08: 16 SGIs and 16 SPIs pending at once, each with its priority. They come highest priority first, each once, whatever the list registers hold.
fn more_than_list_registers(score: &mut Score) {
    quiet();
    let mut case = score.case("GIC-08");
    let intids: [u32; 32] = core::array::from_fn(|index| {
        let index = u32::try_from(index).unwrap_or(0);
        if index < 16 { index } else { index + 24 }
    });
    // Five bits of priority, all below the mask; the multiplication scatters them.
    let priority = |intid: u32| u64::from(intid * 7 % 29) * 8;
    for intid in intids {
        set_priority(intid, priority(intid));
        if intid < 16 {
            gic::send(0, intid);
        } else {
            prepare_spi(intid);
            pend_spi(intid);
        }
    }
    let mut seen = 0u64;
    let mut last = 0;
    for _ in 0..intids.len() {
        let intid = gic::acknowledge();
        if intid >= gic::SPURIOUS_FIRST {
            break;
        }
        case.check(
            priority(intid) >= last,
            format_args!(
                "{intid} of priority {:#x} came after {last:#x}",
                priority(intid)
            ),
        );
        case.check(seen & 1 << intid == 0, format_args!("{intid} came twice"));
        seen |= 1 << intid;
        last = priority(intid);
        gic::end(intid);
    }
    let missing: u64 = intids
        .iter()
        .filter(|intid| seen & 1 << **intid == 0)
        .count()
        .try_into()
        .unwrap_or(u64::MAX);
    case.check(
        missing == 0,
        format_args!("{missing} interrupts were lost, seen {seen:#x}"),
    );
    let extra = gic::acknowledge();
    case.check(
        extra >= gic::SPURIOUS_FIRST,
        format_args!("{extra} came too much"),
    );
}

/// GIC-08, nested: each preempts the one before; then EOI in the wrong order.
fn wrong_order(score: &mut Score) {
    quiet();
    let mut case = score.case("GIC-08n");
    let mut active = [0u32; 6];
    // Lowest priority first, so that each is higher than what runs.
    for (slot, intid) in active.iter_mut().zip(1u32..) {
        set_priority(intid, u64::from(0xe0 - intid * 0x20));
        gic::send(0, intid);
        *slot = gic::acknowledge();
        case.check(
            *slot == intid,
            format_args!("{intid} did not preempt, {slot} did"),
        );
    }
    for index in [2usize, 0, 5, 1, 4, 3] {
        if let Some(intid) = active.get(index) {
            gic::end(*intid);
        }
    }
    // The wrong order is UNPREDICTABLE for the running priority (IHI 0069 4.8.3): put things right, then all must work.
    quiet();
    for intid in 1..7 {
        gic::send(0, intid);
        let seen = gic::acknowledge();
        case.check(seen == intid, format_args!("afterwards {intid} is {seen}"));
        gic::end(seen);
    }
}

/// GIC-09: ending and deactivating what is not active or not there.
fn stray_ends(score: &mut Score) {
    quiet();
    let mut case = score.case("GIC-09");
    for mode in [0u64, 2] {
        gic::set_ctlr(mode);
        for intid in [
            0u32, 27, 31, 32, 40, 95, 96, 1019, 1020, 1023, 1024, 8191, 8192, 0xff_ffff,
        ] {
            gic::deactivate(intid);
            if mode == 2 || intid >= 1020 {
                gic::end(intid);
            }
        }
    }
    gic::set_ctlr(0);
    quiet();
    gic::send(0, 5);
    let seen = gic::acknowledge();
    gic::end(seen);
    case.check(seen == 5, format_args!("afterwards SGI 5 is {seen}"));
    let after = gic::running_priority();
    case.check(after == 0xff, format_args!("running priority {after:#x}"));
}

/// GIC-10: EOImode 1: dropped is not deactivated.
fn split_end(score: &mut Score) {
    quiet();
    let mut case = score.case("GIC-10");
    gic::set_ctlr(2);
    gic::send(0, 4);
    let first = gic::acknowledge();
    gic::end(first);
    gic::send(0, 4);
    let again = gic::acknowledge();
    case.check(
        first == 4 && again >= gic::SPURIOUS_FIRST,
        format_args!("{first}, then {again} while active"),
    );
    gic::deactivate(4);
    let after = gic::acknowledge();
    case.check(after == 4, format_args!("after DIR: {after}"));
    gic::end(4);
    gic::deactivate(4);
    gic::set_ctlr(0);
}

/// GIC-11: the enable and pending bits and the list registers agree.
fn retraction(score: &mut Score) {
    quiet();
    let mut case = score.case("GIC-11");
    gic::send(0, 6);
    gic::write32(ICENABLER0, 1 << 6);
    let off = gic::acknowledge();
    case.check(
        off >= gic::SPURIOUS_FIRST,
        format_args!("disabled SGI 6 came as {off}"),
    );
    case.check(
        gic::read32(ISPENDR0) & 1 << 6 != 0,
        format_args!("disabling lost the pending bit"),
    );
    gic::write32(ISENABLER0, 1 << 6);
    let on = gic::acknowledge();
    case.check(on == 6, format_args!("enabled again it came as {on}"));
    case.check(
        gic::read32(ISACTIVER0) & 1 << 6 != 0,
        format_args!("SGI 6 is not shown active"),
    );
    gic::send(0, 6);
    case.check(
        gic::read32(ISPENDR0) & 1 << 6 != 0,
        format_args!("SGI 6 is not active and pending"),
    );
    gic::write32(ICPENDR0, 1 << 6);
    gic::end(6);
    let cleared = gic::acknowledge();
    case.check(
        cleared >= gic::SPURIOUS_FIRST,
        format_args!("cleared, it came as {cleared}"),
    );
    prepare_spi(50);
    pend_spi(50);
    gic::write32(GICD + 0x284, 1 << 18);
    let spi = gic::acknowledge();
    case.check(
        spi >= gic::SPURIOUS_FIRST,
        format_args!("cleared SPI came as {spi}"),
    );
}

/// GIC-03, GIC-04: routes to nobody, numbers beyond the last.
fn routes(score: &mut Score) {
    quiet();
    let mut case = score.case("GIC-03");
    for route in [
        7u64,
        0xff,
        0x100,
        0xff_ffff,
        1 << 31,
        0xff_0000_0000,
        u64::MAX,
    ] {
        let _ = probe::write(GICD + 0x6000 + 8 * 41, Width::Double, route);
        gic::write32(GICD + 0x104, 1 << 9);
        pend_spi(41);
        let seen = gic::acknowledge();
        // IRM = 1: any lane, and this one will do.
        case.check(
            seen >= gic::SPURIOUS_FIRST || route & 1 << 31 != 0,
            format_args!("route {route:#x} came here as {seen}"),
        );
        if seen < gic::SPURIOUS_FIRST {
            gic::end(seen);
        }
        gic::write32(GICD + 0x284, 1 << 9);
    }
    prepare_spi(41);
    pend_spi(41);
    let seen = gic::acknowledge();
    case.check(seen == 41, format_args!("routed home it came as {seen}"));
    gic::end(seen);
    drop(case);
    let mut case = score.case("GIC-04");
    // QEMU's own distributor has more lines than it says.
    let first = if tests_arch::console::by_hypercall() {
        32 * (u64::from(gic::read32(GICD + 4) & 0x1f) + 1)
    } else {
        500
    };
    for intid in [first, 500, 1019] {
        for (base, size) in [(0x100u64, 1u64), (0x200, 1), (0xc00, 2)] {
            let address = (GICD + base + intid * size / 8) & !3;
            let outcome = probe::write(address, Width::Word, u64::MAX);
            case.check(
                outcome.is_ok(),
                format_args!("write {address:#x}: {outcome:x?}"),
            );
            let seen = probe::read(address, Width::Word);
            case.check(
                seen == Ok(0),
                format_args!("INTID {intid}, {base:#x}: {seen:x?}"),
            );
        }
    }
}

/// GIC-05: a redistributor behind the last lane's.
fn neighbours(score: &mut Score, lanes: usize) {
    let mut case = score.case("GIC-05");
    for lane in 0..lanes {
        let typer = probe::read(gic::redistributor(lane) + 8, Width::Double);
        let last = lane + 1 == lanes;
        let good = typer.is_ok_and(|value| {
            value >> 32 == u64::try_from(lane).unwrap_or(0) && (value & 0x10 != 0) == last
        });
        case.check(good, format_args!("GICR_TYPER of lane {lane}: {typer:x?}"));
    }
    let past = GICR + GICR_STRIDE * u64::try_from(lanes).unwrap_or(0);
    for offset in [0, 8, 0x14, 0x1_0080, 0x1_0100, 0xffe8] {
        let outcome = probe::read(past + offset, Width::Word);
        case.check(
            outcome.is_err_and(|fault| fault.is_external()),
            format_args!("{:#x}: {outcome:x?}", past + offset),
        );
    }
}

/// GIC-13, -14, -15: the switches, while something is pending.
fn switches(score: &mut Score) {
    quiet();
    let mut case = score.case("GIC-13");
    for round in 0..200u32 {
        gic::send(0, round % 16);
        gic::set_pmr(u64::from((round * 37) & 0xff));
        gic::set_bpr1(u64::from(round & 7));
        gic::set_igrpen1(u64::from(round & 1));
        gic::set_ctlr(u64::from(round.wrapping_mul(0x9e37)));
        gic::set_sre(u64::from(round & 7));
        gic::write32(GICD, round.wrapping_mul(0x55));
        let _ = (gic::highest_pending(), gic::running_priority());
        let seen = gic::acknowledge();
        if seen < gic::SPURIOUS_FIRST {
            gic::end(seen);
            gic::deactivate(seen);
        }
    }
    quiet();
    case.check(
        gic::sre() & 1 == 1,
        format_args!("ICC_SRE_EL1.SRE let itself be cleared"),
    );
    drop(case);
    let mut case = score.case("GIC-15");
    gic::write32(GICD, 0x10);
    prepare_spi(45);
    pend_spi(45);
    let off = gic::acknowledge();
    case.check(
        off >= gic::SPURIOUS_FIRST,
        format_args!("{off} came with the distributor off"),
    );
    gic::write32(GICD, 0x12);
    let on = gic::acknowledge();
    case.check(on == 45, format_args!("with it on again it is {on}"));
    gic::end(on);
}

/// TMR-02: a deadline that is so many ticks from now, or was.
fn signed_deadlines(score: &mut Score) {
    let mut case = score.case("TMR-02");
    // TVAL is signed: -1 is a tick ago. i32::MIN is 2^31 ticks ago, which just after boot wraps into the far future.
    for (value, fires) in [
        (0xffff_ffffu64, Some(true)),
        (0x8000_0000, None),
        (0x7fff_ffff, Some(false)),
    ] {
        quiet();
        let is_old = || sys::cntvct() >= 1 << 31;
        let was_old = is_old();
        sys::set_cntv_tval(value);
        let fires = match fires {
            // In between it came of age: either is right.
            None if was_old != is_old() => continue,
            None => was_old,
            Some(fires) => fires,
        };
        sys::set_cntv_ctl(1);
        let seen = gic::acknowledge();
        case.check(
            (seen == timer::INTID) == fires,
            format_args!("TVAL {value:#x}: {seen}"),
        );
        sys::set_cntv_ctl(0);
        if seen < gic::SPURIOUS_FIRST {
            gic::end(seen);
        }
    }
}

/// GIC-12, TMR-01: the timer's interrupt fires exactly when it should, whatever is done to its bits.
fn timers(score: &mut Score, wrap: bool) {
    let mut case = score.case("TMR-01");
    let now = sys::cntvct();
    for (value, fires) in [
        (0u64, true),
        (now, true),
        (now - 1, true),
        (if wrap { u64::MAX } else { u64::MAX >> 1 }, false),
        (now.wrapping_add(1 << 62), false),
    ] {
        quiet();
        sys::set_cntv_cval(value);
        sys::set_cntv_ctl(1);
        let seen = gic::acknowledge();
        case.check(
            (seen == timer::INTID) == fires,
            format_args!("CVAL {value:#x}: {seen}"),
        );
        sys::set_cntv_ctl(0);
        if seen < gic::SPURIOUS_FIRST {
            gic::end(seen);
        }
    }
    drop(case);
    signed_deadlines(score);
    let mut case = score.case("GIC-12");
    quiet();
    let bit = 1u32 << timer::INTID;
    for register in [ISPENDR0, ISACTIVER0, ICACTIVER0, ICPENDR0] {
        gic::write32(register, bit);
    }
    gic::write32(ISACTIVER0, bit);
    quiet();
    let before = lane::current().irqs();
    lane::current().on_interrupt(silence);
    timer::arm(timer::ticks(1));
    timer::within(1000, || {
        sys::unmask();
        sys::mask();
        lane::current().irqs() != before
    });
    let fired = lane::current().irqs() - before;
    case.check(
        fired == 1,
        format_args!("{fired} timer interrupts after the abuse"),
    );
}

fn silence(_: u32) {
    timer::disarm();
}

static READY: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);

fn count(_: u32) {
    TAKEN.fetch_add(1, SeqCst);
}

/// The lane that takes interrupts (`argument` 1) or never acknowledges (0).
fn receiver(argument: u64) {
    gic::init_lane();
    lane::current().on_interrupt(count);
    READY.store(1, SeqCst);
    while STOP.load(SeqCst) == 0 {
        if argument != 0 {
            sys::unmask();
            sys::mask();
        }
        sys::relax();
    }
    READY.store(0, SeqCst);
}

/// GIC-06, GIC-07: storms at a lane that listens and at one that does not; then one that counts.
fn storms(score: &mut Score, lanes: usize, storm: u64) {
    quiet();
    for (id, listens) in [("GIC-06", 1u64), ("GIC-07", 0)] {
        let mut case = score.case(id);
        if lanes < 2 {
            continue;
        }
        STOP.store(0, SeqCst);
        TAKEN.store(0, SeqCst);
        case.check(
            smp::start(1, receiver, listens) == 0,
            format_args!("lane 1 did not start"),
        );
        while READY.load(SeqCst) == 0 {
            sys::relax();
        }
        let mut noise = sys::cntvct() | 1;
        for round in 0..storm {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            gic::send(1, u32::try_from(round & 15).unwrap_or(0));
            // Every field at random: other clusters, range selectors, all but self.
            gic::send_raw(noise & 0x00ff_f1ff_ffff_fffe);
        }
        let before = TAKEN.load(SeqCst);
        if listens == 1 {
            gic::send(1, 9);
            // The other lane's CPU is another thread of the host, and may have to wait for its turn.
            let heard = timer::within(20_000, || {
                sys::relax();
                TAKEN.load(SeqCst) > before
            });
            case.check(heard, format_args!("lane 1 hears nothing after the storm"));
        } else {
            case.check(
                before == 0,
                format_args!("{before} interrupts at a lane that masks them"),
            );
        }
        STOP.store(1, SeqCst);
        smp::wait_off(1);
        println!("gic: {storm} rounds, lane 1 took {}", TAKEN.load(SeqCst));
    }
    quiet();
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let storm = tree::option(line, "storm")
        .and_then(tree::number)
        .unwrap_or(20_000);
    let lanes = smp::lanes();
    println!("gic: {lanes} lanes");
    let mut score = Score::default();
    gic::init_distributor();
    gic::init_lane();
    more_than_list_registers(&mut score);
    wrong_order(&mut score);
    stray_ends(&mut score);
    split_end(&mut score);
    retraction(&mut score);
    routes(&mut score);
    neighbours(&mut score, lanes);
    switches(&mut score);
    groups::crowded(&mut score);
    timers(&mut score, line.contains("wrap"));
    storms(&mut score, lanes, storm);
    score.finish()
}
