//! An interval as rules see it: its place in time, what it carried by group, and the evidence of what it breaks.

use std::{collections::HashMap, time::Duration};

use super::{
    By, Contributor, MAX_CONTRIBUTORS, Measured,
    traffic::{Group, Pair},
};
use crate::{locality::Locality, snapshot::Snapshot, time::Timestamp};

/// Time by the measured lengths of intervals and the gaps between them: no clock that is set moves it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    elapsed: Duration,
    end: Option<Timestamp>,
}

/// An interval on that clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Its end.
    pub now: Duration,
    pub length: Duration,
    /// Nothing was counted between this interval and the one before, or it held no packet.
    pub gap: bool,
}

impl Clock {
    pub(super) fn step(&mut self, snapshot: &Snapshot) -> Step {
        let silent = self.end.map_or(Duration::ZERO, |end| snapshot.start.since(end));
        self.end = Some(snapshot.end);
        self.elapsed = self.elapsed.saturating_add(silent).saturating_add(snapshot.length);
        Step {
            now: self.elapsed,
            length: snapshot.length,
            gap: snapshot.skipped > 0 || silent > snapshot.length,
        }
    }
}

/// What an interval carried of what a rule is about.
pub(super) struct Interval<'a> {
    pub step: Step,
    pub pairs: &'a [Pair],
    pub complete: bool,
}

impl Interval<'_> {
    /// `amount` of each pair, summed by group.
    pub(super) fn sums(&self, by: By, amount: impl Fn(&Pair) -> u64) -> HashMap<Group, u64> {
        let mut sums = HashMap::new();
        for pair in self.pairs {
            let sum: &mut u64 = sums.entry(pair.group(by)).or_default();
            *sum = sum.saturating_add(amount(pair));
        }
        sums
    }

    /// What broke a rule, with its evidence, the heaviest first. `most` tells who contributed, of a group and the pairs
    /// that it has in the interval.
    pub(super) fn verdicts(
        &self,
        by: By,
        broken: Vec<Breach>,
        most: impl Fn(Group, &[&Pair]) -> Vec<Contributor>,
    ) -> Vec<Verdict> {
        let mut pairs: HashMap<Group, Vec<&Pair>> =
            broken.iter().map(|breach| (breach.group, Vec::new())).collect();
        if !broken.is_empty() {
            for pair in self.pairs {
                if let Some(pairs) = pairs.get_mut(&pair.group(by)) {
                    pairs.push(pair);
                }
            }
        }
        let mut verdicts: Vec<Verdict> = broken
            .into_iter()
            .map(|breach| {
                let pairs = pairs.remove(&breach.group).unwrap_or_default();
                Verdict {
                    carried: carried(pairs.iter().copied()),
                    contributors: most(breach.group, &pairs),
                    breach,
                }
            })
            .collect();
        // So that what is told does not depend on a table's order.
        let order = |a: &Verdict, b: &Verdict| {
            b.carried.bytes.cmp(&a.carried.bytes).then(a.breach.group.cmp(&b.breach.group))
        };
        verdicts.sort_unstable_by(order);
        verdicts
    }
}

/// Contributors by `amount` of pairs.
pub(super) fn by_amount<'a>(
    pairs: impl IntoIterator<Item = &'a Pair>,
    amount: impl Fn(&Pair) -> u64,
) -> Vec<Contributor> {
    largest(pairs.into_iter().map(|pair| (pair.group(By::Pair), amount(pair))))
}

/// The largest of pairs with their share of all of them.
pub(super) fn largest(pairs: impl Iterator<Item = (Group, u64)>) -> Vec<Contributor> {
    let mut pairs: Vec<(Group, u64)> = pairs.filter(|(_, amount)| *amount > 0).collect();
    let whole: f64 = pairs.iter().map(|(_, amount)| *amount as f64).sum();
    pairs.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let named = pairs.into_iter().filter_map(|(group, amount)| match group {
        Group::Pair(src, dst) => Some(Contributor { src, dst, amount, share: amount as f64 / whole }),
        _ => None,
    });
    named.take(MAX_CONTRIBUTORS).collect()
}

/// What a group carried in an interval.
#[derive(Clone, Copy, Default)]
pub(super) struct Carried {
    pub bytes: u64,
    /// Of these, what came in.
    pub incoming: u64,
    /// The pair that carried most of it.
    pub heaviest: Option<Pair>,
}

pub(super) fn carried<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Carried {
    let mut carried = Carried::default();
    for pair in pairs {
        carried.bytes = carried.bytes.saturating_add(pair.bytes);
        if pair.locality == Locality::Incoming {
            carried.incoming = carried.incoming.saturating_add(pair.bytes);
        }
        if carried.heaviest.is_none_or(|heaviest| pair.bytes > heaviest.bytes) {
            carried.heaviest = Some(*pair);
        }
    }
    carried
}

/// A rule broken by a group.
pub(super) struct Breach {
    pub group: Group,
    pub measured: Measured,
    /// How long before the end of the interval that began.
    pub back: Duration,
}

/// The same with its evidence.
pub(super) struct Verdict {
    pub breach: Breach,
    pub carried: Carried,
    pub contributors: Vec<Contributor>,
}
