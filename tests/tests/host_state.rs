//! What an agent learned on a host survives it: nothing is learned anew after a restart, `--learn` tells nobody, and no
//! two agents share a directory.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use wherefore_tests::{
    Agent, Lan, PATIENCE,
    agent::{Ended, STATE_DIRECTORY, Stream, binary},
    require_bpf, run_agent,
    traffic::Sender,
};

/// Intervals without which the Anomalyzer finds nothing unusual.
const LEAST: usize = 10;

struct Host {
    lan: Lan,
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        Self { lan: Lan::new(), folder: tempfile::tempdir().unwrap_or_else(|error| panic!("{error}")) }
    }

    fn state(&self) -> String {
        self.folder.path().join("state").display().to_string()
    }

    /// An agent that keeps what it learns, once it has counted an interval, which is not judged.
    fn agent(&self, arguments: &[&str]) -> Agent {
        let state = self.state();
        let all = ["run", "--detector", "anomalyzer", "--interval", "200ms", "--state-dir", &state];
        let mut agent = run_agent(Some(&self.lan.host), &[&all[..], arguments].concat());
        agent.wait_for_intervals(1);
        agent
    }

    fn sender(&self, last: u8) -> Sender {
        Sender::new(&self.lan.host, Lan::HOST_V4, SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 7)))
    }

    fn state_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state()).unwrap_or_else(|error| panic!("{error}"));
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }
}

/// As much to each in so many intervals.
fn calm(agent: &mut Agent, senders: &mut [&mut Sender], intervals: usize) {
    for _ in 0..intervals {
        senders.iter_mut().for_each(|sender| sender.send(100_000));
        let told = agent.intervals();
        agent.wait_for_intervals(told + 1);
    }
}

fn stop(agent: Agent) -> Ended {
    agent.signal(Signal::SIGTERM);
    let ended = agent.wait(PATIENCE);
    assert_eq!(ended.status.code(), Some(0), "{ended:#?}");
    ended
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_was_learned_in_silence_alerts_right_after_a_restart() {
    if !require_bpf() {
        return;
    }
    let host = Host::new();
    let (mut one, mut other) = (host.sender(90), host.sender(91));
    let logs = host.folder.path().join("logs");
    let mut agent = host.agent(&["--learn", "-l", &logs.display().to_string()]);
    calm(&mut agent, &mut [&mut one, &mut other], LEAST + 4);
    other.send(15_000_000);
    calm(&mut agent, &mut [&mut one], 3);
    let ended = stop(agent);
    let untold = ended.stdout.iter().any(|line| line == "--learn: 1 alert would have been told");
    assert!(untold, "{ended:#?}");
    let told: Vec<_> = ended.stdout.iter().filter(|line| line.contains(" WARN ")).collect();
    assert!(told.is_empty() && ended.stderr.is_empty(), "{ended:#?}");
    assert_eq!(read(&logs.join("wherefore_anomalies.log")), "");
    assert!(!read(&logs.join("wherefore.log")).contains("192.0.2.91 in"), "{ended:#?}");
    assert_eq!(host.state_files(), ["learned.bin", "lock"]);

    let mut agent = host.agent(&[]);
    let resumed = agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains(" go on, from "));
    assert!(resumed.contains(" 2 series learned until "), "{resumed}");
    calm(&mut agent, &mut [&mut one, &mut other], 3);
    one.send(15_000_000);
    let alert = agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains(" WARN "));
    assert!(alert.contains("192.0.2.90"), "{alert}");
    assert!(agent.intervals() < LEAST, "it had the time to learn anew");
    let ended = stop(agent);
    assert_eq!(ended.stdout.iter().filter(|line| line.contains(" WARN ")).count(), 1, "{ended:#?}");
}

#[test]
fn what_was_learned_of_other_intervals_is_set_aside() {
    if !require_bpf() {
        return;
    }
    let host = Host::new();
    let mut sender = host.sender(90);
    let mut agent = host.agent(&[]);
    calm(&mut agent, &mut [&mut sender], 2);
    stop(agent);
    let mut agent = host.agent(&["--interval", "100ms"]);
    let warning = agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains(" WARN "));
    for part in ["learned with --interval 200 ms, and now it is 100 ms", "unfit-", "learning begins anew"] {
        assert!(warning.contains(part), "{warning}");
    }
    calm(&mut agent, &mut [&mut sender], 2);
    stop(agent);
    let files = host.state_files();
    assert_eq!((files.len(), files[0].as_str(), files[2].as_str()), (3, "learned.bin", "lock"), "{files:?}");
    let agent = host.agent(&["--interval", "100ms"]);
    assert!(agent.lines(Stream::Out).iter().any(|line| line.contains(" go on, from ")));
}

#[test]
fn a_second_agent_is_refused_the_directory_and_goes_on_where_it_was_the_default() {
    if !require_bpf() {
        return;
    }
    let host = Host::new();
    let first = host.agent(&[]);
    let state = host.state();
    let second = run_agent(Some(&host.lan.host), &["run", "--state-dir", &state]).wait(PATIENCE);
    assert_eq!(second.status.code(), Some(78), "{second:#?}");
    let error = second.stderr.join("\n");
    let expected = format!("error: {state} is used by another agent, process {}; ", first.pid());
    assert!(error.starts_with(&expected) && error.contains("--no-state"), "{error}");
    assert!(second.stdout.is_empty(), "{second:#?}");

    let mut command = Command::new(binary());
    command.args(["run", "--interval", "100ms"]).env(STATE_DIRECTORY, &state);
    let mut third = Agent::start(Some(&host.lan.host), &mut command);
    let warning = third.wait_for_line(Stream::Out, PATIENCE, |line| line.contains(" WARN "));
    assert!(warning.contains("what is learned is not kept: ") && warning.contains(&state), "{warning}");
    third.wait_for_intervals(2);
    stop(third);
    stop(first);
}
