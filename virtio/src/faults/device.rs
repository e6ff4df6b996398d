//! A device that loses interrupts, serves late, and breaks.

use core::sync::atomic::Ordering::Relaxed;

use super::{Clock, Faults, Kind};
use crate::balloon::{Standing, Wish};
use crate::device::{Dependency, Device, Env, Served};
use crate::memory::GuestMemory;
use crate::queue::Queue;
use crate::switch::Port;

/// A cable that can be pulled out.
pub trait Link {
    /// Plugs it in, or out.
    fn set_up(&self, is_up: bool);
}

impl<M: Send> Link for Port<'_, M> {
    fn set_up(&self, is_up: bool) {
        Port::set_up(self, is_up);
    }
}

/// A device around another one.
pub struct FaultyDevice<'a, D: ?Sized> {
    device: &'a mut D,
    faults: Faults,
    clock: &'a Clock,
    /// The cable of a network card.
    link: Option<&'a (dyn Link + Sync)>,
    /// Notifications so far, and those times at which the driver was to be told of something.
    notified: u64,
    told: u64,
    /// Whether it is this device that is late, and not its disk.
    delays: bool,
    /// Queues that had more to do: that they are served again is no notification.
    again: u16,
    /// Queues that are served later, those of them whose sending is lost, and when.
    late: u16,
    lost: u16,
    late_until: u64,
    /// The link is down until then.
    down_until: Option<u64>,
}

impl<'a, D: ?Sized> FaultyDevice<'a, D> {
    /// A device over a disk with the same faults and the same clock.
    pub const fn over_disk(device: &'a mut D, faults: Faults, clock: &'a Clock) -> Self {
        Self {
            delays: false,
            ..Self::new(device, faults, clock, None)
        }
    }

    /// Any other device; with the cable of a network card.
    pub const fn new(
        device: &'a mut D,
        faults: Faults,
        clock: &'a Clock,
        link: Option<&'a (dyn Link + Sync)>,
    ) -> Self {
        Self {
            device,
            faults,
            clock,
            link,
            notified: 0,
            told: 0,
            delays: true,
            again: 0,
            late: 0,
            lost: 0,
            late_until: 0,
            down_until: None,
        }
    }

    /// The device inside.
    pub const fn inner(&mut self) -> &mut D {
        self.device
    }

    /// What the driver gets to know of it.
    fn tell(&mut self, mut served: Served) -> Served {
        if served.used {
            let nth = self.told;
            self.told += 1;
            served.used = !self.faults.hit(Kind::Interrupt, nth);
        }
        served
    }

    /// The same of a queue that was served, by the transport's leave.
    fn noted(&mut self, bit: u16, served: Served) -> Served {
        self.again &= !bit;
        if served.more {
            self.again |= bit;
        }
        self.tell(served)
    }

    /// Pulls the cable out, or plugs it in again.
    fn move_link(&mut self, nth: Option<u64>, now: u64, frequency: u64) {
        let Some(link) = self.link else {
            return;
        };
        match (self.down_until, nth) {
            (Some(until), _) if now >= until => {
                self.down_until = None;
                link.set_up(true);
            }
            (None, Some(nth)) if self.faults.hit(Kind::Link, nth) => {
                let time = self.faults.dice().time(nth, frequency, 10);
                self.down_until = Some(now.saturating_add(time));
                link.set_up(false);
            }
            _ => {}
        }
    }

    /// Serves a queue; what is sent may be lost.
    fn serve_now<M: GuestMemory>(&mut self, queue: u16, lost: bool, env: &mut Env<'_, M>) -> Served
    where
        D: Device<M>,
    {
        match self.link {
            Some(link) if lost && self.down_until.is_none() => {
                // Nobody looks at the cable meanwhile, but for the switch, which takes nothing from a port without one.
                link.set_up(false);
                let served = self.device.serve(queue, env);
                link.set_up(true);
                served
            }
            _ => self.device.serve(queue, env),
        }
    }
}

impl<M: GuestMemory, D: Device<M> + ?Sized> Device<M> for FaultyDevice<'_, D> {
    fn id(&self) -> u32 {
        self.device.id()
    }

    fn features(&self) -> u64 {
        self.device.features()
    }

    fn dependencies(&self) -> &'static [Dependency] {
        self.device.dependencies()
    }

    fn queue_max(&self, queue: u16) -> u16 {
        self.device.queue_max(queue)
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        self.device.read_config(offset, into);
    }

    fn write_config(&mut self, offset: u64, bytes: &[u8], env: &mut Env<'_, M>) -> Served {
        self.clock.set(env.now, env.frequency);
        let served = self.device.write_config(offset, bytes, env);
        self.tell(served)
    }

    fn start(&mut self, features: u64) {
        self.device.start(features);
    }

    fn open(&mut self, queue: u16, ring: Queue) {
        self.device.open(queue, ring);
    }

    fn close(&mut self, queue: u16) {
        let others = !(1 << (queue & 15));
        self.again &= others;
        self.late &= others;
        self.device.close(queue);
    }

    fn reset(&mut self) {
        self.again = 0;
        self.late = 0;
        if self.down_until.take().is_some()
            && let Some(link) = self.link
        {
            link.set_up(true);
        }
        self.device.reset();
    }

    fn renew(&mut self) {
        self.device.renew();
    }

    fn serve(&mut self, queue: u16, env: &mut Env<'_, M>) -> Served {
        self.clock.set(env.now, env.frequency);
        let bit = 1 << (queue & 15);
        if self.again & bit != 0 {
            // It goes on with what it was told of before.
            let served = self.serve_now(queue, self.lost & bit != 0, env);
            return self.noted(bit, served);
        }
        let nth = self.notified;
        self.notified += 1;
        if self.faults.hit(Kind::Reset, nth) {
            return Served {
                broken: true,
                ..Served::default()
            };
        }
        self.move_link(Some(nth), env.now, env.frequency);
        let lost = self.faults.hit(Kind::Drop, nth);
        self.lost = self.lost & !bit | if lost { bit } else { 0 };
        if self.delays && self.faults.hit(Kind::Delay, nth) {
            if self.late == 0 {
                let time = self.faults.dice().time(nth, env.frequency, 100);
                self.late_until = env.now.saturating_add(time);
            }
            self.late |= bit;
            return Served::default();
        }
        let served = self.serve_now(queue, lost, env);
        self.noted(bit, served)
    }

    fn poll(&mut self, env: &mut Env<'_, M>) -> Served {
        self.clock.set(env.now, env.frequency);
        self.move_link(None, env.now, env.frequency);
        let mut served = Served::default();
        if self.late != 0 && env.now >= self.late_until {
            let queue = self.late.trailing_zeros();
            self.late &= self.late - 1;
            if let Ok(queue) = u16::try_from(queue) {
                let lost = self.lost >> queue & 1 != 0;
                served = self.serve_now(queue, lost, env);
                if served.more {
                    self.late |= 1 << queue;
                }
            }
            served.more = self.late != 0;
        }
        if !served.broken {
            served = served.and(self.device.poll(env));
        }
        self.tell(served)
    }

    fn balloon(&mut self, wish: Wish, env: &mut Env<'_, M>) -> Option<(Served, Standing)> {
        let (served, standing) = self.device.balloon(wish, env)?;
        Some((self.tell(served), standing))
    }

    fn is_broken(&self) -> bool {
        self.device.is_broken()
    }

    fn due(&self) -> u64 {
        let mut due = self.clock.due.load(Relaxed).min(self.device.due());
        if self.late != 0 {
            due = due.min(self.late_until);
        }
        due.min(self.down_until.unwrap_or(u64::MAX))
    }
}
