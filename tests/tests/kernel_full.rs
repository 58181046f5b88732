//! More flows than the table holds: what has no flow is counted by interface, direction and protocol, and nothing
//! is missing.
//!
//! Needs root and eBPF; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{collections::BTreeMap, net::Ipv4Addr, ops::AddAssign};

use aya::programs::TcAttachType;
use wherefore::{
    backend::{Backend as _, Hook, LiveSettings, ebpf},
    snapshot::Snapshot,
};
use wherefore_common::{Direction, Reason};
use wherefore_tests::{
    Netns, PATIENCE, can_load, device,
    frame::{Frame, Link, TCP, UDP, V4, tcp, udp},
    pair::{FAR, NEAR, namespace, settings},
    program::{Act, Other},
    traffic::send_frames,
    wait_until,
};

/// Flows of one group from each end, one half TCP, the other UDP. Each is seen at both ends.
const GROUP: u16 = 64;
/// One group, from both ends, fills the table.
const ROOM: u32 = 4 * GROUP as u32;
/// One that is there first, and four times as many flows as the table holds.
const GROUPS: u16 = 5;

/// Packets and wire bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount(u64, u64);

impl AddAssign for Amount {
    fn add_assign(&mut self, more: Self) {
        self.0 += more.0;
        self.1 += more.1;
    }
}

/// Interface, direction, protocol.
type Place = (u32, u8, u8);

/// The flows of a group that one end sends.
fn frames(group: u16, end: u8) -> Vec<Frame> {
    let link = Link { src: [2, 0, 0, 0, 0, end], dst: [2, 0, 0, 0, 0, 9], tags: Vec::new() };
    let [src, dst] = [end, 99].map(|host| Ipv4Addr::new(198, 51, 100, host));
    let frame = |number: u16| {
        let ports = (1000 + group * GROUP + number, 80);
        let (proto, payload) = match number % 2 {
            0 => (TCP, tcp(ports, usize::from(number))),
            _ => (UDP, udp(ports, usize::from(number))),
        };
        V4::plain(src, dst, proto).frame(&link, &payload, ports)
    };
    (0..GROUP).map(frame).collect()
}

/// The pair, with counters of somebody else's that tell when all has arrived.
struct Pair {
    netns: Netns,
    /// By sending end: its device, the other end's counter, and how many it has to have seen.
    ends: [(&'static str, Other, u64); 2],
    /// By sending end, interfaces and directions that see it.
    seen_by: [[(u32, Direction); 2]; 2],
    expected: BTreeMap<Place, Amount>,
}

impl Pair {
    /// Sends each frame of a group `times` from both ends and waits until all have arrived.
    fn send(&mut self, group: u16, times: u64) {
        for end in 0..2 {
            let frames = frames(group, end as u8);
            for _ in 0..times {
                let (device, other, wanted) = &mut self.ends[end];
                send_frames(&self.netns, device, &frames);
                *wanted += frames.len() as u64;
                wait_until("the frames to arrive", PATIENCE, || other.seen() >= *wanted);
            }
            for frame in &frames {
                let (key, count) = (frame.key(Direction::Egress), frame.count());
                for (ifindex, direction) in self.seen_by[end] {
                    let sum = self.expected.entry((ifindex, direction as u8, key.proto)).or_default();
                    *sum += Amount(times * count.packets, times * count.wire_bytes);
                }
            }
        }
    }
}

/// Sums of flows, and of packets without one.
fn sums(snapshot: &Snapshot) -> [BTreeMap<Place, Amount>; 2] {
    let mut sums: [BTreeMap<Place, Amount>; 2] = Default::default();
    for flow in &snapshot.flows {
        let (key, counters) = (flow.key, flow.counters);
        let place = (key.ifindex, key.direction, key.proto);
        *sums[0].entry(place).or_default() += Amount(counters.packets, counters.wire_bytes);
    }
    for (key, amount) in &snapshot.unaccounted {
        assert_eq!(key.reason, Reason::TableFull as u8, "{key:?}");
        let place = (key.ifindex, key.direction, key.proto);
        *sums[1].entry(place).or_default() += Amount(amount.packets, amount.wire_bytes);
    }
    sums
}

fn a_full_table_loses_nothing(hook: Hook) {
    if !can_load() {
        return;
    }
    let netns = namespace();
    let settings = LiveSettings { table_size: ROOM, ..settings(hook) };
    let mut backend = netns.run(|| ebpf::start(&settings).unwrap());
    let others = [(); 2].map(|()| Other::tc(Act::Pass));
    let _attached = netns.run(|| {
        let ends = others.iter().zip([FAR, NEAR]);
        ends.map(|(other, end)| other.attach_tcx(end, TcAttachType::Ingress)).collect::<Vec<_>>()
    });
    let [near, far] = [NEAR, FAR].map(|name| device::index(&netns, name));
    let [at_far, at_near] = others;
    let mut pair = Pair {
        netns,
        ends: [(NEAR, at_far, 0), (FAR, at_near, 0)],
        seen_by: [
            [(near, Direction::Egress), (far, Direction::Ingress)],
            [(far, Direction::Egress), (near, Direction::Ingress)],
        ],
        expected: BTreeMap::new(),
    };
    // Each turn other flows are the first; what one interval held is no matter to the next.
    for first in 0..GROUPS {
        pair.expected.clear();
        pair.send(first, 1);
        for group in (0..GROUPS).filter(|group| *group != first) {
            pair.send(group, 2);
        }
        pair.send(first, 1);
        let snapshot = backend.poll().unwrap().unwrap();
        let what = format!("{hook:?}, turn {first}");
        assert!(snapshot.flows.len() <= ROOM as usize, "{what}: {} flows", snapshot.flows.len());
        let [mut all, without] = sums(&snapshot);
        assert_eq!(without.len(), 8, "{what}, two ends, two ways, two protocols: {without:?}");
        // Every flow is seen at both ends.
        let flows = 2 * 2 * u64::from(GROUP * GROUPS);
        let lost = flows - snapshot.flows.len() as u64;
        let estimate = snapshot.lost.estimate();
        assert!(estimate.abs_diff(lost) <= lost / 10, "{what}: {estimate} flows lost, not {lost}");
        for (place, amount) in &without {
            *all.entry(*place).or_default() += *amount;
        }
        assert_eq!(all, pair.expected, "{what}");
        for ((ifindex, direction), passed) in &snapshot.passed {
            let places = pair.expected.iter();
            let mut wanted = Amount::default();
            let places = places.filter(|(place, _)| (place.0, place.1) == (*ifindex, *direction));
            places.for_each(|(_, amount)| wanted += *amount);
            assert_eq!(Amount(passed.all.packets, passed.all.wire_bytes), wanted, "{what}: totals");
        }
        let total = snapshot.total();
        let mut wanted = Amount::default();
        pair.expected.values().for_each(|amount| wanted += *amount);
        assert_eq!(Amount(total.packets, total.wire_bytes), wanted, "{what}");
    }
}

#[test]
fn a_full_table_loses_nothing_tcx() {
    a_full_table_loses_nothing(Hook::Tc);
}

#[test]
fn a_full_table_loses_nothing_clsact() {
    a_full_table_loses_nothing(Hook::Clsact);
}

#[test]
fn a_full_table_loses_nothing_xdp() {
    a_full_table_loses_nothing(Hook::Xdp);
}
