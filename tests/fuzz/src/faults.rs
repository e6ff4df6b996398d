//! Devices with faults: whatever goes wrong on purpose, and whatever their drivers do besides.

use virtio::blk::{Blk, Disk, Facts, Job, Op, Outcome, RamDisk, Request, Shape, Status, Token};
use virtio::chain::Cursor;
use virtio::fake::Ram;
use virtio::faults::{Clock, Faults, FaultyDevice, FaultyDisk, Kind, Often, Script, Strike};
use virtio::net::Net;
use virtio::rng::Rng;
use virtio::switch::{Peer, Port, Switch, Vlan};

use crate::device::{Ends, Sevens, run};
use crate::guest::{BYTES, SECTORS};
use crate::input::Input;
use crate::template;

fn often(input: &mut Input<'_>) -> Often {
    match input.byte() {
        0..128 => Often::NEVER,
        128..200 => Often::From {
            nth: u64::from(input.byte()) % 32,
            every: u64::from(input.byte()) % 8,
        },
        _ => Often::Rate(u32::from(input.half()) * 16),
    }
}

/// Up to three faults by script.
fn script(shape: u8, input: &mut Input<'_>) -> Script {
    const KINDS: [Kind; 8] = [
        Kind::Delay,
        Kind::Short,
        Kind::Error,
        Kind::Drop,
        Kind::Reorder,
        Kind::Interrupt,
        Kind::Link,
        Kind::Reset,
    ];
    let mut script = Script::NONE;
    for _ in 0..shape % 4 {
        let strike = Strike {
            kind: KINDS[usize::from(input.byte()) % KINDS.len()],
            first: u64::from(input.byte()) % 32,
            count: u64::from(input.byte()) % 4 + 1,
        };
        assert!(script.add(strike));
    }
    script
}

fn faults(input: &mut Input<'_>) -> Faults {
    let seed = input.byte();
    Faults {
        script: script(seed, input),
        seed: u64::from(seed),
        delay: often(input),
        short: often(input),
        error: often(input),
        drop: often(input),
        reorder: often(input),
        interrupt: often(input),
        link: often(input),
        reset: often(input),
    }
}

/// What becomes of a good driver's requests: nothing else than a loss keeps one of them for good.
fn ends(faults: &Faults) -> Ends {
    if faults.drop == Often::NEVER && !faults.script.has(Kind::Drop) {
        Ends::Answered
    } else {
        Ends::Anyhow
    }
}

/// A disk that answers late and in any order.
struct Late {
    bytes: Vec<u8>,
    begun: Vec<(Token, Request)>,
    told: Vec<(Token, Request)>,
    room: usize,
    state: u64,
}

impl Late {
    fn chance(&mut self, of: usize) -> usize {
        self.state = self.state.wrapping_mul(0x5851_f42d_4c95_7f2d) + 1;
        (self.state >> 33) as usize % of
    }

    fn place(request: &Request) -> std::ops::Range<usize> {
        let at = request.at() as usize;
        at..at + request.bytes() as usize
    }
}

impl<'a> Disk<&'a Ram> for Late {
    fn facts(&self) -> Facts {
        Facts {
            sectors: SECTORS,
            readonly: false,
            volatile: true,
            discards: true,
            zeroes: true,
            most: 8,
        }
    }

    fn submit(
        &mut self,
        request: &Request,
        mut data: Cursor<'_>,
        memory: &&'a Ram,
        token: Token,
    ) -> Outcome {
        assert!(request.sector + u64::from(request.sectors) <= SECTORS);
        let has = self.begun.iter().chain(&self.told);
        assert!(has.clone().all(|(other, _)| *other != token), "twice");
        if has.count() >= self.room {
            return Outcome::Busy;
        }
        match request.op {
            Op::Write => {
                let place = Self::place(request);
                let into = self.bytes.get_mut(place).expect("on the disk");
                data.read(memory, into).expect("enough data");
            }
            Op::WriteZeroes { .. } => self.bytes[Self::place(request)].fill(0),
            Op::Read | Op::Flush | Op::Discard => {}
        }
        self.begun.push((token, *request));
        Outcome::Pending
    }

    fn finished(&mut self) -> Option<Token> {
        if self.begun.is_empty() || self.chance(3) == 0 {
            return None;
        }
        let which = self.chance(self.begun.len());
        let one = self.begun.remove(which);
        self.told.push(one);
        Some(one.0)
    }

    fn collect(&mut self, token: Token, data: Option<(Cursor<'_>, &&'a Ram)>) -> Status {
        let which = self.told.iter().position(|(other, _)| *other == token);
        let (_, request) = self.told.remove(which.expect("it was said once"));
        if let (Op::Read, Some((mut cursor, memory))) = (request.op, data) {
            let bytes = &self.bytes[Self::place(&request)];
            cursor.write(memory, bytes).expect("enough room");
        }
        Status::Ok
    }
}

fn over<'a, D: Disk<&'a Ram>>(input: Input<'_>, rams: &'a [Ram], disk: D, faults: Faults) {
    let shape = Shape {
        id: *b"a disk that fails\0\0\0",
        queues: 1 + (faults.seed % 3) as u16,
        queue_max: 64,
    };
    let clock = Clock::new();
    let mut jobs: Vec<Job> = (0..6).map(|_| Job::new()).collect();
    let mut device = Blk::new(FaultyDisk::new(disk, faults, &clock), shape, &mut jobs);
    let mut device = FaultyDevice::over_disk(&mut device, faults, &clock);
    run(
        input,
        rams,
        &mut [&mut device],
        template::blk,
        ends(&faults),
    );
}

/// A block device over a disk with faults, which answers at once or late.
pub fn disk(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let rams = [Ram::new(BYTES)];
    let store = Ram::with(&[(0, 512 * SECTORS as usize)]);
    let kind = input.byte();
    let faults = faults(&mut input);
    if kind & 1 == 0 {
        let disk = RamDisk::new(&store, SECTORS).expect("there is memory");
        over(input, &rams, disk, faults);
    } else {
        let disk = Late {
            bytes: vec![0x5A; 512 * SECTORS as usize],
            begun: Vec::new(),
            told: Vec::new(),
            room: 1 + usize::from(kind >> 1) % 6,
            state: u64::from(kind),
        };
        over(input, &rams, disk, faults);
    }
}

/// Devices with faults and no disk: two network cards, one of them with faults; or the entropy device.
pub fn device(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let faults = faults(&mut input);
    let clock = Clock::new();
    if kind & 1 == 0 {
        let rams = [Ram::new(BYTES)];
        let mut device = Rng::new(Sevens, 64);
        let mut device = FaultyDevice::new(&mut device, faults, &clock, None);
        run(
            input,
            &rams,
            &mut [&mut device],
            template::none,
            Ends::Answered,
        );
        return;
    }
    let rams = [Ram::new(BYTES), Ram::new(BYTES)];
    let port = |last| {
        let peer = Peer::Guest {
            mac: [2, 0, 0, 0, 0, last],
            is_open: false,
            rate: 0,
        };
        Port::new(0, Vlan::Access(0), peer)
    };
    let ports = [port(1), port(2)];
    let switch = Switch::new(&ports).expect("a switch");
    let mut first = Net::new(&switch, 0, &rams[0], 2).expect("a card");
    let mut second = Net::new(&switch, 1, &rams[1], 1).expect("a card");
    let mut first = FaultyDevice::new(&mut first, faults, &clock, Some(&ports[0]));
    run(
        input,
        &rams,
        &mut [&mut first, &mut second],
        template::net,
        Ends::Anyhow,
    );
}
