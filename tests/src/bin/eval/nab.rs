//! The rules of the Numenta Anomaly Benchmark: Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms:
//! the Numenta Anomaly Benchmark", 14th International Conference on Machine Learning and Applications, 2015
//! (arXiv:1510.03336). What the paper leaves open (probation, positions behind a window) is as the benchmark
//! computes it. Pure.

use std::ops::RangeInclusive;

/// Part of a file that is not scored, at its beginning; of a long file no more than of [`PROBATION_ROWS`] rows.
const PROBATION: f64 = 0.15;
/// Rows beyond which probation grows no more.
const PROBATION_ROWS: usize = 5_000;
/// Widths of a window behind its end from which on a false alert costs its whole weight.
const FAR: f64 = 3.0;

/// What each kind of mistake costs; a window found at once gains 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Its name in the benchmark.
    pub name: &'static str,
    /// A false alert, far from any window.
    pub false_positive: f64,
    /// A window without an alert.
    pub false_negative: f64,
}

/// The benchmark's profiles, the standard one first.
pub const PROFILES: [Profile; 3] = [
    Profile { name: "standard", false_positive: 0.11, false_negative: 1.0 },
    Profile { name: "reward_low_FP", false_positive: 0.22, false_negative: 1.0 },
    Profile { name: "reward_low_FN", false_positive: 0.11, false_negative: 2.0 },
];

/// Where the anomalies of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Rows of the file.
    pub rows: usize,
    /// The windows by row, in order and apart from each other.
    pub windows: Vec<RangeInclusive<usize>>,
}

/// What one file's alerts came to. Sums over files are added up by [`Tally::add`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Windows there are.
    pub windows: usize,
    /// Windows with an alert.
    pub found: usize,
    /// What the found windows gained: of each one 1 at its first row, near 0 at its last.
    pub gain: f64,
    /// Alerts outside of windows.
    pub false_alerts: usize,
    /// What they cost before their weight: of each one 0 right behind a window, 1 far from any.
    pub cost: f64,
}

impl Tally {
    /// Of alerts at these rows, in order.
    pub fn of(labels: &Labels, alerts: impl IntoIterator<Item = usize>) -> Self {
        let mut tally = Self { windows: labels.windows.len(), ..Self::default() };
        let probation = probation(labels.rows);
        let mut last_found = None;
        for row in alerts.into_iter().filter(|row| *row >= probation) {
            // Windows that begin at or before the row.
            let begun = labels.windows.partition_point(|window| *window.start() <= row);
            let before = begun.checked_sub(1).map(|place| &labels.windows[place]);
            match before {
                Some(window) if window.contains(&row) => {
                    if last_found != Some(begun) {
                        last_found = Some(begun);
                        tally.found += 1;
                        tally.gain += sigmoid(inside(window, row)) / sigmoid(-1.0);
                    }
                }
                before => {
                    tally.false_alerts += 1;
                    tally.cost -= before.map_or(-1.0, |window| sigmoid(behind(window, row)));
                }
            }
        }
        tally
    }

    /// Adds another file's.
    pub fn add(&mut self, other: &Self) {
        self.windows += other.windows;
        self.found += other.found;
        self.gain += other.gain;
        self.false_alerts += other.false_alerts;
        self.cost += other.cost;
    }

    /// The sum of several files.
    pub fn sum<'a>(tallies: impl IntoIterator<Item = &'a Self>) -> Self {
        tallies.into_iter().fold(Self::default(), |mut sum, tally| {
            sum.add(tally);
            sum
        })
    }

    /// The normalised score: 0 without any alert, 100 with each window found at its first row and nothing else. `None`
    /// where there is no window: then nothing can be gained.
    pub fn score(&self, profile: Profile) -> Option<f64> {
        if self.windows == 0 {
            return None;
        }
        let missed = (self.windows - self.found) as f64;
        let sum = self.gain - profile.false_negative * missed - profile.false_positive * self.cost;
        let (null, perfect) = (-profile.false_negative * self.windows as f64, self.windows as f64);
        Some(100.0 * (sum - null) / (perfect - null))
    }
}

/// Rows at the beginning of a file of so many that are not scored.
pub fn probation(rows: usize) -> usize {
    (rows.min(PROBATION_ROWS) as f64 * PROBATION) as usize
}

/// Where in a window a row lies: -1 at its first, just below 0 at its last.
fn inside(window: &RangeInclusive<usize>, row: usize) -> f64 {
    -((window.end() - row + 1) as f64) / width(window)
}

/// How far behind a window a row lies, in its widths. A window of one row counts as one of two.
fn behind(window: &RangeInclusive<usize>, row: usize) -> f64 {
    (row - window.end()) as f64 / (width(window) - 1.0).max(1.0)
}

/// Rows of a window.
fn width(window: &RangeInclusive<usize>) -> f64 {
    (window.end() - window.start() + 1) as f64
}

/// 2 / (1 + exp(5 y)) - 1: 0.987 at -1, 0 at 0, -1 [far](FAR) behind.
fn sigmoid(y: f64) -> f64 {
    if y > FAR { -1.0 } else { 2.0 / (1.0 + (5.0 * y).exp()) - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 rows, of which 15 are probation, with windows of 10 and of 20 rows.
    fn labels() -> Labels {
        Labels { rows: 100, windows: vec![30..=39, 60..=79] }
    }

    fn tally(alerts: &[usize]) -> Tally {
        Tally::of(&labels(), alerts.iter().copied())
    }

    fn scores(alerts: &[usize]) -> [f64; 3] {
        PROFILES.map(|profile| tally(alerts).score(profile).expect("there are windows"))
    }

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }

    #[test]
    fn nothing_said_is_0_and_everything_at_once_is_100() {
        for (nothing, perfect) in scores(&[]).into_iter().zip(scores(&[30, 60])) {
            near(nothing, 0.0);
            near(perfect, 100.0);
        }
    }

    #[test]
    fn a_window_gains_less_the_later_it_is_found() {
        // y = -0.1: 2/(1 + e^-0.5) - 1 = 0.244918662, over 2/(1 + e^-5) - 1 = 0.986614298.
        near(tally(&[39]).gain, 0.248_241_546);
        // y = -0.5: 2/(1 + e^-2.5) - 1 = 0.848283640.
        near(tally(&[35]).gain, 0.859_792_568);
        // One window of two missed: (0.248241546 - 1 + 2) / 4 and, missed ones twice as dear, (0.248241546 - 2 + 4) / 6.
        let [standard, _, low_fn] = scores(&[39]);
        near(standard, 31.206_038_74);
        near(low_fn, 37.470_692_50);
    }

    #[test]
    fn only_the_first_alert_in_a_window_counts() {
        assert_eq!(tally(&[35, 36, 39]), tally(&[35]));
        let both = tally(&[39, 79]);
        assert_eq!((both.found, both.false_alerts), (2, 0));
    }

    #[test]
    fn a_false_alert_costs_by_its_distance_behind_a_window() {
        // Before any window: the whole weight, 0.11 of 4, twice that where false alerts are dear.
        let [standard, low_fp, low_fn] = scores(&[20]);
        near(standard, -2.75);
        near(low_fp, -5.5);
        near(low_fn, -0.11 / 6.0 * 100.0);
        // The next row behind a window of 10: y = 1/9, 1 - 2/(1 + e^(5/9)) = 0.270847118.
        near(tally(&[40]).cost, 0.270_847_118);
        // y = 18/9 = 2: 1 - 2/(1 + e^10) = 0.999909204.
        near(tally(&[57]).cost, 0.999_909_204);
        // The window before it decides, not the nearest: y = 20/19 behind the second.
        near(tally(&[99]).cost, 0.989_695_517);
    }

    #[test]
    fn probation_does_not_count() {
        assert_eq!(tally(&[0, 14]), tally(&[]));
        assert_eq!(tally(&[15]).false_alerts, 1);
        assert_eq!(
            [probation(100), probation(4_032), probation(5_000), probation(22_695)],
            [15, 604, 750, 750]
        );
        // A window that begins in probation is found by what comes behind it.
        let labels = Labels { rows: 100, windows: vec![10..=19] };
        assert_eq!(Tally::of(&labels, [12]).found, 0);
        assert_eq!(Tally::of(&labels, [12, 15]).found, 1);
    }

    #[test]
    fn a_file_without_windows_adds_its_false_alerts_alone() {
        let calm = Tally::of(&Labels { rows: 100, windows: Vec::new() }, [50]);
        assert_eq!(calm.score(PROFILES[0]), None);
        let sum = Tally::sum([&calm, &tally(&[30, 60])]);
        // (2 - 0.11 + 2) / 4.
        near(sum.score(PROFILES[0]).expect("there are windows"), 97.25);
    }

    #[test]
    fn a_window_of_one_row_can_be_left_behind() {
        let labels = Labels { rows: 100, windows: vec![50..=50] };
        near(Tally::of(&labels, [50]).gain, 1.0);
        near(Tally::of(&labels, [51]).cost, 0.986_614_298);
    }
}
