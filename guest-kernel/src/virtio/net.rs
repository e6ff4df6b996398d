//! A network card, and the guest at the other end.

use super::{Hal, Kind, Task, Way, Wrong, gave_up};
use guest_kernel_arch::{say, timer};
use guest_kernel_core::virtio::frames::{self, Played, Wire};
use virtio_drivers::device::net::VirtIONet;

/// Buffers that are given to the card.
const BUFFERS: usize = 16;
/// Bytes of each: the largest frame and virtio's header.
const BUFFER: usize = 2048;

struct Card<'t, 's> {
    driver: VirtIONet<Hal, Way<'t>, BUFFERS>,
    task: &'s Task<'s>,
}

impl Wire for Card<'_, '_> {
    fn send(&mut self, frame: &[u8]) -> bool {
        let mut buffer = self.driver.new_tx_buffer(frame.len());
        buffer.packet_mut().copy_from_slice(frame);
        self.driver.send(buffer).is_ok()
    }

    fn receive(&mut self, into: &mut [u8], ms: u64) -> Option<usize> {
        let end = self.now().saturating_add(ms);
        loop {
            // First the acknowledgement, then the look: what comes after it interrupts again.
            let before = self.task.interrupts();
            let _ = self.driver.ack_interrupt();
            let left = end.saturating_sub(self.now());
            if self.driver.can_recv() || left == 0 {
                break;
            }
            self.task.sleep(left, || self.task.interrupts() != before);
        }
        let buffer = self.driver.receive().ok()?;
        let length = buffer.packet().len();
        into.get_mut(..length)?.copy_from_slice(buffer.packet());
        self.driver.recycle_rx_buffer(buffer).ok()?;
        Some(length)
    }

    fn now(&self) -> u64 {
        let per_ms = (timer::frequency() / 1000).max(1);
        timer::now() / per_ms
    }
}

pub fn check(transport: Way<'_>, task: &Task<'_>) -> Result<(), Wrong> {
    let driver = VirtIONet::new(transport, BUFFER).map_err(gave_up(Kind::Net))?;
    let me = driver.mac_address();
    let mut card = Card { driver, task };
    let rounds = u64::from(task.shared.options.rounds);
    let Played {
        pings,
        again,
        answered,
    } = frames::play(&mut card, me, rounds)?;
    let [a, b, c, d, e, f] = me;
    say!(
        "virtio: net {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}: {pings} pings, {again} again, {answered} answered, {} interrupts",
        task.interrupts()
    );
    Ok(())
}
