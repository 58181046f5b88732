//! What the Anomalyzer is told, and what it refuses.

use std::str::FromStr;

use crate::units::format_number;

/// Settings, with upstream's names; see docs/migrating.md for the original's flags.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which tests; naming one twice changes nothing. With none the verdict is always 0.
    pub methods: Vec<Method>,
    /// Magnitude (clamped to 1) below this makes the whole verdict 0. Unbounded, as upstream: beyond 1 there
    /// is no verdict but 0 once there are two points. 0 means 0.1.
    pub sensitivity: f64,
    /// Fence: upper bound, in bytes per interval.
    pub upper_bound: f64,
    /// Fence: lower bound; `None` for none.
    pub lower_bound: Option<f64>,
    /// Points judged together.
    pub active_size: usize,
    /// Reference window = seasons x active size; 0 means 4.
    pub n_seasons: usize,
    /// Where diff, highrank, lowrank and ks have no exact answer, theirs is as precise as from this many shuffles of
    /// the history; 0 means 500.
    pub perm_count: usize,
    /// Be silent until there are reference + active points.
    pub delay: bool,
}

/// Most shuffles accepted: one series may cost some 0.1 s then.
const MAX_SHUFFLES: usize = 1_000_000;

impl Settings {
    /// What wherefore's first version ran with. Its sensitivity closes the gate of magnitude for good.
    #[must_use]
    pub fn original() -> Self {
        Self {
            methods: vec![Method::Diff, Method::Fence, Method::HighRank, Method::LowRank, Method::Magnitude],
            sensitivity: 2.0,
            upper_bound: 5.0,
            lower_bound: None,
            active_size: 1,
            n_seasons: 4,
            perm_count: 500,
            delay: false,
        }
    }

    /// Points in the reference window.
    #[must_use]
    pub const fn reference_size(&self) -> usize {
        self.n_seasons.saturating_mul(self.active_size)
    }

    /// Checks in upstream's order, and fills in what 0 stands for.
    pub(super) fn validated(mut self) -> Result<Self, SettingsError> {
        if self.n_seasons == 0 {
            self.n_seasons = 4;
        }
        if self.active_size < 1 {
            return Err(SettingsError::ActiveSize);
        }
        if self.reference_size() < 4 {
            return Err(SettingsError::Reference { seasons: self.n_seasons, active: self.active_size });
        }
        if self.methods.contains(&Method::Fence) {
            // Upstream's "no lower bound" is its smallest positive number, and compared as such.
            let lower = self.lower_bound.unwrap_or(f64::from_bits(1));
            if self.upper_bound.is_nan() || lower.is_nan() {
                return Err(SettingsError::NotANumber { flag: "--anom-upper-bound or --anom-lower-bound" });
            }
            if self.upper_bound == lower {
                return Err(SettingsError::FenceEqual { bound: lower });
            }
            if self.upper_bound < lower {
                return Err(SettingsError::FenceInverted {
                    upper: self.upper_bound,
                    lower: self.lower_bound.unwrap_or(0.0),
                });
            }
        }
        if self.methods.iter().any(|method| method.shuffles()) && self.perm_count == 0 {
            self.perm_count = 500;
        }
        if self.perm_count > MAX_SHUFFLES {
            return Err(SettingsError::Shuffles { given: self.perm_count });
        }
        if self.methods.contains(&Method::Magnitude) {
            if self.sensitivity.is_nan() {
                return Err(SettingsError::NotANumber { flag: "--anom-sensitivity" });
            }
            if self.sensitivity == 0.0 {
                self.sensitivity = 0.1;
            }
        }
        Ok(self)
    }
}

/// Silent on calm traffic, for [`crate::judge::Thresholds::default`]: a burst at least twice the mean of up
/// to 29 earlier intervals and higher than most of them.
impl Default for Settings {
    fn default() -> Self {
        Self {
            methods: vec![Method::Magnitude, Method::Diff, Method::HighRank, Method::LowRank],
            sensitivity: 1.0,
            n_seasons: 29,
            ..Self::original()
        }
    }
}

/// One of the seven tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Method {
    /// Relative distance of the active mean from the reference mean.
    Magnitude,
    /// Rank of the newest relative differences.
    Diff,
    /// Are the active values unusually high?
    HighRank,
    /// Are the active values unusually low?
    LowRank,
    /// Distance of the active mean from fixed bounds.
    Fence,
    /// Kolmogorov-Smirnov distance of active and reference values.
    Ks,
    /// Where the active differences lie in the distribution of the reference ones.
    Cdf,
}

impl Method {
    /// All seven, in the order in which they are named.
    pub const ALL: [Self; 7] =
        [Self::Magnitude, Self::Diff, Self::HighRank, Self::LowRank, Self::Fence, Self::Ks, Self::Cdf];

    /// Upstream's name, which the command line takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Magnitude => "magnitude",
            Self::Diff => "diff",
            Self::HighRank => "highrank",
            Self::LowRank => "lowrank",
            Self::Fence => "fence",
            Self::Ks => "ks",
            Self::Cdf => "cdf",
        }
    }

    /// Points without which it never applies, with an active window of this many.
    #[must_use]
    pub const fn least(self, active_size: usize) -> usize {
        match self {
            Self::Fence => 1,
            Self::Magnitude => active_size.saturating_add(1),
            Self::HighRank | Self::LowRank | Self::Ks => active_size.saturating_mul(2),
            // One more value than differences.
            Self::Diff | Self::Cdf => active_size.saturating_mul(2).saturating_add(1),
        }
    }

    const fn shuffles(self) -> bool {
        matches!(self, Self::Diff | Self::HighRank | Self::LowRank | Self::Ks)
    }
}

/// By exact name, as upstream: neither spaces nor capitals.
impl FromStr for Method {
    type Err = SettingsError;

    fn from_str(name: &str) -> Result<Self, SettingsError> {
        Self::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| SettingsError::UnknownMethod { given: name.to_owned() })
    }
}

/// Why settings were refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// Not one of the seven.
    #[error(
        "--anom-methods: {given:?} is no test; allowed are magnitude, diff, highrank, lowrank, fence, ks, \
         cdf, separated by commas without spaces"
    )]
    UnknownMethod {
        /// What was given.
        given: String,
    },
    /// No point to judge.
    #[error("--anom-active-size is 0; at least 1 interval must be judged")]
    ActiveSize,
    /// Too little to compare with.
    #[error(
        "--anom-n-seasons {seasons} times --anom-active-size {active} gives {} reference intervals; at \
         least 4 are needed, so raise --anom-n-seasons", seasons.saturating_mul(*active)
    )]
    Reference {
        /// Seasons given.
        seasons: usize,
        /// Active size given.
        active: usize,
    },
    /// Nothing fits between the bounds.
    #[error(
        "--anom-upper-bound and --anom-lower-bound are both {}; the upper one must be greater",
        format_number(*bound)
    )]
    FenceEqual {
        /// Both bounds.
        bound: f64,
    },
    /// The bounds are the wrong way round.
    #[error(
        "--anom-upper-bound is {}; it must be greater than --anom-lower-bound, or than 0 without one \
         (lower bound: {})", format_number(*upper), format_number(*lower)
    )]
    FenceInverted {
        /// Upper bound given.
        upper: f64,
        /// Lower bound given, 0 if none was.
        lower: f64,
    },
    /// Would take too long.
    #[error("{given} shuffles asked for; at most {MAX_SHUFFLES} are allowed")]
    Shuffles {
        /// How many were given.
        given: usize,
    },
    /// NaN.
    #[error("{flag} is not a number")]
    NotANumber {
        /// Where.
        flag: &'static str,
    },
}
