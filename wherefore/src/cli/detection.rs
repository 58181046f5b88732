//! The detector's settings: a profile, changed by what was given.

use super::args::{Bound, DetectionArgs, DetectorArgs};
use super::configure::within;
use super::watch_args::named;
use crate::{
    config::{ConfigError, default},
    detect::{
        self, Name,
        anomalyzer::{Anomalyzer, Method, ORIGINAL_THRESHOLD, Settings},
    },
    judge::Thresholds,
    score,
    series::{self, Level},
    units::format_number,
};

/// What judges a series.
#[derive(Clone, Debug)]
pub(super) struct Detection {
    /// The detector.
    pub detector: detect::Settings,
    /// False alerts a day that are bearable.
    pub alerts_per_day: f64,
    /// When a verdict becomes a finding.
    pub thresholds: Thresholds,
    /// Which series are remembered; what `SeriesArgs` say is not yet in it.
    pub series: series::Settings,
    /// What a person should know about them, one sentence each.
    pub notes: Vec<String>,
}

/// What scores a series.
#[derive(Clone, Debug)]
pub(super) struct Scoring {
    /// The detector and its history.
    pub settings: score::Settings,
    /// False alerts a day that are bearable.
    pub alerts_per_day: f64,
    /// What a person should know about them, one sentence each.
    pub notes: Vec<String>,
}

const MAX_HISTORY: usize = 10_000;
/// Most and least false alerts a day: fewer would need the values of centuries to be held against, and more than
/// one a second is no budget.
const BUDGETS: std::ops::RangeInclusive<f64> = 1e-6..=86_400.0;

/// The settings of `run` and `replay`: the profile (`original`: the original's), changed by `args`, and checked.
pub(super) fn settings(args: &DetectionArgs, original: bool) -> Result<Detection, ConfigError> {
    let (mut thresholds, mut series) = if original {
        (Thresholds::original(), series::Settings::original())
    } else {
        (Thresholds::default(), series::Settings::default())
    };
    let detector = match chosen(&args.detector, original)? {
        Name::Auto => detect::Settings::Auto,
        Name::Ewma => detect::Settings::Ewma,
        Name::Spot => detect::Settings::Spot,
        Name::Anomalyzer => {
            let settings = anomalyzer(&args.detector, original)?;
            let window = window(&settings);
            series.levels = vec![Level::Pair];
            series.history = match history(&args.detector)? {
                Some(cap) => cap,
                // The original kept 30 points, however long the windows; ours are as long as the windows ask for.
                None if original => series.history,
                None => series.history.max(window).min(MAX_HISTORY),
            };
            suffices(&settings, series.history)?;
            thresholds.probability = threshold(&args.detector, thresholds.probability)?;
            detect::Settings::Anomalyzer { settings, threshold: thresholds.probability }
        }
    };
    let history = series.history;
    set(&mut thresholds.min_bytes, args.min_bytes);
    set(&mut thresholds.min_factor, args.min_factor);
    if thresholds.min_factor < 0.0 {
        return Err(ConfigError::Value {
            flag: "--min-factor",
            given: format_number(thresholds.min_factor),
            allowed: "0 or more".into(),
        });
    }
    match args.min_history {
        Some(asked) => {
            thresholds.min_history = within("--min-history", asked, &(1..=MAX_HISTORY))?;
            if asked > history && matches!(detector, detect::Settings::Anomalyzer { .. }) {
                return Err(ConfigError::Contradiction {
                    what: format!(
                        "--min-history {asked}: only {history} intervals are kept, so nothing would alert"
                    ),
                    remedy: format!("use --anom-gv-cap {asked} or more, or a smaller --min-history"),
                });
            }
        }
        // A short history that was asked for must not silence everything.
        None => thresholds.min_history = thresholds.min_history.min(history),
    }
    Ok(Detection {
        alerts_per_day: budget(&args.detector)?,
        notes: notes(&args.detector, &detector),
        detector,
        thresholds,
        series,
    })
}

/// The settings of `score`. The Anomalyzer is shown the whole series unless it is told otherwise, and alerts above the
/// original's threshold.
pub(super) fn scoring(args: &DetectorArgs, original: bool) -> Result<Scoring, ConfigError> {
    let history = history(args)?;
    let detector = match chosen(args, original)? {
        Name::Auto => detect::Settings::Auto,
        Name::Ewma => detect::Settings::Ewma,
        Name::Spot => detect::Settings::Spot,
        Name::Anomalyzer => {
            let settings = anomalyzer(args, original)?;
            suffices(&settings, history.unwrap_or(usize::MAX))?;
            detect::Settings::Anomalyzer { settings, threshold: threshold(args, ORIGINAL_THRESHOLD)? }
        }
    };
    let (alerts_per_day, notes) = (budget(args)?, notes(args, &detector));
    Ok(Scoring { settings: score::Settings { detector, history }, alerts_per_day, notes })
}

/// The detector that was named, or the only one that what was given means something to.
fn chosen(args: &DetectorArgs, original: bool) -> Result<Name, ConfigError> {
    let own = args.of_anomalyzer().or_else(|| original.then_some("-anom_ flags"));
    match (args.detector, own) {
        (Some(name), Some(flag)) if name != Name::Anomalyzer => Err(ConfigError::Contradiction {
            what: format!("{flag} with --detector {}: only the Anomalyzer has such a setting", named(&name)),
            remedy: "leave one of them out".into(),
        }),
        (Some(name), _) => Ok(name),
        (None, Some(_)) => Ok(Name::Anomalyzer),
        (None, None) => Ok(Name::default()),
    }
}

fn budget(args: &DetectorArgs) -> Result<f64, ConfigError> {
    let budget = args.alerts_per_day.unwrap_or(default::ALERTS_PER_DAY);
    if BUDGETS.contains(&budget) {
        return Ok(budget);
    }
    Err(ConfigError::Value {
        flag: "--alerts-per-day",
        given: format_number(budget),
        allowed: "a number above 0, from 0.000001 to 86400".into(),
    })
}

/// The Anomalyzer's settings.
fn anomalyzer(args: &DetectorArgs, original: bool) -> Result<Settings, ConfigError> {
    let mut settings = if original { Settings::original() } else { Settings::default() };
    if let Some(methods) = &args.anom_methods {
        settings.methods.clone_from(methods);
    }
    set(&mut settings.sensitivity, args.anom_sensitivity);
    set(&mut settings.upper_bound, args.anom_upper_bound);
    match args.anom_lower_bound {
        Some(Bound::None) => settings.lower_bound = None,
        Some(Bound::At(bytes)) => settings.lower_bound = Some(bytes),
        None => {}
    }
    set(&mut settings.active_size, args.anom_active_size);
    set(&mut settings.n_seasons, args.anom_n_seasons);
    set(&mut settings.perm_count, args.anom_perm_count);
    set(&mut settings.delay, args.anom_delay);
    Anomalyzer::new(settings.clone())?;
    Ok(settings)
}

/// The history that was asked for.
fn history(args: &DetectorArgs) -> Result<Option<usize>, ConfigError> {
    args.anom_gv_cap.map(|cap| within("--anom-gv-cap", cap, &(1..=MAX_HISTORY))).transpose()
}

/// Whether a history of so many values lets the Anomalyzer ever judge.
fn suffices(settings: &Settings, history: usize) -> Result<(), ConfigError> {
    let window = window(settings);
    if settings.delay && history < window {
        return Err(ConfigError::Contradiction {
            what: format!(
                "--anom-delay waits for {window} intervals (active size x (seasons + 1)), but only {history} are kept"
            ),
            remedy: format!("use --anom-gv-cap {window} or smaller windows"),
        });
    }
    let least = settings.methods.iter().map(|method| method.least(settings.active_size)).min();
    if let Some(least) = least.filter(|&least| history < least) {
        return Err(ConfigError::Contradiction {
            what: format!(
                "--anom-active-size {}: no method can judge before it has {least} intervals, but only {history} are kept",
                settings.active_size
            ),
            remedy: if least <= MAX_HISTORY {
                format!("use --anom-gv-cap {least} or more, or a smaller active size")
            } else {
                "use a smaller active size".to_owned()
            },
        });
    }
    Ok(())
}

/// The probability above which the Anomalyzer alerts.
fn threshold(args: &DetectorArgs, default: f64) -> Result<f64, ConfigError> {
    let threshold = args.alert_threshold.unwrap_or(default);
    if (0.0..1.0).contains(&threshold) {
        return Ok(threshold);
    }
    Err(ConfigError::Value {
        flag: "--alert-threshold",
        given: format_number(threshold),
        allowed: "0 to below 1 (no probability is above 1)".into(),
    })
}

fn notes(args: &DetectorArgs, detector: &detect::Settings) -> Vec<String> {
    let detect::Settings::Anomalyzer { settings, .. } = detector else { return Vec::new() };
    let unheard = args.alerts_per_day.is_some().then(|| {
        "--alerts-per-day has no effect on the Anomalyzer: its threshold is --alert-threshold".to_owned()
    });
    let mute = settings.methods.contains(&Method::Magnitude) && settings.sensitivity > 1.0;
    let muted = mute.then(|| {
        format!(
            "--anom-sensitivity {}: above 1 the magnitude test keeps everything but the first interval of a series \
             from alerting",
            format_number(settings.sensitivity)
        )
    });
    unheard.into_iter().chain(muted).collect()
}

fn set<T: Copy>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// Points of reference and active window together.
const fn window(settings: &Settings) -> usize {
    // 0 means 4, upstream's default.
    let seasons = if settings.n_seasons == 0 { 4 } else { settings.n_seasons };
    settings.active_size.saturating_mul(seasons.saturating_add(1))
}
