//! Intervals that end while several processors send as fast as they can: every packet and byte is in exactly one
//! of them, in its flow.
//!
//! Needs root and eBPF; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use aya::programs::TcAttachType;
use wherefore::{
    backend::{
        Backend as _, Hook, LiveSettings,
        ebpf::{self, bench::Bench},
    },
    snapshot::Snapshot,
};
use wherefore_common::Direction;
use wherefore_tests::{
    PATIENCE, can_load,
    frame::{Frame, Link, UDP, V4, udp},
    pair::{FAR, NEAR, index, namespace, settings},
    program::{Act, Lengthy, Other, Stage},
    tally::Count,
    volley::{Sent, processors, volley},
    wait_until,
};

/// First source port: one a flow.
const FIRST_PORT: u16 = 2000;

/// One frame a flow, to nobody's Ethernet address, of different lengths.
fn frames(flows: u16, [src, dst]: [u8; 2]) -> Vec<Frame> {
    let link = Link { src: [2, 0, 0, 0, 0, src], dst: [2, 0, 0, 0, 0, dst], tags: Vec::new() };
    let [src, dst] = [src, dst].map(|host| Ipv4Addr::new(198, 51, 100, host));
    let frame = |flow| {
        let ports = (FIRST_PORT + flow, 7);
        V4::plain(src, dst, UDP).frame(&link, &udp(ports, usize::from(flow) % 101), ports)
    };
    (0..flows).map(frame).collect()
}

/// What one end of the pair saw of one direction, by flow.
struct Side {
    ifindex: u32,
    direction: Direction,
    flows: Vec<Count>,
    /// All that passed: packets and wire bytes, by the backend's totals.
    passed: (u64, u64),
}

struct Sides([Side; 4]);

impl Sides {
    /// In the order of [`expected`].
    fn new(flows: usize) -> Self {
        let side = |device, direction| Side {
            ifindex: index(device),
            direction,
            flows: vec![Count::default(); flows],
            passed: (0, 0),
        };
        Self([
            side(NEAR, Direction::Egress),
            side(FAR, Direction::Ingress),
            side(FAR, Direction::Egress),
            side(NEAR, Direction::Ingress),
        ])
    }

    /// Adds an interval; returns how many flows it had.
    fn add(&mut self, snapshot: &Snapshot) -> usize {
        assert!(snapshot.unaccounted.is_empty(), "{:?}", snapshot.unaccounted);
        for flow in &snapshot.flows {
            let (key, counters) = (&flow.key, &flow.counters);
            let mut sides = self.0.iter_mut();
            let side = sides.find(|side| side.ifindex == key.ifindex && side.direction == flow.direction());
            let count = &mut side.unwrap().flows[usize::from(key.sport - FIRST_PORT)];
            count.packets += counters.packets;
            count.wire_bytes += counters.wire_bytes;
            count.ip_bytes += counters.ip_bytes;
        }
        for side in &mut self.0 {
            if let Some(passed) = snapshot.passed.get(&(side.ifindex, side.direction as u8)) {
                side.passed.0 += passed.all.packets;
                side.passed.1 += passed.all.wire_bytes;
            }
        }
        snapshot.flows.len()
    }
}

/// What a side must have seen of the frames: all that left, or what was not dropped on the way.
fn expected(frames: &[Frame], sent: &[Sent], arrived: bool) -> Vec<Count> {
    let count = |(frame, sent): (&Frame, &Sent)| {
        let Count { wire_bytes, ip_bytes, .. } = frame.count();
        let packets = sent.left - if arrived { sent.dropped } else { 0 };
        Count { packets, wire_bytes: packets * wire_bytes, ip_bytes: packets * ip_bytes }
    };
    frames.iter().zip(sent).map(count).collect()
}

/// What a side counted and what it must have seen, where they differ.
fn difference(side: &Side, wanted: &[Count]) -> Option<String> {
    let total = |counts: &[Count]| {
        counts.iter().fold((0, 0), |sum, count| (sum.0 + count.packets, sum.1 + count.wire_bytes))
    };
    let mut flows = side.flows.iter().zip(wanted).filter(|(got, wanted)| got != wanted);
    let first = flows.next();
    if first.is_none() && side.passed == total(wanted) {
        return None;
    }
    Some(format!(
        "interface {}, {:?}: packets and bytes of the flows {:?}, of the totals {:?}, sent {:?}; {} flows differ, \
         the first (counted, sent): {first:?}",
        side.ifindex,
        side.direction,
        total(&side.flows),
        side.passed,
        total(wanted),
        flows.count() + usize::from(first.is_some())
    ))
}

/// Intervals that end under fire.
#[derive(Clone, Copy)]
struct Swaps {
    /// How many; those in which nothing was sent are not among them.
    count: usize,
    /// From the start of one to the start of the next; longer where a poll takes longer.
    every: Duration,
}

impl Swaps {
    /// Ends the intervals. The wait is part of what is tested: it is when the next one ends, and stands for no
    /// condition.
    fn end(self, mut poll: impl FnMut() -> bool) {
        let mut begun = Instant::now();
        let (mut under_fire, mut idle) = (0, 0);
        while under_fire < self.count {
            thread::sleep((begun + self.every).saturating_duration_since(Instant::now()));
            begun = Instant::now();
            (under_fire, idle) = if poll() { (under_fire + 1, 0) } else { (under_fire, idle + 1) };
            assert!(idle < 1000, "nothing sent in {idle} intervals on end, after {under_fire} under fire");
        }
    }
}

/// Each test keeps all processors busy: one at a time.
static BUSY: Mutex<()> = Mutex::new(());

fn swaps_lose_and_double_nothing(hook: Hook, flows: u16, swaps: Swaps) {
    if !can_load() {
        return;
    }
    let _alone = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    namespace().run(|| {
        let settings = LiveSettings { table_size: 1 << 17, ..settings(hook) };
        let mut backend = ebpf::start(&settings).unwrap();
        let (witness, mut careless) = (Other::tc(Act::Pass), Other::tc(Act::Pass));
        let _attached = [&witness, &careless].map(|other| other.attach_tcx(NEAR, TcAttachType::Egress));
        let [near, far] = [[1, 2], [3, 4]].map(|hosts| frames(flows, hosts));
        let [near_bytes, far_bytes] =
            [&near, &far].map(|frames| frames.iter().map(|frame| frame.bytes.clone()).collect::<Vec<_>>());
        let mut sides = Sides::new(usize::from(flows));
        let (mut naive, mut lengths, mut last) = (0, Vec::new(), None);
        let [from_near, from_far] = volley([(NEAR, &near_bytes), (FAR, &far_bytes)], || {
            swaps.end(|| {
                let (seen, snapshot) = careless.take_carelessly(|| backend.poll().unwrap().unwrap());
                naive += seen;
                lengths.push(snapshot.length);
                let under_fire = sides.add(&snapshot) > 0;
                last = Some(snapshot);
                under_fire
            });
        });
        naive += careless.seen();
        let wanted = [
            expected(&near, &from_near, false),
            expected(&near, &from_near, true),
            expected(&far, &from_far, false),
            expected(&far, &from_far, true),
        ];
        // What is still on its way between the devices comes in later intervals; the last one is empty.
        let mut rest = usize::MAX;
        for _ in 0..100 {
            rest = sides.add(&backend.poll().unwrap().unwrap());
            if rest == 0 {
                break;
            }
        }
        assert_eq!(rest, 0, "packets without end");
        let differences = |sides: &Sides| -> Vec<String> {
            sides.0.iter().zip(&wanted).filter_map(|(side, wanted)| difference(side, wanted)).collect()
        };
        let found = differences(&sides);
        assert!(found.is_empty(), "{hook:?}: {found:#?}");
        let left: u64 = from_near.iter().map(|sent| sent.left).sum();
        assert_eq!(witness.seen(), left, "packets that the sockets sent");
        // Or nothing was tested: whoever reads, and clears what was read, misses packets in between.
        assert!(naive < left, "not one of {left} packets came between reading and clearing a counter");
        let all: u64 = wanted.iter().flatten().map(|count| count.packets).sum();
        let (longest, whole) = (lengths.iter().max().unwrap(), lengths.iter().sum::<Duration>());
        println!(
            "{hook:?}, {flows} flows from each end, {} processors: {all} packets counted, each at both ends, in \
             {whole:.1?}, {:.0} a second; {} intervals of {:.0?}, the longest {longest:.0?}; {} packets lost by a \
             careless counter",
            processors().len(),
            all as f64 / whole.as_secs_f64(),
            lengths.len(),
            whole / lengths.len() as u32,
            left - naive
        );
        // And one interval too many would have been seen.
        sides.add(&last.unwrap());
        assert!(!differences(&sides).is_empty(), "an interval counted twice is not seen");
    });
}

/// A program may be between reading which set of tables counts and counting; an interval is not over before every
/// program that ran at its end has ended. At full speed that gap is some 100 ns, too little to be hit by chance.
#[test]
fn an_interval_waits_for_the_programs_that_still_run() {
    if !can_load() {
        return;
    }
    let mut bench = Bench::new(64).unwrap();
    for _ in 0..3 {
        let lengthy = Lengthy::new();
        assert_eq!(lengthy.stage(), Stage::Before);
        thread::scope(|scope| {
            scope.spawn(|| lengthy.run());
            wait_until("the program to begin", PATIENCE, || lengthy.stage() != Stage::Before);
            bench.poll().unwrap();
            assert_eq!(lengthy.stage(), Stage::After, "handed over while a program ran");
        });
    }
}

/// A module for a hook; in it tests for few flows and for many.
macro_rules! at_hook {
    ($name:ident, $hook:expr) => {
        mod $name {
            use super::*;

            const EVERY: Duration = Duration::from_millis(100);

            #[test]
            fn a_hundred_intervals_of_few_flows_lose_and_double_nothing() {
                swaps_lose_and_double_nothing($hook, 4, Swaps { count: 100, every: EVERY });
            }

            #[test]
            fn a_hundred_intervals_of_many_flows_lose_and_double_nothing() {
                swaps_lose_and_double_nothing($hook, 20_000, Swaps { count: 100, every: EVERY });
            }

            #[test]
            fn intervals_back_to_back_lose_and_double_nothing() {
                for (flows, count) in [(4, 30), (20_000, 5)] {
                    swaps_lose_and_double_nothing($hook, flows, Swaps { count, every: Duration::ZERO });
                }
            }
        }
    };
}

// The native XDP program counts at ingress; egress is a TCX program's there.
at_hook!(tcx, Hook::Tc);
at_hook!(clsact, Hook::Clsact);
at_hook!(xdp, Hook::Xdp);
