//! One machine: what `vcpu`, `stage2` and `domain-hv` each know of it, side by side.

use core::sync::atomic::{AtomicU64, Ordering};

use domain_hv::VmId;
use hypervisor_arch::memory::GuestRam;
use hypervisor_arch::world::Stage2Registers;
use hypervisor_arch::{console, timer};
use spin::Mutex;
use stage2_addr::Ipa;
use vcpu::machine::Machine;
use vcpu::refused::Refused;
use vcpu::serve::Lines;
use vcpu::timer::VmClock;
use vcpu::trace::REASONS;
use vcpu_board::RAM_BASE;

use crate::devices;
use crate::life::Life;
use crate::watch::Watchdog;

/// A machine.
pub struct Vm {
    /// Who it is.
    pub id: VmId,
    /// What its user calls it.
    pub name: &'static str,
    /// What its lanes share.
    pub machine: Machine,
    /// Its memory.
    pub ram: GuestRam,
    /// Its firmware, which it can only read.
    pub flash: Option<GuestRam>,
    /// Its tables, as the CPU wants them.
    pub stage2: Stage2Registers,
    /// The tables themselves, and how much was mapped.
    #[cfg(debug_assertions)]
    pub tables: stage2::GuestTables,
    #[cfg(debug_assertions)]
    pub mapped: stage2_addr::PageCount,
    /// Its clock.
    pub clock: VmClock,
    /// Where lane 0 starts.
    pub entry: u64,
    /// Where its device tree lies.
    pub dtb: u64,
    /// Its lanes, as other CPUs see them.
    pub seats: &'static [Seat],
    /// What it is loaded from.
    pub files: &'static [File],
    /// Its life.
    pub life: Life,
    /// Who watches over it.
    pub watchdog: Watchdog,
    /// The interrupts of the computer's devices that it was given.
    pub lines: devices::Lines,
    /// Its virtio devices.
    #[cfg(feature = "virtio")]
    pub virtio: &'static crate::virtio::Devices,
}

/// Bytes that a machine starts with.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Where they go, from the start of its RAM.
    pub offset: u64,
    /// They themselves, in the boot bundle.
    pub bytes: &'static [u8],
}

/// A lane, as other CPUs see it: what CPU_ON gives it to start with, and what it last said of itself.
#[derive(Debug)]
pub struct Seat {
    /// The ICC_SGI1R_EL1 value that brings the lane's list registers up to date, while it is on its CPU.
    pub kick: u64,
    /// The one that tells its CPU's run loop of mail for it, while it waits away from its CPU.
    pub call: u64,
    /// The one that makes its CPU's run loop look around.
    pub wake: u64,
    entry: AtomicU64,
    argument: AtomicU64,
    /// The look that a deadline asks for.
    pub look: Look,
}

/// Where a lane was when somebody asked.
#[derive(Debug)]
pub struct Look {
    /// The look's number.
    taken: AtomicU64,
    seen: Mutex<Seen>,
}

/// Set in an entry to tell an order to start at address 0 from none. An entry is a multiple of 4.
const ORDERED: u64 = 1;

/// What a look sees of a lane.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub pc: u64,
    pub pstate: u64,
    /// For how many ticks it has run; the waits of a dedicated lane count, for they do not trap.
    pub ran: u64,
    /// VBAR_EL1, and ESR_EL1, ELR_EL1 and FAR_EL1 of its last exception.
    pub own: [u64; 4],
    /// What it was refused.
    pub refused: Refused,
    /// How often it has left the guest for each reason.
    pub exits: [u64; REASONS.len()],
}

impl Seen {
    const NOTHING: Self = Self {
        pc: 0,
        pstate: 0,
        ran: 0,
        own: [0; 4],
        refused: Refused::NONE,
        exits: [0; REASONS.len()],
    };
}

impl Seat {
    /// A lane that has never run, on the CPU that these interrupt.
    pub const fn new(kick: u64, call: u64, wake: u64) -> Self {
        Self {
            kick,
            call,
            wake,
            entry: AtomicU64::new(0),
            argument: AtomicU64::new(0),
            look: Look {
                taken: AtomicU64::new(0),
                seen: Mutex::new(Seen::NOTHING),
            },
        }
    }

    /// Leaves the first registers for a lane that has been claimed by CPU_ON. Only the claimer writes, and the lane
    /// reads after it has seen a non-zero entry, so the pair is never torn.
    pub fn order(&self, entry: u64, argument: u64) {
        self.argument.store(argument, Ordering::Relaxed);
        self.entry.store(entry | ORDERED, Ordering::Release);
    }

    /// Forgets an order of a life that is over.
    pub fn forget(&self) {
        self.entry.store(0, Ordering::Release);
    }

    /// Takes the order, if there is one. Only the lane itself does, and nobody orders it again before it is off.
    pub fn take_order(&self) -> Option<(u64, u64)> {
        let entry = self.entry.load(Ordering::Acquire);
        if entry == 0 {
            return None;
        }
        let argument = self.argument.load(Ordering::Relaxed);
        self.entry.store(0, Ordering::Relaxed);
        Some((entry & !ORDERED, argument))
    }
}

impl Look {
    /// Notes what a look has seen.
    pub fn note(&self, number: u64, seen: Seen) {
        *self.seen.lock() = seen;
        self.taken.store(number, Ordering::Release);
    }

    /// Whether the look with this number, or a later one, was taken.
    pub fn was_taken(&self, number: u64) -> bool {
        self.taken.load(Ordering::Acquire) >= number
    }

    /// What it has seen.
    #[inline(never)]
    pub fn get(&self, number: u64) -> Option<Seen> {
        self.was_taken(number).then(|| *self.seen.lock())
    }
}

impl Vm {
    /// Copies bytes of the machine's memory out; `None` when some are not its own.
    #[inline(never)]
    pub fn read(&self, ipa: Ipa, into: &mut [u8]) -> Option<()> {
        match ipa.raw().checked_sub(RAM_BASE) {
            Some(offset) => self.ram.read(offset, into),
            None => self.flash.as_ref()?.read(ipa.raw(), into),
        }
    }

    /// Everything but memory as after power-on. None of its lanes is on, and none is on a CPU.
    pub fn reset(&self) {
        self.machine.vgic.reset();
        self.machine.power.reset();
        self.machine.reset_devices();
        #[cfg(feature = "virtio")]
        self.virtio.reset();
        for seat in self.seats {
            seat.forget();
        }
    }

    /// Prints what the machine wrote without ending the line.
    pub fn flush(&self) {
        let mut port = self.port();
        self.machine
            .console
            .lock()
            .line
            .flush(&mut |text: &str| port.line(text));
    }

    /// Shows the line that the machine has begun, if that is due.
    #[cold]
    pub fn show_unfinished(&self, now: u64) {
        let show = |text: &str| console::guest_partial(self.name, text);
        self.machine.show_unfinished(now, timer::frequency(), show);
    }

    /// The machine's place on the physical console.
    pub fn port(&self) -> Port {
        Port(self.name)
    }
}

/// Prints lines under a machine's name.
#[derive(Clone, Copy, Debug)]
pub struct Port(&'static str);

impl Lines for Port {
    fn line(&mut self, text: &str) {
        console::guest_line(self.0, text);
    }
}
