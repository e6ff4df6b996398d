//! Streams whose every byte is compared, and round trips, over TCP and vsock; datagrams over UDP.
//!
//! A client says with one byte and a number what it wants: `>` to send so many bytes, `<` to get so many, `=` so many
//! round trips of 64 bytes, `x` that it is through. The bytes are those of a seed both know. `*` is to send so many bytes
//! that nobody looks at: what they cost is the network's cost.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, connect, listen, socket,
};

use super::fsx::same;
use super::latency::spread;
use super::random::Random;

const CHUNK: usize = 64 << 10;
/// What is written and read at once where only the pace counts: as much as iperf3 does unless told otherwise.
const BLOCK: usize = 128 << 10;
const SMALL: usize = 64;
const TRIPS: u64 = 1000;
/// `VMADDR_CID_ANY` (linux/vm_sockets.h).
const ANY_CID: u32 = u32::MAX;
/// What appears when a client is through.
const BYE: &str = "/run/bye";
/// How long a server may take to be there, and a datagram to come back.
const PATIENCE: Duration = Duration::from_secs(30);
const LOST: Duration = Duration::from_secs(2);

/// Serves clients for the rest of time: `[vsock:]PORT`, with 0 at a port that it says. On a port of TCP datagrams are sent back too.
pub fn serve(place: &str) -> anyhow::Result<()> {
    if let Some(port) = place.strip_prefix("vsock:") {
        let listener = vsock()?;
        bind(
            listener.as_raw_fd(),
            &VsockAddr::new(ANY_CID, port.parse()?),
        )?;
        listen(&listener, Backlog::new(8)?)?;
        println!("serve: vsock {port}");
        loop {
            let stream = File::from(rustix::net::accept(&listener)?);
            thread::spawn(move || report(serve_one(stream)));
        }
    }
    let port: u16 = place.parse().context("a port is a number")?;
    let (listener, datagrams) = both("0.0.0.0", port)?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || report(send_back(&datagrams)));
    println!("serve: TCP and UDP {port}");
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        thread::spawn(move || report(serve_one(stream)));
    }
    Ok(())
}

/// One port for streams and datagrams. Where any will do, one that is free for the former may be taken for the latter.
fn both(host: &str, port: u16) -> anyhow::Result<(TcpListener, UdpSocket)> {
    let mut tries = if port == 0 { 100 } else { 1 };
    loop {
        let listener = TcpListener::bind((host, port))?;
        tries -= 1;
        match UdpSocket::bind((host, listener.local_addr()?.port())) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {}
            datagrams => return Ok((listener, datagrams?)),
        }
    }
}

fn report(outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        println!("serve: not so: {error:#}");
    }
}

fn serve_one(mut stream: impl Read + Write) -> anyhow::Result<()> {
    loop {
        let mut wish = [0; 9];
        match stream.read_exact(&mut wish) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let [what, count @ ..] = wish;
        let count = u64::from_le_bytes(count);
        match what {
            b'>' => {
                take(&mut stream, count)?;
                stream.write_all(b"!")?;
            }
            b'*' => {
                swallow(&mut stream, count)?;
                stream.write_all(b"!")?;
            }
            b'<' => give(&mut stream, count)?,
            b'=' => {
                let mut small = [0; SMALL];
                for _ in 0..count {
                    stream.read_exact(&mut small)?;
                    stream.write_all(&small)?;
                }
            }
            b'x' => std::fs::write(BYE, b"")?,
            _ => bail!("a client wants {what:#x}"),
        }
    }
}

fn send_back(socket: &UdpSocket) -> anyhow::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(buffer.get(..length).unwrap_or_default(), from)?;
    }
}

/// Sends and gets so many MiB, and makes round trips.
pub fn talk(place: &str, mib: u64) -> anyhow::Result<()> {
    let bytes = mib << 20;
    let mut stream = dial(place)?;
    let out = timed(|| {
        wish(&mut stream, b'>', bytes)?;
        give(&mut stream, bytes)?;
        Ok(stream.read_exact(&mut [0])?)
    })?;
    let back = timed(|| {
        wish(&mut stream, b'<', bytes)?;
        take(&mut stream, bytes)
    })?;
    let mut times = Vec::new();
    wish(&mut stream, b'=', TRIPS)?;
    for _ in 0..TRIPS {
        times.push(round_trip(&mut stream)?);
    }
    println!(
        "talk: {place}: {mib} MiB out at {} Mbit/s and back at {} Mbit/s, every byte right; round trip of {SMALL} bytes: {}",
        rate(bytes, out),
        rate(bytes, back),
        spread(times)
    );
    Ok(())
}

/// The same with a service that sends back whatever it gets.
pub fn echo(place: &str, mib: u64) -> anyhow::Result<()> {
    let bytes = mib << 20;
    let mut stream = dial(place)?;
    let mut other = stream.try_clone()?;
    let both = timed(|| {
        let sender = thread::spawn(move || give(&mut other, bytes));
        take(&mut stream, bytes)?;
        sender.join().unwrap_or_else(|_| bail!("a thread panicked"))
    })?;
    let mut times = Vec::new();
    for _ in 0..TRIPS {
        times.push(round_trip(&mut stream)?);
    }
    println!(
        "echo: {place}: {mib} MiB out and back at {} Mbit/s, every byte right; round trip of {SMALL} bytes: {}",
        rate(bytes, both),
        spread(times)
    );
    Ok(())
}

fn round_trip(stream: &mut (impl Read + Write)) -> anyhow::Result<u128> {
    let (sent, mut got) = ([0x5a; SMALL], [0; SMALL]);
    let begin = Instant::now();
    stream.write_all(&sent)?;
    stream.read_exact(&mut got)?;
    let time = begin.elapsed().as_nanos();
    same(&sent, &got, 0)?;
    Ok(time)
}

fn rate(bytes: u64, time: Duration) -> u128 {
    u128::from(bytes) * 8 / time.as_micros().max(1)
}

/// Sends so many bytes to a server that looks at none of them, and waits until it has them all. How long that took.
pub fn send(place: &str, bytes: u64) -> anyhow::Result<Duration> {
    let mut stream = dial(place)?;
    let block = vec![0x5a; BLOCK];
    timed(|| {
        wish(&mut stream, b'*', bytes)?;
        let mut left = bytes;
        while left > 0 {
            let length = left.min(u64::try_from(BLOCK)?);
            let part = block.get(..usize::try_from(length)?).unwrap_or_default();
            stream.write_all(part).context("sending")?;
            left -= length;
        }
        Ok(stream.read_exact(&mut [0])?)
    })
}

/// Takes so many bytes.
fn swallow(stream: &mut impl Read, bytes: u64) -> anyhow::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left.min(u64::try_from(BLOCK)?))?;
        let got = stream.read(block.get_mut(..most).unwrap_or_default())?;
        ensure!(got != 0, "the stream ended {left} bytes too soon");
        left -= u64::try_from(got)?;
    }
    Ok(())
}

/// Says to a server that its client is through.
pub fn bye(place: &str) -> anyhow::Result<()> {
    wish(&mut dial(place)?, b'x', 0)
}

/// Round trips of datagrams. A few may be lost; none may come back changed.
pub fn udp(place: &str, count: u64) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(place)?;
    socket.set_read_timeout(Some(LOST))?;
    let mut random = Random::new(11);
    let (mut times, mut lost) = (Vec::new(), 0);
    for number in 0..count {
        // Sizes up to what an Ethernet frame holds.
        let length = if number % 2 == 0 {
            SMALL
        } else {
            8 + usize::try_from(random.below(1464))?
        };
        let mut sent = vec![0; length];
        random.fill(&mut sent);
        if let Some(head) = sent.first_chunk_mut() {
            *head = number.to_le_bytes();
        }
        let begin = Instant::now();
        socket.send(&sent)?;
        match answer(&socket, number)? {
            Some(got) => {
                same(&sent, &got, 0)?;
                times.push(begin.elapsed().as_nanos());
            }
            None => lost += 1,
        }
    }
    ensure!(lost * 100 <= count, "{lost} of {count} datagrams were lost");
    println!(
        "udp: {place}: {lost} of {count} lost, round trip: {}",
        spread(times)
    );
    Ok(())
}

/// What came back of this datagram, if it did in time. Those of earlier ones are late.
fn answer(socket: &UdpSocket, number: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let mut got = vec![0; CHUNK];
    loop {
        match socket.recv(&mut got) {
            Ok(came) => {
                let head = got.first_chunk().map(|head| u64::from_le_bytes(*head));
                if head >= Some(number) {
                    got.truncate(came);
                    return Ok(Some(got));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects, and waits for a server that is not there yet.
pub fn dial(place: &str) -> anyhow::Result<File> {
    let begin = Instant::now();
    loop {
        let connected = once(place);
        if connected.is_ok() || begin.elapsed() > PATIENCE {
            return connected.with_context(|| format!("nobody serves at {place}"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn once(place: &str) -> anyhow::Result<File> {
    if let Some(place) = place.strip_prefix("vsock:") {
        let (cid, port) = place.split_once(':').context("vsock:CID:PORT")?;
        let fd = vsock()?;
        connect(fd.as_raw_fd(), &VsockAddr::new(cid.parse()?, port.parse()?))?;
        return Ok(File::from(fd));
    }
    let address: SocketAddr = place.parse().context("ADDRESS:PORT")?;
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    Ok(File::from(OwnedFd::from(stream)))
}

fn vsock() -> anyhow::Result<OwnedFd> {
    socket(
        AddressFamily::Vsock,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("the kernel has no vsock")
}

fn wish(stream: &mut impl Write, what: u8, count: u64) -> anyhow::Result<()> {
    let mut bytes = vec![what];
    bytes.extend(count.to_le_bytes());
    Ok(stream.write_all(&bytes)?)
}

fn give(stream: &mut impl Write, mut bytes: u64) -> anyhow::Result<()> {
    let mut random = Random::new(bytes);
    let mut chunk = vec![0; CHUNK];
    while bytes > 0 {
        random.fill(&mut chunk);
        let length = bytes.min(u64::try_from(CHUNK)?);
        let part = chunk.get(..usize::try_from(length)?).unwrap_or_default();
        stream.write_all(part).context("sending")?;
        bytes -= length;
    }
    Ok(())
}

fn take(stream: &mut impl Read, bytes: u64) -> anyhow::Result<()> {
    let mut random = Random::new(bytes);
    let (mut chunk, mut wanted) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut done = 0;
    while done < bytes {
        let length = usize::try_from((bytes - done).min(u64::try_from(CHUNK)?))?;
        let part = chunk.get_mut(..length).unwrap_or_default();
        stream.read_exact(part).context("receiving")?;
        random.fill(&mut wanted);
        same(wanted.get(..length).unwrap_or_default(), part, done)?;
        done += u64::try_from(length)?;
    }
    Ok(())
}

fn timed(act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    act()?;
    Ok(begin.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> SocketAddr {
        let (listener, datagrams) = both("127.0.0.1", 0).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || send_back(&datagrams));
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve_one(stream.unwrap()).unwrap();
            }
        });
        address
    }

    #[test]
    fn every_byte_goes_both_ways() {
        let address = served().to_string();
        talk(&address, 1).unwrap();
        send(&address, 100_000).unwrap();
        udp(&address, 100).unwrap();
    }

    #[test]
    fn a_byte_that_changed_on_the_way_is_seen() {
        let mut bytes = Vec::new();
        give(&mut bytes, 200_000).unwrap();
        take(&mut bytes.as_slice(), 200_000).unwrap();
        bytes[150_001] ^= 1;
        let error = format!("{:#}", take(&mut bytes.as_slice(), 200_000).unwrap_err());
        assert!(error.contains("byte 150001 is"), "{error}");
        assert!(take(&mut &bytes[..1000], 200_000).is_err());
    }
}
