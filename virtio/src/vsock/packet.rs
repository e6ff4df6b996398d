//! A packet's header: virtio 1.3, 5.10.6.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Its bytes.
pub(super) const HEADER: u32 = 44;

/// The context id of the host (5.10.4), which is EL2 here.
pub const HOST: u64 = 2;

/// What a packet is for (5.10.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

impl Op {
    const ALL: [Self; 7] = [
        Self::Request,
        Self::Response,
        Self::Reset,
        Self::Shutdown,
        Self::Data,
        Self::CreditUpdate,
        Self::CreditRequest,
    ];

    fn new(raw: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|op| *op as u16 == raw)
    }
}

/// Types of sockets (5.10.6).
pub(super) const STREAM: u16 = 1;
pub(super) const SEQPACKET: u16 = 2;

/// The flags of `Shutdown` (5.10.6.5), and those of `Data` in a sequence of messages (5.10.6.8.1).
pub(super) const FLAGS: u32 = 3;

/// The header as it is in memory.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Raw {
    pub src_cid: U64,
    pub dst_cid: U64,
    pub src_port: U32,
    pub dst_port: U32,
    pub len: U32,
    pub kind: U16,
    pub op: U16,
    pub flags: U32,
    pub buf_alloc: U32,
    pub fwd_cnt: U32,
}

const _: () = assert!(size_of::<Raw>() == HEADER as usize);

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub cid: u64,
    pub port: u32,
}

/// A packet's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub from: End,
    pub to: End,
    pub kind: u16,
    pub op: Op,
    pub flags: u32,
    /// How much room the sender has for its receiver's data, and how much of that was taken out.
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
}

impl Header {
    /// Of what a driver has written. What follows, in bytes, is said besides.
    pub fn read(raw: &Raw) -> Option<(Self, u32)> {
        let op = Op::new(raw.op.get())?;
        let flags = match op {
            Op::Shutdown | Op::Data => raw.flags.get() & FLAGS,
            Op::Request | Op::Response | Op::Reset | Op::CreditUpdate | Op::CreditRequest => 0,
        };
        let header = Self {
            from: End {
                cid: raw.src_cid.get(),
                port: raw.src_port.get(),
            },
            to: End {
                cid: raw.dst_cid.get(),
                port: raw.dst_port.get(),
            },
            kind: raw.kind.get(),
            op,
            flags,
            buf_alloc: raw.buf_alloc.get(),
            fwd_cnt: raw.fwd_cnt.get(),
        };
        let len = if op == Op::Data { raw.len.get() } else { 0 };
        Some((header, len))
    }

    /// For a packet with so many bytes, behind which there are `more` of the same.
    pub fn write(&self, len: u32, more: bool) -> Raw {
        // A message's end is in the last of its pieces.
        let flags = if more { 0 } else { self.flags };
        Raw {
            src_cid: self.from.cid.into(),
            dst_cid: self.to.cid.into(),
            src_port: self.from.port.into(),
            dst_port: self.to.port.into(),
            len: len.into(),
            kind: self.kind.into(),
            op: (self.op as u16).into(),
            flags: flags.into(),
            buf_alloc: self.buf_alloc.into(),
            fwd_cnt: self.fwd_cnt.into(),
        }
    }

    /// What goes back to the sender: another operation, and nothing said about room.
    pub fn answer(&self, op: Op) -> Self {
        Self {
            from: self.to,
            to: self.from,
            kind: self.kind,
            op,
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        }
    }
}
