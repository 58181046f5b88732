//! What the agent says on a host: nothing of calm traffic, once of a burst, everywhere it was asked to, and
//! never about itself. Other people's slowness changes no number.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use wherefore_tests::{
    Agent, Answer, HttpServer, Lan, PATIENCE, Random,
    agent::{Ended, Stream},
    require_bpf, run_agent,
    traffic::Sender,
    wait_until,
};

/// A host, a webhook on its loopback device, and a directory for logs.
struct Host {
    lan: Lan,
    webhook: HttpServer,
    logs: tempfile::TempDir,
}

impl Host {
    fn new(answer: Answer) -> Self {
        let lan = Lan::new();
        let webhook = HttpServer::start_in(&lan.host, IpAddr::V4(Ipv4Addr::LOCALHOST), answer);
        Self { lan, webhook, logs: tempfile::tempdir().unwrap_or_else(|error| panic!("{error}")) }
    }

    /// The agent, once it watches.
    fn agent(&self, arguments: &[&str]) -> Agent {
        let url = self.webhook.url("hook");
        let logs = self.logs.path().display().to_string();
        let mut all = vec!["run", "--detector=anomalyzer", "-l", &logs, "--slack-url", &url];
        all.extend(arguments);
        let mut agent = run_agent(Some(&self.lan.host), &all);
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("watching eth0"));
        agent
    }

    fn sender(&self, last: u8) -> Sender {
        Sender::new(&self.lan.host, Lan::HOST_V4, SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 7)))
    }

    fn text_log(&self) -> String {
        read(&self.logs.path().join("wherefore.log"))
    }

    fn anomalies(&self) -> Vec<Value> {
        lines(&self.logs.path().join("wherefore_anomalies.log"))
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(path: &Path) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    read(path).lines().map(parse).collect()
}

/// Steady, noisy, and on and off: 50 to 450 kB in an interval.
struct Calm {
    steady: Sender,
    noisy: Sender,
    on_and_off: Sender,
    random: Random,
    turn: u64,
}

impl Calm {
    fn new(host: &Host) -> Self {
        let [steady, noisy, on_and_off] = [90, 91, 92].map(|last| host.sender(last));
        Self { steady, noisy, on_and_off, random: Random::new(7), turn: 0 }
    }

    /// What one interval carries.
    fn portion(&mut self) {
        self.turn += 1;
        self.steady.send(150_000);
        self.noisy.send(50_000 + self.random.below(250_000) as u64);
        if self.turn % 4 < 2 {
            self.on_and_off.send(120_000);
        }
    }

    /// A portion in each of so many intervals. A portion belongs to one whenever the agent gets round to
    /// telling it; two in one and none in the next are calm, too.
    fn intervals(&mut self, agent: &mut Agent, count: usize) {
        for _ in 0..count {
            self.portion();
            let told = agent.intervals();
            agent.wait_for_intervals(told + 1);
        }
    }

    /// Packets and wire bytes so far.
    fn sent(&self) -> (u64, u64) {
        let counts = [self.steady.sent(), self.noisy.sent(), self.on_and_off.sent()];
        counts.iter().fold((0, 0), |sum, count| (sum.0 + count.packets, sum.1 + count.wire_bytes))
    }
}

/// `12,345 packets, 6,789 bytes on the wire` of the closing summary.
fn closing(ended: &Ended) -> (u64, u64) {
    assert_eq!(ended.status.code(), Some(0), "{ended:#?}");
    let line = ended.stdout.iter().find(|line| line.contains("on the wire"));
    let line = line.unwrap_or_else(|| panic!("no closing summary: {ended:#?}"));
    let number = |unit: &str| {
        let (before, _) = line.split_once(unit).unwrap_or_else(|| panic!("no {unit:?} in {line}"));
        let word = before.rsplit(' ').next().unwrap_or_default().replace(',', "");
        word.parse().unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    (number(" packets"), number(" bytes on the wire"))
}

#[test]
fn forty_calm_intervals_say_nothing_and_a_burst_is_told_once_everywhere() {
    if !require_bpf() {
        return;
    }
    thread::scope(|scope| {
        for backend in ["ebpf", "pcap"] {
            scope.spawn(move || calm_then_burst(backend));
        }
    });
}

/// A burst may lie across two intervals, so its size is not known to the byte.
const BURST: &str = " MB to 192.0.2.90 in 200 ms";

fn calm_then_burst(backend: &str) {
    let host = Host::new(Answer::code(200));
    let mut agent = host.agent(&["--backend", backend, "--interval", "200ms"]);
    let mut calm = Calm::new(&host);
    calm.intervals(&mut agent, 45);
    assert!(host.anomalies().is_empty(), "{backend}: {}", host.text_log());
    assert!(host.webhook.requests().is_empty(), "{backend}");

    calm.steady.send(15_000_000);
    agent.wait_for_line(Stream::Out, PATIENCE, |line| {
        line.contains(" WARN ") && line.contains("eth0 egress: 192.0.2.1 sent ") && line.contains(BURST)
    });
    let requests = host.webhook.wait_for(1, PATIENCE);
    // Calm again, and a burst in the cooldown, which is not told.
    calm.intervals(&mut agent, 3);
    calm.steady.send(15_000_000);
    calm.intervals(&mut agent, 3);

    let log = host.text_log();
    assert_eq!(log.matches(BURST).count(), 1, "{backend}: {log}");
    let anomalies = host.anomalies();
    assert_eq!(anomalies.len(), 1, "{backend}: {anomalies:#?}");
    let line = &anomalies[0];
    assert_eq!((&line["src"], &line["dst"]), (&"192.0.2.1".into(), &"192.0.2.90".into()), "{line:#}");
    assert_eq!((&line["interface"], &line["direction"]), (&"eth0".into(), &"egress".into()));
    assert!(line["bytes"].as_f64().is_some_and(|bytes| bytes > 1.2e6), "{line:#}");
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/hook"));
    let text = requests[0].json().to_string();
    assert!(text.contains("192.0.2.90") && text.contains(" MB"), "{text}");
    assert_eq!(host.webhook.requests().len(), 1, "{backend}");

    agent.signal(Signal::SIGTERM);
    let ended = agent.wait(PATIENCE);
    assert_eq!(closing(&ended), calm.sent(), "{backend}: {ended:#?}");
    let told = ended.stdout.iter().any(|line| line.contains("Slack: 1 of 1 alerts delivered"));
    assert!(told, "{:?}", ended.stdout);
}

/// The first interval is cut short and not judged; ten calm ones are enough to tell a burst.
#[test]
fn after_ten_calm_intervals_a_burst_is_told() {
    if !require_bpf() {
        return;
    }
    let host = Host::new(Answer::code(200));
    let mut agent = host.agent(&["--interval", "300ms"]);
    agent.wait_for_intervals(1);
    let mut steady = host.sender(90);
    for interval in 2..12 {
        steady.send(20_000);
        agent.wait_for_intervals(interval);
    }
    assert!(host.anomalies().is_empty());
    steady.send(2_000_000);
    agent.wait_for_line(Stream::Out, PATIENCE, |line| {
        line.contains(" WARN ") && line.contains(" to 192.0.2.90 in 300 ms")
    });
}

/// The server that is told never answers: every packet is counted all the same, the end waits for it only so
/// long and says so, and not at all when told twice.
#[test]
fn a_hanging_webhook_changes_no_number_and_delays_the_end_by_five_seconds_at_most() {
    if !require_bpf() {
        return;
    }
    let host = Host::new(Answer::Hang);
    let interval = ["--interval", "200ms"];
    let mut patient = host.agent(&interval);
    let mut hasty = host.agent(&interval);
    let mut calm = Calm::new(&host);
    calm.intervals(&mut patient, 14);
    calm.steady.send(15_000_000);
    let _ = host.webhook.wait_for(2, PATIENCE);
    calm.intervals(&mut patient, 10);
    for agent in [&mut patient, &mut hasty] {
        agent.signal(Signal::SIGTERM);
        agent.wait_for_line(Stream::Err, PATIENCE, |line| {
            line == "1 alert waits to be delivered; waiting up to 5 s more (Ctrl-C ends at once)"
        });
    }
    hasty.signal(Signal::SIGTERM);
    // Less than the deadline of the first signal.
    let hasty = hasty.wait(Duration::from_secs(4));
    let patient = patient.wait(Duration::from_secs(10));
    for ended in [&hasty, &patient] {
        assert_eq!(closing(ended), calm.sent(), "{ended:#?}");
    }
    let told = patient.stdout.iter().any(|line| line.contains("Slack: 0 of 1 alerts delivered"));
    assert!(told, "{:?}", patient.stdout);
}

/// The original's fence alerts on nearly everything, every interval: but never on the posts it causes.
#[test]
fn the_agents_own_posts_never_alert() {
    if !require_bpf() {
        return;
    }
    thread::scope(|scope| {
        for backend in ["ebpf", "pcap"] {
            scope.spawn(move || {
                let mut host = Host::new(Answer::code(200));
                host.webhook = HttpServer::start_in(&host.lan.world, Lan::WORLD_V4, Answer::code(200));
                let mut agent = host.agent(&[
                    "--backend",
                    backend,
                    "--interval=200ms",
                    "--cooldown=0s",
                    "-anom_methods=fence",
                    "-anom_upper_bound=10",
                ]);
                agent.wait_for_intervals(1);
                let mut sender = host.sender(99);
                while host.webhook.requests().len() < 6 {
                    sender.send(1000);
                    let told = agent.intervals();
                    agent.wait_for_intervals(told + 1);
                }
                let told = agent.intervals();
                agent.wait_for_intervals(told + 4);
                agent.signal(Signal::SIGTERM);
                let ended = agent.wait(PATIENCE);
                let (packets, _) = closing(&ended);
                assert!(packets > sender.sent().packets + 20, "the posts were not even counted: {ended:#?}");
                let anomalies = host.anomalies();
                assert!(anomalies.len() >= 6, "{anomalies:#?}");
                let server = Value::from(Lan::WORLD_V4.to_string());
                let about = |line: &&Value| line["src"] == server || line["dst"] == server;
                assert_eq!(anomalies.iter().find(about), None, "{backend}");
            });
        }
    });
}

#[test]
fn hangup_reopens_both_log_files() {
    if !require_bpf() {
        return;
    }
    let host = Host::new(Answer::code(200));
    let mut agent =
        host.agent(&["--interval=100ms", "--cooldown=0s", "-anom_methods=fence", "-anom_upper_bound=10"]);
    agent.wait_for_intervals(1);
    let mut sender = host.sender(99);
    sender.send(1000);
    let files = ["wherefore.log", "wherefore_anomalies.log"].map(|name| host.logs.path().join(name));
    wait_until("an alert", PATIENCE, || !host.anomalies().is_empty());
    let old = files.clone().map(|file| file.with_extension("log.old"));
    for (file, old) in files.iter().zip(&old) {
        fs::rename(file, old).unwrap_or_else(|error| panic!("{error}"));
    }
    agent.signal(Signal::SIGHUP);
    wait_until("new files", PATIENCE, || files.iter().all(|file| file.exists()));
    let before = lines(&old[1]).len();
    let mut sender = host.sender(98);
    sender.send(2000);
    wait_until("lines in the new files", PATIENCE, || {
        lines(&files[1]).iter().any(|line| line["dst"] == "192.0.2.98")
            && read(&files[0]).contains(" to 192.0.2.98 in ")
    });
    assert_eq!(lines(&old[1]).len(), before);
    assert!(read(&old[0]).contains("watching eth0") && !read(&old[0]).contains("192.0.2.98"));
    agent.signal(Signal::SIGTERM);
    let _ = closing(&agent.wait(PATIENCE));
}
