use proptest::prelude::*;
use wherefore_common::Direction;

use super::*;

fn pair(src: u8, dst: u8) -> SeriesKey {
    SeriesKey::Pair { src: [192, 0, 2, src].into(), dst: [203, 0, 113, dst].into() }
}

/// The network that every pair here goes to.
fn net() -> SeriesKey {
    SeriesKey::net([203, 0, 113, 0].into(), true)
}

fn eth0() -> SeriesKey {
    SeriesKey::interface("eth0", Direction::Egress)
}

fn fires(key: SeriesKey, change: f64) -> Candidate {
    Candidate { key, metric: Metric::Bytes, change, probability: 0.99, told: None, silent: false }
}

fn told(key: SeriesKey, change: f64, told: f64) -> Candidate {
    Candidate { told: Some(told), ..fires(key, change) }
}

/// Pairs are part of the network and the interface, that of the interface.
fn told_of(candidates: &[Candidate]) -> Vec<Told> {
    let parts: Vec<Vec<Part>> = candidates
        .iter()
        .map(|coarse| {
            let is_part = |finer: &Candidate| {
                finer.key.level() < coarse.key.level() && coarse.key.level() > Level::Pair
            };
            let all = candidates.iter().enumerate().filter(|(_, finer)| is_part(finer));
            all.map(|(i, finer)| Part { finer: i, change: finer.change }).collect()
        })
        .collect();
    resolve(candidates, &parts)
}

fn indices(told: &[Told]) -> Vec<usize> {
    told.iter().map(|told| told.index).collect()
}

#[test]
fn the_finest_that_explains_is_told() {
    let found = told_of(&[fires(eth0(), 1_050.0), fires(net(), 1_020.0), fires(pair(1, 1), 1_000.0)]);
    assert_eq!(indices(&found), [2]);
    let folded: Vec<usize> = found[0].folded.iter().map(|(i, _)| *i).collect();
    assert_eq!(folded, [1, 0], "the network is its own for the larger part");
    assert!((found[0].folded[0].1 - 1_000.0 / 1_020.0).abs() < 1e-9);
}

#[test]
fn what_many_do_together_is_told_once() {
    let mut candidates = vec![fires(eth0(), 1_000.0), fires(net(), 1_000.0)];
    candidates.extend((0..20).map(|i| fires(pair(1, i), 50.0 - f64::from(i))));
    let found = told_of(&candidates);
    assert_eq!(indices(&found), [1]);
    assert_eq!(found[0].folded.len(), 21, "twenty pairs, and the interface that the network explains");
    let parts: Vec<usize> = found[0].folded.iter().map(|(i, _)| *i).collect();
    assert_eq!(parts[..3], [0, 2, 3], "the largest first");
}

#[test]
fn what_explains_too_little_does_not_hide_the_rest() {
    let found = told_of(&[fires(net(), 1_000.0), fires(pair(1, 1), 300.0)]);
    assert_eq!(indices(&found), [0, 1]);
    // The other way is no explanation.
    assert_eq!(indices(&told_of(&[fires(net(), 1_000.0), fires(pair(1, 1), -900.0)])), [0, 1]);
    assert_eq!(indices(&told_of(&[fires(net(), -1_000.0), fires(pair(1, 1), -900.0)])), [1]);
}

#[test]
fn both_directions_are_one() {
    let back = pair(1, 1).reverse().unwrap();
    let found = told_of(&[fires(back, 40.0), fires(pair(1, 1), 1_000.0)]);
    assert_eq!((indices(&found), found[0].reverse), (vec![1], Some(0)));
    assert!(found[0].folded.is_empty(), "it is named already");
    let later = told_of(&[fires(back, 4_000.0), told(pair(1, 1), 1_000.0, 1_000.0)]);
    assert!(later.is_empty());
}

#[test]
fn of_two_metrics_the_rarer_is_told() {
    let flows = Candidate { metric: Metric::Flows, probability: 0.999, ..fires(net(), 3_000.0) };
    let found = told_of(&[fires(net(), 1e6), flows]);
    assert_eq!(indices(&found), [1]);
    assert!(told_of(&[told(net(), 1e6, 1e6), flows]).is_empty());
}

#[test]
fn what_comes_later_of_a_cause_that_was_told_is_not_told() {
    assert!(told_of(&[fires(eth0(), 1_050.0), told(pair(1, 1), 1_000.0, 900.0)]).is_empty());
    assert!(told_of(&[told(net(), 1_000.0, 950.0), fires(pair(1, 1), 400.0)]).is_empty());
    let together = [fires(eth0(), 1_000.0), told(pair(1, 1), 400.0, 400.0), told(pair(1, 2), 400.0, 400.0)];
    assert!(told_of(&together).is_empty());
}

/// A network was told, and later a pair of it begins something else: the network grows by that.
#[test]
fn another_cause_under_a_told_one_is_told() {
    assert_eq!(indices(&told_of(&[told(net(), 1_900.0, 1_000.0), fires(pair(1, 1), 900.0)])), [1]);
    assert_eq!(indices(&told_of(&[told(net(), 9_000.0, 1_000.0), fires(pair(1, 1), 8_000.0)])), [1]);
}

proptest! {
    /// Some pairs change, each by itself, and network and interface by their sum: of as many causes there are never more
    /// findings, each pair is told or folded into what is told, and nothing that was told hides what is larger.
    #[test]
    fn never_more_findings_than_causes_and_nothing_lost(
        changes in prop::collection::vec(prop::sample::select(vec![-900.0, -50.0, 40.0, 60.0, 1_000.0, 5_000.0]), 1..12),
        quiet in 0_u8..4,
    ) {
        let sum: f64 = changes.iter().sum();
        let mut candidates: Vec<Candidate> =
            (0_u8..).zip(&changes).map(|(i, &change)| fires(pair(i, i), change)).collect();
        if quiet & 1 == 0 {
            candidates.push(fires(net(), sum));
        }
        if quiet & 2 == 0 {
            candidates.push(fires(eth0(), sum));
        }
        let found = told_of(&candidates);
        prop_assert!(!found.is_empty());
        let one_way = changes.iter().all(|&change| change > 0.0);
        if one_way {
            prop_assert!(found.len() <= changes.len(), "{found:?}");
        }
        let mut seen: Vec<usize> =
            found.iter().flat_map(|told| told.folded.iter().map(|(i, _)| *i).chain([told.index])).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..candidates.len()).collect::<Vec<_>>());
        if let Some(single) = (0..changes.len()).find(|&i| one_way && changes[i] / sum >= EXPLAINS) {
            prop_assert!(found.iter().any(|told| told.index == single), "the most specific is named");
            prop_assert!(found.iter().all(|told| candidates[told.index].key.level() == Level::Pair));
        }
    }
}
