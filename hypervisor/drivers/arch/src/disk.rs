//! The machine's disk (virtio 1.3, 5.2).
//!
//! A request has a [`Ticket`], and with it a buffer of EL2's own. A ticket is *held* (the buffer is its holder's), then
//! *flying* (the buffer is the device's), then held again, with what came of it. This is the queue of `virtio-drivers`
//! and not its `VirtIOBlk`: that waits for a flush, and has room for five requests.

use core::fmt;

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{Hal, PAGE_SIZE};

use crate::memory::Pieces;
use crate::{Bounded, Refusal, feature};

/// Bytes of a sector, whatever the disk's own blocks are (virtio 1.3, 5.2.4).
pub const SECTOR: usize = 512;
/// The most bytes that one request moves.
pub const MOST: usize = 64 << 10;
/// How many requests there may be at a time.
pub const REQUESTS: usize = 16;

/// A request takes three descriptors at most.
const QUEUE: usize = 64;
const QUEUE_INDEX: u16 = 0;

/// `VIRTIO_BLK_F_RO`, `VIRTIO_BLK_F_FLUSH`, `VIRTIO_BLK_F_DISCARD`, `VIRTIO_BLK_F_WRITE_ZEROES` (virtio 1.3, 5.2.3).
const RO: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

/// Where in the configuration the capacity is, and what one discard and one write of zeroes may cover at most (5.2.4).
const CAPACITY: usize = 0;
const MAX_DISCARD: usize = 36;
const MAX_ZEROES: usize = 48;

/// What is in a request's piece of the page of headers: the header, what a discard covers, and the status (5.2.6).
const HEADER: usize = 64;
const SEGMENT_AT: usize = 16;
const SEGMENT: usize = 16;
const STATUS_AT: usize = 32;
/// A status that no device answers with.
const NO_STATUS: u8 = 0xff;

/// Who has the request, and its buffer: good for the disk that it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(u8);

impl Ticket {
    /// Its number, below [`REQUESTS`].
    #[must_use]
    pub fn number(self) -> usize {
        self.0.into()
    }
}

/// What is to be done. Sectors have 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Reads so many sectors into the buffer.
    Read {
        /// The first sector.
        sector: u64,
        /// How many.
        sectors: u32,
    },
    /// Writes so many sectors out of the buffer.
    Write {
        /// The first sector.
        sector: u64,
        /// How many.
        sectors: u32,
    },
    /// Has the disk keep all writes that were completed before, come what may.
    Flush,
    /// What is in these sectors is not needed any more.
    Discard {
        /// The first sector.
        sector: u64,
        /// How many.
        sectors: u32,
    },
    /// Fills sectors with zeroes.
    Zero {
        /// The first sector.
        sector: u64,
        /// How many.
        sectors: u32,
        /// Whether the disk need not keep them as sectors of their own.
        unmap: bool,
    },
}

/// Why a request was not handed over. Its ticket is still held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The ticket is not held.
    NotHeld,
    /// It covers nothing, more than the buffer or the disk has, or more than the disk does at once.
    Range,
    /// The disk does not do such a thing.
    Unsupported,
    /// The disk is broken.
    Broken,
}

/// What became of a request that was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failed {
    /// The disk says that it failed.
    Io,
    /// The disk says that it does not do this.
    Unsupported,
    /// The disk is broken: it answered what was not asked. Nothing is in the buffer, and the ticket is gone.
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Held,
    /// Handed over; the head of its chain, and how many bytes the device is to write besides the status.
    Flying(u16, Data),
    /// The device that had it is broken.
    Lost,
}

/// A request's data: what the device reads or writes of the buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    None,
    /// The device writes so many bytes.
    In(usize),
    /// The device reads so many bytes.
    Out(usize),
    /// The device reads what is to be covered.
    Segment,
}

/// A disk.
pub struct Disk<H: Hal, T: Transport> {
    transport: Bounded<T>,
    queue: VirtQueue<H, QUEUE>,
    features: u64,
    sectors: u64,
    max_discard: u32,
    max_zeroes: u32,
    states: [State; REQUESTS],
    buffers: Pieces<H>,
    headers: Pieces<H>,
    broken: bool,
}

impl<H: Hal, T: Transport> fmt::Debug for Disk<H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl<H: Hal, T: Transport> Disk<H, T> {
    /// Pages that a disk takes of the memory for devices.
    pub const PAGES: usize = (REQUESTS * MOST).div_ceil(PAGE_SIZE)
        + (REQUESTS * HEADER).div_ceil(PAGE_SIZE)
        + crate::queue_pages(QUEUE);

    /// Makes the device ready. This waits for its reset, but not for ever.
    ///
    /// # Errors
    /// When it is no disk, or none that can be driven. It is reset then.
    pub fn open(transport: T) -> Result<Self, Refusal> {
        let mut transport = Bounded::new(transport);
        if transport.device_type() != DeviceType::Block {
            return Err(Refusal::OtherDevice);
        }
        let wanted = RO | FLUSH | DISCARD | WRITE_ZEROES | feature::EVENT_IDX;
        let features = transport.negotiate(wanted)?;
        let sectors = transport.read_consistent(|| {
            let low = transport.read_config_space::<u32>(CAPACITY)?;
            let high = transport.read_config_space::<u32>(CAPACITY + 4)?;
            Ok(u64::from(low) | u64::from(high) << 32)
        })?;
        // All its bytes can be counted.
        if sectors > u64::MAX / SECTOR as u64 {
            return Err(Refusal::Config);
        }
        let most = |bit, at| match features & bit {
            0 => Ok(0),
            _ => transport.read_config_space::<u32>(at),
        };
        let max_discard = most(DISCARD, MAX_DISCARD)?;
        let max_zeroes = most(WRITE_ZEROES, MAX_ZEROES)?;
        let event_idx = features & feature::EVENT_IDX != 0;
        let buffers = Pieces::take(REQUESTS, MOST)?;
        let headers = Pieces::take(REQUESTS, HEADER)?;
        let queue = VirtQueue::new(&mut transport, QUEUE_INDEX, false, event_idx)?;
        transport.finish_init();
        Ok(Self {
            transport,
            queue,
            features,
            sectors,
            max_discard,
            max_zeroes,
            states: [State::Free; REQUESTS],
            buffers,
            headers,
            broken: false,
        })
    }

    /// How many sectors it has.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Whether it cannot be written.
    #[must_use]
    pub const fn is_readonly(&self) -> bool {
        self.features & RO != 0
    }

    /// Whether it keeps writes in a cache that a flush empties. Without, every write that is completed is kept.
    #[must_use]
    pub const fn has_cache(&self) -> bool {
        self.features & FLUSH != 0
    }

    /// The most sectors that one discard may cover; 0 if there is no such request.
    #[must_use]
    pub const fn max_discard(&self) -> u32 {
        self.max_discard
    }

    /// The most sectors that one write of zeroes may cover; 0 if there is no such request.
    #[must_use]
    pub const fn max_zeroes(&self) -> u32 {
        self.max_zeroes
    }

    /// Whether it was caught lying. It is not asked any more.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes a ticket; `None` when all are out.
    pub fn hold(&mut self) -> Option<Ticket> {
        let free = self
            .states
            .iter()
            .position(|state| *state == State::Free && !self.broken)?;
        *self.states.get_mut(free)? = State::Held;
        u8::try_from(free).ok().map(Ticket)
    }

    /// Gives a ticket back. One that is not held is left as it is.
    pub fn release(&mut self, ticket: Ticket) {
        if let Some(state) = self.states.get_mut(ticket.number())
            && *state == State::Held
        {
            *state = State::Free;
        }
    }

    /// The buffer of a ticket that is held: [`MOST`] bytes. Empty while it is not. Before they are written, they are
    /// those of an earlier request, perhaps another guest's.
    pub fn buffer(&mut self, ticket: Ticket) -> &mut [u8] {
        if self.states.get(ticket.number()) != Some(&State::Held) {
            return &mut [];
        }
        // SAFETY: not the device's while the ticket is held, and the slice ends before `self` is used again.
        let bytes = unsafe { self.buffers.slice(ticket.number(), 0, MOST) };
        bytes.unwrap_or_default()
    }

    /// Hands a request over and tells the device. The buffer of a ticket that is held has what a write writes.
    ///
    /// # Errors
    /// When the request cannot be done; nothing has happened then.
    pub fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Refused> {
        if self.broken {
            return Err(Refused::Broken);
        }
        if self.states.get(ticket.number()) != Some(&State::Held) {
            return Err(Refused::NotHeld);
        }
        let (data, header) = self.judge(request)?;
        let number = ticket.number();
        // SAFETY: the ticket is held, so none of its memory is the device's, and these are the only slices of it.
        let put = unsafe { self.headers.slice(number, 0, STATUS_AT + 1) };
        if let Some((status, bytes)) = put.and_then(<[u8]>::split_last_mut) {
            *status = NO_STATUS;
            bytes.copy_from_slice(&header);
        }
        // SAFETY: the slices are those of a ticket that is held. It flies from here on, so that nobody makes another
        // slice of them until `complete` has taken the chain back.
        let head = unsafe { self.add(number, data) };
        // There are descriptors for all requests at once.
        let head = head.ok_or(Refused::Broken)?;
        if let Some(state) = self.states.get_mut(number) {
            *state = State::Flying(head, data);
        }
        if self.queue.should_notify() {
            self.transport.notify(QUEUE_INDEX);
        }
        Ok(())
    }

    /// What the device is to read or write, and the header and the segment that say so.
    fn judge(&self, request: Request) -> Result<(Data, [u8; STATUS_AT]), Refused> {
        // VIRTIO_BLK_T_IN, _OUT, _FLUSH, _DISCARD, _WRITE_ZEROES (virtio 1.3, 5.2.6).
        let (kind, at, sectors, most) = match request {
            Request::Read { sector, sectors } => (0u32, sector, sectors, MOST / SECTOR),
            Request::Write { sector, sectors } => (1, sector, sectors, MOST / SECTOR),
            Request::Flush => (4, 0, 0, 0),
            Request::Discard { sector, sectors } => {
                (11, sector, sectors, self.max_discard as usize)
            }
            Request::Zero {
                sector, sectors, ..
            } => (13, sector, sectors, self.max_zeroes as usize),
        };
        let flush = request == Request::Flush;
        let reads = matches!(request, Request::Read { .. });
        if (flush && !self.has_cache()) || (!flush && most == 0) {
            return Err(Refused::Unsupported);
        }
        if self.is_readonly() && !reads && !flush {
            return Err(Refused::Unsupported);
        }
        let count = sectors as usize;
        let end = at.checked_add(u64::from(sectors)).ok_or(Refused::Range)?;
        if !flush && (count == 0 || count > most || end > self.sectors) {
            return Err(Refused::Range);
        }
        let bytes = count.saturating_mul(SECTOR);
        let (data, sector, flags) = match request {
            Request::Read { .. } => (Data::In(bytes), at, 0u32),
            Request::Write { .. } => (Data::Out(bytes), at, 0),
            Request::Flush => (Data::None, 0, 0),
            Request::Discard { .. } => (Data::Segment, 0, 0),
            // VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP is bit 0.
            Request::Zero { unmap, .. } => (Data::Segment, 0, u32::from(unmap)),
        };
        let mut header = [0; STATUS_AT];
        let (first, segment) = header.split_at_mut(SEGMENT_AT);
        let words = [kind, 0].map(u32::to_le_bytes);
        let fields = words.iter().flatten().copied().chain(sector.to_le_bytes());
        first
            .iter_mut()
            .zip(fields)
            .for_each(|(to, from)| *to = from);
        let words = [sectors, flags].map(u32::to_le_bytes);
        let fields = at
            .to_le_bytes()
            .into_iter()
            .chain(words.into_iter().flatten());
        segment
            .iter_mut()
            .zip(fields)
            .for_each(|(to, from)| *to = from);
        Ok((data, header))
    }

    /// Adds a request's chain to the queue; its head.
    ///
    /// # Safety
    /// The request's memory is nobody else's, and stays so until its chain is taken back.
    unsafe fn add(&mut self, number: usize, data: Data) -> Option<u16> {
        // SAFETY: as the caller says. So is the next, and its bytes are others.
        let header = unsafe { self.headers.slice(number, 0, SEGMENT_AT)? };
        // SAFETY: as above.
        let segment = unsafe { self.headers.slice(number, SEGMENT_AT, SEGMENT)? };
        // SAFETY: as above.
        let status = unsafe { self.headers.slice(number, STATUS_AT, 1)? };
        let len = match data {
            Data::In(len) | Data::Out(len) => len,
            Data::None | Data::Segment => 0,
        };
        // SAFETY: as above, in the other piece.
        let bytes = unsafe { self.buffers.slice(number, 0, len)? };
        let (inputs, outputs): (&[&[u8]], &mut [&mut [u8]]) = match data {
            Data::None => (&[header], &mut [status]),
            Data::In(_) => (&[header], &mut [bytes, status]),
            Data::Out(_) => (&[header, bytes], &mut [status]),
            Data::Segment => (&[header, segment], &mut [status]),
        };
        // SAFETY: the buffers stay as they are until the chain is taken back, says the caller.
        let head = unsafe { self.queue.add(inputs, outputs) };
        head.ok()
    }

    /// Takes a request's chain back, if the device has used it just now; how many bytes it wrote, the status included,
    /// and which.
    ///
    /// # Safety
    /// The chain is in flight, and was added with this data.
    unsafe fn take(&mut self, number: usize, head: u16, data: Data) -> Option<(u32, u8)> {
        // SAFETY: the same slices as in `add`; nobody has made others since.
        let header = unsafe { self.headers.slice(number, 0, SEGMENT_AT)? };
        // SAFETY: as above.
        let segment = unsafe { self.headers.slice(number, SEGMENT_AT, SEGMENT)? };
        // SAFETY: as above.
        let status = unsafe { self.headers.slice(number, STATUS_AT, 1)? };
        let len = match data {
            Data::In(len) | Data::Out(len) => len,
            Data::None | Data::Segment => 0,
        };
        // SAFETY: as above.
        let bytes = unsafe { self.buffers.slice(number, 0, len)? };
        let (inputs, outputs): (&[&[u8]], &mut [&mut [u8]]) = match data {
            Data::None => (&[header], &mut [&mut *status]),
            Data::In(_) => (&[header], &mut [bytes, &mut *status]),
            Data::Out(_) => (&[header, bytes], &mut [&mut *status]),
            Data::Segment => (&[header, segment], &mut [&mut *status]),
        };
        // SAFETY: the same buffers as were added under this head, which is in flight.
        let written = unsafe { self.queue.pop_used(head, inputs, outputs) };
        Some((written.ok()?, status.first().copied()?))
    }

    /// Takes note of the device's interrupt: call this first, then [`complete`](Self::complete) until it says `None`.
    pub fn quiet(&mut self) {
        self.transport.quiet();
    }

    /// The next request that the device is done with, and what came of it. Its ticket is held, unless the disk is broken.
    pub fn complete(&mut self) -> Option<(Ticket, Result<(), Failed>)> {
        if !self.broken {
            let head = self.queue.peek_used()?;
            let of = |state: &State| matches!(state, State::Flying(one, _) if *one == head);
            let flying = self.states.iter().position(of);
            if let Some(number) = flying
                && let Some(State::Flying(head, data)) = self.states.get(number).copied()
            {
                // SAFETY: a flying request's head and data are what its chain was added with.
                let taken = unsafe { self.take(number, head, data) };
                if let Some((written, status)) = taken {
                    return self.landed(number, answer(data, written, status));
                }
            }
            // It used what it was not given, or twice.
            self.broken = true;
            let _ = self.transport.reset();
        }
        let flying = |state: &State| matches!(state, State::Flying(..));
        let number = self.states.iter().position(flying)?;
        *self.states.get_mut(number)? = State::Lost;
        let ticket = Ticket(u8::try_from(number).ok()?);
        Some((ticket, Err(Failed::Broken)))
    }

    fn landed(
        &mut self,
        number: usize,
        answer: Result<(), Failed>,
    ) -> Option<(Ticket, Result<(), Failed>)> {
        *self.states.get_mut(number)? = State::Held;
        Some((Ticket(u8::try_from(number).ok()?), answer))
    }
}

/// What a device has said, judged. Of a read all bytes must have been written: what was in the buffer before may be
/// another guest's.
fn answer(data: Data, written: u32, status: u8) -> Result<(), Failed> {
    let wanted = match data {
        Data::In(len) => len,
        Data::None | Data::Out(_) | Data::Segment => 0,
    };
    // VIRTIO_BLK_S_OK and VIRTIO_BLK_S_UNSUPP (virtio 1.3, 5.2.6).
    match status {
        0 if written as usize > wanted => Ok(()),
        2 => Err(Failed::Unsupported),
        _ => Err(Failed::Io),
    }
}
