//! The guest's loads and stores to the distributor and the redistributors.

use core::sync::atomic::Ordering;

use super::bits::{at, at_mut, lane_bit, low8, low32};
use super::state::{PRIORITY_MASK, ROUTE_MASK, State};
use super::table::{self, Policy, Register, Row};
use super::{INTIDS, LaneGic, MAX_LANES, Vgic, VirtGic};
use crate::virtio::VIRTIO;

/// Which frame an access falls into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `GICD_*`.
    Distributor,
    /// `GICR_*` of this lane: RD and SGI frame together, 128 KiB.
    Redistributor(usize),
}

/// The access is none the GIC takes: the guest gets a synchronous external abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// `GICD_TYPER`: IDbits = 9 (ten bits), affinity level 3 valid, 1-of-N supported, one security state, no LPIs,
/// no message-based SPIs, ITLinesNumber for [`INTIDS`].
const GICD_TYPER: u32 = 9 << 19 | 1 << 24 | (INTIDS / 32 - 1);
/// `GICD_IIDR` and `GICR_IIDR`: product `X`, revision 1, no JEP106 implementer.
const IIDR: u32 = 0x58 << 24 | 1 << 12;
/// `GICD_CTLR`: DS and ARE are one and stay so; no write is ever pending.
const CONTROL_FIXED: u32 = 1 << 6 | 1 << 4;

/// A register access that the table allows.
#[derive(Clone, Copy)]
struct Access {
    row: &'static Row,
    /// `None` for the distributor.
    lane: Option<usize>,
    offset: u32,
    bytes: u32,
}

impl Access {
    fn find(vgic: &Vgic, frame: Frame, offset: u64, bytes: u32) -> Result<Self, Refused> {
        let (rows, lane) = match frame {
            Frame::Distributor => (table::DISTRIBUTOR, None),
            Frame::Redistributor(lane) if lane < vgic.lanes() => (table::REDISTRIBUTOR, Some(lane)),
            Frame::Redistributor(_) => return Err(Refused),
        };
        let row = table::find(rows, offset, bytes).ok_or(Refused)?;
        Ok(Self {
            row,
            lane,
            offset: low32(offset),
            bytes,
        })
    }

    /// Bytes from the start of the row.
    fn into_row(self) -> u32 {
        self.offset - self.row.first()
    }

    /// The word of 32 INTIDs that a one-bit-each register covers: 0 for private ones, 1 and 2 for SPIs.
    fn word(self) -> usize {
        (self.row.base() / 32 + self.into_row() / 4) as usize
    }

    /// The first INTID of a priority access.
    fn first_byte(self) -> u32 {
        self.row.base() + self.into_row()
    }
}

impl Vgic {
    /// `GICD_TYPER`.
    pub const GICD_TYPER: u32 = GICD_TYPER;
    /// `GICD_IIDR` and `GICR_IIDR`.
    pub const IIDR: u32 = IIDR;

    /// The register that guests read more than once, never changes and needs no lock, for the hot path: `GICD_TYPER`.
    #[inline]
    #[must_use]
    pub const fn fast_gicd_read(offset: u64) -> Option<u32> {
        match offset {
            0x4 => Some(GICD_TYPER),
            _ => None,
        }
    }

    /// `GICR_TYPER` of `lane`: affinity 0.0.0.lane, its processor number, Last for the last lane.
    #[inline]
    #[must_use]
    pub const fn gicr_typer(&self, lane: usize) -> u64 {
        let number = lane as u64 & 7;
        let last = if lane + 1 == self.lanes() { 1 << 4 } else { 0 };
        number << 32 | number << 8 | last
    }
}

impl LaneGic {
    /// A load of `bytes` bytes by this lane.
    ///
    /// # Errors
    /// [`Refused`] when no register takes an access of this width there.
    #[cold]
    #[inline(never)]
    pub fn mmio_read(
        &mut self,
        vgic: &Vgic,
        frame: Frame,
        offset: u64,
        bytes: u32,
        hw: &mut impl VirtGic,
    ) -> Result<u64, Refused> {
        let access = Access::find(vgic, frame, offset, bytes)?;
        if access.row.policy == Policy::RazWi {
            return Ok(0);
        }
        Ok(match access.row.register {
            Register::Type => u64::from(GICD_TYPER),
            Register::Implementer => u64::from(IIDR),
            Register::LaneType => half(
                vgic.gicr_typer(access.lane.unwrap_or(0)),
                access.into_row(),
                bytes,
            ),
            Register::Identification => u64::from(identification(access.into_row())),
            Register::SetPending
            | Register::ClearPending
            | Register::SetActive
            | Register::ClearActive => u64::from(self.read_moving(vgic, access, hw)),
            Register::None
            | Register::Control
            | Register::Waker
            | Register::Group
            | Register::SetEnable
            | Register::ClearEnable
            | Register::Priority
            | Register::Config
            | Register::Route => {
                let state = self.lock(vgic, hw);
                let value = read_settled(vgic, &state, access);
                self.finish_read(vgic, state, hw);
                value
            }
        })
    }

    /// A store of `bytes` bytes by this lane.
    ///
    /// # Errors
    /// [`Refused`] when no register takes an access of this width there.
    #[cold]
    #[inline(never)]
    pub fn mmio_write(
        &mut self,
        vgic: &Vgic,
        frame: Frame,
        offset: u64,
        bytes: u32,
        value: u64,
        hw: &mut impl VirtGic,
    ) -> Result<(), Refused> {
        let access = Access::find(vgic, frame, offset, bytes)?;
        if access.row.policy != Policy::Implemented {
            return Ok(());
        }
        let mut state = self.open(vgic, hw);
        let wanted = affected(&state, vgic, access, low32(value));
        let frozen = self.pull(vgic, &mut state, wanted, hw);
        match access.lane {
            Some(lane) => write_private(vgic, &mut state, access, lane, low32(value)),
            None => write_shared(vgic, &mut state, access, value, self.id),
        }
        self.close(vgic, state, frozen, hw);
        Ok(())
    }

    /// Reads pending or active bits, which list registers may hold.
    fn read_moving(&mut self, vgic: &Vgic, access: Access, hw: &mut impl VirtGic) -> u32 {
        let mut state = self.open(vgic, hw);
        let wanted = affected(&state, vgic, access, u32::MAX);
        let frozen = self.pull(vgic, &mut state, wanted, hw);
        let pending = matches!(
            access.row.register,
            Register::SetPending | Register::ClearPending
        );
        let value = match access.lane {
            Some(lane) if pending => state.bank(lane).latch,
            Some(lane) => state.bank(lane).active,
            None => {
                let word = access.word().wrapping_sub(1);
                if pending {
                    state.spi_pending(word)
                } else {
                    *at(&state.spis.active, word)
                }
            }
        };
        self.close(vgic, state, frozen, hw);
        value
    }
}

/// The lanes whose list registers an access concerns.
fn affected(state: &State, vgic: &Vgic, access: Access, bits: u32) -> u32 {
    if let Some(lane) = access.lane {
        return lane_bit(lane);
    }
    match access.row.register {
        Register::Control => vgic.all_lanes(),
        Register::Priority => spi_homes(state, access.first_byte(), access.bytes),
        Register::Route => spi_homes(state, access.row.base() + access.into_row() / 8, 1),
        Register::Config => spi_homes(state, access.row.base() + access.into_row() * 4, 16),
        Register::Group => state.homes(access.word().wrapping_sub(1), u32::MAX),
        Register::SetEnable
        | Register::ClearEnable
        | Register::SetPending
        | Register::ClearPending
        | Register::SetActive
        | Register::ClearActive => state.homes(access.word().wrapping_sub(1), bits),
        Register::None
        | Register::Type
        | Register::Implementer
        | Register::LaneType
        | Register::Waker
        | Register::Identification => 0,
    }
}

fn spi_homes(state: &State, first: u32, count: u32) -> u32 {
    let mask = (1 << (count & 31)) - 1;
    state.homes((first / 32) as usize - 1, mask << (first & 31))
}

/// Registers that list registers do not change.
fn read_settled(vgic: &Vgic, state: &State, access: Access) -> u64 {
    let spi_word = access.word().wrapping_sub(1);
    match (access.row.register, access.lane) {
        (Register::Control, _) => u64::from(CONTROL_FIXED | state.control),
        (Register::Waker, lane) => u64::from(state.bank(lane.unwrap_or(0)).asleep) * 0b110,
        (Register::Group, Some(lane)) => u64::from(state.bank(lane).group),
        (Register::Group, None) => u64::from(*at(&state.spis.group, spi_word)),
        (Register::SetEnable | Register::ClearEnable, Some(lane)) => {
            u64::from(state.bank(lane).enable)
        }
        (Register::SetEnable | Register::ClearEnable, None) => {
            u64::from(at(&vgic.spi_enable, spi_word).load(Ordering::Relaxed))
        }
        (Register::Priority, lane) => (0..access.bytes).rev().fold(0, |value, byte| {
            let (priority, _) = state.rank(lane.unwrap_or(0), access.first_byte() + byte);
            value << 8 | u64::from(priority)
        }),
        // SGIs are edge-triggered; PPIs are fixed as level-sensitive.
        (Register::Config, Some(_)) => u64::from(access.into_row() == 0) * 0xaaaa_aaaa,
        (Register::Config, None) => u64::from(config_fields(state, access)),
        (Register::Route, _) => {
            let route = *at(&state.spis.route, (access.into_row() / 8) as usize);
            half(route, access.into_row() & 7, access.bytes)
        }
        _ => 0,
    }
}

/// A 64-bit register as a doubleword or as one of its words.
const fn half(value: u64, offset: u32, bytes: u32) -> u64 {
    if bytes == 8 {
        value
    } else {
        value >> ((offset & 4) * 8) & 0xffff_ffff
    }
}

/// `PIDR4`…`PIDR7`, `PIDR0`…`PIDR3`, `CIDR0`…`CIDR3`: architecture revision 3 (GICv3), the component class the
/// architecture prescribes, no part number.
const fn identification(offset: u32) -> u32 {
    match offset {
        0x18 => 0x38,
        0x20 => 0x0d,
        0x24 => 0xf0,
        0x28 => 0x05,
        0x2c => 0xb1,
        _ => 0,
    }
}

/// Two bits for each of 16 SPIs; the upper one says edge.
fn config_fields(state: &State, access: Access) -> u32 {
    let first = access.into_row() * 4;
    let edges = *at(&state.spis.edge, (first / 32) as usize) >> (first & 31);
    (0..16).fold(0, |value, spi| value | (edges >> spi & 1) << (2 * spi + 1))
}

/// Registers of SGIs and PPIs of `lane`.
fn write_private(vgic: &Vgic, state: &mut State, access: Access, lane: usize, value: u32) {
    let before = state.open(lane);
    let bank = state.bank_mut(lane);
    match access.row.register {
        Register::Waker => bank.asleep = value & 0b10 != 0,
        Register::Group => {
            bank.group = value;
            at(&vgic.shared, lane).group.store(value, Ordering::Release);
        }
        Register::SetEnable => bank.enable |= value,
        Register::ClearEnable => bank.enable &= !value,
        Register::SetPending => bank.latch |= value,
        Register::ClearPending => bank.latch &= !value,
        Register::SetActive => bank.active |= value,
        Register::ClearActive => bank.active &= !value,
        Register::Priority => {
            for byte in 0..access.bytes {
                let new = low8(u64::from(value >> (8 * byte))) & PRIORITY_MASK;
                *at_mut(&mut bank.priority, (access.first_byte() + byte) as usize) = new;
            }
        }
        // The configuration of private interrupts is fixed.
        Register::Config
        | Register::None
        | Register::Control
        | Register::Type
        | Register::Implementer
        | Register::LaneType
        | Register::Route
        | Register::Identification => {}
    }
    state.call(lane, before);
}

/// Registers of the distributor.
fn write_shared(vgic: &Vgic, state: &mut State, access: Access, value: u64, lane: usize) {
    let bits = low32(value);
    let word = access.word().wrapping_sub(1);
    let mut touched = bits;
    match access.row.register {
        Register::Control => {
            write_control(state, bits);
            return;
        }
        Register::Group => {
            *at_mut(&mut state.spis.group, word) = bits;
            touched = u32::MAX;
        }
        Register::SetEnable => _ = at(&vgic.spi_enable, word).fetch_or(bits, Ordering::SeqCst),
        Register::ClearEnable => _ = at(&vgic.spi_enable, word).fetch_and(!bits, Ordering::SeqCst),
        Register::SetPending => *at_mut(&mut state.spis.latch, word) |= bits,
        Register::ClearPending => *at_mut(&mut state.spis.latch, word) &= !bits,
        Register::SetActive => set_active(state, word, bits, lane),
        Register::ClearActive => *at_mut(&mut state.spis.active, word) &= !bits,
        Register::Priority => {
            let first = access.into_row();
            for byte in 0..access.bytes {
                let new = low8(value >> (8 * byte)) & PRIORITY_MASK;
                let spi = (first + byte) as usize;
                *at_mut(&mut state.spis.priority, spi) = new;
                *at_mut(&mut state.spis.fresh, spi >> 5) |= 1 << (spi & 31);
            }
            return;
        }
        Register::Config => {
            write_config(state, access, bits);
            return;
        }
        Register::Route => {
            write_route(vgic, state, access, value);
            return;
        }
        Register::None
        | Register::Type
        | Register::Implementer
        | Register::LaneType
        | Register::Waker
        | Register::Identification => return,
    }
    *at_mut(&mut state.spis.fresh, word) |= touched;
}

/// Every running lane was pulled, so every one refills by the new value. The others have to be told.
fn write_control(state: &mut State, bits: u32) {
    let before = core::array::from_fn::<u32, MAX_LANES, _>(|lane| state.open(lane));
    state.control = bits & 3;
    for (lane, before) in before.into_iter().enumerate() {
        state.call(lane, before);
    }
    state.spis.fresh = [u32::MAX; 2];
}

/// An SPI made active by software belongs to the lane it is routed to, or else to the writer.
fn set_active(state: &mut State, word: usize, bits: u32, writer: usize) {
    let new = bits & !*at(&state.spis.active, word);
    for bit in super::bits::Ones(new) {
        let spi = word * 32 + bit as usize;
        let owner = state.target(spi).unwrap_or(writer);
        *at_mut(&mut state.spis.owner, spi) = low8(owner as u64);
    }
    *at_mut(&mut state.spis.active, word) |= bits;
}

fn write_config(state: &mut State, access: Access, value: u32) {
    let first = access.into_row() * 4;
    let word = (first / 32) as usize;
    let edges = (0..16).fold(0, |edges, spi| edges | (value >> (2 * spi + 1) & 1) << spi);
    let mask = 0xffff << (first & 31);
    let edge = at_mut(&mut state.spis.edge, word);
    *edge = *edge & !mask | edges << (first & 31);
    *at_mut(&mut state.spis.fresh, word) |= mask;
}

fn write_route(vgic: &Vgic, state: &mut State, access: Access, value: u64) {
    let offset = access.into_row();
    let spi = (offset / 8) as usize;
    let route = at_mut(&mut state.spis.route, spi);
    let new = match (access.bytes, offset & 4) {
        (8, _) => value,
        (_, 0) => *route >> 32 << 32 | u64::from(low32(value)),
        _ => value << 32 | u64::from(low32(*route)),
    };
    *route = new & ROUTE_MASK;
    if VIRTIO {
        vgic.note_route(state, spi, new & ROUTE_MASK);
    }
    *at_mut(&mut state.spis.fresh, spi >> 5) |= 1 << (spi & 31);
}
