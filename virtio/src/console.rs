//! The console device: virtio 1.3, 5.3.
//!
//! Port 0 is the guest's console. What a driver sends as control messages asks for nothing but the same few answers, so
//! these are bits that are due, not a queue that could overflow.

use arrayvec::ArrayVec;
use bitflags::bitflags;

use crate::chain::Chain;
use crate::device::{Device, Env, Served};
use crate::memory::GuestMemory;
use crate::queue::{Broken, Queue};

/// `VIRTIO_CONSOLE_F_MULTIPORT`.
const MULTIPORT: u64 = 1 << 1;
/// `VIRTIO_CONSOLE_F_EMERG_WRITE`.
const EMERG_WRITE: u64 = 1 << 2;

/// Ports at most.
pub const MAX_PORTS: usize = 2;
/// The queues: two for each port, and two for control messages behind those of port 0.
const QUEUES: usize = 2 * MAX_PORTS + 2;
const CONTROL_IN: u16 = 2;
const CONTROL_OUT: u16 = 3;

/// The largest queue. Messages are small, and lines come one by one.
const QUEUE_MAX: u16 = 64;
/// Bytes that are copied out of a guest at a time.
const CHUNK: usize = 256;
/// Chains that are served before others get their turn.
const BUDGET: usize = 32;

/// Where a port's bytes go, and where they come from.
pub trait Terminal {
    /// Takes output, and not beyond the end of a line: printing one may take 20 ms. How many bytes, at least one of what is
    /// there, and whether a line was ended.
    fn write(&mut self, bytes: &[u8]) -> (usize, bool);

    /// Whether there is input.
    fn has_input(&self) -> bool;

    /// Gives input; how many bytes.
    fn read(&mut self, into: &mut [u8]) -> usize;

    /// What the guest finds the port by, if it has a name.
    fn name(&self) -> Option<&'static [u8]> {
        None
    }
}

bitflags! {
    /// Messages that are due for a port (5.3.6.2).
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Due: u8 {
        const PORT_ADD = 1 << 1;
        const CONSOLE_PORT = 1 << 4;
        const PORT_OPEN = 1 << 6;
        const PORT_NAME = 1 << 7;
    }
}

/// Messages of a driver (5.3.6.2).
const DEVICE_READY: u16 = 0;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;

/// A port: its terminal, and how far its output has come.
struct Port<T> {
    terminal: T,
    due: Due,
    /// Somebody reads what comes in. Linux throws away what comes before it says so.
    is_open: bool,
    /// The chain that is being printed.
    chain: Chain,
    /// How many bytes of it were.
    printed: Option<u64>,
}

impl<T: Terminal> Port<T> {
    /// Prints what is left of the chain, one line at most. Whether it was a line.
    fn print<M: GuestMemory>(&mut self, memory: &M) -> bool {
        let Some(printed) = self.printed.as_mut() else {
            return false;
        };
        let mut cursor = self.chain.readable();
        let mut rest = self.chain.readable_len().saturating_sub(*printed);
        if cursor.skip(*printed).is_none() {
            rest = 0;
        }
        let mut bytes = [0; CHUNK];
        while rest != 0 {
            let most = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
            let bytes = bytes.get_mut(..most).unwrap_or_default();
            if cursor.read(memory, bytes).is_none() {
                break;
            }
            let (taken, ended) = self.terminal.write(bytes);
            let taken = taken.clamp(1, bytes.len()) as u64;
            *printed += taken;
            rest -= taken;
            if ended {
                if rest == 0 {
                    self.printed = None;
                }
                return true;
            }
        }
        self.printed = None;
        false
    }

    /// Puts input into a chain; how much.
    fn fill<M: GuestMemory>(&mut self, memory: &M, chain: &Chain) -> u32 {
        let mut written = 0;
        let mut cursor = chain.writable();
        let mut bytes = [0; CHUNK];
        loop {
            let room = chain.writable_len().saturating_sub(written);
            let most = usize::try_from(room).unwrap_or(CHUNK).min(CHUNK);
            let count = self
                .terminal
                .read(bytes.get_mut(..most).unwrap_or_default());
            let read = bytes.get(..count).unwrap_or_default();
            if read.is_empty() || cursor.write(memory, read).is_none() {
                return u32::try_from(written).unwrap_or(u32::MAX);
            }
            written += read.len() as u64;
        }
    }

    /// The message that is due next, with its name behind it if it is that.
    fn message(&mut self) -> Option<(Due, &'static [u8])> {
        let due = self.due.iter().next()?;
        self.due.remove(due);
        let name = self.terminal.name().filter(|_| due == Due::PORT_NAME);
        Some((due, name.unwrap_or_default()))
    }
}

/// The device.
pub struct Console<T> {
    ports: ArrayVec<Port<T>, MAX_PORTS>,
    queues: [Option<Queue>; QUEUES],
    /// Input and control messages, which are done at once.
    scratch: Chain,
}

impl<T: Terminal> Console<T> {
    /// A console without ports.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ports: ArrayVec::new_const(),
            queues: [const { None }; QUEUES],
            scratch: Chain::new(),
        }
    }

    /// Adds a port, the guest's console first. What is more than [`MAX_PORTS`] is not added.
    pub fn add(&mut self, terminal: T) {
        let _ = self.ports.try_push(Port {
            terminal,
            due: Due::empty(),
            is_open: false,
            chain: Chain::new(),
            printed: None,
        });
    }

    /// Output of a port, one line of it at most.
    fn transmit<M: GuestMemory>(
        &mut self,
        port: usize,
        queue: u16,
        env: &mut Env<'_, M>,
    ) -> Result<Served, Broken> {
        let mut served = Served::default();
        let ring = self.queues.get_mut(usize::from(queue));
        let (Some(port), Some(Some(ring))) = (self.ports.get_mut(port), ring) else {
            return Ok(served);
        };
        let mut pushed = false;
        served.more = true;
        for _ in 0..BUDGET {
            if port.printed.is_none() {
                if !ring.pop(&env.memory, &mut port.chain)? {
                    served.more = ring.listen(&env.memory);
                    if served.more {
                        continue;
                    }
                    break;
                }
                env.popped(queue, &port.chain);
                port.printed = Some(0);
            }
            let ended = port.print(&env.memory);
            if port.printed.is_none() {
                env.push(queue, ring, &port.chain, 0);
                pushed = true;
                if ended {
                    // The usual case: a line, and nothing behind it.
                    served.more = ring.listen(&env.memory);
                }
            }
            if ended {
                break;
            }
        }
        served.used = pushed && ring.publish(&env.memory);
        Ok(served)
    }

    /// Input of a port, as far as the driver has posted buffers for it.
    fn receive<M: GuestMemory>(
        &mut self,
        port: usize,
        queue: u16,
        env: &mut Env<'_, M>,
    ) -> Result<Served, Broken> {
        let mut served = Served::default();
        let ring = self.queues.get_mut(usize::from(queue));
        let (Some(port), Some(Some(ring))) = (self.ports.get_mut(port), ring) else {
            return Ok(served);
        };
        let mut pushed = false;
        for _ in 0..BUDGET {
            served.more = port.is_open && port.terminal.has_input();
            if !served.more {
                // Who posts buffers need not tell: there is nothing to put into them.
                ring.quiet(&env.memory);
                break;
            }
            if !ring.pop(&env.memory, &mut self.scratch)? {
                served.more = ring.listen(&env.memory);
                if served.more {
                    continue;
                }
                break;
            }
            env.popped(queue, &self.scratch);
            let written = port.fill(&env.memory, &self.scratch);
            env.push(queue, ring, &self.scratch, written);
            pushed = true;
        }
        served.used = pushed && ring.publish(&env.memory);
        Ok(served)
    }

    /// What the driver says of itself and of ports.
    fn control<M: GuestMemory>(&mut self, env: &mut Env<'_, M>) -> Result<Served, Broken> {
        let mut served = Served::default();
        let Some(Some(ring)) = self.queues.get_mut(usize::from(CONTROL_OUT)) else {
            return Ok(served);
        };
        let mut pushed = false;
        served.more = true;
        for _ in 0..BUDGET {
            if !ring.pop(&env.memory, &mut self.scratch)? {
                served.more = ring.listen(&env.memory);
                if served.more {
                    continue;
                }
                break;
            }
            env.popped(CONTROL_OUT, &self.scratch);
            let mut message = [0; 8];
            let whole = self.scratch.readable().read(&env.memory, &mut message);
            if whole.is_some() {
                heard(&mut self.ports, message);
            }
            env.push(CONTROL_OUT, ring, &self.scratch, 0);
            pushed = true;
        }
        served.used = pushed && ring.publish(&env.memory);
        Ok(served)
    }

    /// What is due to be said to the driver, as far as it has posted buffers for it.
    fn answer<M: GuestMemory>(&mut self, env: &mut Env<'_, M>) -> Result<Served, Broken> {
        let mut served = Served::default();
        let Some(Some(ring)) = self.queues.get_mut(usize::from(CONTROL_IN)) else {
            return Ok(served);
        };
        let mut pushed = false;
        for (id, port) in (0u32..).zip(&mut self.ports) {
            while !port.due.is_empty() {
                if !ring.pop(&env.memory, &mut self.scratch)? {
                    served.more |= ring.listen(&env.memory);
                    break;
                }
                env.popped(CONTROL_IN, &self.scratch);
                let Some((event, name)) = port.message() else {
                    break;
                };
                let event = u64::from(event.bits().trailing_zeros());
                let header = (u64::from(id) | event << 32 | 1 << 48).to_le_bytes();
                let mut cursor = self.scratch.writable();
                let whole = cursor
                    .write(&env.memory, &header)
                    .and_then(|()| cursor.write(&env.memory, name));
                // A message that does not fit is lost; the driver has posted less than one.
                let len = u32::try_from(header.len() + name.len()).unwrap_or(0);
                let written = if whole.is_some() { len } else { 0 };
                env.push(CONTROL_IN, ring, &self.scratch, written);
                pushed = true;
            }
        }
        served.used = pushed && ring.publish(&env.memory);
        Ok(served)
    }

    fn dispatch<M: GuestMemory>(
        &mut self,
        queue: u16,
        env: &mut Env<'_, M>,
    ) -> Result<Served, Broken> {
        match queue {
            CONTROL_IN => self.answer(env),
            CONTROL_OUT => {
                let heard = self.control(env)?;
                let served = heard.and(self.answer(env)?);
                // A port that was opened may have been waited for.
                Ok(served.and(Device::<M>::poll(self, env)))
            }
            _ => {
                let port = usize::from(if queue < CONTROL_IN { 0 } else { queue / 2 - 1 });
                if queue.is_multiple_of(2) {
                    self.receive(port, queue, env)
                } else {
                    self.transmit(port, queue, env)
                }
            }
        }
    }
}

/// A message of the driver's (5.3.6.2). What it says of ports that there are not, or does not ask for, is nothing.
fn heard<T: Terminal>(ports: &mut ArrayVec<Port<T>, MAX_PORTS>, message: [u8; 8]) {
    let [a, b, c, d, e, f, g, h] = message;
    let id = u32::from_le_bytes([a, b, c, d]);
    let first = id == 0;
    match u16::from_le_bytes([e, f]) {
        DEVICE_READY => {
            for port in ports {
                port.due |= Due::PORT_ADD;
            }
        }
        PORT_READY => {
            let port = usize::try_from(id).ok().and_then(|id| ports.get_mut(id));
            if let Some(port) = port {
                port.due |= Due::PORT_OPEN;
                port.due.set(Due::CONSOLE_PORT, first);
                port.due.set(Due::PORT_NAME, port.terminal.name().is_some());
            }
        }
        PORT_OPEN => {
            let port = usize::try_from(id).ok().and_then(|id| ports.get_mut(id));
            if let Some(port) = port {
                port.is_open = [g, h] != [0; 2];
            }
        }
        _ => {}
    }
}

impl<T: Terminal> Default for Console<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: GuestMemory, T: Terminal> Device<M> for Console<T> {
    fn id(&self) -> u32 {
        3
    }

    fn features(&self) -> u64 {
        MULTIPORT | EMERG_WRITE
    }

    fn queue_max(&self, queue: u16) -> u16 {
        let queues = 2 + 2 * self.ports.len();
        if usize::from(queue) < queues {
            QUEUE_MAX
        } else {
            0
        }
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        // Columns and rows, which are not offered; the number of ports; the emergency byte, which is not read.
        let mut config = [0; 12];
        config[4] = u8::try_from(self.ports.len()).unwrap_or(0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = config.get(from..).unwrap_or_default();
        for (to, from) in into.iter_mut().zip(rest) {
            *to = *from;
        }
    }

    fn write_config(&mut self, offset: u64, bytes: &[u8], _: &mut Env<'_, M>) -> Served {
        const EMERGENCY: u64 = 8;
        if let (EMERGENCY, [byte, ..], Some(port)) = (offset, bytes, self.ports.first_mut()) {
            let _ = port.terminal.write(&[*byte]);
        }
        Served::default()
    }

    fn start(&mut self, features: u64) {
        // Who knows nothing of ports has one, and it is open.
        for port in &mut self.ports {
            port.is_open = features & MULTIPORT == 0;
        }
    }

    fn open(&mut self, queue: u16, ring: Queue) {
        if let Some(place) = self.queues.get_mut(usize::from(queue)) {
            *place = Some(ring);
        }
    }

    fn close(&mut self, queue: u16) {
        if let Some(place) = self.queues.get_mut(usize::from(queue)) {
            *place = None;
        }
        let port = if queue < CONTROL_IN { 0 } else { queue / 2 - 1 };
        if queue % 2 == 1
            && queue != CONTROL_OUT
            && let Some(port) = self.ports.get_mut(usize::from(port))
        {
            port.printed = None;
        }
    }

    fn reset(&mut self) {
        self.queues = [const { None }; QUEUES];
        for port in &mut self.ports {
            port.printed = None;
            port.due = Due::empty();
            port.is_open = false;
        }
    }

    fn serve(&mut self, queue: u16, env: &mut Env<'_, M>) -> Served {
        self.dispatch(queue, env).unwrap_or(Served::BROKEN)
    }

    fn poll(&mut self, env: &mut Env<'_, M>) -> Served {
        let mut served = Served::default();
        for port in 0..u16::try_from(self.ports.len()).unwrap_or(0) {
            let queue = if port == 0 { 0 } else { 2 * port + 2 };
            served = served.and(self.serve(queue, env));
        }
        served
    }
}

#[cfg(test)]
mod tests;
