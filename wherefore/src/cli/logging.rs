//! Where log lines go while the pipeline runs.

use std::sync::Mutex;

use tokio::sync::mpsc;
use tracing::Metadata;
use tracing_subscriber::{
    Layer as _,
    filter::{FilterExt as _, FilterFn, LevelFilter, filter_fn},
    fmt,
    layer::SubscriberExt as _,
};

use super::{
    args::CommonArgs,
    run::Follow,
    screen::{LastLines, Lines},
};
use crate::{pipeline::Signal, sink::log::TextLog};

/// The target of log events that hold an alert. They are logged at any level. Where alerts are shown elsewhere, they
/// are for `wherefore.log` only.
pub(super) const ALERT: &str = "wherefore::alert";

/// The target of log events for `wherefore.log` only: elsewhere a person reads the same in another form.
pub(super) const FILE: &str = "wherefore::file";

/// Logs to where nothing else is shown, and to `wherefore.log` always.
pub(super) fn start(
    common: &CommonArgs,
    follow: Follow,
    color: bool,
    text_log: Option<TextLog>,
    last_lines: &LastLines,
    signal: &mpsc::Sender<Signal>,
) {
    let level = LevelFilter::from_level(common.level().tracing());
    // What cannot be written is lost: told on standard error it would end the program, should that be gone, too.
    let layer = || fmt::layer().with_target(false).with_ansi(false).log_internal_errors(false);
    let but_alerts =
        |level: LevelFilter| filter_fn(|event| ![ALERT, FILE].contains(&event.target())).and(level);
    let screen = match follow {
        // The live table says itself what is watched, and has a place of its own for alerts.
        Follow::Table => layer()
            .with_writer(Mutex::new(last_lines.clone()))
            .with_filter(but_alerts(level.min(LevelFilter::WARN)))
            .boxed(),
        Follow::Lines => {
            let writer = Mutex::new(Lines(signal.clone()));
            layer()
                .with_ansi(color)
                .with_writer(writer)
                .with_filter(and_alerts(level).and(not_for_the_file()))
                .boxed()
        }
        Follow::Records(_) => {
            layer().with_ansi(color).with_writer(std::io::stderr).with_filter(but_alerts(level)).boxed()
        }
    };
    let file = text_log.map(|log| {
        fmt::layer()
            .with_target(false)
            .with_ansi(false)
            .log_internal_errors(false)
            .with_writer(log)
            .with_filter(and_alerts(level))
    });
    // Fails only when a logger is set already: in a test that runs a command twice.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(screen).with(file));
}

fn not_for_the_file() -> FilterFn {
    filter_fn(|event| event.target() != FILE)
}

/// Everything from `level` on, and alerts.
fn and_alerts(level: LevelFilter) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |event| event.target() == ALERT || *event.level() <= level)
}
