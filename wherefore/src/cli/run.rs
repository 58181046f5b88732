//! `wherefore run` and `wherefore replay`: the pipeline with a screen.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs,
    io::{self, IsTerminal as _, Write as _},
};

use tokio::{signal::unix, sync::mpsc};

use super::{
    Parsed,
    args::Command,
    failure::Failure,
    learning::Held,
    logging::{self, ALERT, FILE},
    say,
    screen::{LastLines, Lines, LiveScreen},
};
use crate::{
    backend::{self, Backend, Description},
    config::{Config, ConfigError, Source, exit},
    pipeline::{self, Event, Outcome, Signal, Stages},
    render::{self, Format, LiveView},
    series,
    sink::{Sinks, log::TextLog},
    snapshot::Snapshot,
    units::format_duration,
};

/// Alerts kept to be said again when the live table is gone.
const ALERTS_KEPT: usize = 50;

/// How a person or a program follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// A live table on the terminal.
    Table,
    /// Log lines on standard output.
    Lines,
    /// Alerts alone on standard output; the log goes to standard error. As text of a capture, so that the same
    /// capture gives the same output; as JSON lines or CSV of a live host, too.
    Records(Format),
}

/// Runs the pipeline to its end; the exit code.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: &Config, parsed: &Parsed, format: Format) -> Result<u8, Failure> {
    let common = parsed.command.common();
    let live = matches!(config.source, Source::Live { .. });
    let terminal = std::io::stdout().is_terminal();
    let follow = match format {
        Format::Table if live && terminal => Follow::Table,
        Format::Table if live => Follow::Lines,
        records => Follow::Records(records),
    };
    let log_terminal = match follow {
        Follow::Records(_) => std::io::stderr().is_terminal(),
        Follow::Table | Follow::Lines => terminal,
    };
    let color = common.colored(std::env::var_os("NO_COLOR").as_deref(), log_terminal);
    let text_log = TextLog::open(&config.log)?;
    let last_lines = LastLines::default();
    let (signal, mut signals) = mpsc::channel(8);
    logging::start(common, follow, color, text_log.clone(), &last_lines, &signal);
    for note in parsed.warnings.iter().chain(&config.notes) {
        tracing::warn!("{note}");
    }
    if let Some(path) = &config.archive_dir {
        fs::create_dir_all(path).map_err(|error| ConfigError::File {
            flag: "--archive-dir",
            path: path.clone(),
            reason: format!("it cannot be made: {error}"),
        })?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("cannot start the async runtime"))?;
    let result = runtime.block_on(async {
        let mut stages = Stages::new(config, hostname())?;
        let held = Held::open(&config.state, std::env::var_os("STATE_DIRECTORY").as_deref())?;
        let sinks = Sinks::start(&config.log, config.slack.as_ref())?.with_text_log(text_log);
        // Nothing was attached so far, and everything has been checked.
        listen(&signal, terminal)?;
        let Some(backend) = opened(&config.source, &mut signals).await? else {
            return close(&Outcome::default(), follow, &VecDeque::new(), config.fail_on_alert);
        };
        let description = backend.description().clone();
        match &config.source {
            Source::Live { .. } => {
                tracing::info!("{description}");
                let intervals = if follow == Follow::Lines { "figures every" } else { "intervals of" };
                let length = format_duration(config.interval);
                tracing::info!("interfaces: {}; {intervals} {length}", description.chosen);
            }
            Source::Files(_) => {
                let files: Vec<_> =
                    description.watched.iter().map(|file| format!("{} ({})", file.name, file.hook)).collect();
                let interval = format_duration(config.interval);
                tracing::info!("reading {}; intervals of {interval}", files.join(", "));
            }
        }
        let keeper = held.resume(&mut stages, config);
        if config.learn {
            tracing::info!("--learn: nobody is told of anything");
        }
        let mut viewer = Viewer::new(follow, color, description, config, last_lines, Lines(signal.clone()))?;
        viewer.explain = matches!(&parsed.command, Command::Replay(args) if args.explain);
        let outcome =
            pipeline::run(stages, backend, sinks, keeper, &mut signals, |event| viewer.observe(&event)).await;
        let unwritten = viewer.unwritten;
        let alerts = std::mem::take(&mut viewer.alerts);
        drop(viewer);
        let hung_up = terminal && !std::io::stdout().is_terminal();
        let code = if hung_up {
            // There is nobody to read the last words.
            code(&outcome, config.fail_on_alert)
        } else {
            close(&outcome, follow, &alerts, config.fail_on_alert)?
        };
        Ok(if unwritten { exit::FAILURE } else { code })
    });
    // A name look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}

/// As [`start`]; `None` if a signal ended it before. Files are opened on a thread of their own: of a pipe the
/// beginning may never come.
async fn opened(
    source: &Source,
    signals: &mut mpsc::Receiver<Signal>,
) -> Result<Option<Box<dyn Backend>>, Failure> {
    if matches!(source, Source::Live { .. }) {
        return Ok(Some(start(source)?));
    }
    let source = source.clone();
    let mut opening = tokio::task::spawn_blocking(move || start(&source));
    loop {
        tokio::select! {
            opened = &mut opening => {
                let opened = opened.map_err(io::Error::other).map_err(Failure::io("cannot open the files"))?;
                return Ok(Some(opened?));
            }
            // There is nothing in a log file yet that reopening could split.
            signal = signals.recv() => if signal != Some(Signal::Reopen) {
                return Ok(None);
            }
        }
    }
}

/// Opens what `source` names.
///
/// # Errors
/// As the backend's own start.
pub fn start(source: &Source) -> Result<Box<dyn Backend>, backend::Error> {
    match source {
        Source::Live { backend, backend_why, settings } => {
            backend::live::start(*backend, backend_why, settings)
        }
        Source::Files(settings) => Ok(Box::new(backend::pcap_file::open(settings)?)),
    }
}

/// Says how it ended, and tells the exit code. `alerts`: those that went with the live table's screen.
fn close(
    outcome: &Outcome,
    follow: Follow,
    alerts: &VecDeque<String>,
    fail_on_alert: bool,
) -> Result<u8, Failure> {
    let mut text = String::new();
    let earlier = outcome.alerts.saturating_sub(alerts.len() as u64);
    if !alerts.is_empty() && earlier > 0 {
        let _ = writeln!(text, "… {earlier} earlier");
    }
    for alert in alerts {
        let _ = writeln!(text, "{alert}");
    }
    let mut figures = render::closing(&outcome.totals, outcome.length, outcome.alerts);
    figures += &render::too_short(outcome.totals.intervals, outcome.least_intervals, outcome.interval);
    if let Some(untold) = outcome.untold {
        let alerts = if untold == 1 { "alert" } else { "alerts" };
        let _ = writeln!(figures, "--learn: {untold} {alerts} would have been told");
    }
    let series::Counters { turned_away, replaced, .. } = outcome.series;
    if turned_away + replaced > 0 {
        let _ =
            writeln!(figures, "series (--max-series): {turned_away} times turned away, {replaced} replaced");
    }
    if outcome.folded > 0 {
        let _ = writeln!(figures, "findings with the cause of another one, not told: {}", outcome.folded);
    }
    if let Some(sinks) = &outcome.sinks
        && !sinks.sinks.is_empty()
    {
        figures = format!("{}\n{sinks}\n", figures.trim_end());
    }
    for line in figures.lines() {
        tracing::info!(target: FILE, "{line}");
    }
    text += &figures;
    if matches!(follow, Follow::Records(format) if format != Format::Table) {
        say(&text);
    } else {
        render::print(&text).map_err(Failure::io("cannot write to standard output"))?;
    }
    if follow == Follow::Table {
        // The log lines went with the live table's screen.
        for fault in &outcome.faults {
            say(&format!("error: {fault}\n"));
        }
    }
    Ok(code(outcome, fail_on_alert))
}

/// The exit code that tells how it ended.
fn code(outcome: &Outcome, fail_on_alert: bool) -> u8 {
    match outcome.faults.first() {
        Some(fault) => exit::of_backend(fault),
        None if fail_on_alert && outcome.alerts > 0 => exit::ALERTED,
        None => exit::OK,
    }
}

/// Shows events as they come.
struct Viewer {
    follow: Follow,
    color: bool,
    description: Description,
    interval: std::time::Duration,
    live: bool,
    /// Alerts as text say all that the verdict is made of.
    explain: bool,
    screen: Option<LiveScreen>,
    last_lines: LastLines,
    /// The newest alerts, a line each; with the live table only.
    alerts: VecDeque<String>,
    alerts_so_far: u64,
    records: Lines,
    /// An alert or a header could not be written to standard output.
    unwritten: bool,
}

impl Viewer {
    fn new(
        follow: Follow,
        color: bool,
        description: Description,
        config: &Config,
        last_lines: LastLines,
        records: Lines,
    ) -> Result<Self, Failure> {
        let screen = match follow {
            Follow::Table => Some(LiveScreen::enter().map_err(Failure::io("cannot use the terminal"))?),
            _ => None,
        };
        let mut viewer = Self {
            follow,
            color,
            description,
            interval: config.interval,
            live: matches!(config.source, Source::Live { .. }),
            explain: false,
            screen,
            last_lines,
            alerts: VecDeque::new(),
            alerts_so_far: 0,
            records,
            unwritten: false,
        };
        if follow == Follow::Records(Format::Csv) {
            viewer.record(&render::alerts::csv_header());
        }
        viewer.draw(&Snapshot::default());
        Ok(viewer)
    }

    fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Interval { snapshot, alerts, alerts_so_far } => {
                self.alerts_so_far = *alerts_so_far;
                for alert in *alerts {
                    self.tell(alert);
                }
                match self.follow {
                    Follow::Table => self.draw(snapshot),
                    Follow::Lines if self.live => tracing::info!("{}", render::interval_line(snapshot)),
                    Follow::Lines | Follow::Records(_) => {
                        tracing::debug!("until {}: {}", snapshot.end, render::interval_line(snapshot));
                    }
                }
            }
            Event::Failed(fault) => tracing::error!("{fault}"),
            Event::Draining(waiting) => {
                // The terminal is given back first: this is the last thing to read there.
                self.screen = None;
                let alerts = if *waiting == 1 { "alert waits" } else { "alerts wait" };
                say(&format!(
                    "{waiting} {alerts} to be delivered; waiting up to {} s more (Ctrl-C ends at once)\n",
                    pipeline::DELIVERY_DEADLINE.as_secs()
                ));
            }
        }
    }

    fn tell(&mut self, alert: &crate::alert::Alert) {
        match self.follow {
            Follow::Records(format) => {
                match format {
                    Format::Table if self.explain => self.record(&format!("{}\n", alert.explained())),
                    Format::Table => self.record(&format!("{}\n", alert.to_text().trim_end())),
                    Format::Json | Format::Jsonl => self.record(&format!("{}\n", alert.to_json())),
                    Format::Csv => self.record(&render::alerts::csv_line(alert)),
                }
                tracing::warn!(target: ALERT, "{}", alert.to_text());
            }
            Follow::Lines | Follow::Table => tracing::warn!(target: ALERT, "{}", alert.to_text()),
        }
        if self.follow == Follow::Table {
            if self.alerts.len() == ALERTS_KEPT {
                self.alerts.pop_front();
            }
            self.alerts.push_back(alert.to_line());
            self.last_lines.add(alert.to_line());
        }
    }

    /// Writes to standard output, for a program or a file.
    fn record(&mut self, text: &str) {
        if let Err(error) = self.records.write_all(text.as_bytes()) {
            self.unwritten = true;
            tracing::error!("cannot write to standard output: {error}");
        }
    }

    fn draw(&mut self, snapshot: &Snapshot) {
        let Some(screen) = &mut self.screen else { return };
        let (width, height) = LiveScreen::size();
        let recent = self.last_lines.get();
        let text = render::live_table(
            snapshot,
            &LiveView {
                description: &self.description,
                interval: self.interval,
                alerts: self.alerts_so_far,
                recent: &recent,
                width: width.into(),
                height: height.into(),
                color: self.color,
            },
        );
        if screen.show(&text).is_err() {
            // The terminal went away, with or without a SIGHUP: an agent that nobody sees must not stay.
            self.records.reader_gone();
        }
    }
}

/// Passes a daemon's signals on to the pipeline. SIGHUP also comes when the terminal hangs up, if standard
/// output is (`terminal`) one: then it ends the run.
fn listen(to: &mpsc::Sender<Signal>, terminal: bool) -> Result<(), Failure> {
    let kinds = [
        (unix::SignalKind::interrupt(), Signal::Stop),
        (unix::SignalKind::terminate(), Signal::Stop),
        (unix::SignalKind::hangup(), Signal::Reopen),
    ];
    for (kind, signal) in kinds {
        let mut stream = unix::signal(kind).map_err(Failure::io("cannot listen for signals"))?;
        let to = to.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                let gone = signal == Signal::Reopen && terminal && !std::io::stdout().is_terminal();
                if to.send(if gone { Signal::ReaderGone } else { signal }).await.is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

/// This host's name, for alerts.
fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}
