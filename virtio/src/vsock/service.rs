//! The host's services, at the host's context id: an echo at port 7, as TCP's (RFC 862).
//!
//! Nothing is kept of what a guest sends: its data go back straight out of its own buffers, and it may send as much as it
//! has room for to take back. So all that a connection needs is how much has passed.

use arrayvec::ArrayVec;

use super::packet::{FLAGS, Header, Op, STREAM};

/// The port.
pub(super) const ECHO: u32 = 7;
/// The most connections of a guest.
pub(super) const MAX_CONNECTIONS: usize = 16;

struct Connection {
    /// The guest's port.
    port: u32,
    /// Bytes that have come, and have gone back.
    count: u32,
}

/// A guest's connections with the service.
pub(super) struct Echo {
    connections: ArrayVec<Connection, MAX_CONNECTIONS>,
}

impl Echo {
    pub const fn new() -> Self {
        Self {
            connections: ArrayVec::new_const(),
        }
    }

    pub fn reset(&mut self) {
        self.connections.clear();
    }

    /// The answer to a packet for the host, whose data go with it if it is `Data`. `None` if there is none.
    pub fn answer(&mut self, packet: &Header, len: u32) -> Option<Header> {
        let known = (self.connections.iter()).position(|one| one.port == packet.from.port);
        let known = known.filter(|_| packet.to.port == ECHO && packet.kind == STREAM);
        let done = self.advance(packet, len, known);
        if done.is_none_or(|answer| answer.op == Op::Reset)
            && let Some(known) = known
        {
            self.connections.swap_remove(known);
        }
        if packet.op == Op::Reset {
            return None;
        }
        done.or_else(|| Some(packet.answer(Op::Reset)))
    }

    /// Carries on with a connection. `None` if that makes no sense, and it has to be reset.
    fn advance(&mut self, packet: &Header, len: u32, known: Option<usize>) -> Option<Header> {
        let Some(known) = known else {
            let is_new =
                packet.op == Op::Request && packet.to.port == ECHO && packet.kind == STREAM;
            if !is_new {
                return None;
            }
            let connection = Connection {
                port: packet.from.port,
                count: 0,
            };
            let window = connection.window(packet)?;
            self.connections.try_push(connection).ok()?;
            return Some(Header {
                buf_alloc: window,
                ..packet.answer(Op::Response)
            });
        };
        let connection = self.connections.get_mut(known)?;
        match packet.op {
            Op::Data => {
                let window = connection.window(packet)?.checked_sub(len)?;
                connection.count = connection.count.wrapping_add(len);
                Some(connection.says(packet, Op::Data, window))
            }
            Op::CreditUpdate | Op::CreditRequest => {
                let window = connection.window(packet)?;
                Some(connection.says(packet, Op::CreditUpdate, window))
            }
            // Everything has gone back already: with the first half, the other is at its end as well.
            Op::Shutdown if packet.flags != FLAGS => Some(Header {
                flags: FLAGS,
                ..connection.says(packet, Op::Shutdown, 0)
            }),
            Op::Shutdown | Op::Request | Op::Response | Op::Reset => None,
        }
    }
}

impl Connection {
    /// How much of what it sends the guest has room for to take back. `None` if it says that it took out more than it was
    /// given, or that it has less room than it has filled (5.10.6.3).
    fn window(&self, packet: &Header) -> Option<u32> {
        let inside = self.count.wrapping_sub(packet.fwd_cnt);
        packet.buf_alloc.checked_sub(inside)
    }

    fn says(&self, packet: &Header, op: Op, window: u32) -> Header {
        Header {
            buf_alloc: window,
            fwd_cnt: self.count,
            ..packet.answer(op)
        }
    }
}
