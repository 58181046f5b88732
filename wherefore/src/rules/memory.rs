//! What each kind of rule remembers, and what an interval breaks of it.

use std::{collections::HashSet, time::Duration};

use super::{
    By, Contributor, Kind, Measured, Quantity, Rule,
    evaluate::Counters,
    interval::{Breach, Interval, Step, Verdict, by_amount, carried, largest},
    traffic::{Group, Pair},
    window::{Bounded, Window},
};
use crate::locality::Locality;

/// Most groups that a rule remembers, and most pairs for the contributors of a volume: half a kilobyte each.
pub const MAX_GROUPS: usize = 4_096;
/// Most destinations that a rule remembers, some 40 bytes each.
pub const MAX_DESTINATIONS: usize = 65_536;
/// New destinations of an interval that are told one by one; more are told together.
const MAX_TOLD: usize = 5;

/// What a rule remembers.
#[derive(Clone, Debug)]
pub(super) enum Memory {
    Above(AllAbove),
    Volumes(Volumes),
    Known(Known),
}

impl Memory {
    pub(super) fn new(rule: &Rule) -> Self {
        match rule.condition.kind {
            Kind::Rate { .. } | Kind::Flows { .. } => {
                Self::Above(AllAbove { groups: Bounded::new(MAX_GROUPS) })
            }
            Kind::Volume { per, .. } => Self::Volumes(Volumes {
                groups: Bounded::new(MAX_GROUPS),
                pairs: (rule.by != By::Pair).then(|| Bounded::new(MAX_GROUPS)),
                per,
            }),
            Kind::NewDestination => {
                let by = if rule.by == By::All { By::Host } else { rule.by };
                Self::Known(Known { by, seen: HashSet::new(), untold: 0 })
            }
        }
    }

    /// What an interval breaks of `rule`, which this is the memory of.
    pub(super) fn judge(&mut self, rule: &Rule, interval: &Interval<'_>) -> Vec<Verdict> {
        match (self, rule.condition.kind) {
            (Self::Above(above), Kind::Rate { of, limit, lasting }) => {
                above.rate(interval, rule.by, of, limit, lasting)
            }
            (Self::Above(above), Kind::Flows { limit, lasting }) => {
                above.flows(interval, rule.by, limit, lasting)
            }
            (Self::Volumes(volumes), Kind::Volume { of, limit, per }) => {
                volumes.judge(interval, rule.by, of, limit, per)
            }
            (Self::Known(known), Kind::NewDestination) => known.judge(interval, rule.learn),
            _ => Vec::new(),
        }
    }

    /// Adds what there was no room for.
    pub(super) fn count(&self, counters: &mut Counters) {
        match self {
            Self::Above(above) => counters.turned_away += above.groups.turned_away(),
            Self::Volumes(volumes) => counters.turned_away += volumes.groups.turned_away(),
            Self::Known(known) => counters.untold += known.untold,
        }
    }
}

/// The groups that have more than is allowed.
#[derive(Clone, Debug)]
pub(super) struct AllAbove {
    groups: Bounded<Group, Above>,
}

/// A group that has more than is allowed in each interval since a while.
#[derive(Clone, Copy, Debug, Default)]
struct Above {
    lasting: Duration,
    /// Bytes or packets since then.
    sum: u64,
    told: bool,
}

impl AllAbove {
    fn rate(
        &mut self,
        interval: &Interval<'_>,
        by: By,
        of: Quantity,
        limit: u64,
        lasting: Duration,
    ) -> Vec<Verdict> {
        let amount = |pair: &Pair| match of {
            Quantity::Bytes => pair.bytes,
            Quantity::Packets => pair.packets,
        };
        let seconds = interval.step.length.as_secs_f64();
        let above = |sum: u64| sum as f64 > limit as f64 * seconds;
        self.judge(interval, by, amount, above, lasting, |above, _| Measured::Rate {
            of,
            value: above.sum as f64 / above.lasting.as_secs_f64(),
            lasting: above.lasting,
        })
    }

    fn flows(&mut self, interval: &Interval<'_>, by: By, limit: u64, lasting: Duration) -> Vec<Verdict> {
        let above = |sum: u64| sum > limit;
        self.judge(
            interval,
            by,
            |pair| pair.flows,
            above,
            lasting,
            |above, value| Measured::Flows { value, lasting: above.lasting },
        )
    }

    fn judge(
        &mut self,
        interval: &Interval<'_>,
        by: By,
        amount: impl Fn(&Pair) -> u64,
        above: impl Fn(u64) -> bool,
        lasting: Duration,
        measured: impl Fn(&Above, u64) -> Measured,
    ) -> Vec<Verdict> {
        let Step { length, gap, .. } = interval.step;
        if !interval.complete || length.is_zero() {
            return Vec::new();
        }
        if gap {
            self.groups.values_mut().clear();
        }
        let sums = interval.sums(by, &amount);
        let over: Vec<(Group, u64)> = sums.into_iter().filter(|(_, sum)| above(*sum)).collect();
        let over_now: HashSet<Group> = over.iter().map(|(group, _)| *group).collect();
        self.groups.values_mut().retain(|group, _| over_now.contains(group));
        self.groups.admit(&over, |above| above.sum, Above::default);
        let mut broken = Vec::new();
        for (group, sum) in over {
            let Some(state) = self.groups.values_mut().get_mut(&group) else { continue };
            state.lasting += length;
            state.sum = state.sum.saturating_add(sum);
            // Intervals are some thousandths longer or shorter than asked: two of 4.999 s are 10 s.
            if !state.told && state.lasting + lasting / 100 >= lasting {
                state.told = true;
                broken.push(Breach { group, measured: measured(state, sum), back: state.lasting });
            }
        }
        interval.verdicts(by, broken, |_, pairs| by_amount(pairs.iter().copied(), &amount))
    }
}

/// Sliding sums.
#[derive(Clone, Debug)]
pub(super) struct Volumes {
    groups: Bounded<Group, Volume>,
    /// The pairs, to tell who contributed; `None` where these are the groups.
    pairs: Option<Bounded<Group, Volume>>,
    per: Duration,
}

#[derive(Clone, Debug)]
struct Volume {
    window: Window,
    /// How it is joined to a group: by its remote end.
    locality: Locality,
    told: bool,
}

impl Volumes {
    fn judge(
        &mut self,
        interval: &Interval<'_>,
        by: By,
        of: Quantity,
        limit: u64,
        per: Duration,
    ) -> Vec<Verdict> {
        let amount = |pair: &Pair| match of {
            Quantity::Bytes => pair.bytes,
            Quantity::Packets => pair.packets,
        };
        let now = interval.step.now;
        let sums: Vec<(Group, u64)> = interval.sums(by, amount).into_iter().collect();
        fill(&mut self.groups, &sums, now, self.per);
        if let Some(pairs) = &mut self.pairs {
            let sums: Vec<(Group, u64)> = interval.sums(By::Pair, amount).into_iter().collect();
            fill(pairs, &sums, now, self.per);
            for pair in interval.pairs {
                if let Some(volume) = pairs.values_mut().get_mut(&pair.group(By::Pair)) {
                    volume.locality = pair.locality;
                }
            }
        }
        let within = per.min(now);
        let mut broken = Vec::new();
        for (group, volume) in self.groups.values_mut() {
            let value = volume.window.sum();
            if value <= limit {
                volume.told = false;
            } else if !std::mem::replace(&mut volume.told, true) {
                let measured = Measured::Volume { of, value, within };
                broken.push(Breach { group: *group, measured, back: within });
            }
        }
        interval.verdicts(by, broken, |group, pairs| match &self.pairs {
            Some(all) => contributors(all, group, by),
            None => by_amount(pairs.iter().copied(), amount),
        })
    }
}

/// Adds an interval to each sum, and forgets those that are empty.
fn fill(volumes: &mut Bounded<Group, Volume>, sums: &[(Group, u64)], now: Duration, per: Duration) {
    volumes.values_mut().retain(|_, volume| {
        volume.window.slide(now);
        volume.window.sum() > 0
    });
    let make = || Volume { window: Window::new(per), locality: Locality::Unknown, told: false };
    volumes.admit(sums, |volume| volume.window.sum(), make);
    for (group, sum) in sums {
        if let Some(volume) = volumes.values_mut().get_mut(group) {
            volume.window.add(now, *sum);
        }
    }
}

/// The pairs of a group that had most within the window.
fn contributors(pairs: &Bounded<Group, Volume>, group: Group, by: By) -> Vec<Contributor> {
    let of_group = pairs.values().iter().filter(|(pair, volume)| match pair {
        Group::Pair(src, dst) => Group::of(*src, *dst, volume.locality, by) == group,
        _ => false,
    });
    largest(of_group.map(|(pair, volume)| (*pair, volume.window.sum())))
}

/// The remote ends seen so far.
#[derive(Clone, Debug)]
pub(super) struct Known {
    by: By,
    seen: HashSet<Group>,
    untold: u64,
}

impl Known {
    fn judge(&mut self, interval: &Interval<'_>, learn: Duration) -> Vec<Verdict> {
        let by = self.by;
        let mut new: Vec<(Group, u64)> = interval
            .sums(by, |pair| pair.bytes)
            .into_iter()
            .filter(|(group, _)| !self.seen.contains(group))
            .collect();
        // The heaviest are remembered where there is not room for all.
        new.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let room = MAX_DESTINATIONS.saturating_sub(self.seen.len()).min(new.len());
        self.untold += new.split_off(room).len() as u64;
        self.seen.extend(new.iter().map(|(group, _)| *group));
        if interval.step.now <= learn || new.is_empty() {
            return Vec::new();
        }
        let breach =
            |group, count| Breach { group, measured: Measured::New { count }, back: interval.step.length };
        if new.len() > MAX_TOLD {
            let among: HashSet<Group> = new.iter().map(|(group, _)| *group).collect();
            let pairs = || interval.pairs.iter().filter(|pair| among.contains(&pair.group(by)));
            return vec![Verdict {
                breach: breach(Group::All, new.len() as u64),
                carried: carried(pairs()),
                contributors: by_amount(pairs(), |pair| pair.bytes),
            }];
        }
        let broken = new.into_iter().map(|(group, _)| breach(group, 1)).collect();
        interval.verdicts(by, broken, |_, pairs| by_amount(pairs.iter().copied(), |pair| pair.bytes))
    }
}
