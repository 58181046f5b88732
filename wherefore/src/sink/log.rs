//! The log files `wherefore.log` and `wherefore_anomalies.log`.

use std::path::PathBuf;

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Directory of both files; `None`: no files.
    pub dir: Option<PathBuf>,
    /// A file that grows beyond this many bytes is renamed to `NAME.1` (an older one is replaced).
    pub max_bytes: u64,
}
