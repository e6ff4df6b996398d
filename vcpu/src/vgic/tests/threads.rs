//! Real threads: lanes that pull each other's list registers at full speed neither block for ever nor lose an interrupt.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

use crate::vgic::fake::FakeCpu;
use crate::vgic::port::Interface;
use crate::vgic::{Away, Frame, LaneGic, Vgic, VirtGic};

const LANES: usize = 4;
const ROUNDS: u32 = 3000;

/// A CPU whose kicks are flags in shared memory.
pub(super) struct Port<'a> {
    pub(super) cpu: FakeCpu,
    pub(super) kicks: &'a [AtomicBool],
}

impl VirtGic for Port<'_> {
    fn read_lr(&mut self, index: usize) -> u64 {
        self.cpu.read_lr(index)
    }
    fn write_lr(&mut self, index: usize, value: u64) {
        self.cpu.write_lr(index, value);
    }
    fn save_interface(&mut self, into: &mut Interface) {
        self.cpu.save_interface(into);
    }
    fn load_interface(&mut self, from: &Interface) {
        self.cpu.load_interface(from);
    }
    fn lr_count(&self) -> usize {
        self.cpu.lr_count()
    }
    fn read_elrsr(&mut self) -> u64 {
        self.cpu.read_elrsr()
    }
    fn read_hcr(&mut self) -> u64 {
        self.cpu.read_hcr()
    }
    fn write_hcr(&mut self, value: u64) {
        self.cpu.write_hcr(value);
    }
    fn read_vmcr(&mut self) -> u64 {
        self.cpu.read_vmcr()
    }
    fn write_vmcr(&mut self, value: u64) {
        self.cpu.write_vmcr(value);
    }
    fn send_sgi(&mut self, value: u64) {
        self.kicks[usize::try_from(value - 1).unwrap()].store(true, Ordering::Release);
    }
    fn deactivate(&mut self, intid: u32) {
        self.cpu.deactivate(intid);
    }
    fn set_spi_enabled(&mut self, intid: u32, enabled: bool) {
        self.cpu.set_spi_enabled(intid, enabled);
    }
    fn set_ppis(&mut self, wanted: u32) {
        self.cpu.set_ppis(wanted);
    }
    fn relax(&mut self) {
        thread::yield_now();
    }
}

struct Shared {
    vgic: Vgic,
    kicks: [AtomicBool; LANES],
    /// SGIs taken by each lane.
    taken: [AtomicU32; LANES],
    /// SPIs taken, one count each.
    spis: [AtomicU64; 8],
    finished: AtomicU32,
    started: Instant,
}

impl Shared {
    /// Gives the others a turn; a lost interrupt must fail the test, not hang it.
    fn wait(&self) {
        assert!(
            self.started.elapsed() < Duration::from_secs(900),
            "an interrupt was lost, or lanes block each other"
        );
        thread::yield_now();
    }
}

/// Takes what the CPU has: physical interrupts, then virtual ones.
fn turn(lane: &mut LaneGic, port: &mut Port<'_>, shared: &Shared) -> Option<u32> {
    if shared.kicks[lane.id()].swap(false, Ordering::AcqRel) && !lane.fast_kick(&shared.vgic, port)
    {
        lane.serve(&shared.vgic, port);
    }
    if port.cpu.maintenance() {
        lane.serve(&shared.vgic, port);
    }
    let intid = port.cpu.acknowledge()?;
    port.cpu.end(intid);
    if intid < 16 {
        shared.taken[lane.id()].fetch_add(1, Ordering::AcqRel);
    } else if let Some(count) = (intid as usize)
        .checked_sub(32)
        .and_then(|spi| shared.spis.get(spi))
    {
        count.fetch_add(1, Ordering::AcqRel);
    }
    Some(intid)
}

fn lane(id: usize, shared: &Shared, barrier: &Barrier) {
    let mut port = Port {
        cpu: FakeCpu::new(4),
        kicks: &shared.kicks,
    };
    let mut lane = LaneGic::new(id);
    lane.arrive(&shared.vgic, &mut port);
    port.cpu.set_guest_control(0xf0, true, true, false);
    let (vgic, d) = (&shared.vgic, Frame::Distributor);
    lane.mmio_write(
        vgic,
        Frame::Redistributor(id),
        0x1_0100,
        4,
        0xffff,
        &mut port,
    )
    .unwrap();
    barrier.wait();
    for round in 0..ROUNDS {
        let next = (id + 1) % LANES;
        // An SGI to the next lane, which must be taken before the next one is sent.
        let before = shared.taken[next].load(Ordering::Acquire);
        assert!(lane.fast_sgi1r(vgic, 3 << 24 | 1 << next, &mut port));
        match round % 4 {
            0 => {
                _ = lane
                    .mmio_read(vgic, Frame::Redistributor(next), 0x1_0300, 4, &mut port)
                    .unwrap()
            }
            1 => _ = lane.mmio_read(vgic, d, 0x304, 4, &mut port).unwrap(),
            2 => lane
                .mmio_write(
                    vgic,
                    d,
                    0x6100 + 8 * id as u64,
                    8,
                    u64::from(round % 4),
                    &mut port,
                )
                .unwrap(),
            _ => {}
        }
        while shared.taken[next].load(Ordering::Acquire) == before {
            turn(&mut lane, &mut port, shared);
            shared.wait();
        }
        // An SPI of this lane's own, pended only after the last one was taken, wherever that was.
        let count = shared.spis[id].load(Ordering::Acquire);
        lane.mmio_write(vgic, d, 0x204, 4, 1 << id, &mut port)
            .unwrap();
        while shared.spis[id].load(Ordering::Acquire) == count {
            turn(&mut lane, &mut port, shared);
            shared.wait();
        }
    }
    shared.finished.fetch_add(1, Ordering::AcqRel);
    while shared.finished.load(Ordering::Acquire) < u32::try_from(LANES).unwrap() {
        turn(&mut lane, &mut port, shared);
        shared.wait();
    }
    while turn(&mut lane, &mut port, shared).is_some() {}
}

#[test]
fn lanes_on_threads_exchange_interrupts_and_pull_each_other() {
    let shared = Arc::new(Shared {
        vgic: Vgic::new(LANES),
        kicks: [const { AtomicBool::new(false) }; LANES],
        taken: [const { AtomicU32::new(0) }; LANES],
        spis: [const { AtomicU64::new(0) }; 8],
        finished: AtomicU32::new(0),
        started: Instant::now(),
    });
    for lane in 0..LANES {
        shared.vgic.set_kick(lane, lane as u64 + 1);
    }
    {
        let mut port = Port {
            cpu: FakeCpu::new(4),
            kicks: &shared.kicks,
        };
        let mut boot = LaneGic::new(0);
        let d = Frame::Distributor;
        boot.arrive(&shared.vgic, &mut port);
        boot.mmio_write(&shared.vgic, d, 0, 4, 3, &mut port)
            .unwrap();
        boot.mmio_write(&shared.vgic, d, 0x104, 4, 0xff, &mut port)
            .unwrap();
        // Edge-triggered, so that each write counts once.
        boot.mmio_write(&shared.vgic, d, 0xc08, 4, 0xaaaa_aaaa, &mut port)
            .unwrap();
        boot.depart(Away::On, &shared.vgic, &mut port);
    }
    let barrier = Arc::new(Barrier::new(LANES));
    let threads: Vec<_> = (0..LANES)
        .map(|id| {
            let (shared, barrier) = (Arc::clone(&shared), Arc::clone(&barrier));
            thread::spawn(move || lane(id, &shared, &barrier))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    for lane in 0..LANES {
        assert_eq!(
            shared.taken[lane].load(Ordering::Acquire),
            ROUNDS,
            "each SGI exactly once"
        );
        assert_eq!(
            shared.spis[lane].load(Ordering::Acquire),
            u64::from(ROUNDS),
            "each SPI exactly once"
        );
    }
}
