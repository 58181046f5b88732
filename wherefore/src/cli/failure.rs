//! Why a command ends early, and with which exit code.

use std::io;

use crate::{
    backend,
    config::{ConfigError, exit, file::FileError},
    detect::anomalyzer::SettingsError,
    sink, state,
};

/// What stopped a command before or while it ran.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Settings that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Everything that is wrong with a configuration file.
    #[error("{}", .0.to_string().replace('\n', "\nerror: "))]
    File(#[from] FileError),
    /// Settings the detector does not take.
    #[error(transparent)]
    Detector(#[from] SettingsError),
    /// Counting cannot start, or not go on.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// Nobody could be told.
    #[error(transparent)]
    Sink(#[from] sink::Error),
    /// The directory of what was learned cannot be used.
    #[error(transparent)]
    State(#[from] state::OpenError),
    /// A directory or a stream that is not to be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What came back.
        source: io::Error,
    },
}

impl Failure {
    /// An I/O failure of `what`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The exit code that tells it to scripts (docs/command-line.md).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(error) => error.exit_code(),
            Self::Detector(_) => exit::USAGE,
            Self::Backend(error) => exit::of_backend(error),
            Self::Sink(_) | Self::File(_) | Self::State(_) => exit::CONFIG,
            Self::Io { .. } => exit::FAILURE,
        }
    }
}
