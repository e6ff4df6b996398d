//! What the lanes of one machine share, as far as a lane's exits touch it.

mod console;
mod unfinished;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use spin::Mutex;
use stage2_addr::Ipa;
use vcpu_board::pl011::{self, Pl011};
use vcpu_board::pl031::Pl031;
use vcpu_board::ring::Ring;
use vcpu_board::{Board, Firmware, RAM_BASE};

use crate::idregs::IdRegs;
use crate::inject::Features;
use crate::psci::Power;
use crate::smccc::Workarounds;
use crate::vgic::Vgic;
use crate::virtio::{Empty, KEPT, Slots, VIRTIO};
pub use console::{Console, Shared, Turn};
use unfinished::Pace;

/// How much an operator may type ahead of the UART.
pub const TYPED_AHEAD: usize = 256;

/// `typed_ahead`: something was typed since the UART was last offered it.
const NEWS: usize = 1 << (usize::BITS - 1);

/// The shared half of a machine. Every field is either constant or takes care of its own concurrency.
///
/// What the hot path wants comes first, where one instruction reaches it.
#[repr(C)]
pub struct Machine {
    /// The identification registers, the same on all lanes.
    pub ids: IdRegs,
    /// `InterruptStatus` of each virtio slot.
    pub(crate) virtio_status: [AtomicU32; KEPT],
    /// The console.
    pub console: Shared,
    /// `UARTFR`: a copy for the hot path, written under the console's lock.
    pub(crate) uart_flags: AtomicU32,
    /// `UARTIMSC`, as long as a write of the same changes nothing, else no value that it can have: as `uart_flags`.
    pub(crate) uart_mask: AtomicU32,
    /// How much is in `typed`, for a look without the lock, and [`NEWS`]. Written under the lock.
    pub(crate) typed_ahead: AtomicUsize,
    /// What the CPU adds to an exception entry.
    pub features: Features,
    /// What a guest is told of firmware mitigations.
    pub workarounds: Workarounds,
    /// The interrupt controller.
    pub vgic: Vgic,
    /// Which lanes are on.
    pub power: Power,
    /// Who answers at which address.
    pub board: Board,
    /// What was typed and has no room in the UART yet. Locked by itself, or with the console's lock held.
    pub(crate) typed: Mutex<Ring<u8, TYPED_AHEAD>>,
    /// What was typed is not for the UART.
    redirected: AtomicBool,
    /// Typed bytes that had no room at all.
    typed_lost: AtomicU64,
    /// When somebody has to look at the unfinished line, and how soon after it was begun.
    pace: Pace,
    /// The real-time clock.
    pub(crate) rtc: Mutex<Pl031>,
    /// When its line will rise, in ticks; `u64::MAX` for never. Written under its lock.
    pub(crate) alarm: AtomicU64,
    /// What firmware finds beside.
    pub(crate) firmware: Mutex<Firmware>,
    /// The SPIs of devices of the computer that have fired and are not the interrupt controller's yet.
    fired: AtomicU64,
    /// What is in the virtio slots.
    pub(crate) virtio: &'static dyn Slots,
}

impl Machine {
    /// A machine with this many lanes (1 to 8) and this much RAM, as it is before anything has run.
    #[must_use]
    pub fn new(
        lanes: usize,
        ram_bytes: u64,
        ids: IdRegs,
        features: Features,
        workarounds: Workarounds,
    ) -> Self {
        Self {
            ids,
            features,
            workarounds,
            vgic: Vgic::new(lanes),
            power: Power::new(lanes),
            board: Board::new(lanes, Ipa::new(RAM_BASE), ram_bytes),
            console: Shared::new(),
            uart_flags: AtomicU32::new(u32::from(pl011::FLAGS_AT_RESET)),
            uart_mask: AtomicU32::new(0),
            typed: Mutex::new(Ring::new(0)),
            typed_ahead: AtomicUsize::new(0),
            redirected: AtomicBool::new(false),
            typed_lost: AtomicU64::new(0),
            pace: Pace::new(),
            rtc: Mutex::new(Pl031::new(0)),
            alarm: AtomicU64::new(u64::MAX),
            firmware: Mutex::new(Firmware::new(&mut [])),
            fired: AtomicU64::new(0),
            virtio: &Empty,
            virtio_status: [const { AtomicU32::new(0) }; KEPT],
        }
    }

    /// Adds what firmware finds: flash, in which these are the words of its variables, and fw_cfg.
    pub fn add_firmware(&mut self, variables: &'static mut [u32]) {
        self.board = self.board.with_firmware();
        *self.firmware.get_mut() = Firmware::new(variables);
    }

    /// From now on its clock says that the physical counter was zero `epoch` seconds after 1970.
    pub fn set_epoch(&mut self, epoch: u64) {
        *self.rtc.get_mut() = Pl031::new(epoch);
    }

    /// Bytes from the operator's keyboard. Any CPU may call this; then the CPU of one of the machine's lanes has
    /// to be made to call [`console_input`](crate::serve::console_input). How many bytes were taken: the
    /// rest had no room, is counted and lost.
    pub fn input(&self, bytes: &[u8]) -> usize {
        self.pace.was_typed();
        let mut typed = self.typed.lock();
        let taken = bytes.iter().take_while(|byte| typed.push(**byte)).count();
        self.typed_ahead
            .store(typed.len() | NEWS, Ordering::Release);
        let lost = bytes.len() - taken;
        self.typed_lost.fetch_add(lost as u64, Ordering::Relaxed);
        taken
    }

    /// Whether something was typed that the UART was not offered yet. What it had no room for waits for the guest, which
    /// makes room: nobody else can do anything about it.
    #[inline]
    #[must_use]
    pub fn has_input(&self) -> bool {
        self.typed_ahead.load(Ordering::Acquire) & NEWS != 0
    }

    /// Another console than the UART has a driver, or has none. It is what hears what is typed, unless a driver listens at
    /// the UART as well: who has opened the UART beside a console that is always open wants to hear there. Whether what
    /// was typed waits for [`take_input`](Self::take_input) now.
    pub fn redirect_input(&self, other: bool) -> bool {
        let mut console = self.console.lock();
        let on = other && !console.uart.is_heard();
        if !self.redirected.swap(on, Ordering::AcqRel) && on {
            self.take_back(&mut console.uart);
        }
        on
    }

    /// Takes what the UART was given and nobody has read there, to be read before what was typed after it.
    #[cold]
    fn take_back(&self, uart: &mut Pl011) {
        let mut typed = self.typed.lock();
        let mut all = Ring::new(0);
        let mut lost = 0;
        while let Some(byte) = uart.take_unread().or_else(|| typed.pop()) {
            lost += u64::from(!all.push(byte));
        }
        *typed = all;
        self.typed_ahead
            .store(typed.len() | NEWS, Ordering::Release);
        self.typed_lost.fetch_add(lost, Ordering::Relaxed);
        self.copy_uart(uart);
    }

    /// Whether what was typed is not for the UART.
    #[must_use]
    pub fn is_input_redirected(&self) -> bool {
        self.redirected.load(Ordering::Acquire)
    }

    /// The machine's life is over: what was typed for it is forgotten. What is typed from now on is for the next one, and
    /// waits for that.
    pub fn forget_input(&self) {
        if VIRTIO {
            self.redirected.store(false, Ordering::Release);
        }
        let mut typed = self.typed.lock();
        typed.clear();
        self.typed_ahead.store(0, Ordering::Release);
    }

    /// Whether something was typed for another console than the UART that nobody has taken.
    #[must_use]
    pub fn waits_input(&self) -> bool {
        self.is_input_redirected() && self.typed_ahead.load(Ordering::Acquire) & !NEWS != 0
    }

    /// Takes what was typed, for another console than the UART; how many bytes.
    pub fn take_input(&self, into: &mut [u8]) -> usize {
        let mut typed = self.typed.lock();
        let mut count = 0;
        for place in into {
            let Some(byte) = typed.pop() else {
                break;
            };
            *place = byte;
            count += 1;
        }
        self.typed_ahead.store(typed.len(), Ordering::Release);
        count
    }

    /// How many bytes [`input`](Self::input) had to refuse so far.
    #[must_use]
    pub fn input_lost(&self) -> u64 {
        self.typed_lost.load(Ordering::Relaxed)
    }

    /// When the real-time clock's alarm will go off, as a value of the physical counter, if one is set: the moment to
    /// call [`tick`](crate::serve::tick). It changes only when a lane of the machine has accessed the clock, so it is
    /// worth a look after each exit that was a device's, or before the CPU goes idle; and when a device has fired
    /// ([`device_fired`](Self::device_fired)).
    #[inline]
    #[must_use]
    pub fn next_alarm(&self) -> Option<u64> {
        let alarm = self.alarm.load(Ordering::Acquire);
        (alarm != u64::MAX).then_some(alarm)
    }

    /// The physical interrupt of a device that the machine was given has fired: acknowledged, and dropped, on the CPU of
    /// lane 0, which has to call [`tick`](crate::serve::tick) next: it is told as of an alarm that is due. `intid` is
    /// the machine's own for it ([`Vgic::link`]).
    pub fn device_fired(&self, intid: u32) {
        let bit = 1u64.rotate_left(intid.wrapping_sub(32));
        self.fired.fetch_or(bit, Ordering::SeqCst);
        self.alarm.store(0, Ordering::SeqCst);
    }

    /// Sets when somebody has to look at the real-time clock: at once, where a device has fired besides. Either this sees
    /// that it has, or the device's own word comes later.
    pub(crate) fn set_alarm(&self, alarm: u64) {
        self.alarm.store(alarm, Ordering::SeqCst);
        if self.fired.load(Ordering::SeqCst) != 0 {
            self.alarm.store(0, Ordering::SeqCst);
        }
    }

    /// One of those that have, taken.
    pub(crate) fn take_fired(&self) -> Option<u32> {
        let spi = self.fired.load(Ordering::SeqCst).trailing_zeros();
        let bit = 1u64.checked_shl(spi)?;
        self.fired.fetch_and(!bit, Ordering::SeqCst);
        Some(spi + 32)
    }

    /// Every device but the interrupt controller as after power-on, for a machine none of whose lanes runs. Their
    /// interrupt lines are low then, which the interrupt controller's own reset has to assume as well. What has been
    /// typed since the machine's last life was over ([`forget_input`](Self::forget_input)) waits for the next; an
    /// unfinished line of output is not forgotten either, it is the caller's to flush, nor what firmware keeps in flash.
    pub fn reset_devices(&self) {
        let mut console = self.console.lock();
        console.uart = Pl011::new();
        self.copy_uart(&console.uart);
        let mut rtc = self.rtc.lock();
        rtc.reset();
        self.firmware.lock().reset();
        self.fired.store(0, Ordering::SeqCst);
        self.alarm.store(u64::MAX, Ordering::SeqCst);
        if VIRTIO {
            self.reset_virtio();
        }
    }

    /// Whether an address is in the machine's RAM.
    #[must_use]
    pub fn is_ram(&self, ipa: Ipa) -> bool {
        self.board.is_ram(ipa)
    }
}

#[cfg(test)]
mod tests;
