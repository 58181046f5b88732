//! What must be said about each scenario: one table.

use std::time::Duration;

use wherefore::series::Level;

use super::{Kind, scenario::Scenario};

/// What must be said.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// Of what.
    pub scenario: Scenario,
    /// On these kinds of hosts it must be told.
    pub must: &'static [Kind],
    /// On these it may be told: it is neither missed nor false.
    pub may: &'static [Kind],
    /// A finding at one of these levels is right.
    pub levels: &'static [Level],
    /// From its onset to the alert, at most; two intervals where that is longer.
    pub within: Duration,
    /// Most alerts for the one cause.
    pub most: usize,
    /// From its onset to the end of what is looked at.
    pub watched: Duration,
    /// From the midnight behind its onset to when it is usual: alerts behind are false.
    pub usual_after: Option<Duration>,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

use Kind::{Database, Files, Idle, Router, Web, Worker};
use Level::{Flow, Interface, Net, Pair};
use Scenario as S;

/// The table. Bytes that leave are told by pair (or flow); what many addresses have in common by their network; what
/// all have in common by the interface.
///
/// * A trickle of 100 MB a night is a stranger where little else leaves at night; beside nightly gigabytes and heavy
///   tails it is one visitor more.
/// * A new destination as heavy as the regular ones is what the users of a router bring every day. Elsewhere it may be
///   what one visitor takes in a minute, and is not in ten.
/// * An outage is the end of everything where something is always there; a worker, an idle host, a file server and an
///   office's router at night have five quiet minutes of their own.
/// * That everything doubles is told at most once, of the interface: a busy hour on these hosts has up to twice what it
///   had the day before, so it need not be told.
/// * Only who is silent but for a beacon misses it. It is told when five in a row are missing, at short intervals later.
/// * A backup may be told in its first three nights, never from the fourth on.
pub const EXPECTED: [Expectation; 12] = [
    row(S::TheftBurst, &Kind::ALL, &[], &[Flow, Pair], 10, 1, 20 * MINUTE),
    row(S::TheftRamp, &Kind::ALL, &[], &[Flow, Pair], 2 * HOUR, 1, 150 * MINUTE),
    row(S::TheftScattered, &Kind::ALL, &[], &[Net], 5 * MINUTE, 1, 40 * MINUTE),
    row(S::TheftTrickle, &[Idle, Worker], &[Web], &[Flow, Pair], 4 * DAY, 3, 4 * DAY),
    row(
        S::NewDestination,
        &[Web, Database, Worker, Idle, Files],
        &[Router],
        &[Flow, Pair],
        10 * MINUTE,
        1,
        80 * MINUTE,
    ),
    row(S::PortScanIn, &Kind::ALL, &[], &[Pair, Net], MINUTE, 1, 20 * MINUTE),
    row(S::PortScanOut, &Kind::ALL, &[], &[Net], MINUTE, 1, 20 * MINUTE),
    row(S::SynFlood, &[Web, Database, Worker, Idle, Files], &[], &[Interface], MINUTE, 1, 20 * MINUTE),
    row(S::BeaconStops, &[Idle], &[Worker], &[Flow, Pair], 20 * MINUTE, 1, 30 * MINUTE),
    row(S::Outage, &[Web, Database], &[Router, Worker, Idle, Files], &[Interface], MINUTE, 2, 20 * MINUTE),
    Expectation {
        // The third night is over, the fourth is not there yet.
        usual_after: Some(seconds(60 * HOUR)),
        ..row(S::NewBackup, &[], &[Web, Worker, Idle], &[Flow, Pair], 4 * DAY, 3, 7 * DAY)
    },
    row(S::DeployDoubles, &[], &[Web, Database, Router], &[Interface], HOUR, 1, 2 * HOUR),
];

/// A row; times in seconds.
const fn row(
    scenario: Scenario,
    must: &'static [Kind],
    may: &'static [Kind],
    levels: &'static [Level],
    within: u64,
    most: usize,
    watched: u64,
) -> Expectation {
    let (within, watched) = (seconds(within), seconds(watched));
    Expectation { scenario, must, may, levels, within, most, watched, usual_after: None }
}

/// What must be said of a scenario.
#[must_use]
pub fn expected(scenario: Scenario) -> &'static Expectation {
    EXPECTED.iter().find(|row| row.scenario == scenario).unwrap_or_else(|| unreachable!("each has a row"))
}

impl Expectation {
    /// It makes sense on such a host.
    #[must_use]
    pub fn suits(&self, kind: Kind) -> bool {
        self.must.contains(&kind) || self.may.contains(&kind)
    }

    /// Intervals behind that of the onset in which an alert is in time.
    #[must_use]
    pub fn within_intervals(&self, interval: Duration) -> u64 {
        let intervals = self.within.as_secs_f64() / interval.as_secs_f64();
        (intervals.ceil() as u64).max(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_has_its_row_and_each_row_its_sense() {
        for scenario in Scenario::ALL {
            let rows: Vec<_> = EXPECTED.iter().filter(|row| row.scenario == scenario).collect();
            let [row] = rows[..] else { panic!("{scenario:?}: {} rows", rows.len()) };
            assert!(!row.levels.is_empty() && row.most > 0 && row.within <= row.watched, "{scenario:?}");
            assert!(Kind::ALL.iter().any(|kind| row.suits(*kind)), "{scenario:?}");
            assert!(row.must.iter().all(|kind| !row.may.contains(kind)), "{scenario:?}");
            assert_eq!(row.within_intervals(seconds(60)).max(2), row.within_intervals(seconds(60)));
        }
        assert_eq!(expected(S::TheftBurst).within_intervals(seconds(5)), 2);
        assert_eq!(expected(S::SynFlood).within_intervals(seconds(5)), 12);
    }
}
