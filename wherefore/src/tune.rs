//! Which setting gives a wanted number of alerts a day, by what each would have alerted on. Pure.

use std::{cmp::Ordering, fmt, time::Duration};

use crate::units::format_number;

const DAY: f64 = 86_400.0;
/// Alerts wanted of the whole data below which a count says little: three, where by Poisson's law one still sees none in
/// 5 % of all cases.
const ENOUGH: f64 = 3.0;

/// One setting, and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Setting {
    /// `--alerts-per-day`.
    AlertsPerDay(f64),
    /// `--alert-threshold`.
    AlertThreshold(f64),
    /// `--min-bytes`.
    MinBytes(u64),
}

impl Setting {
    /// Its name in the configuration file; with hyphens that of the flag.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::AlertsPerDay(_) => "alerts_per_day",
            Self::AlertThreshold(_) => "alert_threshold",
            Self::MinBytes(_) => "min_bytes",
        }
    }

    /// Budgets around the wanted one, the strictest first.
    #[must_use]
    pub fn budgets(wanted: f64) -> Ladder {
        let steps = [1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
        // Three digits: 3 x 0.2 is 0.6 for a person.
        let rounded = |value: f64| format!("{value:.2e}").parse().unwrap_or(value);
        let others = steps.into_iter().filter(|&step| step != 1.0);
        let others = others.map(|step| Self::AlertsPerDay(rounded(step * wanted)));
        Ladder::new(others, Self::AlertsPerDay(wanted))
    }

    /// Thresholds around the one in effect, likewise.
    #[must_use]
    pub fn thresholds(now: f64) -> Ladder {
        let thresholds = [0.9999, 0.999, 0.99, 0.97, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5];
        Ladder::new(thresholds.map(Self::AlertThreshold), Self::AlertThreshold(now))
    }

    /// Volumes around the one in effect, likewise.
    #[must_use]
    pub fn volumes(now: u64) -> Ladder {
        let volumes = [1_000_000_000, 300_000_000, 100_000_000, 30_000_000, 10_000_000, 3_000_000, 1_000_000]
            .into_iter()
            .chain([300_000, 100_000, 30_000, 10_000]);
        Ladder::new(volumes.map(Self::MinBytes), Self::MinBytes(now))
    }

    /// Larger is stricter.
    fn strictness(self) -> f64 {
        match self {
            Self::AlertsPerDay(budget) => -budget,
            Self::AlertThreshold(threshold) => threshold,
            Self::MinBytes(bytes) => bytes as f64,
        }
    }
}

/// The value as a flag and as TOML take it.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlertsPerDay(value) | Self::AlertThreshold(value) => f.write_str(&format_number(*value)),
            Self::MinBytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// Values of one setting, the strictest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Ladder {
    /// The values.
    pub settings: Vec<Setting>,
    /// Which of them is in effect where nothing is known of the data.
    pub start: usize,
}

impl Ladder {
    fn new(settings: impl IntoIterator<Item = Setting>, start: Setting) -> Self {
        let mut settings: Vec<_> = settings.into_iter().filter(|&other| other != start).collect();
        settings.push(start);
        settings.sort_by(|a, b| b.strictness().total_cmp(&a.strictness()));
        let start = settings.iter().position(|&setting| setting == start).unwrap_or_default();
        Self { settings, start }
    }

    /// Which setting to use, if it alerted `alerts[i]` times at the `i`th; `None` where the strictest alerts too often.
    ///
    /// The one that alerts most often of those that alert no more often than wanted; the strictest of several. Where
    /// a looser one alerts less often it is no looser any more: it never leaves the anomalous state.
    ///
    /// With too little data to tell, none is looser than where nothing is known; and one alert is allowed, as less
    /// than that cannot be asked for.
    #[must_use]
    pub fn choose(&self, alerts: &[usize], wish: &Wish) -> Option<usize> {
        let fits =
            |at: &usize| alerts.get(*at).is_some_and(|&alerts| alerts as f64 <= wish.alerts().max(1.0));
        if !fits(&self.start) {
            return (0..self.start).rev().find(fits);
        }
        let mut chosen = self.start;
        let looser = if wish.is_told() { self.start + 1..self.settings.len() } else { 0..0 };
        for at in looser.take_while(fits) {
            match alerts[at].cmp(&alerts[chosen]) {
                Ordering::Less => break,
                Ordering::Equal => {}
                Ordering::Greater => chosen = at,
            }
        }
        Some(chosen)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// Alerts a day.
    pub a_day: f64,
    /// From the data's beginning to its end.
    pub length: Duration,
}

impl Wish {
    /// Alerts wanted of all the data.
    #[must_use]
    pub fn alerts(&self) -> f64 {
        self.a_day * self.length.as_secs_f64() / DAY
    }

    /// Whether there is enough data to tell such a rate.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.alerts() >= ENOUGH
    }

    /// How much would be enough.
    #[must_use]
    pub fn enough(&self) -> Duration {
        Duration::try_from_secs_f64(ENOUGH * DAY / self.a_day).unwrap_or(Duration::MAX)
    }

    /// Alerts a day, of so many in all the data; `None` where it has no length.
    #[must_use]
    pub fn rate(&self, alerts: usize) -> Option<f64> {
        let days = self.length.as_secs_f64() / DAY;
        (days > 0.0).then(|| alerts as f64 / days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: u64) -> Wish {
        Wish { a_day: 1.0, length: Duration::from_secs(days * 86_400) }
    }

    #[test]
    fn ladders_go_from_strict_to_loose_and_hold_what_is_in_effect() {
        for (ladder, start) in [
            (Setting::budgets(2.0), Setting::AlertsPerDay(2.0)),
            (Setting::thresholds(0.65), Setting::AlertThreshold(0.65)),
            (Setting::thresholds(0.9), Setting::AlertThreshold(0.9)),
            (Setting::volumes(0), Setting::MinBytes(0)),
        ] {
            assert_eq!(ladder.settings[ladder.start], start);
            assert!(ladder.settings.windows(2).all(|pair| pair[0].strictness() > pair[1].strictness()));
        }
    }

    #[test]
    fn what_alerts_most_often_of_what_fits() {
        let ladder = Setting::budgets(1.0);
        let chosen = |alerts: [usize; 10], wish| ladder.choose(&alerts, &wish).map(|at| ladder.settings[at]);
        let some = Setting::AlertsPerDay;
        assert_eq!(chosen([0, 0, 0, 1, 3, 8, 10, 11, 40, 99], days(10)), Some(some(3.0)));
        assert_eq!(chosen([0, 0, 0, 1, 3, 11, 12, 13, 40, 99], days(10)), Some(some(0.3)));
        assert_eq!(chosen([0; 10], days(10)), Some(some(1.0)), "nothing says that looser is better");
        assert_eq!(chosen([0, 0, 0, 1, 3, 3, 4, 4, 2, 1], days(10)), Some(some(3.0)), "no looser any more");
        assert_eq!(chosen([11; 10], days(10)), None);
    }

    #[test]
    fn with_little_data_nothing_is_loosened_and_one_alert_is_allowed() {
        let ladder = Setting::budgets(1.0);
        let short = Wish { a_day: 1.0, length: Duration::from_secs(300) };
        assert!(!short.is_told() && days(3).is_told());
        assert_eq!(short.enough(), Duration::from_secs(3 * 86_400));
        assert_eq!((short.rate(1), Wish { length: Duration::ZERO, ..short }.rate(1)), (Some(288.0), None));
        assert_eq!(ladder.choose(&[0; 10], &short), Some(ladder.start));
        assert_eq!(ladder.choose(&[0, 1, 1, 1, 1, 1, 1, 1, 1, 1], &short), Some(ladder.start));
        assert_eq!(ladder.choose(&[0, 1, 1, 2, 2, 2, 2, 2, 2, 2], &short), Some(2));
    }
}
