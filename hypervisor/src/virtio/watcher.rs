//! Who watches a slot: the lint of its driver, how its findings are said, and the trace.

use configs_plan::{GuestPlan, Lint as Watched};
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::reach::Reach;
use hypervisor_arch::{say, timer};
use vcpu::hot::Hardware;
use vcpu::inject::El1Regs;
use virtio::Served;
use virtio::device::Event;
use virtio::lint::{Finding, Lint, Rank};

/// What watches a slot, and whose it is.
pub struct Watcher {
    guest: &'static str,
    /// What the device is called.
    device: &'static str,
    lint: Option<Lint>,
    /// Advice is said too.
    is_strict: bool,
    is_traced: bool,
}

impl Watcher {
    /// By the guest's plan, but for the lint, which knows the device.
    pub fn new(guest: &GuestPlan<'_, 'static>, device: &'static str, lint: Option<Lint>) -> Self {
        Self {
            guest: guest.name(),
            device,
            lint,
            is_strict: guest.virtio_lint() == Watched::Strict,
            is_traced: guest.is_virtio_traced(),
        }
    }

    /// Who says what the lint finds.
    const fn teller(&self) -> Teller {
        Teller {
            guest: self.guest,
            device: self.device,
            is_strict: self.is_strict,
        }
    }

    /// The driver has read a register.
    pub fn loaded(&mut self, offset: u64, bytes: u32, value: u64) {
        let teller = self.teller();
        if let Some(lint) = &mut self.lint {
            lint.loaded(offset, bytes, value, &mut |found| teller.say(found));
        }
    }

    /// The driver writes to a register.
    pub fn stored(&mut self, offset: u64, bytes: u32, value: u64, memory: &Reach) {
        if let (true, Some(name)) = (self.is_traced, virtio::trace::register(offset)) {
            let (at, guest, device) = (Micros::now(), self.guest, self.device);
            say!("  {guest}: {at} {device}: driver writes {name} {value:#x}");
        }
        let teller = self.teller();
        if let Some(lint) = &mut self.lint {
            lint.stored(offset, bytes, value, memory, &mut |found| teller.say(found));
        }
    }

    /// The device has taken something from a queue, or given it back.
    pub fn device(&mut self, event: Event, memory: &Reach) {
        if self.is_traced {
            self.operation(event);
        }
        let teller = self.teller();
        if let Some(lint) = &mut self.lint {
            lint.device(event, memory, &mut |found| teller.say(found));
        }
    }

    #[cold]
    fn operation(&self, event: Event) {
        let (at, guest, device) = (Micros::now(), self.guest, self.device);
        match event {
            Event::Popped {
                queue,
                id,
                readable,
                writable,
            } => say!(
                "  {guest}: {at} {device} queue {}: device takes {}: {readable} bytes to read, {writable} to write",
                u64::from(queue),
                u64::from(id),
            ),
            Event::Pushed { queue, id, written } => say!(
                "  {guest}: {at} {device} queue {}: device gives {} back, {} bytes written",
                u64::from(queue),
                u64::from(id),
                u64::from(written),
            ),
        }
    }

    /// What comes of it is seen by the driver.
    pub fn served(&self, served: &Served) {
        if self.is_traced && (served.used || served.config) {
            let (at, guest, device) = (Micros::now(), self.guest, self.device);
            let why = if served.used {
                "used buffers"
            } else {
                "its configuration"
            };
            say!("  {guest}: {at} {device}: device interrupts for {why}");
        }
    }
}

/// A time since the machine's start, in microseconds.
struct Micros(u64);

impl Micros {
    fn now() -> Self {
        let (now, frequency) = (timer::now(), timer::frequency().max(1));
        let rest = (now % frequency).saturating_mul(1_000_000) / frequency;
        Self(
            (now / frequency)
                .saturating_mul(1_000_000)
                .saturating_add(rest),
        )
    }
}

impl core::fmt::Display for Micros {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)?;
        f.write_str(" us")
    }
}

/// Who says what the lint finds.
struct Teller {
    guest: &'static str,
    device: &'static str,
    is_strict: bool,
}

impl Teller {
    /// Says what was found, and where the driver was when it told the device of it: the exit that is being answered is its
    /// notification, or its access to a register.
    #[cold]
    fn say(&self, found: Finding) {
        let Self { guest, device, .. } = self;
        let rule = found.rule;
        let rank = match rule.rank {
            Rank::Error => "lint",
            Rank::Advice if self.is_strict => "advice",
            Rank::Advice => return,
        };
        let (queue, descriptor) = (Number(found.queue), Number(found.descriptor));
        let (vbar, pc) = (ThisCpu.vbar(), ThisCpu.elr());
        say!(
            "  {guest}: {rank} {}: {device}{}{queue}{}{descriptor}: {} (virtio 1.3, {}), vbar {vbar:#x}, pc {pc:#x}",
            rule.id,
            if found.queue.is_some() { " queue " } else { "" },
            if found.descriptor.is_some() {
                " descriptor "
            } else {
                ""
            },
            rule.text,
            rule.section,
        );
    }
}

/// A number, if there is one.
struct Number(Option<u16>);

impl core::fmt::Display for Number {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(number) => u64::from(number).fmt(f),
            None => Ok(()),
        }
    }
}
