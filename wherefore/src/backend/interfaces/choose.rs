//! The rule that says which interfaces are watched, and why. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Interface, Request, stacking};
use crate::{backend::Error, clean::clean};

/// Whether an interface is watched, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The interface.
    pub interface: Interface,
    /// It is watched.
    pub watched: bool,
    /// Another watched interface counts its packets as well: not part of the host's totals.
    pub stacked: bool,
    /// By its name, so that an error with it is one with the request.
    pub named: bool,
    /// Why, in words.
    pub reason: String,
}

/// What the rule says about each interface of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By index.
    pub verdicts: Vec<Verdict>,
    /// Why those that are watched: `named`, `default route`, `matching veth*`,
    /// `no default route: every interface that is up`.
    pub why: String,
    /// Names and globs of the request that lead to nothing that is watched.
    pub unmet: Vec<String>,
    /// Names of the request that no interface has.
    missing: Vec<String>,
    /// For the next time.
    pub memory: Memory,
}

impl Plan {
    /// The interfaces to watch, by index.
    pub fn watched(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.watched)
    }

    /// Names of the interfaces there are, of many the first few.
    #[must_use]
    pub fn names(&self) -> String {
        const FEW: usize = 12;
        let names = self.verdicts.iter().take(FEW).map(|verdict| clean(&verdict.interface.name));
        let mut names = names.collect::<Vec<_>>().join(", ");
        if let Some(more) = self.verdicts.len().checked_sub(FEW).filter(|more| *more > 0) {
            names += &format!(" and {more} more (`wherefore interfaces` lists them)");
        }
        names
    }

    /// What is wrong with it where counting begins: a name that no interface has, or nothing to watch. Globs may
    /// match nothing yet.
    ///
    /// # Errors
    /// [`Error::NoInterface`], [`Error::System`].
    pub fn check(&self) -> Result<(), Error> {
        if let Some(name) = self.missing.first() {
            return Err(Error::NoInterface { name: name.clone(), known: self.names() });
        }
        if self.watched().next().is_none() && self.unmet.is_empty() {
            let reason = if self.why == EXCLUDED {
                "every one that would be watched is excluded"
            } else {
                "no default route, and no interface but the loopback device is up; \
                 name one with -i (-i lo watches the loopback device)"
            };
            return Err(Error::System { action: "choosing an interface".into(), reason: reason.into() });
        }
        Ok(())
    }
}

/// What was decided before and still holds: a new name or a lost route does not undo it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// By their names or a glob.
    matched: BTreeMap<u32, Asked>,
    /// The last interfaces with a default route.
    uplinks: BTreeSet<u32>,
}

/// Why an interface is a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Named,
    Matches(String),
    DefaultRoute,
    LastDefaultRoute,
    Up,
}

impl Asked {
    fn reason(&self) -> String {
        match self {
            Self::Named => "named".into(),
            Self::Matches(glob) => format!("matches {glob}"),
            Self::DefaultRoute => DEFAULT_ROUTE.into(),
            Self::LastDefaultRoute => LAST_DEFAULT_ROUTE.into(),
            Self::Up => UP.into(),
        }
    }
}

const DEFAULT_ROUTE: &str = "default route";
const LAST_DEFAULT_ROUTE: &str = "had the last default route";
const UP: &str = "no default route: every interface that is up";
const EXCLUDED: &str = "excluded";

/// Decides about each of `all` interfaces, by index, given what was decided `before`.
///
/// Candidates are those named or matched by a glob (never the loopback device by a glob), also after they were
/// renamed; where nothing is asked for, those with a default route; without any, those that had the last one, else
/// all that are up. Excluded ones are none. Of candidates that carry the same packets one is watched, the others
/// only where they are named or `request.stacked` says so.
#[must_use]
pub fn choose(all: &[Interface], request: &Request, before: &Memory) -> Plan {
    let excluded = |i: &Interface| request.exclude.iter().find(|pattern| pattern.matches(&i.name));
    let mut memory = before.clone();
    memory.matched.retain(|index, _| all.iter().any(|i| i.index == *index));
    let mut asked = if request.include.is_empty() {
        by_route(all, &mut memory)
    } else {
        for interface in all {
            if let Some(why) = matched(interface, request) {
                memory.matched.insert(interface.index, why);
            }
        }
        memory.matched.clone()
    };
    let before_exclusion = asked.len();
    asked.retain(|index, _| all.iter().all(|i| i.index != *index || excluded(i).is_none()));
    let why = if asked.is_empty() && before_exclusion > 0 { EXCLUDED.into() } else { why(request, &asked) };

    let stacked = stacking::stacked(all, &asked.keys().copied().collect());
    let verdicts: Vec<Verdict> = all
        .iter()
        .map(|interface| {
            let asked = asked.get(&interface.index);
            let stacked = stacked.get(&interface.index);
            let named = asked == Some(&Asked::Named);
            let reason = match (asked, stacked) {
                (Some(asked), None) => asked.reason(),
                (Some(_), Some(on)) => on.clone(),
                (None, _) => match excluded(interface) {
                    Some(pattern) => format!("excluded by {pattern}"),
                    None if interface.loopback => "the loopback device is watched only when named".into(),
                    None if !request.include.is_empty() => "not asked for".into(),
                    None if !interface.up => "down".into(),
                    None => "no default route".into(),
                },
            };
            Verdict {
                interface: interface.clone(),
                watched: asked.is_some() && (stacked.is_none() || named || request.stacked),
                stacked: stacked.is_some(),
                named,
                reason,
            }
        })
        .collect();
    let missing = request
        .include
        .iter()
        .filter(|pattern| !pattern.is_glob() && !verdicts.iter().any(|v| pattern.matches(&v.interface.name)))
        .map(ToString::to_string)
        .collect();
    let unmet = request
        .include
        .iter()
        .filter(|pattern| !verdicts.iter().any(|v| v.watched && pattern.matches(&v.interface.name)))
        .map(ToString::to_string)
        .collect();
    Plan { verdicts, why, unmet, missing, memory }
}

fn matched(interface: &Interface, request: &Request) -> Option<Asked> {
    let mut patterns = request.include.iter().filter(|pattern| pattern.matches(&interface.name));
    if patterns.clone().any(|pattern| !pattern.is_glob()) {
        return Some(Asked::Named);
    }
    patterns.next().filter(|_| !interface.loopback).map(|glob| Asked::Matches(glob.to_string()))
}

fn by_route(all: &[Interface], memory: &mut Memory) -> BTreeMap<u32, Asked> {
    let those = |wanted: &dyn Fn(&Interface) -> bool, why: &Asked| -> BTreeMap<u32, Asked> {
        all.iter().filter(|i| wanted(i)).map(|i| (i.index, why.clone())).collect()
    };
    let routed = those(&|i| i.default_route, &Asked::DefaultRoute);
    if !routed.is_empty() {
        memory.uplinks = routed.keys().copied().collect();
        return routed;
    }
    // A route that is replaced by another is gone for a moment.
    let last = those(&|i| memory.uplinks.contains(&i.index), &Asked::LastDefaultRoute);
    if last.is_empty() { those(&|i| i.up && !i.loopback, &Asked::Up) } else { last }
}

fn why(request: &Request, asked: &BTreeMap<u32, Asked>) -> String {
    if request.include.is_empty() {
        return asked.values().next().map(Asked::reason).unwrap_or_default();
    }
    let globs: Vec<String> =
        request.include.iter().filter(|pattern| pattern.is_glob()).map(ToString::to_string).collect();
    let named = globs.len() < request.include.len();
    match (named, globs.is_empty()) {
        (true, true) => "named".into(),
        (true, false) => format!("named or matching {}", globs.join(", ")),
        (false, _) => format!("matching {}", globs.join(", ")),
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
