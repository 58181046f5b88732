//! `wherefore tune`: which setting gives a wanted number of alerts a day.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    args::TuneArgs,
    detection,
    failure::Failure,
    print,
    run::start,
    say,
    score::{Series, notes},
    width,
};
use crate::{
    alarm::Alarm,
    backend,
    config::{Config, ConfigError, default, exit},
    detect, enrich, input,
    pipeline::Stages,
    render::{Output, tuning::Tuning},
    score,
    tune::{Ladder, Setting, Wish},
};

/// Text and captures are told apart by their first bytes: a capture's header has zeros.
const LOOKED_AT: u64 = 24;

/// Tries settings on files and proposes one; the exit code. `original`, `warnings`: what the original's flags came to.
///
/// # Errors
/// What kept it from starting, reading or printing.
pub fn run(args: &TuneArgs, original: bool, warnings: &[String]) -> Result<u8, Failure> {
    notes(&args.common, warnings.iter());
    let mut captures = 0;
    for file in &args.files {
        captures += usize::from(is_capture(file)?);
    }
    let wanted = args.detection.detector.alerts_per_day.unwrap_or(default::ALERTS_PER_DAY);
    let (tuning, code) = match captures {
        0 => of_series(args, original, wanted)?,
        all if all == args.files.len() => of_captures(args, original, wanted)?,
        _ => {
            return Err(Failure::Config(ConfigError::Contradiction {
                what: "both captures and series are named".into(),
                remedy: "tune on one kind at a time".into(),
            }));
        }
    };
    print(&Output { out: tuning.render(width()), err: String::new() })?;
    Ok(code)
}

/// Whether a file is a capture; else it is a series.
fn is_capture(path: &Path) -> Result<bool, Failure> {
    if path.as_os_str() == "-" {
        return Err(Failure::Config(ConfigError::Value {
            flag: "FILE",
            given: "-".into(),
            allowed: "a file: it is read more than once".into(),
        }));
    }
    let no_input = |source| backend::Error::NoInput { path: path.to_owned(), source };
    let source = input::open(path).map_err(no_input)?;
    let mut beginning = Vec::new();
    input::decompressed(source)
        .and_then(|(source, _)| source.take(LOOKED_AT).read_to_end(&mut beginning))
        .map_err(no_input)?;
    Ok(beginning.contains(&0))
}

/// Flags and lines of the configuration file that name the detector, where it is not the default.
fn naming(detector: &detect::Settings) -> (String, Vec<String>) {
    let name = super::watch_args::named(&detector.name());
    match detector {
        detect::Settings::Auto => (String::new(), Vec::new()),
        _ => (format!("--detector {name}"), vec![format!("detector = \"{name}\"")]),
    }
}

/// The setting that says how strict a detector is.
fn ladder(detector: &detect::Settings, wanted: f64) -> Ladder {
    match detector {
        detect::Settings::Anomalyzer { threshold, .. } => Setting::thresholds(*threshold),
        _ => Setting::budgets(wanted),
    }
}

fn of_series(args: &TuneArgs, original: bool, wanted: f64) -> Result<(Tuning, u8), Failure> {
    let scoring = detection::scoring(&args.detection.detector, original)?;
    let detector = &scoring.settings.detector;
    let ladder = ladder(detector, wanted);
    let (mut alerts, mut length) = (vec![Vec::new(); ladder.settings.len()], Duration::ZERO);
    let mut code = exit::OK;
    for file in &args.files {
        let mut series = Series::open(file, &args.common)?;
        length += try_series(&mut series, file, &scoring.settings, &ladder, &mut alerts)?;
        code = code.max(series.exit_code());
    }
    let (flags, toml) = naming(detector);
    let what = format!("{} series", args.files.len());
    Ok((Tuning { what, wish: Wish { a_day: wanted, length }, ladder, alerts, flags, toml }, code))
}

/// Scores one series and adds what each setting alerts on; from its first row to its last.
fn try_series(
    series: &mut Series,
    file: &Path,
    settings: &score::Settings,
    ladder: &Ladder,
    alerts: &mut [Vec<String>],
) -> Result<Duration, Failure> {
    let mut scorer = settings.scorer()?;
    let mut alarms = vec![Alarm::default(); ladder.settings.len()];
    let mut span: Option<(jiff::Timestamp, jiff::Timestamp)> = None;
    while let Some(row) = series.next()? {
        let (first, last) = span.unwrap_or((row.time, row.time));
        span = Some((first.min(row.time), last.max(row.time)));
        let score = scorer.score(row.time, row.value);
        for ((setting, alarm), alerts) in ladder.settings.iter().zip(&mut alarms).zip(&mut *alerts) {
            let mut levels = match *setting {
                Setting::AlertsPerDay(budget) => scorer.levels(budget),
                Setting::AlertThreshold(_) | Setting::MinBytes(_) => scorer.levels(1.0),
            };
            if let Setting::AlertThreshold(threshold) = *setting {
                (levels.enter, levels.leave) = (threshold, threshold);
            }
            if alarm.step(score, &levels) {
                let file = file.display();
                alerts.push(format!(
                    "{} {} (score {score:.6}) in {file}",
                    row.timestamp.trim(),
                    row.written.trim()
                ));
            }
        }
    }
    let length = span.map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
    Ok(Duration::try_from_secs_f64(length).unwrap_or_default())
}

fn of_captures(args: &TuneArgs, original: bool, wanted: f64) -> Result<(Tuning, u8), Failure> {
    let config = Config::tune(args, original)?;
    let ladder = ladder(&config.detector, wanted);
    let (tuning, code) = try_captures(&config, ladder, &args.files, wanted)?;
    if tuning.fitting().is_some() {
        return Ok((tuning, code));
    }
    // The detector cannot be made so strict; what is small can be passed over.
    try_captures(&config, Setting::volumes(config.thresholds.min_bytes), &args.files, wanted)
}

/// Replays captures once, with stages for each setting.
fn try_captures(
    config: &Config,
    ladder: Ladder,
    files: &[PathBuf],
    wanted: f64,
) -> Result<(Tuning, u8), Failure> {
    let mut stages = Vec::with_capacity(ladder.settings.len());
    for setting in &ladder.settings {
        let mut config = config.clone();
        match *setting {
            Setting::AlertsPerDay(budget) => config.alerts_per_day = budget,
            Setting::AlertThreshold(above) => {
                config.thresholds.probability = above;
                if let detect::Settings::Anomalyzer { threshold, .. } = &mut config.detector {
                    *threshold = above;
                }
            }
            Setting::MinBytes(bytes) => config.thresholds.min_bytes = bytes,
        }
        stages.push(Stages::new(&config, String::new())?);
    }
    let mut alerts = vec![Vec::new(); stages.len()];
    let mut backend = start(&config.source)?;
    let (mut span, mut code, mut fault) = (None, exit::OK, String::new());
    loop {
        match backend.poll() {
            Ok(Some(mut snapshot)) => {
                enrich::locality::mark(&mut snapshot);
                let (first, _) = span.unwrap_or((snapshot.start, snapshot.end));
                span = Some((first, snapshot.end));
                for (stages, alerts) in stages.iter_mut().zip(&mut alerts) {
                    alerts.extend(stages.step(&mut snapshot).iter().map(crate::alert::Alert::to_line));
                }
            }
            Ok(None) => break,
            Err(error) => {
                // Files are read on after a fault, until one repeats itself.
                if fault == error.to_string() {
                    break;
                }
                fault = error.to_string();
                code = exit::of_backend(&error);
                say(&format!("error: {fault}\n"));
            }
        }
    }
    let (flags, toml) = naming(&config.detector);
    let what = format!("{} capture{}", files.len(), if files.len() == 1 { "" } else { "s" });
    let length = span.map_or(Duration::ZERO, |(start, end)| end.since(start));
    Ok((Tuning { what, wish: Wish { a_day: wanted, length }, ladder, alerts, flags, toml }, code))
}
