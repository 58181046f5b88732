//! What is sent, and what a right count of it is: by arithmetic on what was put in, not by the parser.

use std::net::{Ipv4Addr, Ipv6Addr};

use wherefore_common::Reason;

use super::frame::{
    ARP, DISCARD, DST_V4, DST_V6, ETHERNET, FRAGMENT, IPV4, IPV6, LLDP, SRC_V4, SRC_V6, TCP, UDP, ethernet,
    ipv4, ipv6, tagged, tcp, udp,
};

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames, without frame check sequence.
    pub wire_bytes: u64,
    /// Bytes of the IP packets; 0 where there is none.
    pub ip_bytes: u64,
    /// Of the packets, those that may stand for several on the wire.
    pub estimated: u64,
}

impl Count {
    /// Adds `other`.
    pub const fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.wire_bytes += other.wire_bytes;
        self.ip_bytes += other.ip_bytes;
        self.estimated += other.estimated;
    }

    const fn times(self, times: u64) -> Self {
        Self {
            packets: self.packets * times,
            wire_bytes: self.wire_bytes * times,
            ip_bytes: self.ip_bytes * times,
            estimated: self.estimated * times,
        }
    }
}

/// Where packets are counted: in a flow, or by the reason why in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A flow between the addresses of [`super::frame`], by family, protocol and ports.
    Flow {
        /// 4 or 6.
        family: u8,
        /// IP protocol.
        proto: u8,
        /// Source and destination port.
        ports: (u16, u16),
    },
    /// No flow.
    None(Reason),
    /// A flow between other addresses, which nobody here sent.
    Strange,
}

impl Place {
    /// Where a packet between `src` and `dst` belongs.
    pub fn of(family: u8, src: [u8; 16], dst: [u8; 16], proto: u8, ports: (u16, u16)) -> Self {
        let mapped = |address: Ipv4Addr| address.to_ipv6_mapped().octets();
        let plain = |address: Ipv6Addr| address.octets();
        let ours = match family {
            4 => (src, dst) == (mapped(SRC_V4), mapped(DST_V4)),
            _ => (src, dst) == (plain(SRC_V6), plain(DST_V6)),
        };
        if ours { Self::Flow { family, proto, ports } } else { Self::Strange }
    }
}

/// How something is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A frame as it is.
    Frame(Vec<u8>),
    /// One frame that the device is to cut into segments of `size` bytes: TCP.
    Merged {
        /// All of it.
        frame: Vec<u8>,
        /// 4 or 6.
        family: u8,
        /// Bytes of payload of a segment.
        size: u16,
    },
    /// A datagram through the kernel's own UDP and IPv4, cut by it into datagrams of `segment` bytes.
    Datagram {
        /// From this port.
        port: u16,
        /// Bytes of payload.
        data: usize,
        /// Bytes of payload of a datagram (`UDP_SEGMENT`).
        segment: Option<u16>,
    },
}

/// Some packets of one flow, all alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// What they are, in words.
    pub name: &'static str,
    /// How each is sent.
    pub form: Form,
    /// How often.
    pub times: u64,
    /// Where they count.
    pub place: Place,
    /// What each is on the wire.
    each: Count,
    /// What each is to who sees the segments as one packet.
    each_merged: Count,
}

impl Parcel {
    /// What all are on the wire.
    pub const fn on_the_wire(&self) -> Count {
        self.each.times(self.times)
    }

    /// What all are to who sees a super-frame as one packet.
    pub const fn merged(&self) -> Count {
        self.each_merged.times(self.times)
    }
}

const fn one(link: usize, ip: usize) -> Count {
    Count { packets: 1, wire_bytes: (link + ip) as u64, ip_bytes: ip as u64, estimated: 0 }
}

const fn flow(family: u8, proto: u8, port: u16) -> Place {
    Place::Flow { family, proto, ports: (port, DISCARD) }
}

fn frame(name: &'static str, times: u64, place: Place, ip: usize, frame: Vec<u8>) -> Parcel {
    let link = frame.len() - ip;
    let each = match place {
        Place::None(_) => Count { packets: 1, wire_bytes: frame.len() as u64, ..Count::default() },
        _ => one(link, ip),
    };
    Parcel { name, form: Form::Frame(frame), times, place, each, each_merged: each }
}

/// A packet of `data` bytes in segments of `size`, each with `headers` bytes of IP and TCP or UDP header.
fn segments(
    name: &'static str,
    times: u64,
    place: Place,
    form: Form,
    sizes: (usize, usize, usize),
) -> Parcel {
    let (headers, data, size) = sizes;
    let count = data.div_ceil(size);
    let each = Count {
        packets: count as u64,
        wire_bytes: (count * (ETHERNET + headers) + data) as u64,
        ip_bytes: (count * headers + data) as u64,
        estimated: 0,
    };
    // Two segments or more are larger than the MTU here.
    let each_merged = Count { estimated: u64::from(count > 1), ..one(ETHERNET, headers + data) };
    Parcel { name, form, times, place, each, each_merged }
}

/// Everything that is sent, in order: 40 kinds of packets would say no more.
pub fn all() -> Vec<Parcel> {
    /// The largest payload of a packet of 1,500 bytes, above UDP and above TCP.
    const UDP4: usize = 1500 - 20 - 8;
    const UDP6: usize = 1500 - 40 - 8;
    const TCP4: usize = 1500 - 20 - 20;
    const TCP6: usize = 1500 - 40 - 20;
    let datagram = |name, port, data, segment| {
        let form = Form::Datagram { port, data, segment };
        segments(name, 20, flow(4, UDP, port), form, (28, data, segment.map_or(data.max(1), usize::from)))
    };
    let mut parcels = vec![
        datagram("IPv4 UDP, 1 byte of data", 1001, 1, None),
        datagram("IPv4 UDP, packets of 1,500 bytes", 1002, UDP4, None),
        datagram("IPv4 UDP, segmented", 1003, 10_500, Some(1000)),
        frame(
            "IPv6 UDP, 1 byte of data",
            10,
            flow(6, UDP, 1011),
            49,
            ethernet(IPV6, &ipv6(UDP, &udp(1011, 1))),
        ),
        frame(
            "IPv6 UDP, packets of 1,500 bytes",
            10,
            flow(6, UDP, 1012),
            1500,
            ethernet(IPV6, &ipv6(UDP, &udp(1012, UDP6))),
        ),
        frame("IPv4 TCP, no data", 10, flow(4, TCP, 1021), 40, ethernet(IPV4, &ipv4(TCP, 0, &tcp(1021, 0)))),
        frame(
            "IPv4 TCP, packets of 1,500 bytes",
            10,
            flow(4, TCP, 1022),
            1500,
            ethernet(IPV4, &ipv4(TCP, 0, &tcp(1022, TCP4))),
        ),
        // 45 and 17 segments; the last is a short one.
        segments(
            "IPv4 TCP, segmented",
            4,
            flow(4, TCP, 1023),
            Form::Merged {
                frame: ethernet(IPV4, &ipv4(TCP, 0, &tcp(1023, 44 * TCP4 + 7))),
                family: 4,
                size: TCP4 as u16,
            },
            (40, 44 * TCP4 + 7, TCP4),
        ),
        segments(
            "IPv6 TCP, segmented",
            4,
            flow(6, TCP, 1031),
            Form::Merged {
                frame: ethernet(IPV6, &ipv6(TCP, &tcp(1031, 16 * TCP6 + 1))),
                family: 6,
                size: TCP6 as u16,
            },
            (60, 16 * TCP6 + 1, TCP6),
        ),
        frame(
            "IPv4 UDP with a VLAN tag",
            10,
            flow(4, UDP, 1041),
            228,
            tagged(5, IPV4, &ipv4(UDP, 0, &udp(1041, 200))),
        ),
        frame(
            "IPv6 UDP with a VLAN tag, packets of 1,500 bytes",
            10,
            flow(6, UDP, 1042),
            1500,
            tagged(5, IPV6, &ipv6(UDP, &udp(1042, UDP6))),
        ),
        padded(),
        frame("ARP and LLDP", 3, Place::None(Reason::NonIp), 0, ethernet(ARP, &[0; 28])),
        frame("ARP and LLDP", 2, Place::None(Reason::NonIp), 0, ethernet(LLDP, &[0; 46])),
    ];
    parcels.extend(fragments());
    parcels
}

/// The shortest frame Ethernet has: padding counts on the wire and not in the packet.
fn padded() -> Parcel {
    let mut short = ethernet(IPV4, &ipv4(UDP, 0, &udp(1043, 0)));
    short.resize(60, 0);
    let each = Count { packets: 1, wire_bytes: 60, ip_bytes: 28, estimated: 0 };
    Parcel {
        each,
        each_merged: each,
        ..frame("IPv4 UDP, padded to 60 bytes", 10, flow(4, UDP, 1043), 28, short)
    }
}

/// Datagrams in two fragments of 1,000 and 408 bytes: ports are in the first only.
fn fragments() -> Vec<Parcel> {
    let mut parcels = Vec::new();
    let rest = |family| Place::Flow { family, proto: UDP, ports: (0, 0) };
    let whole = |port| udp(port, 1400);
    let (first4, first6) = (whole(1051), whole(1052));
    const MORE: u16 = 0x2000;
    const MORE_V6: u8 = 1;
    for (place, field, part) in
        [(flow(4, UDP, 1051), MORE, &first4[..1000]), (rest(4), 1000 / 8, &first4[1000..])]
    {
        let packet = ipv4(UDP, field, part);
        parcels.push(frame("IPv4 fragments", 5, place, packet.len(), ethernet(IPV4, &packet)));
    }
    for (place, offset, part) in
        [(flow(6, UDP, 1052), 0u16, &first6[..1000]), (rest(6), 1000, &first6[1000..])]
    {
        let [high, low] = offset.to_be_bytes();
        let more = if offset == 0 { MORE_V6 } else { 0 };
        let mut payload = vec![UDP, 0, high, low | more, 0, 0, 0, 1];
        payload.extend(part);
        let packet = ipv6(FRAGMENT, &payload);
        parcels.push(frame("IPv6 fragments", 5, place, packet.len(), ethernet(IPV6, &packet)));
    }
    parcels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::counter::{Counter, Packet};

    /// The parser and the arithmetic know nothing of each other.
    #[test]
    fn frames_are_what_they_are_said_to_be() {
        for parcel in all() {
            let (Form::Frame(bytes) | Form::Merged { frame: bytes, .. }) = &parcel.form else { continue };
            let mut counter = Counter::new(None);
            counter.count(&Packet {
                linktype: 1,
                ifindex: 1,
                direction: wherefore_common::Direction::Egress,
                time: crate::time::Timestamp(1),
                frame: bytes,
                wire_len: bytes.len() as u32,
                mtu: None,
            });
            let counts = counter.take();
            let found = counts.flows.first().map(|flow| {
                let key = flow.key;
                let place = Place::of(key.family, key.src, key.dst, key.proto, (key.sport, key.dport));
                (place, flow.counters.wire_bytes, flow.counters.ip_bytes)
            });
            let expected = match parcel.place {
                Place::None(reason) => {
                    assert_eq!(counts.unaccounted.keys().next().map(|key| key.reason), Some(reason as u8));
                    None
                }
                place => Some((place, parcel.each_merged.wire_bytes, parcel.each_merged.ip_bytes)),
            };
            assert_eq!(found, expected, "{}", parcel.name);
        }
    }
}
