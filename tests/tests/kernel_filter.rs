//! tcpdump expressions select the same packets in the kernel, in libpcap's own interpreter, and of files.
//!
//! Needs root and eBPF; reads the captures of ../shared where they are.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{collections::BTreeSet, path::PathBuf};

use aya::programs::{Program as Loaded, TestRun as _, TestRunOptions};
use wherefore::backend::{
    Backend as _, Error, FileSettings, Hook,
    classic::{self, Instruction, Program, op},
    ebpf::{
        Start, Target,
        bench::Bench,
        filter::{Dialect, Exits, Refusal, translate},
    },
    pcap_file,
};
use wherefore::filter::CidrFilter;
use wherefore_common::{Amount, Direction, Reason};
use wherefore_tests::{
    Random, can_load,
    capture::{MICROSECONDS, Writer},
    expression::Judge,
    mixture,
};

/// Expressions for frames that begin with an Ethernet header.
const EXPRESSIONS: [&str; 104] = [
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "igmp",
    "esp",
    "ah",
    "ip proto 47",
    "ip6 proto 17",
    "proto 132",
    "ether proto 0x88cc",
    "ether proto 0x0806",
    "ether proto 0x8100",
    "stp",
    "ether broadcast",
    "ether multicast",
    "ip broadcast or ip multicast",
    "ip6 multicast",
    "ether host 02:00:00:00:00:01",
    "ether src 02:00:00:00:00:02",
    "ether dst ff:ff:ff:ff:ff:ff",
    "host 192.0.2.1",
    "src host 192.0.2.1",
    "dst host 198.51.100.7",
    "host 192.0.2.1 and host 198.51.100.7",
    "not host 198.51.100.7",
    "net 192.0.2.0/24",
    "src net 10.0.0.0/8",
    "dst net 198.51.100.0/25",
    "net 192.168.0.0/16 or net 172.16.0.0/12",
    "net 0.0.0.0/0",
    "ip6 host 2001:db8::1",
    "net 2001:db8::/32",
    "ip6 src net 2001:db8::/33",
    "ip6 dst net fe80::/10",
    "port 53",
    "port 80 or port 443",
    "tcp port 80",
    "tcp port 443",
    "udp port 53",
    "src port 22",
    "dst port 80",
    "tcp dst port 443",
    "portrange 1-1023",
    "tcp portrange 80-90",
    "udp src portrange 1024-65535",
    "not portrange 1-1023",
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    "tcp[13] = 0x12",
    "tcp[tcpflags] & tcp-rst != 0 or tcp[tcpflags] & tcp-fin != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "icmp[icmptype] = icmp-echo",
    "icmp[0] = 3 and icmp[1] = 3",
    "udp[4:2] > 100",
    "udp[8:4] != 0",
    "ip[8] < 64",
    "ip[0] & 0xf > 5",
    "ip[6:2] & 0x1fff != 0",
    "ip[6] & 0x40 != 0",
    "ip[2:2] >= 576",
    "ip[12:4] & 0xffffff00 = 0xc0000200",
    "ip6[6] = 58",
    "ip6[40] = 135",
    "ip6[8:4] = 0x20010db8",
    "ether[0] & 1 = 1",
    "ether[12:2] > 0x600",
    "ether[14:2] & 0xfff = 7",
    "ether[100] = 0",
    "ether[1000:4] != 0",
    "ether[len - 1] = 0",
    "ether[len - 4:4] != 0",
    "len > 100",
    "len = 60",
    "greater 200",
    "less 64",
    "len % 2 = 0",
    "(ip[8] * 3 + 7) / (ip[9] - 6) % 5 << 2 > 3",
    "ip[8] / ip[1] > 1",
    "ip[9] % ip[1] = 0",
    "ip[8] << ip[1] > 64",
    "ip[8] - 100 > 0x80000000",
    "-ip[8] < 0xffffffc0",
    "(ip[2:2] ^ 0x55) & 0xff | 3 = 3",
    "vlan",
    "vlan 7",
    "vlan and ip",
    "vlan 7 and tcp port 80",
    "vlan and vlan",
    "vlan and not ip6",
    "mpls",
    "mpls and ip",
    "mpls and mpls and ip6",
    "pppoed",
    "pppoes",
    "pppoes and ip",
    "not ip and not ip6 and not arp",
    "(tcp or udp) and not (port 53 or port 443) and greater 80",
    "host 192.0.2.1 or host 192.0.2.2 or host 192.0.2.3 or host 192.0.2.4 or net 198.51.100.0/28 or port 8080",
];

/// For frames that begin with the IP header.
const RAW_EXPRESSIONS: [&str; 10] = [
    "ip",
    "ip6",
    "tcp port 80",
    "udp",
    "host 192.0.2.1",
    "net 2001:db8::/32",
    "len > 100",
    "ip[8] = 64",
    "icmp or icmp6",
    "ip6[6] = 17 or ip[9] = 17",
];

fn ethernet() -> Target {
    Target { name: "none".into(), index: 1, start: Start::Ethernet }
}

/// Some of each capture, none twice.
fn captured() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures/pcap");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no captures in ../shared");
        return Vec::new();
    };
    let mut frames = BTreeSet::new();
    for entry in entries {
        let Ok(mut capture) = pcap::Capture::from_file(entry.unwrap().path()) else { continue };
        if capture.get_datalink() != pcap::Linktype::ETHERNET {
            continue;
        }
        let mut left = 2;
        while let Ok(packet) = capture.next_packet() {
            if packet.header.caplen == packet.header.len && packet.data.len() <= 3_000 && left > 0 {
                left -= usize::from(frames.insert(packet.data.to_vec()));
            }
        }
    }
    frames.into_iter().collect()
}

/// Packets of a file of these frames, in flows or counted without one, and the filtered ones.
fn of_file(linktype: i32, frames: &[&[u8]], expression: &str) -> (u64, u64) {
    let mut writer = Writer::new(false);
    writer.pcap_header_of(MICROSECONDS, linktype as u32);
    for frame in frames {
        writer.record(1, 0, frame);
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &writer.bytes).unwrap();
    let mut backend = pcap_file::open(&FileSettings {
        files: vec![file.path().to_owned()],
        interval: None,
        table_size: None,
        expression: Some(expression.to_owned()),
        filter: CidrFilter::default(),
    })
    .unwrap();
    let snapshot = backend.poll().unwrap().unwrap();
    let filtered = |reason: u8| reason == Reason::Filtered as u8;
    let sum =
        snapshot.unaccounted.iter().filter(|(key, _)| filtered(key.reason)).map(|(_, amount)| amount.packets);
    let filtered = sum.sum();
    (snapshot.total().packets - filtered, filtered)
}

/// All expressions over all frames, at every kind of program.
fn compare(linktype: i32, start: Start, expressions: &[&str], frames: &[Vec<u8>]) -> Vec<String> {
    let dialects: &[Dialect] = if start == Start::Ip { &[Dialect::Tc] } else { &[Dialect::Tc, Dialect::Xdp] };
    // A capture's number of raw IP is not that of a handle.
    let data_link = if linktype == classic::RAW { pcap::Linktype(12) } else { pcap::Linktype(linktype) };
    let (mut runs, mut one_sided) = (0, Vec::new());
    for text in expressions {
        let program =
            classic::compile(text, linktype, false).unwrap_or_else(|error| panic!("{text}: {error}"));
        let theirs = pcap::Capture::dead(data_link).unwrap().compile(text, true).unwrap();
        let judges: Vec<_> = dialects.iter().map(|d| (*d, Judge::new(&program, *d, start))).collect();
        let (mut ran, mut matched) = (Vec::new(), 0);
        for frame in frames {
            let expected = theirs.filter(frame);
            let mut taken = false;
            for (dialect, judge) in &judges {
                let Some(verdict) = judge.verdict(frame) else { continue };
                assert_eq!(verdict, expected, "{text}, {dialect:?}, on {frame:02x?}");
                runs += 1;
                taken = true;
            }
            if taken {
                ran.push(frame.as_slice());
                matched += u64::from(expected);
            }
        }
        let all = ran.len() as u64;
        assert_eq!(of_file(linktype, &ran, text), (matched, all - matched), "{text}, of a file");
        if matched == 0 || matched == all {
            one_sided.push((*text).to_owned());
        }
    }
    println!(
        "{} expressions, {} frames, {runs} runs; all or none matched {one_sided:?}",
        expressions.len(),
        frames.len()
    );
    one_sided
}

#[test]
fn expressions_select_the_same_made_frames_everywhere() {
    if can_load() {
        let mut random = Random::new(20_260_401);
        let frames: Vec<_> = (0..400).map(|_| mixture::frame(&mut random)).collect();
        let one_sided = compare(classic::ETHERNET, Start::Ethernet, &EXPRESSIONS, &frames);
        assert!(one_sided.len() <= 5, "all or none matched {one_sided:?}");
    }
}

#[test]
fn expressions_select_the_same_captured_frames_everywhere() {
    let frames = captured();
    if !frames.is_empty() && can_load() {
        let one_sided = compare(classic::ETHERNET, Start::Ethernet, &EXPRESSIONS, &frames);
        assert!(one_sided.len() <= 30, "all or none matched {one_sided:?}");
    }
}

#[test]
fn expressions_select_the_same_packets_without_link_header() {
    if can_load() {
        let mut random = Random::new(20_260_402);
        let packets: Vec<_> = (0..200).map(|at| mixture::packet(&mut random, at % 3 == 0)).collect();
        let one_sided = compare(classic::RAW, Start::Ip, &RAW_EXPRESSIONS, &packets);
        assert!(one_sided.is_empty(), "all or none matched {one_sided:?}");
    }
}

#[test]
fn what_the_kernel_cannot_take_is_refused_with_the_reason() {
    let refusal = |program: &Program| {
        let exits = Exits { table: 0, accept: 0, reject: 1, measure: None };
        translate(program, Dialect::Tc, Start::Ethernet, &exits).unwrap_err()
    };
    let plain = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let (ret, first) = (plain(op::RET, 1), plain(op::LD | op::ABS, 0));
    let protochain = classic::compile("ip6 protochain 6", classic::ETHERNET, false).unwrap();
    assert_eq!(refusal(&protochain), Refusal::Loop);
    let ahead = Instruction { code: op::JMP | op::JA, k: 9_000, ..ret };
    let long = [
        vec![Instruction { code: op::JMP | op::JEQ, jt: 1, ..ret }, ret, ahead],
        vec![first; 9_000],
        vec![ret],
    ];
    let skipped = Program(long.concat());
    // What nothing comes to is left out.
    assert_eq!(refusal(&Program([vec![first; 9_000], vec![ret]].concat())), Refusal::TooLong);
    let exits = Exits { table: 0, accept: 0, reject: 1, measure: None };
    assert!(translate(&skipped, Dialect::Tc, Start::Ethernet, &exits).unwrap().len() < 100);
    assert_eq!(refusal(&Program(vec![plain(op::ST, 16), ret])), Refusal::Memory { cell: 16 });
    assert_eq!(refusal(&Program(vec![first])), Refusal::Malformed { at: 1 });
    assert_eq!(refusal(&Program(Vec::new())), Refusal::Malformed { at: 0 });
    assert_eq!(refusal(&Program(vec![plain(op::ALU | 0xf0, 0), ret])), Refusal::Malformed { at: 0 });
    if !can_load() {
        return;
    }
    let mut bench = Bench::new(16).unwrap();
    for (text, words) in [
        (
            "ip6 protochain 6",
            "-f \"ip6 protochain 6\" cannot run in the kernel: it has a loop in it (protochain)",
        ),
        ("inbound", "-f \"inbound\" cannot run in the kernel: it asks for more than what is in the frame"),
    ] {
        let error = bench.expression(text, &[ethernet()], Hook::Tc).map(drop).unwrap_err();
        assert!(matches!(error, Error::ExpressionForLibpcap { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("{words}; --backend pcap takes it"));
    }
    for (text, words) in [("prot 80", "syntax error"), ("ip and ip6", "rejects all packets")] {
        let error = bench.expression(text, &[ethernet()], Hook::Tc).map(drop).unwrap_err();
        assert!(matches!(error, Error::Expression { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// `len` of a super-frame is the first frame's that it becomes, wherever it is counted.
#[test]
fn len_of_a_super_frame_is_that_of_its_first_frame() {
    /// `gso_size` of `struct __sk_buff`, and bytes of it that a test run takes.
    const GSO_SIZE: usize = 176;
    const CONTEXT: usize = 192;
    if !can_load() {
        return;
    }
    // 14 + 20 + 32 bytes of headers, 2,000 of payload.
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 8, 0x04, 0, 0, 0, 0, 64, 6, 0, 0];
    frame.extend([192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 0, 81, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x10]);
    frame.resize(66 + 2_000, 0);
    for (program, direction) in [("wherefore_in", Direction::Ingress), ("wherefore_out", Direction::Egress)] {
        for (gso_size, first) in [(0, 2_066), (1_000, 1_066), (600, 666), (1_999, 2_065), (3_000, 2_066)] {
            for (text, matches) in
                [(format!("len = {first}"), true), (format!("greater {}", first + 1), false)]
            {
                let mut bench = Bench::new(16).unwrap();
                let filter = bench.expression(&text, &[ethernet()], Hook::Tc).unwrap();
                let mut context = [0; CONTEXT];
                context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&u32::to_ne_bytes(gso_size));
                let mut options = TestRunOptions::new();
                options.data_in = Some(&frame);
                options.ctx_in = Some(&context);
                let Some(Loaded::SchedClassifier(program)) = filter.programs.program(program) else {
                    panic!()
                };
                assert_eq!(program.test_run(options).unwrap().return_value, u32::MAX);
                let snapshot = bench.poll().unwrap();
                let what = format!("{text}, {direction:?}, segments of {gso_size}");
                assert_eq!(snapshot.flows.len(), usize::from(matches), "{what}");
                // Counted are all of its frames, also where none is wanted.
                let packets = if gso_size == 0 { 1 } else { 2_000_u64.div_ceil(gso_size.into()) };
                let bytes = 2_066 + (packets - 1) * 66;
                if direction == Direction::Ingress {
                    assert_eq!(snapshot.total(), Amount { packets, wire_bytes: bytes }, "{what}");
                }
                let reasons: Vec<u8> = snapshot.unaccounted.keys().map(|key| key.reason).collect();
                assert_eq!(reasons, if matches { vec![] } else { vec![Reason::Filtered as u8] }, "{what}");
            }
        }
    }
}
