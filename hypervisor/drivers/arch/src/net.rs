//! The machine's network card (virtio 1.3, 5.1): whole frames without offloads. These are the queues of `virtio-drivers`
//! and not its `VirtIONetRaw`: that keeps its transport to itself, so that nobody could reset a card that lies.
//!
//! All receive buffers are the device's but the one whose frame is looked at. A buffer to transmit is the device's until
//! somebody needs it again: nobody waits for a frame to leave, and the device need not interrupt for it.

use core::fmt;

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{Hal, PAGE_SIZE};

use crate::memory::Pieces;
use crate::transport::barrier;
use crate::{Bounded, Refusal};

/// How many buffers there are to receive into.
pub const RECEIVED: usize = 128;
/// How many there are to transmit: several times the frames that a piece of 64 KiB is cut into.
pub const SENT: usize = 256;
/// Bytes of a buffer: half a page, so that a frame is in one page.
const BUFFER: usize = 2048;
/// What is before a frame: `struct virtio_net_hdr_v1` (virtio 1.3, 5.1.6).
const HEADER: usize = 12;
/// The longest frame.
pub const MOST: usize = BUFFER - HEADER;
/// What every frame has: two addresses and a type.
pub const LEAST: usize = 14;

/// `VIRTIO_NET_F_MAC` (virtio 1.3, 5.1.3); the address is what the configuration begins with (5.1.4).
const MAC: u64 = 1 << 5;

/// The queues `receiveq1` and `transmitq1` (5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// A network card.
pub struct Net<H: Hal, T: Transport> {
    transport: Bounded<T>,
    receive: VirtQueue<H, RECEIVED>,
    transmit: VirtQueue<H, SENT>,
    mac: Option<[u8; 6]>,
    /// The buffer that is in flight under a head.
    receiving: [Option<u8>; RECEIVED],
    /// The same of the other direction, and how many bytes of it are.
    sending: [Option<(u8, u16)>; SENT],
    /// Buffers to transmit that nobody has.
    idle: Idle,
    /// Whether the device has not been told of something to transmit.
    is_waiting: bool,
    incoming: Pieces<H>,
    outgoing: Pieces<H>,
    broken: bool,
}

/// Which of the buffers to transmit nobody has: a bit each.
#[derive(Clone, Copy)]
struct Idle([u64; SENT / 64]);

impl Idle {
    const ALL: Self = Self([u64::MAX; SENT / 64]);
    const NONE: Self = Self([0; SENT / 64]);

    fn is_empty(&self) -> bool {
        self.0 == Self::NONE.0
    }

    fn take(&mut self) -> Option<u8> {
        let mut words = (0..).step_by(64).zip(&mut self.0);
        let (base, word) = words.find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        u8::try_from(base + bit).ok()
    }

    fn put(&mut self, buffer: u8) {
        if let Some(word) = self.0.get_mut(usize::from(buffer / 64)) {
            *word |= 1 << (buffer % 64);
        }
    }
}

impl<H: Hal, T: Transport> fmt::Debug for Net<H, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl<H: Hal, T: Transport> Net<H, T> {
    /// Pages that a card takes of the memory for devices.
    pub const PAGES: usize = (RECEIVED * BUFFER).div_ceil(PAGE_SIZE)
        + crate::queue_pages(RECEIVED)
        + (SENT * BUFFER).div_ceil(PAGE_SIZE)
        + crate::queue_pages(SENT);

    /// Makes the device ready, and has it receive. This waits for its reset, but not for ever.
    ///
    /// # Errors
    /// When it is no network card, or none that can be driven. It is reset then.
    pub fn open(transport: T) -> Result<Self, Refusal> {
        let mut transport = Bounded::new(transport);
        if transport.device_type() != DeviceType::Network {
            return Err(Refusal::OtherDevice);
        }
        let features = transport.negotiate(MAC)?;
        let mac = match features & MAC {
            0 => None,
            _ => Some(transport.read_consistent(|| transport.read_config_space(0))?),
        };
        let incoming = Pieces::take(RECEIVED, BUFFER)?;
        let outgoing = Pieces::take(SENT, BUFFER)?;
        let receive = VirtQueue::new(&mut transport, RECEIVE, false, false)?;
        let mut transmit = VirtQueue::new(&mut transport, TRANSMIT, false, false)?;
        transmit.set_dev_notify(false);
        transport.finish_init();
        let mut net = Self {
            transport,
            receive,
            transmit,
            mac,
            receiving: [None; RECEIVED],
            sending: [None; SENT],
            idle: Idle::ALL,
            is_waiting: false,
            incoming,
            outgoing,
            broken: false,
        };
        for buffer in 0..RECEIVED {
            net.expect(buffer).ok_or(Refusal::Queue)?;
        }
        net.transport.notify(RECEIVE);
        Ok(net)
    }

    /// Its address, if it has one of its own.
    #[must_use]
    pub const fn mac(&self) -> Option<[u8; 6]> {
        self.mac
    }

    /// Whether it was caught lying. It is not asked any more.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes note of the device's interrupt: call this first, then [`receive`](Self::receive) until it says `false`.
    pub fn quiet(&mut self) {
        self.transport.quiet();
    }

    /// Has the device not interrupt for what comes, or do so again. What came meanwhile it does not tell of: it has to be
    /// looked for.
    pub fn mute(&mut self, is_muted: bool) {
        self.receive.set_dev_notify(!is_muted);
        barrier();
    }

    /// Lends a buffer to the device, to receive into. It is nobody's now.
    fn expect(&mut self, buffer: usize) -> Option<()> {
        // SAFETY: nobody's, and from here on the device's until `take` takes it back.
        let bytes = unsafe { self.incoming.slice(buffer, 0, BUFFER)? };
        // SAFETY: no other slice of it is made until its head comes back.
        let head = unsafe { self.receive.add(&[], &mut [bytes]) };
        let place = self.receiving.get_mut(usize::from(head.ok()?))?;
        *place = u8::try_from(buffer).ok();
        Some(())
    }

    /// Shows the next frame that came, if one did; whether one did. It is gone afterwards. What is too short to be a
    /// frame is not shown.
    pub fn receive(&mut self, see: impl FnOnce(&[u8])) -> bool {
        if self.broken {
            return false;
        }
        let Some(head) = self.receive.peek_used() else {
            return false;
        };
        if self.take(head, see).is_none() {
            self.give_up();
        } else if self.receive.should_notify() {
            self.transport.notify(RECEIVE);
        }
        true
    }

    /// Takes a buffer back from the device, shows the frame in it, and lends it again. `None` if the device did not have
    /// it, or could not write what it says.
    fn take(&mut self, head: u16, see: impl FnOnce(&[u8])) -> Option<()> {
        let buffer = self.receiving.get_mut(usize::from(head))?.take()?;
        let buffer = usize::from(buffer);
        // SAFETY: the slice that was lent under this head; the device is done with it.
        let bytes = unsafe { self.incoming.slice(buffer, 0, BUFFER)? };
        // SAFETY: the buffer that was lent under this head, which is in flight: the table says so.
        let written = unsafe { self.receive.pop_used(head, &[], &mut [&mut *bytes]) };
        let written = usize::try_from(written.ok()?).ok()?;
        let frame = bytes.get(..written)?.get(HEADER..).unwrap_or_default();
        if frame.len() >= LEAST {
            see(frame);
        }
        self.expect(buffer)
    }

    /// Sends a frame of so many bytes, which `fill` writes over whatever is there; whether it did. It does not when the
    /// frame is too short or too long, when `fill` says `false`, and when all buffers are on their way. The device is told
    /// by [`flush`](Self::flush).
    pub fn transmit(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> bool {
        if self.broken || !(LEAST..=MOST).contains(&len) {
            return false;
        }
        if self.idle.is_empty() {
            self.flush();
            if self.reap().is_none() {
                self.give_up();
            }
        }
        let Some(buffer) = self.idle.take() else {
            return false;
        };
        let sent = self.send(buffer, len, fill).is_some();
        if sent {
            self.is_waiting = true;
        } else {
            self.idle.put(buffer);
        }
        sent
    }

    /// Tells the device of what was sent.
    pub fn flush(&mut self) {
        let waits = core::mem::take(&mut self.is_waiting);
        if waits && !self.broken && self.transmit.should_notify() {
            self.transport.notify(TRANSMIT);
        }
    }

    fn send(&mut self, buffer: u8, len: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> Option<()> {
        let whole = HEADER.checked_add(len)?;
        // SAFETY: nobody's buffer, and from here on the device's until `reap` takes it back.
        let bytes = unsafe { self.outgoing.slice(buffer.into(), 0, whole)? };
        // Nothing to be done about checksums or segments: all zeroes (5.1.6.2).
        let (header, frame) = bytes.split_at_mut_checked(HEADER)?;
        header.fill(0);
        fill(frame).then_some(())?;
        // SAFETY: no other slice of it is made until its head comes back.
        let head = unsafe { self.transmit.add(&[bytes], &mut []) };
        let place = self.sending.get_mut(usize::from(head.ok()?))?;
        *place = Some((buffer, u16::try_from(whole).ok()?));
        Some(())
    }

    /// Takes back what has been sent. `None` if the device used what it was not given.
    fn reap(&mut self) -> Option<()> {
        for _ in 0..SENT {
            let Some(head) = self.transmit.peek_used() else {
                break;
            };
            let (buffer, len) = self.sending.get_mut(usize::from(head))?.take()?;
            let (at, len) = (usize::from(buffer), usize::from(len));
            // SAFETY: the slice that was lent under this head; nobody has made another since.
            let bytes = unsafe { self.outgoing.slice(at, 0, len)? };
            // SAFETY: the buffer that was lent under this head, which is in flight: the table says so.
            let sent = unsafe { self.transmit.pop_used(head, &[bytes], &mut []) };
            sent.ok()?;
            self.idle.put(buffer);
        }
        Some(())
    }

    /// The device lies. It is reset, and never asked again; what it has of the buffers is never used again.
    fn give_up(&mut self) {
        self.broken = true;
        self.idle = Idle::NONE;
        let _ = self.transport.reset();
    }
}
