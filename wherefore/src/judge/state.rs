//! Whether a series is in an unusual state, and what was told of it.

use serde::{Deserialize, Serialize};

use super::settings::WORSE;
use crate::{
    alarm::{Alarm, Levels},
    detect::Usual,
    time::Timestamp,
};

/// The state of a series that is unusual, or nearly so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub alarm: Alarm,
    /// End of its first interval.
    #[serde(with = "nanoseconds")]
    pub since: Timestamp,
    /// What was usual before.
    pub usual: Usual,
    /// What is told again; `None` where nothing can be that much rarer.
    pub worse: Option<f64>,
    /// The change that was told; `None` where it was folded into another finding.
    pub told: Option<f64>,
}

/// What a probability comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing to be told.
    None,
    /// The unusual state begins.
    New,
    /// It was told, and is far rarer now.
    Worse,
}

/// What [`State::pass`] came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub news: News,
    /// Those of the state.
    pub usual: Usual,
    pub since: Timestamp,
    /// The change that was told before, while the state lasts.
    pub told: Option<f64>,
}

impl State {
    pub(super) fn new(since: Timestamp, usual: Usual) -> Self {
        Self { alarm: Alarm::default(), since, usual, worse: None, told: None }
    }

    /// Takes in the next probability; `deserves`: the demands on a finding hold.
    pub(super) fn step(
        &mut self,
        probability: f64,
        deserves: bool,
        levels: &Levels,
        threshold: impl Fn(f64) -> f64,
    ) -> News {
        let on = self.alarm.is_on();
        let entered = self.alarm.step(if on || deserves { probability } else { 0.0 }, levels);
        let worse = on && deserves && self.worse.is_some_and(|worse| probability > worse);
        if entered || worse {
            self.worse = rarer(threshold, probability);
        }
        match (entered, worse) {
            (true, _) => News::New,
            (_, true) => News::Worse,
            _ => News::None,
        }
    }

    /// Takes in the next probability of what has a state in `slot`, or of what begins one. `news` says what it comes to;
    /// where nothing is left of the state, the slot is emptied.
    pub(super) fn pass(
        slot: &mut Option<Self>,
        start: impl FnOnce() -> Self,
        probability: f64,
        levels: &Levels,
        news: impl FnOnce(&mut Self) -> News,
    ) -> Passed {
        let state = slot.get_or_insert_with(start);
        let news = news(state);
        let Self { usual, since, told, .. } = *state;
        if state.is_over(probability, levels) && news == News::None {
            *slot = None;
        }
        Passed { news, usual, since, told: told.filter(|_| slot.is_some() && news == News::None) }
    }

    /// Nothing is left of it.
    fn is_over(&self, probability: f64, levels: &Levels) -> bool {
        !self.alarm.is_on() && probability <= levels.leave
    }
}

/// The probability whose budget is [`WORSE`] times smaller than that of `probability`: found by bisection, as `threshold`
/// only tells the other way.
fn rarer(threshold: impl Fn(f64) -> f64, probability: f64) -> Option<f64> {
    // Budgets from one alert in 10^18 days to as many a day.
    let (mut low, mut high) = (-18.0_f64, 18.0_f64);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if threshold(10_f64.powf(middle)) > probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    let worse = threshold(10_f64.powf(high) / WORSE);
    (worse > probability).then_some(worse)
}

/// A timestamp as a number: its own form is for people.
mod nanoseconds {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(deserializer).map(Timestamp)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::detect::{Detector as _, ewma::Ewma};

    #[test]
    fn a_state_is_told_once_and_once_more_when_it_is_a_thousand_times_rarer() {
        let detector = Ewma::new(Duration::from_secs(5));
        let of = |budget: f64| detector.threshold(budget);
        let levels = Levels { enter: of(1e-3), leave: of(1e-2), calm: 3, hold: 0 };
        let mut state = State::new(Timestamp(1), Usual::default());
        let mut step = |probability, deserves| state.step(probability, deserves, &levels, of);
        assert_eq!(step(of(1e-4), false), News::None, "too little to be told");
        assert_eq!(step(of(1e-4), true), News::New);
        assert_eq!(step(of(1e-4), true), News::None);
        assert_eq!(step(of(1.1e-7), true), News::None);
        assert_eq!(step(of(0.9e-7), true), News::Worse);
        assert_eq!(step(of(0.9e-7), true), News::None);
        for _ in 0..3 {
            assert_eq!(step(0.5, true), News::None);
        }
        assert!(state.is_over(0.5, &levels));
    }
}
