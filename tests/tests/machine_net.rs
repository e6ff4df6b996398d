//! The machine's own network card: what goes out and what comes in, and who may be outside.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::machine::{GRACE, Machine, run, target};
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

const CONFIGS: [&str; 2] = ["here", "there"];
/// The guests' addresses, as the machine files have them.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const ROUNDS: u64 = 200;

/// A cable: QEMU's end of it is a socket, and we are at the other.
struct Cable {
    ours: UdpSocket,
    theirs: SocketAddr,
}

impl Cable {
    fn new() -> anyhow::Result<Self> {
        let any = || UdpSocket::bind("127.0.0.1:0");
        let ours = any()?;
        ours.set_read_timeout(Some(Duration::from_millis(50)))?;
        let theirs = any()?.local_addr()?;
        Ok(Self { ours, theirs })
    }

    fn netdev(&self) -> anyhow::Result<String> {
        let (ours, theirs) = (self.ours.local_addr()?, self.theirs);
        Ok(format!("socket,udp={ours},localaddr={theirs}"))
    }

    fn send(&self, frame: &[u8]) {
        // Nobody is there before the machine starts, and when it has ended.
        let _ = self.ours.send_to(frame, self.theirs);
    }
}

/// Carries frames from one cable to the other until it is told to stop: their senders.
fn carry(from: &Cable, to: &Cable, stop: &AtomicBool) -> Vec<[u8; 6]> {
    let mut senders = Vec::new();
    let mut frame = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(len) = from.ours.recv(&mut frame) {
            let frame = frame.get(..len).unwrap_or_default();
            senders.extend(frame.get(6..).and_then(<[u8]>::first_chunk).copied());
            to.send(frame);
        }
    }
    senders
}

/// Some three thousand frames of all kinds in a second, which nobody asked for.
fn flood(cables: &[Cable; 2], stop: &AtomicBool) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap_or(0) % below
    };
    let (mut frame, mut sent) = (vec![0_u8; 4001], 0);
    while !stop.load(Ordering::Relaxed) {
        for cable in cables.iter().cycle().take(30) {
            for byte in frame.iter_mut().take(64) {
                *byte = u8::try_from(random(256)).unwrap_or(0);
            }
            // For the guests, for everybody, for switches, for anybody.
            let to: &[u8] = match random(6) {
                0 | 1 => &MACS[0],
                2 => &MACS[1],
                3 => &[0xff; 6],
                4 => &[1, 0x80, 0xc2, 0, 0, 0],
                _ => &[5; 6],
            };
            // From a guest, from nobody, from everybody, from anybody.
            let from: &[u8] = match random(6) {
                0 => &MACS[0],
                1 => &MACS[1],
                2 => &[0; 6],
                3 => &[0xff; 6],
                _ => &[4; 6],
            };
            // With tags or without.
            let tags: &[u8] = match random(3) {
                0 => &[],
                1 => &[0x81, 0, 0, 5],
                _ => &[0x81, 0, 0, 5, 0x81, 0, 0, 6],
            };
            let head = [to, from, tags].into_iter().flatten();
            frame
                .iter_mut()
                .zip(head)
                .for_each(|(to, from)| *to = *from);
            let len = match random(3) {
                0 => random(63),
                1 => random(1600),
                _ => random(4000),
            };
            // An empty one is the end of the cable, to QEMU.
            cable.send(frame.get(..=len).unwrap_or_default());
            sent += 1;
        }
        thread::sleep(Duration::from_millis(10));
    }
    sent
}

fn machine(point: &Point, name: &str, cable: &Cable) -> anyhow::Result<Machine> {
    let machine = point.machine(&format!("tests/configs/uplink-{name}.toml"));
    Ok(machine.net(&cable.netdev()?).smp(2).seconds(600))
}

/// Two machines, each with a guest that plays with the other's; with a flood from outside or without.
fn play(point: &Point, floods: bool) -> anyhow::Result<()> {
    let cables = [Cable::new()?, Cable::new()?];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let [here, there] = &cables;
        let carriers = [
            scope.spawn(|| carry(here, there, &stop)),
            scope.spawn(|| carry(there, here, &stop)),
        ];
        let flooder = floods.then(|| scope.spawn(|| flood(&cables, &stop)));
        let [one, other] = CONFIGS;
        let machines = machine(point, one, here)
            .and_then(|one| one.run_beside(&machine(point, other, there)?));
        stop.store(true, Ordering::Relaxed);
        for (transcript, name) in machines?.iter().zip(CONFIGS) {
            judge(transcript, name)?;
        }
        for (carrier, mac) in carriers.into_iter().zip(MACS) {
            let senders = carrier.join().ok().context("nobody carried frames")?;
            let count = senders.len() as u64;
            ensure!(count >= ROUNDS, "only {count} frames came out");
            let other = senders.iter().find(|sender| **sender != mac);
            ensure!(other.is_none(), "sent from {other:x?} out of {mac:x?}");
        }
        if let Some(flooder) = flooder {
            let sent = flooder.join().ok().context("nobody flooded")?;
            ensure!(sent > 1000, "{sent} frames are no flood");
        }
        Ok(())
    })
}

fn judge(transcript: &Transcript, guest: &str) -> anyhow::Result<()> {
    transcript.no_panic()?;
    transcript.well(guest)?;
    transcript.well("other")?;
    let mut lines = transcript.lines_of(guest);
    let played = format!(": {ROUNDS} pings, ");
    let line = lines.find(|line| line.starts_with("virtio: net ") && line.contains(&played));
    line.with_context(|| format!("{guest} did not play:\n{}", transcript.text()))?;
    transcript.ended(0)
}

#[test]
fn guests_of_two_machines_meet_over_the_machines_cards() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("max")]) {
        play(&point, false)?;
    }
    Ok(())
}

/// VIO-26, VIO-27: what comes from outside is as hostile as a guest.
#[test]
fn vio_27_a_flood_from_outside_stops_nobody() -> anyhow::Result<()> {
    play(&Point::of("max"), true)
}

/// A server on the host, until it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's kernel sends 4 MiB through QEMU's user network to a server on the host, and has them back.
#[test]
#[ignore = "boots Linux"]
fn linux_reaches_a_server_outside() -> anyhow::Result<()> {
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--package", "tests-linux"]);
    let (status, text) = run(&mut build, "probe-build", GRACE)?;
    ensure!(status == Some(0), "building failed:\n{text}");
    let mut serve = Command::new(target().join("debug/probe"));
    serve.args(["serve", "7011"]).stdin(Stdio::null());
    let _server = Server(serve.spawn()?);
    let transcript = Machine::of("tests/configs/uplink-linux.toml")
        .smp(2)
        .seconds(600)
        .run()?;
    transcript.no_panic()?;
    transcript.has("4 MiB out at")?;
    transcript.has("linux | selftest: ok")?;
    transcript.well("linux")?;
    transcript.ended(0)
}
