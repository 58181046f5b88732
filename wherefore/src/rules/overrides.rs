//! What is judged in another way by the detector.

use std::{collections::HashMap, fmt};

use super::Match;
use crate::snapshot::{Flow, Snapshot};

/// Settings of the detector for some of the traffic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// Which traffic it is about.
    pub wanted: Match,
    /// Never alert on it.
    pub ignore: bool,
    /// In place of the detector's smallest volume, in bytes an interval.
    pub min_bytes: Option<u64>,
    /// In place of the smallest multiple of what is busy.
    pub min_factor: Option<f64>,
    /// In place of the probability above which is alerted.
    pub probability: Option<f64>,
}

/// `override (ignore), where remote 203.0.113.0/24`.
impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ignore = self.ignore.then(|| "ignore".to_owned());
        let min_bytes = self.min_bytes.map(|bytes| format!("min_bytes {bytes}"));
        let min_factor = self.min_factor.map(|factor| format!("min_factor {factor}"));
        let probability = self.probability.map(|probability| format!("alert_threshold {probability}"));
        let settings: Vec<_> = [ignore, min_bytes, min_factor, probability].into_iter().flatten().collect();
        write!(f, "override ({})", settings.join(", "))?;
        match self.wanted.to_string() {
            all if all.is_empty() => Ok(()),
            wanted => write!(f, ", where {wanted}"),
        }
    }
}

/// Overrides in their order: of several that match a flow, the first counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides(pub Vec<Override>);

impl Overrides {
    /// Marks the flows that are not to be judged.
    pub fn ignore(&self, snapshot: &mut Snapshot) {
        if !self.0.iter().any(|entry| entry.ignore) {
            return;
        }
        let ignored: Vec<bool> =
            self.of_flows(snapshot).map(|(_, entry)| entry.is_some_and(|entry| entry.ignore)).collect();
        for (flow, ignored) in snapshot.flows.iter_mut().zip(ignored) {
            flow.ignored = ignored;
        }
    }

    /// Each flow of an interval with its override, in the order of the flows.
    pub fn of_flows<'a>(
        &'a self,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = (&'a Flow, Option<&'a Override>)> {
        // Names are held against globs once an interface.
        let mut on: HashMap<u32, Vec<bool>> = HashMap::new();
        snapshot.flows.iter().map(move |flow| {
            let ifindex = flow.key.ifindex;
            let on = on.entry(ifindex).or_insert_with(|| {
                let name = snapshot.interface_name(ifindex);
                self.0.iter().map(|entry| entry.wanted.on(&name)).collect()
            });
            let mut entries = self.0.iter().zip(on.iter());
            let entry = entries.find(|(entry, on)| **on && entry.wanted.matches(flow));
            (flow, entry.map(|(entry, _)| entry))
        })
    }
}
