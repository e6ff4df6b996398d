//! Who watches a slot: the lint of its driver, how its findings are said, and the trace.

use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::reach::Reach;
use hypervisor_arch::{say, timer};
use vcpu::hot::Hardware;
use vcpu::inject::El1Regs;
use virtio::Served;
use virtio::device::Event;
use virtio::lint::{Finding, Lint};

/// What watches a slot, and whose it is.
pub struct Watcher {
    guest: &'static str,
    /// What the device is called.
    device: &'static str,
    lint: Option<Lint>,
    is_traced: bool,
}

impl Watcher {
    pub const fn new(
        guest: &'static str,
        device: &'static str,
        lint: Option<Lint>,
        is_traced: bool,
    ) -> Self {
        Self {
            guest,
            device,
            lint,
            is_traced,
        }
    }

    /// The driver has read a register.
    pub fn loaded(&mut self, offset: u64, bytes: u32, value: u64) {
        if let Some(lint) = &mut self.lint {
            lint.loaded(offset, bytes, value, &mut teller(self.guest, self.device));
        }
    }

    /// The driver writes to a register.
    pub fn stored(&mut self, offset: u64, bytes: u32, value: u64, memory: &Reach) {
        if let (true, Some(name)) = (self.is_traced, virtio::trace::register(offset)) {
            let (at, guest, device) = (Micros::now(), self.guest, self.device);
            say!("  {guest}: {at} {device}: driver writes {name} {value:#x}");
        }
        if let Some(lint) = &mut self.lint {
            let tell = &mut teller(self.guest, self.device);
            lint.stored(offset, bytes, value, memory, tell);
        }
    }

    /// The device has taken something from a queue, or given it back.
    pub fn device(&mut self, event: Event, memory: &Reach) {
        if self.is_traced {
            self.operation(event);
        }
        if let Some(lint) = &mut self.lint {
            lint.device(event, memory, &mut teller(self.guest, self.device));
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

/// Says what was found, and where the driver was when it told the device of it: the exit that is being answered is its
/// notification, or its access to a register.
fn teller(guest: &'static str, device: &'static str) -> impl FnMut(Finding) {
    move |found| {
        let (queue, descriptor) = (Number(found.queue), Number(found.descriptor));
        let rule = found.rule;
        let (vbar, pc) = (ThisCpu.vbar(), ThisCpu.elr());
        say!(
            "  {guest}: lint {}: {device}{}{queue}{}{descriptor}: {} (virtio 1.3, {}), vbar {vbar:#x}, pc {pc:#x}",
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
