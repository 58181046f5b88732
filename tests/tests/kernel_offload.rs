//! Joined segments of every kind the stack makes, handed to the kernel programs by test run: tags, labels and
//! options in front, one tunnel or none, TCP or UDP inside. What each must count as is known from how it was made.
//! (On real devices, of the kinds this kernel has: `wire_truth`.)
//!
//! Needs root and eBPF.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeMap;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use wherefore::backend::ebpf::bench::Bench;
use wherefore_common::FlowCounters;
use wherefore_tests::{Random, can_load, tally::Count};

/// Packets tried in one interval, each with another source address, and intervals.
const AT_ONCE: usize = 250;
const INTERVALS: usize = 100;

/// Headers that each segment repeats.
#[derive(Debug, Default)]
struct Headers {
    bytes: Vec<u8>,
    /// Where the outermost IP header is.
    l3: usize,
    /// What was put together, for messages.
    kinds: Vec<&'static str>,
}

impl Headers {
    /// An Ethernet header with up to two tags or three labels; `v6` is what it announces.
    fn link(&mut self, random: &mut Random, v6: bool) {
        self.bytes.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        match random.below(4) {
            0 => {
                self.kinds.push("labels");
                let labels = 1 + random.below(3);
                self.bytes.extend([0x88, 0x47]);
                for label in 1..=labels {
                    self.bytes.extend([0, 1, u8::from(label == labels), 64]);
                }
            }
            other => {
                for _ in 0..other - 1 {
                    self.kinds.push("tag");
                    self.bytes.extend([0x81, 0, 0, 7]);
                }
                self.ether_type(v6);
            }
        }
    }

    fn ether_type(&mut self, v6: bool) {
        self.bytes.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    }

    /// An IP header; lengths are the outermost's own affair: segments have others.
    fn ip(&mut self, random: &mut Random, v6: bool, proto: u8) {
        if v6 {
            self.kinds.push("IPv6");
            self.bytes.extend([0x60, 0, 0, 0, 0x40, 0, proto, 64]);
            self.bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            self.bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        } else {
            self.kinds.push("IPv4");
            let words = random.below(11);
            self.bytes.extend([0x45 + words as u8, 0, 0x40, 0, 0, 0, 0, 0, 64, proto, 0, 0]);
            self.bytes.extend([192, 0, 2, 1, 198, 51, 100, 1]);
            self.bytes.extend(vec![1; 4 * words]);
        }
    }

    fn udp(&mut self, port: u16) {
        self.bytes.extend([0x30, 0x39]);
        self.bytes.extend(port.to_be_bytes());
        self.bytes.extend([0; 4]);
    }

    /// A tunnel's header, with the Ethernet or IP header it carries announced.
    fn tunnel(&mut self, random: &mut Random, v6: bool, tunnel: Tunnel) {
        let ethernet = |this: &mut Self| {
            this.bytes.extend([2; 12]);
            this.ether_type(v6);
        };
        match tunnel {
            Tunnel::Vxlan(port) => {
                self.kinds.push("VXLAN");
                self.udp(port);
                self.bytes.extend([8, 0, 0, 0, 0, 0, 7, 0]);
                ethernet(self);
            }
            Tunnel::Geneve => {
                self.kinds.push("Geneve");
                self.udp(6081);
                let words = random.below(8);
                let whole = random.below(2) == 0;
                self.bytes.extend([words as u8, 0]);
                if whole {
                    self.bytes.extend([0x65, 0x58]);
                } else {
                    self.ether_type(v6);
                }
                self.bytes.extend([0, 0, 7, 0]);
                self.bytes.extend(vec![0; 4 * words]);
                if whole {
                    ethernet(self);
                }
            }
            Tunnel::Gre => {
                self.kinds.push("GRE");
                let flags = random.next() as u8 & 0xb0;
                let whole = random.below(2) == 0;
                self.bytes.extend([flags, 0]);
                if whole {
                    self.bytes.extend([0x65, 0x58]);
                } else {
                    self.ether_type(v6);
                }
                self.bytes.extend(vec![0; 4 * flags.count_ones() as usize]);
                if whole {
                    ethernet(self);
                }
            }
            Tunnel::Ip => self.kinds.push("IP"),
        }
    }

    fn transport(&mut self, random: &mut Random, proto: u8) {
        if proto == UDP {
            self.kinds.push("UDP");
            return self.udp(443);
        }
        self.kinds.push("TCP");
        let words = 5 + random.below(11);
        self.bytes.extend([0x30, 0x39, 1, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, (words as u8) << 4, 0x10, 0, 0]);
        self.bytes.extend(vec![0; 4 * words - 16]);
    }

    /// Random ones; `number` ends the outermost source address.
    fn new(random: &mut Random, number: u8) -> Self {
        let mut this = Self::default();
        let v6 = random.below(2) == 0;
        this.link(random, v6);
        this.l3 = this.bytes.len();
        let proto = if random.below(2) == 0 { TCP } else { UDP };
        if random.below(3) == 0 {
            this.ip(random, v6, proto);
        } else {
            let inner_v6 = random.below(2) == 0;
            let (tunnel, carrier) = match random.below(5) {
                0 => (Tunnel::Vxlan(4789), UDP),
                1 => (Tunnel::Vxlan(8472), UDP),
                2 => (Tunnel::Geneve, UDP),
                3 => (Tunnel::Gre, 47),
                _ => (Tunnel::Ip, if inner_v6 { 41 } else { 4 }),
            };
            this.ip(random, v6, carrier);
            this.tunnel(random, inner_v6, tunnel);
            this.ip(random, inner_v6, proto);
        }
        this.transport(random, proto);
        let source_ends = this.l3 + if v6 { 23 } else { 15 };
        this.bytes[source_ends] = number;
        this
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

#[derive(Clone, Copy)]
enum Tunnel {
    Vxlan(u16),
    Geneve,
    Gre,
    /// IP in IP.
    Ip,
}

/// A program's context: `struct __sk_buff` of linux/bpf.h up to its last word.
fn context(wire_len: u32, segments: u32, size: u32) -> [u8; 192] {
    let mut context = [0; 192];
    for (at, value) in [(160, wire_len), (164, segments), (176, size)] {
        context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    context
}

#[test]
fn joined_segments_of_every_kind_count_as_frames() {
    if !can_load() {
        return;
    }
    let mut bench = Bench::new(1024).unwrap();
    for name in ["wherefore_in", "wherefore_out"] {
        bench.load(name).unwrap();
    }
    let mut random = Random::new(20_260_303);
    let mut joined = 0;
    for _ in 0..INTERVALS {
        let mut wanted = BTreeMap::new();
        for number in 0..AT_ONCE as u8 {
            let headers = Headers::new(&mut random, number);
            let payload = 1 + random.below(2500);
            let size = 1 + random.below(600);
            let packets = payload.div_ceil(size);
            let wire_bytes = payload + packets * headers.bytes.len();
            joined += usize::from(packets > 1);
            let count = Count {
                packets: packets as u64,
                wire_bytes: wire_bytes as u64,
                ip_bytes: (wire_bytes - packets * headers.l3) as u64,
            };
            // Ingress: the sender's number of segments may be anything. Egress: the stack's figures, and those it
            // has where a program before ours grew the packet or changed the size of its segments.
            let (program, wire_len, segments) = match random.below(4) {
                0 => ("wherefore_in", 0, random.below(65_536)),
                // More the kernel does not take in a test run.
                1 if wire_bytes <= 65_536 => ("wherefore_out", wire_bytes, packets),
                2 => ("wherefore_out", 0, 0),
                _ => ("wherefore_out", 0, packets),
            };
            let frame = [&headers.bytes[..], &vec![0x5a; payload]].concat();
            let context = context(wire_len as u32, segments as u32, size as u32);
            let mut options = TestRunOptions::new();
            options.data_in = Some(&frame);
            options.ctx_in = Some(&context);
            let classifier: &SchedClassifier = bench.ebpf.program(program).unwrap().try_into().unwrap();
            let result = classifier.test_run(options);
            result.unwrap_or_else(|error| panic!("{program}, {} bytes: {error}", frame.len()));
            let what = format!("{program}, {payload} bytes in segments of {size}, {headers:02x?}");
            wanted.insert(number, (count, what));
        }
        let snapshot = bench.poll().unwrap();
        assert!(snapshot.unaccounted.is_empty(), "{:?}", snapshot.unaccounted);
        assert_eq!(snapshot.flows.len(), AT_ONCE);
        for flow in &snapshot.flows {
            let FlowCounters { packets, wire_bytes, ip_bytes, .. } = flow.counters;
            let (count, what) = &wanted[&flow.key.src[15]];
            assert_eq!(Count { packets, wire_bytes, ip_bytes }, *count, "{what}");
        }
    }
    assert!(joined * 2 > AT_ONCE * INTERVALS, "only {joined} stood for more than a frame");
}
