//! What one operation costs: the rows of `cargo xtask bench` that need a Linux. Each prints `bench NAME MEDIAN`, in
//! nanoseconds, which are instructions where the emulator counts them.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::direct::{self, Buffer};
use super::random::Random;
use super::talk;

/// How often each is done.
const COUNT: usize = 1000;
const SMALL: usize = 64;
/// How much one stream carries: so much that its beginning, with small windows, is a small part.
const STREAM_MIB: u64 = 64;

/// Prints the median of so many of something.
fn row(name: &str, mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut times = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let begin = Instant::now();
        once()?;
        times.push(begin.elapsed().as_nanos());
    }
    times.sort_unstable();
    println!(
        "bench {name} {}",
        times.get(COUNT / 2).copied().unwrap_or(0)
    );
    Ok(())
}

/// Requests of a disk, past the page cache, one at a time.
pub fn disk(path: &str) -> anyhow::Result<()> {
    let file = direct::open(Path::new(path), false)?;
    let size = (&file).seek(SeekFrom::End(0))?;
    for (name, bytes, writes) in [
        ("blk_read_512", 512, false),
        ("blk_read_4k", 4096, false),
        ("blk_write_4k", 4096, true),
        ("blk_read_64k", 65536, false),
        ("blk_read_256k", 256 << 10, false),
    ] {
        let mut buffer = Buffer::new(bytes);
        let mut random = Random::new(1);
        let places = size / bytes as u64;
        row(name, || {
            let at = random.below(places) * bytes as u64;
            if writes {
                buffer.write(&file, at)?;
            } else {
                buffer.read(&file, at)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Lines of 80 bytes on a terminal.
pub fn line(name: &str, path: &str) -> anyhow::Result<()> {
    let mut terminal = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("no terminal {path}"))?;
    let mut text = [b'x'; 80];
    if let Some(last) = text.last_mut() {
        *last = b'\n';
    }
    row(name, || Ok(terminal.write_all(&text)?))
}

/// Datagrams to somebody who sends them back. Nothing waits for a time: a timer for each answer would be the probe's cost.
pub fn udp(name: &str, to: &str) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    let (sent, mut got) = ([0x5a; SMALL], [0; SMALL]);
    row(name, || {
        socket.send(&sent)?;
        ensure!(socket.recv(&mut got)? == SMALL, "another answer");
        Ok(())
    })
}

/// Sends back whatever the first who sends a datagram sends, for the rest of time. Both ends are connected: neither looks for a
/// route each time.
pub fn answer(port: &str) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port.parse().context("a port is a number")?))?;
    let mut got = [0; SMALL];
    let (mut length, from) = socket.recv_from(&mut got)?;
    socket.connect(from)?;
    loop {
        socket.send(got.get(..length).unwrap_or_default())?;
        length = socket.recv(&mut got)?;
    }
}

/// Round trips over a stream to somebody who sends all of it back.
pub fn stream(name: &str, to: &str) -> anyhow::Result<()> {
    let mut stream = talk::dial(to)?;
    let (sent, mut got) = ([0x5a; SMALL], [0; SMALL]);
    row(name, || {
        stream.write_all(&sent)?;
        Ok(stream.read_exact(&mut got)?)
    })
}

/// What a KiB of a stream to `probe serve` costs, in both machines where both have one CPU.
pub fn throughput(name: &str, to: &str) -> anyhow::Result<()> {
    let took = talk::send(to, STREAM_MIB << 20)?;
    println!(
        "bench {name} {}",
        took.as_nanos() / u128::from(STREAM_MIB << 10)
    );
    Ok(())
}
