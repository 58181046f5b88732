//! `wherefore flows`: who sent how much to whom, from captures or a live host.

use std::time::{Duration, Instant};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{Failure, args::FlowsArgs, check, print, run::start, say, width};
use crate::{
    backend::{Backend, Error},
    config::{FlowsConfig, Source, exit},
    enrich,
    render::{self, Report, Summary, flows::Options},
};

/// A live host's tables are emptied this often meanwhile, so that a long count needs no larger table.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// Counts and prints; the exit code. What could be counted of a broken file is printed all the same. `warnings`:
/// what the original's flags came to.
///
/// # Errors
/// What kept it from starting, or from printing.
pub fn run(args: &FlowsArgs, warnings: &[String]) -> Result<u8, Failure> {
    if args.files.is_empty() {
        check(&args.capture.request)?;
    }
    let config = FlowsConfig::flows(args)?;
    let level = args.common.level().tracing();
    // Fails only when a logger is set already.
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .try_init();
    for note in warnings.iter().chain(&config.notes).filter(|_| level >= tracing::Level::WARN) {
        say(&format!("note: {note}\n"));
    }
    let summary = Summary::new(args.key, args.by.is_some());
    let (mut backend, report, faults);
    if matches!(config.source, Source::Live { .. }) {
        // Before anything is attached: a signal must not end the program without detaching it.
        let signals = Signals::listen().map_err(Failure::io("cannot listen for signals"))?;
        backend = start(&config.source)?;
        if level >= tracing::Level::INFO {
            say(&format!(
                "{}; for {}\n",
                backend.description(),
                crate::units::format_duration(config.duration)
            ));
        }
        (report, faults) = collect(backend.as_mut(), summary, waiter(signals, config.duration));
    } else {
        backend = start(&config.source)?;
        (report, faults) = collect(backend.as_mut(), summary, || true);
    }
    drop(backend);
    print(&render::flows(
        &report,
        Options { format: args.format, top: args.top.map(|n| n as usize), width: width() },
    ))?;
    for fault in &faults {
        say(&format!("error: {fault}\n"));
    }
    Ok(faults.first().map_or(exit::OK, exit::of_backend))
}

/// SIGINT and SIGTERM.
struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(entered);
        Ok(Self { runtime, interrupt, terminate })
    }

    /// True if one came within `time`, or since the last wait.
    fn within(&mut self, time: Duration) -> bool {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => true,
                _ = self.terminate.recv() => true,
                () = tokio::time::sleep(time) => false,
            }
        })
    }
}

/// Waits until the next poll is due: true if there is more to come, false when `duration` is over or a signal says
/// stop.
fn waiter(mut signals: Signals, duration: Duration) -> impl FnMut() -> bool {
    let end = Instant::now() + duration;
    move || {
        let left = end.saturating_duration_since(Instant::now());
        !signals.within(left.min(POLL_EVERY)) && Instant::now() < end
    }
}

/// Reads `backend` to its end and sums up what `filter` wants.
///
/// A live backend is polled whenever `wait` returns, for the last time after it returned false (the time is
/// over, or a signal said stop). For files `wait` is not called.
///
/// A fault does not throw away what was counted: the report comes with the errors, so that the command can
/// print the one, report the others, and exit with a failure. Files are read on after an error, until one
/// repeats itself; a live backend is given up at the first.
pub fn collect(
    backend: &mut dyn Backend,
    mut summary: Summary,
    mut wait: impl FnMut() -> bool,
) -> (Report, Vec<Error>) {
    let live = backend.is_live();
    let mut errors: Vec<Error> = Vec::new();
    loop {
        let last = live && !wait();
        match if last { backend.stop() } else { backend.poll() } {
            Ok(Some(mut snapshot)) => {
                enrich::locality::mark(&mut snapshot);
                summary.add(&snapshot);
            }
            Ok(None) => break,
            Err(error) => {
                let repeats = errors.last().is_some_and(|before| before.to_string() == error.to_string());
                if !repeats {
                    errors.push(error);
                }
                if repeats || live {
                    break;
                }
            }
        }
        if last {
            break;
        }
    }
    (Report { description: backend.description().clone(), ..summary.finish() }, errors)
}

#[cfg(test)]
mod tests {
    use wherefore_common::{Amount, UnaccountedKey};

    use super::*;
    use crate::{backend::Description, render::KeyKind, snapshot::Snapshot};

    /// Answers in order; then `None` for ever, or the last answer if that was an error.
    struct Script {
        live: bool,
        answers: Vec<Result<Option<Snapshot>, &'static str>>,
        polls: usize,
        description: Description,
    }

    impl Backend for Script {
        fn description(&self) -> &Description {
            &self.description
        }
        fn is_live(&self) -> bool {
            self.live
        }
        fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
            let answer = self.answers.get(self.polls).or(self.answers.last()).cloned();
            self.polls += 1;
            answer.unwrap_or(Ok(None)).map_err(|text| Error::Permission(text.to_owned()))
        }
    }

    fn one_packet() -> Option<Snapshot> {
        let mut snapshot = Snapshot::default();
        snapshot.add_unaccounted(UnaccountedKey::default(), Amount { packets: 1, wire_bytes: 60 });
        Some(snapshot)
    }

    fn packets(script: &mut Script, wait: impl FnMut() -> bool) -> (u64, usize) {
        let (report, errors) = collect(script, Summary::new(KeyKind::Flow, false), wait);
        (report.total.packets, errors.len())
    }

    fn script(live: bool, answers: Vec<Result<Option<Snapshot>, &'static str>>) -> Script {
        Script { live, answers, polls: 0, description: Description::default() }
    }

    #[test]
    fn files_are_read_on_after_faults_until_one_repeats() {
        let answers = vec![Err("a"), Ok(one_packet()), Err("b"), Ok(one_packet()), Ok(None)];
        assert_eq!(packets(&mut script(false, answers), || unreachable!()), (2, 2));
        assert_eq!(packets(&mut script(false, vec![Ok(one_packet()), Err("a")]), || unreachable!()), (1, 1));
    }

    #[test]
    fn a_live_host_is_polled_once_more_at_the_end() {
        let mut left = 3;
        let wait = || {
            left -= 1;
            left > 0
        };
        assert_eq!(packets(&mut script(true, vec![Ok(one_packet())]), wait), (3, 0));
        assert_eq!(packets(&mut script(true, vec![Err("down")]), || true), (0, 1));
    }
}
