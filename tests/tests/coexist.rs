//! Beside other people's programs: they see every packet, their verdicts hold, and the host's traffic is the same
//! before, during and after ours.
//!
//! Needs root, eBPF and iproute2; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::net::{SocketAddr, UdpSocket};

use aya::programs::TcAttachType;
use nix::sys::signal::Signal;
use wherefore::backend::{
    Backend, Hook, LiveSettings,
    ebpf::{self, EbpfBackend},
    probe::{Way, chain},
};
use wherefore_common::Direction;
use wherefore_tests::{
    Lan, PATIENCE,
    agent::Stream,
    can_load, device, pair,
    program::{Act, Other},
    require_bpf, run_agent, scenario,
    tally::{Count, Tally},
    wait_until,
};

/// Datagrams of each kind in one exchange, each way.
const EACH: u64 = 20;
/// Payload of those that another program drops, and of those that pass.
const DROPPED: usize = 100;
const PASSING: usize = 200;
/// Bytes of Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 42;

/// Two sockets that send to each other.
struct Talk<'a> {
    lan: &'a Lan,
    host: UdpSocket,
    world: UdpSocket,
}

impl<'a> Talk<'a> {
    fn new(lan: &'a Lan) -> Self {
        let host = lan.host.run(|| UdpSocket::bind((Lan::HOST_V4, 7000))).unwrap();
        let world = lan.world.run(|| UdpSocket::bind((Lan::WORLD_V4, 7000))).unwrap();
        for socket in [&host, &world] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Self { lan, host, world }
    }

    /// Sends datagrams of both kinds both ways and asserts that all of one kind arrive, and of the other where
    /// `dropped` is false.
    fn exchange(&self, dropped: bool) {
        for (from, to, dst) in
            [(&self.host, &self.world, Lan::WORLD_V4), (&self.world, &self.host, Lan::HOST_V4)]
        {
            let dst = SocketAddr::new(dst, 7000);
            for _ in 0..EACH {
                from.send_to(&[1; DROPPED], dst).unwrap();
                from.send_to(&[2; PASSING], dst).unwrap();
            }
            let mut arrived = [0; 2];
            let mut room = [0; 300];
            // The last one sent is one that passes, and no datagram overtakes another.
            while arrived[1] < EACH {
                let size = to.recv(&mut room).unwrap();
                arrived[usize::from(size == PASSING)] += 1;
            }
            assert_eq!(arrived, [if dropped { 0 } else { EACH }, EACH], "to {dst}");
        }
    }

    /// Starts counting on the host's device.
    fn start(&self, hook: Hook) -> Result<EbpfBackend, wherefore::backend::Error> {
        let settings = LiveSettings { hook, ..scenario::settings() };
        self.lan.host.run(|| ebpf::start(&settings))
    }

    /// As [`Self::start`]. An XDP program whose link was closed may take a moment to go: a process that another
    /// test starts holds a copy of each descriptor until it executes its program; and one is all that fits.
    fn start_when_others_are_gone(&self, hook: Hook) -> EbpfBackend {
        let mut started = None;
        wait_until("room for a program", PATIENCE, || {
            started = self.start(hook).ok();
            started.is_some()
        });
        started.unwrap()
    }

    /// Waits until no TC program is left.
    fn wait_for_nobody(&self) {
        let (netns, name) = self.lan.host();
        let index = device::index(netns, name);
        wait_until("other programs to go", PATIENCE, || {
            netns.run(|| Way::ALL.iter().all(|way| chain(index, *way).unwrap().is_empty()))
        });
    }

    /// Programs of somebody else at both ways, which drop one kind. What is returned with them detaches them when
    /// dropped inside the host.
    fn others(&self, place: Place) -> ([Other; 2], impl Sized + use<>) {
        let others = [(); 2].map(|()| Other::tc(Act::DropOfLength((HEADERS + DROPPED) as i32)));
        let attached = self.lan.host.run(|| {
            let ways = [TcAttachType::Ingress, TcAttachType::Egress];
            let attach = |(other, way): (&Other, TcAttachType)| -> Box<dyn std::any::Any + Send> {
                match place {
                    Place::Tcx => Box::new(other.attach_tcx(Lan::HOST_DEVICE, way)),
                    Place::Clsact => Box::new(other.attach_clsact(Lan::HOST_DEVICE, way, 100)),
                }
            };
            others.iter().zip(ways).map(attach).collect::<Vec<_>>()
        });
        (others, attached)
    }
}

/// Where others attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Tcx,
    Clsact,
}

/// What an exchange adds, with those that are dropped or without.
fn exchanged(with_dropped: bool) -> Count {
    let one = |payload: usize| Count {
        packets: EACH,
        wire_bytes: EACH * (HEADERS + payload) as u64,
        ip_bytes: EACH * (HEADERS - 14 + payload) as u64,
    };
    let (dropped, passing) = (one(DROPPED), one(PASSING));
    if !with_dropped {
        return passing;
    }
    Count {
        packets: dropped.packets + passing.packets,
        wire_bytes: dropped.wire_bytes + passing.wire_bytes,
        ip_bytes: dropped.ip_bytes + passing.ip_bytes,
    }
}

/// What a backend counted since its last poll, in and out.
fn counted(backend: &mut dyn Backend) -> [Count; 2] {
    let mut tally = Tally::default();
    tally.add_snapshot(&backend.poll().unwrap().unwrap());
    assert!(tally.unaccounted.is_empty(), "{:?}", tally.unaccounted);
    [Direction::Ingress, Direction::Egress].map(|direction| tally.sum(direction))
}

#[test]
fn tc_programs_of_others_see_every_packet_and_their_verdicts_hold() {
    if !can_load() {
        return;
    }
    // Whether ours counts what the other one drops: at ingress it does where it stands before it, at egress too,
    // though it would rather be behind it. The kernel runs TCX before clsact both ways.
    for (hook, place, ingress, egress) in [
        (Hook::Tc, Place::Tcx, true, false),
        (Hook::Tc, Place::Clsact, true, true),
        (Hook::Clsact, Place::Clsact, true, false),
        (Hook::Clsact, Place::Tcx, false, false),
    ] {
        let lan = Lan::new();
        let talk = Talk::new(&lan);
        if place == Place::Clsact {
            let _ = lan.host.run(|| pair::tc("qdisc add dev eth0 clsact"));
        }
        talk.exchange(false);
        let (others, attached) = talk.others(place);
        // Each sees both kinds each time.
        let mut exchanges = 0;
        let mut exchange = || {
            talk.exchange(true);
            exchanges += 1;
            assert_eq!(others.each_ref().map(Other::seen), [exchanges * 2 * EACH; 2], "{hook:?}, {place:?}");
        };
        exchange();
        let mut backend = talk.start(hook).unwrap();
        exchange();
        let expected = [exchanged(ingress), exchanged(egress)];
        assert_eq!(counted(&mut backend), expected, "{hook:?} beside {place:?}");
        lan.host.run(|| drop(backend));
        exchange();
        lan.host.run(|| drop(attached));
        talk.wait_for_nobody();
        talk.exchange(false);
    }
}

#[test]
fn an_xdp_program_of_others_stays_and_ours_is_refused_or_counts_behind_it() {
    if !can_load() {
        return;
    }
    let lan = Lan::new();
    let talk = Talk::new(&lan);
    let other = Other::xdp(Act::DropOfLength((HEADERS + DROPPED) as i32));
    let attached = lan.host.run(|| other.attach_xdp(Lan::HOST_DEVICE));
    let mut exchanges = 0;
    let mut exchange = || {
        // What leaves it does not see, nor drop.
        for _ in 0..EACH {
            talk.world.send_to(&[1; DROPPED], (Lan::HOST_V4, 7000)).unwrap();
            talk.world.send_to(&[2; PASSING], (Lan::HOST_V4, 7000)).unwrap();
            talk.host.send_to(&[1; DROPPED], (Lan::WORLD_V4, 7000)).unwrap();
            talk.host.send_to(&[2; PASSING], (Lan::WORLD_V4, 7000)).unwrap();
        }
        let mut room = [0; 300];
        let at_host: Vec<_> = (0..EACH).map(|_| talk.host.recv(&mut room).unwrap()).collect();
        let at_world: Vec<_> = (0..2 * EACH).map(|_| talk.world.recv(&mut room).unwrap()).collect();
        assert!(at_host.iter().all(|size| *size == PASSING), "{at_host:?}");
        assert_eq!(at_world.iter().filter(|size| **size == DROPPED).count() as u64, EACH);
        exchanges += 1;
        assert_eq!(other.seen(), exchanges * 2 * EACH);
    };
    exchange();
    for hook in [Hook::Xdp, Hook::XdpGeneric] {
        let refused = talk.start(hook).err().unwrap().to_string();
        assert!(refused.contains("another XDP program is there"), "{hook:?}: {refused}");
        assert!(refused.contains("--hook tc"), "{hook:?}: {refused}");
        exchange();
    }
    for hook in [Hook::Tc, Hook::Clsact] {
        let mut backend = talk.start(hook).unwrap();
        exchange();
        assert_eq!(counted(&mut backend), [exchanged(false), exchanged(true)], "{hook:?}");
        lan.host.run(|| drop(backend));
        exchange();
    }
    drop(attached);
    drop(talk.start_when_others_are_gone(Hook::Xdp));
    talk.exchange(false);
}

#[test]
fn two_agents_on_one_interface_count_the_same() {
    if !can_load() {
        return;
    }
    for hooks in [
        [Hook::Tc, Hook::Tc],
        [Hook::Tc, Hook::Clsact],
        [Hook::Clsact, Hook::Clsact],
        [Hook::Xdp, Hook::Tc],
        [Hook::Clsact, Hook::Xdp],
    ] {
        let lan = Lan::new();
        let talk = Talk::new(&lan);
        let mut agents = hooks.map(|hook| talk.start(hook).unwrap());
        for round in 0..3 {
            talk.exchange(false);
            for agent in &mut agents {
                assert_eq!(counted(agent), [exchanged(true); 2], "{hooks:?}, round {round}");
            }
        }
        let [first, mut second] = agents;
        lan.host.run(|| drop(first));
        talk.exchange(false);
        assert_eq!(counted(&mut second), [exchanged(true); 2], "{hooks:?}, alone");
    }
}

/// Whatever a killed run leaves, nobody's packets feel it, and the next run does not count them twice.
#[test]
fn what_a_killed_run_leaves_is_in_nobodys_way() {
    if !require_bpf() {
        return;
    }
    for (hook, place) in [("tc", Place::Tcx), ("clsact", Place::Clsact), ("xdp", Place::Tcx)] {
        let lan = Lan::new();
        let talk = Talk::new(&lan);
        if place == Place::Clsact {
            let _ = lan.host.run(|| pair::tc("qdisc add dev eth0 clsact"));
        }
        let (others, _attached) = talk.others(place);
        let mut agent =
            run_agent(Some(&lan.host), &["run", "--interval", "200ms", "--hook", hook, "--force-xdp"]);
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("watching eth0"));
        talk.exchange(true);
        agent.signal(Signal::SIGKILL);
        drop(agent);
        talk.exchange(true);
        assert_eq!(others.each_ref().map(Other::seen), [2 * 2 * EACH; 2], "{hook}");
        let hook = match hook {
            "tc" => Hook::Tc,
            "clsact" => Hook::Clsact,
            _ => Hook::Xdp,
        };
        let mut next = talk.start_when_others_are_gone(hook);
        talk.exchange(true);
        assert_eq!(counted(&mut next), [exchanged(true), exchanged(false)], "{hook:?}");
        lan.host.run(|| drop(next));
        talk.exchange(true);
        assert_eq!(others.each_ref().map(Other::seen), [4 * 2 * EACH; 2], "{hook:?}");
    }
}
