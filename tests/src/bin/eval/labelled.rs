//! How well detectors find what people labelled: the tables of the Numenta Anomaly Benchmark and of synthetic series.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use wherefore::{detect::quantile, score::Scored};
use wherefore_tests::{
    Random,
    report::{Cell, Table},
};

use crate::{
    nab::{PROFILES, Tally, probation},
    parallel,
    scorer::{self, DETECTORS, Detector},
    series::{self, Series},
};

/// Rows after an alert in which a repeat is not told, where alerts are taken from the scores.
const REPEATS: usize = 100;
/// Rows of a series in the short form.
const SHORT: usize = 2_000;
/// Drawings of the series with replacement.
const DRAWINGS: usize = 2_000;

/// The tables of these detectors, or of all where there are none; no tables where there are no series. `short`: the
/// beginning of one series of each family alone.
pub fn tables(detectors: &[String], short: bool) -> Result<Vec<Table>> {
    let names = DETECTORS.map(|(name, _)| name);
    if let Some(unknown) = detectors.iter().find(|wanted| !names.contains(&wanted.as_str())) {
        bail!("--detector {unknown}: there is {}", names.join(", "));
    }
    let Some(folder) = series::folder() else {
        eprintln!(
            "Left out, because ../shared is not there: the labelled series, which are other people's data and no part of \
             this repository."
        );
        return Ok(Vec::new());
    };
    let (mut nab, mut synthetic) = (series::nab(&folder)?, series::synthetic(&folder)?);
    if short {
        for all in [&mut nab, &mut synthetic] {
            all.sort_by(|a, b| a.family.cmp(&b.family));
            all.dedup_by(|a, b| a.family == b.family);
            all.iter_mut().for_each(|series| series.truncate(SHORT));
        }
    }
    let mut families: Vec<String> = nab.iter().map(|series| series.family.clone()).collect();
    families.dedup();
    let kinds: BTreeSet<&str> = synthetic.iter().map(|series| &*series.family).collect();
    let mut standard = benchmark(&families, nab.len());
    let mut thresholds = best_thresholds();
    let mut found = synthetic_kinds(&kinds);
    for (name, detector) in DETECTORS {
        if !detectors.is_empty() && !detectors.iter().any(|wanted| wanted == name) {
            continue;
        }
        let judged = Judged::all(&nab, detector)?;
        standard.rows.push((name.to_owned(), benchmark_row(&judged, &families)));
        thresholds.rows.push((name.to_owned(), thresholds_row(&judged)));
        let judged = Judged::all(&synthetic, detector)?;
        found.rows.push((name.to_owned(), kinds.iter().map(|kind| found_in(&judged, kind)).collect()));
    }
    Ok(vec![standard, thresholds, found])
}

/// A series with what a detector said of it.
struct Judged<'a> {
    series: &'a Series,
    scored: Vec<Scored>,
    /// Of the alerts.
    tally: Tally,
}

impl<'a> Judged<'a> {
    /// Judges several series.
    fn all(series: &'a [Series], detector: Detector) -> Result<Vec<Self>> {
        let series: Vec<&Series> = series.iter().collect();
        let judged =
            parallel::map(&series, |series| Ok(Self::new(series, scorer::judge(detector, &series.points)?)));
        judged.into_iter().collect()
    }

    fn new(series: &'a Series, scored: Vec<Scored>) -> Self {
        let alerts = (0..scored.len()).filter(|row| scored[*row].alert);
        let tally = Tally::of(&series.labels, alerts);
        Self { series, scored, tally }
    }

    /// What comes of an alert at every row whose score reaches `threshold`, but for `repeats` rows after each.
    fn at(&self, threshold: f64, repeats: usize) -> Tally {
        let mut next = 0;
        let alerts = self.scored.iter().enumerate().filter(|(row, scored)| {
            let told = *row >= next && scored.score >= threshold;
            if told {
                next = row + 1 + repeats;
            }
            told
        });
        Tally::of(&self.series.labels, alerts.map(|(row, _)| row))
    }
}

fn sum(judged: &[Judged<'_>]) -> Tally {
    Tally::sum(judged.iter().map(|judged| &judged.tally))
}

fn benchmark(families: &[String], series: usize) -> Table {
    let columns = PROFILES
        .map(|profile| profile.name.to_owned())
        .into_iter()
        .chain(["90 % of drawings", "found", "false a day"].map(Into::into))
        .chain(families.iter().cloned());
    Table {
        name: "nab",
        about: format!(
            "Numenta Anomaly Benchmark, {series} series: the score of the alerts by profile, 0 without any alert, 100 \
             with every window found at once; the range of the standard score in 90 % of {DRAWINGS} drawings of the \
             series with replacement; windows found; alerts outside of windows per day of series; the standard score \
             by family, and for one without windows its false alerts"
        ),
        columns: columns.collect(),
        rows: Vec::new(),
    }
}

fn benchmark_row(judged: &[Judged<'_>], families: &[String]) -> Vec<Cell> {
    let all = sum(judged);
    let mut row: Vec<Cell> = PROFILES.iter().map(|profile| score(all.score(*profile))).collect();
    let (low, high) = drawings(judged);
    row.push(Cell::Text(format!("{low:.0} to {high:.0}")));
    row.push(Cell::Text(format!("{} of {}", all.found, all.windows)));
    let days: f64 = judged.iter().map(|one| one.series.days(probation(one.series.points.len()))).sum();
    row.push(Cell::Number(all.false_alerts as f64 / days, 3));
    row.extend(families.iter().map(|family| {
        let tally = Tally::sum(of_family(judged, family));
        match tally.score(PROFILES[0]) {
            None => Cell::Text(format!("{} false", tally.false_alerts)),
            some => score(some),
        }
    }));
    row
}

fn of_family<'a>(judged: &'a [Judged<'_>], family: &str) -> impl Iterator<Item = &'a Tally> {
    judged.iter().filter(move |judged| judged.series.family == family).map(|judged| &judged.tally)
}

fn score(score: Option<f64>) -> Cell {
    score.map_or_else(|| Cell::Text("-".into()), |score| Cell::Number(score, 1))
}

/// The 5th and 95th percentile of the standard score when the series are drawn anew, each drawing as many as there are.
fn drawings(judged: &[Judged<'_>]) -> (f64, f64) {
    let mut random = Random::new(1);
    let mut scores: Vec<f64> = (0..DRAWINGS)
        .filter_map(|_| {
            let drawn = judged.iter().map(|_| &judged[random.below(judged.len())].tally);
            Tally::sum(drawn).score(PROFILES[0])
        })
        .collect();
    scores.sort_by(f64::total_cmp);
    (quantile(&scores, 0.05), quantile(&scores, 0.95))
}

fn best_thresholds() -> Table {
    let columns = ["standard", "found", "false", "threshold"];
    let repeated = columns.iter().map(|column| format!("{column}, repeats told"));
    Table {
        name: "nab_best_threshold",
        about: format!(
            "The best that one threshold over the scores of all these series could have come to, found afterwards: no \
             result, but what the alerts could be worth. With repeats within {REPEATS} rows suppressed, and with all told"
        ),
        columns: columns.iter().map(ToString::to_string).chain(repeated).collect(),
        rows: Vec::new(),
    }
}

fn thresholds_row(judged: &[Judged<'_>]) -> Vec<Cell> {
    let mut row = Vec::new();
    for repeats in [REPEATS, 0] {
        let (threshold, tally) = best_threshold(judged, repeats);
        row.extend([
            score(tally.score(PROFILES[0])),
            Cell::Text(format!("{} of {}", tally.found, tally.windows)),
            Cell::Number(tally.false_alerts as f64, 0),
            Cell::Text(threshold.to_string()),
        ]);
    }
    row
}

/// The threshold with the best standard score, and what comes of it. The first hundred highest scores are tried, and
/// behind them one in each hundredth of what lies above it.
fn best_threshold(judged: &[Judged<'_>], repeats: usize) -> (f64, Tally) {
    let mut scores: Vec<f64> = judged
        .iter()
        .flat_map(|judged| judged.scored.iter().skip(probation(judged.scored.len())))
        .map(|scored| scored.score)
        .collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    let mut candidates = Vec::new();
    let mut rank = 0;
    while let Some(&score) = scores.get(rank) {
        candidates.push(score);
        rank += 1 + rank / 100;
    }
    candidates.dedup();
    // Nothing reaches it.
    let mut best = (
        f64::INFINITY,
        0.0,
        Tally::sum(judged.iter().map(|one| one.at(f64::INFINITY, 0)).collect::<Vec<_>>().iter()),
    );
    for threshold in candidates {
        let tallies: Vec<Tally> = judged.iter().map(|judged| judged.at(threshold, repeats)).collect();
        let tally = Tally::sum(&tallies);
        if let Some(score) = tally.score(PROFILES[0])
            && score > best.1
        {
            best = (threshold, score, tally);
        }
    }
    (best.0, best.2)
}

fn synthetic_kinds(kinds: &BTreeSet<&str>) -> Table {
    Table {
        name: "synthetic",
        about:
            "Synthetic series by kind of anomaly: runs of labelled rows with an alert in them, of all behind \
                probation, and alerts outside of them"
                .into(),
        columns: kinds.iter().map(ToString::to_string).collect(),
        rows: Vec::new(),
    }
}

fn found_in(judged: &[Judged<'_>], kind: &str) -> Cell {
    let tally = Tally::sum(of_family(judged, kind));
    // A run that ends in probation cannot be found.
    let windows = judged.iter().filter(|judged| judged.series.family == kind).flat_map(|judged| {
        let probation = probation(judged.series.points.len());
        judged.series.labels.windows.iter().filter(move |window| *window.end() >= probation)
    });
    Cell::Text(format!("{} of {}, {} false", tally.found, windows.count(), tally.false_alerts))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{nab::Labels, scorer::Point};

    /// 100 rows, of which 15 are probation, a window of 10.
    fn series() -> Series {
        let points = (0..100)
            .map(|row| Point { time: Timestamp::from_second(300 * row).expect("a time"), value: 0.0 });
        Series {
            family: "some".into(),
            points: points.collect(),
            labels: Labels { rows: 100, windows: vec![30..=39] },
        }
    }

    fn judged(series: &Series, scores: &[(usize, f64)]) -> Judged<'static> {
        let mut scored = vec![Scored { score: 0.0, alert: false }; 100];
        for (row, score) in scores {
            scored[*row].score = *score;
        }
        Judged::new(Box::leak(Box::new(series.clone())), scored)
    }

    #[test]
    fn the_best_threshold_weighs_what_it_finds_against_what_is_false() {
        // Two highest scores are false; the window is worth more than they cost; the low one is not.
        let one = judged(&series(), &[(20, 0.9), (22, 0.9), (30, 0.8), (50, 0.5)]);
        let (threshold, tally) = best_threshold(&[one], 0);
        assert_eq!((threshold, tally.found, tally.false_alerts), (0.8, 1, 2));
        // Repeats suppressed: the first false alert hides the window.
        let one = judged(&series(), &[(20, 0.9), (30, 0.8)]);
        let (threshold, tally) = best_threshold(&[one], 100);
        assert_eq!((threshold, tally.found, tally.false_alerts), (f64::INFINITY, 0, 0));
    }

    #[test]
    fn repeats_are_told_again_after_their_time() {
        let one = judged(&series(), &[(20, 1.0), (21, 1.0), (25, 1.0), (26, 1.0)]);
        assert_eq!(one.at(0.5, 0).false_alerts, 4);
        assert_eq!(one.at(0.5, 5).false_alerts, 2);
    }

    #[test]
    fn drawings_of_equal_series_vary_by_nothing() {
        let one = || Judged { tally: Tally::of(&series().labels, [30]), ..judged(&series(), &[]) };
        assert_eq!(drawings(&[one(), one()]), (100.0, 100.0));
        let mixed = drawings(&[one(), judged(&series(), &[])]);
        assert_eq!(mixed, (0.0, 100.0));
    }

    #[test]
    fn alerts_are_counted_where_they_are() {
        let series = series();
        let judged = Judged::new(&series, vec![Scored { score: 0.0, alert: true }; 100]);
        // 85 rows behind probation, 10 of them the window.
        assert_eq!((judged.tally.found, judged.tally.false_alerts), (1, 75));
    }
}
