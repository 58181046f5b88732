//! Native XDP changes nothing of a device unless it is forced, and then says what, and puts it back.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use wherefore::backend::{
    Error, Hook, LiveSettings,
    ebpf::{
        self,
        xdp_safety::{self, Judgement},
    },
    interfaces,
    probe::ethtool::Ethtool,
};
use wherefore_tests::{
    Netns, PATIENCE,
    agent::Stream,
    can_load,
    cli::{command, finish},
    device,
    pair::{FAR, NEAR, namespace, only},
    run_agent, wait_until,
};

/// The segmentation that a veth has as long as its peer has no native XDP.
const SEGMENTATION: [&str; 2] = ["tx-tcp-segmentation", "tx-tcp6-segmentation"];

fn features(device: &str) -> BTreeSet<String> {
    Ethtool::new().unwrap().features(device).unwrap()
}

fn segments(device: &str) -> bool {
    let features = features(device);
    SEGMENTATION.iter().all(|feature| features.contains(*feature))
}

#[test]
fn a_pair_keeps_its_segmentation_unless_forced() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let before = features(NEAR);
        assert!(segments(NEAR), "{before:?}");
        assert_eq!(Ethtool::new().unwrap().driver(NEAR).unwrap(), "veth");

        let unforced = LiveSettings { force_xdp: false, ..only(FAR, Hook::Xdp) };
        let refused = ebpf::start(&unforced).err().unwrap().to_string();
        let lines: Vec<&str> = refused.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "--hook xdp is refused on vb, because native XDP would change it:",
                "  driver veth: the other end of the pair (va) loses its segmentation offload (TSO, GSO)",
            ],
        );
        assert_eq!(
            lines.last(),
            Some(&"--hook tc counts the same and changes nothing; --force-xdp attaches all the same")
        );
        assert!(lines.iter().all(|line| line.len() <= 100), "{refused}");
        assert_eq!(features(NEAR), before);

        let backend = ebpf::start(&only(FAR, Hook::Xdp)).unwrap();
        let during = features(NEAR);
        assert!(SEGMENTATION.iter().all(|feature| !during.contains(*feature)), "{during:?}");
        drop(backend);
        wait_until("the offloads to come back", PATIENCE, || features(NEAR) == before);
    });
}

/// TC and generic XDP ask nobody.
#[test]
fn other_hooks_change_nothing_and_are_not_refused() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let before = features(NEAR);
        for hook in [Hook::Tc, Hook::Clsact, Hook::XdpGeneric] {
            let unforced = LiveSettings { force_xdp: false, ..only(FAR, hook) };
            let backend = ebpf::start(&unforced);
            assert_eq!(features(NEAR), before, "{hook:?}");
            drop(backend.unwrap());
        }
    });
}

#[test]
fn what_is_forced_is_said_and_so_is_that_it_came_back() {
    if !can_load() {
        return;
    }
    let netns = namespace();
    let refused = run_agent(Some(&netns), &["run", "-i", FAR, "--hook", "xdp"]).wait(PATIENCE);
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");

    let mut agent = run_agent(Some(&netns), &["run", "-i", FAR, "--hook", "xdp", "--force-xdp"]);
    agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("watching vb (xdp+tcx)"));
    agent.signal(Signal::SIGTERM);
    let ended = agent.wait(PATIENCE);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let said = format!("{ended:?}");
    for words in [
        "WARN vb: native XDP (--force-xdp): driver veth: the other end of the pair (va) loses",
        "WARN va: native XDP switched off tx-",
        "INFO va: native XDP is gone, and every offload is as it was",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(netns.run(|| segments(NEAR)));
}

/// What `doctor` and `interfaces` tell of native XDP is what `--hook xdp` then does.
#[test]
fn who_only_looks_says_what_would_happen() {
    if !can_load() {
        return;
    }
    let netns = namespace();
    let _tap = device::tap(&netns, "tap0");
    let _tun = device::tun(&netns, "tun0");
    let all = netns.run(|| interfaces::list().unwrap());
    let judged = netns.run(|| xdp_safety::judge(&all));
    let listed = netns.run(|| finish(command(&["interfaces", "--format", "json"]), &[])).json();
    let mut seen = BTreeSet::new();
    for interface in &all {
        let unforced = LiveSettings { force_xdp: false, ..only(&interface.name, Hook::Xdp) };
        let done = match netns.run(|| ebpf::start(&unforced).map(drop)) {
            Ok(()) => Judgement::Harmless,
            Err(Error::XdpChanges { changes, .. }) => Judgement::Changes(changes),
            Err(Error::NotOffered { reason, .. }) => Judgement::Impossible(reason),
            Err(other) => panic!("{}: {other}", interface.name),
        };
        assert_eq!(judged[&interface.index], done, "{}", interface.name);
        let rows = listed["interfaces"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == interface.name.as_str()).unwrap();
        assert_eq!(row["xdp"].as_str(), done.name(), "{}", interface.name);
        seen.extend(done.name());
    }
    assert_eq!(seen, BTreeSet::from(["native", "no", "refused"]));
    let doctor = netns.run(|| finish(command(&["doctor"]), &[]));
    assert!(doctor.out.contains("--hook xdp is refused, because it would change the"), "{doctor:?}");
}

/// A tap device loses nothing, so nobody need force it; a port of a bridge may.
#[test]
fn a_tap_device_is_let_through_and_a_port_of_a_bridge_is_not() {
    if !can_load() {
        return;
    }
    let netns = Netns::new("tap");
    let _tap = device::tap(&netns, "tap0");
    netns.run(|| {
        let unforced = LiveSettings { force_xdp: false, ..only("tap0", Hook::Xdp) };
        let before = features("tap0");
        let backend = ebpf::start(&unforced).unwrap();
        assert_eq!(features("tap0"), before);
        drop(backend);
        netns.ip("link add br0 type bridge");
        netns.ip("link set tap0 master br0");
        let refused = ebpf::start(&unforced).err().unwrap().to_string();
        assert!(refused.contains("it is a port of br0"), "{refused}");
    });
}
