//! When a probability is news: it enters an anomalous state above one level and leaves it below a lower one, so that
//! what lasts, or wavers, is told once. Pure.

use serde::{Deserialize, Serialize};

/// The levels of the anomalous state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// A probability above this (strictly) enters the state.
    pub enter: f64,
    /// Probabilities at or below this leave it; at most `enter`.
    pub leave: f64,
    /// This many of them in a row; 0 counts as 1.
    pub hold: u32,
}

/// Whether a series is in the anomalous state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    on: bool,
    /// Probabilities in a row that were at or below the level for leaving.
    calm: u32,
}

impl Alarm {
    /// Takes the next probability: true where it enters the state, the only moment that is news.
    pub fn step(&mut self, probability: f64, levels: &Levels) -> bool {
        if !self.on {
            self.on = probability > levels.enter;
            self.calm = 0;
            return self.on;
        }
        if probability > levels.leave {
            self.calm = 0;
        } else {
            self.calm += 1;
            self.on = self.calm < levels.hold;
        }
        false
    }

    /// Whether the state lasts.
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.on
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEVELS: Levels = Levels { enter: 0.9, leave: 0.5, hold: 3 };

    /// Where `probabilities` enter the state.
    fn entered(probabilities: &[f64], levels: &Levels) -> Vec<usize> {
        let mut alarm = Alarm::default();
        let entering = |(i, &probability): (usize, &f64)| alarm.step(probability, levels).then_some(i);
        probabilities.iter().enumerate().filter_map(entering).collect()
    }

    #[test]
    fn enters_above_and_leaves_after_calm_in_a_row() {
        let calm_twice = [0.9, 0.91, 1.0, 0.5, 0.5, 0.51, 0.95, 0.5, 0.5];
        assert_eq!(entered(&calm_twice, &LEVELS), [1], "0.9 is not above 0.9, and what lasts is told once");
        assert_eq!(entered(&[&calm_twice[..], &[0.5, 0.9, 0.95]].concat(), &LEVELS), [1, 11]);
    }

    #[test]
    fn with_one_level_and_no_hold_every_crossing_is_told() {
        for hold in [0, 1] {
            let levels = Levels { enter: 0.6, leave: 0.6, hold };
            assert_eq!(entered(&[0.7, 0.8, 0.6, 0.7, 0.1, 0.2, 0.61], &levels), [0, 3, 6]);
        }
    }

    proptest! {
        #[test]
        fn between_two_entries_lies_a_hold_of_calm(probabilities in prop::collection::vec(0.0..1.0, 0..200)) {
            let entered = entered(&probabilities, &LEVELS);
            let first = probabilities.iter().position(|&probability| probability > LEVELS.enter);
            prop_assert_eq!(entered.first().copied(), first);
            for pair in entered.windows(2) {
                let between = &probabilities[pair[0]..pair[1]];
                prop_assert!(between.windows(3).any(|three| three.iter().all(|&p| p <= LEVELS.leave)));
            }
        }
    }
}
