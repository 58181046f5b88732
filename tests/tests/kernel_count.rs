//! Counting on real devices: exact across swaps and under offload, nothing lost in a full table, every
//! hook attached and detached without a trace.
//!
//! Needs root, eBPF and iproute2; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use wherefore::{
    backend::{
        Backend as _, Hook, LiveSettings,
        ebpf::{self, bench::Bench, leftovers},
    },
    snapshot::Snapshot,
};
use wherefore_common::{Amount, Direction, Reason};
use wherefore_tests::{
    can_load,
    veth::{FAR, HEADERS, NEAR, far, in_namespace, segment, socket, target, tc},
};

fn settings(hook: Hook) -> LiveSettings {
    LiveSettings {
        interfaces: vec![NEAR.into(), FAR.into()],
        hook,
        table_size: 1024,
        kernel_log: false,
        snaplen: 96,
        read_timeout: Duration::from_millis(100),
        promiscuous: false,
        expression: None,
    }
}

fn both() -> [ebpf::Target; 2] {
    [target(NEAR), target(FAR)]
}

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
    in_namespace(move || {
        let mut backend = ebpf::start(&settings(hook), &both()).unwrap();
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
            assert_eq!(snapshot.complete, polls > 0);
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
    in_namespace(|| {
        let mut settings = settings(Hook::Tc);
        settings.table_size = 10;
        let mut backend = ebpf::start(&settings, &[target(NEAR)]).unwrap();
        let socket = socket().unwrap();
        for round in 0..3 {
            for port in 2000..2100 {
                socket.send_to(&[0; 22], far(port)).unwrap();
            }
            let snapshot = backend.poll().unwrap().unwrap();
            assert_eq!(snapshot.flows.len(), 10, "round {round}");
            assert!(snapshot.flows.iter().all(|flow| flow.counters.packets == 1));
            let (key, amount) = snapshot.unaccounted.first_key_value().unwrap();
            assert_eq!(
                (key.reason, key.proto, key.direction, key.ifindex),
                (Reason::TableFull as u8, 17, Direction::Egress as u8, target(NEAR).index)
            );
            assert_eq!(*amount, Amount { packets: 90, wire_bytes: 90 * (22 + HEADERS) });
            assert_eq!(snapshot.total(), Amount { packets: 100, wire_bytes: 100 * (22 + HEADERS) });
        }
    });
}

#[test]
fn another_program_keeps_its_packets_and_ours_is_nearest_to_the_wire() {
    if !can_load() {
        return;
    }
    in_namespace(|| {
        let mut other = Bench::new(64).unwrap();
        for (name, way) in [("wherefore_in", TcAttachType::Ingress), ("wherefore_out", TcAttachType::Egress)]
        {
            let program: &mut SchedClassifier = other.ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
            for device in [NEAR, FAR] {
                // Where ours wants to be: ours must come before it, or behind it.
                let order = if way == TcAttachType::Ingress { LinkOrder::first() } else { LinkOrder::last() };
                let order = TcAttachOptions::TcxOrder(order);
                program.attach_with_options(device, way, order).unwrap();
            }
        }
        let before = |device| SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap().1[0].id();
        let others_id = before(FAR);
        let mut backend = ebpf::start(&settings(Hook::Tc), &both()).unwrap();
        let ingress = SchedClassifier::query_tcx(FAR, TcAttachType::Ingress).unwrap().1;
        assert_eq!((ingress.len(), ingress[1].id()), (2, others_id), "not first at ingress");
        let egress = SchedClassifier::query_tcx(NEAR, TcAttachType::Egress).unwrap().1;
        let others_egress = egress[0].id();
        assert_eq!(egress.len(), 2);
        let socket = socket().unwrap();
        for _ in 0..100 {
            socket.send_to(&[0; 22], far(3000)).unwrap();
        }
        let expected = [100, 100 * (22 + HEADERS), 100 * (22 + HEADERS - 14)];
        let ours = backend.poll().unwrap().unwrap();
        for snapshot in [ours, other.poll().unwrap()] {
            assert_eq!(sums(&snapshot, Direction::Egress, 3000), expected);
            assert_eq!(sums(&snapshot, Direction::Ingress, 3000), expected);
        }
        backend.stop().unwrap();
        let left = SchedClassifier::query_tcx(NEAR, TcAttachType::Egress).unwrap().1;
        assert_eq!(left.iter().map(aya::programs::ProgramInfo::id).collect::<Vec<_>>(), [others_egress]);
    });
}

/// Makes the test below attach and wait, in a process of its own.
const CHILD: &str = "WHEREFORE_TEST_ATTACH";

#[test]
fn child_that_attaches_and_waits() {
    let Some(hook) = std::env::var_os(CHILD) else { return };
    let hook = if hook == "clsact" { Hook::Clsact } else { Hook::Xdp };
    let _backend = ebpf::start(&settings(hook), &both()).unwrap();
    println!("\nattached");
    let _ = std::io::stdin().read(&mut [0]);
}

/// The child, attached.
fn attached_child(hook: &str) -> (Child, impl Sized) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_attaches_and_waits", "--nocapture"])
        .env(CHILD, hook)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line == "attached"), "the child ended");
    (child, lines)
}

#[test]
fn filters_of_a_killed_run_go_and_those_of_a_living_one_stay() {
    if !can_load() {
        return;
    }
    in_namespace(|| {
        let index = target(NEAR).index;
        let (mut child, _output) = attached_child("clsact");
        // Alive: its filters are not leftovers, and a second run leaves them alone.
        assert_eq!(leftovers(index).unwrap(), []);
        let second = ebpf::start(&settings(Hook::Clsact), &both()).unwrap();
        assert_eq!(tc("filter show dev va ingress").matches("wherefore_in direct-action").count(), 2);
        drop(second);
        assert_eq!(tc("filter show dev va ingress").matches("wherefore_in direct-action").count(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(leftovers(index).unwrap().len(), 2, "a killed run leaves its clsact filters");
        let third = ebpf::start(&settings(Hook::Clsact), &both()).unwrap();
        assert_eq!(tc("filter show dev va ingress").matches("wherefore_in direct-action").count(), 1);
        assert_eq!(tc("filter show dev va egress").matches("wherefore_out direct-action").count(), 1);
        drop(third);
        assert!(!tc("qdisc show").contains("clsact"));
    });
}

#[test]
fn a_clsact_qdisc_and_filter_of_somebody_else_stay() {
    if !can_load() {
        return;
    }
    in_namespace(|| {
        let _ = tc("qdisc add dev va clsact");
        let _ = tc("filter add dev va egress prio 7 protocol all u32 match u32 0 0");
        let backend = ebpf::start(&settings(Hook::Clsact), &[target(NEAR)]).unwrap();
        let filters = tc("filter show dev va egress");
        assert!(filters.find("pref 7 ").unwrap() < filters.find("pref 8 bpf").unwrap(), "{filters}");
        drop(backend);
        assert!(tc("qdisc show dev va").contains("clsact"));
        assert!(tc("filter show dev va egress").contains("u32"));
        assert!(!tc("filter show dev va egress").contains("wherefore"));
    });
}

#[test]
fn a_killed_run_leaves_no_tcx_and_no_xdp_program() {
    if !can_load() {
        return;
    }
    in_namespace(|| {
        let (mut child, _output) = attached_child("xdp");
        let programs = ebpf::attached_programs(&target(NEAR));
        assert_eq!(programs.iter().map(|program| program.place).collect::<Vec<_>>(), ["tcx egress"]);
        assert!(programs.iter().all(|program| program.ours && program.id != 0));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ebpf::attached_programs(&target(NEAR)), []);
        // One XDP program fits: this one would be refused if the first were still there.
        ebpf::start(&settings(Hook::Xdp), &both()).unwrap();
    });
}

#[test]
fn an_agent_that_stops_leaves_nothing() {
    if !can_load() {
        return;
    }
    in_namespace(|| {
        let backend = ebpf::start(&settings(Hook::Tc), &both()).unwrap();
        let programs = ebpf::attached_programs(&target(NEAR));
        assert_eq!(
            programs.iter().map(|program| program.place).collect::<Vec<_>>(),
            ["tcx ingress", "tcx egress"]
        );
        drop(backend);
        assert_eq!(ebpf::attached_programs(&target(NEAR)), []);
    });
}

#[test]
fn the_programs_own_messages_do_not_disturb_counting() {
    if !can_load() {
        return;
    }
    for hook in [Hook::Tc, Hook::Xdp] {
        in_namespace(move || {
            let mut settings = settings(hook);
            settings.kernel_log = true;
            let mut backend = ebpf::start(&settings, &both()).unwrap();
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
    in_namespace(|| {
        let mut backend = ebpf::start(&settings(Hook::Tc), &both()).unwrap();
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
