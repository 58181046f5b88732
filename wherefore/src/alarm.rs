//! When a probability is news: it enters an anomalous state above one level and leaves it below a lower one, so that
//! what lasts, or wavers, is told once. Pure.

use serde::{Deserialize, Serialize};

/// The level for leaving belongs to a budget this many times larger.
const LEAVING: f64 = 10.0;

/// The levels of the anomalous state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// A probability above this (strictly) enters the state.
    pub enter: f64,
    /// Probabilities at or below this leave it; at most `enter`.
    pub leave: f64,
    /// This many of them in a row; 0 counts as 1.
    pub calm: u32,
    /// The state lasts this many probabilities at least, the entering one not counted.
    pub hold: u32,
}

impl Levels {
    /// Those of a `threshold` that is its own: every crossing of it is news.
    #[must_use]
    pub const fn single(threshold: f64) -> Self {
        Self { enter: threshold, leave: threshold, calm: 1, hold: 0 }
    }

    /// Those of a series that may cost `budget` false alerts a day, of which `threshold` makes a level: ten calm values
    /// in a row end the state, a hundred values after it began at the earliest. The level for leaving is that of ten
    /// times the budget, but at least half as many decades as the one for entering: so it ends also where values are
    /// so few, or the budget so large, that nothing would be calm.
    #[must_use]
    pub fn of_budget(threshold: impl Fn(f64) -> f64, budget: f64) -> Self {
        let enter = threshold(budget);
        let leave = threshold(LEAVING * budget).max(1.0 - (1.0 - enter).sqrt()).min(enter);
        Self { enter, leave, calm: 10, hold: 100 }
    }
}

/// Whether a series is in the anomalous state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    on: bool,
    /// Probabilities in a row that were at or below the level for leaving.
    calm: u32,
    /// Probabilities since the one that entered.
    lasted: u32,
}

impl Alarm {
    /// Takes the next probability: true where it enters the state, the only moment that is news.
    pub fn step(&mut self, probability: f64, levels: &Levels) -> bool {
        if !self.on {
            *self = Self { on: probability > levels.enter, ..Self::default() };
            return self.on;
        }
        self.lasted = self.lasted.saturating_add(1);
        self.calm = if probability > levels.leave { 0 } else { self.calm.saturating_add(1) };
        self.on = self.calm < levels.calm.max(1) || self.lasted < levels.hold;
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

    const LEVELS: Levels = Levels { enter: 0.9, leave: 0.5, calm: 3, hold: 0 };

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
        for calm in [0, 1] {
            let levels = Levels { calm, ..Levels::single(0.6) };
            assert_eq!(entered(&[0.7, 0.8, 0.6, 0.7, 0.1, 0.2, 0.61], &levels), [0, 3, 6]);
        }
    }

    #[test]
    fn the_state_lasts_its_time_however_calm_it_is() {
        let levels = Levels { hold: 6, ..LEVELS };
        assert_eq!(entered(&[1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], &levels), [0, 9]);
    }

    #[test]
    fn the_level_for_leaving_is_never_nothing() {
        let threshold = |budget: f64| 1.0 - (budget / 1_000.0).min(1.0);
        let levels = Levels::of_budget(threshold, 1.0);
        assert_eq!((levels.enter, levels.leave), (0.999, 0.99));
        let levels = Levels::of_budget(threshold, 250.0);
        assert_eq!((levels.enter, levels.leave), (0.75, 0.5));
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
