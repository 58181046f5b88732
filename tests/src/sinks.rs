//! What sinks are started with and told.

use std::{net::Ipv4Addr, time::Duration};

use wherefore::{
    alert::Alert,
    detect::{Evaluation, Part},
    finding::{Cause, Finding, Folded, Highest, Trend, Usual},
    locality::Locality,
    series::{Metric, SeriesKey, Unit},
    sink::{log, slack},
    time::Timestamp,
};
use wherefore_common::Direction;

use crate::webhook::SECRET;

/// No log files.
pub const NO_FILES: log::Settings = log::Settings { dir: None, max_bytes: 0 };

/// Slack's, with this webhook.
#[must_use]
pub fn settings(url: &str) -> slack::Settings {
    slack::Settings { url: url.into(), channel: Some("#ops".into()), emoji: None, icon: None }
}

/// An alert of a burst, from this host.
#[must_use]
pub fn alert(host: &str) -> Alert {
    Alert {
        host: host.into(),
        finding: Finding {
            cause: Cause::Unusual,
            time: Timestamp(1_700_000_005_000_000_000),
            interval: Duration::from_secs(5),
            series: SeriesKey::Pair {
                src: Ipv4Addr::new(192, 0, 2, 7).into(),
                dst: Ipv4Addr::new(198, 51, 100, 9).into(),
            },
            metric: Metric::Bytes,
            newcomer: None,
            interface: "eth0".into(),
            direction: Direction::Egress,
            locality: Locality::Outgoing,
            value: 4_100_000_000.0,
            unit: Unit::Ip,
            estimated: 0,
            usual: Usual { low: 12e6, median: 20e6, high: 40e6 },
            trend: Trend::Rise,
            since: Timestamp(1_700_000_005_000_000_000),
            highest: Highest::For(Duration::from_secs(1_500)),
            evaluation: Evaluation {
                probability: 0.93,
                parts: [Part { method: "magnitude", value: 1.0, weight: 0.5, statistic: 1.0 }]
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

/// Asserts that no part of the webhook's path is in a text.
///
/// # Panics
/// When one is.
pub fn assert_no_secret(text: &str) {
    assert!(!SECRET.split('/').any(|part| text.contains(part)), "{text}");
}
