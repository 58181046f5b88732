//! A judge with the detector that was chosen.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Judge, Saved, Settings, Thresholds, WrongVersion};
use crate::{
    detect::{
        self,
        anomalyzer::{Anomalyzer, SettingsError},
        auto::{self, Auto},
        ewma::{self, Ewma},
        spot::{self, Spot},
    },
    finding::Finding,
    rules::Overrides,
    series::{self, Counters},
    snapshot::Snapshot,
    time::Timestamp,
};

/// A judge, whatever its detector.
#[derive(Clone)]
pub struct AnyJudge(Inner);

#[derive(Clone)]
enum Inner {
    Auto(Judge<Auto>),
    Ewma(Judge<Ewma>),
    Spot(Judge<Spot>),
    Anomalyzer(Box<Judge<Anomalyzer>>),
}

/// What a judge has learned, whatever its detector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum AnySaved {
    /// With [`Auto`].
    Auto(Saved<auto::Memory>),
    /// With [`Ewma`].
    Ewma(Saved<ewma::Memory>),
    /// With [`Spot`].
    Spot(Saved<spot::Memory>),
    /// With the [`Anomalyzer`].
    Anomalyzer(Saved<()>),
}

impl AnySaved {
    /// As [`Saved::until`].
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Auto(saved) => saved.until(),
            Self::Ewma(saved) => saved.until(),
            Self::Spot(saved) => saved.until(),
            Self::Anomalyzer(saved) => saved.until(),
        }
    }
}

/// The same of each.
macro_rules! each {
    ($this:expr, $judge:ident => $what:expr) => {
        match $this {
            Inner::Auto($judge) => $what,
            Inner::Ewma($judge) => $what,
            Inner::Spot($judge) => $what,
            Inner::Anomalyzer($judge) => $what,
        }
    };
}

impl AnyJudge {
    /// One that knows nothing yet. The Anomalyzer's threshold is its own: it has no part in the budget,
    /// `alerts_per_day`.
    ///
    /// # Errors
    /// Settings the detector does not take.
    pub fn new(
        detector: &detect::Settings,
        series: series::Settings,
        interval: Duration,
        thresholds: Thresholds,
        alerts_per_day: f64,
    ) -> Result<Self, SettingsError> {
        let settings = Settings { thresholds, budget: Some(alerts_per_day) };
        Ok(Self(match detector {
            detect::Settings::Auto => {
                Inner::Auto(Judge::new(series, interval, settings, Auto::new(interval)))
            }
            detect::Settings::Ewma => {
                Inner::Ewma(Judge::new(series, interval, settings, Ewma::new(interval)))
            }
            detect::Settings::Spot => {
                Inner::Spot(Judge::new(series, interval, settings, Spot::new(interval)))
            }
            detect::Settings::Anomalyzer { settings: own, threshold } => {
                let detector = Anomalyzer::new(own.clone())?.alerting_above(*threshold);
                let settings = Settings { budget: None, ..settings };
                Inner::Anomalyzer(Box::new(Judge::new(series, interval, settings, detector)))
            }
        }))
    }

    /// As [`Judge::skip_first`].
    #[must_use]
    pub fn skip_first(self) -> Self {
        Self(match self.0 {
            Inner::Auto(judge) => Inner::Auto(judge.skip_first()),
            Inner::Ewma(judge) => Inner::Ewma(judge.skip_first()),
            Inner::Spot(judge) => Inner::Spot(judge.skip_first()),
            Inner::Anomalyzer(judge) => Inner::Anomalyzer(Box::new(judge.skip_first())),
        })
    }

    /// As [`Judge::with_overrides`].
    #[must_use]
    pub fn with_overrides(self, overrides: Overrides) -> Self {
        Self(match self.0 {
            Inner::Auto(judge) => Inner::Auto(judge.with_overrides(overrides)),
            Inner::Ewma(judge) => Inner::Ewma(judge.with_overrides(overrides)),
            Inner::Spot(judge) => Inner::Spot(judge.with_overrides(overrides)),
            Inner::Anomalyzer(judge) => Inner::Anomalyzer(Box::new(judge.with_overrides(overrides))),
        })
    }

    /// As [`Judge::judge`].
    pub fn judge(&mut self, snapshot: &Snapshot) -> Vec<Finding> {
        each!(&mut self.0, judge => judge.judge(snapshot))
    }

    /// As [`Judge::least_intervals`].
    #[must_use]
    pub fn least_intervals(&self) -> u64 {
        each!(&self.0, judge => judge.least_intervals())
    }

    /// As [`Judge::counters`].
    #[must_use]
    pub fn counters(&self) -> Counters {
        each!(&self.0, judge => judge.counters())
    }

    /// As [`Judge::folded`].
    #[must_use]
    pub fn folded(&self) -> u64 {
        each!(&self.0, judge => judge.folded())
    }

    /// As [`Judge::save`].
    #[must_use]
    pub fn save(&self) -> AnySaved {
        match &self.0 {
            Inner::Auto(judge) => AnySaved::Auto(judge.save()),
            Inner::Ewma(judge) => AnySaved::Ewma(judge.save()),
            Inner::Spot(judge) => AnySaved::Spot(judge.save()),
            Inner::Anomalyzer(judge) => AnySaved::Anomalyzer(judge.save()),
        }
    }

    /// As [`Judge::load`].
    ///
    /// # Errors
    /// As there, and what another detector learned.
    pub fn load(&mut self, saved: AnySaved) -> Result<(), WrongVersion> {
        match (&mut self.0, saved) {
            (Inner::Auto(judge), AnySaved::Auto(saved)) => judge.load(saved),
            (Inner::Ewma(judge), AnySaved::Ewma(saved)) => judge.load(saved),
            (Inner::Spot(judge), AnySaved::Spot(saved)) => judge.load(saved),
            (Inner::Anomalyzer(judge), AnySaved::Anomalyzer(saved)) => judge.load(saved),
            _ => Err(WrongVersion::Detector),
        }
    }
}
