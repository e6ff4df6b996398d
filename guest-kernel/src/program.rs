//! The built-in program: says hello, checks the machine, ends as it was told to.

mod report;

use crate::last_words::leave;
use crate::ports::Port;
use crate::shared::{LANES, Shared};
use crate::virtio;
use arrayvec::ArrayVec;
use dustlib_k_abi::{ExitCode, version};
use guest_kernel_arch::probe::Window;
use guest_kernel_arch::virtio::Slot;
use guest_kernel_arch::{cpu, gic, misdeeds, power, say, timer, xdv};
use guest_kernel_core::addr::GuestPhys;
use guest_kernel_core::check::Failure;
use guest_kernel_core::machine::MAX_VIRTIO;
use guest_kernel_core::options::{Ending, Level};
use guest_kernel_core::pattern::Pass;
use guest_kernel_core::smp::Phase;
use guest_kernel_core::{ipi, isolation, tick};
use report::{counted, mebibytes};

/// The slots of virtio devices that are to be checked.
pub type Slots = ArrayVec<Slot, MAX_VIRTIO>;

/// How long all lanes together may take for a part. Only a broken machine needs so long.
const PHASE_PATIENCE_MS: u64 = 300_000;
/// How often a lane with nothing to do looks whether the next part has begun.
const LOOK_MS: u64 = 1;

/// The first lane's way through the program.
pub fn first_lane(shared: &'static Shared, mut window: Window, mut slots: Slots) -> ! {
    hello(shared);
    let result = match shared.options.level {
        Level::None => {
            delay(shared);
            Ok(())
        }
        Level::Quick | Level::Full => self_check(shared, &mut window),
    };
    if let Err(failure) = result.and_then(|()| virtio::check(shared, &mut slots)) {
        say!("self-check: {} FAILED: {failure}", failure.check());
        leave(failure.exit_code());
    }
    end(shared.options.ending)
}

fn hello(shared: &Shared) {
    let machine = &shared.machine;
    let lanes = counted(shared.lanes(), "lane");
    let memory = mebibytes(machine.memory_bytes());
    match xdv::version() {
        Some(found) if !found.satisfies(version::CURRENT) => {
            let wanted = version::CURRENT;
            crate::last_words::refuse(format_args!("XDV speaks ABI {found}, not {wanted}"));
        }
        Some(found) => say!(
            "hello from {}: XDV ABI {found}, {lanes}, {memory}",
            machine.name
        ),
        None => say!(
            "hello from {}: no XDV underneath, {lanes}, {memory}",
            machine.name
        ),
    }
    if machine.cpus_left_out > 0 {
        say!(
            "note: {} not used",
            counted(machine.cpus_left_out, "more CPU")
        );
    }
    if let Some(word) = shared.options.unknown {
        say!("note: '{word}' on the command line means nothing here");
    }
}

fn end(ending: Ending) -> ! {
    match ending {
        Ending::Exit(code) => leave(ExitCode(code)),
        Ending::Panic => on_request(),
        Ending::LoopOnVector => {
            say!("looping on my own vector, as asked");
            misdeeds::loop_on_vector()
        }
        Ending::LoopMasked => {
            say!("looping with interrupts masked, as asked");
            misdeeds::loop_masked()
        }
        Ending::Fault(fault) => {
            misdeeds::commit(fault);
            say!("the fault was not stopped");
            leave(ExitCode(17))
        }
    }
}

#[expect(clippy::panic, reason = "the command line asked for exactly this")]
fn on_request() -> ! {
    panic!("as asked")
}

fn delay(shared: &Shared) {
    let until = timer::after_ms(u64::from(shared.options.delay_ms));
    cpu::wait(until, until, || false);
}

fn self_check(shared: &'static Shared, window: &mut Window) -> Result<(), Failure> {
    let lanes = shared.lanes();
    start_lanes(shared)?;
    say!("self-check: lanes: {lanes} of {lanes} online");

    together(shared, Phase::Fill)?;
    together(shared, Phase::Ipi)?;
    report::ipi(shared, rounds(shared))?;
    together(shared, Phase::Timer)?;
    report::timer(shared, ticks(shared));
    delay(shared);
    together(shared, Phase::Verify)?;
    report::memory(shared);
    check_isolation(shared, window)?;
    dismiss_lanes(shared)?;
    report::unexpected()
}

fn start_lanes(shared: &Shared) -> Result<(), Failure> {
    for (lane, cpu) in shared.machine.cpus.iter().enumerate().skip(1) {
        if let Err(error) = power::cpu_on(*cpu, lane) {
            say!("lane {lane}: {error}");
        }
    }
    LANES.finish(0, Phase::Arrive);
    let wanted = shared.lanes();
    // A lane that never comes should not take the patience that a slow one gets for real work.
    let patience = timer::after_ms(20_000);
    wait_while(patience, || LANES.finished(wanted, Phase::Arrive) < wanted);
    let online = LANES.finished(wanted, Phase::Arrive);
    if online < wanted {
        return Err(Failure::Lanes { online, wanted });
    }
    Ok(())
}

/// Lets all lanes do a part and waits for them.
fn together(shared: &Shared, phase: Phase) -> Result<(), Failure> {
    LANES.begin(phase);
    part(shared, 0, phase);
    let lanes = shared.lanes();
    let patience = timer::after_ms(PHASE_PATIENCE_MS);
    wait_while(patience, || LANES.straggler(lanes, phase).is_some());
    match (LANES.failure(), LANES.straggler(lanes, phase)) {
        (Some(failure), _) => Err(failure),
        (None, Some(lane)) => Err(Failure::Stuck { lane, phase }),
        (None, None) => Ok(()),
    }
}

/// Looks from time to time, asleep between looks.
fn wait_while(patience: u64, busy: impl Fn() -> bool) {
    while busy() && timer::now() < patience {
        let look = timer::after_ms(LOOK_MS);
        cpu::wait(look, look, || !busy());
    }
}

/// Every other lane's way through the program.
pub fn secondary_lane(shared: &'static Shared, lane: usize) -> ! {
    if let Err(error) = gic::init_lane(shared.machine.timer_intid) {
        say!("lane {lane}: {error}");
        power::cpu_off();
    }
    cpu::unmask();
    LANES.finish(lane, Phase::Arrive);
    for phase in [
        Phase::Fill,
        Phase::Ipi,
        Phase::Timer,
        Phase::Verify,
        Phase::Leave,
    ] {
        wait_while(u64::MAX, || !LANES.has_begun(phase));
        part(shared, lane, phase);
    }
    power::cpu_off()
}

/// One lane's part of a phase.
fn part(shared: &Shared, lane: usize, phase: Phase) {
    let result = match phase {
        Phase::Arrive | Phase::Leave => Ok(()),
        Phase::Fill => fill(shared, lane),
        Phase::Ipi => play_ipi(shared, lane),
        Phase::Timer => play_timer(shared, lane),
        Phase::Verify => verify(shared, lane),
    };
    if let Err(failure) = result {
        LANES.fail(failure);
    }
    LANES.finish(lane, phase);
}

fn fill(shared: &Shared, lane: usize) -> Result<(), Failure> {
    let pattern = &shared.pattern;
    for (address, words) in shared.free.share(lane, shared.lanes()) {
        pattern.fill(address, words, Pass::Plain);
        pattern
            .verify(address, words, Pass::Plain)
            .map_err(Failure::Memory)?;
        pattern.fill(address, words, Pass::Inverted);
    }
    Ok(())
}

fn verify(shared: &Shared, lane: usize) -> Result<(), Failure> {
    let lanes = shared.lanes();
    // Each lane reads what its neighbour wrote, so that what one writes is seen by another.
    for (address, words) in shared.free.share((lane + 1) % lanes, lanes) {
        let digest = shared.pattern.verify(address, words, Pass::Inverted);
        LANES.add_digest(digest.map_err(Failure::Memory)?);
    }
    Ok(())
}

fn rounds(shared: &Shared) -> u32 {
    match shared.options.level {
        Level::Full => ipi::FULL_ROUNDS,
        Level::None | Level::Quick => ipi::QUICK_ROUNDS,
    }
}

fn ticks(shared: &Shared) -> u32 {
    match shared.options.level {
        Level::Full => tick::FULL_TICKS,
        Level::None | Level::Quick => tick::QUICK_TICKS,
    }
}

fn play_ipi(shared: &Shared, lane: usize) -> Result<(), Failure> {
    let Some(own) = LANES.lane(lane) else {
        return Ok(());
    };
    let port = Port { shared, lane };
    ipi::play(&port, &own.mailbox, lane, shared.lanes(), rounds(shared)).map_err(Failure::Ipi)
}

fn play_timer(shared: &Shared, lane: usize) -> Result<(), Failure> {
    let Some(own) = LANES.lane(lane) else {
        return Ok(());
    };
    let port = Port { shared, lane };
    let (frequency, limit) = (timer::frequency(), shared.options.late);
    tick::play(&port, &own.ticks, ticks(shared), frequency, limit)
        .map_err(|how| Failure::Timer { lane, how })
}

fn check_isolation(shared: &Shared, window: &mut Window) -> Result<(), Failure> {
    // The device tree: this guest's own, and nothing that a look at it could disturb.
    let own = GuestPhys::new(shared.tree.as_ptr().addr() as u64);
    let (bits, _) = cpu::physical_bits();
    let checked = if xdv::is_present() {
        isolation::check(window, own, isolation::foreign(&shared.machine, bits))
    } else {
        isolation::check(window, own, core::iter::empty())
    };
    match checked.map_err(Failure::Isolation)? {
        0 => say!("self-check: isolation: skipped, there is no XDV to isolate"),
        refused => say!("self-check: isolation: {refused} foreign addresses refused"),
    }
    Ok(())
}

/// Sends the other lanes away and sees them gone.
fn dismiss_lanes(shared: &Shared) -> Result<(), Failure> {
    together(shared, Phase::Leave)?;
    for (lane, cpu) in shared.machine.cpus.iter().enumerate().skip(1) {
        wait_while(timer::after_ms(20_000), || !power::is_off(*cpu));
        if !power::is_off(*cpu) {
            return Err(Failure::Lingering(lane));
        }
    }
    Ok(())
}
