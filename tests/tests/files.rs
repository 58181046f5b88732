//! The file backend on made-up captures: clocks, formats, several files, faults at every byte, noise.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tempfile::TempDir;
use wherefore::{
    backend::{Backend as _, Error, FileSettings, pcap_file},
    filter::CidrFilter,
    snapshot::Snapshot,
    time::Timestamp,
};
use wherefore_common::{Amount, Reason};
use wherefore_tests::capture::{MICROSECONDS, NANOSECONDS, Writer, frame, pcap};

const SECOND: u64 = 1_000_000_000;

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("file written");
    path
}

fn settings(files: &[PathBuf], seconds: Option<u64>) -> FileSettings {
    FileSettings {
        files: files.to_vec(),
        interval: seconds.map(Duration::from_secs),
        table_size: None,
        expression: None,
        filter: CidrFilter::default(),
    }
}

/// All snapshots, then all faults: none comes before a snapshot.
fn read(settings: &FileSettings) -> (Vec<Snapshot>, Vec<Error>) {
    let mut backend = pcap_file::open(settings).expect("files open");
    let (mut snapshots, mut faults) = (Vec::new(), Vec::new());
    loop {
        match backend.poll() {
            Ok(Some(snapshot)) => {
                assert!(faults.is_empty(), "a snapshot after a fault");
                assert!(snapshot.imbalance().is_empty(), "{:?}", snapshot.imbalance());
                snapshots.push(snapshot);
            }
            Err(fault) => faults.push(fault),
            Ok(None) => break,
        }
    }
    assert!(matches!(backend.poll(), Ok(None)), "the end stays the end");
    (snapshots, faults)
}

fn packets(snapshots: &[Snapshot]) -> u64 {
    snapshots.iter().map(|snapshot| snapshot.total().packets).sum()
}

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
fn a_broken_file_does_not_keep_the_others_from_being_counted() {
    let folder = TempDir::new().expect("folder");
    let whole = pcap(&[(100, 1), (120, 2)]);
    let files = [
        write(&folder, "zeros.pcap", &[0; 100]),
        write(&folder, "whole.pcap", &whole),
        write(&folder, "cut.pcap", &whole[..whole.len() - 1]),
        write(&folder, "nothing.pcap", &[]),
    ];
    let (snapshots, faults) = read(&settings(&files, Some(5)));
    assert_eq!(packets(&snapshots), 3);
    let faults: Vec<_> = faults
        .iter()
        .map(|fault| match fault {
            Error::BrokenFile { path, offset, reason } => {
                (path.file_name().and_then(|name| name.to_str()).unwrap_or_default(), *offset, reason.clone())
            }
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_eq!((faults[0].0, faults[0].1), ("zeros.pcap", 0));
    assert_eq!((faults[1].0, faults[1].1), ("nothing.pcap", 0));
    assert_eq!((faults[2].0, faults[2].1), ("cut.pcap", 24 + 16 + 46), "{faults:?}");
}

/// Cut at any byte, a file gives the packets that are whole, and a fault unless the cut is between two.
fn cut_everywhere(folder: &TempDir, name: &str, whole: &[u8], ends: &[usize], clean: &[usize]) {
    for len in 0..=whole.len() {
        let file = write(folder, name, &whole[..len]);
        let (snapshots, faults) = read(&settings(&[file], None));
        let expected = ends.iter().filter(|end| **end <= len).count() as u64;
        assert_eq!(packets(&snapshots), expected, "{name} cut to {len}");
        assert_eq!(faults.is_empty(), clean.contains(&len), "{name} cut to {len}: {faults:?}");
    }
}

#[test]
fn cut_at_every_byte() {
    let folder = TempDir::new().expect("folder");
    let whole = pcap(&[(1, 1), (2, 2), (3, 3)]);
    let ends = [86, 148, 210];
    cut_everywhere(&folder, "a.pcap", &whole, &ends, &[24, 86, 148, 210]);

    let mut writer = Writer::new(true);
    let (mut ends, mut clean) = (Vec::new(), Vec::new());
    writer.section();
    clean.push(writer.bytes.len());
    writer.interface(1, "eth0", 9, 0);
    clean.push(writer.bytes.len());
    for ticks in 0..3 {
        writer.packet(0, ticks, &frame(1));
        ends.push(writer.bytes.len());
        writer.block(5, &[1, 2, 3]);
        clean.extend([writer.bytes.len() - 16, writer.bytes.len()]);
    }
    cut_everywhere(&folder, "a.pcapng", &writer.bytes, &ends, &clean);
}

/// Faults end a file where they are, with what came before counted.
#[test]
fn faults_in_pcapng_are_named() {
    let folder = TempDir::new().expect("folder");
    type Add<'a> = &'a dyn Fn(&mut Writer);
    let start = |writer: &mut Writer| {
        writer.section().interface(1, "eth0", 6, 0).packet(0, 1, &frame(1));
        writer.bytes.len() as u64
    };
    let cases: &[(&str, Add<'_>)] = &[
        ("interface 1, but", &|writer| {
            writer.packet(1, 2, &frame(2));
        }),
        ("block of 0 bytes", &|writer| {
            writer.u32(6).u32(0).u32(0);
        }),
        ("block of 13 bytes", &|writer| {
            writer.u32(6).u32(13).raw(&[0; 5]);
        }),
        ("two lengths", &|writer| {
            writer.packet(0, 2, &frame(2));
            let place = writer.bytes.len() - 4;
            writer.bytes[place] ^= 4;
        }),
        ("two lengths", &|writer| {
            writer.u32(77).u32(16).u32(0).u32(20);
        }),
        ("4294967292 bytes", &|writer| {
            writer.u32(6).u32(0xffff_fffc).raw(&[0; 100]);
        }),
        ("room for 48", &|writer| {
            let body = writer.body(|body| {
                body.u32(0).u32(0).u32(2).u32(4_000).u32(4_000).raw(&frame(2));
            });
            writer.block(6, &body);
        }),
        ("option of 400 bytes", &|writer| {
            let body = writer.body(|body| {
                body.u16(1).u16(0).u32(0).u16(2).u16(400).u32(0);
            });
            writer.block(1, &body);
        }),
        ("version 2.0", &|writer| {
            let body = writer.body(|body| {
                body.u32(0x1a2b_3c4d).u16(2).u16(0).raw(&[0xff; 8]);
            });
            writer.block(0x0a0d_0d0a, &body);
        }),
        ("byte-order magic", &|writer| {
            writer.block(0x0a0d_0d0a, &[0; 16]);
        }),
    ];
    for (words, add) in cases {
        for big in [false, true] {
            let mut writer = Writer::new(big);
            let at = start(&mut writer);
            add(&mut writer);
            writer.raw(&[0; 64]);
            let file = write(&folder, "a.pcapng", &writer.bytes);
            let (snapshots, faults) = read(&settings(&[file], None));
            assert_eq!(packets(&snapshots), 1, "{words}");
            let [Error::BrokenFile { offset, reason, .. }] = &faults[..] else {
                panic!("{words}: {faults:?}")
            };
            assert!(reason.contains(words), "{reason}, not {words}");
            assert_eq!(*offset, at, "{words}");
        }
    }
}

/// Most memory this process has had, in KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("own status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("KiB")
}

/// Mutated files and bare noise end in packets or a fault, without a panic and in bounded memory.
#[test]
fn noise_is_survived() {
    let folder = TempDir::new().expect("folder");
    let mut random = SmallRng::seed_from_u64(11);
    let mut pcapng = Writer::new(false);
    pcapng.section().interface(1, "eth0", 6, 0).interface(0, "lo", 9, 1);
    for ticks in 0..20 {
        pcapng.packet((ticks % 2) as u32, ticks << 40, &frame(ticks as u8)).block(5, &[0; 9]);
    }
    let plain = pcap(&(0..20).map(|i| (i * i * 1_000, i as u8)).collect::<Vec<_>>());
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&plain).expect("compressed");
    let seeds = [plain.clone(), pcapng.bytes, gzip.finish().expect("compressed")];
    let before = peak_memory();
    let (mut faults_seen, mut packets_seen) = (0, 0);
    for round in 0..3_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..random.random_range(1..8) {
            let place = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[place] = random.random(),
                1 => bytes[place] = 0xff,
                2 => bytes.truncate(place.max(4)),
                _ => bytes.insert(place, random.random()),
            }
        }
        if round % 10 == 0 {
            let magic = bytes[..4].to_vec();
            bytes = (0..400).map(|_| random.random()).collect();
            bytes[..4].copy_from_slice(&magic);
        }
        let file = write(&folder, "a", &bytes);
        let (snapshots, faults) = read(&settings(&[file], Some(random.random_range(1..100))));
        packets_seen += packets(&snapshots);
        faults_seen += faults.len();
        assert!(snapshots.len() <= 21, "{} intervals", snapshots.len());
    }
    assert!(faults_seen > 500 && packets_seen > 5_000, "{faults_seen} faults, {packets_seen} packets");
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB for files of at most a few KiB");
}

/// A file that announces a gigabyte is not believed before it has it.
#[test]
fn lengths_are_not_trusted() {
    let folder = TempDir::new().expect("folder");
    let mut writer = Writer::new(false);
    writer
        .pcap_header(MICROSECONDS)
        .record(1, 0, &frame(1))
        .u32(2)
        .u32(0)
        .u32(1 << 30)
        .u32(1 << 30)
        .raw(&[0; 99]);
    let mut blocks = Writer::new(false);
    blocks.section().interface(1, "a", 6, 0).packet(0, 1, &frame(1)).u32(0xbad).u32(1 << 30).raw(&[0; 99]);
    let before = peak_memory();
    for bytes in [writer.bytes, blocks.bytes] {
        let file = write(&folder, "a", &bytes);
        let (snapshots, faults) = read(&settings(&[file], None));
        assert_eq!((packets(&snapshots), faults.len()), (1, 1));
    }
    assert!(peak_memory().saturating_sub(before) < 64 * 1024);
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
