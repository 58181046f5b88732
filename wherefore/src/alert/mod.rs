//! What is told to people.

use crate::finding::Finding;

/// One alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Name of the host that saw it.
    pub host: String,
    /// What was unusual, with its evidence.
    pub finding: Finding,
    /// How often the same key fired since it was last told, and was held back by the cooldown.
    pub suppressed: u64,
}

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A key that keeps firing is told once per this time.
    pub cooldown: std::time::Duration,
    /// Most keys whose cooldown is remembered.
    pub max_keys: usize,
}
