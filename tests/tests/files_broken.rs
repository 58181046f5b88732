//! The file backend on captures with faults: at every byte, in every field, noise.

use std::{fs, io::Write as _};

use flate2::{Compression, write::GzEncoder};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tempfile::TempDir;
use wherefore::backend::Error;
use wherefore_tests::{
    capture::{MICROSECONDS, Writer, frame, pcap},
    files::{packets, read, settings, write},
};

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
