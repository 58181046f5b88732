//! What is told to people: the alert, its [life cycle](Lifecycle), its words and its
//! [JSON form](json). Pure: the time is an argument.

use std::time::Duration;

use crate::finding::Finding;

mod explain;
pub mod json;
mod lifecycle;
pub(crate) mod text;

pub use lifecycle::Lifecycle;

/// One alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Name of the host that saw it.
    pub host: String,
    /// What was unusual, with its evidence.
    pub finding: Finding,
    /// How often the same key fired since it was last told, and was held back by the cooldown.
    pub suppressed: u64,
}

impl Alert {
    /// One sentence that says it all:
    /// `192.0.2.7 sent 4.1 GB to 198.51.100.9 in 5 s (820 MB/s), usually 12 to 40 MB, highest in 25 min`.
    ///
    /// Volumes are rounded for reading, in decimal units; [`Self::to_json`] has the exact numbers.
    #[must_use]
    pub fn sentence(&self) -> String {
        text::sentence(&self.finding)
    }

    /// [`Self::sentence`] with the time to the second before it.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{} {}", text::seconds(&self.finding), text::sentence(&self.finding))
    }

    /// Several lines for a terminal: the sentence with time and place, then its evidence. No colour, no
    /// control character but the line feeds, none at the end.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::lines(self)
    }

    /// [`Self::to_text`] with every part of the verdict, the threshold, and what the value would have had to be.
    #[must_use]
    pub fn explained(&self) -> String {
        if self.finding.broken().is_some() {
            // Nothing was judged: condition and measure stand in the text.
            return self.to_text();
        }
        format!("{}\n{}", self.to_text(), explain::lines(&self.finding))
    }

    /// One line of JSON without its line feed, as in `wherefore_anomalies.log`; [`json::Record`] lists
    /// the fields.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::line(self)
    }
}

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A key that keeps firing is told once per this time.
    pub cooldown: Duration,
    /// Most keys whose cooldown is remembered.
    pub max_keys: usize,
}

#[cfg(test)]
pub(crate) mod samples {
    //! Alerts for the tests of this crate.

    use std::{net::IpAddr, sync::Arc, time::Duration};

    use wherefore_common::Direction;

    use super::Alert;
    use crate::{
        detect::{Evaluation, Part},
        finding::{Cause, Contributor, Finding, Folded, Highest, Trend, Usual},
        locality::Locality,
        rules::{self, Broken, By, Group, Match, Measured, Quantity, Rule, Severity},
        series::{Metric, SeriesKey, Transport, Unit},
        time::Timestamp,
    };

    /// 4.1 GB from 192.0.2.7 to 198.51.100.9 in 5 s.
    pub fn burst() -> Alert {
        Alert {
            host: "web1".into(),
            finding: Finding {
                cause: Cause::Unusual,
                time: Timestamp(1_700_000_005_000_000_000),
                interval: Duration::from_secs(5),
                series: SeriesKey::Pair {
                    src: "192.0.2.7".parse().unwrap(),
                    dst: "198.51.100.9".parse().unwrap(),
                },
                metric: Metric::Bytes,
                newcomer: None,
                interface: "eth0".into(),
                direction: Direction::Egress,
                locality: Locality::Unknown,
                value: 4_100_000_000.0,
                unit: Unit::Ip,
                estimated: 0,
                usual: Usual { low: 12e6, median: 20e6, high: 40e6 },
                trend: Trend::Rise,
                since: Timestamp(1_700_000_005_000_000_000),
                highest: Highest::For(Duration::from_secs(1_500)),
                evaluation: Evaluation {
                    probability: 0.93,
                    parts: [
                        Part { method: "magnitude", value: 1.0, weight: 0.5, statistic: 1.0 },
                        Part { method: "ks", value: 0.86, weight: 0.5, statistic: 1.0 },
                    ]
                    .into_iter()
                    .collect(),
                },
                threshold: 0.9,
                budget: None,
                limit: Some(60e6),
                history: vec![12e6, 20e6, 40e6, 4_100_000_000.0],
                worse: false,
                contributors: Vec::new(),
                folded: Folded::default(),
                reverse: None,
            },
            suppressed: 0,
        }
    }

    /// The same of one TCP connection.
    pub fn connection() -> Alert {
        let mut alert = burst();
        let (src, dst) = alert.finding.series.ends().unwrap();
        let transport = Transport { proto: 6, sport: 443, dport: 51234 };
        alert.finding.series = SeriesKey::Flow { src, dst, transport };
        alert
    }

    /// 3,120 flows from 203.0.113.0/24 in 5 s, most of them from one address.
    pub fn scan() -> Alert {
        let mut alert = burst();
        let (scanner, host) = ("203.0.113.9".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let share =
            |series, share| Contributor { series, metric: Metric::Flows, value: share * 3_120.0, share };
        let net = SeriesKey::net(scanner, false);
        alert.finding = Finding {
            series: net,
            metric: Metric::Flows,
            direction: Direction::Ingress,
            locality: Locality::Incoming,
            value: 3_120.0,
            usual: Usual { low: 0.0, median: 1.0, high: 4.0 },
            highest: Highest::SinceStart(Duration::from_secs(10_800)),
            limit: Some(17.2),
            history: vec![0.0, 1.0, 4.0, 3_120.0],
            contributors: vec![share(SeriesKey::Pair { src: scanner, dst: host }, 0.62)],
            folded: Folded {
                count: 3,
                top: vec![share(SeriesKey::interface("eth0", Direction::Ingress), 0.9)],
            },
            reverse: Some(share(net.reverse().unwrap(), 0.5)),
            ..alert.finding
        };
        alert
    }

    /// A rule broken by 16 GB from 192.0.2.7 to 198.51.100.9 in 5 s.
    pub fn broken() -> Alert {
        let rule = Rule {
            name: "backup-only".into(),
            wanted: Match { remote: vec!["198.51.100.0/24".parse().unwrap()], ..Match::default() },
            condition: "rate > 1 GB/s for 10s".parse().unwrap(),
            by: By::All,
            severity: Severity::Critical,
            learn: Duration::ZERO,
        };
        let time = Timestamp(1_700_000_005_000_000_000);
        let pair = |last, share| rules::Contributor {
            src: IpAddr::from([192, 0, 2, last]),
            dst: IpAddr::from([198, 51, 100, 9]),
            amount: (16e9 * share) as u64,
            share,
        };
        let broken = Broken {
            rule: Arc::new(rule),
            group: Group::All,
            measured: Measured::Rate { of: Quantity::Bytes, value: 3.2e9, lasting: Duration::from_secs(12) },
            since: Timestamp(time.0 - 12_000_000_000),
            time,
            bytes: 16_000_000_000,
            unit: Unit::Ip,
            incoming: false,
            src: IpAddr::from([192, 0, 2, 7]),
            dst: IpAddr::from([198, 51, 100, 9]),
            locality: Locality::Outgoing,
            interface: "eth0".into(),
            direction: Direction::Egress,
            contributors: vec![pair(7, 0.75), pair(8, 0.25)],
        };
        let finding = Finding::of_rule(broken, Duration::from_secs(5));
        Alert { host: "web1".into(), finding, suppressed: 0 }
    }
}
