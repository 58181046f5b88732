//! Rules that say nothing: impossible ones, and those that another one holds already.

use std::time::Duration;

use super::{Kind, Rule};
use crate::units::format_duration;

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which rule, counted from 0.
    pub rule: usize,
    /// Which part of it.
    pub part: Part,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// A part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its name.
    Name,
    /// What it matches.
    Match,
    /// Its condition.
    Condition,
    /// How long it learns.
    Learn,
}

/// What is wrong with `rules`, with intervals of this length and at most `table_size` flows in one (`None`: no limit).
#[must_use]
pub fn check(rules: &[Rule], interval: Duration, table_size: Option<u32>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut fault = |part, reason: String| faults.push(Fault { rule: index, part, reason });
        let earlier = &rules[..index];
        if earlier.iter().any(|other| other.name == rule.name) {
            fault(
                Part::Name,
                format!("a rule named \"{}\" stands before; give each its own name", rule.name),
            );
        }
        if let Some(reason) = rule.wanted.contradiction() {
            fault(Part::Match, format!("no flow can match: {reason}"));
        }
        let length = format_duration(interval);
        let time = rule.condition.time();
        if !time.is_zero() && time < interval {
            let given = format_duration(time);
            fault(Part::Condition, format!("{given} is shorter than an interval, {length}"));
        }
        match rule.condition.kind {
            Kind::NewDestination if rule.learn < interval => {
                let reason = format!("learn is shorter than an interval, {length}: everything would be new");
                fault(Part::Learn, reason);
            }
            Kind::Flows { limit, .. } if table_size.is_some_and(|most| limit >= u64::from(most)) => {
                let most = table_size.unwrap_or_default();
                let reason = format!(
                    "never broken: no more than {most} flows are counted in an interval (table_size)"
                );
                fault(Part::Condition, reason);
            }
            _ => {}
        }
        let others = rules.iter().enumerate().filter(|(at, _)| *at != index);
        if let Some((_, other)) = others
            .into_iter()
            .find(|(at, other)| adds_nothing(rule, other) && (*at < index || !adds_nothing(other, rule)))
            && other.name != rule.name
        {
            fault(
                Part::Condition,
                format!(
                    "adds nothing to rule \"{}\": what breaks this one breaks that one too; leave one of them out",
                    other.name
                ),
            );
        }
    }
    faults
}

/// Whether all that breaks `rule` breaks `other` too, and is told as gravely.
fn adds_nothing(rule: &Rule, other: &Rule) -> bool {
    rule.severity == other.severity
        && rule.by == other.by
        && rule.wanted.is_within(&other.wanted)
        && rule.condition.implies(&other.condition)
        && rule.learn >= other.learn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{By, Match, Severity};

    fn rule(name: &str, condition: &str) -> Rule {
        Rule {
            name: name.into(),
            wanted: Match::default(),
            condition: condition.parse().unwrap(),
            by: By::All,
            severity: Severity::Warning,
            learn: Duration::from_secs(if condition.starts_with("new") { 60 } else { 0 }),
        }
    }

    fn faults(rules: &[Rule]) -> Vec<(usize, Part, String)> {
        let faults = check(rules, Duration::from_secs(5), Some(65_536)).into_iter();
        faults.map(|fault| (fault.rule, fault.part, fault.reason)).collect()
    }

    #[test]
    fn good_rules_have_no_faults() {
        let remote = |prefix: &str, condition: &str| {
            let mut rule = rule(prefix, condition);
            rule.wanted.remote = vec![prefix.parse().unwrap()];
            rule
        };
        let mut grave = rule("grave", "rate > 2 GB/s for 10s");
        grave.severity = Severity::Critical;
        let mut each = rule("each", "rate > 3 GB/s for 10s");
        each.by = By::Pair;
        let rules = [
            rule("all", "rate > 1 GB/s for 10s"),
            grave,
            each,
            rule("sudden", "rate > 5 GB/s"),
            remote("192.0.2.0/24", "rate > 1 MB/s for 10s"),
            remote("198.51.100.0/24", "rate > 1 MB/s for 10s"),
            rule("packets", "packets > 1M/s for 10s"),
            rule("volume", "volume > 1 TB per 24h"),
            rule("flows", "flows > 65535"),
            rule("new", "new destination"),
        ];
        assert_eq!(faults(&rules), []);
    }

    #[test]
    fn a_rule_that_adds_nothing_names_the_one_that_holds_it() {
        let mut inner = rule("inner", "rate > 2 GB/s for 20s");
        inner.wanted.remote = vec!["192.0.2.0/25".parse().unwrap()];
        let mut outer = rule("outer", "rate > 1 GB/s for 10s");
        outer.wanted.remote = vec!["192.0.2.0/24".parse().unwrap()];
        let reason = |name| {
            format!(
                "adds nothing to rule \"{name}\": what breaks this one breaks that one too; leave one of them out"
            )
        };
        for rules in [[inner.clone(), outer.clone()], [outer.clone(), inner]] {
            let at = rules.iter().position(|rule| &*rule.name == "inner").unwrap();
            assert_eq!(faults(&rules), [(at, Part::Condition, reason("outer"))]);
        }
        // Of two that say the same the later one is too much.
        let twin = Rule { name: "twin".into(), ..outer.clone() };
        assert_eq!(faults(&[outer, twin]), [(1, Part::Condition, reason("outer"))]);
    }

    #[test]
    fn impossible_rules_are_found() {
        let mut icmp = rule("icmp", "flows > 5");
        icmp.wanted = Match { proto: vec![1], port: vec![53..=53], ..Match::default() };
        let mut learner = rule("learner", "new destination");
        learner.learn = Duration::from_secs(1);
        for (rule, part, words) in [
            (icmp, Part::Match, "no flow can match: port with proto icmp"),
            (rule("short", "volume > 1 MB per 4s"), Part::Condition, "4 s is shorter than an interval, 5 s"),
            (rule("short", "rate > 1 MB/s for 1s"), Part::Condition, "shorter than an interval"),
            (learner, Part::Learn, "everything would be new"),
            (rule("many", "flows > 65536"), Part::Condition, "no more than 65536 flows"),
        ] {
            let found = faults(&[rule]);
            assert!(
                matches!(&found[..], [(0, at, reason)] if *at == part && reason.contains(words)),
                "{found:?}"
            );
        }
        let twice = faults(&[rule("a", "flows > 5"), rule("a", "rate > 1 GB/s")]);
        assert!(matches!(&twice[..], [(1, Part::Name, _)]), "{twice:?}");
    }
}
