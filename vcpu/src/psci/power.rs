//! Which lanes of a guest are on.

use core::sync::atomic::{AtomicU32, Ordering};

use super::Error;
use ::smccc::psci::AffinityState;

/// The most lanes that a [`Power`] can hold: two bits each in a word.
pub const MAX_LANES: usize = 16;

/// The power state of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Off.
    Off,
    /// Claimed by a CPU_ON, not yet running.
    OnPending,
    /// Running.
    On,
}

impl State {
    const fn bits(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::OnPending => 1,
            Self::On => 2,
        }
    }

    /// The value that AFFINITY_INFO returns.
    #[must_use]
    pub const fn affinity(self) -> AffinityState {
        match self {
            Self::Off => AffinityState::Off,
            Self::OnPending => AffinityState::OnPending,
            Self::On => AffinityState::On,
        }
    }
}

/// Whether a lane that turned off left any other on or about to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum LastOut {
    /// Another lane is on or pending.
    OthersRemain,
    /// No lane is left: nothing can ever start one again.
    NoneRemain,
}

/// The power states of a guest's lanes, in one word so that every transition is atomic with respect to all of them.
#[derive(Debug)]
pub struct Power {
    word: AtomicU32,
    lanes: usize,
}

impl Power {
    /// `lanes` lanes, all off; at most [`MAX_LANES`].
    #[must_use]
    pub const fn new(lanes: usize) -> Self {
        Self {
            word: AtomicU32::new(0),
            lanes: if lanes < MAX_LANES { lanes } else { MAX_LANES },
        }
    }

    /// How many lanes there are.
    #[must_use]
    pub const fn lanes(&self) -> usize {
        self.lanes
    }

    /// The state of `lane`; off if there is none.
    #[must_use]
    pub fn state(&self, lane: usize) -> State {
        get(self.word.load(Ordering::Acquire), lane)
    }

    /// Claims a lane that is off. Of several callers exactly one succeeds until the lane is off again.
    ///
    /// # Errors
    /// ALREADY_ON or ON_PENDING, or INVALID_PARAMETERS if there is no such lane.
    pub fn turn_on(&self, lane: usize) -> Result<(), Error> {
        if lane >= self.lanes {
            return Err(Error::InvalidParameters);
        }
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                (get(word, lane) == State::Off).then(|| with(word, lane, State::OnPending))
            })
            .map(|_| ())
            .map_err(|word| match get(word, lane) {
                State::OnPending => Error::OnPending,
                State::On | State::Off => Error::AlreadyOn,
            })
    }

    /// The claimed lane executes its first instruction.
    pub fn started(&self, lane: usize) {
        self.set(lane, State::On);
    }

    /// Nothing of the lane runs any more. Of several lanes turning off at once exactly one is told that it was the last.
    pub fn turned_off(&self, lane: usize) -> LastOut {
        if self.set(lane, State::Off) == 0 {
            LastOut::NoneRemain
        } else {
            LastOut::OthersRemain
        }
    }

    /// On if any lane is, else pending if any is, else off.
    #[must_use]
    pub fn any(&self) -> State {
        let word = self.word.load(Ordering::Acquire);
        if word & 0xaaaa_aaaa != 0 {
            State::On
        } else if word != 0 {
            State::OnPending
        } else {
            State::Off
        }
    }

    /// All lanes off, for a machine none of whose lanes runs.
    pub fn reset(&self) {
        self.word.store(0, Ordering::Release);
    }

    fn set(&self, lane: usize, state: State) -> u32 {
        if lane >= self.lanes {
            return self.word.load(Ordering::Acquire);
        }
        let before = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                Some(with(word, lane, state))
            })
            .unwrap_or_else(|word| word);
        with(before, lane, state)
    }
}

fn get(word: u32, lane: usize) -> State {
    if lane >= MAX_LANES {
        return State::Off;
    }
    match (word >> (lane * 2)) & 3 {
        0 => State::Off,
        1 => State::OnPending,
        _ => State::On,
    }
}

fn with(word: u32, lane: usize, state: State) -> u32 {
    if lane >= MAX_LANES {
        return word;
    }
    word & !(3 << (lane * 2)) | state.bits() << (lane * 2)
}
