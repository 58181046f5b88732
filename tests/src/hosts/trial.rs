//! Hosts, the agent's own stages behind them, and what these say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use wherefore::{
    alert::Alert, cli, cli::args::Command, config::Config, finding::Finding, pipeline::Stages,
    series::SeriesKey, snapshot::Snapshot, time::Timestamp,
};

use super::{
    Host, Kind,
    clock::{DAY, HOUR},
    expected::expected,
    scenario::{Incident, Scenario, Usual},
};

/// An agent that is judged: a name and its command line.
pub type Agent = (&'static str, &'static [&'static str]);

/// One host, what happens to it, and for how long it was known before.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is.
    pub kind: Kind,
    /// Its seed.
    pub seed: u64,
    /// Length of an interval.
    pub interval: Duration,
    /// How long it is watched before anything happens.
    pub history: Duration,
    /// How long the onsets are spread behind that.
    pub spread: Duration,
    /// What happens, each to a copy of the host of its own.
    pub scenarios: Vec<Scenario>,
}

/// What an agent made of a host.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Place of the agent.
    pub agent: usize,
    /// The host.
    pub kind: Kind,
    /// Days for which the host was as usual, the first of them and those behind.
    pub days: [f64; 2],
    /// Alerts in these, all of them false.
    pub false_alerts: [usize; 2],
    /// What it made of each scenario.
    pub outcomes: Vec<Outcome>,
}

/// What an agent said of a scenario: what it would not have said without.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Which.
    pub scenario: Scenario,
    /// It must be told on such a host.
    pub must: bool,
    /// Intervals from that of the onset to that of the first alert, where there was one in time.
    pub delay: Option<u64>,
    /// That alert is at a right level and names the cause.
    pub right: bool,
    /// Alerts.
    pub alerts: usize,
    /// Those when it had become usual.
    pub too_late: usize,
}

/// The settings of an agent.
///
/// # Panics
/// When its command line is not understood.
#[must_use]
pub fn config(agent: &Agent, interval: Duration) -> Config {
    let interval = format!("{}ms", interval.as_millis());
    let line = ["wherefore", "run", "--interval", &interval].into_iter().chain(agent.1.iter().copied());
    let parsed = cli::parse(line.map(Into::into)).unwrap_or_else(|error| panic!("{}: {error}", agent.0));
    let Command::Run(args) = &parsed.command else { panic!("{}: not `run`", agent.0) };
    Config::run(args, parsed.original_detection, &|path| std::fs::read_to_string(path))
        .unwrap_or_else(|error| panic!("{}: {error}", agent.0))
}

/// When an alert came and what it is about: by this the same one is known with and without a scenario.
type Name = (Timestamp, String);

fn name(alert: &Alert) -> Name {
    (alert.finding.time, format!("{:?}", alert.finding.series))
}

/// A copy of the host to which a scenario happens.
struct Branch {
    scenario: Scenario,
    incident: Incident,
    host: Host,
    /// By agent.
    stages: Vec<Stages>,
    onset: u64,
    /// By agent.
    alerts: Vec<Vec<Alert>>,
}

/// What a trial shows while it runs.
pub trait Observer {
    /// An interval of the host when nothing happens to it, and what the agents say.
    fn calm(&mut self, _snapshot: &Snapshot, _alerts: &[Vec<Alert>]) {}
    /// An interval of a copy to which something happens.
    fn happening(&mut self, _incident: &Incident, _snapshot: &Snapshot, _alerts: &[Vec<Alert>]) {}
}

impl Observer for () {}

/// Runs a plan before several agents at once.
///
/// # Panics
/// When an agent does not take its settings.
pub fn run(plan: &Plan, agents: &[Agent], observer: &mut impl Observer) -> Vec<Verdict> {
    let mut host = Host::new(plan.kind, plan.seed, plan.interval);
    let mut stages: Vec<Stages> = agents
        .iter()
        .map(|agent| {
            let config = config(agent, plan.interval);
            Stages::new(&config, plan.kind.name().to_owned())
                .unwrap_or_else(|error| panic!("{}: {error}", agent.0))
        })
        .collect();
    let onsets = onsets(plan);
    let last = onsets
        .iter()
        .map(|(scenario, onset)| onset + intervals(expected(*scenario).watched, plan))
        .max()
        .unwrap_or_default()
        .max(intervals(plan.history + plan.spread, plan));
    let mut meter = Meter::new(plan.interval);
    let mut branches: Vec<Branch> = Vec::new();
    let mut finished = Vec::new();
    let mut calm: Vec<Vec<Alert>> = vec![Vec::new(); agents.len()];
    for interval in 0..last {
        for (scenario, onset) in onsets.iter().filter(|(_, onset)| *onset == interval) {
            let mut copy = host.clone();
            let seed = plan.seed ^ ((*scenario as u64 + 1) << 16);
            let incident = Incident::new(*scenario, &mut copy, meter.usual(), seed);
            branches.push(Branch {
                scenario: *scenario,
                incident,
                host: copy,
                stages: stages.clone(),
                onset: *onset,
                alerts: vec![Vec::new(); agents.len()],
            });
        }
        for branch in &mut branches {
            let mut traffic = branch.host.step();
            branch.incident.change(&mut traffic);
            let (snapshot, said) = judge(traffic.snapshot(branch.host.addresses()), &mut branch.stages);
            observer.happening(&branch.incident, &snapshot, &said);
            for (all, said) in branch.alerts.iter_mut().zip(said) {
                all.extend(said);
            }
        }
        let over = |branch: &Branch| {
            interval + 1 >= branch.onset + intervals(expected(branch.scenario).watched, plan)
        };
        finished.extend(branches.extract_if(.., |branch| over(branch)));
        let (snapshot, said) = judge(host.step().snapshot(host.addresses()), &mut stages);
        meter.add(&snapshot);
        observer.calm(&snapshot, &said);
        for (all, said) in calm.iter_mut().zip(said) {
            all.extend(said);
        }
    }
    let length = last as f64 * plan.interval.as_secs_f64() / DAY;
    let second_day = host.clock().wall(DAY);
    calm.iter()
        .enumerate()
        .map(|(agent, calm)| {
            let first = calm.iter().filter(|alert| alert.finding.time <= second_day).count();
            let control: BTreeSet<Name> = calm.iter().map(name).collect();
            Verdict {
                agent,
                kind: plan.kind,
                days: [length.min(1.0), (length - 1.0).max(0.0)],
                false_alerts: [first, calm.len() - first],
                outcomes: finished.iter().map(|branch| outcome(branch, agent, &control, plan)).collect(),
            }
        })
        .collect()
}

/// Intervals of a time.
fn intervals(time: Duration, plan: &Plan) -> u64 {
    (time.as_secs_f64() / plan.interval.as_secs_f64()).round() as u64
}

/// When each scenario begins: at any time of the day behind the history.
fn onsets(plan: &Plan) -> Vec<(Scenario, u64)> {
    let mut random = SmallRng::seed_from_u64(plan.seed ^ 0x0115_e700);
    let (history, spread) = (intervals(plan.history, plan), intervals(plan.spread, plan));
    plan.scenarios
        .iter()
        .map(|scenario| (*scenario, history + random.random_range(0..spread.max(1))))
        .collect()
}

/// What each agent says of an interval.
fn judge(mut snapshot: Snapshot, stages: &mut [Stages]) -> (Snapshot, Vec<Vec<Alert>>) {
    let said = stages.iter_mut().map(|stages| stages.step(&mut snapshot)).collect();
    (snapshot, said)
}

fn outcome(branch: &Branch, agent: usize, control: &BTreeSet<Name>, plan: &Plan) -> Outcome {
    let row = expected(branch.scenario);
    let caused: Vec<&Alert> =
        branch.alerts[agent].iter().filter(|alert| !control.contains(&name(alert))).collect();
    let clock = branch.host.clock();
    let onset = clock.wall(branch.onset as f64 * plan.interval.as_secs_f64());
    // The interval of the onset ends one interval behind the onset.
    let delay = |alert: &Alert| intervals(alert.finding.time.since(onset), plan).saturating_sub(1);
    let first = caused.first().filter(|alert| delay(alert) <= row.within_intervals(plan.interval));
    let midnight = clock.wall((branch.onset as f64 * plan.interval.as_secs_f64() / DAY).ceil() * DAY);
    let usual =
        |alert: &Alert| row.usual_after.is_some_and(|after| alert.finding.time.since(midnight) > after);
    Outcome {
        scenario: branch.scenario,
        must: row.must.contains(&plan.kind),
        delay: first.map(|alert| delay(alert)),
        right: first.is_some_and(|alert| {
            row.levels.contains(&alert.finding.level()) && names(&alert.finding, &branch.incident)
        }),
        alerts: caused.len(),
        too_late: caused.iter().filter(|alert| usual(alert)).count(),
    }
}

/// Whether a finding names what an incident is about.
fn names(finding: &Finding, incident: &Incident) -> bool {
    let about = |key: &SeriesKey| match *key {
        SeriesKey::Net { net, .. } => incident.concerns_network(net),
        SeriesKey::Interface { .. } => incident.is_of_all(),
        _ => key.ends().is_some_and(|(src, dst)| incident.concerns(src) || incident.concerns(dst)),
    };
    about(&finding.series) || finding.contributors.iter().any(|part| about(&part.series))
}

/// Measures what a host usually carries.
struct Meter {
    seconds: f64,
    interval: f64,
    sent: f64,
    /// Of the present hour and the one before: bytes by peer.
    hours: [BTreeMap<IpAddr, u64>; 2],
    hour: f64,
}

impl Meter {
    fn new(interval: Duration) -> Self {
        let interval = interval.as_secs_f64();
        Self { seconds: 0.0, interval, sent: 0.0, hours: Default::default(), hour: 0.0 }
    }

    fn add(&mut self, snapshot: &Snapshot) {
        if self.hour >= HOUR {
            self.hours.swap(0, 1);
            self.hours[0].clear();
            self.hour = 0.0;
        }
        self.seconds += self.interval;
        self.hour += self.interval;
        for flow in &snapshot.flows {
            let peer = if flow.key.direction == 1 { flow.dst() } else { flow.src() };
            *self.hours[0].entry(peer).or_default() += flow.counters.ip_bytes;
            if flow.key.direction == 1 {
                self.sent += flow.counters.ip_bytes as f64;
            }
        }
    }

    fn usual(&self) -> Usual {
        let most = |hour: usize| self.hours[hour].values().copied().max().unwrap_or_default() as f64;
        // The last whole hour; before there is one, what there is.
        let largest_peer =
            if self.hours[1].is_empty() { most(0) / self.hour.max(1.0) } else { most(1) / HOUR };
        Usual { sent: self.sent / self.seconds.max(1.0), largest_peer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_tells_the_mean_and_the_largest_peer() {
        let mut host = Host::new(Kind::Database, 1, Duration::from_secs(60));
        let mut meter = Meter::new(Duration::from_secs(60));
        let mut sent = 0;
        for _ in 0..120 {
            let traffic = host.step();
            sent += traffic.bytes()[0];
            meter.add(&traffic.snapshot(host.addresses()));
        }
        let usual = meter.usual();
        assert!((usual.sent - sent as f64 / 7_200.0).abs() < 1.0, "{usual:?}");
        assert!(usual.largest_peer > 1e4 && usual.largest_peer < 2.0 * usual.sent, "{usual:?}");
    }

    #[test]
    fn onsets_lie_behind_the_history() {
        let plan = Plan {
            kind: Kind::Idle,
            seed: 7,
            interval: Duration::from_secs(60),
            history: Duration::from_secs(3_600),
            spread: Duration::from_secs(600),
            scenarios: Scenario::ALL.to_vec(),
        };
        let found = onsets(&plan);
        assert_eq!(found, onsets(&plan));
        assert!(found.iter().all(|(_, onset)| (60..70).contains(onset)), "{found:?}");
        assert_ne!(found, onsets(&Plan { seed: 8, ..plan }));
    }
}
