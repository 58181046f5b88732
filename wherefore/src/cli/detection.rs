//! The detector's settings: a profile, changed by what was given.

use super::args::{Bound, DetectionArgs};
use super::configure::within;
use crate::{
    config::ConfigError,
    detect::anomalyzer::{Anomalyzer, Method, Settings},
    judge::Thresholds,
    series,
    units::format_number,
};

/// What judges a series.
#[derive(Clone, Debug)]
pub(super) struct Detection {
    /// The detector.
    pub anomalyzer: Settings,
    /// When a verdict becomes a finding.
    pub thresholds: Thresholds,
    /// Which series are remembered; what `SeriesArgs` say is not yet in it.
    pub series: series::Settings,
    /// What a person should know about them.
    pub note: Option<String>,
}

const MAX_HISTORY: usize = 10_000;

/// The profile (`original`: the original's), changed by `args`, and checked.
pub(super) fn settings(args: &DetectionArgs, original: bool) -> Result<Detection, ConfigError> {
    let (mut anomalyzer, mut thresholds, mut series) = if original {
        (Settings::original(), Thresholds::original(), series::Settings::original())
    } else {
        (Settings::default(), Thresholds::default(), series::Settings::default())
    };
    if let Some(methods) = &args.anom_methods {
        anomalyzer.methods.clone_from(methods);
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
    Anomalyzer::new(anomalyzer.clone())?;

    let window = window(&anomalyzer);
    series.history = match args.anom_gv_cap {
        Some(cap) => within("--anom-gv-cap", cap, &(1..=MAX_HISTORY))?,
        // The original kept 30 points, however long the windows; ours are as long as the windows ask for.
        None if original => series.history,
        None => series.history.max(window).min(MAX_HISTORY),
    };
    let history = series.history;
    if anomalyzer.delay && history < window {
        return Err(ConfigError::Contradiction {
            what: format!(
                "--anom-delay waits for {window} intervals (active size x (seasons + 1)), but only {history} are kept"
            ),
            remedy: format!("use --anom-gv-cap {window} or smaller windows"),
        });
    }

    let least = anomalyzer.methods.iter().map(|method| method.least(anomalyzer.active_size)).min();
    if let Some(least) = least.filter(|&least| history < least) {
        return Err(ConfigError::Contradiction {
            what: format!(
                "--anom-active-size {}: no method can judge before it has {least} intervals, but only {history} are kept",
                anomalyzer.active_size
            ),
            remedy: if least <= MAX_HISTORY {
                format!("use --anom-gv-cap {least} or more, or a smaller active size")
            } else {
                "use a smaller active size".to_owned()
            },
        });
    }

    set(&mut thresholds.probability, args.alert_threshold);
    if !(0.0..1.0).contains(&thresholds.probability) {
        return Err(ConfigError::Value {
            flag: "--alert-threshold",
            given: format_number(thresholds.probability),
            allowed: "0 to below 1 (no probability is above 1)".into(),
        });
    }
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
    let mute = anomalyzer.methods.contains(&Method::Magnitude) && anomalyzer.sensitivity > 1.0;
    let note = mute.then(|| {
        format!(
            "--anom-sensitivity {}: above 1 the magnitude test keeps everything but the first interval of a series \
             from alerting",
            format_number(anomalyzer.sensitivity)
        )
    });
    Ok(Detection { anomalyzer, thresholds, series, note })
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
