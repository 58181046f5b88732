//! The detector's settings: a profile, changed by what was given.

use super::args::{Bound, DetectionArgs};
use super::configure::within;
use crate::{
    config::{ConfigError, default},
    detect::anomalyzer::{Method, Settings},
    judge::Thresholds,
};

/// What judges a series.
#[derive(Clone, Debug)]
pub(super) struct Detection {
    /// The detector.
    pub anomalyzer: Settings,
    /// When a verdict becomes a finding.
    pub thresholds: Thresholds,
    /// Points of a series.
    pub history: usize,
}

const MAX_HISTORY: usize = 10_000;
const MAX_PERMUTATIONS: usize = 100_000;
/// Fewest points in the reference window; the Anomalyzer's rule.
const MIN_REFERENCE: usize = 4;

/// The profile (`original`: the original's), changed by `args`, and checked.
pub(super) fn settings(args: &DetectionArgs, original: bool) -> Result<Detection, ConfigError> {
    let (mut anomalyzer, mut thresholds) = if original {
        (Settings::original(), Thresholds::original())
    } else {
        (Settings::default(), Thresholds::default())
    };
    if let Some(methods) = &args.anom_methods {
        anomalyzer.methods.clear();
        for method in methods {
            if !anomalyzer.methods.contains(method) {
                anomalyzer.methods.push(*method);
            }
        }
    }
    set(&mut anomalyzer.sensitivity, args.anom_sensitivity);
    set(&mut anomalyzer.upper_bound, args.anom_upper_bound);
    match args.anom_lower_bound {
        Some(Bound::None) => anomalyzer.lower_bound = None,
        Some(Bound::At(bytes)) => anomalyzer.lower_bound = Some(bytes),
        None => {}
    }
    set(&mut anomalyzer.active_size, args.anom_active_size);
    set(&mut anomalyzer.n_seasons, args.anom_n_seasons);
    set(&mut anomalyzer.perm_count, args.anom_perm_count);
    set(&mut anomalyzer.delay, args.anom_delay);
    within("--anom-perm-count", anomalyzer.perm_count, &(0..=MAX_PERMUTATIONS))?;
    within("--anom-active-size", anomalyzer.active_size, &(1..=MAX_HISTORY))?;
    within("--anom-n-seasons", anomalyzer.n_seasons, &(0..=MAX_HISTORY))?;
    if let Some(cap) = args.anom_gv_cap {
        within("--anom-gv-cap", cap, &(1..=MAX_HISTORY))?;
    }
    let window = check_windows(&anomalyzer)?;
    check_fence(&anomalyzer)?;

    // The original kept 30 points, however long the windows; ours are as long as the windows ask for.
    let grown = if original { default::HISTORY } else { default::HISTORY.max(window).min(MAX_HISTORY) };
    let history = args.anom_gv_cap.unwrap_or(grown);
    if anomalyzer.delay && history < window {
        return Err(ConfigError::Contradiction {
            what: format!(
                "--anom-delay waits for {window} intervals (active size x (seasons + 1)), but only {history} are kept"
            ),
            remedy: format!("use --anom-gv-cap {window} or smaller windows"),
        });
    }

    set(&mut thresholds.probability, args.alert_threshold);
    if !(0.0..1.0).contains(&thresholds.probability) {
        return Err(ConfigError::Value {
            flag: "--alert-threshold",
            given: thresholds.probability.to_string(),
            allowed: "0 to below 1 (no probability is above 1)".into(),
        });
    }
    set(&mut thresholds.min_bytes, args.min_bytes);
    set(&mut thresholds.min_factor, args.min_factor);
    within("--min-factor", thresholds.min_factor, &(0.0..=f64::MAX)).map_err(|error| match error {
        ConfigError::Value { flag, given, .. } => {
            ConfigError::Value { flag, given, allowed: "0 or more".into() }
        }
        other => other,
    })?;
    match args.min_history {
        Some(asked) => {
            thresholds.min_history = within("--min-history", asked, &(1..=MAX_HISTORY))?;
            if asked > history {
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
    Ok(Detection { anomalyzer, thresholds, history })
}

fn set<T: Copy>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// The length of reference and active window together.
fn check_windows(settings: &Settings) -> Result<usize, ConfigError> {
    // 0 means 4, upstream's default.
    let seasons = if settings.n_seasons == 0 { 4 } else { settings.n_seasons };
    let reference = settings.active_size.saturating_mul(seasons);
    if reference < MIN_REFERENCE {
        return Err(ConfigError::Contradiction {
            what: format!(
                "--anom-n-seasons {seasons} x --anom-active-size {} is a reference of {reference} intervals",
                settings.active_size
            ),
            remedy: format!("make it {MIN_REFERENCE} or more"),
        });
    }
    Ok(reference.saturating_add(settings.active_size))
}

fn check_fence(settings: &Settings) -> Result<(), ConfigError> {
    if !settings.methods.contains(&Method::Fence) {
        return Ok(());
    }
    match settings.lower_bound {
        None if settings.upper_bound <= 0.0 => Err(ConfigError::Value {
            flag: "--anom-upper-bound",
            given: settings.upper_bound.to_string(),
            allowed: "more than 0, unless there is a lower bound below it".into(),
        }),
        Some(lower) if lower >= settings.upper_bound => Err(ConfigError::Contradiction {
            what: format!(
                "--anom-lower-bound {lower} is not below --anom-upper-bound {}",
                settings.upper_bound
            ),
            remedy: "swap them, or use --anom-lower-bound none".into(),
        }),
        _ => Ok(()),
    }
}
