//! A virtio device behind its registers (virtio 1.3, 4.2.2), and a driver's way from a reset to `DRIVER_OK` (3.1.1).

use tests_arch::probe::{self, Width};

/// "virt", read only.
pub const MAGIC: u64 = 0x000;
/// What kind of device it is.
pub const DEVICE_ID: u64 = 0x008;
/// The half of the features that [`DRIVER_FEATURES_SEL`] names, as the driver accepts them.
pub const DRIVER_FEATURES: u64 = 0x020;
/// Half of the features.
pub const DRIVER_FEATURES_SEL: u64 = 0x024;
/// Which queue the other registers of queues are about.
pub const QUEUE_SEL: u64 = 0x030;
/// The most entries it can have.
pub const QUEUE_SIZE_MAX: u64 = 0x034;
/// How many it has.
pub const QUEUE_SIZE: u64 = 0x038;
/// Whether it is in use.
pub const QUEUE_READY: u64 = 0x044;
/// Something is available in the queue of this number.
pub const QUEUE_NOTIFY: u64 = 0x050;
/// Why it interrupts.
pub const INTERRUPT_STATUS: u64 = 0x060;
/// What of that has been seen.
pub const INTERRUPT_ACK: u64 = 0x064;
/// The device status (2.1).
pub const STATUS: u64 = 0x070;
/// The address of its descriptors, in two halves as the next ones.
pub const QUEUE_DESC: u64 = 0x080;
/// That of its available ring.
pub const QUEUE_DRIVER: u64 = 0x090;
/// That of its used ring.
pub const QUEUE_DEVICE: u64 = 0x0a0;
/// Where the device's own configuration begins.
pub const CONFIG: u64 = 0x100;

/// [`STATUS`]: the driver works.
pub const DRIVER_OK: u64 = 0xf;
/// [`STATUS`]: the device has met nonsense.
pub const NEEDS_RESET: u64 = 64;
/// `VIRTIO_F_VERSION_1`.
pub const VERSION_1: u64 = 1 << 32;
/// `VIRTQ_DESC_F_NEXT`.
pub const NEXT: u64 = 1;
/// `VIRTQ_DESC_F_WRITE`.
pub const WRITE: u64 = 2;

/// A reset, ACKNOWLEDGE and DRIVER; and with FEATURES_OK.
const DRIVER: [u64; 3] = [0, 1, 3];
const FEATURES_OK: u64 = 0xb;
/// Where slot 0 is, and how far the next one.
const FIRST: u64 = 0x0a00_0000;
const BYTES: u64 = 0x200;
/// The INTID of slot 0.
const SPI: u32 = 48;

/// A slot of QEMU's `virt`.
#[derive(Debug, Clone, Copy)]
pub struct Slot(u32);

impl Slot {
    /// The slot of this number.
    #[must_use]
    pub const fn of(number: u32) -> Self {
        Self(number)
    }

    /// The address of a register.
    #[must_use]
    pub fn address(self, register: u64) -> u64 {
        FIRST + BYTES * u64::from(self.0) + register
    }

    /// The INTID of its interrupt.
    #[must_use]
    pub const fn intid(self) -> u32 {
        SPI + self.0
    }

    /// Reads a register; 0 where that faults.
    #[must_use]
    pub fn read(self, register: u64) -> u64 {
        probe::read(self.address(register), Width::Word).unwrap_or(0)
    }

    /// Writes one.
    pub fn write(self, register: u64, value: u64) {
        let _ = probe::write(self.address(register), Width::Word, value);
    }

    /// Resets the device and accepts these features.
    pub fn accept(self, features: u64) {
        for status in DRIVER {
            self.write(STATUS, status);
        }
        for (half, features) in [(0, features & 0xffff_ffff), (1, features >> 32)] {
            self.write(DRIVER_FEATURES_SEL, half);
            self.write(DRIVER_FEATURES, features);
        }
        self.write(STATUS, FEATURES_OK);
    }

    /// Opens a queue of so many entries, whose parts are at these addresses: descriptors, available ring, used ring.
    pub fn open(self, queue: u64, entries: u64, parts: [u64; 3]) {
        self.write(QUEUE_SEL, queue);
        self.write(QUEUE_SIZE, entries);
        for (register, at) in [QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE]
            .into_iter()
            .zip(parts)
        {
            self.write(register, at & 0xffff_ffff);
            self.write(register + 4, at >> 32);
        }
        self.write(QUEUE_READY, 1);
    }

    /// The driver begins.
    pub fn begin(self) {
        self.write(STATUS, DRIVER_OK);
    }

    /// Tells the device that something is available.
    pub fn notify(self, queue: u64) {
        self.write(QUEUE_NOTIFY, queue);
    }

    /// What it interrupts for, which it is told has been seen.
    #[must_use]
    pub fn acknowledge(self) -> u64 {
        let why = self.read(INTERRUPT_STATUS);
        self.write(INTERRUPT_ACK, why);
        why
    }
}
