//! The header parser: from the first byte of a frame to the outermost IP layer's addresses and ports.
//!
//! It is generic over [`Packet`], "read a header at an offset", so the kernel programs (packet pointers or
//! `bpf_skb_load_bytes`) and the capture backends (a byte slice) run the very same code. Loops are bounded
//! and nothing panics: the kernel's verifier demands it, and captures deserve it.
//!
//! Sources: IEEE 802.3 and 802.1Q, RFC 3032 (MPLS), RFC 2516 (`PPPoE`), RFC 1661 (PPP), RFC 1042 (SNAP), those
//! named at the other headers, RFC 791, RFC 8200, RFC 4302; IANA's "IEEE 802 Numbers" and "Protocol Numbers".

mod ip;
mod link;
mod plain;
mod step;

use network_types::eth::EthHdr;

use self::ip::{ipv4, ipv6};
pub use self::{
    ip::extension_header,
    link::{ether_type, link_header, llc, ppp_ether_type},
    plain::{Plain, plain_ipv4, plain_ipv6},
    step::Step,
};
use crate::Reason;

/// Tags, labels and other headers followed between the link header and the IP header.
pub const MAX_LINK_HEADERS: usize = 32;
/// IPv6 extension headers followed.
pub const MAX_EXTENSION_HEADERS: usize = 64;
/// Last offset a header may begin at. The kernel's verifier wants packet offsets below 65,536 and this
/// bound one mask away; user space keeps to it so that both sides give the same answer.
pub const MAX_OFFSET: usize = 0x3fff;
const _: () = assert!((MAX_OFFSET + 1).is_power_of_two());

/// A type that any bytes are a valid value of, readable at any alignment.
///
/// # Safety
/// Implementors are `repr(C)` with integer and byte array fields only.
pub unsafe trait Header: Copy {}

// SAFETY: arrays of bytes and the header structs of network-types (integers and byte arrays, repr(C)).
unsafe impl<const N: usize> Header for [u8; N] {}
// SAFETY: as above.
unsafe impl Header for EthHdr {}
// SAFETY: integers.
unsafe impl Header for ip::Ipv4Words {}
// SAFETY: integers.
unsafe impl Header for ip::Ipv6Words {}

/// A frame whose bytes can be read at an offset.
pub trait Packet: Sized {
    /// The header at `offset`, or `None` when the frame (or what was captured of it) ends before its end.
    /// The parser never asks for an offset beyond [`MAX_OFFSET`].
    fn read<T: Header>(&self, offset: usize) -> Option<T>;

    /// The header at the packet's first byte, where that costs nothing; `None` says nothing about the packet.
    #[inline(always)]
    fn peek<T: Header>(&self) -> Option<T> {
        self.read(0)
    }

    /// The same offset again. The kernel side hides from the verifier what it knows about the value, so
    /// that ways through the parser that differ in it alone do not multiply.
    #[inline(always)]
    fn same(&self, offset: usize) -> usize {
        offset
    }

    /// [`link_header`]. The kernel side makes a call of it: a function that the verifier checks once, for
    /// any header at any offset, instead of once for each way through the headers before.
    #[inline(always)]
    fn link_header(&self, kind: u16, at: usize) -> Result<Step, Reason> {
        link_header(self, kind, at).map(|(kind, at)| Step { kind, at, fragment: 0 })
    }

    /// [`extension_header`], likewise.
    #[inline(always)]
    fn extension_header(&self, kind: u8, at: usize) -> Result<Step, Reason> {
        extension_header(self, kind, at)
    }
}

/// [`Packet::read`] within [`MAX_OFFSET`].
#[inline(always)]
pub(crate) fn read<T: Header, P: Packet>(packet: &P, offset: usize) -> Option<T> {
    if offset > MAX_OFFSET { None } else { packet.read(offset) }
}

/// What the parser found: the outermost IP layer.
///
/// Ports, protocol and family lie as in a [`crate::FlowKey`], at aligned offsets: the compiler copies them
/// together, and the verifier refuses words at odd places of the stack.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Source address, IPv4 as `::ffff:a.b.c.d`.
    pub src: [u8; 16],
    /// Destination address, likewise.
    pub dst: [u8; 16],
    /// Length of the IP packet by its own header; 0 where the header does not know it (segmentation
    /// offload, jumbograms): then it is what the frame holds behind `l3`.
    pub ip_len: u32,
    /// Source port in host order; 0 where there is none: other protocols, later fragments, cut headers.
    pub sport: u16,
    /// Destination port, likewise.
    pub dport: u16,
    /// Protocol, after IPv6 extension headers.
    pub proto: u8,
    /// 4 or 6.
    pub family: u8,
    /// 1 in a fragment (also the first one), else 0.
    pub fragment: u8,
    /// Offset of the IP header in the frame.
    pub l3: u32,
    /// Offset of what follows the IP header and its extensions.
    pub l4: u32,
}

impl Parsed {
    /// Bytes of the IP packet in a frame of `wire_len` bytes.
    #[inline(always)]
    #[must_use]
    pub const fn ip_bytes(&self, wire_len: u32) -> u32 {
        if self.ip_len == 0 { wire_len.saturating_sub(self.l3) } else { self.ip_len }
    }
}

/// Parses a frame that begins with an Ethernet header.
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn ethernet<P: Packet>(packet: &P) -> Result<Parsed, Reason> {
    let mut parsed = Parsed::default();
    ethernet_into(packet, &mut parsed)?;
    Ok(parsed)
}

/// [`ethernet`] into a value that exists already, all zeros. An error carries no [`Parsed`] then, whose
/// undefined bytes the compiler may copy around, which the verifier refuses.
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn ethernet_into<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(), Reason> {
    let header: EthHdr = read(packet, 0).ok_or(Reason::LinkTruncated)?;
    network_into(packet, u16::from_be(header.ether_type), EthHdr::LEN, parsed)
}

/// Parses what an EtherType announces at `offset`.
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn network<P: Packet>(packet: &P, ether_type: u16, offset: usize) -> Result<Parsed, Reason> {
    let mut parsed = Parsed::default();
    network_into(packet, ether_type, offset, &mut parsed)?;
    Ok(parsed)
}

#[inline(always)]
fn network_into<P: Packet>(
    packet: &P,
    ether_type: u16,
    offset: usize,
    parsed: &mut Parsed,
) -> Result<(), Reason> {
    let (mut kind, mut at) = (ether_type, offset);
    for _ in 0..MAX_LINK_HEADERS {
        if kind == ether_type::IPV4 || kind == ether_type::IPV6 {
            break;
        }
        Step { kind, at, .. } = packet.link_header(kind, at)?;
    }
    match kind {
        ether_type::IPV4 => ipv4(packet, at, parsed),
        ether_type::IPV6 => ipv6(packet, at, parsed),
        _ => Err(Reason::LinkDepth),
    }
}

/// Parses an IP packet of either version at `offset`, for link types without a type field.
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn ip<P: Packet>(packet: &P, offset: usize) -> Result<Parsed, Reason> {
    let mut parsed = Parsed::default();
    ip_into(packet, offset, &mut parsed)?;
    Ok(parsed)
}

/// [`ip`] into a value that exists already, all zeros; see [`ethernet_into`].
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn ip_into<P: Packet>(packet: &P, offset: usize, parsed: &mut Parsed) -> Result<(), Reason> {
    let [first]: [u8; 1] = read(packet, offset).ok_or(Reason::IpTruncated)?;
    match first >> 4 {
        4 => ipv4(packet, offset, parsed),
        6 => ipv6(packet, offset, parsed),
        _ => Err(Reason::IpVersion),
    }
}

/// The captured bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a>(pub &'a [u8]);

impl Packet for Slice<'_> {
    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let bytes = self.0.get(offset..)?.get(..size_of::<T>())?;
        // SAFETY: `bytes` holds size_of::<T>() bytes, any of which make a valid `T` (trait Header).
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}
