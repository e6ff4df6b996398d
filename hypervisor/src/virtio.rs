//! The virtio devices of a machine, in their slots: what a driver's accesses reach, and whom to interrupt then.
//!
//! A slot's lock is held while its device serves, by whatever CPU a lane was on, or by the one that has news from outside.
//! Nobody waits for another slot's lock, or for a lane, while holding one. A device with much to do stops after a piece
//! of it; whether it goes on at once depends on who else wants the CPU.

mod balloons;
mod build;
mod disks;
mod drives;
mod fabric;
mod hardware;
mod places;
mod sockets;
mod sources;
mod terminal;
mod trouble;
pub mod uplink;
mod watcher;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::reach::Reach;
use hypervisor_arch::{cpu, gic, timer};
use spin::Once;
use spin::mutex::TicketMutex;
use vcpu::machine::Machine;
use vcpu::vgic::VirtGic;
use vcpu::virtio::{SLOTS, Slots};
use vcpu_board::virtio::QUEUE_NOTIFY;
use virtio::mmio::Transport;
use virtio::{Device, Env, Served};

pub use build::{Common, arena_bytes};
pub use disks::Room;
use fabric::Fabric;
use watcher::Watcher;

use crate::crew::Crew;
use crate::house::House;

/// How many requests a part of the machine's own disk may have at a time; other disks are done with one at once.
const PART_JOBS: usize = 8;
/// `InterruptStatus`: buffers were used.
const USED: u32 = 1;
/// `InterruptStatus`: the configuration has changed.
const CONFIG: u32 = 2;

/// [`Devices::awaited_by`]: the call was made.
const CALLED: u64 = u64::MAX;

/// A device of any kind.
type Any = dyn Device<Reach> + Send;

/// An interrupt that this CPU has acknowledged: whether it was one of the machine's own virtio devices'. It is to be ended
/// then.
pub fn fired(house: &House, crew: &mut Crew, intid: u32) -> bool {
    if let Some(at) = uplink::fired(intid) {
        crew.look_outside_at(at);
        return true;
    }
    drives::fired(house, intid)
}

/// Lets in what came from outside, and gives up what waits for guests in vain; when to look again.
pub fn look(now: u64) -> u64 {
    uplink::look().min(sockets::look(now))
}

/// A slot that has a device.
struct Slot {
    number: usize,
    inner: TicketMutex<Inner>,
    /// When its device wants to be polled at the latest.
    due: AtomicU64,
}

struct Inner {
    transport: Transport,
    device: &'static mut Any,
    watcher: Option<&'static mut Watcher>,
}

/// The virtio devices of one machine.
pub struct Devices {
    memory: Reach,
    slots: &'static [Slot],
    /// Which of [`slots`](Self::slots) is in which slot of the machine.
    index: [u8; SLOTS],
    /// The slot of its console, if it has one.
    console: Option<usize>,
    /// The slot of its balloon, if it has one.
    balloon: Option<usize>,
    /// Slots with more to do than anybody had time for.
    pending: AtomicU32,
    /// The slot whose turn it is among them.
    turn: AtomicU32,
    /// When the work on them goes on.
    resume: AtomicU64,
    /// Whom to call, as a value of `ICC_SGI1R_EL1`, when another machine's device has used buffers of one of these: a lane
    /// that waits for an answer. 0 for nobody, [`CALLED`] once it is called.
    awaited_by: AtomicU64,
    /// Devices have faults, and want to be polled at certain times.
    is_timed: bool,
    /// The first of these times, at most.
    due: AtomicU64,
    machine: &'static Once<&'static Machine>,
    fabric: &'static Fabric,
    /// Its ports of the switch, and its sockets.
    ports: u64,
}

impl Devices {
    /// Tells them whose they are, before the machine runs.
    pub fn settle(&self, machine: &'static Machine) {
        self.machine.call_once(|| machine);
    }

    fn slot(&self, number: usize) -> Option<&Slot> {
        let index = self.index.get(number)?;
        self.slots.get(usize::from(*index))
    }

    /// Has a slot's device do something, because of a store to a register or not, and notes what that is to be seen as.
    /// What came of it, and the slots of this machine to interrupt.
    #[inline(always)]
    fn with(
        &self,
        slot: &Slot,
        store: Option<(u64, u32, u64)>,
        act: impl FnOnce(&mut Transport, &mut Any, &mut Env<'_, Reach>) -> Served,
    ) -> (Served, u32) {
        let Some(machine) = self.machine.get() else {
            return (Served::default(), 0);
        };
        let mut env = Env {
            memory: self.memory,
            now: timer::now(),
            frequency: timer::frequency(),
            trace: None,
        };
        let mut guard = slot.inner.lock();
        let inner = &mut *guard;
        let served = match &mut inner.watcher {
            None => act(&mut inner.transport, inner.device, &mut env),
            Some(watcher) => {
                if let Some((offset, bytes, value)) = store {
                    watcher.stored(offset, bytes, value, &self.memory);
                }
                let mut trace = |event| watcher.device(event, &self.memory);
                env.trace = Some(&mut trace);
                let served = act(&mut inner.transport, inner.device, &mut env);
                watcher.served(&served);
                served
            }
        };
        if served.reset {
            machine
                .virtio_status(slot.number)
                .store(0, Ordering::SeqCst);
        }
        let mut bits = 0;
        if served.used {
            bits |= USED;
        }
        if served.config {
            bits |= CONFIG;
        }
        let mut raised = if bits == 0 {
            0
        } else {
            machine.pend_virtio(slot.number, bits)
        };
        if self.is_timed {
            let due = inner.transport.due::<Reach>(inner.device);
            slot.due.store(due, Ordering::Relaxed);
        }
        drop(guard);
        if self.is_timed {
            self.arm(slot.due.load(Ordering::Relaxed));
        }
        if served.ports != 0 {
            raised |= self.tell(machine, served.ports);
        }
        (served, raised)
    }

    /// The same where nobody is in a hurry.
    #[cold]
    #[inline(never)]
    fn with_leave(
        &self,
        slot: &Slot,
        act: &mut dyn FnMut(&mut Transport, &mut Any, &mut Env<'_, Reach>) -> Served,
    ) -> (Served, u32) {
        self.with(slot, None, act)
    }

    /// Goes on with a device that has more to do, until it has not, or somebody else wants the CPU.
    #[cold]
    #[inline(never)]
    fn go_on(&self, slot: &Slot) -> u32 {
        let mut raised = 0;
        loop {
            if cpu::is_interrupted() {
                self.put_off(slot.number);
                return raised;
            }
            let (served, slots) = self.with(slot, None, |transport, device, env| {
                transport.poll::<Reach>(device, env)
            });
            raised |= slots;
            if !served.more {
                return raised;
            }
        }
    }

    /// Leaves the rest of a device's work to the crew of this CPU, once it has looked who else wants it.
    fn put_off(&self, slot: usize) {
        self.call(slot);
        ThisCpu.send_sgi(gic::sgi_value(cpu::affinity(), gic::WAKE_SGI));
    }

    /// Something has happened to a slot's device: the crew of a lane that is woken now looks at it.
    pub fn call(&self, slot: usize) {
        self.pending.fetch_or(1 << (slot % SLOTS), Ordering::AcqRel);
    }

    /// Has a CPU called, once, when something comes from another machine; 0 takes that back.
    pub fn await_answer(&self, call: u64) {
        self.awaited_by.store(call, Ordering::Relaxed);
    }

    /// Whether it was called.
    pub fn has_called(&self) -> bool {
        self.awaited_by.load(Ordering::Relaxed) == CALLED
    }

    /// Something has come from another machine. Whom to call, or 0.
    #[inline(always)]
    fn answered(&self) -> u64 {
        let call = self.awaited_by.load(Ordering::Relaxed);
        let is_first = !matches!(call, 0 | CALLED)
            && self
                .awaited_by
                .compare_exchange(call, CALLED, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_first { call } else { 0 }
    }

    /// Has the crew of this CPU look at its timer, if something is due sooner than it knows.
    fn arm(&self, due: u64) {
        if due < self.due.fetch_min(due, Ordering::AcqRel) {
            ThisCpu.send_sgi(gic::sgi_value(cpu::affinity(), gic::WAKE_SGI));
        }
    }

    /// When somebody has to look at the devices at the latest, as a value of the physical counter.
    #[inline]
    pub fn due(&self) -> u64 {
        let due = self.due.load(Ordering::Acquire);
        if self.pending.load(Ordering::Acquire) == 0 {
            return due;
        }
        due.min(self.resume.load(Ordering::Relaxed))
    }

    /// Whether something was put off and may go on, or is due.
    #[inline]
    pub fn has_work(&self, now: u64) -> bool {
        self.due() <= now
    }

    /// Does a piece of what was put off, or is due. Devices take turns: what this takes once somebody else wants the CPU
    /// does not grow with their number. Then lanes run for so many times as long as this took, before it goes on.
    pub fn work(&self, now: u64, pauses: u64) {
        let mut pending = self.pending.swap(0, Ordering::AcqRel);
        if self.due.load(Ordering::Acquire) <= now {
            self.due.store(u64::MAX, Ordering::Release);
            for slot in self.slots {
                let due = slot.due.load(Ordering::Relaxed);
                if due <= now {
                    pending |= 1 << (slot.number % SLOTS);
                } else {
                    self.due.fetch_min(due, Ordering::AcqRel);
                }
            }
        }
        let mut left = 0;
        let mut turn = self.turn.load(Ordering::Relaxed);
        while pending != 0 {
            let behind = pending & u32::MAX << (turn % u32::BITS);
            turn = if behind == 0 { pending } else { behind }.trailing_zeros();
            pending &= !(1 << turn);
            if self.poll(turn as usize) {
                left |= 1 << turn;
            }
            turn += 1;
            if cpu::is_interrupted() {
                break;
            }
        }
        self.turn.store(turn, Ordering::Relaxed);
        if pending | left != 0 {
            let then = timer::now();
            let pause = then.saturating_sub(now).saturating_mul(pauses);
            self.resume
                .store(then.saturating_add(pause), Ordering::Relaxed);
            // Where that is over at once, the CPU's timer comes at once.
            self.pending.fetch_or(pending | left, Ordering::AcqRel);
        }
    }

    /// Something may have happened outside that a slot's device has to know of. Any CPU may call this. Whether there is
    /// more to do.
    fn poll(&self, number: usize) -> bool {
        let Some(slot) = self.slot(number) else {
            return false;
        };
        let (served, raised) = self.with(slot, None, |transport, device, env| {
            transport.poll::<Reach>(device, env)
        });
        if raised != 0 {
            self.post(raised);
        }
        served.more
    }

    /// Interrupts the machine for slots whose status is set, from any CPU.
    fn post(&self, slots: u32) {
        let Some(machine) = self.machine.get() else {
            return;
        };
        for slot in (0..SLOTS).filter(|slot| slots >> slot & 1 != 0) {
            machine.interrupt_virtio(slot, &mut ThisCpu);
        }
    }

    /// Hands what was typed to the console, if its driver works. False if it is the UART's.
    pub fn input(&self) -> bool {
        let Some(console) = self.console else {
            return false;
        };
        let slot = self.slot(console);
        let redirected = slot.is_some_and(|slot| self.redirect(slot));
        if redirected && self.poll(console) {
            self.put_off(console);
        }
        redirected
    }

    /// The machine has left: nothing that comes from outside is for its memory any more, which is about to be filled anew.
    pub fn silence(&self) {
        for slot in self.slots {
            let _ = self.with_leave(slot, &mut |transport, device, _| {
                transport.reset::<Reach>(device)
            });
            self.redirect(slot);
        }
    }

    /// All devices as after power-on. None of the machine's lanes runs.
    pub fn reset(&self) {
        for slot in self.slots {
            let _ = self.with_leave(slot, &mut |transport, device, _| {
                let served = transport.reset::<Reach>(device);
                device.renew();
                served
            });
            self.redirect(slot);
        }
        self.pending.store(0, Ordering::Release);
    }

    /// What is typed goes to the console while its driver works, and nobody listens at the UART. Whether it does, if the
    /// slot is the console's.
    fn redirect(&self, slot: &Slot) -> bool {
        if self.console == Some(slot.number)
            && let Some(machine) = self.machine.get()
        {
            let is_live = slot.inner.lock().transport.status().is_live();
            return machine.redirect_input(is_live);
        }
        false
    }
}

impl Slots for Devices {
    fn read(&self, slot: usize, offset: u64, bytes: u32) -> u64 {
        match self.slot(slot) {
            Some(slot) => {
                let inner = &mut *slot.inner.lock();
                let value = inner
                    .transport
                    .read::<Reach>(inner.device, offset, bytes as usize);
                if let Some(watcher) = &mut inner.watcher {
                    watcher.loaded(offset, bytes, value);
                }
                value
            }
            None => vcpu::virtio::Empty.read(slot, offset, bytes),
        }
    }

    fn write(&self, slot: usize, offset: u64, bytes: u32, value: u64) -> u32 {
        let Some(slot) = self.slot(slot) else {
            return 0;
        };
        let (served, raised) = self.with(
            slot,
            Some((offset, bytes, value)),
            |transport, device, env| {
                transport.write::<Reach>(device, offset, bytes as usize, value, env)
            },
        );
        self.redirect(slot);
        if served.more {
            return raised | self.go_on(slot);
        }
        raised
    }

    fn notify(&self, slot: usize, value: u32) -> u32 {
        match self.slot(slot) {
            Some(slot) => self.serve(slot, value),
            None => 0,
        }
    }
}

impl Devices {
    /// A notification of a slot's device. By itself, so that one of an empty slot saves no registers.
    #[inline(never)]
    fn serve(&self, slot: &Slot, value: u32) -> u32 {
        let (served, raised) = self.with(
            slot,
            Some((QUEUE_NOTIFY, 4, value.into())),
            |transport, device, env| transport.notify::<Reach>(device, value, env),
        );
        if served.more {
            return raised | self.go_on(slot);
        }
        raised
    }
}
