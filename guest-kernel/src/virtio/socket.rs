//! A socket device: one guest connects and sends, the other says everything back.

use super::{Hal, Kind, Task, Way, Wrong, gave_up};
use guest_kernel_arch::{say, timer};
use guest_kernel_core::virtio::stream;
use virtio_drivers::Error;
use virtio_drivers::device::socket::{
    SocketError, VirtIOSocket, VsockAddr, VsockConnectionManager, VsockEventType,
};

/// Where the other end listens: the echo service's port (RFC 862), on the host too.
const PORT: u32 = 7;
/// Ports of our own are above this.
const OWN: u32 = 1024;
/// Bytes at once.
const CHUNK: usize = 512;
/// Bytes in a round.
const ROUND: u64 = 128;
/// How long the other end may be silent, or not there.
const PATIENCE_MS: u64 = 300_000;
/// How long a connection may take before it is tried again.
const AGAIN_MS: u64 = 250;

type Manager<'t> = VsockConnectionManager<Hal, Way<'t>>;

pub fn check(transport: Way<'_>, task: &Task<'_>) -> Result<(), Wrong> {
    let gave_up = gave_up(Kind::Vsock);
    let driver = VirtIOSocket::<Hal, _>::new(transport).map_err(gave_up)?;
    let mut manager = VsockConnectionManager::new(driver);
    let cid = manager.guest_cid();
    let total = u64::from(task.shared.options.rounds) * ROUND;
    let bytes = match task.shared.options.peer {
        Some(peer) => connect(&mut manager, u64::from(peer), task, total)?,
        None => serve(&mut manager, task)?,
    };
    let interrupts = task.interrupts();
    say!("virtio: vsock {cid}: {bytes} bytes there and back, {interrupts} interrupts");
    Ok(())
}

/// The next event, if there is one in a while.
fn next(manager: &mut Manager<'_>, task: &Task<'_>) -> Result<Option<VsockEventType>, Wrong> {
    let event = manager.poll().map_err(gave_up(Kind::Vsock))?;
    if event.is_none() {
        let before = task.interrupts();
        task.sleep(1, || task.interrupts() != before);
    }
    Ok(event.map(|event| event.event_type))
}

/// Sends what it can; says whether the other end had room for it.
fn send(manager: &mut Manager<'_>, to: VsockAddr, port: u32, bytes: &[u8]) -> Result<bool, Wrong> {
    match manager.send(to, port, bytes) {
        Ok(()) => Ok(true),
        Err(Error::SocketDeviceError(SocketError::InsufficientBufferSpaceInPeer)) => Ok(false),
        Err(error) => Err(gave_up(Kind::Vsock)(error)),
    }
}

/// Connects, again and again until somebody listens.
fn reach(manager: &mut Manager<'_>, peer: VsockAddr, task: &Task<'_>) -> Result<u32, Wrong> {
    let patience = timer::after_ms(PATIENCE_MS);
    let mut port = OWN;
    while timer::now() < patience {
        // A port of its own for each try: an answer that comes late is not that of the next.
        port += 1;
        manager.connect(peer, port).map_err(gave_up(Kind::Vsock))?;
        let until = timer::after_ms(AGAIN_MS);
        while timer::now() < until {
            match next(manager, task)? {
                Some(VsockEventType::Connected) => return Ok(port),
                Some(VsockEventType::Disconnected { .. }) => break,
                Some(_) | None => {}
            }
        }
        let _ = manager.force_close(peer, port);
        task.sleep(AGAIN_MS, || false);
    }
    Err(Wrong::Alone)
}

fn connect(manager: &mut Manager<'_>, cid: u64, task: &Task<'_>, total: u64) -> Result<u64, Wrong> {
    let peer = VsockAddr { cid, port: PORT };
    let port = reach(manager, peer, task)?;
    let (mut sent, mut heard) = (0, 0);
    let mut patience = timer::after_ms(PATIENCE_MS);
    while heard < total {
        if timer::now() >= patience {
            return Err(Wrong::Mute(heard));
        }
        let mut bytes = [0; CHUNK];
        // Chunks of all sizes, one at a time: sending waits until the device has taken it, nothing is received
        // meanwhile, and both ends have but a few buffers (virtio 1.3, 5.10.6.3).
        let is_answered = sent == heard;
        let most = (sent % CHUNK as u64 + 1).min(total - sent) * u64::from(is_answered);
        let chunk = bytes
            .get_mut(..usize::try_from(most).unwrap_or(0))
            .unwrap_or_default();
        stream::fill(sent, chunk);
        if !chunk.is_empty() && send(manager, peer, port, chunk)? {
            sent += most;
        }
        if let Some(VsockEventType::Disconnected { .. }) = next(manager, task)? {
            return Err(Wrong::Mute(heard));
        }
        loop {
            let got = manager
                .recv(peer, port, &mut bytes)
                .map_err(gave_up(Kind::Vsock))?;
            if got == 0 {
                break;
            }
            stream::judge(heard, bytes.get(..got).unwrap_or_default())?;
            heard += got as u64;
            patience = timer::after_ms(PATIENCE_MS);
            manager
                .update_credit(peer, port)
                .map_err(gave_up(Kind::Vsock))?;
        }
    }
    manager.shutdown(peer, port).map_err(gave_up(Kind::Vsock))?;
    Ok(heard)
}

/// Says back whatever comes, until the other end has had enough.
fn serve(manager: &mut Manager<'_>, task: &Task<'_>) -> Result<u64, Wrong> {
    manager.listen(PORT);
    let mut said = 0;
    let mut peer: Option<VsockAddr> = None;
    let mut patience = timer::after_ms(PATIENCE_MS);
    loop {
        let event = manager.poll().map_err(gave_up(Kind::Vsock))?;
        let Some(event) = event else {
            if timer::now() >= patience {
                return Err(peer.map_or(Wrong::Alone, |_| Wrong::Mute(said)));
            }
            let before = task.interrupts();
            task.sleep(1, || task.interrupts() != before);
            continue;
        };
        patience = timer::after_ms(PATIENCE_MS);
        match event.event_type {
            VsockEventType::ConnectionRequest => peer = Some(event.source),
            VsockEventType::Disconnected { .. } if peer == Some(event.source) && said > 0 => {
                return Ok(said);
            }
            VsockEventType::Received { .. } if peer == Some(event.source) => {
                said += echo(manager, event.source, task)?;
            }
            VsockEventType::Connected
            | VsockEventType::Disconnected { .. }
            | VsockEventType::Received { .. }
            | VsockEventType::CreditRequest
            | VsockEventType::CreditUpdate => {}
        }
    }
}

fn echo(manager: &mut Manager<'_>, peer: VsockAddr, task: &Task<'_>) -> Result<u64, Wrong> {
    let mut said = 0;
    let mut bytes = [0; CHUNK];
    loop {
        let got = manager
            .recv(peer, PORT, &mut bytes)
            .map_err(gave_up(Kind::Vsock))?;
        if got == 0 {
            return Ok(said);
        }
        manager
            .update_credit(peer, PORT)
            .map_err(gave_up(Kind::Vsock))?;
        let patience = timer::after_ms(PATIENCE_MS);
        while !send(manager, peer, PORT, bytes.get(..got).unwrap_or_default())? {
            if timer::now() >= patience {
                return Err(Wrong::Mute(said));
            }
            next(manager, task)?;
        }
        said += got as u64;
    }
}
