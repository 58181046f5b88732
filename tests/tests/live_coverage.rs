//! Coverage on real devices: exact in whatever unit the device counts, and what never comes by our programs is
//! missed, with a likely cause.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya::programs::TcAttachType;
use nix::sys::signal::Signal;
use wherefore::{
    backend::{Backend, Choice, Hook, LiveSettings, interfaces::Request, live},
    coverage::{Compared, Ledger, Unit, Verdict},
    snapshot::{Passed, Snapshot},
};
use wherefore_common::Direction;
use wherefore_tests::{
    Agent, Lan, Netns, PATIENCE,
    agent::Stream,
    can_load, device,
    frame::{Link, UDP, V4, udp},
    pair::{self, FAR, NEAR, far},
    program::{Act, Other, TC_ACT_OK, XDP_DROP},
    require_bpf, require_root, run_agent, scenario,
    traffic::tcp,
    wait_until,
};

const WAYS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

fn start(settings: &LiveSettings) -> Box<dyn Backend> {
    start_with(Choice::Ebpf, settings)
}

fn start_with(choice: Choice, settings: &LiveSettings) -> Box<dyn Backend> {
    live::start(choice, "asked for", settings).unwrap()
}

/// What the intervals of a device add up to, one way.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    passed: Passed,
    ledger: Ledger,
    unit: Option<Unit>,
}

/// Polls until `enough` packets were counted each way, and what every interval says is whole: ingress, egress.
fn whole(backend: &mut dyn Backend, enough: u64) -> [Sum; 2] {
    let mut sums = [Sum::default(); 2];
    let mut last = Snapshot::default();
    wait_until("ours and the device's count to agree", PATIENCE, || {
        last = backend.poll().unwrap().unwrap();
        for (sum, way) in sums.iter_mut().zip(WAYS) {
            for ((_, direction), coverage) in &last.coverage {
                if *direction == way as u8 {
                    sum.ledger.add(&coverage.interval, last.length);
                    sum.unit = Some(coverage.unit);
                    assert_eq!(coverage.verdict, Verdict::Fine, "{last:?}");
                }
            }
            for passed in last.passed.iter().filter(|((_, of), _)| *of == way as u8).map(|(_, passed)| passed)
            {
                sum.passed.add(passed);
            }
        }
        sums.iter().all(|sum| sum.passed.all.packets >= enough && sum.ledger.counted() == sum.ledger.device())
    });
    sums
}

/// A host with TCP both ways, whose device counts in `unit`.
fn tcp_is_covered(unit: Unit, prepare: impl Fn(&Lan)) {
    if !require_bpf() {
        return;
    }
    let lan = Lan::new();
    prepare(&lan);
    let mut backend = scenario::start_on(&lan, &start, &scenario::settings());
    let server = SocketAddr::new(Lan::WORLD_V4, 443);
    let _ = tcp(&lan.host, &lan.world, server, 20_000_000, 20_000_000);
    for (sum, way) in whole(&mut *backend, 10_000).into_iter().zip(WAYS) {
        assert_eq!(sum.unit, Some(unit), "{way:?}: {sum:?}");
        // Or there was nothing to tell apart.
        assert!(sum.passed.all.packets > 2 * sum.passed.seen.packets, "{way:?}: {sum:?}");
    }
}

#[test]
fn super_frames_that_the_device_counts_once_are_covered_exactly() {
    tcp_is_covered(Unit::HandedOver, |_| {});
}

/// What the stack sends in one piece and cuts before the device, and what it joins behind the device.
#[test]
fn super_frames_that_the_device_counts_by_frames_are_covered_exactly() {
    tcp_is_covered(Unit::OnWire, |lan| {
        for (netns, name) in [lan.host(), lan.world()] {
            device::segmentation_off(netns, name);
            device::receive_offload_on(netns, name);
        }
    });
}

#[test]
fn a_device_without_link_header_is_covered_exactly() {
    if !require_bpf() {
        return;
    }
    let netns = Netns::new("tun");
    let mut tun = device::tun(&netns, "tun0");
    netns.ip("address add 203.0.113.1/24 dev tun0");
    let settings = LiveSettings { interfaces: Request::named(["tun0"]), ..scenario::settings() };
    let mut backend = netns.run(|| start(&settings));
    let socket = netns.run(|| UdpSocket::bind("203.0.113.1:5000")).unwrap();
    let link = Link { src: [0; 6], dst: [0; 6], tags: Vec::new() };
    let v4 = V4::plain(Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(203, 0, 113, 77), UDP);
    let frame = v4.frame(&link, &udp((7000, 8000), 333), (7000, 8000)).without_ethernet();
    for _ in 0..300 {
        socket.send_to(&[1; 100], "203.0.113.2:6000").unwrap();
        tun.write_all(&frame.bytes).unwrap();
        // A tun device counts as sent what was read from it.
        assert_eq!(tun.read(&mut [0; 2000]).unwrap(), 128);
    }
    let [ingress, egress] = whole(&mut *backend, 300);
    assert_eq!((ingress.ledger.device(), egress.ledger.device()), (300, 300));
}

/// What a queueing discipline drops was counted on its way there and never sent.
#[test]
fn what_the_queueing_discipline_drops_is_not_missing() {
    if !can_load() {
        return;
    }
    let netns = pair::namespace();
    // A packet of 1,042 bytes a second or so, and room for two.
    netns.run(|| pair::tc("qdisc add dev va root tbf rate 8kbit burst 1600 limit 3000"));
    let settings = LiveSettings { interfaces: Request::named([NEAR]), ..scenario::settings() };
    let mut backend = netns.run(|| start(&settings));
    let socket = netns.run(pair::socket).unwrap();
    let index = device::index(&netns, NEAR);
    for _ in 0..1000 {
        socket.send_to(&[0; 1000], far(3000)).unwrap();
    }
    let snapshot = backend.poll().unwrap().unwrap();
    let place = (index, Direction::Egress as u8);
    let (passed, coverage) = (snapshot.passed[&place], snapshot.coverage[&place]);
    assert_eq!(passed.seen.packets, 1000);
    // What still waits in the queue makes the difference.
    let Compared { counted, device, .. } = coverage.interval;
    assert!(device < 100 && device <= counted && counted - device <= 3, "{coverage:?}");
}

/// A packet socket on `NEAR`; `bypass`: what it sends goes past the queueing discipline and with it past TC.
fn packet_socket(bypass: bool) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers. Protocol 0: nothing is received.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now; nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let value = libc::c_int::from(bypass);
    // SAFETY: the value outlives the call and has the size given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// libpcap sees what passes between the queueing discipline and the device, so nothing is taken off for that.
#[test]
fn what_libpcap_counts_is_held_against_the_device_too() {
    if !require_root() {
        return;
    }
    let pcap = |settings: &LiveSettings| start_with(Choice::Pcap, settings);
    let lan = Lan::new();
    let mut backend = scenario::start_on(&lan, &pcap, &scenario::settings());
    let server = SocketAddr::new(Lan::WORLD_V4, 443);
    let _ = tcp(&lan.host, &lan.world, server, 2_000_000, 2_000_000);
    for (sum, way) in whole(&mut *backend, 50).into_iter().zip(WAYS) {
        assert_eq!(sum.unit, Some(Unit::HandedOver), "{way:?}: {sum:?}");
    }
    drop(backend);

    let netns = pair::namespace();
    netns.run(|| pair::tc("qdisc add dev va root tbf rate 8kbit burst 1600 limit 3000"));
    let settings = LiveSettings { interfaces: Request::named([NEAR]), ..scenario::settings() };
    let mut backend = netns.run(|| pcap(&settings));
    let socket = netns.run(pair::socket).unwrap();
    let place = (device::index(&netns, NEAR), Direction::Egress as u8);
    let mut ledger = Ledger::default();
    wait_until("what was sent", PATIENCE, || {
        // In each interval most are dropped, until some were sent.
        if ledger.counted() < 3 {
            for _ in 0..100 {
                socket.send_to(&[0; 1000], far(3000)).unwrap();
            }
        }
        let snapshot = backend.poll().unwrap().unwrap();
        ledger.add(&snapshot.coverage[&place].interval, snapshot.length);
        ledger.counted() >= 3 && ledger.counted() == ledger.device()
    });

    // What an expression rejects is counted as well.
    let netns = pair::namespace();
    let expression = Some("tcp".into());
    let mut backend = netns.run(|| pcap(&LiveSettings { expression, ..settings }));
    let socket = netns.run(pair::socket).unwrap();
    for _ in 0..500 {
        socket.send_to(&[0; 1000], far(3000)).unwrap();
    }
    let place = (device::index(&netns, NEAR), Direction::Egress as u8);
    let mut ledger = Ledger::default();
    wait_until("what is filtered", PATIENCE, || {
        let snapshot = backend.poll().unwrap().unwrap();
        assert!(snapshot.flows.is_empty(), "{snapshot:?}");
        ledger.add(&snapshot.coverage[&place].interval, snapshot.length);
        ledger.counted() >= 500 && ledger.counted() == ledger.device()
    });
    // On the loopback device it sees each packet once, though the device sends and receives it.
    let loopback = LiveSettings { interfaces: Request::named(["lo"]), ..scenario::settings() };
    let mut backend = netns.run(|| pcap(&loopback));
    let coverage = backend.poll().unwrap().unwrap().coverage;
    assert_eq!(coverage.into_keys().collect::<Vec<_>>(), [(1, Direction::Ingress as u8)]);
}

/// Super-frames of which libpcap does not know the frames that the device counts, wanted or not.
#[test]
fn what_offload_merged_before_libpcap_is_not_missing() {
    if !require_root() {
        return;
    }
    for expression in [None, Some("udp port 53".to_owned())] {
        let lan = Lan::new();
        for (netns, name) in [lan.host(), lan.world()] {
            device::segmentation_off(netns, name);
            device::receive_offload_on(netns, name);
        }
        let pcap = |settings: &LiveSettings| start_with(Choice::Pcap, settings);
        let settings = LiveSettings { expression: expression.clone(), ..scenario::settings() };
        let mut backend = scenario::start_on(&lan, &pcap, &settings);
        let server = SocketAddr::new(Lan::WORLD_V4, 443);
        let place = (device::index(&lan.host, Lan::HOST_DEVICE), Direction::Ingress as u8);
        let mut last = None;
        wait_until("intervals with merged packets", PATIENCE, || {
            let _ = tcp(&lan.host, &lan.world, server, 1_000, 5_000_000);
            let snapshot = backend.poll().unwrap().unwrap();
            assert!(expression.is_none() || snapshot.flows.is_empty(), "{snapshot:?}");
            let coverage = snapshot.coverage[&place];
            last = Some(coverage);
            let merged = snapshot.passed.get(&place).is_some_and(|passed| passed.estimated.packets > 0);
            merged && coverage.span.as_secs() > 5
        });
        let coverage = last.unwrap();
        assert_eq!(
            (coverage.unit, coverage.verdict),
            (Unit::Bytes, Verdict::Fine),
            "{expression:?}: {coverage:?}"
        );
        assert!(coverage.window.share() > Some(0.99), "{expression:?}: {coverage:?}");
    }
}

/// Sends frames from `NEAR` that nobody takes.
struct Frames {
    netns: Netns,
    bytes: Vec<u8>,
    plain: OwnedFd,
    bypassing: OwnedFd,
}

impl Frames {
    fn new() -> Self {
        let netns = pair::namespace();
        let link = Link { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2], tags: Vec::new() };
        let v4 = V4::plain(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), UDP);
        let bytes = v4.frame(&link, &udp((9000, 9001), 100), (9000, 9001)).bytes;
        let [plain, bypassing] = [false, true].map(|bypass| netns.run(|| packet_socket(bypass)).unwrap());
        Self { netns, bytes, plain, bypassing }
    }

    fn send(&self, plain: usize, bypassing: usize) {
        let address = self.netns.run(|| device::link_address(NEAR));
        for (socket, times) in [(&self.plain, plain), (&self.bypassing, bypassing)] {
            for _ in 0..times {
                let sent = nix::sys::socket::sendto(
                    socket.as_raw_fd(),
                    &self.bytes,
                    &address,
                    nix::sys::socket::MsgFlags::empty(),
                );
                assert_eq!(sent, Ok(self.bytes.len()));
            }
        }
    }

    /// The agent on one device, once it counts.
    fn agent(&self, device: &str, arguments: &[&str]) -> Agent {
        let all = [&["run", "-i", device, "--interval", "100ms"], arguments].concat();
        let mut agent = run_agent(Some(&self.netns), &all);
        agent.wait_for_intervals(1);
        agent
    }

    /// Sends over and over until the agent says something of coverage, the same each time: what it says.
    fn told(&self, agent: &Agent, plain: usize, bypassing: usize) -> String {
        let mut told = None;
        wait_until("a word of coverage", PATIENCE, || {
            self.send(plain, bypassing);
            told = words(agent).pop();
            told.is_some()
        });
        told.unwrap()
    }
}

/// What the agent said of coverage: warnings, errors, and that it is over.
fn words(agent: &Agent) -> Vec<String> {
    let lines = [Stream::Out, Stream::Err].into_iter().flat_map(|stream| agent.lines(stream));
    lines.filter(|line| line.contains("of what the device counts")).collect()
}

#[test]
fn senders_that_skip_tc_are_missed() {
    if !can_load() {
        return;
    }
    let frames = Frames::new();
    let agent = frames.agent(NEAR, &[]);
    let told = frames.told(&agent, 30, 10);
    assert!(told.contains("WARN va: counted is only 7") && told.contains("at egress"), "{told}");
    assert!(told.contains("PACKET_QDISC_BYPASS"), "{told}");
}

#[test]
fn a_level_that_is_asked_for_holds() {
    if !can_load() {
        return;
    }
    let frames = Frames::new();
    let mut quiet = frames.agent(NEAR, &["--min-coverage", "0.5"]);
    let strict = frames.agent(NEAR, &[]);
    let told = frames.told(&strict, 30, 10);
    assert!(told.contains("counted is only 7"), "{told}");
    quiet.wait_for_intervals(quiet.intervals() + 2);
    assert_eq!(words(&quiet), [""; 0]);
}

/// More comes than libpcap's ring holds, while the agent gets no processor.
#[test]
fn what_libpcap_loses_is_missed_and_said() {
    if !require_root() {
        return;
    }
    let frames = Frames::new();
    let mut agent = frames.agent(FAR, &["--backend", "pcap"]);
    let mut told = None;
    wait_until("a word of coverage", PATIENCE, || {
        agent.signal(Signal::SIGSTOP);
        // 8 MiB hold a third of these.
        frames.send(120_000, 0);
        agent.signal(Signal::SIGCONT);
        agent.wait_for_intervals(agent.intervals() + 2);
        told = words(&agent).pop();
        told.is_some()
    });
    let told = told.unwrap();
    assert!(told.contains("WARN vb: counted is only ") && told.contains("at ingress"), "{told}");
    assert!(told.contains(": libpcap lost ") && told.contains("--backend ebpf"), "{told}");
    let low = |line: &String| line.contains(" · coverage ") && !line.contains(" · coverage 100%");
    assert!(agent.lines(Stream::Out).iter().any(low), "{:?}", agent.lines(Stream::Out));
}

#[test]
fn what_xdp_drops_is_missed_and_xdp_named() {
    if !can_load() {
        return;
    }
    let frames = Frames::new();
    let agent = frames.agent(FAR, &[]);
    let other = Other::xdp(Act::Return(XDP_DROP));
    let _attached = frames.netns.run(|| other.attach_xdp(FAR));
    let told = frames.told(&agent, 50, 0);
    assert!(told.contains("ERROR vb: nothing is counted on a busy device, 0.0% of"), "{told}");
    assert!(told.contains("at ingress") && told.contains("XDP runs program "), "{told}");
}

#[test]
fn what_a_program_before_ours_lets_pass_is_missed_and_the_program_named() {
    if !can_load() {
        return;
    }
    for (device, place, way) in
        [(FAR, TcAttachType::Ingress, "ingress"), (NEAR, TcAttachType::Egress, "egress")]
    {
        let frames = Frames::new();
        let agent = frames.agent(device, &[]);
        let other = Other::tc(Act::Return(TC_ACT_OK));
        let attached = frames.netns.run(|| other.attach_tcx_first(device, place));
        let told = frames.told(&agent, 50, 0);
        assert!(told.contains(&format!("ERROR {device}: nothing is counted")), "{told}");
        assert!(told.contains(&format!("at {way}")), "{told}");
        assert!(told.contains(": program ") && told.contains("runs before our program"), "{told}");
        // Said once, however long it lasts.
        wait_until("more intervals", PATIENCE, || {
            frames.send(50, 0);
            agent.intervals() > 60
        });
        assert_eq!(words(&agent).len(), 1, "{:?}", words(&agent));
        drop(attached);
    }
}

/// A few packets that skip TC on a quiet device, and traffic of every kind that does not: never a word.
#[test]
fn quiet_devices_and_light_traffic_are_never_told_of() {
    if !can_load() {
        return;
    }
    let frames = Frames::new();
    let mut agents = [NEAR, FAR].map(|device| frames.agent(device, &[]));
    frames.send(0, 60);
    let socket = frames.netns.run(pair::socket).unwrap();
    pair::segment(&socket, 1000).unwrap();
    wait_until("eight seconds of intervals", PATIENCE, || {
        socket.send_to(&[0; 20_500], far(3000)).unwrap();
        frames.send(1, 0);
        agents.iter().all(|agent| agent.intervals() > 80)
    });
    for agent in &mut agents {
        agent.wait_for_intervals(agent.intervals() + 2);
        assert_eq!(words(agent), [""; 0]);
    }
}

/// Counts of both kinds for each device and direction.
#[test]
fn each_device_is_compared_with_its_own_counters_each_way() {
    if !can_load() {
        return;
    }
    for hook in [Hook::Tc, Hook::Clsact, Hook::Xdp] {
        let frames = Frames::new();
        let settings = LiveSettings { interfaces: Request::named([NEAR, FAR]), hook, ..scenario::settings() };
        let mut backend = frames.netns.run(|| start(&settings));
        frames.send(200, 100);
        let snapshot = backend.poll().unwrap().unwrap();
        let found: BTreeMap<_, _> =
            snapshot.coverage.iter().map(|(place, coverage)| (*place, coverage.interval)).collect();
        let place = |device: &str, way: Direction| (device::index(&frames.netns, device), way as u8);
        let compared = |counted, device| Compared { counted, device, edges: 0 };
        let expected = [
            (place(NEAR, Direction::Egress), compared(200, 300)),
            (place(FAR, Direction::Ingress), compared(300, 300)),
            (place(NEAR, Direction::Ingress), compared(0, 0)),
            (place(FAR, Direction::Egress), compared(0, 0)),
        ];
        assert_eq!(found, expected.into(), "{hook:?}");
    }
}
