//! The Anomalyzer: seven tests on a series, combined into one probability.

/// Settings, with upstream's names; see docs/migrating.md for the original's flags.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which tests.
    pub methods: Vec<Method>,
    /// Magnitude below this makes the whole verdict 0. Unbounded, as upstream; 0 means 0.1.
    pub sensitivity: f64,
    /// Fence: upper bound, in bytes per interval.
    pub upper_bound: f64,
    /// Fence: lower bound; `None` for none.
    pub lower_bound: Option<f64>,
    /// Points judged together.
    pub active_size: usize,
    /// Reference window = seasons x active size; 0 means 4.
    pub n_seasons: usize,
    /// Shuffles of the permutation tests; 0 means 500.
    pub perm_count: usize,
    /// Be silent until there are reference + active points.
    pub delay: bool,
}

impl Settings {
    /// The original's defaults.
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
}

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

/// The detector.
#[derive(Clone, Debug)]
pub struct Anomalyzer;

impl Anomalyzer {
    /// Checks the settings, in upstream's order.
    ///
    /// # Errors
    /// The first setting that is not allowed.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let seasons = if settings.n_seasons == 0 { 4 } else { settings.n_seasons };
        let active = settings.active_size;
        if active < 1 {
            return Err(SettingsError::ActiveSize);
        }
        if seasons.saturating_mul(active) < 4 {
            return Err(SettingsError::Reference { seasons, active });
        }
        let (upper, lower) = (settings.upper_bound, settings.lower_bound.unwrap_or(0.0));
        if settings.methods.contains(&Method::Fence) && upper <= lower {
            return Err(SettingsError::FenceInverted { upper, lower });
        }
        if settings.perm_count > 1_000_000 {
            return Err(SettingsError::Shuffles { given: settings.perm_count });
        }
        drop(settings);
        Ok(Self)
    }
}

/// Why settings were refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// No point to judge.
    #[error("--anom-active-size is 0; at least 1 interval must be judged")]
    ActiveSize,
    /// Too little to compare with.
    #[error("--anom-n-seasons {seasons} times --anom-active-size {active}: at least 4 are needed")]
    Reference {
        /// Seasons given.
        seasons: usize,
        /// Active size given.
        active: usize,
    },
    /// Nothing fits between the bounds.
    #[error("--anom-upper-bound and --anom-lower-bound are both {bound}")]
    FenceEqual {
        /// Both bounds.
        bound: f64,
    },
    /// The bounds are the wrong way round.
    #[error("--anom-upper-bound is {upper}; it must be greater than --anom-lower-bound ({lower})")]
    FenceInverted {
        /// Upper bound given.
        upper: f64,
        /// Lower bound given, 0 if none was.
        lower: f64,
    },
    /// Would take too long.
    #[error("{given} shuffles asked for; at most 1000000 are allowed")]
    Shuffles {
        /// How many were given.
        given: usize,
    },
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
