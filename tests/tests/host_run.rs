//! The agent as a process on a host: what it watches, how it ends, what it needs, and both of the original's
//! examples.

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::sys::signal::Signal;
use wherefore_tests::{
    Agent, Lan, Netns, PATIENCE,
    agent::{self, Ended, NO_STATE, STATE_DIRECTORY, Stream},
    require_bpf, require_root, run_agent,
    traffic::Sender,
    wait_until,
};

/// The agent's output, when it ends by itself.
fn output(netns: &Netns, mut command: Command) -> (Option<i32>, String, String) {
    let ended = netns.run(|| command.stdin(Stdio::null()).output());
    let Output { status, stdout, stderr } = ended.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

/// The agent with these arguments, the first of which may be preceded by another program's.
fn command(before: &[&str], arguments: &[&str]) -> Command {
    let program = agent::binary();
    let mut words: Vec<_> = before.iter().map(std::ffi::OsString::from).collect();
    words.push(program.into());
    words.extend(arguments.iter().map(std::ffi::OsString::from));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(STATE_DIRECTORY, NO_STATE);
    command
}

/// The last line of a run that ended in order.
fn closing(ended: &Ended) -> &str {
    assert_eq!(ended.status.code(), Some(0), "{ended:#?}");
    let line = ended.stdout.iter().find(|line| line.contains("on the wire"));
    line.unwrap_or_else(|| panic!("no closing summary: {ended:#?}"))
}

#[test]
fn watches_the_default_route_says_so_and_stops_on_either_signal_while_idle() {
    if !require_bpf() {
        return;
    }
    for (backend, signal) in [
        ("ebpf", Signal::SIGTERM),
        ("ebpf", Signal::SIGINT),
        ("pcap", Signal::SIGTERM),
        ("pcap", Signal::SIGINT),
    ] {
        let lan = Lan::new();
        lan.host.ip("link add other0 type veth peer name other1");
        lan.host.ip("link set other0 up");
        // The end must not wait for the interval's.
        let mut agent = run_agent(Some(&lan.host), &["run", "--backend", backend, "--interval", "1h"]);
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("interfaces: default route"));
        let first = agent.lines(Stream::Out).first().cloned().unwrap_or_default();
        let expected = if backend == "ebpf" {
            "watching eth0 (tcx) with ebpf: kernel "
        } else {
            "watching eth0 (libpcap) with pcap: asked for with --backend"
        };
        assert!(first.contains(expected), "{first}");
        agent.signal(signal);
        let ended = agent.wait(PATIENCE);
        let closing = closing(&ended);
        assert!(
            closing.starts_with("1 interval in ") && closing.contains(": 0 packets, 0 bytes"),
            "{closing}"
        );
        assert!(ended.stderr.is_empty(), "{ended:#?}");
    }
}

/// As timeout(1) does, which signals its child and then the group both belong to.
#[test]
fn two_signals_in_one_breath_are_one() {
    if !require_bpf() {
        return;
    }
    let lan = Lan::new();
    let to = SocketAddr::from((Lan::NOBODY_V4, 7));
    let mut sender = Sender::new(&lan.host, Lan::HOST_V4, to);
    for backend in ["ebpf", "pcap"] {
        let mut agent = run_agent(Some(&lan.host), &["run", "--backend", backend, "--interval", "1h"]);
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("interfaces: default route"));
        sender.send(5000);
        agent.signal(Signal::SIGINT);
        agent.signal(Signal::SIGTERM);
        let ended = agent.wait(PATIENCE);
        let closing = closing(&ended);
        assert!(closing.starts_with("1 interval in ") && !closing.contains(": 0 packets"), "{closing}");
    }
}

#[test]
fn without_a_default_route_everything_that_is_up_is_watched() {
    if !require_bpf() {
        return;
    }
    let netns = Netns::new("routeless");
    netns.ip("link add one0 type veth peer name down0");
    netns.ip("link add two0 type veth peer name two1");
    for device in ["one0", "two0", "two1"] {
        netns.ip(&format!("link set {device} up"));
    }
    let mut agent = run_agent(Some(&netns), &["run", "--interval", "100ms"]);
    agent.wait_for_line(Stream::Out, PATIENCE, |line| {
        line.contains("interfaces: no default route: every interface that is up")
    });
    let first = agent.lines(Stream::Out).first().cloned().unwrap_or_default();
    assert!(first.contains("one0 (tcx)") && first.contains("two"), "{first}");
    // Both ends of a pair carry the same packets.
    assert_eq!(first.matches("two").count(), 1, "{first}");
    assert!(!first.contains("down") && !first.contains("lo ("), "{first}");
}

#[test]
fn nothing_to_watch_and_unknown_names_say_what_to_do() {
    if !require_root() {
        return;
    }
    let netns = Netns::new("empty");
    let (code, stdout, stderr) = output(&netns, command(&[], &["run"]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("no default route") && stderr.contains("name one with -i"), "{stderr}");

    let lan = Lan::new();
    let (code, _, stderr) = output(&lan.host, command(&[], &["run", "-i", "eth7"]));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("no interface named \"eth7\"; there are: lo, eth0"), "{stderr}");
}

#[test]
fn without_capabilities_it_names_them_and_how_to_give_them() {
    if !require_bpf() {
        return;
    }
    let lan = Lan::new();
    let none = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"];
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    for before in [&none[..], &nobody[..]] {
        let (code, stdout, stderr) = output(&lan.host, command(before, &["run"]));
        assert_eq!((code, stdout.as_str()), (Some(77), ""), "{stderr}");
        let path = agent::binary();
        let path = fs::canonicalize(&path).unwrap_or(path);
        for needed in [
            "missing CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON".to_owned(),
            format!("sudo setcap cap_bpf,cap_net_admin,cap_perfmon,cap_net_raw+ep {}\n", path.display()),
            format!("sudo {} run\n", path.display()),
        ] {
            assert!(stderr.contains(&needed), "no {needed:?} in {stderr}");
        }
        assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
    }
    let raw = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all"];
    let mut agent = Agent::start(Some(&lan.host), &mut command(&raw, &["run", "--interval", "100ms"]));
    let first = agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("watching"));
    assert!(first.contains("watching eth0 (libpcap) with pcap: eBPF unavailable: "), "{first}");
    assert!(first.contains("missing CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"), "{first}");
    agent.wait_for_intervals(2);
    agent.signal(Signal::SIGTERM);
    closing(&agent.wait(PATIENCE));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly_and_detached() {
    if !require_bpf() {
        return;
    }
    let lan = Lan::new();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"( "$0" run --interval 100ms; echo "code $?" >&2 ) | head -1"#]).arg(agent::binary());
    let ended = Agent::start(Some(&lan.host), &mut shell).wait(PATIENCE);
    assert_eq!(ended.stdout.len(), 1);
    assert_eq!(ended.stderr, ["code 0"]);
    let links = lan.host.run(|| Command::new("bpftool").args(["net", "show"]).output());
    if let Ok(links) = links {
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        assert!(!links.contains("wherefore"), "{links}");
    }
}

/// The two command lines of the original's README, through a shell as they stand there, but for their
/// directories.
#[test]
fn both_examples_of_the_original_start_as_they_stand_and_the_fence_alerts() {
    const FIRST: &str = r##"./wherefore -i eth0 -l=/var/log/wherefore -archive_dir=/var/log/wherefore/packets/ \
        -loglevel=info -slack_url="https://hooks.slack.com/services/your/integration/keys/here" \
        -slack_channel="#wherefore" -slack_emoji=":warning:" \
        -anom_methods=fence -anom_upper_bound=1000 -anom_gv_cap=25 -anom_sensitivity=0.8"##;
    const SECOND: &str = r##"./wherefore -i eth0 -l=/tmp -archive_dir=/tmp  -loglevel=info -anom_methods=diff,fence -anom_upper_bound=200 -slack_url="https://hooks.slack.com/services/hook/url/goes/here" -slack_channel="#wherefore" -slack_emoji=":warning:" -anom_gv_cap=30 -anom_sensitivity=0.8 "##;
    if !require_bpf() {
        return;
    }
    let lan = Lan::new();
    let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let start = |line: &str, log: &Path| {
        let line = line
            .replace("./wherefore", &format!("exec {}", agent::binary().display()))
            .replace("=/tmp ", &format!("={} ", log.display()))
            .replace("/var/log/wherefore", &log.display().to_string());
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).process_group(0);
        Agent::start(Some(&lan.host), &mut shell)
    };
    let dirs = [dir.path().join("first/missing"), dir.path().join("second/missing")];
    let mut agents = [start(FIRST, &dirs[0]), start(SECOND, &dirs[1])];
    let to = SocketAddr::from((Lan::NOBODY_V4, 7));
    let mut sender = Sender::new(&lan.host, Lan::HOST_V4, to);
    for agent in &mut agents {
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("watching eth0 (tcx)"));
        // Not in the first interval, which is not judged.
        agent.wait_for_intervals(1);
    }
    sender.send(5000);
    for (mut agent, dir) in agents.into_iter().zip(&dirs) {
        agent.wait_for_line(Stream::Out, PATIENCE, |line| {
            line.contains(" WARN ") && line.contains(" to 192.0.2.99 in 5 s")
        });
        let log = dir.join("wherefore_anomalies.log");
        wait_until("the anomaly log", PATIENCE, || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains('\n'))
        });
        let text = fs::read_to_string(&log).unwrap_or_else(|error| panic!("{error}"));
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((&line["src"], &line["dst"]), (&"192.0.2.1".into(), &"192.0.2.99".into()));
        // Normalised to the interval asked for, which the real one misses by milliseconds.
        assert!(line["bytes"].as_f64().is_some_and(|bytes| (4_000.0..6_000.0).contains(&bytes)), "{line:#}");
        assert_eq!(line["msg"], "Anomaly detected");
        // Slack is out of reach: the first signal waits for it, the second does not.
        agent.signal(Signal::SIGTERM);
        agent.wait_for_line(Stream::Err, PATIENCE, |line| {
            line.contains("to be delivered; waiting up to 5 s more")
        });
        agent.signal(Signal::SIGTERM);
        closing(&agent.wait(PATIENCE));
    }
    assert!(dirs[0].join("packets").is_dir());
}
