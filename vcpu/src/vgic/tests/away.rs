//! Real threads: lanes that leave their CPUs, wait there to be called, and come back, while their siblings interrupt them
//! in every way there is. A call that is lost would leave a lane away for ever.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::threads::Port;
use crate::vgic::fake::FakeCpu;
use crate::vgic::{Away, Frame, LaneGic, Vgic};

const LANES: usize = 4;
/// Tokens that go around, each an SGI and an SPI of its own.
const TOKENS: u32 = 3;
/// How often each is passed on.
const PASSES: u32 = 5000;
const FIRST_SGI: u32 = 3;
const D: Frame = Frame::Distributor;

struct Shared {
    vgic: Vgic,
    /// The kicks of all lanes, then their calls.
    kicks: [AtomicBool; 2 * LANES],
    passed: [AtomicU32; TOKENS as usize],
    /// How often a lane came back by the short way.
    short: AtomicU32,
    called: AtomicU32,
    started: Instant,
}

impl Shared {
    fn is_over(&self) -> bool {
        let over = |passed: &AtomicU32| passed.load(Ordering::Acquire) >= PASSES;
        self.passed.iter().all(over)
    }

    fn wait(&self) {
        assert!(
            self.started.elapsed() < Duration::from_secs(900),
            "a lane was not called"
        );
        thread::yield_now();
    }
}

/// A lane, its CPU and its dice.
struct Life<'a> {
    id: usize,
    lane: LaneGic,
    port: Port<'a>,
    shared: &'a Shared,
    dice: u32,
}

impl Life<'_> {
    fn roll(&mut self, sides: u32) -> u32 {
        self.dice = self
            .dice
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.dice >> 16) % sides
    }

    fn write(&mut self, frame: Frame, offset: u64, value: u64) {
        let bytes = if offset >= 0x6000 && frame == D { 8 } else { 4 };
        let (vgic, port) = (&self.shared.vgic, &mut self.port);
        self.lane
            .mmio_write(vgic, frame, offset, bytes, value, port)
            .unwrap();
    }

    /// What the CPU has for the lane: physical interrupts, then a virtual one. The token, if that was one.
    fn turn(&mut self) -> Option<u32> {
        let vgic = &self.shared.vgic;
        if self.shared.kicks[self.id].swap(false, Ordering::AcqRel)
            && !self.lane.fast_kick(vgic, &mut self.port)
        {
            self.lane.serve(vgic, &mut self.port);
        }
        if self.port.cpu.maintenance() {
            self.lane.serve(vgic, &mut self.port);
        }
        let intid = self.port.cpu.acknowledge()?;
        self.port.cpu.end(intid);
        intid.checked_sub(if intid < 32 { FIRST_SGI } else { 32 })
    }

    /// Another VM has the CPU, until a call says that there is mail; or for a moment, if the lane is only put off.
    fn leave(&mut self, waits: bool) {
        let (vgic, call) = (&self.shared.vgic, LANES + self.id);
        if waits && self.lane.would_wake(&mut self.port) {
            return;
        }
        vgic.set_kick(self.id, if waits { call as u64 + 1 } else { 0 });
        self.lane.depart(Away::On, vgic, &mut self.port);
        self.port.cpu = FakeCpu::new(4);
        self.port.cpu.lrs[..4].fill(u64::MAX);
        if waits && !vgic.has_mail(self.id) {
            while !(self.shared.kicks[call].swap(false, Ordering::AcqRel) && vgic.has_mail(self.id))
            {
                if self.shared.is_over() {
                    break;
                }
                self.shared.wait();
            }
            self.shared.called.fetch_add(1, Ordering::Relaxed);
        }
        vgic.set_kick(self.id, self.id as u64 + 1);
        self.lane.arrive(vgic, &mut self.port);
        self.shared
            .short
            .fetch_add(u32::from(self.lane.plain), Ordering::Relaxed);
    }

    /// Looks at a sibling, or does something to it that changes nothing.
    fn disturb(&mut self) {
        let of = Frame::Redistributor(self.roll(4) as usize);
        match self.roll(6) {
            0 => {
                let (vgic, port) = (&self.shared.vgic, &mut self.port);
                let read = self.lane.mmio_read(vgic, of, 0x1_0300, 4, port);
                read.unwrap();
            }
            1 => self.write(of, 0x1_0408, 0xa0a0_a0a0),
            2 => self.write(D, 0, 3),
            3 => self.write(of, 0x1_0280, 1 << 15),
            _ => {}
        }
    }

    /// Interrupts the next lane, in one of the ways there are.
    fn pass(&mut self, token: u32) {
        let next = self.roll(4) as usize;
        let (frame, sgi) = (Frame::Redistributor(next), FIRST_SGI + token);
        let passed = &self.shared.passed[token as usize];
        if passed.fetch_add(1, Ordering::AcqRel) >= PASSES {
            return;
        }
        match self.roll(6) {
            0 => self.write(frame, 0x1_0200, 1 << sgi),
            1 => {
                // While it is off; then on.
                self.write(frame, 0x1_0180, 1 << sgi);
                self.send(next, sgi);
                self.write(frame, 0x1_0100, 1 << sgi);
            }
            2 => {
                self.write(D, 0x6100 + 8 * u64::from(token), next as u64);
                self.pend(token);
            }
            3 => {
                // Pending before it has anywhere to go.
                self.write(D, 0x6100 + 8 * u64::from(token), 200);
                self.pend(token);
                self.write(D, 0x6100 + 8 * u64::from(token), next as u64);
            }
            4 => {
                // Any lane may have it.
                self.write(D, 0x6100 + 8 * u64::from(token), 1 << 31);
                self.pend(token);
            }
            _ => self.send(next, sgi),
        }
    }

    /// Makes the token's SPI pending, in one of the ways there are.
    fn pend(&mut self, token: u32) {
        let way = self.roll(3);
        let (vgic, port) = (&self.shared.vgic, &mut self.port);
        match way {
            0 => self.write(D, 0x204, 1 << token),
            1 => vgic.post_spi(32 + token, port),
            _ => {
                let left = self.lane.fast_pulse(vgic, 1 << token, port);
                if left != 0 {
                    self.lane.pulse(vgic, left, port);
                }
            }
        }
    }

    fn send(&mut self, to: usize, sgi: u32) {
        let (vgic, value) = (&self.shared.vgic, u64::from(sgi) << 24 | 1 << to);
        if !self.lane.fast_sgi1r(vgic, value, &mut self.port) {
            let register = crate::vgic::SgiRegister::Sgi1r;
            self.lane.send_sgi(vgic, register, value, &mut self.port);
        }
    }

    fn run(&mut self, mut token: Option<u32>) {
        while !self.shared.is_over() {
            if let Some(token) = token.take() {
                self.pass(token);
            }
            self.disturb();
            match self.roll(4) {
                0 => self.leave(false),
                1 | 2 => self.leave(true),
                _ => {}
            }
            token = self.turn();
            if token.is_none() {
                self.shared.wait();
            }
        }
    }
}

/// At its end, and if it panics: nobody may wait for the list registers of a lane that is no more.
impl Drop for Life<'_> {
    fn drop(&mut self) {
        if self.lane.here {
            self.shared.vgic.set_kick(self.id, 0);
            self.lane
                .depart(Away::Off, &self.shared.vgic, &mut self.port);
        }
    }
}

#[test]
fn lanes_that_wait_away_from_their_cpus_are_called() {
    let shared = Arc::new(Shared {
        vgic: Vgic::new(LANES),
        kicks: [const { AtomicBool::new(false) }; 2 * LANES],
        passed: [const { AtomicU32::new(0) }; TOKENS as usize],
        short: AtomicU32::new(0),
        called: AtomicU32::new(0),
        started: Instant::now(),
    });
    // Before the others are there: whoever stands at the barrier gives nobody its list registers.
    let mut boot = Life {
        id: 0,
        lane: LaneGic::new(0),
        port: Port {
            cpu: FakeCpu::new(4),
            kicks: &shared.kicks,
        },
        shared: &shared,
        dice: 0,
    };
    boot.lane.arrive(&shared.vgic, &mut boot.port);
    boot.write(D, 0, 3);
    boot.write(D, 0x104, 0xff);
    // Edge-triggered, so that each write counts once.
    boot.write(D, 0xc08, 0xaaaa_aaaa);
    drop(boot);
    let barrier = Arc::new(Barrier::new(LANES));
    let threads: Vec<_> = (0..LANES)
        .map(|id| {
            let (shared, barrier) = (Arc::clone(&shared), Arc::clone(&barrier));
            thread::spawn(move || {
                let mut life = Life {
                    id,
                    lane: LaneGic::new(id),
                    port: Port {
                        cpu: FakeCpu::new(4),
                        kicks: &shared.kicks,
                    },
                    shared: &shared,
                    dice: 77 + u32::try_from(id).unwrap(),
                };
                shared.vgic.set_kick(id, id as u64 + 1);
                life.lane.arrive(&shared.vgic, &mut life.port);
                life.port.cpu.set_guest_control(0xf0, true, true, false);
                life.write(Frame::Redistributor(id), 0x1_0100, 0xffff);
                barrier.wait();
                let token = u32::try_from(id).unwrap();
                life.run((token < TOKENS).then_some(token));
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let [short, called] =
        [&shared.short, &shared.called].map(|count| count.load(Ordering::Acquire));
    assert!(short > 100 && called > 100, "{short} {called}");
}
