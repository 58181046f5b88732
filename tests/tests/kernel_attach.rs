//! Attaching on real devices: in the right place beside others, and gone without a trace afterwards.
//!
//! Needs root, eBPF and iproute2; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use wherefore::{
    backend::{
        Backend as _, Hook, LiveSettings,
        ebpf::{self, bench::Bench, leftovers},
        interfaces::Request,
        probe::{self, Attached, Place, Way},
    },
    snapshot::Snapshot,
};
use wherefore_common::Direction;
use wherefore_tests::{
    PATIENCE, can_load,
    pair::{
        FAR, HEADERS, NEAR, far, index, namespace, only, said_of_a_filter_behind_ours, settings, socket, tc,
    },
    wait_until,
};

/// Packets and wire bytes to `port` in one direction.
fn sums(snapshot: &Snapshot, direction: Direction, port: u16) -> [u64; 2] {
    let flows = snapshot.flows.iter().filter(|flow| flow.direction() == direction && flow.key.dport == port);
    flows.fold([0; 2], |sum, flow| [sum[0] + flow.counters.packets, sum[1] + flow.counters.wire_bytes])
}

/// What is attached to `NEAR` at TCX and clsact.
fn attached() -> Vec<Attached> {
    let index = index(NEAR);
    Way::ALL.into_iter().flat_map(|way| probe::chain(index, way).unwrap()).collect()
}

#[test]
fn another_program_keeps_its_packets_and_ours_is_nearest_to_the_wire() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let mut other = Bench::new(64).unwrap();
        for (name, way) in [("wherefore_in", TcAttachType::Ingress), ("wherefore_out", TcAttachType::Egress)]
        {
            other.load(name).unwrap();
            let program: &mut SchedClassifier = other.ebpf.program_mut(name).unwrap().try_into().unwrap();
            for device in [NEAR, FAR] {
                // Where ours wants to be: ours must come before it, or behind it.
                let order = if way == TcAttachType::Ingress { LinkOrder::first() } else { LinkOrder::last() };
                let order = TcAttachOptions::TcxOrder(order);
                program.attach_with_options(device, way, order).unwrap();
            }
        }
        let before = |device| SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap().1[0].id();
        let others_id = before(FAR);
        let mut backend = ebpf::start(&settings(Hook::Tc)).unwrap();
        let ingress = SchedClassifier::query_tcx(FAR, TcAttachType::Ingress).unwrap().1;
        assert_eq!((ingress.len(), ingress[1].id()), (2, others_id), "not first at ingress");
        let egress = SchedClassifier::query_tcx(NEAR, TcAttachType::Egress).unwrap().1;
        let others_egress = egress[0].id();
        assert_eq!(egress.len(), 2);
        let socket = socket().unwrap();
        for _ in 0..100 {
            socket.send_to(&[0; 22], far(3000)).unwrap();
        }
        let expected = [100, 100 * (22 + HEADERS)];
        let ours = backend.poll().unwrap().unwrap();
        for snapshot in [ours, other.poll().unwrap()] {
            assert_eq!(sums(&snapshot, Direction::Egress, 3000), expected);
            assert_eq!(sums(&snapshot, Direction::Ingress, 3000), expected);
        }
        backend.stop().unwrap();
        links_go(|| {
            let left = SchedClassifier::query_tcx(NEAR, TcAttachType::Egress).unwrap().1;
            left.iter().map(aya::programs::ProgramInfo::id).eq([others_egress])
        });
    });
}

/// Waits for links that were closed to go. They may take a moment: a child that another test is starting in
/// this process holds a copy of each descriptor between fork and exec.
fn links_go(gone: impl FnMut() -> bool) {
    wait_until("the links to go", PATIENCE, gone);
}

/// Makes the test below attach and wait, in a process of its own.
const CHILD: &str = "WHEREFORE_TEST_ATTACH";

#[test]
fn child_that_attaches_and_waits() {
    let Some(hook) = std::env::var_os(CHILD) else { return };
    let hook = if hook == "clsact" { Hook::Clsact } else { Hook::Xdp };
    let _backend = ebpf::start(&settings(hook)).unwrap();
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
    namespace().run(|| {
        let index = index(NEAR);
        let (mut child, _output) = attached_child("clsact");
        // Alive: its filters are not leftovers, and a second run leaves them alone.
        assert_eq!(leftovers(index).unwrap(), []);
        let second = ebpf::start(&settings(Hook::Clsact)).unwrap();
        assert_eq!(tc("filter show dev va ingress").matches("wherefore_in direct-action").count(), 2);
        drop(second);
        assert_eq!(tc("filter show dev va ingress").matches("wherefore_in direct-action").count(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(leftovers(index).unwrap().len(), 2, "a killed run leaves its clsact filters");
        let third = ebpf::start(&settings(Hook::Clsact)).unwrap();
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
    namespace().run(|| {
        let _ = tc("qdisc add dev va clsact");
        let _ = tc("filter add dev va egress prio 7 protocol all u32 match u32 0 0");
        let backend = ebpf::start(&only(NEAR, Hook::Clsact)).unwrap();
        let filters = tc("filter show dev va egress");
        assert!(filters.find("pref 7 ").unwrap() < filters.find("pref 8 bpf").unwrap(), "{filters}");
        drop(backend);
        assert!(tc("qdisc show dev va").contains("clsact"));
        assert!(tc("filter show dev va egress").contains("u32"));
        assert!(!tc("filter show dev va egress").contains("wherefore"));
    });
}

/// Filters of one priority must be of one kind and protocol, so ours cannot join what stands at either end.
#[test]
fn filters_at_the_first_and_last_priority_leave_room_for_ours() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let _ = tc("qdisc add dev va clsact");
        for way in ["ingress", "egress"] {
            for priority in [1, 2, 65_534, 65_535] {
                let _ = tc(&format!("filter add dev va {way} prio {priority} protocol ip u32 match u32 0 0"));
            }
        }
        let backend = ebpf::start(&only(NEAR, Hook::Clsact)).unwrap();
        assert!(tc("filter show dev va ingress").contains("pref 3 bpf"));
        assert!(tc("filter show dev va egress").contains("pref 65533 bpf"));
        drop(backend);
        assert!(!tc("filter show dev va ingress").contains("bpf"));
        assert!(!tc("filter show dev va egress").contains("bpf"));
    });
}

/// The older ingress qdisc takes clsact's place and has no egress: a filter meant for egress would stand at
/// ingress and count a second time what arrives.
#[test]
fn an_ingress_qdisc_is_not_taken_for_clsact() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let _ = tc("qdisc add dev va ingress");
        let _ = tc("filter add dev va ingress prio 7 protocol all u32 match u32 0 0");
        let index = index(NEAR);
        let places =
            |way| probe::chain(index, way).unwrap().iter().map(|found| found.place).collect::<Vec<_>>();
        assert!(places(Way::Ingress).contains(&Place::ClsactIngress));
        assert_eq!(places(Way::Egress), []);
        let refused = ebpf::start(&only(NEAR, Hook::Clsact)).err().unwrap().to_string();
        assert!(refused.contains("ingress qdisc") && refused.contains("tc qdisc del"), "{refused}");
        assert!(!tc("filter show dev va ingress").contains("bpf"));
        // Where there is TCX nobody needs clsact.
        let backend = ebpf::start(&only(NEAR, Hook::Tc));
        assert_eq!(backend.unwrap().description().watched[0].hook, "tcx");
        assert!(tc("filter show dev va ingress").contains("u32"));
    });
}

#[test]
fn a_killed_run_leaves_no_tcx_and_no_xdp_program() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let (mut child, _output) = attached_child("xdp");
        let programs = attached();
        assert_eq!(programs.iter().map(|program| program.place).collect::<Vec<_>>(), [Place::TcxEgress]);
        assert!(programs.iter().all(|program| program.is_ours() && program.id.is_some()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(attached(), []);
        // One XDP program fits: this one would be refused if the first were still there.
        ebpf::start(&settings(Hook::Xdp)).unwrap();
    });
}

#[test]
fn an_agent_that_stops_leaves_nothing() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let backend = ebpf::start(&settings(Hook::Tc)).unwrap();
        let programs = attached();
        assert_eq!(
            programs.iter().map(|program| program.place).collect::<Vec<_>>(),
            [Place::TcxIngress, Place::TcxEgress]
        );
        drop(backend);
        links_go(|| attached().is_empty());
    });
}

#[test]
fn who_stands_between_our_program_and_the_wire_is_named_once() {
    if !can_load() {
        return;
    }
    // The first interval tells it, later ones do not tell it again.
    let warnings = said_of_a_filter_behind_ours(&[], 10);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("WARN va: \"u32\" runs behind our program at egress"), "{warnings:?}");
}

/// An interface that vanishes takes our programs with it, but nothing that they counted.
#[test]
fn what_a_vanished_interface_carried_is_handed_over() {
    if !can_load() {
        return;
    }
    let netns = namespace();
    netns.ip("link add extra0 type veth peer name extra1");
    let interfaces = Request::named([NEAR, "extra0"]);
    let mut backend = netns.run(|| ebpf::start(&LiveSettings { interfaces, ..settings(Hook::Tc) }).unwrap());
    let send = || {
        let socket = socket().unwrap();
        (0..10).for_each(|_| assert_eq!(socket.send_to(&[0; 22], far(3000)).unwrap(), 22));
    };
    netns.ip("link delete extra0");
    netns.run(send);
    let snapshot = backend.poll().unwrap().unwrap();
    assert_eq!(sums(&snapshot, Direction::Egress, 3000)[0], 10);
    // From another namespace, where its number may be another interface's or nobody's.
    netns.run(send);
    netns.ip(&format!("link delete {NEAR}"));
    let snapshot = backend.poll().unwrap().unwrap();
    assert_eq!(sums(&snapshot, Direction::Egress, 3000)[0], 10);
    assert!(snapshot.interfaces.values().eq([NEAR]), "{:?}", snapshot.interfaces);
    let snapshot = backend.poll().unwrap().unwrap();
    assert!(snapshot.interfaces.is_empty() && snapshot.total().packets == 0, "{snapshot:?}");
}
