//! The disk.

use proptest::prelude::*;
use virtio_drivers::transport::{DeviceStatus, DeviceType};

use super::fake::{Fake, Memory, PAGES, Part};
use crate::Refusal;
use crate::disk::{Disk, Failed, MOST, REQUESTS, Refused, Request, SECTOR, Ticket};

type Driver = Disk<Memory, Fake>;

const SECTORS: u64 = 300;
const RO: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;
const ZEROES: u64 = 1 << 14;

fn fake(features: u64) -> Fake {
    let mut config = [0; 60];
    config[..8].copy_from_slice(&SECTORS.to_le_bytes());
    config[36..40].copy_from_slice(&100_u32.to_le_bytes());
    config[48..52].copy_from_slice(&200_u32.to_le_bytes());
    Fake::new(DeviceType::Block, features, &config)
}

fn open(features: u64) -> (Fake, Driver) {
    let fake = fake(features);
    let disk = Disk::open(fake.clone()).unwrap();
    (fake, disk)
}

fn refusal(change: impl FnOnce(&mut super::fake::State)) -> Option<Refusal> {
    let fake = fake(FLUSH | DISCARD);
    Driver::open(fake.change(change).clone()).err()
}

/// What an honest device does with a chain: how many bytes it writes.
fn serve(content: &mut [u8], parts: &[Part]) -> u32 {
    let header = parts[0].read();
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
    let (kind, sector) = (number(0), usize::try_from(number(8)).unwrap());
    let (status, data) = parts[1..].split_last().unwrap();
    let at = sector * SECTOR;
    assert!(!parts[0].written && status.written && status.len == 1);
    let written = match kind {
        0 => {
            let data = data[0];
            data.write(&content[at..at + data.len as usize]);
            data.len
        }
        1 => {
            let bytes = data[0].read();
            content[at..at + bytes.len()].copy_from_slice(&bytes);
            0
        }
        4 => {
            assert!(data.is_empty());
            0
        }
        11 | 13 => {
            let segment = data[0].read();
            assert_eq!(segment.len(), 16);
            let first = u64::from_le_bytes(segment[..8].try_into().unwrap());
            let count = u32::from_le_bytes(segment[8..12].try_into().unwrap());
            let at = usize::try_from(first).unwrap() * SECTOR;
            content[at..at + count as usize * SECTOR].fill(0);
            0
        }
        _ => panic!("no such request"),
    };
    status.write(&[0]);
    written + 1
}

/// What a device that has lied does with a chain, which may be no longer its own: it writes wherever it may, and says so.
fn scribble(parts: &[Part]) -> u32 {
    let written = parts.iter().filter(|part| part.written);
    written.fold(0, |bytes, part| {
        part.write(&vec![0xff; part.len as usize]);
        bytes + part.len
    })
}

#[test]
fn what_cannot_be_driven_is_refused() {
    assert_eq!(refusal(|_| ()), None);
    let other = |state: &mut super::fake::State| state.kind = DeviceType::Network;
    assert_eq!(refusal(other), Some(Refusal::OtherDevice));
    assert_eq!(refusal(|s| s.features = 0), Some(Refusal::Features));
    let refuses = refusal(|s| s.never = DeviceStatus::FEATURES_OK);
    assert_eq!(refuses, Some(Refusal::Features));
    let stuck = refusal(|s| s.always = DeviceStatus::DRIVER);
    assert_eq!(stuck, Some(Refusal::NoReset));
    assert_eq!(refusal(|s| s.most = 63), Some(Refusal::Queue));
    assert_eq!(refusal(|s| s.step = 1), Some(Refusal::Config));
    assert_eq!(refusal(|s| s.config.truncate(7)), Some(Refusal::Config));
    assert_eq!(refusal(|s| s.config[7] = 0x80), Some(Refusal::Config));
    PAGES.set(Driver::PAGES);
    assert_eq!(refusal(|_| ()), None);
    PAGES.set(Driver::PAGES - 1);
    assert_eq!(refusal(|_| ()), Some(Refusal::Memory));
    PAGES.set(usize::MAX);
}

#[test]
fn a_disk_says_what_it_is() {
    let (fake, disk) = open(RO | FLUSH | DISCARD | 1 << 28 | 1 << 33 | 1 << 34);
    assert_eq!(fake.0.borrow().agreed, 1 << 32 | RO | FLUSH | DISCARD);
    assert!(fake.0.borrow().status.contains(DeviceStatus::DRIVER_OK));
    assert_eq!((disk.sectors(), disk.is_readonly()), (SECTORS, true));
    assert_eq!((disk.max_discard(), disk.max_zeroes()), (100, 0));
    drop(disk);
    assert_eq!(fake.0.borrow().status, DeviceStatus::empty());
}

#[test]
fn requests_out_of_bounds_never_reach_the_device() {
    let (fake, mut disk) = open(FLUSH | DISCARD | ZEROES);
    let ticket = disk.hold().unwrap();
    let read = |sector, sectors| Request::Read { sector, sectors };
    let write = |sector, sectors| Request::Write { sector, sectors };
    let discard = |sector, sectors| Request::Discard { sector, sectors };
    let zero = |sector, sectors| Request::Zero {
        sector,
        sectors,
        unmap: true,
    };
    for request in [
        read(0, 0),
        read(0, 129),
        read(300, 1),
        read(299, 2),
        read(u64::MAX, 1),
        read(u64::MAX - 1, 128),
        write(173, 128),
        write(0, u32::MAX),
        discard(0, 101),
        discard(0, 0),
        zero(0, 201),
        zero(200, 101),
    ] {
        assert_eq!(disk.submit(ticket, request), Err(Refused::Range));
    }
    assert!(fake.pop(0).is_none());
    for request in [read(299, 1), write(172, 128), discard(200, 100)] {
        let ticket = disk.hold().unwrap();
        assert_eq!(disk.submit(ticket, request), Ok(()));
        assert_eq!(disk.submit(ticket, request), Err(Refused::NotHeld));
    }
    let (_, mut plain) = open(0);
    let ticket = plain.hold().unwrap();
    for request in [Request::Flush, discard(0, 1), zero(0, 1)] {
        assert_eq!(plain.submit(ticket, request), Err(Refused::Unsupported));
    }
    let (_, mut fixed) = open(RO | DISCARD | ZEROES);
    let ticket = fixed.hold().unwrap();
    for request in [write(0, 1), discard(0, 1), zero(0, 1)] {
        assert_eq!(fixed.submit(ticket, request), Err(Refused::Unsupported));
    }
    assert_eq!(fixed.submit(ticket, read(0, 1)), Ok(()));
}

#[test]
fn all_requests_fly_at_once_and_buffers_are_with_one_side_only() {
    let (fake, mut disk) = open(FLUSH);
    let mut tickets = Vec::new();
    while let Some(ticket) = disk.hold() {
        assert_eq!(disk.buffer(ticket).len(), MOST);
        let sector = tickets.len() as u64;
        let read = Request::Read { sector, sectors: 1 };
        assert_eq!(disk.submit(ticket, read), Ok(()));
        assert!(disk.buffer(ticket).is_empty());
        disk.release(ticket);
        tickets.push(ticket);
    }
    assert_eq!(tickets.len(), REQUESTS);
    assert_eq!(disk.complete(), None);
    let mut content = vec![7; usize::try_from(SECTORS).unwrap() * SECTOR];
    let mut chains: Vec<_> = std::iter::from_fn(|| fake.pop(0)).collect();
    chains.reverse();
    for (head, parts) in chains {
        let written = serve(&mut content, &parts);
        fake.push(0, head.into(), written);
    }
    disk.quiet();
    for ticket in tickets.iter().rev() {
        assert_eq!(disk.complete(), Some((*ticket, Ok(()))));
        assert_eq!(disk.buffer(*ticket)[..SECTOR], [7; SECTOR]);
        disk.release(*ticket);
        assert!(disk.buffer(*ticket).is_empty());
    }
    assert_eq!(disk.complete(), None);
}

#[test]
fn a_device_is_told_once_unless_it_does_not_want_to_be() {
    let (fake, mut disk) = open(0);
    let read = Request::Read {
        sector: 0,
        sectors: 1,
    };
    let mut submit = || {
        let ticket = disk.hold().unwrap();
        disk.submit(ticket, read).unwrap();
        fake.0.borrow().notified[0]
    };
    assert_eq!((submit(), submit()), (1, 2));
    fake.suppress(0, true);
    assert_eq!(submit(), 2);
    fake.suppress(0, false);
    assert_eq!(submit(), 3);
}

/// What a device says of a read of one sector, and what comes of it.
fn verdict(status: Option<u8>, written: u32) -> Result<(), Failed> {
    let (fake, mut disk) = open(0);
    let ticket = disk.hold().unwrap();
    let (sector, sectors) = (0, 1);
    disk.submit(ticket, Request::Read { sector, sectors })
        .unwrap();
    let (head, parts) = fake.pop(0).unwrap();
    if let Some(status) = status {
        parts[2].write(&[status]);
    }
    fake.push(0, head.into(), written);
    let (back, answer) = disk.complete().unwrap();
    assert_eq!(back, ticket);
    answer
}

#[test]
fn answers_are_judged() {
    assert_eq!(verdict(Some(0), 513), Ok(()));
    for status in 1..=255 {
        let wanted = match status {
            2 => Failed::Unsupported,
            _ => Failed::Io,
        };
        assert_eq!(verdict(Some(status), 513), Err(wanted));
    }
    // No status, and bytes that are not the disk's.
    assert_eq!(verdict(None, 513), Err(Failed::Io));
    for written in [0, 1, 512] {
        assert_eq!(verdict(Some(0), written), Err(Failed::Io));
    }
}

#[test]
fn a_device_that_lies_is_reset_and_all_that_it_had_is_lost() {
    for id in [0_u32, 1, 3, 63, 64, 0xffff, 0x1_0000, u32::MAX] {
        let (fake, mut disk) = open(0);
        let flying: Vec<Ticket> = (0..3)
            .map(|sector| {
                let ticket = disk.hold().unwrap();
                let read = Request::Read { sector, sectors: 1 };
                disk.submit(ticket, read).unwrap();
                ticket
            })
            .collect();
        let held = disk.hold().unwrap();
        let (head, _) = fake.pop(0).unwrap();
        assert_eq!(head, 0);
        // Of these heads only 0, 3 and 6 are in flight; 0 is used twice.
        let resets = fake.0.borrow().resets;
        if u16::try_from(id & 0xffff).is_ok_and(|id| [0, 3].contains(&id)) {
            fake.push(0, id, 513);
            assert!(
                disk.complete()
                    .is_some_and(|(_, answer)| answer != Err(Failed::Broken))
            );
            assert!(!disk.is_broken());
        }
        let before = disk.is_broken();
        fake.push(0, id, 513);
        let lost: Vec<_> = std::iter::from_fn(|| disk.complete()).collect();
        assert!(!before && disk.is_broken(), "{id}");
        assert!(
            lost.iter()
                .all(|(_, answer)| *answer == Err(Failed::Broken))
        );
        assert!(lost.len() >= 2 && fake.0.borrow().resets > resets);
        for (ticket, _) in &lost {
            assert!(flying.contains(ticket));
            disk.release(*ticket);
            assert!(disk.buffer(*ticket).is_empty());
        }
        assert!(disk.hold().is_none());
        assert_eq!(disk.buffer(held).len(), MOST);
        let again = disk.submit(
            held,
            Request::Read {
                sector: 0,
                sectors: 1,
            },
        );
        assert_eq!(again, Err(Refused::Broken));
    }
}

fn request() -> impl Strategy<Value = Request> {
    let range = (0..SECTORS, 1..130_u32);
    (0..6, range).prop_map(|(kind, (sector, sectors))| match kind {
        0 | 1 => Request::Read { sector, sectors },
        2 | 3 => Request::Write { sector, sectors },
        4 => Request::Flush,
        _ => Request::Zero {
            sector,
            sectors,
            unmap: sectors % 2 == 0,
        },
    })
}

/// What a device does next.
#[derive(Clone, Debug)]
enum Step {
    Submit(Request, u8),
    /// It is done with one of those that it has.
    Finish(prop::sample::Index),
    Look,
    /// It says that it used this.
    Lie(u32, u32),
    /// It says that it used so many.
    Jump(u16),
}

fn step(lies: bool) -> impl Strategy<Value = Step> {
    let honest = prop_oneof![
        4 => (request(), any::<u8>()).prop_map(|(r, b)| Step::Submit(r, b)),
        4 => any::<prop::sample::Index>().prop_map(Step::Finish),
        2 => Just(Step::Look),
    ];
    let lie = prop_oneof![
        (0..70_u32, 0..1000_u32).prop_map(|(id, len)| Step::Lie(id, len)),
        (any::<u32>(), any::<u32>()).prop_map(|(id, len)| Step::Lie(id, len)),
        any::<u16>().prop_map(Step::Jump),
    ];
    match lies {
        true => prop_oneof![9 => honest, 1 => lie].boxed(),
        false => honest.boxed(),
    }
}

/// What is expected of a request: the bytes that a read finds.
type Wanted = Option<Vec<u8>>;

fn run(steps: Vec<Step>, event_idx: bool) {
    let (fake, mut disk) = open(FLUSH | DISCARD | ZEROES | u64::from(event_idx) << 29);
    let mut content = vec![0; usize::try_from(SECTORS).unwrap() * SECTOR];
    let (mut flying, mut chains) = (Vec::<(Ticket, Request)>::new(), Vec::new());
    let mut answers = std::collections::BTreeMap::<usize, Wanted>::new();
    let mut honest = true;
    for step in steps {
        match step {
            Step::Submit(request, byte) => {
                let Some(ticket) = disk.hold() else { continue };
                disk.buffer(ticket).fill(byte);
                match disk.submit(ticket, request) {
                    Ok(()) => flying.push((ticket, request)),
                    Err(_) => disk.release(ticket),
                }
                chains.extend(std::iter::from_fn(|| fake.pop(0)));
            }
            Step::Finish(which) if !chains.is_empty() && fake.0.borrow().rings[0].size != 0 => {
                let (head, parts): (u16, Vec<Part>) = chains.remove(which.index(chains.len()));
                let written = match honest {
                    true => serve(&mut content, &parts),
                    false => scribble(&parts),
                };
                let read = parts.get(1).filter(|part| parts.len() == 3 && part.written);
                answers.insert(head.into(), read.map(Part::read));
                fake.push(0, head.into(), written);
            }
            Step::Lie(id, len) if fake.0.borrow().rings[0].size != 0 => {
                honest = false;
                fake.push(0, id, len);
            }
            Step::Jump(used) if fake.0.borrow().rings[0].size != 0 => {
                honest = false;
                fake.set_used(0, used);
            }
            Step::Finish(_) | Step::Lie(..) | Step::Jump(_) => {}
            Step::Look => {
                disk.quiet();
                while let Some((ticket, answer)) = disk.complete() {
                    let at = flying.iter().position(|(one, _)| *one == ticket);
                    let (_, request) = flying.remove(at.expect("a ticket comes back once"));
                    assert!(
                        honest <= answer.is_ok()
                            && (answer != Err(Failed::Broken)) != disk.is_broken()
                    );
                    if honest && let Request::Read { sectors, .. } = request {
                        let len = sectors as usize * SECTOR;
                        let bytes = disk.buffer(ticket)[..len].to_vec();
                        assert!(
                            answers
                                .values()
                                .any(|wanted| wanted.as_ref() == Some(&bytes))
                        );
                    }
                    disk.release(ticket);
                }
                assert!(!honest || !disk.is_broken());
            }
        }
    }
}

proptest! {
    #[test]
    fn requests_come_back_once_with_the_disks_bytes(
        steps in prop::collection::vec(step(false), 1..200), event_idx: bool,
    ) {
        run(steps, event_idx);
    }

    #[test]
    fn no_lie_of_a_device_is_a_panic_or_brings_a_request_back_twice(
        steps in prop::collection::vec(step(true), 1..200), event_idx: bool,
    ) {
        run(steps, event_idx);
    }
}
