//! The software distributor: everything about every interrupt that is not in a list register right now.

use super::bits::{Ones, Words, at, at_mut, lane_bit, low8};
use super::lr;
use super::{LINKED_PPIS, MAX_LRS};

/// Nobody: no list register holds the SPI.
pub(super) const NOBODY: u8 = 0xff;
/// The priority bits that exist (five, as in `ICH_VTR_EL2.PRIbits` of the machines at hand).
pub(super) const PRIORITY_MASK: u8 = 0xf8;
/// `GICD_IROUTER<n>.Interrupt_Routing_Mode`.
const ROUTE_ANY: u64 = 1 << 31;
/// The writable bits of `GICD_IROUTER<n>`: Aff3, IRM, Aff2, Aff1, Aff0.
pub(super) const ROUTE_MASK: u64 = 0xff_80ff_ffff;
pub(super) const ROUTE_AFFINITY: u64 = ROUTE_MASK & !ROUTE_ANY;

/// SGIs and PPIs of one lane.
pub(super) struct PrivateBank {
    pub(super) enable: u32,
    pub(super) group: u32,
    /// Pending, outside list registers.
    pub(super) latch: u32,
    /// Active, outside list registers.
    pub(super) active: u32,
    /// Physically active, outside list registers: EL2 owes the deactivation.
    pub(super) token: u32,
    pub(super) priority: [u8; 32],
    pub(super) asleep: bool,
}

impl PrivateBank {
    const fn new() -> Self {
        Self {
            enable: 0,
            group: u32::MAX,
            latch: 0,
            active: 0,
            token: 0,
            priority: [0; 32],
            asleep: true,
        }
    }

    /// Back to reset, except the debt to the physical GIC, which the next refill pays.
    pub(super) const fn reset(&mut self) {
        let token = self.token;
        *self = Self::new();
        self.token = token;
    }
}

/// The SPIs of the VM.
pub(super) struct SpiBank {
    pub(super) group: [u32; 2],
    /// Edge-triggered (else level-sensitive).
    pub(super) edge: [u32; 2],
    /// Pending by an edge or by software, outside list registers.
    pub(super) latch: [u32; 2],
    /// The input line is high.
    pub(super) line: [u32; 2],
    /// Active, outside list registers.
    pub(super) active: [u32; 2],
    /// A list register holds it pending by software too, not only by its line.
    pub(super) soft: [u32; 2],
    /// Something changed that may make it deliverable to a lane which does not know yet.
    pub(super) fresh: [u32; 2],
    pub(super) priority: [u8; 64],
    /// `GICD_IROUTER<n>` as written.
    pub(super) route: [u64; 64],
    /// The lane whose list register holds it.
    pub(super) home: [u8; 64],
    /// The lane that took it, while it is active.
    pub(super) owner: [u8; 64],
    /// Those of devices of the machine.
    pub(super) linked: [u32; 2],
    /// Their SPIs in the machine.
    pub(super) physical: [u16; 64],
    /// These are active there, and no list register says so: EL2 owes the deactivation.
    pub(super) token: [u32; 2],
    /// These are enabled there.
    pub(super) physically_on: [u32; 2],
}

/// What the VM's one lock protects.
pub(super) struct State {
    pub(super) lanes: usize,
    /// `GICD_CTLR.EnableGrp0` and `EnableGrp1`.
    pub(super) control: u32,
    /// Where the lanes are.
    pub(super) lanes_at: LanesAt,
    /// Lanes whose private interrupts somebody has changed, so that those which are parked may have to be called.
    pub(super) called: u32,
    pub(super) banks: [PrivateBank; 8],
    /// List registers that lanes have laid aside, for when they come back.
    pub(super) laid: [[u64; MAX_LRS]; 8],
    pub(super) spis: SpiBank,
}

/// Where the lanes are, in one word: two lanes that change places change it twice.
#[derive(Clone, Copy)]
pub(super) struct LanesAt(u32);

impl LanesAt {
    const NOWHERE: Self = Self(0);
    /// A lane's list registers are in use on some CPU.
    const RESIDENT: u32 = 1;
    /// It is away from its CPU and wants to be called when something arrives for it.
    const PARKED: u32 = 1 << 8;
    /// It is away, and its list registers are in [`State::laid`].
    const ASIDE: u32 = 1 << 16;

    /// The lanes of which the first is true.
    pub(super) const fn resident(self) -> u32 {
        self.0 & 0xff
    }

    /// The lanes of which the second is true.
    pub(super) const fn parked(self) -> u32 {
        self.0 >> 8 & 0xff
    }

    /// Whether a lane has laid its list registers aside.
    pub(super) const fn is_aside(self, lane: usize) -> bool {
        self.0 & Self::ASIDE << (lane & 7) != 0
    }

    const fn set(&mut self, lane: usize, what: u32) {
        let all = Self::RESIDENT | Self::PARKED | Self::ASIDE;
        self.0 = self.0 & !(all << (lane & 7)) | what << (lane & 7);
    }

    pub(super) const fn arrive(&mut self, lane: usize) {
        self.set(lane, Self::RESIDENT);
    }

    pub(super) const fn depart(&mut self, lane: usize, parked: bool) {
        self.set(lane, if parked { Self::PARKED } else { 0 });
    }

    pub(super) const fn lay_aside(&mut self, lane: usize) {
        self.set(lane, Self::PARKED | Self::ASIDE);
    }

    /// What a lane had laid aside is folded.
    pub(super) const fn collect(&mut self, lane: usize) {
        self.0 &= !(Self::ASIDE << (lane & 7));
    }
}

/// List registers taken from a lane.
pub(super) struct Snapshot {
    /// Which of `lrs` were in use.
    pub(super) used: u32,
    /// Their content, with the state the hardware has now.
    pub(super) lrs: [u64; MAX_LRS],
    /// `EOIcount`.
    pub(super) ended: u32,
    /// SGIs sent but not placed.
    pub(super) sgis: u32,
}

impl SpiBank {
    /// Those that are pending once and for all when they become so: edges, and what a device of the machine sends.
    const fn latching(&self, word: usize) -> u32 {
        *at(&self.edge, word) | *at(&self.linked, word)
    }
}

impl State {
    pub(super) const fn new(lanes: usize) -> Self {
        Self {
            lanes,
            control: 0,
            lanes_at: LanesAt::NOWHERE,
            called: 0,
            banks: [const { PrivateBank::new() }; 8],
            laid: [[0; MAX_LRS]; 8],
            spis: SpiBank {
                group: [u32::MAX; 2],
                edge: [0; 2],
                latch: [0; 2],
                line: [0; 2],
                active: [0; 2],
                soft: [0; 2],
                fresh: [0; 2],
                priority: [0; 64],
                route: [0; 64],
                home: [NOBODY; 64],
                owner: [0; 64],
                linked: [0; 2],
                physical: [0; 64],
                token: [0; 2],
                physically_on: [0; 2],
            },
        }
    }

    pub(super) const fn bank(&self, lane: usize) -> &PrivateBank {
        at(&self.banks, lane)
    }

    pub(super) const fn bank_mut(&mut self, lane: usize) -> &mut PrivateBank {
        at_mut(&mut self.banks, lane)
    }

    /// The SPIs of word `word` that are pending outside list registers.
    pub(super) const fn spi_pending(&self, word: usize) -> u32 {
        *at(&self.spis.latch, word) | (*at(&self.spis.line, word) & !*at(&self.spis.edge, word))
    }

    /// The interrupts of `group1` (a word of group bits) whose group the distributor forwards.
    pub(super) const fn forwarded(&self, group1: u32) -> u32 {
        (if self.control & 2 != 0 { group1 } else { 0 })
            | (if self.control & 1 != 0 { !group1 } else { 0 })
    }

    /// The private interrupts of `lane` that are enabled and whose group the distributor forwards.
    pub(super) const fn open(&self, lane: usize) -> u32 {
        let bank = self.bank(lane);
        bank.enable & self.forwarded(bank.group)
    }

    /// After a change that a lane itself knows nothing of, `before` which [`open`](Self::open) said something else
    /// perhaps: it has to be called for what is pending, and to look at its timers for what may become so.
    pub(super) const fn call(&mut self, lane: usize, before: u32) {
        let open = self.open(lane);
        if (self.bank(lane).latch | !before & LINKED_PPIS) & open != 0 {
            self.called |= lane_bit(lane);
        }
    }

    /// The lane that SPI number `spi` (INTID − 32) goes to now, if there is one.
    pub(super) fn target(&self, spi: usize) -> Option<usize> {
        let route = *at(&self.spis.route, spi);
        if route & ROUTE_ANY != 0 {
            // "1 of N": the first lane that runs, or else that would. Any choice is allowed (IHI 0069, 3.1.1).
            let able = match self.lanes_at.resident() {
                0 => self.lanes_at.parked(),
                resident => resident,
            };
            let first = usize::try_from(able.trailing_zeros()).unwrap_or(usize::MAX);
            return (first < self.lanes).then_some(first);
        }
        let lane = usize::from(low8(route));
        (route & ROUTE_AFFINITY == u64::from(low8(route)) && lane < self.lanes).then_some(lane)
    }

    /// The lanes whose list registers hold any of the SPIs `bits` of word `word`.
    pub(super) fn homes(&self, word: usize, bits: u32) -> u32 {
        Ones(bits).fold(0, |lanes, bit| {
            let home = *at(&self.spis.home, word * 32 + bit as usize);
            if home == NOBODY {
                lanes
            } else {
                lanes | lane_bit(usize::from(home))
            }
        })
    }

    /// Whether an SPI is active for a lane that has it neither in its list registers nor is `lane`.
    fn owned_elsewhere(&self, word: usize, bit: u32, lane: usize) -> bool {
        at(&self.spis.active, word) & 1 << bit != 0
            && usize::from(*at(&self.spis.owner, word * 32 + bit as usize)) != lane
    }

    /// What may be delivered to `lane` and is in nobody's list register.
    pub(super) fn deliverable(&self, lane: usize, spi_enable: [u32; 2]) -> Words {
        let bank = self.bank(lane);
        let mut words = [bank.latch & bank.enable & self.forwarded(bank.group), 0, 0];
        let [_, low, high] = &mut words;
        for (word, (out, enable)) in [low, high].into_iter().zip(spi_enable).enumerate() {
            let candidates =
                self.spi_pending(word) & enable & self.forwarded(*at(&self.spis.group, word));
            for bit in Ones(candidates) {
                let spi = word * 32 + bit as usize;
                if *at(&self.spis.home, spi) == NOBODY
                    && self.target(spi) == Some(lane)
                    && !self.owned_elsewhere(word, bit, lane)
                {
                    *out |= 1 << bit;
                }
            }
        }
        words
    }

    /// What is active for `lane` and in nobody's list register.
    pub(super) fn active(&self, lane: usize) -> Words {
        let mut words = [self.bank(lane).active, 0, 0];
        let [_, low, high] = &mut words;
        for (word, out) in [low, high].into_iter().enumerate() {
            for bit in Ones(*at(&self.spis.active, word)) {
                if !self.owned_elsewhere(word, bit, lane) {
                    *out |= 1 << bit;
                }
            }
        }
        words
    }

    /// Priority and group of an interrupt as `lane` sees it.
    pub(super) const fn rank(&self, lane: usize, intid: u32) -> (u8, bool) {
        if intid < 32 {
            let bank = self.bank(lane);
            (
                *at(&bank.priority, intid as usize),
                bank.group >> intid & 1 != 0,
            )
        } else {
            let spi = intid as usize - 32;
            let group = *at(&self.spis.group, spi >> 5) >> (intid & 31) & 1 != 0;
            (*at(&self.spis.priority, spi), group)
        }
    }

    /// Moves an interrupt into a list register of `lane`: returns the register's value.
    pub(super) fn take(&mut self, lane: usize, intid: u32, pending: bool, active: bool) -> u64 {
        let (priority, group1) = self.rank(lane, intid);
        let body = lr::template(intid, priority, group1);
        if intid < 32 {
            body | self.take_private(lane, intid, pending, active)
        } else {
            body | self.take_spi(lane, intid, pending, active)
        }
    }

    fn take_private(&mut self, lane: usize, intid: u32, pending: bool, active: bool) -> u64 {
        let bank = self.bank_mut(lane);
        let bit = 1 << (intid & 31);
        if active {
            bank.active &= !bit;
        }
        if active && bank.latch & bit != 0 && (!pending || LINKED_PPIS & bit != 0) {
            // Look again when it ends. A linked register may not be pending and active at once.
            return lr::ACTIVE | lr::EOI;
        }
        if pending {
            bank.latch &= !bit;
        }
        let link = if bank.token & bit != 0 {
            lr::linked(intid)
        } else {
            0
        };
        bank.token &= !bit;
        link | state_bits(pending, active)
    }

    #[inline(never)]
    fn take_spi(&mut self, lane: usize, intid: u32, pending: bool, active: bool) -> u64 {
        let spi = intid as usize - 32;
        let (word, bit) = (spi >> 5, 1 << (intid & 31));
        *at_mut(&mut self.spis.home, spi) = low8(lane as u64);
        *at_mut(&mut self.spis.fresh, word) &= !bit;
        if active {
            *at_mut(&mut self.spis.active, word) &= !bit;
        }
        let latched = *at(&self.spis.latch, word) & bit != 0;
        if self.spis.latching(word) & bit == 0 {
            if active {
                // Deactivation must come back here anyway, to look at the line; what is latched waits for that.
                return lr::ACTIVE | lr::EOI;
            }
            if latched {
                *at_mut(&mut self.spis.soft, word) |= bit;
            }
            *at_mut(&mut self.spis.latch, word) &= !bit;
            return lr::PENDING | lr::EOI;
        }
        let token = at_mut(&mut self.spis.token, word);
        if active && latched && (!pending || *token & bit != 0) {
            // Disabled, routed elsewhere or crowded out meanwhile: look again when it ends. A linked register may not be
            // pending and active at once.
            return lr::ACTIVE | lr::EOI;
        }
        if pending {
            *at_mut(&mut self.spis.latch, word) &= !bit;
        }
        let link = if *token & bit != 0 {
            lr::linked(u32::from(*at(&self.spis.physical, spi)))
        } else {
            0
        };
        *token &= !bit;
        link | state_bits(pending, active)
    }

    /// Moves list registers of `lane` back into the software state.
    pub(super) fn fold(&mut self, lane: usize, taken: &Snapshot) {
        self.end_without_register(lane, taken.ended);
        self.bank_mut(lane).latch |= taken.sgis;
        for index in Ones(taken.used) {
            let value = *at(&taken.lrs, index as usize);
            if lr::intid(value) < 32 {
                self.fold_private(lane, value);
            } else {
                self.fold_spi(lane, value);
            }
        }
    }

    fn fold_private(&mut self, lane: usize, value: u64) {
        let bank = self.bank_mut(lane);
        let bit = 1 << (lr::intid(value) & 31);
        if value & lr::PENDING != 0 {
            bank.latch |= bit;
        }
        if value & lr::ACTIVE != 0 {
            bank.active |= bit;
        }
        if value & lr::HW != 0 && value & lr::STATE != 0 {
            bank.token |= bit;
        }
    }

    #[inline(never)]
    fn fold_spi(&mut self, lane: usize, value: u64) {
        let spi = (lr::intid(value) as usize).wrapping_sub(32);
        let (word, bit) = ((spi >> 5) & 1, 1 << (spi & 31));
        let soft = at_mut(&mut self.spis.soft, word);
        let latched =
            (*soft | *at(&self.spis.edge, word) | *at(&self.spis.linked, word)) & bit != 0;
        *soft &= !bit;
        if value & lr::HW != 0 && value & lr::STATE != 0 {
            *at_mut(&mut self.spis.token, word) |= bit;
        }
        if value & lr::PENDING != 0 && latched {
            *at_mut(&mut self.spis.latch, word) |= bit;
        }
        if value & lr::ACTIVE != 0 {
            *at_mut(&mut self.spis.active, word) |= bit;
            *at_mut(&mut self.spis.owner, spi) = low8(lane as u64);
        }
        *at_mut(&mut self.spis.home, spi) = NOBODY;
        *at_mut(&mut self.spis.fresh, word) |= bit;
    }

    /// The guest ended `count` interrupts that were active without a list register: the most urgent ones.
    fn end_without_register(&mut self, lane: usize, count: u32) {
        for _ in 0..count {
            let Some(intid) = self.most_urgent(lane, &self.active(lane), 3) else {
                return;
            };
            self.deactivate(lane, intid);
        }
    }

    /// Clears the active state that is outside list registers.
    pub(super) fn deactivate(&mut self, lane: usize, intid: u32) {
        let bit = 1 << (intid & 31);
        if intid < 32 {
            self.bank_mut(lane).active &= !bit;
        } else {
            let word = ((intid >> 5) - 1) as usize;
            *at_mut(&mut self.spis.active, word) &= !bit;
            *at_mut(&mut self.spis.fresh, word) |= bit;
        }
    }

    /// The most urgent interrupt of `set`; those of a group that `groups` (bit 0, bit 1) lacks come last.
    pub(super) fn most_urgent(&self, lane: usize, set: &Words, groups: u64) -> Option<u32> {
        let mut best: Option<(bool, u8, u32)> = None;
        for (base, word) in [0, 32, 64].into_iter().zip(set) {
            for bit in Ones(*word) {
                let (priority, group1) = self.rank(lane, base + bit);
                let key = (groups >> u32::from(group1) & 1 == 0, priority, base + bit);
                if best.is_none_or(|best| key < best) {
                    best = Some(key);
                }
            }
        }
        best.map(|(_, _, intid)| intid)
    }
}

const fn state_bits(pending: bool, active: bool) -> u64 {
    (if pending { lr::PENDING } else { 0 }) | (if active { lr::ACTIVE } else { 0 })
}
