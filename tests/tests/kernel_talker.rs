//! A flow that was there before a scan of other flows filled the table stays a flow, with all its packets.
//!
//! Needs root and eBPF; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::net::Ipv4Addr;

use wherefore::backend::{Backend, Hook, LiveSettings, ebpf};
use wherefore_common::{
    Direction, FlowKey, Reason,
    cache::{PRESSURE_MOST, PROBE, STRIKES, hash},
};
use wherefore_tests::{
    Netns, can_load, device,
    frame::{Frame, Link, UDP, V4, udp},
    pair::{NEAR, namespace, only},
    traffic::send_frames_here,
    volley::{pin, processors},
};

/// Flows of the table.
const ROOM: u16 = 1024;
/// Places of a processor's cache, as a power of two, where that is not made smaller for many processors. Flows that
/// share a place among so many share it among fewer.
const CACHE_BITS: u32 = 12;
/// More than one processor's cache and the table hold.
const SCAN: u16 = (1 << CACHE_BITS) + 2 * ROOM;
/// Flows at the talker's place: two that hold it and the one beside it before, and as many as it takes to end a flow's
/// hold on it.
const STRIKERS: usize = 2 + STRIKES as usize;

const TALKER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SCANNER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// A datagram to nobody.
fn frame(src: Ipv4Addr, ports: (u16, u16), bytes: usize) -> Frame {
    let link = Link { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 9], tags: Vec::new() };
    let dst = Ipv4Addr::new(198, 51, 100, 99);
    V4::plain(src, dst, UDP).frame(&link, &udp(ports, bytes), ports)
}

/// The first place of a frame's flow in a cache when it leaves an interface.
fn place(frame: &Frame, ifindex: u32) -> u64 {
    let key = frame.key(Direction::Egress);
    let mapped = |address| match address {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    let key = FlowKey {
        src: mapped(key.src),
        dst: mapped(key.dst),
        ifindex,
        sport: key.sport,
        dport: key.dport,
        proto: key.proto,
        family: 4,
        direction: Direction::Egress as u8,
        ..FlowKey::default()
    };
    hash(&key.words()) >> (64 - CACHE_BITS)
}

/// One interval, and what is sent in it.
struct Interval {
    netns: Netns,
    backend: Box<dyn Backend>,
    talk: Frame,
    /// Flows elsewhere than at the talker's two places.
    scan: Vec<Frame>,
    /// Flows whose first place is the talker's. All but the first two strike, in turn.
    strikers: Vec<Frame>,
    talked: u64,
    sent: u64,
}

impl Interval {
    fn new() -> Self {
        let netns = namespace();
        let settings = LiveSettings { table_size: ROOM.into(), ..only(NEAR, Hook::Tc) };
        let backend = Box::new(netns.run(|| ebpf::start(&settings).unwrap()));
        let ifindex = device::index(&netns, NEAR);
        let talk = frame(TALKER, (1000, 53), 100);
        let at = place(&talk, ifindex);
        let scan = (0..=u16::MAX).map(|port| frame(SCANNER, (port, 53), 0));
        let scan = scan.filter(|frame| place(frame, ifindex) >> 1 != at >> 1).take(SCAN.into()).collect();
        let others = (54..).flat_map(|to| (0..=u16::MAX).map(move |port| frame(SCANNER, (port, to), 0)));
        let strikers: Vec<_> = others.filter(|frame| place(frame, ifindex) == at).take(STRIKERS).collect();
        Self { netns, backend, talk, scan, strikers, talked: 0, sent: 0 }
    }

    fn send(&mut self, on: usize, frames: &[Frame]) {
        self.netns.run(|| {
            pin(on);
            send_frames_here(NEAR, frames);
        });
        self.sent += frames.len() as u64;
    }

    /// Packets of the talker.
    fn talk(&mut self, on: usize, packets: usize) {
        self.send(on, &vec![self.talk.clone(); packets]);
        self.talked += packets as u64;
    }

    /// Fills the cache and the table.
    fn scan(&mut self, on: usize) {
        self.send(on, &self.scan.clone());
    }

    /// A packet of each striker: where the table has room, all are in it, and two have the places at the talker's.
    fn introduce(&mut self, on: usize) {
        self.send(on, &self.strikers.clone());
    }

    /// So many strikes against the talker's place.
    fn strike(&mut self, on: usize, strikes: u32) {
        let strikers = self.strikers[2..].iter().cycle().take(strikes as usize).cloned();
        self.send(on, &strikers.collect::<Vec<_>>());
    }

    /// Talker and strikers are in the table, which is full; the talker has its place, and packets ask the cache first,
    /// for which it must be found there often enough.
    fn settle(&mut self, on: usize) {
        self.talk(on, 1);
        // It keeps its place, and had it no entry in the table it would get none.
        for half in self.strikers.clone().chunks(STRIKERS / 2) {
            self.send(on, half);
            self.talk(on, 1);
        }
        self.scan(on);
        self.talk(on, (PRESSURE_MOST * PROBE) as usize);
    }

    /// The talker is a flow with all its packets, and what others had no room is all counted.
    fn end(mut self) {
        let snapshot = self.backend.poll().unwrap().unwrap();
        assert!(snapshot.imbalance().is_empty(), "{:?}", snapshot.imbalance());
        assert_eq!(snapshot.total().packets, self.sent);
        let full = snapshot.unaccounted.iter().filter(|(key, _)| key.reason == Reason::TableFull as u8);
        assert!(full.map(|(_, amount)| amount.packets).sum::<u64>() > 0, "the table was not full");
        let flow = snapshot.flows.iter().find(|flow| flow.src() == TALKER);
        let counted = flow.map(|flow| (flow.counters.packets, flow.counters.wire_bytes));
        let wanted = (self.talked, self.talked * self.talk.count().wire_bytes);
        assert_eq!(counted, Some(wanted), "packets and bytes of the talker");
    }
}

/// Nobody else comes to its place: the cache has all of it, also where packets ask the table first.
#[test]
fn a_talker_that_the_cache_holds_stays_a_flow() {
    if !can_load() {
        return;
    }
    let on = processors()[0];
    let mut interval = Interval::new();
    interval.talk(on, 1);
    interval.scan(on);
    interval.talk(on, 100);
    interval.end();
}

/// Others come to its place, but never so many in a row that it must give way.
#[test]
fn a_talker_that_is_struck_and_holds_on_stays_a_flow() {
    if !can_load() {
        return;
    }
    let on = processors()[0];
    let mut interval = Interval::new();
    interval.settle(on);
    for _ in 0..8 {
        interval.strike(on, STRIKES - 1);
        interval.talk(on, 1);
    }
    interval.end();
}

/// It had to give way while there was room in the table.
#[test]
fn a_talker_that_gave_way_before_the_table_was_full_stays_a_flow() {
    if !can_load() {
        return;
    }
    let on = processors()[0];
    let mut interval = Interval::new();
    interval.talk(on, 1);
    interval.introduce(on);
    interval.scan(on);
    for _ in 0..6 {
        interval.talk(on, 3);
        interval.strike(on, STRIKES + 1);
        interval.talk(on, 30);
    }
    interval.end();
}

/// It has to give way when there is no room in the table any more.
#[test]
fn a_talker_that_is_struck_out_when_the_table_is_full_stays_a_flow() {
    if !can_load() {
        return;
    }
    let on = processors()[0];
    let mut interval = Interval::new();
    interval.settle(on);
    for _ in 0..6 {
        interval.strike(on, STRIKES + 1);
        interval.talk(on, 3 + STRIKES as usize);
    }
    interval.end();
}

/// The cache of one processor holds it; on another others hold its places, and the table takes no new flow.
#[test]
fn a_talker_that_comes_to_another_processor_when_the_table_is_full_stays_a_flow() {
    if !can_load() {
        return;
    }
    let processors = processors();
    let [first, last] = [processors[0], processors[processors.len() - 1]];
    let mut interval = Interval::new();
    interval.talk(first, 1);
    interval.introduce(last);
    interval.scan(first);
    interval.talk(last, 100);
    interval.talk(first, 100);
    interval.end();
}

/// A flow talks while a scan brings four times more flows than the table holds.
fn a_talker_stays_a_flow(talk_on: usize, scan_on: usize) {
    /// More than the caches of all processors hold.
    const ROOM: u16 = 12_000;
    /// Packets of the scan between two of the talker.
    const BETWEEN: usize = 1000;
    let netns = namespace();
    let settings = LiveSettings { table_size: ROOM.into(), ..only(NEAR, Hook::Tc) };
    let mut backend = netns.run(|| ebpf::start(&settings).unwrap());
    let link = Link { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 9], tags: Vec::new() };
    let talker = Ipv4Addr::new(198, 51, 100, 1);
    let frame = |src, port| {
        let dst = Ipv4Addr::new(198, 51, 100, 99);
        V4::plain(src, dst, UDP).frame(&link, &udp((port, 53), 100), (port, 53))
    };
    let talk = [frame(talker, 1000)];
    let scan: Vec<_> = (0..4 * ROOM).map(|port| frame(Ipv4Addr::new(198, 51, 100, 2), port)).collect();
    let mut sent = 0;
    netns.run(|| {
        for part in scan.chunks(BETWEEN) {
            for (processor, frames) in [(talk_on, &talk[..]), (scan_on, part)] {
                pin(processor);
                send_frames_here(NEAR, frames);
            }
            sent += 1;
        }
    });
    let snapshot = backend.poll().unwrap().unwrap();
    assert_eq!(snapshot.total().packets, sent + u64::from(4 * ROOM));
    let found = snapshot.flows.iter().find(|flow| flow.src() == talker);
    assert_eq!(found.map(|flow| flow.counters.packets), Some(sent), "packets of the talker");
}

#[test]
fn a_talker_on_the_processor_of_a_scan_stays_a_flow() {
    if can_load() {
        let first = processors()[0];
        a_talker_stays_a_flow(first, first);
    }
}

#[test]
fn a_talker_on_another_processor_than_a_scan_stays_a_flow() {
    if can_load() {
        let processors = processors();
        a_talker_stays_a_flow(processors[0], processors[processors.len() - 1]);
    }
}
