//! What was learned, as a value to be kept over a restart.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Class, Judge, newcomers::Newcomers, state::State};
use crate::{
    detect::Detector,
    series::{Entry, Exact, Gaps, Level, Metric, SeriesKey},
    time::Timestamp,
};

/// Grows with each change of what is saved, or of what a detector remembers.
pub const VERSION: u32 = 2;

/// What a judge has learned: bounded as its stores are. Interfaces are there by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "M: Serialize", deserialize = "M: DeserializeOwned"))]
pub struct Saved<M> {
    version: u32,
    /// Nanoseconds of an interval: what was learned of others says nothing.
    interval: u64,
    now: u32,
    /// End of the last recorded interval, nanoseconds since 1970.
    end: Option<u64>,
    classes: Vec<SavedClass<M>>,
    told: Vec<(SeriesKey, u32)>,
}

impl<M> Saved<M> {
    /// When the last recorded interval ended; `None` before the first.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.end.map(Timestamp)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "M: Serialize", deserialize = "M: DeserializeOwned"))]
struct SavedClass<M> {
    level: Level,
    metric: Metric,
    series: Vec<Entry<M>>,
    exact: Vec<Exact>,
    states: Vec<(SeriesKey, State)>,
    newcomers: Option<Newcomers>,
}

/// What was saved was learned otherwise, and cannot be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongVersion {
    /// By another version of the program.
    #[error("saved in form {found}, this version reads form {VERSION}: learn anew")]
    Form {
        /// Its form.
        found: u32,
    },
    /// Of intervals of another length.
    #[error("learned of intervals of another length: learn anew, or use the former --interval")]
    Interval,
    /// By another detector.
    #[error("learned by another detector: learn anew, or use the former --detector")]
    Detector,
}

impl<D: Detector> Judge<D>
where
    D::Memory: Clone,
{
    /// What was learned so far.
    #[must_use]
    pub fn save(&self) -> Saved<D::Memory> {
        Saved {
            version: VERSION,
            interval: self.nanos(),
            now: self.now,
            end: self.gaps.end().map(|end| end.0),
            classes: self.classes.iter().map(save).collect(),
            told: self.told.iter().map(|(key, when)| (*key, *when)).collect(),
        }
    }

    /// Goes on with what was saved. Levels that were not in use then begin anew; what there is no room for any more is
    /// left out.
    ///
    /// # Errors
    /// What was saved does not fit; nothing is changed then.
    pub fn load(&mut self, saved: Saved<D::Memory>) -> Result<(), WrongVersion> {
        if saved.version != VERSION {
            return Err(WrongVersion::Form { found: saved.version });
        }
        if saved.interval != self.nanos() {
            return Err(WrongVersion::Interval);
        }
        self.now = saved.now;
        self.told = saved.told.iter().copied().collect();
        self.gaps = Gaps::since(saved.until());
        for saved in saved.classes {
            let class = self
                .classes
                .iter_mut()
                .find(|class| (class.level, class.metric) == (saved.level, saved.metric));
            if let Some(class) = class {
                load(class, saved);
            }
        }
        Ok(())
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX)
    }
}

fn save<M: Clone>(class: &Class<M>) -> SavedClass<M> {
    let (series, exact) = class.store.save();
    let mut states: Vec<_> = class.states.iter().map(|(key, state)| (*key, *state)).collect();
    states.sort_unstable_by_key(|(key, _)| *key);
    SavedClass {
        level: class.level,
        metric: class.metric,
        series,
        exact,
        states,
        newcomers: class.newcomers.clone(),
    }
}

fn load<M>(class: &mut Class<M>, saved: SavedClass<M>) {
    class.store.load(saved.series, saved.exact);
    class.states = saved.states.into_iter().filter(|(key, _)| class.store.get(key).is_some()).collect();
    if let (Some(newcomers), Some(saved)) = (&mut class.newcomers, saved.newcomers) {
        *newcomers = saved;
    }
}
