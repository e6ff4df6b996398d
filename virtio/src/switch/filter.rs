//! Which frames a card's driver wants: virtio 1.3, 5.1.6.5.1 and 5.1.6.5.2.

use arrayvec::ArrayVec;

use super::frame::Mac;

/// The most addresses in each of the two tables; with more, all frames of that kind are received.
pub const MAX_ADDRESSES: usize = 16;

/// What a driver may switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Promiscuous,
    AllMulticast,
    AllUnicast,
    NoMulticast,
    NoUnicast,
    NoBroadcast,
}

/// A table of addresses.
#[derive(Clone)]
pub(crate) struct Addresses {
    pub listed: ArrayVec<Mac, MAX_ADDRESSES>,
    /// There were more than fit.
    pub is_all: bool,
}

impl Addresses {
    pub const fn new() -> Self {
        Self {
            listed: ArrayVec::new_const(),
            is_all: false,
        }
    }

    fn has(&self, mac: Mac) -> bool {
        self.is_all || self.listed.contains(&mac)
    }

    fn is_empty(&self) -> bool {
        !self.is_all && self.listed.is_empty()
    }
}

/// The filter.
pub(crate) struct Filter {
    pub mac: Mac,
    modes: u8,
    pub unicast: Addresses,
    pub multicast: Addresses,
}

impl Mode {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Filter {
    pub const fn new() -> Self {
        Self {
            mac: Mac(0),
            modes: 0,
            unicast: Addresses::new(),
            multicast: Addresses::new(),
        }
    }

    /// Switches a mode.
    pub fn set(&mut self, mode: Mode, is_on: bool) {
        if is_on {
            self.modes |= mode.bit();
        } else {
            self.modes &= !mode.bit();
        }
    }

    fn is(&self, mode: Mode) -> bool {
        self.modes & mode.bit() != 0
    }

    /// Whether it wants a frame that is for this address.
    #[inline(always)]
    pub fn accepts(&self, to: Mac) -> bool {
        self.is_own(to) || self.accepts_other(to)
    }

    /// Whether this is the card's own address, and it wants frames for that.
    #[inline(always)]
    pub fn is_own(&self, to: Mac) -> bool {
        to == self.mac && !self.is(Mode::NoUnicast)
    }

    #[inline(never)]
    fn accepts_other(&self, to: Mac) -> bool {
        if self.is(Mode::Promiscuous) {
            true
        } else if to == Mac::BROADCAST {
            !self.is(Mode::NoBroadcast)
        } else if to.is_group() {
            !self.is(Mode::NoMulticast) && (self.is(Mode::AllMulticast) || self.multicast.has(to))
        } else {
            !self.is(Mode::NoUnicast) && (self.is(Mode::AllUnicast) || self.unicast.has(to))
        }
    }

    /// Whether it wants frames for stations that it is not.
    pub fn is_curious(&self) -> bool {
        self.is(Mode::Promiscuous) || self.is(Mode::AllUnicast) || !self.unicast.is_empty()
    }
}
