//! Capture files made byte by byte.

use std::net::Ipv4Addr;

use crate::frame::{Link, UDP, V4, udp};

/// Magic of a pcap file whose times are microseconds.
pub const MICROSECONDS: u32 = 0xa1b2_c3d4;
/// Magic of one whose times are nanoseconds.
pub const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// An Ethernet frame with a UDP packet from 192.0.2.`host`, 46 bytes.
#[must_use]
pub fn frame(host: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, host, 198, 51, 100, 1]);
    frame.extend([0, 53, 0, 54, 0, 12, 0, 0, 1, 2, 3, 4]);
    frame
}

/// Writes either format in either byte order.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    /// What was written.
    pub bytes: Vec<u8>,
    /// Big-endian from here on.
    pub big: bool,
}

impl Writer {
    /// Nothing written yet.
    #[must_use]
    pub const fn new(big: bool) -> Self {
        Self { bytes: Vec::new(), big }
    }

    /// A number of 16 bits.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    /// A number of 32 bits.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// The header of a pcap file of Ethernet frames.
    pub fn pcap_header(&mut self, magic: u32) -> &mut Self {
        self.pcap_header_of(magic, 1)
    }

    /// The header of a pcap file of that link type.
    pub fn pcap_header_of(&mut self, magic: u32, linktype: u32) -> &mut Self {
        self.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65_535).u32(linktype)
    }

    /// A packet of a pcap file, captured whole.
    pub fn record(&mut self, seconds: u32, fraction: u32, frame: &[u8]) -> &mut Self {
        let len = frame.len() as u32;
        self.u32(seconds).u32(fraction).u32(len).u32(len).raw(frame)
    }

    /// A block of a pcapng file.
    pub fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padding = body.len().next_multiple_of(4) - body.len();
        let len = (body.len() + padding + 12) as u32;
        self.u32(kind).u32(len).raw(body).raw(&vec![0; padding]).u32(len)
    }

    /// Bytes written in the same order, for a block.
    #[must_use]
    pub fn body(&self, build: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut body = Self::new(self.big);
        build(&mut body);
        body.bytes
    }

    /// A section header, of unknown length.
    pub fn section(&mut self) -> &mut Self {
        let body = self.body(|body| {
            body.u32(0x1a2b_3c4d).u16(1).u16(0).raw(&[0xff; 8]);
        });
        self.block(0x0a0d_0d0a, &body)
    }

    /// An interface with a name, a resolution and an offset in seconds.
    pub fn interface(&mut self, linktype: u16, name: &str, resolution: u8, offset: u32) -> &mut Self {
        let body = self.body(|body| {
            body.u16(linktype).u16(0).u32(0);
            let padding = name.len().next_multiple_of(4) - name.len();
            body.u16(2).u16(name.len() as u16).raw(name.as_bytes()).raw(&vec![0; padding]);
            body.u16(9).u16(1).raw(&[resolution, 0, 0, 0]);
            body.u16(14).u16(8);
            if body.big {
                body.u32(0).u32(offset);
            } else {
                body.u32(offset).u32(0);
            }
            body.u16(0).u16(0);
        });
        self.block(1, &body)
    }

    /// An enhanced packet block, captured whole.
    pub fn packet(&mut self, interface: u32, ticks: u64, frame: &[u8]) -> &mut Self {
        let len = frame.len() as u32;
        let body = self.body(|body| {
            body.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32).u32(len).u32(len).raw(frame);
        });
        self.block(6, &body)
    }
}

/// A little-endian file with a packet at each time in seconds, from the host given with it.
#[must_use]
pub fn pcap(packets: &[(u32, u8)]) -> Vec<u8> {
    let mut writer = Writer::new(false);
    writer.pcap_header(MICROSECONDS);
    for (seconds, host) in packets {
        writer.record(*seconds, 0, &frame(*host));
    }
    writer.bytes
}

/// UDP packets of known size between hosts of two documentation networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Microseconds since 1970.
    pub time: u64,
    /// From 192.0.2.this
    pub src: u8,
    /// to 198.51.100.this.
    pub dst: u8,
    /// Ports.
    pub ports: (u16, u16),
    /// Bytes of the IP packet, 28 or more; the frame has 14 more.
    pub ip_bytes: u16,
}

impl Packet {
    /// Bytes captured of a frame at most: all headers.
    pub const CAPTURED: usize = 64;

    /// The first bytes of its Ethernet frame. Its lengths are those of the whole packet; nobody reads the IP
    /// checksum.
    #[must_use]
    pub fn captured(&self) -> Vec<u8> {
        let link = Link { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2], tags: Vec::new() };
        let (src, dst) = (Ipv4Addr::new(192, 0, 2, self.src), Ipv4Addr::new(198, 51, 100, self.dst));
        let payload = udp(self.ports, usize::from(self.ip_bytes).min(Self::CAPTURED - 14).saturating_sub(28));
        let mut bytes = V4::plain(src, dst, UDP).frame(&link, &payload, self.ports).bytes;
        bytes[16..18].copy_from_slice(&self.ip_bytes.to_be_bytes());
        bytes[38..40].copy_from_slice(&self.ip_bytes.saturating_sub(20).to_be_bytes());
        bytes
    }

    /// Bytes of its frame.
    #[must_use]
    pub fn wire_bytes(&self) -> u32 {
        u32::from(self.ip_bytes) + 14
    }
}

/// A little-endian pcap file of these packets, in this order, [`Packet::CAPTURED`] bytes of each.
#[must_use]
pub fn pcap_of(packets: &[Packet]) -> Vec<u8> {
    pcap_of_link(1, packets)
}

/// As [`pcap_of`], said to be of another link type.
#[must_use]
pub fn pcap_of_link(linktype: u32, packets: &[Packet]) -> Vec<u8> {
    let mut writer = Writer::new(false);
    writer.pcap_header_of(MICROSECONDS, linktype);
    for packet in packets {
        let (seconds, fraction) = (packet.time / 1_000_000, packet.time % 1_000_000);
        let bytes = packet.captured();
        writer.u32(seconds as u32).u32(fraction as u32);
        writer.u32(bytes.len() as u32).u32(packet.wire_bytes()).raw(&bytes);
    }
    writer.bytes
}
