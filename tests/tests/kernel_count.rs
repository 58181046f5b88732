//! Counting on real devices: exact across swaps and under offload, nothing lost in a full table.
//!
//! Needs root, eBPF and iproute2; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use wherefore::{
    backend::{Backend as _, Hook, ebpf},
    snapshot::Snapshot,
};
use wherefore_common::{Amount, Direction, Reason};
use wherefore_tests::{
    can_load,
    pair::{HEADERS, NEAR, far, index, namespace, only, segment, settings, socket, tc},
};

/// Packets, wire bytes and IP bytes of UDP flows to `port` in one direction.
fn sums(snapshot: &Snapshot, direction: Direction, port: u16) -> [u64; 3] {
    let mut sums = [0; 3];
    for flow in &snapshot.flows {
        if flow.direction() == direction && flow.key.dport == port && flow.key.proto == 17 {
            assert!(flow.counters.first_ns <= flow.counters.last_ns);
            assert!((snapshot.start.0..=snapshot.end.0).contains(&flow.counters.first_ns));
            let counters = flow.counters;
            for (sum, value) in
                sums.iter_mut().zip([counters.packets, counters.wire_bytes, counters.ip_bytes])
            {
                *sum += value;
            }
        }
    }
    sums
}

fn add(total: &mut [u64; 3], more: [u64; 3]) {
    for (total, more) in total.iter_mut().zip(more) {
        *total += more;
    }
}

/// Single datagrams of 22 bytes and trains of 40 datagrams of 1,000 bytes and one of 500, sent while
/// intervals end all the time; every one is found, at both ends.
fn counts_exactly(hook: Hook, trains: bool, description: &str) {
    if !can_load() {
        return;
    }
    let description = description.to_owned();
    namespace().run(move || {
        let mut backend = ebpf::start(&settings(hook)).unwrap();
        assert!(backend.description().watched.iter().all(|watched| watched.hook == description));
        let done = Arc::new(AtomicBool::new(false));
        let sender = {
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                let (single, train) = (socket().unwrap(), socket().unwrap());
                segment(&train, 1000).unwrap();
                for _ in 0..400 {
                    for _ in 0..50 {
                        single.send_to(&[0; 22], far(1001)).unwrap();
                    }
                    if trains {
                        train.send_to(&[0; 40_500], far(1002)).unwrap();
                    }
                }
                done.store(true, Ordering::Release);
            })
        };
        let (mut out, mut inn, mut out_trains, mut in_trains) = ([0; 3], [0; 3], [0; 3], [0; 3]);
        let mut polls = 0;
        // One more after the sender has ended holds the rest: veth delivers in a softirq of the sender.
        let mut last = false;
        while !last {
            last = done.load(Ordering::Acquire);
            let snapshot = backend.poll().unwrap().unwrap();
            assert!(snapshot.imbalance().is_empty(), "{:?}", snapshot.imbalance());
            add(&mut out, sums(&snapshot, Direction::Egress, 1001));
            add(&mut inn, sums(&snapshot, Direction::Ingress, 1001));
            add(&mut out_trains, sums(&snapshot, Direction::Egress, 1002));
            add(&mut in_trains, sums(&snapshot, Direction::Ingress, 1002));
            polls += 1;
        }
        sender.join().unwrap();
        // What was still queued between the devices then.
        let rest = backend.stop().unwrap().unwrap();
        add(&mut inn, sums(&rest, Direction::Ingress, 1001));
        add(&mut in_trains, sums(&rest, Direction::Ingress, 1002));
        assert!(polls > 2, "only {polls} swaps while packets flowed");
        let expected = [20_000, 20_000 * (22 + HEADERS), 20_000 * (22 + HEADERS - 14)];
        assert_eq!([out, inn], [expected; 2], "{description}: single datagrams, {polls} swaps");
        if trains {
            let payload = 400 * 40_500;
            let expected = [400 * 41, payload + 400 * 41 * HEADERS, payload + 400 * 41 * (HEADERS - 14)];
            assert_eq!([out_trains, in_trains], [expected; 2], "{description}: segmented trains");
        }
        assert!(!tc("qdisc show").contains("clsact"), "a qdisc was left");
    });
}

#[test]
fn tcx_counts_exactly_across_swaps_and_segmentation() {
    counts_exactly(Hook::Tc, true, "tcx");
}

#[test]
fn clsact_counts_exactly_across_swaps_and_segmentation() {
    counts_exactly(Hook::Clsact, true, "clsact");
}

#[test]
fn native_xdp_counts_exactly_across_swaps() {
    // Trains would be cut before XDP sees them or not, as the kernel's version has it.
    counts_exactly(Hook::Xdp, false, "xdp+tcx");
}

#[test]
fn a_full_table_loses_nothing() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let mut settings = only(NEAR, Hook::Tc);
        settings.table_size = 10;
        let mut backend = ebpf::start(&settings).unwrap();
        let socket = socket().unwrap();
        for round in 0..3 {
            for port in 2000..2100 {
                socket.send_to(&[0; 22], far(port)).unwrap();
            }
            let snapshot = backend.poll().unwrap().unwrap();
            assert_eq!(snapshot.flows.len(), 10, "round {round}");
            assert!(snapshot.imbalance().is_empty(), "{:?}", snapshot.imbalance());
            assert!(snapshot.flows.iter().all(|flow| flow.counters.packets == 1));
            let (key, amount) = snapshot.unaccounted.first_key_value().unwrap();
            assert_eq!(
                (key.reason, key.proto, key.direction, key.ifindex),
                (Reason::TableFull as u8, 17, Direction::Egress as u8, index(NEAR))
            );
            assert_eq!(*amount, Amount { packets: 90, wire_bytes: 90 * (22 + HEADERS) });
            assert_eq!(snapshot.total(), Amount { packets: 100, wire_bytes: 100 * (22 + HEADERS) });
        }
    });
}

#[test]
fn the_programs_own_messages_do_not_disturb_counting() {
    if !can_load() {
        return;
    }
    for hook in [Hook::Tc, Hook::Xdp] {
        namespace().run(move || {
            let mut settings = settings(hook);
            settings.kernel_log = true;
            let mut backend = ebpf::start(&settings).unwrap();
            let socket = socket().unwrap();
            for _ in 0..1000 {
                socket.send_to(&[0; 22], far(4000)).unwrap();
            }
            let snapshot = backend.poll().unwrap().unwrap();
            assert_eq!(sums(&snapshot, Direction::Egress, 4000)[0], 1000);
        });
    }
}

/// A UDP frame to port 4100 behind the given tags.
fn tagged(tags: &[u16]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend([8, 0, 0x45, 0, 0, 128, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    frame.extend([0, 9, 0x10, 0x04, 0, 108, 0, 0]);
    frame.resize(frame.len() + 100, 0);
    frame
}

#[test]
fn a_tag_counts_wherever_the_kernel_keeps_it() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let mut backend = ebpf::start(&settings(Hook::Tc)).unwrap();
        let mut near = pcap::Capture::from_device(NEAR).unwrap().open().unwrap();
        // At ingress the kernel moves the outermost tag from the frame into the packet's description.
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x8100; 20]] {
            near.sendpacket(tagged(tags)).unwrap();
            let snapshot = backend.poll().unwrap().unwrap();
            let expected = [1, 142 + 4 * tags.len() as u64, 128];
            assert_eq!(sums(&snapshot, Direction::Egress, 4100), expected, "egress, {tags:x?}");
            assert_eq!(sums(&snapshot, Direction::Ingress, 4100), expected, "ingress, {tags:x?}");
        }
    });
}
