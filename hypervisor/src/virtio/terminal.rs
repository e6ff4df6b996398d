//! A guest's console behind its virtio device: the same lines as those of its serial port, and the same keyboard.

use hypervisor_arch::{console, timer};
use spin::Once;
use vcpu::machine::Machine;
use virtio::console::Terminal;

/// The console of a machine.
pub struct Mux {
    name: &'static str,
    machine: &'static Once<&'static Machine>,
}

impl Mux {
    pub const fn new(name: &'static str, machine: &'static Once<&'static Machine>) -> Self {
        Self { name, machine }
    }
}

impl Terminal for Mux {
    fn write(&mut self, bytes: &[u8]) -> (usize, bool) {
        let Some(machine) = self.machine.get() else {
            return (bytes.len(), false);
        };
        let mut ended = false;
        let name = self.name;
        let mut console = machine.console.lock();
        let taken = console.write(bytes, &mut |text: &str| {
            console::guest_line(name, text);
            ended = true;
        });
        if console.begins() {
            machine.console_begun(timer::now(), timer::frequency());
        }
        (taken, ended)
    }

    fn has_input(&self) -> bool {
        self.machine
            .get()
            .is_some_and(|machine| machine.waits_input())
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        self.machine
            .get()
            .map_or(0, |machine| machine.take_input(into))
    }
}
