//! What is said about interfaces that change, cannot be watched, or are not there.

use super::following::Entry;
use crate::{
    backend::interfaces::{Plan, Request, Verdict},
    clean::clean,
};

/// What is new about an interface that is watched already.
pub(super) fn renewed(entry: &Entry, verdict: &Verdict) {
    let interface = &verdict.interface;
    if entry.name != interface.name {
        tracing::info!("{} is called {} now", clean(&entry.name), clean(&interface.name));
    }
    let name = clean(&interface.name);
    if entry.up != interface.up {
        tracing::info!("{name} is {}", if interface.up { "up" } else { "down" });
    }
    match (entry.stacked, verdict.stacked) {
        (false, true) => {
            tracing::info!("{name} is no longer part of the host's totals: {}", verdict.reason);
        }
        (true, false) => tracing::info!("{name} is part of the host's totals now"),
        _ if entry.reason != verdict.reason => tracing::info!("{name} is watched: {}", verdict.reason),
        _ => {}
    }
}

/// Why an interface cannot be watched: an error's text, which may have several lines.
pub(super) fn refused(name: &str, text: &str) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    tracing::warn!("{} is not watched: {}", clean(name), lines.join("; ").replace(":;", ":"));
}

/// Names and globs of `request` that lead to nothing that is watched; `blind`: nothing at all is.
pub(super) fn unmet(plan: &Plan, request: &Request, blind: bool) {
    for text in &plan.unmet {
        tracing::warn!("{}", unmet_one(text, plan, request, blind));
    }
}

fn unmet_one(text: &str, plan: &Plan, request: &Request, blind: bool) -> String {
    let asks = |name: &str| {
        request.include.iter().any(|pattern| pattern.to_string() == text && pattern.matches(name))
    };
    let mut asked = plan.verdicts.iter().filter(|verdict| asks(&verdict.interface.name)).peekable();
    let first = asked.peek().map(|verdict| (clean(&verdict.interface.name), &verdict.reason));
    let stacked = asked.find(|verdict| verdict.stacked);
    let then = if blind { ": nothing is counted until one is there" } else { " yet" };
    match (stacked, first) {
        (Some(verdict), _) => format!(
            "-i {text}: what it matches is counted on other interfaces already ({}: {}); --stacked watches it all \
             the same",
            clean(&verdict.interface.name),
            verdict.reason
        ),
        (None, Some((name, reason))) => {
            format!("-i {text} matches no interface that is watched ({name}: {reason}){then}")
        }
        (None, None) => {
            format!("-i {text} matches no interface{then}; there are: {}", plan.names())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::interfaces::{Interface, Memory, choose};

    #[test]
    fn a_glob_without_an_interface_is_told_with_the_names_there_are() {
        let interface =
            |index, name: &str| Interface { index, name: name.into(), up: true, ..Interface::default() };
        let lo = Interface { loopback: true, ..interface(1, "lo") };
        let all = [lo, interface(2, "eth0"), interface(3, "eth1")];
        let of = |include: &[&str], blind| {
            let include = include.iter().map(|text| text.parse().unwrap()).collect();
            let request = Request { include, ..Request::default() };
            let plan = choose(&all, &request, &Memory::default());
            plan.unmet.iter().map(|text| unmet_one(text, &plan, &request, blind)).collect::<Vec<_>>()
        };
        assert_eq!(
            of(&["ct*"], true),
            ["-i ct* matches no interface: nothing is counted until one is there; there are: lo, eth0, eth1"]
        );
        assert_eq!(
            of(&["eth0", "ct*"], false),
            ["-i ct* matches no interface yet; there are: lo, eth0, eth1"]
        );
        assert_eq!(
            of(&["l*"], true),
            [
                "-i l* matches no interface that is watched (lo: the loopback device is watched only when named): \
              nothing is counted until one is there"
            ]
        );
    }
}
