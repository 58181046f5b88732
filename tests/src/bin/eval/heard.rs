//! What the first agent said in a trial, in words: what the tables count.

use std::{collections::BTreeMap, fmt::Write as _};

use wherefore::{alert::Alert, snapshot::Snapshot};
use wherefore_tests::hosts::{
    scenario::{Incident, Scenario},
    trial::{Observer, Plan, Verdict},
};

/// Alerts as they are logged, by what happened; `None` for nothing.
#[derive(Default)]
pub struct Heard(BTreeMap<Option<Scenario>, Vec<String>>);

impl Observer for Heard {
    fn calm(&mut self, _: &Snapshot, alerts: &[Vec<Alert>]) {
        self.add(None, alerts);
    }

    fn happening(&mut self, incident: &Incident, _: &Snapshot, alerts: &[Vec<Alert>]) {
        self.add(Some(incident.scenario()), alerts);
    }
}

impl Heard {
    fn add(&mut self, what: Option<Scenario>, alerts: &[Vec<Alert>]) {
        let Some(alerts) = alerts.first().filter(|alerts| !alerts.is_empty()) else { return };
        self.0.entry(what).or_default().extend(alerts.iter().map(Alert::to_line));
    }

    /// False alerts, and of each scenario what was made of it and what was said.
    pub fn tell(&self, plan: &Plan, verdict: &Verdict) -> String {
        let mut text = format!(
            "{} --seed {} --interval {}, {:.2} days\n",
            plan.kind.name(),
            plan.seed,
            plan.interval.as_secs(),
            verdict.days.iter().sum::<f64>()
        );
        let lines = |what| self.0.get(&what).into_iter().flatten();
        for line in lines(None) {
            let _ = writeln!(text, "  false: {line}");
        }
        for outcome in &verdict.outcomes {
            let what = match (outcome.delay, outcome.right, outcome.must) {
                (Some(delay), true, _) => format!("told after {delay}"),
                (Some(delay), false, _) => format!("WRONG after {delay}"),
                (None, _, true) => "MISSED".to_owned(),
                (None, _, false) => "not told".to_owned(),
            };
            let _ = writeln!(text, "  {}: {what}", outcome.scenario.name());
            for line in lines(Some(outcome.scenario)) {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }
}
