//! Devices behind their transports, under guests that store anything anywhere at any moment.

use stage2_addr::Ipa;
use virtio::balloon::{Balloon, Forget};
use virtio::blk::{BLOCK, Blk, Disk, Job, RamDisk, ReadOnly, Shape, Snapshot};
use virtio::console::{Console, Terminal};
use virtio::fake::Ram;
use virtio::net::Net;
use virtio::rng::{Entropy, Rng};
use virtio::switch::{Peer, Port, Switch, Vlan};
use virtio::vsock::{Exchange, Station, Vsock};

use crate::guest::{BYTES, Dyn, Guest, SECTORS, Template};
use crate::input::Input;
use crate::template;

/// The most steps of a run.
const STEPS: usize = 256;

/// What becomes of what a good driver has sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// All of it comes back.
    Answered,
    /// Some of it may stay with the device.
    Anyhow,
}

/// Guests do what bytes say. The first byte says whether their drivers keep to the rules of rings.
pub fn run<'a>(
    mut input: Input<'_>,
    rams: &'a [Ram],
    devices: &mut [Dyn<'_, 'a>],
    template: Template,
    ends: Ends,
) {
    let hostile = input.byte() & 1 != 0;
    let mut guests: Vec<Guest<'_, 'a>> = (rams.iter().zip(devices).enumerate())
        .map(|(which, (ram, device))| {
            Guest::new(ram, &mut **device, template, !hostile || which != 0)
        })
        .collect();
    let mut steps = 0;
    while !input.is_empty() && steps < STEPS {
        steps += 1;
        let which = if guests.len() > 1 {
            usize::from(input.byte())
        } else {
            0
        };
        let which = which % guests.len();
        let guest = &mut guests[which];
        // The second guest is always a good one, and must not suffer.
        if hostile && which == 0 {
            guest.attack(&mut input);
        } else {
            guest.behave(&mut input);
        }
    }
    for (which, guest) in guests.iter_mut().enumerate() {
        if !hostile && ends == Ends::Answered {
            guest.drain();
        }
        guest.end();
        if !hostile || which != 0 {
            guest.check();
        }
    }
}

fn disk<'a, D: Disk<&'a Ram>>(input: Input<'_>, rams: &'a [Ram], disk: D, queues: u16) {
    let shape = Shape {
        id: *b"a disk of a fuzzer\0\0",
        queues,
        queue_max: 64,
    };
    let mut jobs: Vec<Job> = (0..4).map(|_| Job::new()).collect();
    let mut device = Blk::new(disk, shape, &mut jobs);
    run(
        input,
        rams,
        &mut [&mut device],
        template::blk,
        Ends::Answered,
    );
}

/// A block device over one of three disks.
pub fn blk(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let rams = [Ram::new(BYTES)];
    let store = Ram::with(&[(0, 512 * SECTORS as usize)]);
    let image: Vec<u8> = (0..512 * 20).map(|at: u32| (at / 7) as u8).collect();
    let kind = input.byte();
    let queues = u16::from(kind >> 4) % 3 + 1;
    match kind % 3 {
        0 => {
            let ram = RamDisk::new(&store, SECTORS).expect("there is memory");
            disk(input, &rams, ram, queues);
        }
        1 => disk(input, &rams, ReadOnly::new(&image), queues),
        _ => {
            let room = 4;
            assert!(u64::from(room) * BLOCK <= 512 * SECTORS);
            let mut map = [0; 6];
            let snapshot = Snapshot::new(&image, SECTORS, &store, room, &mut map);
            disk(input, &rams, snapshot.expect("there is room"), queues);
        }
    }
}

pub struct Sevens;

impl Entropy for Sevens {
    fn fill(&mut self, into: &mut [u8]) {
        into.fill(7);
    }
}

/// The entropy device.
pub fn rng(bytes: &[u8]) {
    let rams = [Ram::new(BYTES)];
    let mut device = Rng::new(Sevens, 64);
    run(
        Input::new(bytes),
        &rams,
        &mut [&mut device],
        template::none,
        Ends::Answered,
    );
}

/// A terminal that types what was printed.
struct Echo {
    kept: Vec<u8>,
    named: bool,
}

impl Terminal for Echo {
    fn write(&mut self, bytes: &[u8]) -> (usize, bool) {
        assert!(!bytes.is_empty());
        let line = bytes.iter().position(|byte| *byte == b'\n');
        let taken = line.map_or(bytes.len(), |at| at + 1);
        self.kept.extend(&bytes[..taken]);
        self.kept.truncate(4096);
        (taken, line.is_some())
    }

    fn has_input(&self) -> bool {
        !self.kept.is_empty()
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.kept.len());
        for (to, from) in into.iter_mut().zip(self.kept.drain(..count)) {
            *to = from;
        }
        count
    }

    fn name(&self) -> Option<&'static [u8]> {
        self.named.then_some(b"terminal")
    }
}

/// A console of three ports, whose terminals type what was printed.
pub fn console(bytes: &[u8]) {
    let rams = [Ram::new(BYTES)];
    let mut device = Console::new();
    for named in [false, true, false] {
        device.add(Echo {
            kept: Vec::new(),
            named,
        });
    }
    run(
        Input::new(bytes),
        &rams,
        &mut [&mut device],
        template::console,
        Ends::Anyhow,
    );
}

/// Forgets pages, which must be whole and in RAM.
struct Pages;

impl Forget for Pages {
    fn forget(&mut self, at: Ipa, len: u64) {
        assert!(at.is_aligned(4096) && len.is_multiple_of(4096) && len != 0);
        assert!(at.raw() >= virtio::fake::BASE);
        assert!(at.raw() + len <= virtio::fake::BASE + BYTES as u64);
    }
}

/// The balloon.
pub fn balloon(bytes: &[u8]) {
    let rams = [Ram::new(BYTES)];
    let mut input = Input::new(bytes);
    let mut device = Balloon::new(Pages);
    let _ = device.ask(u32::from(input.byte()));
    run(
        input,
        &rams,
        &mut [&mut device],
        template::none,
        Ends::Anyhow,
    );
}

/// Two network cards on one network.
pub fn net(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let shape = input.byte();
    let rams = [Ram::new(BYTES), Ram::new(BYTES)];
    let port = |last, vlan| {
        let peer = Peer::Guest {
            mac: [2, 0, 0, 0, 0, last],
            is_open: shape & 1 != 0,
            rate: if shape & 2 != 0 { 1_000_000 } else { 0 },
        };
        Port::new(0, vlan, peer)
    };
    let vlan = if shape & 4 != 0 {
        Vlan::Trunk
    } else {
        Vlan::Access(0)
    };
    let ports = [port(1, vlan), port(2, Vlan::Access(0))];
    let switch = Switch::new(&ports).expect("a switch");
    let pairs = shape >> 4 & 1;
    let mut first = Net::new(&switch, 0, &rams[0], pairs + 1).expect("a card");
    let mut second = Net::new(&switch, 1, &rams[1], 2 - pairs).expect("a card");
    run(
        input,
        &rams,
        &mut [&mut first, &mut second],
        template::net,
        Ends::Anyhow,
    );
}

/// Two guests whose sockets may talk to each other.
pub fn vsock(bytes: &[u8]) {
    let rams = [Ram::new(BYTES), Ram::new(BYTES)];
    let stations = [Station::new(3, 2), Station::new(4, 1)];
    let exchange = Exchange::new(&stations, 0).expect("an exchange");
    let mut first = Vsock::new(&exchange, 0, &rams[0]).expect("a device");
    let mut second = Vsock::new(&exchange, 1, &rams[1]).expect("a device");
    run(
        Input::new(bytes),
        &rams,
        &mut [&mut first, &mut second],
        template::vsock,
        Ends::Anyhow,
    );
}
