//! The time a packet takes in each kernel program (`BPF_PROG_TEST_RUN`, least of nine times 300,000 runs):
//! `cargo run -p wherefore-tests --example packet_time`, as root.

use std::time::Duration;

use aya::programs::{Program, TestRun as _, TestRunOptions};
use wherefore::backend::ebpf::bench::Bench;

/// An IPv4 or IPv6 frame with a UDP datagram behind the given tags.
fn frame(tags: &[u16], v6: bool) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 30, 17, 64]);
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    } else {
        frame.extend([8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    }
    frame.extend([0, 9, 0x10, 0x04, 0, 30, 0, 0]);
    frame.resize(frame.len() + 22, 0);
    frame
}

fn nanoseconds(program: &Program, frame: &[u8], repeat: u32) -> Duration {
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.repeat = repeat;
    match program {
        Program::SchedClassifier(program) => program.test_run(options).unwrap().duration,
        Program::Xdp(program) => program.test_run(options).unwrap().duration,
        other => panic!("a program of type {:?}", other.prog_type()),
    }
}

fn main() {
    let mut bench = Bench::new(1 << 10).unwrap();
    let frames = [
        ("IPv4", frame(&[], false)),
        ("VLAN, IPv4", frame(&[0x8100], false)),
        ("two tags, IPv4", frame(&[0x88a8, 0x8100], false)),
        ("IPv6", frame(&[], true)),
    ];
    for name in ["wherefore_in", "wherefore_out", "wherefore_xdp"] {
        let program = bench.load(name).unwrap();
        for (what, frame) in &frames {
            let least = (0..9).map(|_| nanoseconds(program, frame, 300_000)).min().unwrap();
            println!("{name}, {what}: {} ns", least.as_nanos());
        }
    }
}
