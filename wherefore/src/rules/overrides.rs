//! What is judged in another way by the detector.

use std::{collections::HashMap, fmt};

use wherefore_common::Direction;

use super::Match;
use crate::{locality::Locality, series::SeriesKey, snapshot::Snapshot};

/// Settings of the detector for some of the traffic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// Which traffic it is about.
    pub wanted: Match,
    /// Never alert on it.
    pub ignore: bool,
    /// In place of the smallest volume that may alert, in bytes an interval.
    pub min_bytes: Option<u64>,
    /// In place of the smallest number of flows that may alert, in an interval.
    pub min_flows: Option<u64>,
}

/// `override (ignore), where remote 203.0.113.0/24`.
impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ignore = self.ignore.then(|| "ignore".to_owned());
        let min_bytes = self.min_bytes.map(|bytes| format!("min_bytes {bytes}"));
        let min_flows = self.min_flows.map(|flows| format!("min_flows {flows}"));
        let settings: Vec<_> = [ignore, min_bytes, min_flows].into_iter().flatten().collect();
        write!(f, "override ({})", settings.join(", "))?;
        match self.wanted.to_string() {
            all if all.is_empty() => Ok(()),
            wanted => write!(f, ", where {wanted}"),
        }
    }
}

/// Overrides in their order: of several that match, the first counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides(pub Vec<Override>);

impl Overrides {
    /// Marks the flows that are not to be judged.
    pub fn ignore(&self, snapshot: &mut Snapshot) {
        if !self.0.iter().any(|entry| entry.ignore) {
            return;
        }
        // Names are held against globs once an interface.
        let mut on: HashMap<u32, Vec<bool>> = HashMap::new();
        let ignored = snapshot.flows.iter().map(|flow| {
            let ifindex = flow.key.ifindex;
            let on = on.entry(ifindex).or_insert_with(|| {
                let name = snapshot.interface_name(ifindex);
                self.0.iter().map(|entry| entry.wanted.on(&name)).collect()
            });
            let mut entries = self.0.iter().zip(on.iter());
            entries
                .find(|(entry, on)| **on && entry.wanted.matches(flow))
                .is_some_and(|(entry, _)| entry.ignore)
        });
        let ignored: Vec<bool> = ignored.collect();
        for (flow, ignored) in snapshot.flows.iter_mut().zip(ignored) {
            flow.ignored = ignored;
        }
    }

    /// The override of a series, which most of it passed on this interface.
    #[must_use]
    pub fn of_series(
        &self,
        series: &SeriesKey,
        locality: Locality,
        direction: Direction,
        interface: &str,
    ) -> Option<&Override> {
        let matches = |wanted: &Match| wanted.holds(series, locality, direction) && wanted.on(interface);
        self.0.iter().find(|entry| !entry.ignore && matches(&entry.wanted))
    }
}
