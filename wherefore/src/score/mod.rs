//! How unusual each value of one series is, and which are worth an alert: rows in, rows out. Pure.
//!
//! A score depends on nothing after its row, so the scores of a part of a series are a part of the scores.

mod rows;
mod sampling;
mod scorer;
mod timestamp;

pub use self::{
    rows::{Malformed, Reason, Row, Rows},
    sampling::Sampling,
    scorer::{History, Scorer},
};
use crate::{
    alarm::{Alarm, Levels},
    detect::{
        self,
        anomalyzer::{Anomalyzer, SettingsError},
        auto::Auto,
        ewma::Ewma,
        spot::Spot,
    },
};

/// Scores a series value by value, whatever the detector.
pub trait Score: Send {
    /// How unusual `value` is for a series that had it at `time`: 0 (as usual) to 1 (never seen).
    ///
    /// Times may repeat or go back; values are finite.
    fn score(&mut self, time: jiff::Timestamp, value: f64) -> f64;

    /// When the series alerts, if it may cost `budget` false alerts a day. They may change as the interval between
    /// values becomes known.
    fn levels(&self, budget: f64) -> Levels;
}

/// What scores a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The detector.
    pub detector: detect::Settings,
    /// Values that the Anomalyzer is shown, the newest included; `None`: all there are. The others are shown as many
    /// as they ask for.
    pub history: Option<usize>,
}

impl Settings {
    /// What scores a series by these settings, from its first value on.
    ///
    /// # Errors
    /// Settings the detector does not take.
    pub fn scorer(&self) -> Result<Box<dyn Score>, SettingsError> {
        Ok(match &self.detector {
            detect::Settings::Auto => Box::new(Scorer::by_interval(Auto::new)),
            detect::Settings::Ewma => Box::new(Scorer::by_interval(Ewma::new)),
            detect::Settings::Spot => Box::new(Scorer::by_interval(Spot::new)),
            detect::Settings::Anomalyzer { settings, threshold } => {
                let detector = Anomalyzer::new(settings.clone())?.alerting_above(*threshold);
                let history = self.history.map_or(History::All, History::Last);
                Box::new(Scorer::of_any_interval(detector, history))
            }
        })
    }
}

/// A value's score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// 0 (as usual) to 1 (never seen).
    pub score: f64,
    /// A new alert would be raised here. What lasts, or wavers, is one alert.
    pub alert: bool,
}

/// Scores a series, and tells where an alert would be raised.
pub struct Alerting {
    scorer: Box<dyn Score>,
    budget: f64,
    alarm: Alarm,
}

impl Alerting {
    /// Alerts of `scorer` at a cost of `budget` false ones a day.
    #[must_use]
    pub fn new(scorer: Box<dyn Score>, budget: f64) -> Self {
        Self { scorer, budget, alarm: Alarm::default() }
    }

    /// Takes the next value, as [`Score::score`] does.
    pub fn take(&mut self, time: jiff::Timestamp, value: f64) -> Scored {
        let score = self.scorer.score(time, value);
        Scored { score, alert: self.alarm.step(score, &self.scorer.levels(self.budget)) }
    }
}

#[cfg(test)]
mod tests;
