use std::boxed::Box;
use std::collections::VecDeque;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::rig::Driver;

/// What a port has shown, and what is typed at it.
#[derive(Default)]
struct Screen {
    shown: Vec<u8>,
    typed: VecDeque<u8>,
    name: Option<&'static [u8]>,
}

impl Terminal for Screen {
    fn write(&mut self, bytes: &[u8]) -> (usize, bool) {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        self.shown.extend(&bytes[..taken]);
        (taken, end.is_some())
    }

    fn has_input(&self) -> bool {
        !self.typed.is_empty()
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.typed.len());
        for place in &mut into[..count] {
            *place = self.typed.pop_front().unwrap();
        }
        count
    }

    fn name(&self) -> Option<&'static [u8]> {
        self.name
    }
}

/// A console with two ports and a driver for each of its queues.
struct Rig {
    ram: &'static Ram,
    console: Box<Console<Screen>>,
    drivers: Vec<Driver<'static>>,
}

const FEATURES: [Features; 4] = [
    Features::VERSION_1,
    Features::VERSION_1
        .union(Features::EVENT_IDX)
        .union(Features::INDIRECT_DESC),
    Features::VERSION_1.union(Features::RING_PACKED),
    Features::VERSION_1
        .union(Features::RING_PACKED)
        .union(Features::EVENT_IDX)
        .union(Features::INDIRECT_DESC),
];

impl Rig {
    fn new(features: Features) -> Self {
        let ram = Ram::leaked(0x100_0000);
        let mut console = Box::new(Console::new());
        console.add(Screen::default());
        console.add(Screen {
            name: Some(b"xdv.1"),
            ..Screen::default()
        });
        let mut drivers = Vec::new();
        for queue in 0..6u16 {
            assert_eq!(Device::<&Ram>::queue_max(&*console, queue), QUEUE_MAX);
            let at = BASE + 0x10_0000 * u64::from(queue);
            let driver = Driver::new(ram, at, 0x10_0000, 16, features);
            let ring = Queue::new(&driver.config(), QUEUE_MAX, features, &ram).unwrap();
            Device::<&Ram>::open(&mut *console, queue, ring);
            drivers.push(driver);
        }
        assert_eq!(Device::<&Ram>::queue_max(&*console, 6), 0);
        Device::<&Ram>::start(&mut *console, features.bits() | MULTIPORT);
        Self {
            ram,
            console,
            drivers,
        }
    }

    fn serve(&mut self, queue: u16) -> Served {
        let mut env = Env {
            memory: self.ram,
            now: 0,
            frequency: 1,
            trace: None,
        };
        self.console.serve(queue, &mut env)
    }

    fn poll(&mut self) -> Served {
        let mut env = Env {
            memory: self.ram,
            now: 0,
            frequency: 1,
            trace: None,
        };
        self.console.poll(&mut env)
    }

    /// Until there is no more to do.
    fn finish(&mut self, queue: u16) {
        for _ in 0..1000 {
            let served = self.serve(queue);
            assert!(!served.broken);
            if !served.more {
                return;
            }
        }
        panic!("it never ends");
    }

    fn shown(&self, port: usize) -> String {
        String::from_utf8(self.console.ports[port].terminal.shown.clone()).unwrap()
    }

    fn say(&mut self, id: u32, event: u16, value: u16) {
        let id = id.to_le_bytes();
        let [event, value] = [event.to_le_bytes(), value.to_le_bytes()];
        self.drivers[3].send(&[&id, &event, &value], &[]).unwrap();
        self.finish(3);
        while self.drivers[3].receive().is_some() {}
    }

    fn heard(&mut self) -> Vec<(u32, u16, u16, Vec<u8>)> {
        let mut heard = Vec::new();
        while let Some(done) = self.drivers[2].receive() {
            let bytes = &done.data[..done.written as usize];
            let (id, rest) = bytes.split_at(4);
            heard.push((
                u32::from_le_bytes(id.try_into().unwrap()),
                u16::from_le_bytes(rest[..2].try_into().unwrap()),
                u16::from_le_bytes(rest[2..4].try_into().unwrap()),
                rest[4..].to_vec(),
            ));
        }
        heard
    }
}

#[test]
fn a_line_is_printed_and_its_chain_comes_back() {
    for features in FEATURES {
        let mut rig = Rig::new(features);
        rig.drivers[1].sleep(1);
        rig.drivers[1]
            .send(&[b"hello, ", b"world\r\n"], &[])
            .unwrap();
        let served = rig.serve(1);
        assert_eq!(
            served,
            Served {
                used: true,
                ..Served::NOTHING
            }
        );
        assert_eq!(rig.shown(0), "hello, world\r\n");
        assert_eq!(rig.drivers[1].receive().unwrap().written, 0);
    }
}

/// VIO-28: a guest that prints without end has others wait for one line at a time.
#[test]
fn vio_28_one_line_is_printed_at_a_time() {
    for features in FEATURES {
        let mut rig = Rig::new(features);
        rig.drivers[1].send(&[b"one\ntwo\nthree"], &[]).unwrap();
        rig.drivers[1].send(&[b"\nfour\n"], &[]).unwrap();
        for (more, shown) in [
            (true, "one\n"),
            (true, "one\ntwo\n"),
            (true, "one\ntwo\nthree\n"),
            (false, "one\ntwo\nthree\nfour\n"),
        ] {
            let served = rig.serve(1);
            assert_eq!((served.more, rig.shown(0).as_str()), (more, shown));
        }
    }
}

/// Linux throws away what comes before it has said that the port is open, so it waits for that.
#[test]
fn input_waits_until_the_port_is_open() {
    for features in FEATURES {
        let mut rig = Rig::new(features);
        rig.console.ports[0].terminal.typed.extend(b"abc");
        rig.drivers[0].send(&[], &[0x1000]).unwrap();
        rig.say(1, PORT_OPEN, 1);
        rig.say(9, PORT_OPEN, 1);
        assert!(!rig.serve(0).more && rig.drivers[0].receive().is_none());
        rig.say(0, PORT_OPEN, 1);
        assert_eq!(rig.drivers[0].receive().unwrap().written, 3);
        rig.say(0, PORT_OPEN, 0);
        rig.console.ports[0].terminal.typed.extend(b"d");
        rig.drivers[0].send(&[], &[0x1000]).unwrap();
        let _ = rig.poll();
        assert!(rig.drivers[0].receive().is_none());
        // A driver that knows nothing of ports has one that is open.
        Device::<&Ram>::start(&mut *rig.console, features.bits());
        let _ = rig.poll();
        assert_eq!(rig.drivers[0].receive().unwrap().written, 1);
    }
}

/// VIO-28: what is typed waits until the driver has room for it, and none is lost or given twice.
#[test]
fn vio_28_input_waits_for_buffers() {
    for features in FEATURES {
        let mut rig = Rig::new(features);
        rig.say(0, PORT_OPEN, 1);
        rig.console.ports[0].terminal.typed.extend(b"abcdefgh");
        assert_eq!(rig.poll(), Served::NOTHING);
        rig.drivers[0].sleep(1);
        rig.drivers[0].send(&[], &[3]).unwrap();
        rig.drivers[0].send(&[], &[0x1000]).unwrap();
        rig.drivers[0].send(&[], &[0x1000]).unwrap();
        let served = rig.serve(0);
        assert!(served.used && !served.more);
        let first = rig.drivers[0].receive().unwrap();
        assert_eq!((first.written, &first.data[..3]), (3, &b"abc"[..]));
        let second = rig.drivers[0].receive().unwrap();
        assert_eq!((second.written, &second.data[..5]), (5, &b"defgh"[..]));
        assert!(rig.drivers[0].receive().is_none());
        rig.console.ports[0].terminal.typed.extend(b"i");
        let _ = rig.poll();
        assert_eq!(rig.drivers[0].receive().unwrap().written, 1);
    }
}

#[test]
fn ports_are_announced_opened_and_named_when_the_driver_asks() {
    for features in FEATURES {
        let mut rig = Rig::new(features);
        for _ in 0..8 {
            rig.drivers[2].send(&[], &[64]).unwrap();
        }
        rig.say(0, DEVICE_READY, 1);
        let add = |id| (id, 1, 1, Vec::new());
        assert_eq!(rig.heard(), [add(0), add(1)]);
        rig.say(0, PORT_READY, 1);
        assert_eq!(rig.heard(), [(0, 4, 1, Vec::new()), (0, 6, 1, Vec::new())]);
        rig.say(1, PORT_READY, 1);
        assert_eq!(
            rig.heard(),
            [(1, 6, 1, Vec::new()), (1, 7, 1, b"xdv.1".to_vec())]
        );
        // The second port is no console, and has queues of its own.
        rig.drivers[5].send(&[b"data"], &[]).unwrap();
        rig.finish(5);
        assert_eq!((rig.shown(0).as_str(), rig.shown(1).as_str()), ("", "data"));
    }
}

/// VIO-28: ids of ports that there are not, unknown events, messages that are too short, buffers that are too small.
#[test]
fn vio_28_control_messages_that_make_no_sense_do_nothing() {
    for features in FEATURES {
        let mut rig = Rig::new(features);
        rig.say(2, PORT_READY, 1);
        rig.say(u32::MAX, PORT_READY, 1);
        for event in [1, 2, 4, 5, 6, 7, 8, u16::MAX] {
            rig.say(0, event, 1);
        }
        rig.drivers[3].send(&[&[0; 7]], &[]).unwrap();
        rig.finish(3);
        rig.drivers[2].send(&[], &[64]).unwrap();
        rig.finish(2);
        assert_eq!(rig.heard(), []);
        // Ten thousand askings are one answer each.
        for _ in 0..10_000 {
            rig.say(0, DEVICE_READY, 1);
        }
        rig.drivers[2].send(&[], &[64]).unwrap();
        rig.drivers[2].send(&[], &[64]).unwrap();
        rig.finish(2);
        let add = |id| (id, 1, 1, Vec::new());
        assert_eq!(rig.heard(), [add(0), add(0), add(1)]);
        // One that does not fit is lost.
        rig.say(0, DEVICE_READY, 1);
        rig.drivers[2].send(&[], &[7]).unwrap();
        rig.finish(2);
        assert_eq!(rig.drivers[2].receive().unwrap().written, 0);
        assert!(rig.console.ports[0].due.is_empty());
    }
}

#[test]
fn the_emergency_byte_is_printed_without_a_queue() {
    let ram = Ram::leaked(0x1000);
    let mut console = Box::new(Console::new());
    console.add(Screen::default());
    let mut env = Env {
        memory: ram,
        now: 0,
        frequency: 1,
        trace: None,
    };
    for byte in b"oops" {
        let _ = console.write_config(8, &[*byte, 0, 0, 0], &mut env);
    }
    let _ = console.write_config(4, b"none", &mut env);
    assert_eq!(console.ports[0].terminal.shown, b"oops");
    let mut config = [0xaa; 16];
    Device::<&Ram>::read_config(&*console, 0, &mut config);
    assert_eq!(config[..8], [0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(config[12..], [0xaa; 4]);
}

#[test]
fn nothing_is_left_of_a_chain_after_a_reset() {
    for features in FEATURES {
        let mut rig = Rig::new(features);
        rig.drivers[1].send(&[b"one\ntwo\n"], &[]).unwrap();
        assert!(rig.serve(1).more);
        Device::<&Ram>::reset(&mut *rig.console);
        assert_eq!(rig.serve(1), Served::NOTHING);
        assert_eq!(rig.shown(0), "one\n");
        assert!(rig.drivers[1].receive().is_none());
    }
}

proptest! {
    /// However output is cut into chains and buffers, it is what was sent.
    #[test]
    fn output_is_what_was_sent(
        kind in 0usize..4,
        chains in proptest::collection::vec(proptest::collection::vec("[a-z\n]{1,400}", 1..4), 1..40),
    ) {
        let mut rig = Rig::new(FEATURES[kind]);
        let mut sent = String::new();
        for chain in chains {
            let parts: Vec<&[u8]> = chain.iter().map(|part| part.as_bytes()).collect();
            rig.drivers[1].send(&parts, &[]).unwrap();
            sent.extend(chain);
            rig.finish(1);
            while rig.drivers[1].receive().is_some() {}
        }
        prop_assert_eq!(rig.shown(0), sent);
        prop_assert_eq!(rig.drivers[1].in_flight(), 0);
    }
}
