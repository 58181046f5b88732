//! The file backend on made-up captures: clocks, formats, several files.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;
use wherefore::{
    backend::{Backend as _, Error, FileSettings, pcap_file},
    snapshot::Snapshot,
    time::Timestamp,
};
use wherefore_common::{Amount, Reason};
use wherefore_tests::{
    capture::{MICROSECONDS, NANOSECONDS, Writer, frame, pcap},
    files::{read, settings, write},
};

const SECOND: u64 = 1_000_000_000;

fn hosts(snapshot: &Snapshot) -> Vec<u8> {
    let mut hosts: Vec<_> = snapshot
        .flows
        .iter()
        .flat_map(|flow| std::iter::repeat_n(flow.key.src[15], flow.counters.packets as usize))
        .collect();
    hosts.sort_unstable();
    hosts
}

#[test]
fn intervals_follow_the_packets_clock() {
    let folder = TempDir::new().expect("folder");
    let late = [(100, 1), (104, 2), (105, 3), (104, 4), (131, 5), (4_000_000_000, 6), (1, 7)];
    let file = write(&folder, "a.pcap", &pcap(&late));
    let (snapshots, faults) = read(&settings(&[file], Some(5)));
    assert!(faults.is_empty(), "{faults:?}");
    let facts: Vec<_> = snapshots
        .iter()
        .map(|s| (s.start.0 / SECOND, s.end.0 / SECOND, s.skipped, s.complete, s.late.packets, hosts(s)))
        .collect();
    assert_eq!(
        facts,
        [
            (100, 105, 0, true, 0, vec![1, 2]),
            (105, 110, 0, true, 1, vec![3, 4]),
            (130, 135, 4, true, 0, vec![5]),
            (4_000_000_000, 4_000_000_005, 799_999_973, false, 1, vec![6, 7]),
        ]
    );
    assert_eq!(snapshots[1].late, Amount { packets: 1, wire_bytes: 46 });
    for snapshot in &snapshots {
        assert_eq!(snapshot.length, Duration::from_secs(5));
        assert_eq!(snapshot.interfaces.values().collect::<Vec<_>>(), ["a.pcap"]);
        assert!(snapshot.flows.iter().all(|flow| snapshot.interfaces.contains_key(&flow.key.ifindex)));
    }
}

#[test]
fn without_an_interval_there_is_one_snapshot() {
    let folder = TempDir::new().expect("folder");
    let file = write(&folder, "a.pcap", &pcap(&[(100, 1), (90, 1), (4_000_000_000, 2), (95, 1)]));
    let (snapshots, faults) = read(&settings(&[file], None));
    assert!(faults.is_empty() && snapshots.len() == 1);
    let snapshot = &snapshots[0];
    assert_eq!((snapshot.start, snapshot.end), (Timestamp(90 * SECOND), Timestamp(4_000_000_000 * SECOND)));
    assert_eq!(snapshot.length, Duration::from_secs(3_999_999_910));
    assert!(snapshot.complete);
    assert_eq!(snapshot.late, Amount::default());
    let flow = snapshot.flows.iter().find(|flow| flow.key.src[15] == 1).expect("flow of host 1");
    assert_eq!((flow.counters.first_ns, flow.counters.last_ns), (90 * SECOND, 100 * SECOND));
    assert_eq!(flow.src(), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    assert_eq!((flow.counters.wire_bytes, flow.counters.ip_bytes), (3 * 46, 3 * 32));
}

#[test]
fn several_files_are_read_in_time_order() {
    let folder = TempDir::new().expect("folder");
    let files = [
        write(&folder, "a.pcap", &pcap(&[(100, 1), (110, 2), (120, 3)])),
        write(&folder, "b.pcap", &pcap(&[(105, 4), (106, 5), (121, 6)])),
        write(&folder, "empty.pcap", &pcap(&[])),
    ];
    let (snapshots, faults) = read(&settings(&files, Some(10)));
    assert!(faults.is_empty(), "{faults:?}");
    let facts: Vec<_> =
        snapshots.iter().map(|s| (hosts(s), s.interfaces.values().cloned().collect::<Vec<_>>())).collect();
    let both = vec!["a.pcap".to_owned(), "b.pcap".to_owned()];
    assert_eq!(
        facts,
        [(vec![1, 4, 5], both.clone()), (vec![2], vec!["a.pcap".to_owned()]), (vec![3, 6], both),]
    );
    assert!(snapshots.iter().all(|snapshot| snapshot.late == Amount::default()));
}

#[test]
fn formats_and_byte_orders_agree() {
    let folder = TempDir::new().expect("folder");
    let mut files = Vec::new();
    for big in [false, true] {
        let mut micro = Writer::new(big);
        micro.pcap_header(MICROSECONDS).record(7, 250_000, &frame(1)).record(8, 0, &frame(2));
        files.push(write(&folder, &format!("us{big}.pcap"), &micro.bytes));
        let mut nano = Writer::new(big);
        nano.pcap_header(NANOSECONDS).record(7, 250_000_000, &frame(1)).record(8, 0, &frame(2));
        files.push(write(&folder, &format!("ns{big}.pcap"), &nano.bytes));
        let mut binary = Writer::new(big);
        // Units of 1/1024 second, 5 seconds to be added; 7.25 s are then 2304 units.
        binary.section().interface(1, "x", 0x8a, 5).packet(0, 2_304, &frame(1)).packet(0, 3_072, &frame(2));
        files.push(write(&folder, &format!("{big}.pcapng"), &binary.bytes));
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let plain = fs::read(&files[0]).expect("file");
    // Two members, cut in the middle of a record.
    gzip.write_all(&plain[..50]).expect("compressed");
    let mut members = gzip.finish().expect("compressed");
    let mut gzip = GzEncoder::new(&mut members, Compression::best());
    gzip.write_all(&plain[50..]).expect("compressed");
    gzip.finish().expect("compressed");
    files.push(write(&folder, "us.pcap.gz", &members));
    for file in files {
        let (snapshots, faults) = read(&settings(std::slice::from_ref(&file), Some(10)));
        assert!(faults.is_empty(), "{}: {faults:?}", file.display());
        assert_eq!(snapshots.len(), 1, "{}", file.display());
        assert_eq!(snapshots[0].start, Timestamp(7 * SECOND + SECOND / 4), "{}", file.display());
        let last = snapshots[0].flows.iter().map(|flow| flow.counters.last_ns).max();
        assert_eq!(last, Some(8 * SECOND), "{}", file.display());
        assert_eq!(hosts(&snapshots[0]), [1, 2], "{}", file.display());
    }
}

#[test]
fn sections_and_interfaces_have_their_own_numbers_and_link_types() {
    let folder = TempDir::new().expect("folder");
    let ip = &frame(9)[14..];
    let mut writer = Writer::new(false);
    writer.section().interface(1, "eth0", 6, 0).interface(101, "tun0", 6, 0);
    writer.packet(0, 1, &frame(1)).packet(1, 2, ip).block(0x0bad, &[0; 100_000]).packet(0, 3, &frame(2));
    // A simple packet block has no time: it belongs to the open interval.
    let simple = writer.body(|body| {
        body.u32(46).raw(&frame(3));
    });
    writer.block(3, &simple);
    writer.big = true;
    writer.section().interface(1, "", 6, 0).packet(0, 4, &frame(4));
    // An obsolete packet block: interface and drops in one word.
    let old = writer.body(|body| {
        body.u16(0).u16(7).u32(0).u32(5).u32(46).u32(46).raw(&frame(5));
    });
    writer.block(2, &old);
    let file = write(&folder, "a.pcapng", &writer.bytes);
    let (snapshots, faults) = read(&settings(&[file], Some(1)));
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(hosts(&snapshots[0]), [1, 2, 3, 4, 5, 9]);
    let of = |host: u8| {
        let flow = snapshots[0].flows.iter().find(|flow| flow.key.src[15] == host).expect("flow");
        snapshots[0].interfaces[&flow.key.ifindex].as_str()
    };
    assert_eq!([1, 2, 3, 4, 5, 9].map(of), ["eth0", "eth0", "eth0", "a.pcapng", "a.pcapng", "tun0"]);
    assert_eq!(snapshots[0].interfaces.len(), 3);
}

#[test]
fn an_expression_sees_the_wire_length_and_filtered_packets_are_counted() {
    let folder = TempDir::new().expect("folder");
    let mut writer = Writer::new(false);
    writer.pcap_header(MICROSECONDS);
    for wire_len in [46, 999, 1_000] {
        writer.u32(1).u32(0).u32(46).u32(wire_len).raw(&frame(wire_len as u8));
    }
    let file = write(&folder, "a.pcap", &writer.bytes);
    let with = |expression: &str| FileSettings {
        expression: Some(expression.to_owned()),
        ..settings(std::slice::from_ref(&file), None)
    };
    let (snapshots, faults) = read(&with("udp and greater 999"));
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(snapshots[0].flows.len(), 2);
    let filtered = snapshots[0].unaccounted_by_reason()[&Reason::Filtered];
    assert_eq!(filtered, Amount { packets: 1, wire_bytes: 46 });
    let error = pcap_file::open(&with("no such thing")).err().expect("refused");
    assert!(matches!(error, Error::Expression { .. }), "{error}");
}

#[test]
fn what_cannot_be_opened_is_named() {
    let folder = TempDir::new().expect("folder");
    for path in [folder.path().join("missing.pcap"), folder.path().to_owned()] {
        let error = pcap_file::open(&settings(std::slice::from_ref(&path), None)).err().expect("refused");
        assert!(matches!(&error, Error::NoInput { path: named, .. } if *named == path), "{error}");
    }
    let twice = [PathBuf::from("-"), PathBuf::from("-")];
    assert!(pcap_file::open(&settings(&twice, None)).is_err());
    let zero = FileSettings { interval: Some(Duration::ZERO), ..settings(&[], None) };
    assert!(pcap_file::open(&zero).is_err());
}

#[test]
fn a_file_s_name_cannot_command_the_terminal() {
    let folder = TempDir::new().expect("folder");
    let missing = folder.path().join("a\x1b[2J\u{9b}2J\nb.pcap");
    let broken = write(&folder, "c\x1b]0;x\x07.pcap", &[0; 100]);
    let opened = pcap_file::open(&settings(std::slice::from_ref(&missing), None)).err().expect("refused");
    let (_, faults) = read(&settings(&[broken], None));
    for text in [opened.to_string(), faults[0].to_string()] {
        assert!(!text.contains(char::is_control) && text.contains("\\u{1b}"), "{text:?}");
    }
}

#[test]
fn the_first_line_names_files_and_formats() {
    let folder = TempDir::new().expect("folder");
    let files = [write(&folder, "a.pcap", &pcap(&[(1, 1)])), write(&folder, "b", b"text")];
    let backend = pcap_file::open(&settings(&files, None)).expect("opens");
    assert!(!backend.is_live());
    let hooks: Vec<_> =
        backend.description().watched.iter().map(|w| (Path::new(&w.name), &*w.hook)).collect();
    assert_eq!(hooks, [(&*files[0], "pcap"), (&*files[1], "unreadable")]);
}
