//! A disk that fails, is slow, and mixes up the order of things.

use super::{Clock, Faults, Kind};
use crate::blk::{Disk, Facts, Outcome, Request, Status, Token};
use crate::chain::Cursor;
use crate::memory::GuestMemory;
use core::sync::atomic::Ordering::Relaxed;

/// How many requests it can have held back at once. Those above have no faults of time.
pub const MAX_HELD: usize = 32;

/// A disk around another one.
///
/// A request that is dropped never ends, so a device over it has as many places for requests as it shall survive losses
/// of.
pub struct FaultyDisk<'a, D> {
    disk: D,
    faults: Faults,
    clock: &'a Clock,
    /// How many requests there were, and those of the device's places whose request has not come here yet.
    count: u64,
    fresh: u32,
    held: [Option<Held>; MAX_HELD],
}

/// A request that the device waits for, and what is special about it.
#[derive(Clone, Copy)]
struct Held {
    token: Token,
    nth: u64,
    stage: Stage,
    /// It is not finished before.
    due: u64,
    /// It is finished as soon as a later one is.
    overtaken: bool,
    /// It fails, whatever the disk says.
    fails: bool,
    /// The device has been told that it is over, and will ask how.
    told: bool,
}

#[derive(Clone, Copy)]
enum Stage {
    /// The disk has it.
    Pending,
    /// The disk is done with it, and has not been asked how.
    Finished,
    /// It is over.
    Known(Status),
}

impl<'a, D> FaultyDisk<'a, D> {
    /// A disk with faults. Its clock is that of the [`FaultyDevice`](super::FaultyDevice) around its device.
    pub const fn new(disk: D, faults: Faults, clock: &'a Clock) -> Self {
        Self {
            disk,
            faults,
            clock,
            count: 0,
            fresh: 0,
            held: [None; MAX_HELD],
        }
    }

    /// The disk inside.
    pub fn inner(&mut self) -> &mut D {
        &mut self.disk
    }

    fn find(&mut self, token: Token) -> Option<&mut Held> {
        let mut held = self.held.iter_mut().flatten();
        held.find(|held| held.token == token)
    }

    /// A request has come here, and is not new when it comes again.
    const fn counted(&mut self, token: Token) {
        self.count += 1;
        self.fresh &= !token.bit();
    }

    /// The nth is finished: those before it that were to be overtaken have been.
    fn overtake(&mut self, nth: u64) {
        for held in self.held.iter_mut().flatten() {
            if held.overtaken && held.nth < nth {
                held.due = 0;
            }
        }
        self.say_due();
    }

    /// Says when it wants to be asked next.
    fn say_due(&self) {
        let ready = self.held.iter().flatten().filter(|held| match held.stage {
            Stage::Finished | Stage::Known(_) => !held.told,
            Stage::Pending => false,
        });
        let due = ready.map(|held| held.due).min();
        self.clock.due.store(due.unwrap_or(u64::MAX), Relaxed);
    }
}

impl<D> FaultyDisk<'_, D> {
    /// What is to happen to this request's end: when it may be, and whether it is as soon as a later one is finished.
    fn lateness(&self, nth: u64) -> Option<(u64, bool)> {
        let late = self.faults.hit(Kind::Delay, nth);
        let overtaken = self.faults.hit(Kind::Reorder, nth);
        if !late && !overtaken {
            return None;
        }
        let frequency = self.clock.frequency();
        let wait = if late {
            self.faults.dice().time(nth, frequency, 100)
        } else {
            frequency / 100
        };
        Some((self.clock.now().saturating_add(wait), overtaken && !late))
    }
}

impl<M: GuestMemory, D: Disk<M>> Disk<M> for FaultyDisk<'_, D> {
    fn facts(&self) -> Facts {
        self.disk.facts()
    }

    fn begins(&mut self, token: Token) {
        self.fresh |= token.bit();
        self.disk.begins(token);
    }

    fn submit(&mut self, request: &Request, data: Cursor<'_>, memory: &M, token: Token) -> Outcome {
        if self.fresh & token.bit() == 0 {
            // The rest of a large request, or the flush behind a write, has the luck of its beginning.
            return self.disk.submit(request, data, memory, token);
        }
        let nth = self.count;
        if self.faults.hit(Kind::Drop, nth) {
            self.counted(token);
            return Outcome::Pending;
        }
        let place = self.held.iter().position(Option::is_none);
        let fails = self.faults.hit(Kind::Short, nth);
        let half = request.sectors / 2;
        let cannot = fails && (half == 0 || place.is_none());
        if cannot || self.faults.hit(Kind::Error, nth) {
            self.counted(token);
            return Outcome::Done(Status::IoError);
        }
        let sectors = if fails { half } else { request.sectors };
        let request = Request {
            sectors,
            ..*request
        };
        let outcome = self.disk.submit(&request, data, memory, token);
        if outcome == Outcome::Busy {
            // It will be asked again, with the same luck.
            return outcome;
        }
        self.counted(token);
        let late = self.lateness(nth).filter(|_| place.is_some());
        let stage = match outcome {
            Outcome::Done(status) => {
                let status = if fails { Status::IoError } else { status };
                if late.is_none() {
                    self.overtake(nth);
                    return Outcome::Done(status);
                }
                // What was read is in the guest's buffers already, which the driver may not look at yet.
                Stage::Known(status)
            }
            Outcome::Pending | Outcome::Busy => Stage::Pending,
        };
        let reorders = self.faults.has(Kind::Reorder);
        if late.is_none() && !fails && !reorders {
            return outcome;
        }
        let (due, overtaken) = late.unwrap_or((0, false));
        if let Some(slot) = place.and_then(|place| self.held.get_mut(place)) {
            *slot = Some(Held {
                token,
                nth,
                stage,
                due,
                overtaken,
                fails,
                told: false,
            });
        }
        self.say_due();
        Outcome::Pending
    }

    fn renew(&mut self) {
        self.disk.renew();
    }

    fn finished(&mut self) -> Option<Token> {
        while let Some(token) = self.disk.finished() {
            match self.find(token) {
                Some(held) => held.stage = Stage::Finished,
                None => return Some(token),
            }
        }
        let now = self.clock.now();
        let over = self.held.iter_mut().flatten().find(|held| {
            let is_over = matches!(held.stage, Stage::Finished | Stage::Known(_));
            is_over && held.due <= now && !held.told
        });
        let told = over.map(|held| {
            held.told = true;
            (held.token, held.nth)
        });
        match told {
            Some((_, nth)) => self.overtake(nth),
            None => self.say_due(),
        }
        told.map(|(token, _)| token)
    }

    fn collect(&mut self, token: Token, data: Option<(Cursor<'_>, &M)>) -> Status {
        let mut held = None;
        for slot in &mut self.held {
            if slot.is_some_and(|held| held.token == token) {
                held = slot.take();
            }
        }
        self.say_due();
        match held {
            Some(Held {
                stage: Stage::Known(status),
                ..
            }) => status,
            Some(Held { fails: true, .. }) => {
                let _ = self.disk.collect(token, data);
                Status::IoError
            }
            _ => self.disk.collect(token, data),
        }
    }
}
