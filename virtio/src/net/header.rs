//! The header before each frame (virtio 1.3, 5.1.6), and what of it is believed.

use bitflags::bitflags;

use crate::switch::frame::Link;

/// Its bytes: all of them, since `VIRTIO_F_VERSION_1` is never missing.
pub const HEADER: usize = 12;

bitflags! {
    /// Feature bits of a network card: virtio 1.3, 5.1.3.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct NetFeatures: u64 {
        /// The device completes checksums.
        const CSUM = 1 << 0;
        /// The driver does.
        const GUEST_CSUM = 1 << 1;
        /// What the driver receives can be changed while it runs.
        const CTRL_GUEST_OFFLOADS = 1 << 2;
        /// The device says how long a frame may be.
        const MTU = 1 << 3;
        /// It has an address.
        const MAC = 1 << 5;
        /// The driver receives TCP over IPv4 in pieces too long for the link.
        const GUEST_TSO4 = 1 << 7;
        /// The same over IPv6.
        const GUEST_TSO6 = 1 << 8;
        /// And with ECN.
        const GUEST_ECN = 1 << 9;
        /// The device does.
        const HOST_TSO4 = 1 << 11;
        /// The same over IPv6.
        const HOST_TSO6 = 1 << 12;
        /// And with ECN.
        const HOST_ECN = 1 << 13;
        /// A frame may lie in several of the driver's buffers.
        const MRG_RXBUF = 1 << 15;
        /// The device says whether its link is up.
        const STATUS = 1 << 16;
        /// There is a control queue.
        const CTRL_VQ = 1 << 17;
        /// Which frames are received can be changed.
        const CTRL_RX = 1 << 18;
        /// In more ways.
        const CTRL_RX_EXTRA = 1 << 20;
        /// There are several pairs of queues.
        const MQ = 1 << 22;
        /// The address can be changed.
        const CTRL_MAC_ADDR = 1 << 23;
        /// The driver receives UDP over IPv4 in pieces too long for the link.
        const GUEST_USO4 = 1 << 54;
        /// The same over IPv6.
        const GUEST_USO6 = 1 << 55;
        /// The device does.
        const HOST_USO = 1 << 56;
        /// The device says how fast it is.
        const SPEED_DUPLEX = 1 << 63;
    }
}

impl NetFeatures {
    /// What [`CTRL_GUEST_OFFLOADS`](Self::CTRL_GUEST_OFFLOADS) changes.
    pub const GUEST_OFFLOADS: Self = Self::GUEST_CSUM
        .union(Self::GUEST_TSO4)
        .union(Self::GUEST_TSO6)
        .union(Self::GUEST_ECN)
        .union(Self::GUEST_USO4)
        .union(Self::GUEST_USO6);
}

/// What a piece that is too long for the link is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Tcp4,
    Tcp6,
    /// Over IPv4.
    Udp4,
    /// Over IPv6.
    Udp6,
}

/// A checksum that is to be completed. Both numbers were judged: the two bytes are inside the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Checksum {
    /// Where what it is over begins, behind the link layer's header.
    pub start: u16,
    /// Where it is, from there.
    pub offset: u16,
}

/// How a piece is to be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segments {
    pub kind: Kind,
    /// The most bytes of data in a frame.
    pub size: u16,
}

/// What a sender has left to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    Nothing,
    Checksum(Checksum),
    Segments(Checksum, Segments),
}

/// The same, as it has been judged, in the words of a header: this is on the way of every frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offload {
    /// The first eight bytes; `csum_start` and `hdr_len` count from behind the link layer's header.
    first: u64,
    /// `csum_offset`.
    second: u32,
    /// The features of a driver who takes it as it is: none, if nothing is left to do.
    needs: NetFeatures,
}

const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// IPv4, in Ethernet.
pub(crate) const IPV4: u16 = 0x0800;
/// IPv6, in Ethernet.
pub(crate) const IPV6: u16 = 0x86dd;

/// Where TCP's checksum is (RFC 9293, 3.1).
const TCP_CHECKSUM: u16 = 16;
/// Where UDP's is (RFC 768).
const UDP_CHECKSUM: u16 = 6;
/// Bytes of the shortest TCP header, and of UDP's.
const TCP_HEADER: u16 = 20;
const UDP_HEADER: u16 = 8;
/// The longest TCP header.
const TCP_HEADER_MAX: u16 = 60;
/// The least data in a segment: what a TCP with the smallest MSS of 48 has left beside 40 bytes of options.
const MIN_SIZE: u16 = 8;

/// The fields of a header that a driver has written.
struct Fields {
    flags: u8,
    gso: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Fields {
    const fn new(first: u64, second: u64) -> Self {
        let [flags, gso, a, b, c, d, e, f] = first.to_le_bytes();
        let [g, h, ..] = second.to_le_bytes();
        Self {
            flags,
            gso,
            hdr_len: u16::from_le_bytes([a, b]),
            gso_size: u16::from_le_bytes([c, d]),
            csum_start: u16::from_le_bytes([e, f]),
            csum_offset: u16::from_le_bytes([g, h]),
        }
    }
}

impl Offload {
    /// Nothing is left to do.
    pub const NOTHING: Self = Self {
        first: 0,
        second: 0,
        needs: NetFeatures::empty(),
    };

    /// Whether a header that begins with this word, which a driver has written, says that something is left to do.
    #[inline(always)]
    pub const fn is_any(first: u64) -> bool {
        // Neither flags nor a kind: nothing else counts.
        first & 0xffff != 0
    }

    /// Judges such a header, in two words, of a driver with these features and of a frame with so many bytes behind its
    /// link layer's header. `None` if it makes no sense.
    #[inline(never)]
    pub fn judge(
        header: (u64, u64),
        features: NetFeatures,
        link: &Link,
        payload: u32,
    ) -> Option<Self> {
        let len = u16::try_from(link.len()).ok()?;
        let fields = Fields::new(header.0, header.1);
        fields.judge(features, len, link.ethertype, payload)
    }

    /// What is to be done.
    pub fn task(&self) -> Task {
        if self.needs.is_empty() {
            return Task::Nothing;
        }
        let fields = Fields::new(self.first, u64::from(self.second));
        let checksum = Checksum {
            start: fields.csum_start,
            offset: fields.csum_offset,
        };
        let kind = KINDS
            .iter()
            .find(|(kind, _)| self.needs.contains(kind.guest()));
        match kind {
            None => Task::Checksum(checksum),
            Some((kind, _)) => Task::Segments(
                checksum,
                Segments {
                    kind: *kind,
                    size: fields.gso_size,
                },
            ),
        }
    }

    /// Whether it is to be cut before it is a frame.
    #[inline(always)]
    pub const fn is_piece(&self) -> bool {
        self.first & 0xff00 != 0
    }

    /// Whether a driver with these features takes it as it is.
    #[inline(always)]
    pub const fn suits(&self, features: NetFeatures) -> bool {
        features.contains(self.needs)
    }

    /// The header for a receiver whom it suits, and whose frame has so long a header of the link layer, in two halves. It
    /// says that the frame is in one buffer.
    #[inline(always)]
    pub fn write(&self, link: usize) -> (u64, u32) {
        if self.first == 0 {
            return (0, ONE_BUFFER);
        }
        // Both fields have room for that, as was judged.
        let link = u64::try_from(link).unwrap_or(0);
        let headers = if self.is_piece() { link << 16 } else { 0 };
        let first = self.first.wrapping_add(link << 48).wrapping_add(headers);
        (first, self.second | ONE_BUFFER)
    }
}

/// `num_buffers` is 1, in the second half of the header.
const ONE_BUFFER: u32 = 1 << 16;
/// The furthest that headers may reach behind the link layer's, so that no length of that makes the sum wrap.
const MAX_START: u16 = 0xff00;

/// The kinds, and how a header names them, in a frame of which protocol.
const KINDS: [(Kind, (u8, u16)); 4] = [
    (Kind::Tcp4, (GSO_TCPV4, IPV4)),
    (Kind::Tcp6, (GSO_TCPV6, IPV6)),
    (Kind::Udp4, (GSO_UDP_L4, IPV4)),
    (Kind::Udp6, (GSO_UDP_L4, IPV6)),
];

impl Kind {
    /// What the sender has agreed to.
    const fn host(self) -> NetFeatures {
        match self {
            Self::Tcp4 => NetFeatures::HOST_TSO4,
            Self::Tcp6 => NetFeatures::HOST_TSO6,
            Self::Udp4 | Self::Udp6 => NetFeatures::HOST_USO,
        }
    }

    /// What the receiver has to have agreed to.
    const fn guest(self) -> NetFeatures {
        match self {
            Self::Tcp4 => NetFeatures::GUEST_TSO4,
            Self::Tcp6 => NetFeatures::GUEST_TSO6,
            Self::Udp4 => NetFeatures::GUEST_USO4,
            Self::Udp6 => NetFeatures::GUEST_USO6,
        }
    }

    const fn is_udp(self) -> bool {
        matches!(self, Self::Udp4 | Self::Udp6)
    }

    /// Where the checksum is, and the bytes of the shortest and of the longest header.
    const fn layout(self) -> (u16, u16, u16) {
        if self.is_udp() {
            (UDP_CHECKSUM, UDP_HEADER, UDP_HEADER)
        } else {
            (TCP_CHECKSUM, TCP_HEADER, TCP_HEADER_MAX)
        }
    }
}

impl Fields {
    fn judge(
        &self,
        features: NetFeatures,
        link: u16,
        ethertype: u16,
        payload: u32,
    ) -> Option<Offload> {
        if self.flags & NEEDS_CSUM == 0 {
            return (self.gso == 0).then_some(Offload::NOTHING);
        }
        let start = self.csum_start.checked_sub(link)?;
        let end = u32::from(start) + u32::from(self.csum_offset) + 2;
        if end > payload || start > MAX_START || !features.contains(NetFeatures::CSUM) {
            return None;
        }
        let mut offload = Offload {
            first: u64::from(NEEDS_CSUM) | u64::from(start) << 48,
            second: u32::from(self.csum_offset),
            needs: NetFeatures::GUEST_CSUM,
        };
        if self.gso == 0 {
            return Some(offload);
        }
        let named = (self.gso & !GSO_ECN, ethertype);
        let (kind, _) = KINDS.iter().find(|(_, name)| *name == named)?;
        offload.needs |= kind.guest();
        let mut promised = kind.host();
        if self.gso & GSO_ECN != 0 {
            promised |= NetFeatures::HOST_ECN;
            offload.needs |= NetFeatures::GUEST_ECN;
        }
        let (offset, shortest, longest) = kind.layout();
        let headers = start + shortest..=start + longest;
        if !features.contains(promised)
            || self.gso & GSO_ECN != 0 && kind.is_udp()
            || self.csum_offset != offset
            || self.gso_size < MIN_SIZE
            || u32::from(*headers.start()) >= payload
        {
            return None;
        }
        // A hint, which is believed where it can be true (5.1.6.2).
        let said = self.hdr_len.wrapping_sub(link);
        let said = if headers.contains(&said) {
            said
        } else {
            *headers.start()
        };
        offload.first |= u64::from(self.gso) << 8;
        offload.first |= u64::from(said) << 16 | u64::from(self.gso_size) << 32;
        Some(offload)
    }
}
