//! The header before each frame (virtio 1.3, 5.1.6), and what of it is believed.

use bitflags::bitflags;

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
    pub has_ecn: bool,
    /// The most bytes of data in a frame.
    pub size: u16,
}

/// What a sender has left to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offload {
    Nothing,
    Checksum(Checksum),
    /// The headers end before `headers`, says the sender (5.1.6.2): a hint.
    Segments(Checksum, Segments, u16),
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

fn number(header: &[u8; HEADER], at: usize) -> u16 {
    let low = header.get(at).copied().unwrap_or(0);
    let high = header.get(at + 1).copied().unwrap_or(0);
    u16::from_le_bytes([low, high])
}

impl Offload {
    /// Judges a header that a driver with these features has written, of a frame with so long a header (`link`) and so
    /// many bytes behind it. `None` if it makes no sense.
    pub fn judge(
        header: &[u8; HEADER],
        features: NetFeatures,
        link: usize,
        ethertype: u16,
        payload: u32,
    ) -> Option<Self> {
        let [flags, gso, ..] = *header;
        if flags & NEEDS_CSUM == 0 {
            return (gso == 0).then_some(Self::Nothing);
        }
        if !features.contains(NetFeatures::CSUM) {
            return None;
        }
        let checksum = Checksum {
            start: number(header, 6).checked_sub(u16::try_from(link).ok()?)?,
            offset: number(header, 8),
        };
        let end = u32::from(checksum.start) + u32::from(checksum.offset) + 2;
        if end > payload {
            return None;
        }
        if gso == 0 {
            return Some(Self::Checksum(checksum));
        }
        let (kind, needs, offset, shortest) = match (gso & !GSO_ECN, ethertype) {
            (GSO_TCPV4, IPV4) => (Kind::Tcp4, NetFeatures::HOST_TSO4, TCP_CHECKSUM, TCP_HEADER),
            (GSO_TCPV6, IPV6) => (Kind::Tcp6, NetFeatures::HOST_TSO6, TCP_CHECKSUM, TCP_HEADER),
            (GSO_UDP_L4, IPV4) => (Kind::Udp4, NetFeatures::HOST_USO, UDP_CHECKSUM, UDP_HEADER),
            (GSO_UDP_L4, IPV6) => (Kind::Udp6, NetFeatures::HOST_USO, UDP_CHECKSUM, UDP_HEADER),
            _ => return None,
        };
        let has_ecn = gso & GSO_ECN != 0;
        let is_udp = shortest == UDP_HEADER;
        if !features.contains(needs)
            || has_ecn && (is_udp || !features.contains(NetFeatures::HOST_ECN))
            || checksum.offset != offset
        {
            return None;
        }
        let size = number(header, 4);
        let least = checksum.start.checked_add(shortest)?;
        if size < MIN_SIZE || u32::from(least) >= payload {
            return None;
        }
        let said = number(header, 2).wrapping_sub(u16::try_from(link).ok()?);
        let most = if is_udp {
            least
        } else {
            least.saturating_add(TCP_HEADER_MAX - TCP_HEADER)
        };
        let headers = if (least..=most).contains(&said) {
            said
        } else {
            least
        };
        let segments = Segments {
            kind,
            has_ecn,
            size,
        };
        Some(Self::Segments(checksum, segments, headers))
    }

    /// Whether a driver with these features takes it as it is.
    pub fn suits(&self, features: NetFeatures) -> bool {
        match self {
            Self::Nothing => true,
            Self::Checksum(_) => features.contains(NetFeatures::GUEST_CSUM),
            Self::Segments(_, segments, _) => {
                let needs = match segments.kind {
                    Kind::Tcp4 => NetFeatures::GUEST_TSO4,
                    Kind::Tcp6 => NetFeatures::GUEST_TSO6,
                    Kind::Udp4 => NetFeatures::GUEST_USO4,
                    Kind::Udp6 => NetFeatures::GUEST_USO6,
                };
                features.contains(needs | NetFeatures::GUEST_CSUM)
                    && (!segments.has_ecn || features.contains(NetFeatures::GUEST_ECN))
            }
        }
    }

    /// The header for a receiver whom it suits, and whose frame has so long a header of the link layer. It says that the
    /// frame is in one buffer.
    pub fn write(&self, link: usize, into: &mut [u8; HEADER]) {
        *into = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        let (Self::Checksum(checksum) | Self::Segments(checksum, ..)) = self else {
            return;
        };
        // What was judged of the sender's header was 14 or 18 bytes longer, and fitted; a tag may have come on top.
        let link = u16::try_from(link).unwrap_or(0);
        let [a, b] = checksum.start.saturating_add(link).to_le_bytes();
        let [c, d] = checksum.offset.to_le_bytes();
        let [mut gso, mut e, mut f, mut g, mut h] = [0; 5];
        if let Self::Segments(_, segments, headers) = self {
            gso = match segments.kind {
                Kind::Tcp4 => GSO_TCPV4,
                Kind::Tcp6 => GSO_TCPV6,
                Kind::Udp4 | Kind::Udp6 => GSO_UDP_L4,
            } | if segments.has_ecn { GSO_ECN } else { 0 };
            [e, f] = headers.saturating_add(link).to_le_bytes();
            [g, h] = segments.size.to_le_bytes();
        }
        *into = [NEEDS_CSUM, gso, e, f, g, h, a, b, c, d, 1, 0];
    }
}
