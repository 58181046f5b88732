//! When what was learned is saved, and by whom.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::task::JoinHandle;

use super::{Form, Learned, StateDir};

/// How often what was learned is saved, beside the end of a run.
pub const SAVE_EVERY: Duration = Duration::from_secs(600);

/// Saves from time to time, on a thread of its own: neither counting nor judging waits for a disk. A save that fails
/// is warned of once, until one succeeds again; the next one tries again.
#[derive(Debug)]
pub struct Keeper {
    place: Arc<Place>,
    /// Measured since the last save.
    unsaved: Duration,
    writing: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Place {
    dir: StateDir,
    form: Form,
    failing: AtomicBool,
}

impl Keeper {
    /// One that saves there.
    #[must_use]
    pub fn new(dir: StateDir, form: Form) -> Self {
        let place = Arc::new(Place { dir, form, failing: AtomicBool::new(false) });
        Self { place, unsaved: Duration::ZERO, writing: None }
    }

    /// Whether it is time to save, after another interval of this length. Never while a save is still going on.
    pub fn is_due(&mut self, length: Duration) -> bool {
        self.unsaved += length;
        self.unsaved >= SAVE_EVERY && self.writing.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Begins to save.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn save<T: Serialize + Send + 'static>(&mut self, learned: Learned<T>) {
        self.unsaved = Duration::ZERO;
        let place = Arc::clone(&self.place);
        self.writing = Some(tokio::task::spawn_blocking(move || place.save(&learned)));
    }

    /// Saves for the last time, and waits for it.
    pub async fn finish<T: Serialize + Send + 'static>(mut self, learned: Learned<T>) {
        self.written().await;
        self.save(learned);
        self.written().await;
    }

    async fn written(&mut self) {
        if let Some(writing) = self.writing.take()
            && let Err(error) = writing.await
        {
            tracing::error!("saving what was learned: {error}");
        }
    }
}

impl Place {
    fn save<T: Serialize>(&self, learned: &Learned<T>) {
        match self.dir.save(&self.form, learned) {
            Ok(()) => {
                tracing::debug!("what was learned is saved in {}", self.dir.path().display());
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::warn!("what is learned is saved again");
                }
            }
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(
                    "what is learned is not saved: {error}; it is tried again, and would be lost at the end"
                );
            }
            Err(error) => tracing::debug!("what is learned is still not saved: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

    fn form() -> Form {
        Form { settings: Vec::new(), limit: 1000 }
    }

    #[tokio::test]
    async fn saves_every_ten_minutes_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let open = || StateDir::open(folder.path()).unwrap();
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut keeper = Keeper::new(open(), form());
        assert!(!keeper.is_due(minutes(9)));
        assert!(keeper.is_due(minutes(1)));
        keeper.save(Learned { until: NOW, value: 1_u8 });
        assert!(!keeper.is_due(minutes(9)));
        keeper.written().await;
        assert_eq!(keeper.place.dir.load::<u8>(&form(), NOW).unwrap().unwrap().value, 1);
        assert!(keeper.is_due(minutes(1)));
        keeper.finish(Learned { until: NOW, value: 2_u8 }).await;
        assert_eq!(open().load::<u8>(&form(), NOW).unwrap().unwrap().value, 2);
    }

    #[tokio::test]
    async fn one_save_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(StateDir::open(folder.path()).unwrap(), form());
        let (end, held) = tokio::sync::oneshot::channel::<()>();
        keeper.writing = Some(tokio::spawn(async { drop(held.await) }));
        assert!(!keeper.is_due(SAVE_EVERY));
        end.send(()).unwrap();
        keeper.written().await;
        assert!(keeper.is_due(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_failure_is_remembered_until_a_save_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(StateDir::open(folder.path()).unwrap(), form());
        for (bytes, failing) in [(2000, true), (2000, true), (10, false)] {
            keeper.save(Learned { until: NOW, value: vec![1_u8; bytes] });
            keeper.written().await;
            assert_eq!(keeper.place.failing.load(Ordering::Relaxed), failing);
        }
    }
}
