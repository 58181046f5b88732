//! Which rules an interval breaks, with what came before it in mind.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Broken, By, Contributor, Kind, MAX_CONTRIBUTORS, Measured, Quantity, Rule,
    traffic::{self, Group, Pair},
    window::{Bounded, Window},
};
use crate::{locality::Locality, series::Unit, snapshot::Snapshot, time::Timestamp};

/// Most groups that a rule remembers, and most pairs for the contributors of a volume: half a kilobyte each.
pub const MAX_GROUPS: usize = 4_096;
/// Most destinations that a rule remembers, some 40 bytes each.
pub const MAX_DESTINATIONS: usize = 65_536;
/// New destinations of an interval that are told one by one; more are told together.
const MAX_TOLD: usize = 5;

/// What rules had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Times a group was not measured: the rule remembered [`MAX_GROUPS`] others that were heavier.
    pub turned_away: u64,
    /// Times a new destination was not told: the rule remembered [`MAX_DESTINATIONS`] others.
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
            let verdicts = match (memory, rule.condition.kind) {
                (Memory::Above(above), Kind::Rate { of, limit, lasting }) => {
                    above.rate(&interval, rule.by, of, limit, lasting)
                }
                (Memory::Above(above), Kind::Flows { limit, lasting }) => {
                    above.flows(&interval, rule.by, limit, lasting)
                }
                (Memory::Volumes(volumes), Kind::Volume { of, limit, per }) => {
                    volumes.judge(&interval, rule.by, of, limit, per)
                }
                (Memory::Known(known), Kind::NewDestination) => known.judge(&interval, rule.learn),
                _ => Vec::new(),
            };
            for verdict in verdicts {
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
            match memory {
                Memory::Above(above) => counters.turned_away += above.groups.turned_away(),
                Memory::Volumes(volumes) => counters.turned_away += volumes.groups.turned_away(),
                Memory::Known(known) => counters.untold += known.untold,
            }
        }
        counters
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Time by the measured lengths of intervals and the gaps between them: no clock that is set moves it.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    elapsed: Duration,
    end: Option<Timestamp>,
}

/// An interval on that clock.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Its end.
    now: Duration,
    length: Duration,
    /// Nothing was counted between this interval and the one before, or it held no packet.
    gap: bool,
}

impl Clock {
    fn step(&mut self, snapshot: &Snapshot) -> Step {
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
struct Interval<'a> {
    step: Step,
    pairs: &'a [Pair],
    complete: bool,
}

impl Interval<'_> {
    /// `amount` of each pair, summed by group.
    fn sums(&self, by: By, amount: impl Fn(&Pair) -> u64) -> HashMap<Group, u64> {
        let mut sums = HashMap::new();
        for pair in self.pairs {
            let sum: &mut u64 = sums.entry(pair.group(by)).or_default();
            *sum = sum.saturating_add(amount(pair));
        }
        sums
    }

    /// What broke a rule, with its evidence, the heaviest first. `most` tells who contributed, of a group and the pairs
    /// that it has in the interval.
    fn verdicts(
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
fn by_amount<'a>(
    pairs: impl IntoIterator<Item = &'a Pair>,
    amount: impl Fn(&Pair) -> u64,
) -> Vec<Contributor> {
    largest(pairs.into_iter().map(|pair| (pair.group(By::Pair), amount(pair))))
}

/// The largest of pairs with their share of all of them.
fn largest(pairs: impl Iterator<Item = (Group, u64)>) -> Vec<Contributor> {
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
struct Carried {
    bytes: u64,
    /// Of these, what came in.
    incoming: u64,
    /// The pair that carried most of it.
    heaviest: Option<Pair>,
}

fn carried<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Carried {
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
struct Breach {
    group: Group,
    measured: Measured,
    /// How long before the end of the interval that began.
    back: Duration,
}

/// The same with its evidence.
struct Verdict {
    breach: Breach,
    carried: Carried,
    contributors: Vec<Contributor>,
}

/// What a rule remembers.
#[derive(Clone, Debug)]
enum Memory {
    Above(AllAbove),
    Volumes(Volumes),
    Known(Known),
}

impl Memory {
    fn new(rule: &Rule) -> Self {
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
}

/// The groups that have more than is allowed.
#[derive(Clone, Debug)]
struct AllAbove {
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
struct Volumes {
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
struct Known {
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
