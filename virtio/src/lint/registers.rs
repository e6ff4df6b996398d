//! The transport's registers (virtio 1.3, 4.2.2), and the order of things (3.1.1).

use stage2_addr::Ipa;

use super::content::{Content, is_early_in_linux};
use super::rules::Broken;
use super::{Finding, Lint, Report, packed, split};
use crate::device::MAX_QUEUES;
use crate::features::Features;
use crate::memory::GuestMemory;
use crate::queue::QueueConfig;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;
const FAILED: u32 = 128;

const CONFIG: u64 = 0x100;
const CONFIG_GENERATION: u64 = 0xfc;
const STATUS: u64 = 0x70;

/// Registers that are only read, and only written.
const READ_ONLY: [u64; 9] = [
    0x0,
    0x4,
    0x8,
    0xc,
    0x10,
    0x34,
    0x60,
    CONFIG_GENERATION,
    0xb0,
];
const WRITE_ONLY: [u64; 13] = [
    0x14, 0x20, 0x24, 0x30, 0x38, 0x50, 0x64, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4,
];
/// GuestPageSize and QueueAlign of the legacy interface (4.2.4): a driver that writes them may well be a modern one.
const LEGACY: [u64; 2] = [0x28, 0x3c];
const BOTH: [u64; 7] = [0x44, STATUS, 0xac, 0xb4, 0xb8, 0xbc, 0xc0];

impl Lint {
    pub(super) fn register_loaded(
        &mut self,
        offset: u64,
        bytes: u32,
        value: u64,
        tell: &mut dyn FnMut(Finding),
    ) {
        let mut report = Report {
            seen: &mut self.seen,
            count: &mut self.count,
            queue: None,
            tell,
        };
        if offset >= CONFIG {
            // The capacity of a disk, in two halves.
            let is_half = self.subject.id == 2 && bytes == 4;
            match offset - CONFIG {
                0 if is_half => self.halves |= 1,
                4 if is_half => self.halves |= 2,
                _ => {}
            }
            return;
        }
        if !width(offset, bytes, &mut report) {
            return;
        }
        match offset {
            STATUS => {
                let kept = value & u64::from(FEATURES_OK) != 0;
                self.unread = false;
                self.refused = self.status & FEATURES_OK != 0 && !kept;
            }
            CONFIG_GENERATION => self.halves = 0,
            0x34 => {
                let queue = usize::try_from(self.queue_sel).unwrap_or(usize::MAX);
                if let Some(place) = self.largest.get_mut(queue) {
                    *place = u16::try_from(value).unwrap_or(u16::MAX);
                }
            }
            _ if WRITE_ONLY.contains(&offset) => report.broken(Broken::RegisterWriteOnly),
            _ => {}
        }
    }

    pub(super) fn register_stored<M: GuestMemory>(
        &mut self,
        offset: u64,
        bytes: u32,
        value: u64,
        memory: &M,
        tell: &mut dyn FnMut(Finding),
    ) {
        let mut report = Report {
            seen: &mut self.seen,
            count: &mut self.count,
            queue: None,
            tell,
        };
        if offset >= CONFIG {
            if self.status & FEATURES_OK == 0 {
                report.broken(Broken::ConfigEarly);
            }
            return;
        }
        if bytes == 4 && LEGACY.contains(&offset) {
            return report.broken(Broken::RegisterLegacy);
        }
        if !width(offset, bytes, &mut report) {
            return;
        }
        let Ok(value) = u32::try_from(value & 0xffff_ffff) else {
            return;
        };
        if READ_ONLY.contains(&offset) && offset != 0xb0 {
            return report.broken(Broken::RegisterReadOnly);
        }
        match offset {
            STATUS => self.status_stored(value, tell),
            0x24 => self.features_sel = value,
            0x20 => self.features_stored(value, tell),
            0x30 => self.queue_sel = value,
            0x50 => self.notified(value, memory, tell),
            0x38 | 0x44 | 0x80 | 0x84 | 0x90 | 0x94 | 0xa0 | 0xa4 | 0xc0 => {
                self.queue_stored(offset, value, memory, tell);
            }
            _ => {}
        }
    }

    fn status_stored(&mut self, value: u32, tell: &mut dyn FnMut(Finding)) {
        if value == 0 {
            self.forget();
            self.was_reset = true;
            return;
        }
        let before = self.status;
        let new = value & !before;
        let mut report = Report {
            seen: &mut self.seen,
            count: &mut self.count,
            queue: None,
            tell,
        };
        let mut judge = |is_broken: bool, rule| {
            if is_broken {
                report.broken(rule);
            }
        };
        let own = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
        judge(!self.was_reset, Broken::NoReset);
        judge(before & !value & !NEEDS_RESET != 0, Broken::StatusCleared);
        judge(new & !own != 0, Broken::StatusReserved);
        judge(
            value & DRIVER != 0 && value & ACKNOWLEDGE == 0,
            Broken::NoAcknowledge,
        );
        judge(
            new & DRIVER_OK != 0 && before & FEATURES_OK == 0,
            Broken::DriverOkEarly,
        );
        judge(new & DRIVER_OK != 0 && self.unread, Broken::FeaturesUnread);
        judge(
            new & DRIVER_OK != 0 && self.refused,
            Broken::FeaturesRefused,
        );
        judge(new & DRIVER_OK != 0 && self.halves == 3, Broken::ConfigTorn);
        if new & FEATURES_OK != 0 {
            self.unread = true;
            judge(
                self.features & !self.subject.offered != 0,
                Broken::FeatureNotOffered,
            );
            let version = Features::VERSION_1.bits();
            judge(self.features & version == 0, Broken::NoVersion1);
        }
        self.status = before | value & own;
    }

    fn features_stored(&mut self, value: u32, tell: &mut dyn FnMut(Finding)) {
        if self.status & FEATURES_OK != 0 {
            let mut report = Report {
                seen: &mut self.seen,
                count: &mut self.count,
                queue: None,
                tell,
            };
            return report.broken(Broken::FeaturesLate);
        }
        let value = u64::from(value);
        match self.features_sel {
            0 => self.features = self.features & !0xffff_ffff | value,
            1 => self.features = self.features & 0xffff_ffff | value << 32,
            _ => {}
        }
    }

    fn queue_stored<M: GuestMemory>(
        &mut self,
        offset: u64,
        value: u32,
        memory: &M,
        tell: &mut dyn FnMut(Finding),
    ) {
        let index = usize::try_from(self.queue_sel).unwrap_or(usize::MAX);
        let packed = self.is_packed();
        let status = self.status;
        let largest = self.largest.get(index).copied().unwrap_or(0);
        let mut report = Report {
            seen: &mut self.seen,
            count: &mut self.count,
            queue: u16::try_from(index).ok().filter(|_| index < MAX_QUEUES),
            tell,
        };
        let Some(watch) = self.queues.get_mut(index) else {
            return report.broken(Broken::NoSuchQueue);
        };
        let claim = &mut watch.claim;
        match offset {
            0xc0 => {
                if value == 1 {
                    watch.forget();
                }
            }
            0x44 if value == 0 => {
                watch.ready = false;
            }
            _ if watch.ready => report.broken(Broken::QueueChanged),
            0x38 => claim.size = u16::try_from(value).unwrap_or(u16::MAX),
            0x80 => set(&mut claim.descriptors, value, 0),
            0x84 => set(&mut claim.descriptors, value, 32),
            0x90 => set(&mut claim.driver, value, 0),
            0x94 => set(&mut claim.driver, value, 32),
            0xa0 => set(&mut claim.device, value, 0),
            0xa4 => set(&mut claim.device, value, 32),
            _ => {
                if status & FEATURES_OK == 0 {
                    report.broken(Broken::QueueEarly);
                }
                if status & DRIVER_OK != 0 {
                    report.broken(Broken::QueueLate);
                }
                watch.ready = ready(claim, largest, packed, memory, &mut report);
                watch.start();
            }
        }
    }

    fn notified<M: GuestMemory>(&mut self, value: u32, memory: &M, tell: &mut dyn FnMut(Finding)) {
        let features = Features::from_bits_retain(self.features);
        let with_data = features.contains(Features::NOTIFICATION_DATA);
        let number = if with_data { value & 0xffff } else { value };
        let queue = u16::try_from(number)
            .ok()
            .filter(|queue| usize::from(*queue) < MAX_QUEUES);
        let packed = self.is_packed();
        let content = self.content(queue.unwrap_or(u16::MAX));
        let mut report = Report {
            seen: &mut self.seen,
            count: &mut self.count,
            queue,
            tell,
        };
        if self.status & DRIVER_OK == 0 && !is_early_in_linux(self.subject, queue) {
            report.broken(Broken::NotifyEarly);
        }
        let watch = queue.and_then(|queue| self.queues.get_mut(usize::from(queue)));
        let Some(watch) = watch else {
            return report.broken(Broken::NotifyUnready);
        };
        if !watch.ready {
            return report.broken(Broken::NotifyUnready);
        }
        // What cannot be read was found outside of memory when the queue was made ready.
        if packed {
            let _ = packed::notified(watch, features, &content, memory, &mut report);
        } else {
            let _ = split::notified(watch, features, &content, memory, &mut report);
        }
        if with_data {
            // The index that the driver has come to (2.9); it may be at work again on another CPU.
            let offset = value >> 16;
            let (next, wrap) = if packed {
                (offset & 0x7fff, offset >> 15 != 0)
            } else {
                (offset, watch.wrap)
            };
            if (next, wrap) != (u32::from(watch.next), watch.wrap) {
                report.broken(Broken::NotifyStale);
            }
        }
    }

    /// What a queue is of.
    pub(super) fn content(&self, queue: u16) -> Content {
        Content {
            subject: self.subject,
            queue,
            control: self.control_queue(),
        }
    }

    /// The control queue of a network card, behind its pairs (5.1.2); a number of no queue if there is none.
    fn control_queue(&self) -> u16 {
        const CTRL_VQ: u64 = 1 << 17;
        const MQ: u64 = 1 << 22;
        if self.features & CTRL_VQ == 0 {
            return u16::MAX;
        }
        if self.features & MQ == 0 {
            return 2;
        }
        let last = self.largest.iter().rposition(|size| *size != 0);
        last.and_then(|last| u16::try_from(last).ok())
            .unwrap_or(u16::MAX)
    }
}

/// Whether an access is to a register, and as wide as it.
fn width(offset: u64, bytes: u32, report: &mut Report<'_>) -> bool {
    let known = |list: &[u64]| list.contains(&offset);
    if bytes != 4 || !offset.is_multiple_of(4) {
        report.broken(Broken::RegisterWidth);
        return false;
    }
    if !known(&READ_ONLY) && !known(&WRITE_ONLY) && !known(&BOTH) {
        report.broken(Broken::RegisterReserved);
        return false;
    }
    true
}

fn set(field: &mut u64, value: u32, shift: u32) {
    *field = *field & !(0xffff_ffff << shift) | u64::from(value) << shift;
}

/// Whether a queue can be one.
fn ready<M: GuestMemory>(
    claim: &QueueConfig,
    largest: u16,
    packed: bool,
    memory: &M,
    report: &mut Report<'_>,
) -> bool {
    let QueueConfig {
        size,
        descriptors,
        driver,
        device,
    } = *claim;
    if size == 0 || size > largest || !packed && !size.is_power_of_two() {
        report.broken(if largest == 0 {
            Broken::NoSuchQueue
        } else {
            Broken::QueueSize
        });
        return false;
    }
    let size = u64::from(size);
    let areas = if packed {
        [(descriptors, 16 * size, 16), (driver, 4, 4), (device, 4, 4)]
    } else {
        [
            (descriptors, 16 * size, 16),
            (driver, 4 + 2 * size, 2),
            (device, 4 + 8 * size, 4),
        ]
    };
    let mut sound = true;
    for (at, len, align) in areas {
        if !at.is_multiple_of(align) {
            report.broken(Broken::QueueAlignment);
            sound = false;
        }
        if !memory.contains(Ipa::new(at), len) {
            report.broken(Broken::QueueOutside);
            sound = false;
        }
    }
    let apart = |one: (u64, u64, u64), other: (u64, u64, u64)| {
        one.0.saturating_add(one.1) <= other.0 || other.0.saturating_add(other.1) <= one.0
    };
    let [first, second, third] = areas;
    if !apart(first, second) || !apart(first, third) || !apart(second, third) {
        report.broken(Broken::QueueOverlap);
        sound = false;
    }
    sound
}
