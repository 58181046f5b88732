//! The kernel programs and the user-space parser give the same answer for the same frame.
//!
//! Needs root and eBPF, and reads the captures of ../shared where they are.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{collections::BTreeMap, path::PathBuf};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use wherefore::backend::ebpf::bench::Bench;
use wherefore_common::{
    Amount, Direction, FlowKey, UnaccountedKey,
    offload::{self, Offload},
    parse::{self, Parsed, Slice},
};
use wherefore_tests::{Random, can_load, stacked::stacked};

/// The loopback device, which test runs pretend to come from.
const IFINDEX: u32 = 1;

/// Bytes that certainly fit one page with headroom and trailer.
const XDP_BUFFER: usize = 3000;

/// Packets, wire bytes and IP bytes of each flow; packets and bytes without one.
type Counted = (BTreeMap<FlowKey, (u64, u64, u64)>, BTreeMap<UnaccountedKey, Amount>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Ingress,
    Egress,
    IngressIp,
    Xdp,
}

impl Which {
    const ALL: [Self; 4] = [Self::Ingress, Self::Egress, Self::IngressIp, Self::Xdp];

    const fn program(self) -> &'static str {
        match self {
            Self::Ingress => "wherefore_in",
            Self::Egress => "wherefore_out",
            Self::IngressIp => "wherefore_inip",
            Self::Xdp => "wherefore_xdp",
        }
    }

    fn parse(self, frame: &[u8]) -> Result<Parsed, wherefore_common::Reason> {
        if self == Self::IngressIp { parse::ip(&Slice(frame), 0) } else { parse::ethernet(&Slice(frame)) }
    }

    const fn direction(self) -> Direction {
        if matches!(self, Self::Egress) { Direction::Egress } else { Direction::Ingress }
    }
}

struct Kernel {
    bench: Bench,
    refused: BTreeMap<i32, usize>,
    run: usize,
}

impl Kernel {
    fn new() -> Self {
        let mut bench = Bench::new(1 << 16).unwrap();
        for which in Which::ALL {
            bench.load(which.program()).unwrap();
        }
        Self { bench, refused: BTreeMap::new(), run: 0 }
    }

    /// Runs a program on a frame; false where the kernel does not take the frame for a test run.
    fn run(&mut self, which: Which, frame: &[u8]) -> bool {
        // A longer one would be spread over several buffers, which the kernel never hands to a program
        // that did not ask for them; in a test run it does.
        if which == Which::Xdp && frame.len() > XDP_BUFFER {
            *self.refused.entry(0).or_default() += 1;
            return false;
        }
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        let program = self.bench.ebpf.program(which.program()).unwrap();
        let result = if which == Which::Xdp {
            let program: &Xdp = program.try_into().unwrap();
            program.test_run(options)
        } else {
            let program: &SchedClassifier = program.try_into().unwrap();
            program.test_run(options)
        };
        match result {
            Ok(result) => {
                let pass = if which == Which::Xdp { 2 } else { u32::MAX };
                assert_eq!(result.return_value, pass, "{which:?} decided over a packet");
                self.run += 1;
                true
            }
            Err(error) => {
                let code = wherefore::backend::probe::os_error(&error).unwrap_or(0);
                *self.refused.entry(code).or_default() += 1;
                false
            }
        }
    }

    fn counted(&mut self) -> Counted {
        let snapshot = self.bench.poll().unwrap();
        let mut flows = BTreeMap::new();
        for flow in snapshot.flows {
            let counters = flow.counters;
            assert!(counters.first_ns <= counters.last_ns);
            let old = flows.insert(flow.key, (counters.packets, counters.wire_bytes, counters.ip_bytes));
            assert_eq!(old, None, "a key came twice");
        }
        (flows, snapshot.unaccounted)
    }
}

/// What the user-space parser says of the same frames.
fn expected(which: Which, frame: &[u8], counted: &mut Counted) {
    let direction = which.direction() as u8;
    let offload = Offload { len: frame.len() as u32, ..Offload::default() };
    match which.parse(frame) {
        Ok(parsed) => {
            let key = FlowKey {
                src: parsed.src,
                dst: parsed.dst,
                ifindex: IFINDEX,
                sport: parsed.sport,
                dport: parsed.dport,
                proto: parsed.proto,
                family: parsed.family,
                direction,
                pad: [0; 5],
            };
            let size = offload::plain(&offload, &parsed);
            let sums = counted.0.entry(key).or_default();
            sums.0 += 1;
            sums.1 += u64::from(size.wire_bytes);
            sums.2 += u64::from(size.ip_bytes);
        }
        Err(reason) => {
            let key = UnaccountedKey::new(IFINDEX, direction, reason as u8);
            let amount = Amount { packets: 1, wire_bytes: u64::from(offload.len) };
            counted.1.entry(key).or_default().add(&amount);
        }
    }
}

/// Runs all frames through all programs and compares; looks for the frame at fault where they differ.
fn compare(kernel: &mut Kernel, frames: &[Vec<u8>], name: &str) {
    for which in Which::ALL {
        let mut want = Counted::default();
        let mut ran = Vec::new();
        for frame in frames {
            if kernel.run(which, frame) {
                expected(which, frame, &mut want);
                ran.push(frame);
            }
        }
        let got = kernel.counted();
        if got == want {
            continue;
        }
        for frame in ran {
            let mut want = Counted::default();
            kernel.run(which, frame);
            expected(which, frame, &mut want);
            let got = kernel.counted();
            assert_eq!(got, want, "{name}, {which:?}, frame {frame:02x?}");
        }
        panic!("{name}, {which:?}: the sums differ, but no single frame does");
    }
}

fn captures() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures/pcap");
    path.is_dir().then_some(path)
}

/// The Ethernet frames of a capture, cut where the kernel takes no more for a test run.
fn frames(path: &std::path::Path) -> Vec<Vec<u8>> {
    let Ok(mut capture) = pcap::Capture::from_file(path) else { return Vec::new() };
    if capture.get_datalink() != pcap::Linktype::ETHERNET {
        return Vec::new();
    }
    let mut frames = Vec::new();
    while let Ok(packet) = capture.next_packet() {
        frames.push(packet.data.to_vec());
    }
    frames
}

fn all_captures() -> Vec<(String, Vec<Vec<u8>>)> {
    let Some(folder) = captures() else {
        println!("skipped: no captures in ../shared");
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let frames = frames(&path);
        if !frames.is_empty() {
            found.push((path.file_name().unwrap().to_string_lossy().into_owned(), frames));
        }
    }
    found.sort();
    found
}

#[test]
fn every_captured_frame_is_counted_alike() {
    if !can_load() {
        return;
    }
    let mut kernel = Kernel::new();
    let captures = all_captures();
    let mut total = 0;
    for (name, frames) in &captures {
        total += frames.len();
        compare(&mut kernel, frames, name);
    }
    println!(
        "{total} frames of {} captures, {} runs; not run, by the kernel's error number (0: too long for XDP): {:?}",
        captures.len(),
        kernel.run,
        kernel.refused
    );
    assert!(captures.is_empty() || kernel.run > total, "hardly anything ran");
}

#[test]
fn mutated_frames_are_counted_alike() {
    if !can_load() {
        return;
    }
    let mut kernel = Kernel::new();
    let mut random = Random::new(20_260_101);
    let mut seeds: Vec<Vec<u8>> = all_captures().into_iter().flat_map(|(_, frames)| frames).collect();
    seeds.retain(|frame| frame.len() < 3000);
    let mut frames = Vec::new();
    for turn in 0..40_000 {
        let mut frame = if turn % 2 == 0 || seeds.is_empty() {
            stacked(&mut random)
        } else {
            seeds[random.below(seeds.len())].clone()
        };
        frame.resize(frame.len().max(15), 0);
        for _ in 0..random.below(4) {
            let at = random.below(frame.len().min(80));
            frame[at] = random.next() as u8;
        }
        if random.below(4) == 0 {
            frame.truncate(14 + random.below(frame.len()));
        }
        frames.push(frame);
    }
    for (i, chunk) in frames.chunks(5_000).enumerate() {
        compare(&mut kernel, chunk, &format!("mutations {i}"));
    }
    println!(
        "{} runs; not run, by the kernel's error number (0: too long for XDP): {:?}",
        kernel.run, kernel.refused
    );
}
