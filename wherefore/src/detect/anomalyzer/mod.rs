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
