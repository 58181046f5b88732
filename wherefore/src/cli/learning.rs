//! What was learned before, and where it goes on.

use std::ffi::OsStr;

use super::failure::Failure;
use crate::{
    config::Config,
    pipeline::{self, Stages},
    state::{Keeper, OpenError, Place, StateDir},
    time::Timestamp,
};

/// The place of what was learned, held so that no other agent uses it.
pub(super) struct Held {
    dir: Option<StateDir>,
    /// Why there is none, though nobody said so.
    refused: Option<OpenError>,
}

impl Held {
    /// Opens the directory; `variable` is `STATE_DIRECTORY`.
    ///
    /// # Errors
    /// A directory that was named cannot be used.
    pub fn open(place: &Place, variable: Option<&OsStr>) -> Result<Self, Failure> {
        match place.open(variable) {
            Ok(dir) => Ok(Self { dir, refused: None }),
            Err(error) if place.must() => Err(error.into()),
            Err(error) => Ok(Self { dir: None, refused: Some(error) }),
        }
    }

    /// Goes on with what was learned, and says so.
    pub fn resume(self, stages: &mut Stages, config: &Config) -> Option<Keeper> {
        if let Some(error) = self.refused {
            tracing::warn!("what is learned is not kept: {error}");
        }
        let dir = self.dir?;
        let form = pipeline::form(config);
        match dir.load(&form, Timestamp::now()) {
            Ok(Some(learned)) => {
                let until = learned.until;
                match stages.resume(learned) {
                    Ok(()) => tracing::info!(
                        "{} series learned until {until} go on, from {}",
                        stages.series(),
                        dir.path().display()
                    ),
                    Err(error) => tracing::warn!("what was learned does not fit: {error}"),
                }
            }
            Ok(None) => tracing::info!("what is learned is kept in {}", dir.path().display()),
            Err(set_aside) => tracing::warn!("{set_aside}; learning begins anew"),
        }
        Some(Keeper::new(dir, form))
    }
}
