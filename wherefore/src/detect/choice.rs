//! Detectors by name.

use super::anomalyzer;

/// A detector's name, as `--detector` takes it. One more is a line here, and one in [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Name {
    /// Several statistics, each held against its own past; nothing to be set but the budget
    #[default]
    Auto,
    /// Standard deviations from an exponentially weighted mean, to compare with
    Ewma,
    /// DSPOT: distances from the mean of the last 20, by their tails, to compare with
    Spot,
    /// Tests of the newest values against those before; its threshold knows no budget
    Anomalyzer,
}

/// A detector with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Settings {
    /// [`super::auto::Auto`].
    Auto,
    /// [`super::ewma::Ewma`].
    Ewma,
    /// [`super::spot::Spot`].
    Spot,
    /// [`anomalyzer::Anomalyzer`].
    Anomalyzer {
        /// Its tests.
        settings: anomalyzer::Settings,
        /// It alerts above this probability.
        threshold: f64,
    },
}

impl Settings {
    /// Whose they are.
    #[must_use]
    pub const fn name(&self) -> Name {
        match self {
            Self::Auto => Name::Auto,
            Self::Ewma => Name::Ewma,
            Self::Spot => Name::Spot,
            Self::Anomalyzer { .. } => Name::Anomalyzer,
        }
    }
}
