//! The defaults against simulated traffic, and the demands one by one.

mod budget;
mod demands;
mod labelled;
mod simulation;

use std::{net::Ipv4Addr, time::Duration};

use wherefore_common::{FlowCounters, FlowKey};

use super::*;
use crate::{
    detect::{
        Newest, Usual,
        anomalyzer::{self, Anomalyzer},
    },
    snapshot::Flow,
};

const INTERVAL: Duration = Duration::from_secs(5);

fn defaults() -> Judge<Anomalyzer> {
    judge_with(Thresholds::default(), anomalyzer::Settings::default())
}

fn judge_with(thresholds: Thresholds, settings: anomalyzer::Settings) -> Judge<Anomalyzer> {
    let detector = Anomalyzer::new(settings).unwrap();
    Judge::new(pairs(), INTERVAL, Settings { thresholds, budget: None }, detector)
}

/// As the Anomalyzer is used: pairs alone.
fn pairs() -> series::Settings {
    series::Settings { levels: vec![Level::Pair], ..series::Settings::default() }
}

/// One whole interval in which host number i sent `bytes[i]`.
fn interval(number: u64, bytes: &[u64]) -> Snapshot {
    let start = Timestamp(0).plus(INTERVAL * u32::try_from(number).unwrap());
    let flow = |(host, &bytes): (usize, &u64)| Flow {
        key: FlowKey {
            src: Ipv4Addr::from(0xC633_6400 + u32::try_from(host).unwrap()).to_ipv6_mapped().octets(),
            dst: Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets(),
            family: 4,
            ..FlowKey::default()
        },
        counters: FlowCounters {
            packets: bytes.div_ceil(1500),
            wire_bytes: bytes,
            ip_bytes: bytes,
            ..FlowCounters::default()
        },
        own: false,
        ignored: false,
        locality: Default::default(),
    };
    Snapshot {
        start,
        end: start.plus(INTERVAL),
        length: INTERVAL,
        complete: true,
        flows: bytes.iter().enumerate().filter(|&(_, &bytes)| bytes > 0).map(flow).collect(),
        ..Snapshot::default()
    }
}
