//! What every device is to its transport.

use crate::balloon::{Standing, Wish};
use crate::chain::Chain;
use crate::memory::GuestMemory;
use crate::queue::Queue;

/// The most queues that a device has.
pub const MAX_QUEUES: usize = 16;

/// What a device needs from outside to serve.
pub struct Env<'a, M> {
    /// The memory of the guest whose device it is.
    pub memory: M,
    /// The physical counter, now.
    pub now: u64,
    /// How often it counts in a second.
    pub frequency: u64,
    /// Who wants to hear of each operation on a queue.
    pub trace: Option<&'a mut dyn FnMut(Event)>,
}

/// An operation on a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A chain was taken.
    Popped {
        /// The queue.
        queue: u16,
        /// The head's index, or the buffer's id.
        id: u16,
        /// Bytes that the device may read.
        readable: u64,
        /// Bytes that it may write.
        writable: u64,
    },
    /// It was given back.
    Pushed {
        /// The queue.
        queue: u16,
        /// The head's index, or the buffer's id.
        id: u16,
        /// Bytes written.
        written: u32,
    },
}

/// What came of serving.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Served {
    /// The driver wants to be told of used buffers.
    pub used: bool,
    /// The configuration has changed.
    pub config: bool,
    /// The budget is used up, and there is more to do: poll the transport again.
    pub more: bool,
    /// The driver has written nonsense: the device needs a reset.
    pub broken: bool,
    /// The driver has reset the device: its `InterruptStatus` becomes zero, and nothing that came before interrupts it.
    pub reset: bool,
    /// Ports of switches whose drivers want to be told, by number.
    pub ports: u64,
}

impl Served {
    /// Nothing came of it.
    pub const NOTHING: Self = Self {
        used: false,
        config: false,
        more: false,
        broken: false,
        reset: false,
        ports: 0,
    };

    /// The driver has written nonsense.
    pub const BROKEN: Self = Self {
        used: false,
        config: false,
        more: false,
        broken: true,
        reset: false,
        ports: 0,
    };

    /// What came of both.
    pub const fn and(self, other: Self) -> Self {
        Self {
            used: self.used | other.used,
            config: self.config | other.config,
            more: self.more | other.more,
            broken: self.broken | other.broken,
            reset: self.reset | other.reset,
            ports: self.ports | other.ports,
        }
    }
}

/// A feature that makes no sense without another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dependency {
    /// The bit of the feature.
    pub feature: u64,
    /// The bits of those of which it needs one.
    pub any_of: u64,
    /// Whether a driver may accept it alone all the same: the device alone is bound.
    pub offer_only: bool,
}

impl Dependency {
    /// Whether features keep to it.
    #[must_use]
    pub const fn is_kept(&self, features: u64) -> bool {
        features & self.feature == 0 || features & self.any_of != 0
    }
}

impl<M: GuestMemory> Env<'_, M> {
    /// A chain was taken.
    #[inline]
    pub fn popped(&mut self, queue: u16, chain: &Chain) {
        if let Some(trace) = self.trace.as_mut() {
            trace(Event::Popped {
                queue,
                id: chain.id,
                readable: chain.readable_len,
                writable: chain.writable_len,
            });
        }
    }

    /// Gives a chain back.
    #[inline]
    pub fn push(&mut self, queue: u16, ring: &mut Queue, chain: &Chain, written: u32) {
        ring.push(&self.memory, chain.ticket(), written);
        if let Some(trace) = self.trace.as_mut() {
            let id = chain.id;
            trace(Event::Pushed { queue, id, written });
        }
    }
}

/// A device behind a transport. The transport calls nothing but what a device in that state may be asked.
pub trait Device<M: GuestMemory> {
    /// Its number: virtio 1.3, 5.
    fn id(&self) -> u32;

    /// Its own feature bits: 0 to 23 and above 49.
    fn features(&self) -> u64;

    /// Which of them need others. The transport offers none without what it needs, and lets no driver accept it so.
    fn dependencies(&self) -> &'static [Dependency] {
        &[]
    }

    /// The largest size of a queue, a power of two, at most [`MAX_CHAIN`](crate::chain::MAX_CHAIN); 0 if there is no such
    /// queue.
    fn queue_max(&self, queue: u16) -> u16;

    /// Copies bytes of the configuration space; those behind its end are left as they are.
    fn read_config(&self, offset: u64, into: &mut [u8]);

    /// A store of 1, 2, 4 or 8 bytes to the configuration space, anywhere in it and behind its end, by a driver whose
    /// features are agreed on. The configuration changes only in calls that say so ([`Served::config`]): the transport
    /// counts its generations.
    fn write_config(&mut self, offset: u64, bytes: &[u8], env: &mut Env<'_, M>) -> Served {
        let _ = (offset, bytes, env);
        Served::default()
    }

    /// The driver is ready (`DRIVER_OK`), and has agreed to these features.
    fn start(&mut self, features: u64);

    /// A queue is ready. It stays unused before [`start`](Self::start).
    fn open(&mut self, queue: u16, ring: Queue);

    /// A queue is reset (`VIRTIO_F_RING_RESET`): it is not touched again.
    fn close(&mut self, queue: u16);

    /// All of it as after power-on. When this returns, nothing of the guest's memory is touched any more.
    fn reset(&mut self);

    /// Its machine begins anew, after [`reset`](Self::reset): what is kept for one life is gone.
    fn renew(&mut self) {}

    /// A notification of a queue that is open, after [`start`](Self::start).
    fn serve(&mut self, queue: u16, env: &mut Env<'_, M>) -> Served;

    /// Something may have happened outside: a backend is done, there is input, time has passed. Called after
    /// [`start`](Self::start) only. Queues that said `more` are served again before it, by the transport.
    fn poll(&mut self, env: &mut Env<'_, M>) -> Served {
        let _ = env;
        Served::default()
    }

    /// When it wants to be [polled](Self::poll) at the latest, though nothing happens: a count like [`Env::now`]. Asked of
    /// devices with [faults](crate::faults) after each call.
    fn due(&self) -> u64 {
        u64::MAX
    }

    /// Does what an operator wants of a balloon, and says how it is then; `None` if it is none. Statistics are wanted after
    /// [`start`](Self::start) only.
    fn balloon(&mut self, wish: Wish, env: &mut Env<'_, M>) -> Option<(Served, Standing)> {
        let _ = (wish, env);
        None
    }

    /// Whether somebody else has found the driver's queue to be nonsense.
    fn is_broken(&self) -> bool {
        false
    }
}
