//! The machine's own disks, as guests' block devices use them: each device a part of one.
//!
//! A request is copied into a buffer of EL2's own, handed over, and forgotten until the disk interrupts the CPU that
//! booted. That CPU only notes what is done and tells the CPUs of the guests whose requests these are; their crews copy
//! what was read. Each device has a share of the requests that a disk takes, so that no guest waits for another's.

use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::reach::Reach;
use hypervisor_arch::say;
use hypervisor_arch::virtio::MachineDisk;
use hypervisor_arch::virtio::disk::{self, Failed, REQUESTS, Ticket};
use hypervisor_drivers::Sectors;
use spin::Once;
use spin::mutex::TicketMutex;
use vcpu::vgic::VirtGic;
use virtio::blk::{Disk, Facts, Op, Outcome, Request, Status, Token};
use virtio::chain::Cursor;

use crate::house::{self, House};

/// The most sectors of one request.
const MOST: u32 = 128;
/// The most that a guest's device discards at once (what its driver asks for is cut to this).
const MOST_DISCARDED: u32 = 1 << 15;

/// The machine's disks that guests have parts of.
static DRIVES: Once<Drives> = Once::new();

/// Disks of the machine.
pub type Drives = arrayvec::ArrayVec<&'static Drive, { configs_plan::MAX_DISKS }>;

/// One of them.
pub struct Drive {
    /// Which of the machine's.
    pub unit: u32,
    /// The name of its first user, for complaints.
    name: &'static str,
    intid: u32,
    facts: Facts,
    desk: TicketMutex<Desk>,
}

struct Desk {
    disk: MachineDisk,
    /// What each ticket is for.
    flights: [Option<Flight>; REQUESTS],
    users: arrayvec::ArrayVec<User, REQUESTS>,
}

/// A request on its way.
#[derive(Clone, Copy)]
struct Flight {
    ticket: Ticket,
    user: u8,
    token: Token,
    /// Bytes that it reads.
    reads: usize,
    /// What came of it, once something did.
    status: Option<Status>,
    /// Whether its device has been told.
    told: bool,
}

/// A guest's device: the guest's number, and its slot.
#[derive(Clone, Copy)]
struct User {
    vm: usize,
    slot: usize,
}

impl Drive {
    /// A disk that is ready, under the name of one of its users.
    pub fn new(unit: u32, name: &'static str, intid: u32, disk: MachineDisk) -> Self {
        let facts = Facts {
            sectors: disk.sectors(),
            readonly: disk.is_readonly(),
            volatile: disk.has_cache(),
            discards: disk.max_discard() >= MOST_DISCARDED,
            zeroes: disk.max_zeroes() >= MOST,
            most: MOST,
        };
        let desk = Desk {
            disk,
            flights: [None; REQUESTS],
            users: arrayvec::ArrayVec::new(),
        };
        let desk = TicketMutex::new(desk);
        Self {
            unit,
            name,
            intid,
            facts,
            desk,
        }
    }

    /// How many sectors it has.
    pub const fn sectors(&self) -> u64 {
        self.facts.sectors
    }

    /// Reads sectors, 64 KiB at most, and shows them: before any guest runs. It waits as long as `wait` says so; `None` when
    /// that was not long enough, or the disk cannot read them.
    pub fn read_now<R>(
        &self,
        sectors: Sectors,
        mut wait: impl FnMut() -> bool,
        see: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let desk = &mut *self.desk.lock();
        let ticket = desk.disk.hold()?;
        let count = u32::try_from(sectors.count()).ok()?;
        let request = disk::Request::Read {
            sector: sectors.first(),
            sectors: count,
        };
        desk.disk.submit(ticket, request).ok()?;
        let (done, answer) = loop {
            desk.disk.quiet();
            match desk.disk.complete() {
                Some(done) => break done,
                None if wait() => {}
                None => return None,
            }
        };
        let bytes = usize::try_from(count).ok()?.checked_mul(disk::SECTOR)?;
        let seen = desk.disk.buffer(done).get(..bytes).map(see);
        desk.disk.release(done);
        answer.ok()?;
        seen
    }

    /// A device of a guest that is to have a part of it. `None` when it has as many as it takes requests.
    pub fn join(&'static self, sectors: Sectors, vm: usize, slot: usize) -> Option<Part> {
        let users = &mut self.desk.lock().users;
        let user = u8::try_from(users.len()).ok()?;
        users.try_push(User { vm, slot }).ok()?;
        Some(Part {
            drive: self,
            sectors,
            user,
        })
    }

    /// Notes what the disk is done with; the devices to tell.
    fn look(&self) -> arrayvec::ArrayVec<User, REQUESTS> {
        let desk = &mut *self.desk.lock();
        let mut users = 0_u32;
        let before = desk.disk.is_broken();
        desk.disk.quiet();
        while let Some((ticket, answer)) = desk.disk.complete() {
            let flight = desk.flights.get_mut(ticket.number());
            if let Some(flight) = flight.and_then(Option::as_mut) {
                flight.status = Some(match answer {
                    Ok(()) => Status::Ok,
                    Err(Failed::Unsupported) => Status::Unsupported,
                    Err(Failed::Io | Failed::Broken) => Status::IoError,
                });
                users |= 1 << (u32::from(flight.user) % 32);
            }
        }
        if desk.disk.is_broken() && !before {
            say!(
                "disk {}: the machine's disk answered what was not asked, and is not used any more",
                self.name
            );
        }
        let is_told = |(index, _): &(usize, &User)| users >> (index % 32) & 1 != 0;
        let told = desk.users.iter().enumerate().filter(is_told);
        told.map(|(_, user)| *user).collect()
    }
}

/// Opens the disks for good.
pub fn open(drives: Drives) {
    DRIVES.call_once(|| drives);
}

/// An interrupt that this CPU has acknowledged: whether it was a disk's. It is to be ended then.
pub fn fired(house: &House, intid: u32) -> bool {
    let mut drives = DRIVES.get().into_iter().flatten();
    let Some(drive) = drives.find(|drive| drive.intid == intid) else {
        return false;
    };
    for user in drive.look() {
        call(house, user);
    }
    true
}

/// Has a device's guest poll it.
fn call(house: &House, user: User) {
    if let Some(vm) = house.vms.get(user.vm)
        && let Some(seat) = vm.seats.first()
    {
        vm.virtio.call(user.slot);
        ThisCpu.send_sgi(seat.wake);
    }
}

/// A part of a machine's disk, as one device has it.
pub struct Part {
    drive: &'static Drive,
    sectors: Sectors,
    user: u8,
}

impl Part {
    /// How many requests each device may have at a time.
    fn share(desk: &Desk) -> usize {
        REQUESTS / desk.users.len().max(1)
    }

    /// The request as the disk is to have it. Sectors are the part's here, and the disk's there.
    fn place(&self, request: &Request) -> Option<disk::Request> {
        let sectors = request.sectors;
        let sector = (self.sectors).within(request.sector, sectors.into())?;
        Some(match request.op {
            Op::Read => disk::Request::Read { sector, sectors },
            Op::Write => disk::Request::Write { sector, sectors },
            Op::Flush => disk::Request::Flush,
            Op::Discard => disk::Request::Discard { sector, sectors },
            Op::WriteZeroes { unmap } => disk::Request::Zero {
                sector,
                sectors,
                unmap,
            },
        })
    }
}

impl Disk<Reach> for Part {
    fn facts(&self) -> Facts {
        Facts {
            sectors: self.sectors.count(),
            ..self.drive.facts
        }
    }

    fn submit(
        &mut self,
        request: &Request,
        mut data: Cursor<'_>,
        memory: &Reach,
        token: Token,
    ) -> Outcome {
        let failed = Outcome::Done(Status::IoError);
        let Some(placed) = self.place(request) else {
            return failed;
        };
        if request.op == Op::Flush && !self.drive.facts.volatile {
            return Outcome::Done(Status::Ok);
        }
        let desk = &mut *self.drive.desk.lock();
        let mine = desk.flights.iter().flatten();
        let mut mine = mine.filter(|flight| flight.user == self.user);
        if mine.clone().count() >= Self::share(desk) {
            // What an earlier driver began may be done since, with nobody to take it back.
            if mine.any(|flight| flight.status.is_some())
                && let (Some(house), Some(user)) =
                    (house::get(), desk.users.get(usize::from(self.user)))
            {
                call(house, *user);
            }
            return Outcome::Busy;
        }
        let Some(ticket) = desk.disk.hold() else {
            return if desk.disk.is_broken() {
                failed
            } else {
                Outcome::Busy
            };
        };
        let bytes = usize::try_from(request.bytes()).unwrap_or(usize::MAX);
        if request.op == Op::Write {
            let buffer = desk.disk.buffer(ticket).get_mut(..bytes);
            if buffer
                .and_then(|buffer| data.read(memory, buffer))
                .is_none()
            {
                desk.disk.release(ticket);
                return failed;
            }
        }
        if desk.disk.submit(ticket, placed).is_err() {
            desk.disk.release(ticket);
            return failed;
        }
        if let Some(flight) = desk.flights.get_mut(ticket.number()) {
            *flight = Some(Flight {
                ticket,
                user: self.user,
                token,
                reads: if request.op == Op::Read { bytes } else { 0 },
                status: None,
                told: false,
            });
        }
        Outcome::Pending
    }

    fn finished(&mut self) -> Option<Token> {
        let desk = &mut *self.drive.desk.lock();
        let mut flights = desk.flights.iter_mut().flatten();
        let done = flights
            .find(|flight| flight.user == self.user && flight.status.is_some() && !flight.told)?;
        done.told = true;
        Some(done.token)
    }

    fn collect(&mut self, token: Token, data: Option<(Cursor<'_>, &Reach)>) -> Status {
        let desk = &mut *self.drive.desk.lock();
        let is_it = |flight: &&mut Option<Flight>| {
            flight.is_some_and(|flight| {
                flight.told && flight.user == self.user && flight.token == token
            })
        };
        let Some(flight) = desk.flights.iter_mut().find(is_it).and_then(Option::take) else {
            return Status::IoError;
        };
        let mut status = flight.status.unwrap_or(Status::IoError);
        if status == Status::Ok
            && flight.reads != 0
            && let Some((mut cursor, memory)) = data
        {
            let read = desk.disk.buffer(flight.ticket).get(..flight.reads);
            if read.and_then(|read| cursor.write(memory, read)).is_none() {
                status = Status::IoError;
            }
        }
        desk.disk.release(flight.ticket);
        status
    }
}
