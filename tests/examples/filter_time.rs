//! The time a tcpdump expression takes in the kernel, beyond that of a program that only returns
//! (`BPF_PROG_TEST_RUN`, least of fifteen times 300,000 runs, in turns):
//! `cargo run -p wherefore-tests --example filter_time`, as root.

use std::time::Duration;

use aya::programs::{Program, TestRun as _, TestRunOptions};
use wherefore::backend::{
    Hook, classic,
    ebpf::{Start, Target, bench::Bench, filter::Dialect},
};
use wherefore_tests::{capture, expression::Judge};

const EXPRESSIONS: [&str; 7] = [
    "tcp port 443",
    "udp port 53",
    "host 198.51.100.9",
    "net 198.51.100.0/28",
    "ip6",
    "len > 1000",
    "not (host 192.0.2.1 or host 192.0.2.2 or net 10.0.0.0/8 or port 80 or port 443)",
];

/// An IPv4 frame to a TCP port.
fn tcp(port: u16) -> Vec<u8> {
    let mut frame = capture::frame(1);
    (frame[17], frame[23]) = (52, 6);
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame.resize(66, 0);
    frame
}

/// The whole way of a packet: the expression, and counting behind it.
fn whole() {
    let target = Target { name: "none".into(), index: 1, start: Start::Ethernet };
    for (text, verdict) in [("udp port 53", "accepted"), ("tcp port 443", "rejected")] {
        let mut bench = Bench::new(1 << 10).unwrap();
        let filter = bench.expression(text, std::slice::from_ref(&target), Hook::Xdp).unwrap();
        for name in ["wherefore_out", "wherefore_xdp"] {
            for (programs, what) in [(&bench.ebpf, "alone"), (&filter.programs, verdict)] {
                let frame = capture::frame(1);
                let run = || {
                    let mut options = TestRunOptions::new();
                    options.data_in = Some(&frame);
                    options.repeat = 300_000;
                    match programs.program(name) {
                        Some(Program::SchedClassifier(program)) => {
                            program.test_run(options).unwrap().duration
                        }
                        Some(Program::Xdp(program)) => program.test_run(options).unwrap().duration,
                        _ => panic!("no program {name}"),
                    }
                };
                let least = (0..15).map(|_| run()).min().unwrap();
                println!("{text}, {name}, UDP: {what}, {} ns with counting", least.as_nanos());
            }
        }
    }
}

fn main() {
    whole();
    for text in EXPRESSIONS {
        let program = classic::compile(text, classic::ETHERNET, false).unwrap();
        for dialect in [Dialect::Tc, Dialect::Xdp] {
            let judge = Judge::new(&program, dialect, Start::Ethernet);
            for (what, frame) in [("UDP", capture::frame(1)), ("TCP 443", tcp(443)), ("TCP 5000", tcp(5000))]
            {
                let [mut least, mut empty] = [Duration::MAX; 2];
                for _ in 0..15 {
                    least = least.min(judge.time(&frame, 300_000, false));
                    empty = empty.min(judge.time(&frame, 300_000, true));
                }
                let verdict = if judge.verdict(&frame) == Some(true) { "accepted" } else { "rejected" };
                let more = least.as_nanos() as i128 - empty.as_nanos() as i128;
                println!("{text}, {dialect:?}, {what}: {verdict}, {more} ns beyond {} ns", empty.as_nanos());
            }
        }
    }
}
