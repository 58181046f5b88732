//! What a value would have had to be.

use crate::detect::{Detector, Newest, Usual};

/// Steps of the bisection: a millionth of the distance.
const STEPS: usize = 20;

/// The value nearest to the judged one that would not have been above `threshold`: on the side of what is usual, to a
/// millionth of its distance. `None` where what is usual would have been found unusual, too. `history` ends with the
/// judged value, which comes to be others on the way.
pub(super) fn limit<D: Detector>(
    detector: &mut D,
    memory: &D::Memory,
    newest: &Newest<'_>,
    threshold: f64,
    usual: &Usual,
) -> Option<f64> {
    let mut history = newest.history.to_vec();
    let mut is_calm = |value: f64| {
        if let Some(last) = history.last_mut() {
            *last = value;
        }
        let newest = Newest { history: &history, ..*newest };
        detector.evaluate(memory, &newest).probability <= threshold
    };
    let value = newest.value();
    let nearest = if value > usual.high { usual.high } else { usual.low };
    let mut calm =
        [nearest, usual.median, usual.low, usual.high].into_iter().find(|&value| is_calm(value))?;
    let mut unusual = value;
    for _ in 0..STEPS {
        let middle = f64::midpoint(calm, unusual);
        if is_calm(middle) {
            calm = middle;
        } else {
            unusual = middle;
        }
    }
    Some(calm)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{detect::ewma::Ewma, time::Timestamp};

    #[test]
    fn a_limit_is_where_the_verdict_turns() {
        let mut detector = Ewma::new(Duration::from_secs(300));
        let mut memory = detector.start(false);
        let at = |value: &'static [f64]| Newest { history: value, time: Timestamp(0), missing: 0 };
        for i in 0..500 {
            let newest = at(if i % 2 == 0 { &[100.0] } else { &[110.0] });
            let evaluation = detector.evaluate(&memory, &newest);
            detector.learn(&mut memory, &newest, &evaluation);
        }
        let usual = Usual { low: 100.0, median: 105.0, high: 110.0 };
        let threshold = detector.threshold(1.0);
        let high = limit(&mut detector, &memory, &at(&[1_000.0]), threshold, &usual).unwrap();
        let low = limit(&mut detector, &memory, &at(&[0.0]), threshold, &usual).unwrap();
        let mut probability = |value: f64| {
            let history = [value];
            detector.evaluate(&memory, &Newest { history: &history, ..at(&[0.0]) }).probability
        };
        assert!(probability(high) <= threshold && probability(high + 0.01) > threshold, "{high}");
        assert!(probability(low) <= threshold && probability(low - 0.01) > threshold, "{low}");
        assert!((110.0..140.0).contains(&high) && (70.0..100.0).contains(&low), "{low} {high}");
        let never = Usual { low: 500.0, median: 500.0, high: 500.0 };
        assert_eq!(limit(&mut detector, &memory, &at(&[1_000.0]), threshold, &never), None);
    }
}
