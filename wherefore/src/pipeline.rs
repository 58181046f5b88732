//! The one place that wires everything: backend → judge → life cycle → sinks, with an observer
//! that shows each interval to a person.

mod learned;
mod pump;

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub use self::learned::form;
use self::pump::Pump;
use crate::{
    alert::{Alert, Lifecycle},
    backend::{self, Backend},
    config::{Config, Source},
    detect::anomalyzer::SettingsError,
    enrich,
    finding::Finding,
    judge::AnyJudge,
    render::Totals,
    rules::{self, Overrides, Rules},
    series,
    sink::{self, Sinks},
    snapshot::Snapshot,
    state::Keeper,
    time::Timestamp,
};

/// Stop signals that follow each other within this time are one: timeout(1) and some supervisors signal a
/// process and then its whole group. Nobody presses Ctrl-C twice that fast.
const SAME_SIGNAL: Duration = Duration::from_millis(100);
/// How long alerts may wait to be delivered after the last interval.
pub const DELIVERY_DEADLINE: Duration = Duration::from_secs(5);

/// What the world asks of a running pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// End after a last snapshot; the second one ends at once.
    Stop,
    /// End after a last snapshot, as nobody reads any more; said again it changes nothing.
    ReaderGone,
    /// Reopen log files.
    Reopen,
}

/// What a pipeline tells its observer.
#[derive(Debug)]
pub enum Event<'a> {
    /// An interval was counted and judged.
    Interval {
        /// What was counted.
        snapshot: &'a Snapshot,
        /// What is told about it.
        alerts: &'a [Alert],
        /// Alerts so far, these included.
        alerts_so_far: u64,
    },
    /// The backend failed; what it counted before has been seen.
    Failed(&'a backend::Error),
    /// This many alerts wait to be delivered; the end waits for them.
    Draining(u64),
}

/// How a pipeline ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Everything counted.
    pub totals: Totals,
    /// From the start of the first interval to the end of the last.
    pub length: Duration,
    /// Alerts told.
    pub alerts: u64,
    /// Alerts that would have been told, where nobody was to be.
    pub untold: Option<u64>,
    /// The series remembered, and those there was no room for.
    pub series: series::Counters,
    /// Findings that were not told, as another one had the same cause.
    pub folded: u64,
    /// The interval asked for.
    pub interval: Duration,
    /// Intervals of a run before which nothing can alert.
    pub least_intervals: u64,
    /// How each remote sink ended; `None` when a second stop signal cut that short.
    pub sinks: Option<sink::Outcome>,
    /// The backend's faults, in order.
    pub faults: Vec<backend::Error>,
}

/// Turns one snapshot after the other into alerts. No clock and no I/O: a replay, a test and a live host
/// run the very same code.
#[derive(Clone)]
pub struct Stages {
    interval: Duration,
    judge: AnyJudge,
    rules: Rules,
    overrides: Overrides,
    lifecycle: Lifecycle,
    totals: Totals,
    start: Option<Timestamp>,
    end: Timestamp,
    alerts: u64,
    untold: Option<u64>,
}

impl Stages {
    /// The stages of `config`, on a host of this name.
    ///
    /// # Errors
    /// Settings the detector does not take.
    pub fn new(config: &Config, host: String) -> Result<Self, SettingsError> {
        let judge = AnyJudge::new(
            &config.detector,
            config.series.clone(),
            config.interval,
            config.thresholds,
            config.alerts_per_day,
        )?
        .with_overrides(Overrides(config.overrides.clone()));
        Ok(Self {
            interval: config.interval,
            judge: match config.source {
                Source::Live { .. } => judge.skip_first(),
                Source::Files(_) => judge,
            },
            rules: Rules::new(&config.rules, config.series.unit),
            overrides: Overrides(config.overrides.clone()),
            lifecycle: Lifecycle::new(config.alert, host),
            totals: Totals::default(),
            start: None,
            end: Timestamp::default(),
            alerts: 0,
            untold: config.learn.then_some(0),
        })
    }

    /// Judges and counts one interval; what is to be told about it.
    pub fn step(&mut self, snapshot: &mut Snapshot) -> Vec<Alert> {
        let turned_away = self.judge.counters().turned_away;
        self.overrides.ignore(snapshot);
        let mut findings = self.judge.judge(snapshot);
        if turned_away == 0 && self.judge.counters().turned_away > 0 {
            tracing::warn!(
                "there are more series than there is room for (--max-series): new ones with little traffic are not judged"
            );
        }
        findings.splice(0..0, self.broken(snapshot));
        let mut alerts = self.lifecycle.admit(findings, snapshot.end);
        if let Some(untold) = &mut self.untold {
            *untold += alerts.len() as u64;
            alerts.clear();
        }
        self.totals.add(snapshot);
        self.start.get_or_insert(snapshot.start);
        self.end = snapshot.end;
        self.alerts += alerts.len() as u64;
        alerts
    }

    /// The rules that an interval breaks; says it once when they have no room for more.
    fn broken(&mut self, snapshot: &Snapshot) -> Vec<Finding> {
        let before = self.rules.counters();
        let broken = self.rules.evaluate(snapshot);
        let after = self.rules.counters();
        if before.untold == 0 && after.untold > 0 {
            tracing::warn!(
                "a rule remembers {} destinations and no more: further new ones are not told; let it match less",
                rules::MAX_DESTINATIONS
            );
        }
        if before.turned_away == 0 && after.turned_away > 0 {
            tracing::warn!(
                "a rule measures {} nets, hosts or pairs at once and no more: light ones are left out",
                rules::MAX_GROUPS
            );
        }
        broken.into_iter().map(|broken| Finding::of_rule(broken, self.interval)).collect()
    }

    /// Series remembered.
    #[must_use]
    pub fn series(&self) -> u64 {
        self.judge.counters().held
    }
}

/// Runs until the backend has no more, fails, or `signals` says stop; then saves what was learned and waits for
/// undelivered alerts.
pub async fn run(
    mut stages: Stages,
    backend: Box<dyn Backend>,
    sinks: Sinks,
    mut keeper: Option<Keeper>,
    signals: &mut mpsc::Receiver<Signal>,
    mut observe: impl FnMut(Event<'_>),
) -> Outcome {
    let mut outcome = Outcome::default();
    // What a file holds is not this agent's doing.
    let own = backend.is_live().then(|| sinks.own_traffic());
    let live = backend.is_live();
    let Pump { mut snapshots, stop, thread } = Pump::start(backend, stages.interval);
    let mut stopping: Option<Instant> = None;
    let mut at_once = false;
    loop {
        tokio::select! {
            next = snapshots.recv() => match next {
                Some(Ok(mut snapshot)) => {
                    if let Some(own) = &own {
                        if let Err(error) = own.refresh() {
                            tracing::debug!("cannot list the agent's own connections: {error}");
                        }
                        own.mark(&mut snapshot);
                    }
                    enrich::locality::mark(&mut snapshot);
                    let alerts = stages.step(&mut snapshot);
                    for alert in &alerts {
                        sinks.tell(alert);
                    }
                    observe(Event::Interval { snapshot: &snapshot, alerts: &alerts, alerts_so_far: stages.alerts });
                    if let Some(keeper) = &mut keeper
                        && keeper.is_due(snapshot.length)
                        && let Some(learned) = stages.learned()
                    {
                        keeper.save(learned);
                    }
                }
                Some(Err(fault)) => {
                    observe(Event::Failed(&fault));
                    outcome.faults.push(fault);
                }
                None => break,
            },
            signal = signals.recv() => match signal {
                Some(Signal::Reopen) => sinks.reopen(),
                Some(Signal::ReaderGone) if stopping.is_some() => {}
                Some(Signal::Stop) if stopping.is_some_and(|first| first.elapsed() < SAME_SIGNAL) => {}
                Some(Signal::Stop | Signal::ReaderGone) if stopping.is_none() => {
                    stopping = Some(Instant::now());
                    // Fails only when the thread has ended by itself, and then recv() says so next.
                    let _ = stop.send(());
                    if !live {
                        // The thread may read a pipe in which nothing comes; what it has handed over is judged.
                        snapshots.close();
                    }
                }
                Some(_) | None => {
                    at_once = true;
                    break;
                }
            },
        }
    }
    if !at_once
        && (live || stopping.is_none())
        && let Err(fault) = thread.join().map_err(|_| crashed())
    {
        observe(Event::Failed(&fault));
        outcome.faults.push(fault);
    }
    let learned = keeper.zip(if at_once { None } else { stages.learned() });
    outcome.totals = stages.totals;
    outcome.length = stages.start.map(|start| stages.end.since(start)).unwrap_or_default();
    outcome.alerts = stages.alerts;
    outcome.untold = stages.untold;
    outcome.series = stages.judge.counters();
    outcome.folded = stages.judge.folded();
    outcome.interval = stages.interval;
    outcome.least_intervals = stages.judge.least_intervals();
    if at_once {
        return outcome;
    }
    // An echo of the first signal that came while the last interval was counted.
    while stopping.is_some_and(|first| first.elapsed() < SAME_SIGNAL) && signals.try_recv().is_ok() {}
    let waiting = sinks.pending();
    if waiting > 0 {
        observe(Event::Draining(waiting));
    }
    let saved = async {
        if let Some((keeper, learned)) = learned {
            keeper.finish(learned).await;
        }
    };
    tokio::select! {
        (ended, ()) = async { tokio::join!(sinks.shutdown(DELIVERY_DEADLINE), saved) } => outcome.sinks = Some(ended),
        () = stopped_again(signals) => {}
    }
    outcome
}

/// Waits for a stop signal.
async fn stopped_again(signals: &mut mpsc::Receiver<Signal>) {
    while let Some(signal) = signals.recv().await {
        if signal == Signal::Stop {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// A panic, whose message is on standard error, must not look like a good end.
fn crashed() -> backend::Error {
    backend::Error::System {
        action: "counting".to_owned(),
        reason: "stopped by a fault of this program; what was counted before holds. Please report the message above"
            .to_owned(),
    }
}
