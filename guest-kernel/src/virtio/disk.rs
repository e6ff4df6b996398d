//! A disk.

use super::{Hal, Kind, Task, Way, Wrong, gave_up, model};
use guest_kernel_arch::say;
use guest_kernel_core::options::Options;
use virtio_drivers::device::blk::VirtIOBlk;

struct Disk<'t>(VirtIOBlk<Hal, Way<'t>>);

impl Disk<'_> {
    fn done(&mut self, result: virtio_drivers::Result) -> bool {
        let _ = self.0.ack_interrupt();
        result.is_ok()
    }
}

impl model::Disk for Disk<'_> {
    fn sectors(&self) -> u64 {
        self.0.capacity()
    }

    fn is_readonly(&self) -> bool {
        self.0.readonly()
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> bool {
        let Ok(sector) = usize::try_from(sector) else {
            return false;
        };
        let result = self.0.read_blocks(sector, into);
        self.done(result)
    }

    fn write(&mut self, sector: u64, bytes: &[u8]) -> bool {
        let Ok(sector) = usize::try_from(sector) else {
            return false;
        };
        let result = self.0.write_blocks(sector, bytes);
        self.done(result)
    }

    fn flush(&mut self) -> bool {
        let result = self.0.flush();
        self.done(result)
    }
}

pub fn check(transport: Way<'_>, task: &mut Task<'_>) -> Result<(), Wrong> {
    let driver = VirtIOBlk::new(transport).map_err(gave_up(Kind::Blk))?;
    let mut disk = Disk(driver);
    let mut id = [0; 20];
    let result = disk.0.device_id(&mut id);
    let named = result.is_ok().then(|| id.split(|byte| *byte == 0).next());
    let name = named.flatten().and_then(|id| str::from_utf8(id).ok());
    let sectors = disk.0.capacity();
    let Options { rounds, beyond, .. } = task.shared.options;
    let done = model::check(&mut disk, &mut task.choices, rounds, beyond)?;
    let model::Done {
        reads,
        writes,
        flushes,
    } = done;
    say!(
        "virtio: blk {}: {sectors} sectors, {reads} reads, {writes} writes, {flushes} flushes, {} interrupts",
        name.unwrap_or("?"),
        task.interrupts()
    );
    Ok(())
}
