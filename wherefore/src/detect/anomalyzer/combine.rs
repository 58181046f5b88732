//! From what the methods say to one probability.

use arrayvec::ArrayVec;

use super::Method;
use crate::detect::{Evaluation, MOST_PARTS, Part};

/// Weight of a method; a large magnitude or a mean close to the fence counts ten times as much.
const WEIGHT: f64 = 0.5;
const HEAVY: f64 = 5.0;
/// Magnitude and fence are heavy above this.
const HEAVY_ABOVE: f64 = 0.8;

/// To 0..=1; NaN stays NaN.
const fn clamped(value: f64) -> f64 {
    value.clamp(0.0, 1.0)
}

/// Whether magnitude applies and is below the sensitivity: nothing else counts then.
pub(super) fn gate_is_closed(raw: &[(Method, Option<f64>)], sensitivity: f64) -> bool {
    raw.iter().any(|&(method, value)| {
        method == Method::Magnitude && value.is_some_and(|value| clamped(value) < sensitivity)
    })
}

/// The weighted mean of the methods that apply, and their shares.
///
/// Of highrank and lowrank only the larger counts. 0 if the gate is closed, if nothing applies, or if a
/// method has no answer (NaN).
pub(super) fn combine(raw: &[(Method, Option<f64>)], sensitivity: f64) -> Evaluation {
    let mut parts = ArrayVec::<Part, MOST_PARTS>::new();
    for (method, statistic) in raw.iter().filter_map(|&(method, value)| Some((method, value?))) {
        let value = clamped(statistic);
        let weighty = matches!(method, Method::Magnitude | Method::Fence) && value > HEAVY_ABOVE;
        let part =
            Part { method: method.name(), value, weight: if weighty { HEAVY } else { WEIGHT }, statistic };
        let other_rank = (method == Method::LowRank)
            .then(|| parts.iter_mut().find(|part| part.method == Method::HighRank.name()))
            .flatten();
        match other_rank {
            Some(high) if value > high.value => *high = part,
            Some(_) => {}
            None => parts.push(part),
        }
    }
    let weights: f64 = parts.iter().map(|part| part.weight).sum();
    let mean = parts.iter().map(|part| part.weight * part.value).sum::<f64>() / weights;
    let probability = if mean.is_nan() || gate_is_closed(raw, sensitivity) { 0.0 } else { mean };
    Evaluation { probability, parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_worked_example() {
        // Magnitude 2.497 clamps to 1: (5 + 5 + 0.5 * 6/7 + 0.5 * 0.67) / 11.
        let raw = [
            (Method::Magnitude, Some(2.497)),
            (Method::Diff, Some(0.67)),
            (Method::HighRank, Some(6.0 / 7.0)),
            (Method::LowRank, Some(0.0)),
            (Method::Fence, Some(1.0)),
            (Method::Ks, None),
        ];
        let evaluation = combine(&raw, 0.1);
        assert!((evaluation.probability - 0.978_5).abs() < 1e-4, "{}", evaluation.probability);
        assert_eq!(evaluation.parts.len(), 4);
        assert!(evaluation.parts.iter().all(|part| part.method != "lowrank"));
    }

    #[test]
    fn magnitude_is_clamped_before_the_gate() {
        let raw = [(Method::Magnitude, Some(50.0)), (Method::Fence, Some(1.0))];
        assert_eq!(combine(&raw, 2.0).probability, 0.0);
        assert_eq!(combine(&raw, 1.0).probability, 1.0);
        assert_eq!(combine(&[(Method::Magnitude, None), (Method::Fence, Some(1.0))], 2.0).probability, 1.0);
    }

    #[test]
    fn no_answer_and_nothing_applicable_give_0() {
        assert_eq!(
            combine(&[(Method::Fence, Some(f64::NAN)), (Method::Ks, Some(1.0))], 0.1).probability,
            0.0
        );
        assert_eq!(combine(&[(Method::Ks, None)], 0.1).probability, 0.0);
        assert_eq!(combine(&[], 0.1).probability, 0.0);
    }
}
