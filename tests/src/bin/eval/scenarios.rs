//! What the agent says of hosts to which something happens, and of those to which nothing does.

use std::{collections::BTreeMap, time::Duration};

use wherefore::detect::quantile;
use wherefore_tests::{
    hosts::{
        Kind,
        expected::expected,
        scenario::Scenario,
        trial::{self, Agent, Outcome, Plan, Verdict},
    },
    report::{Cell, Table},
};

use crate::{heard::Heard, parallel};

/// The agents: with the defaults, with the Anomalyzer, and as the program before Wherefore was.
pub const AGENTS: [Agent; 3] =
    [("default", &[]), ("anomalyzer", &["--detector", "anomalyzer"]), ("original", &["-anom_active_size=1"])];

const DAY: Duration = Duration::from_secs(86_400);
const HALF_HOUR: Duration = Duration::from_secs(1_800);
const SECONDS: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

/// How long a host was known when something happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Days,
    HalfAnHour,
}

/// The tables.
pub fn tables(short: bool, list: bool) -> Vec<Table> {
    let plans = plans(short);
    let verdicts = parallel::map(&plans, |(plan, agents)| {
        let mut heard = Heard::default();
        let verdicts = trial::run(plan, agents, &mut heard);
        if list {
            print!("\n{}", heard.tell(plan, &verdicts[0]));
        }
        verdicts
    });
    let all: Vec<(&Plan, &Verdict)> = plans
        .iter()
        .zip(&verdicts)
        .flat_map(|((plan, _), verdicts)| verdicts.iter().map(move |one| (plan, one)))
        .collect();
    let names = ["scenarios", "scenarios_anomalyzer", "scenarios_original"];
    let mut tables = vec![calm(&all)];
    for (place, (agent, name)) in AGENTS.iter().zip(names).enumerate() {
        let own: Vec<(&Plan, &Outcome)> = all
            .iter()
            .filter(|(_, verdict)| verdict.agent == place)
            .flat_map(|(plan, verdict)| verdict.outcomes.iter().map(move |outcome| (*plan, outcome)))
            .collect();
        tables.push(table(name, agent.0, &own));
    }
    tables
}

/// A plan, and the agents before which it runs: the first of them, or all.
type Run = (Plan, &'static [Agent]);

/// Which hosts, and what happens to them. The other agents see one host of each kind: that is enough to see what they are
/// worth, and they alert so much that they cost more than the first.
fn plans(short: bool) -> Vec<Run> {
    let mut plans: Vec<Run> = Vec::new();
    for kind in Kind::ALL {
        let suitable = |nights: bool| -> Vec<Scenario> {
            let suits =
                |scenario: &Scenario| expected(*scenario).suits(kind) && scenario.takes_nights() == nights;
            Scenario::ALL.into_iter().filter(suits).collect()
        };
        let early: Vec<Scenario> =
            suitable(false).into_iter().filter(|scenario| EARLY.contains(scenario)).collect();
        let mut plan = |seed, interval, history, spread, scenarios: Vec<Scenario>| {
            let agents = if seed % 100 == 0 { &AGENTS[..] } else { &AGENTS[..1] };
            if !scenarios.is_empty() {
                plans.push((Plan { kind, seed, interval, history, spread, scenarios }, agents));
            }
        };
        if short {
            plan(0, MINUTE, DAY, HALF_HOUR, suitable(false));
            continue;
        }
        // Judging costs by intervals and remembered addresses, and these two have thousands of strangers in three days.
        let crowded = matches!(kind, Kind::Web | Kind::Router);
        for seed in 0..if crowded { 3 } else { 5 } {
            // 3 to 7 days.
            let history = if crowded { DAY * 3 } else { DAY * (3 + (seed % 5) as u32) };
            plan(seed, MINUTE, history, DAY, suitable(false));
        }
        for seed in 100..104 {
            plan(seed, SECONDS, HALF_HOUR, HALF_HOUR, early.clone());
        }
        for seed in 200..202 {
            plan(seed, MINUTE, DAY * 3, DAY, suitable(true));
        }
        let (history, spread) = if crowded { (DAY, DAY / 8) } else { (DAY * 3, DAY) };
        plan(301, SECONDS, history, spread, suitable(false));
    }
    // The longest first, so that no processor is idle at the end.
    plans.sort_by_key(|(plan, _)| {
        std::cmp::Reverse((plan.history + plan.spread).as_millis() / plan.interval.as_millis())
    });
    plans
}

/// What must be told half an hour after the agent began.
const EARLY: [Scenario; 4] =
    [Scenario::TheftBurst, Scenario::PortScanIn, Scenario::SynFlood, Scenario::Outage];

fn calm(all: &[(&Plan, &Verdict)]) -> Table {
    let kinds = Kind::ALL.map(|kind| kind.name().to_owned());
    let mut rows = Vec::new();
    for (place, agent) in AGENTS.iter().enumerate() {
        for interval in [SECONDS, MINUTE] {
            for (day, name) in ["first day", "later"].into_iter().enumerate() {
                let rate = |kind: Option<Kind>| {
                    let own = all.iter().filter(|(plan, verdict)| {
                        verdict.agent == place
                            && plan.interval == interval
                            && plan.history > HALF_HOUR
                            && kind.is_none_or(|kind| kind == verdict.kind)
                    });
                    let (alerts, days) = own.fold((0, 0.0), |(alerts, days), (_, verdict)| {
                        (alerts + verdict.false_alerts[day], days + verdict.days[day])
                    });
                    (days > 0.0).then(|| alerts as f64 / days)
                };
                if rate(None).is_some() {
                    let cells =
                        Kind::ALL.into_iter().map(Some).chain([None]).map(|kind| number(rate(kind), 2));
                    rows.push((format!("{}, {} s, {name}", agent.0, interval.as_secs()), cells.collect()));
                }
            }
        }
    }
    Table {
        name: "calm",
        about: "Hosts to which nothing happens: alerts per host and day, by kind of host, length of the interval, and \
                for the first day and those behind it"
            .into(),
        columns: kinds.into_iter().chain(["all".to_owned()]).collect(),
        rows,
    }
}

fn table(name: &'static str, agent: &str, all: &[(&Plan, &Outcome)]) -> Table {
    let mut groups: BTreeMap<(Scenario, Known, Duration), Vec<&Outcome>> = BTreeMap::new();
    for (plan, outcome) in all {
        let known = if plan.history > HALF_HOUR { Known::Days } else { Known::HalfAnHour };
        groups.entry((outcome.scenario, known, plan.interval)).or_default().push(outcome);
    }
    let mut rows: Vec<(String, Vec<Cell>)> = groups
        .iter()
        .map(|((scenario, known, interval), outcomes)| {
            let known = match known {
                Known::Days => "",
                Known::HalfAnHour => ", known for 30 min",
            };
            let mut cells = row(outcomes);
            cells.push(Cell::Number(expected(*scenario).within_intervals(*interval) as f64, 0));
            cells.push(Cell::Number(expected(*scenario).most as f64, 0));
            (format!("{}, {} s{known}", scenario.name(), interval.as_secs()), cells)
        })
        .collect();
    let mut everything = row(&all.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>());
    everything.extend([Cell::Text("".into()), Cell::Text("".into())]);
    rows.push(("all".into(), everything));
    Table {
        name,
        about: format!(
            "What the agent ({agent}) says when something happens: on hosts where it must be told, how often it is told \
             in time; intervals from that of the onset to the alert, median and 90th percentile; of the alerts in time \
             those that name the cause at a right level; alerts for the one cause; alerts when it had become usual; and \
             what is allowed"
        ),
        columns: ["must", "told %", "delay", "p90", "right %", "alerts", "in vain", "within", "most"]
            .map(Into::into)
            .to_vec(),
        rows,
    }
}

fn row(outcomes: &[&Outcome]) -> Vec<Cell> {
    let must: Vec<&&Outcome> = outcomes.iter().filter(|outcome| outcome.must).collect();
    let told = must.iter().filter(|outcome| outcome.delay.is_some()).count();
    let in_time: Vec<&&Outcome> = outcomes.iter().filter(|outcome| outcome.delay.is_some()).collect();
    let mut delays: Vec<f64> =
        in_time.iter().filter_map(|outcome| outcome.delay).map(|delay| delay as f64).collect();
    delays.sort_by(f64::total_cmp);
    let share = |part: usize, whole: usize| (whole > 0).then(|| 100.0 * part as f64 / whole as f64);
    let of_delays = |p| (!delays.is_empty()).then(|| quantile(&delays, p));
    let right = in_time.iter().filter(|outcome| outcome.right).count();
    let caused: usize = in_time.iter().map(|outcome| outcome.alerts).sum();
    let in_vain: usize = outcomes.iter().map(|outcome| outcome.too_late).sum();
    vec![
        Cell::Number(must.len() as f64, 0),
        number(share(told, must.len()), 0),
        number(of_delays(0.5), 0),
        number(of_delays(0.9), 0),
        number(share(right, in_time.len()), 0),
        number((!in_time.is_empty()).then(|| caused as f64 / in_time.len() as f64), 1),
        Cell::Number(in_vain as f64, 0),
    ]
}

fn number(value: Option<f64>, decimals: usize) -> Cell {
    value.map_or_else(|| Cell::Text("-".into()), |value| Cell::Number(value, decimals))
}
