//! What goes wrong on purpose in a guest's virtio devices.

/// The highest rate: always.
pub const MAX_RATE: u32 = 1_000_000;

/// How often things go wrong, each in parts per million, drawn from a seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Where the draws begin: the same seed and the same requests have the same faults.
    pub seed: u64,
    /// A request is finished late.
    pub delay: u32,
    /// Less is read or written than was asked for.
    pub short: u32,
    /// A request fails.
    pub error: u32,
    /// A frame is lost, or a request never finished.
    pub drop: u32,
    /// A request is finished after a later one.
    pub reorder: u32,
    /// An interrupt is not raised.
    pub interrupt: u32,
    /// The link goes down, and up again.
    pub link: u32,
    /// The device needs to be reset.
    pub reset: u32,
}

impl Faults {
    /// The rates, in the order of the plan.
    #[must_use]
    pub const fn rates(&self) -> [u32; 8] {
        let Self {
            seed: _,
            delay,
            short,
            error,
            drop,
            reorder,
            interrupt,
            link,
            reset,
        } = *self;
        [delay, short, error, drop, reorder, interrupt, link, reset]
    }

    /// Faults of these rates.
    #[must_use]
    pub const fn new(seed: u64, rates: [u32; 8]) -> Self {
        let [delay, short, error, drop, reorder, interrupt, link, reset] = rates;
        Self {
            seed,
            delay,
            short,
            error,
            drop,
            reorder,
            interrupt,
            link,
            reset,
        }
    }
}
