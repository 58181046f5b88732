//! Few flows are taken out of the flow table by their keys, many by looking through it: either way all of them, and
//! nothing is left for a later interval.
//!
//! Needs root and eBPF.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{collections::BTreeMap, net::Ipv4Addr, ops::Range};

use aya::programs::{Program, TestRun as _, TestRunOptions};
use wherefore::backend::ebpf::bench::{Bench, Features};
use wherefore_common::tables::{PLACES_A_KEY, journal_slots};
use wherefore_tests::{
    can_load,
    frame::{Link, UDP, V4, udp},
    volley::{pin, processors},
};

/// Room for so many that [`FEW`] keys, on all processors together, are still taken one by one.
const ROOM: u32 = 1 << 17;
const FEW: u16 = (ROOM / PLACES_A_KEY) as u16;
const PROGRAM: &str = "wherefore_in";

/// Sends a datagram of each of the flows through the program, on one processor.
fn send(bench: &Bench, processor: usize, flows: Range<u16>) {
    pin(processor);
    let link = Link { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2], tags: Vec::new() };
    let [src, dst] = [1, 2].map(|host| Ipv4Addr::new(198, 51, 100, host));
    for flow in flows {
        let ports = (1 + flow, 7);
        let frame = V4::plain(src, dst, UDP).frame(&link, &udp(ports, 10), ports);
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame.bytes);
        match bench.ebpf.program(PROGRAM) {
            Some(Program::SchedClassifier(program)) => program.test_run(options).unwrap(),
            _ => panic!("no program {PROGRAM}"),
        };
    }
}

#[test]
fn every_flow_of_the_table_is_taken_whether_few_or_many() {
    if !can_load() {
        return;
    }
    // Every packet goes to the table.
    let features = Features { cache: false, ..Features::default() };
    let mut bench = Bench::with(ROOM, &features).unwrap();
    bench.load(PROGRAM).unwrap();
    let beyond = 2 * (journal_slots(ROOM) as u16 + 100);
    let processors = processors();
    let (first, last) = (processors[0], processors[processors.len() - 1]);
    // Both sets in turn, each with many before few and few before none.
    for flows in [1, 2, FEW, FEW + 1, beyond, beyond, 3, 5, 0, 0, 7] {
        let half = flows / 2;
        send(&bench, first, 0..half);
        send(&bench, last, half..flows);
        // Again, the other way round: a flow is noted once.
        send(&bench, last, 0..half);
        send(&bench, first, half..flows);
        let snapshot = bench.poll().unwrap();
        let counted = snapshot.flows.iter().map(|flow| (flow.key.sport - 1, flow.counters.packets));
        let counted: BTreeMap<_, _> = counted.collect();
        assert_eq!(counted, (0..flows).map(|flow| (flow, 2)).collect(), "{flows} flows");
        assert_eq!(snapshot.flows.len(), usize::from(flows), "a flow comes once");
        assert!(snapshot.imbalance().is_empty(), "{:?}", snapshot.imbalance());
    }
}
