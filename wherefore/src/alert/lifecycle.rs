//! Which findings become alerts: a key that keeps firing is told once per cooldown.

use std::collections::{BTreeSet, HashMap};

use super::{Alert, Settings};
use crate::{
    finding::{Finding, Key},
    time::Timestamp,
};

/// Turns findings into alerts, and holds back what was told a short while ago.
///
/// The key is the series and what is measured of it, or the rule and whose traffic broke it: neither volumes nor interface nor direction, which change while the
/// same thing goes on. What became far worse is told within the cooldown. Time is what the caller says, so a capture replayed in a second alerts as it would
/// have live. Memory is bounded by [`Settings::max_keys`]: beyond it the key told longest ago is
/// forgotten ([`Self::forgotten`]), which may repeat an alert early but never loses one.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    settings: Settings,
    host: String,
    keys: HashMap<Key, Told>,
    /// The same keys by the time they were told.
    order: BTreeSet<(Timestamp, Key)>,
    forgotten: u64,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    at: Timestamp,
    suppressed: u64,
}

impl Lifecycle {
    /// A life cycle without any key; `host` goes into each alert.
    #[must_use]
    pub fn new(settings: Settings, host: String) -> Self {
        Self { settings, host, keys: HashMap::new(), order: BTreeSet::new(), forgotten: 0 }
    }

    /// The alerts to tell, in the order of `findings`, at time `now`.
    ///
    /// A clock that was set back starts the cooldowns anew; it does not stretch them.
    pub fn admit(&mut self, findings: Vec<Finding>, now: Timestamp) -> Vec<Alert> {
        self.rewind(now);
        self.expire(now);
        let mut alerts = Vec::new();
        for finding in findings {
            if let Some(suppressed) = self.tell(finding.key(), finding.worse, now) {
                alerts.push(Alert { host: self.host.clone(), finding, suppressed });
            }
        }
        alerts
    }

    /// Keys remembered.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Keys forgotten for want of room while their cooldown, or a count of held-back alerts, still stood.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many were held back since the last time, if `key` is to be told now.
    fn tell(&mut self, key: Key, worse: bool, now: Timestamp) -> Option<u64> {
        let mut suppressed = 0;
        if let Some(told) = self.keys.get_mut(&key) {
            if !worse && now.since(told.at) < self.settings.cooldown {
                told.suppressed = told.suppressed.saturating_add(1);
                return None;
            }
            suppressed = told.suppressed;
            self.order.remove(&(told.at, key.clone()));
        } else {
            while self.keys.len() >= self.settings.max_keys.max(1) {
                let Some((_, oldest)) = self.order.pop_first() else { break };
                self.keys.remove(&oldest);
                self.forgotten += 1;
            }
        }
        self.keys.insert(key.clone(), Told { at: now, suppressed: 0 });
        self.order.insert((now, key));
        Some(suppressed)
    }

    /// Moves keys told after `now`, before the clock was set back, to `now`.
    fn rewind(&mut self, now: Timestamp) {
        while self.order.last().is_some_and(|(at, _)| *at > now)
            && let Some((_, key)) = self.order.pop_last()
        {
            if let Some(told) = self.keys.get_mut(&key) {
                told.at = now;
            }
            self.order.insert((now, key));
        }
    }

    /// Drops keys whose cooldown is over. Those with a count still to be told stay a second cooldown
    /// longer: a key that fires again by then says how much was held back.
    fn expire(&mut self, now: Timestamp) {
        let cooldown = self.settings.cooldown;
        let mut drop = Vec::new();
        for (at, key) in &self.order {
            if now.since(*at) < cooldown {
                break;
            }
            let held_back = self.keys.get(key).is_some_and(|told| told.suppressed > 0);
            if !held_back || now.since(*at) >= cooldown.saturating_mul(2) {
                drop.push((*at, key.clone()));
            }
        }
        for entry in drop {
            self.order.remove(&entry);
            self.keys.remove(&entry.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::{alert::samples, series::SeriesKey};

    fn finding(n: u8) -> Finding {
        let mut finding = samples::burst().finding;
        finding.series = SeriesKey::Pair {
            src: Ipv4Addr::new(192, 0, 2, n).into(),
            dst: Ipv4Addr::new(198, 51, 100, 9).into(),
        };
        finding
    }

    fn lifecycle(cooldown: u64, max_keys: usize) -> Lifecycle {
        Lifecycle::new(Settings { cooldown: Duration::from_secs(cooldown), max_keys }, "web1".into())
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp((1_700_000_000 + seconds) * 1_000_000_000)
    }

    #[test]
    fn told_once_per_cooldown_with_the_count_of_what_was_held_back() {
        let mut lifecycle = lifecycle(60, 10);
        let mut told = Vec::new();
        for second in (0..=120).step_by(5) {
            for alert in lifecycle.admit(vec![finding(1)], at(second)) {
                told.push((second, alert.suppressed, alert.host));
            }
        }
        assert_eq!(told, [(0, 0, "web1".into()), (60, 11, "web1".into()), (120, 11, "web1".into())]);
    }

    #[test]
    fn other_volume_interface_or_direction_is_the_same_key_but_other_ports_are_not() {
        let mut lifecycle = lifecycle(60, 10);
        assert_eq!(lifecycle.admit(vec![finding(1)], at(0)).len(), 1);
        let mut same = finding(1);
        same.value = 1.0;
        same.interface = "eth1".into();
        same.direction = wherefore_common::Direction::Ingress;
        assert_eq!(lifecycle.admit(vec![same], at(1)).len(), 0);
        assert_eq!(lifecycle.admit(vec![samples::connection().finding], at(1)).len(), 1);
    }

    #[test]
    fn what_became_far_worse_is_told_within_the_cooldown() {
        let mut lifecycle = lifecycle(60, 10);
        lifecycle.admit(vec![finding(1), finding(1)], at(0));
        let worse = Finding { worse: true, ..finding(1) };
        let told = lifecycle.admit(vec![worse], at(5));
        assert_eq!(told.iter().map(|alert| alert.suppressed).collect::<Vec<_>>(), [1]);
        assert!(lifecycle.admit(vec![finding(1)], at(64)).is_empty(), "the cooldown begins anew");
    }

    #[test]
    fn a_rule_has_keys_of_its_own() {
        let mut lifecycle = lifecycle(60, 10);
        let broken = samples::broken().finding;
        assert_eq!(lifecycle.admit(vec![finding(7), broken.clone(), broken], at(0)).len(), 2);
    }

    #[test]
    fn a_clock_set_back_does_not_silence_a_key_for_longer_than_a_cooldown() {
        let mut lifecycle = lifecycle(60, 10);
        assert_eq!(lifecycle.admit(vec![finding(1)], at(100_000)).len(), 1);
        assert_eq!(lifecycle.admit(vec![finding(1)], at(0)).len(), 0);
        let again = lifecycle.admit(vec![finding(1)], at(60));
        assert_eq!(again.iter().map(|alert| alert.suppressed).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn quiet_keys_are_dropped_and_full_memory_still_tells_every_new_key() {
        let mut lifecycle = lifecycle(60, 3);
        let findings = (0..5).map(finding).collect();
        assert_eq!(lifecycle.admit(findings, at(0)).len(), 5);
        assert_eq!((lifecycle.keys(), lifecycle.forgotten()), (3, 2));
        assert!(lifecycle.admit(vec![], at(60)).is_empty());
        assert_eq!((lifecycle.keys(), lifecycle.forgotten()), (0, 2));
    }

    #[test]
    fn no_cooldown_tells_everything() {
        let mut lifecycle = lifecycle(0, 10);
        assert_eq!(lifecycle.admit(vec![finding(1), finding(1)], at(0)).len(), 2);
        assert_eq!(lifecycle.admit(vec![finding(1)], at(0)).len(), 1);
    }

    proptest! {
        /// Nothing is lost: every finding is either told or held back, and every held-back one is counted
        /// in a later alert or still waits; alerts of a key are at least a cooldown apart.
        #[test]
        fn every_finding_is_accounted_for(steps in prop::collection::vec((0u64..40, 0u8..4), 1..200)) {
            let mut lifecycle = lifecycle(60, 100);
            let mut now = 0;
            let (mut told, mut counted, mut last) = (0, 0, HashMap::new());
            for (wait, key) in &steps {
                now += wait;
                for alert in lifecycle.admit(vec![finding(*key)], at(now)) {
                    told += 1;
                    counted += alert.suppressed;
                    if let Some(before) = last.insert(*key, now) {
                        prop_assert!(now - before >= 60);
                    }
                }
                prop_assert_eq!(lifecycle.keys.len(), lifecycle.order.len());
            }
            let waiting: u64 = lifecycle.keys.values().map(|told| told.suppressed).sum();
            prop_assert!(told + counted + waiting <= steps.len() as u64);
            if steps.iter().map(|step| step.0).sum::<u64>() < 120 {
                prop_assert_eq!(told + counted + waiting, steps.len() as u64);
            }
        }
    }
}
