//! The lint of a slot's driver, and how its findings are said.

use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::reach::Reach;
use hypervisor_arch::say;
use vcpu::hot::Hardware;
use vcpu::inject::El1Regs;
use virtio::device::Event;
use virtio::lint::{Finding, Lint};

/// A lint, and whose driver it watches.
pub struct Watcher {
    guest: &'static str,
    /// What the device is called.
    device: &'static str,
    lint: Lint,
}

impl Watcher {
    pub const fn new(guest: &'static str, device: &'static str, lint: Lint) -> Self {
        Self {
            guest,
            device,
            lint,
        }
    }

    pub fn loaded(&mut self, offset: u64, bytes: u32, value: u64) {
        let tell = &mut teller(self.guest, self.device);
        self.lint.loaded(offset, bytes, value, tell);
    }

    pub fn stored(&mut self, offset: u64, bytes: u32, value: u64, memory: &Reach) {
        let tell = &mut teller(self.guest, self.device);
        self.lint.stored(offset, bytes, value, memory, tell);
    }

    pub fn device(&mut self, event: Event, memory: &Reach) {
        let tell = &mut teller(self.guest, self.device);
        self.lint.device(event, memory, tell);
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
