//! The Anomalyzer on series as long as a host's: what it allocates, and whether it says what a plain computation
//! says.
#![allow(clippy::unwrap_used, reason = "settings that are refused are a failure like any other")]

use wherefore::detect::anomalyzer::{Anomalyzer, Method, Settings};
use wherefore_tests::{
    Random,
    allocations::{Counting, allocations_in},
    plain,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn settings(active_size: usize, n_seasons: usize) -> Settings {
    Settings {
        methods: Method::ALL.to_vec(),
        sensitivity: f64::MIN_POSITIVE,
        upper_bound: 1e6,
        active_size,
        n_seasons,
        ..Settings::original()
    }
}

/// `points` values of `kinds` different ones, the lowest `low`.
fn series(random: &mut Random, points: usize, low: usize, kinds: usize) -> Vec<f64> {
    (0..points).map(|_| (low + random.below(kinds)) as f64).collect()
}

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations_in(|| drop(std::hint::black_box(vec![1_u8; 9]))), 1);
    assert_eq!(allocations_in(|| ()), 0);
}

#[test]
fn an_evaluation_allocates_nothing() {
    let mut random = Random::new(1);
    for (active, seasons) in [(1, 4), (1, 29), (2, 4), (3, 9), (7, 2)] {
        let mut anomalyzer = Anomalyzer::new(settings(active, seasons)).unwrap();
        // Few and many different values, with zeros and without: exact answers and samples.
        let histories: Vec<_> = [(0, 2), (0, 4), (1, 3), (0, 1_000_000), (1_000_000, 400_000), (7, 1)]
            .into_iter()
            .flat_map(|(low, kinds)| [40, 30, 12, 5, 1].map(|points| (points, low, kinds)))
            .map(|(points, low, kinds)| series(&mut random, points, low, kinds))
            .collect();
        // Every test, whether or not the gate of magnitude is open.
        let mut judge_all = || -> usize {
            let answers = |history| {
                let raw = anomalyzer.raw(history);
                raw.iter().filter(|(_, value)| value.is_some()).count()
                    + anomalyzer.judge(history).parts.len()
            };
            histories.iter().map(Vec::as_slice).map(answers).sum()
        };
        // Makes room for all of them.
        let expected = judge_all();
        let mut answers = 0;
        assert_eq!(allocations_in(|| answers = judge_all()), 0, "{active} {seasons}");
        assert_eq!(answers, expected);
        assert!(answers > 5 * histories.len(), "{answers} answers");
    }
}

/// Within 4.5 standard errors of both: ours is as precise as its shuffles.
#[test]
fn it_says_what_a_plain_computation_says() {
    let mut random = Random::new(2);
    let mut compared = 0;
    for (low, kinds) in [(1, 2), (1, 5), (1, 1_000_000), (1_000_000, 400_000)] {
        for (active, seasons, points) in
            [(1, 4, 30), (1, 29, 30), (1, 9, 20), (2, 4, 30), (3, 3, 16), (5, 2, 60)]
        {
            let settings = settings(active, seasons);
            let mut anomalyzer = Anomalyzer::new(settings.clone()).unwrap();
            let history = series(&mut random, points, low, kinds);
            let theirs = plain::raw(&Settings { perm_count: 2_000, ..settings }, &history, &mut random);
            for ((method, ours), (_, theirs)) in anomalyzer.raw(&history).into_iter().zip(theirs) {
                if method == Method::Cdf {
                    continue;
                }
                let told =
                    format!("{method:?} of {history:?}, {active} {seasons}: {ours:?}, plainly {theirs:?}");
                let (Some(ours), Some(theirs)) = (ours, theirs) else {
                    assert_eq!(ours, theirs, "{told}");
                    continue;
                };
                let sampled = [Method::Diff, Method::HighRank, Method::LowRank, Method::Ks].contains(&method);
                let variance = (theirs * (1.0 - theirs)).max(1e-4);
                let error = if sampled { (variance / 2_000.0 + variance / 500.0).sqrt() } else { 1e-12 };
                assert!((ours - theirs).abs() <= 4.5 * error, "{told}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 100, "{compared}");
}
