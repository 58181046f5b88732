//! One run for a person to look at.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use wherefore::{
    alert::Alert,
    snapshot::{Flow, Snapshot},
};
use wherefore_tests::hosts::{
    Kind,
    expected::expected,
    scenario::{Incident, Scenario},
    trial::{self, Observer, Plan},
};

use crate::scenarios::AGENTS;

/// Which run.
#[derive(clap::Args, Debug)]
pub struct Show {
    /// Run this scenario alone, and say what each agent tells about it.
    #[arg(long, value_enum)]
    scenario: Option<Scenario>,
    /// To which kind of host it happens; the first that it suits where none is named.
    #[arg(long, value_enum, requires = "scenario")]
    host: Option<Kind>,
    /// Seed of the host.
    #[arg(long, default_value_t = 0, requires = "scenario")]
    seed: u64,
    /// Length of an interval in seconds.
    #[arg(long, default_value_t = 60, requires = "scenario", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    interval: u64,
    /// Days before it happens.
    #[arg(long, default_value_t = 3, requires = "scenario")]
    days: u32,
    /// Write the series of the run into this folder, for `wherefore score`: what the interface sends and receives, and
    /// what goes to the address that the scenario is about, in IP bytes an interval.
    #[arg(long, value_name = "FOLDER", requires = "scenario")]
    print: Option<PathBuf>,
}

impl Show {
    /// Shows the run; false where none is asked for.
    pub fn run(&self) -> Result<bool> {
        let Some(scenario) = self.scenario else { return Ok(false) };
        let row = expected(scenario);
        let kind = self.host.or_else(|| row.must.first().or(row.may.first()).copied());
        let kind = kind.context("a scenario that suits no host")?;
        ensure!(row.suits(kind), "{} makes no sense on such a host", scenario.name());
        let day = Duration::from_secs(86_400);
        let plan = Plan {
            kind,
            seed: self.seed,
            interval: Duration::from_secs(self.interval),
            history: day * self.days,
            spread: day,
            scenarios: vec![scenario],
        };
        let mut seen = Seen::default();
        let verdicts = trial::run(&plan, &AGENTS, &mut seen);
        for verdict in verdicts {
            let name = AGENTS[verdict.agent].0;
            println!("{name}: while nothing happens:");
            seen.tell(&seen.calm, verdict.agent);
            println!("{name}: from the onset on:");
            seen.tell(&seen.happening, verdict.agent);
            println!("{name}: {:?}", verdict.outcomes);
        }
        if let Some(folder) = &self.print {
            seen.write(folder)?;
        }
        Ok(true)
    }
}

/// An interval.
struct Row {
    /// Second at which it ended.
    end: u64,
    /// IP bytes sent, received, to the peer.
    bytes: [u64; 3],
}

#[derive(Default)]
struct Seen {
    calm: Vec<Vec<Alert>>,
    happening: Vec<Vec<Alert>>,
    /// Before the onset, of all peers.
    before: Vec<Snapshot>,
    rows: Vec<Row>,
    peer: Option<IpAddr>,
}

impl Observer for Seen {
    fn calm(&mut self, snapshot: &Snapshot, alerts: &[Vec<Alert>]) {
        collect(&mut self.calm, alerts);
        if self.peer.is_none() {
            self.before.push(snapshot.clone());
        }
    }

    fn happening(&mut self, incident: &Incident, snapshot: &Snapshot, alerts: &[Vec<Alert>]) {
        collect(&mut self.happening, alerts);
        let peer = *self.peer.get_or_insert(incident.peer());
        let before = std::mem::take(&mut self.before);
        self.rows.extend(before.iter().chain([snapshot]).map(|snapshot| totals(snapshot, peer)));
    }
}

fn collect(all: &mut Vec<Vec<Alert>>, alerts: &[Vec<Alert>]) {
    all.resize(alerts.len(), Vec::new());
    for (all, alerts) in all.iter_mut().zip(alerts) {
        all.extend(alerts.iter().cloned());
    }
}

fn totals(snapshot: &Snapshot, peer: IpAddr) -> Row {
    let sum = |wanted: &dyn Fn(&Flow) -> bool| {
        snapshot.flows.iter().filter(|flow| wanted(flow)).map(|flow| flow.counters.ip_bytes).sum()
    };
    let direction = |direction| move |flow: &Flow| flow.key.direction == direction;
    Row {
        end: snapshot.end.0 / 1_000_000_000,
        bytes: [sum(&direction(1)), sum(&direction(0)), sum(&|flow| flow.dst() == peer)],
    }
}

impl Seen {
    fn tell(&self, alerts: &[Vec<Alert>], agent: usize) {
        let Some(alerts) = alerts.get(agent).filter(|alerts| !alerts.is_empty()) else {
            println!("  nothing");
            return;
        };
        for alert in alerts.iter().take(50) {
            println!("  {}", alert.to_line());
        }
        if alerts.len() > 50 {
            println!("  … {} more", alerts.len() - 50);
        }
    }

    fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (column, name) in ["sent.csv", "received.csv", "peer.csv"].into_iter().enumerate() {
            let path = folder.join(name);
            let mut text = Vec::from(&b"timestamp,bytes\n"[..]);
            for row in &self.rows {
                writeln!(text, "{},{}", row.end, row.bytes[column])?;
            }
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            println!("{}", path.display());
        }
        Ok(())
    }
}
