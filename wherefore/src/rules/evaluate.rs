//! Which rules an interval breaks, with what came before it in mind.

use std::{sync::Arc, time::Duration};

use super::{
    Broken, Rule,
    interval::{Clock, Interval},
    memory::Memory,
    traffic,
};
use crate::{series::Unit, snapshot::Snapshot, time::Timestamp};

/// What rules had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Times a group was not measured: the rule remembered [`super::MAX_GROUPS`] others that were heavier.
    pub turned_away: u64,
    /// Times a new destination was not told: the rule remembered [`super::MAX_DESTINATIONS`] others.
    pub untold: u64,
}

/// Rules and what they remember.
#[derive(Clone, Debug)]
pub struct Rules {
    unit: Unit,
    clock: Clock,
    rules: Vec<(Arc<Rule>, Memory)>,
}

impl Rules {
    /// Rules that have seen nothing yet.
    #[must_use]
    pub fn new(rules: &[Rule], unit: Unit) -> Self {
        let rules = rules.iter().map(|rule| (Arc::new(rule.clone()), Memory::new(rule))).collect();
        Self { unit, clock: Clock::default(), rules }
    }

    /// Takes in an interval: the rules that it breaks, in their order, each for each group once. A rule is broken again
    /// only after it was kept again.
    ///
    /// An interval cut short breaks no rate and no number of flows, and ends none; its bytes are part of volumes.
    pub fn evaluate(&mut self, snapshot: &Snapshot) -> Vec<Broken> {
        let step = self.clock.step(snapshot);
        let mut broken = Vec::new();
        for (rule, memory) in &mut self.rules {
            let pairs = traffic::pairs(snapshot, &rule.wanted, self.unit);
            let interval = Interval { step, pairs: &pairs, complete: snapshot.complete };
            for verdict in memory.judge(rule, &interval) {
                // A group breaks a rule only by what it carries.
                let Some(heaviest) = verdict.carried.heaviest else { continue };
                broken.push(Broken {
                    rule: Arc::clone(rule),
                    group: verdict.breach.group,
                    measured: verdict.breach.measured,
                    since: Timestamp(snapshot.end.0.saturating_sub(nanos(verdict.breach.back))),
                    time: snapshot.end,
                    bytes: verdict.carried.bytes,
                    unit: self.unit,
                    incoming: verdict.carried.incoming > verdict.carried.bytes / 2,
                    src: heaviest.src,
                    dst: heaviest.dst,
                    locality: heaviest.locality,
                    interface: snapshot.interface_name(heaviest.ifindex).into_owned(),
                    direction: heaviest.direction,
                    contributors: verdict.contributors,
                });
            }
        }
        broken
    }

    /// What there was no room for.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        for (_, memory) in &self.rules {
            memory.count(&mut counters);
        }
        counters
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
