//! Everything counted since the start.

use std::collections::BTreeMap;

use wherefore_common::{Amount, Reason};

use crate::{snapshot::Snapshot, time::Timestamp};

/// Sums over all snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Start of the first interval.
    pub start: Option<Timestamp>,
    /// End of the last.
    pub end: Timestamp,
    /// Intervals, silent ones included.
    pub intervals: u64,
    /// Packets in flows.
    pub packets: u64,
    /// Their bytes on the wire.
    pub wire_bytes: u64,
    /// Their IP bytes.
    pub ip_bytes: u64,
    /// Packets without a flow.
    pub unaccounted: BTreeMap<Reason, Amount>,
    /// Packets older than their interval (a capture out of order).
    pub late: Amount,
    /// Packets the capture lost.
    pub dropped: u64,
    /// Alerts told.
    pub alerts: usize,
}

impl Totals {
    /// Adds one interval.
    pub fn add(&mut self, snapshot: &Snapshot, alerts: usize) {
        self.start.get_or_insert(snapshot.start);
        self.end = snapshot.end;
        self.intervals += snapshot.skipped + 1;
        for flow in &snapshot.flows {
            self.packets += flow.counters.packets;
            self.wire_bytes += flow.counters.wire_bytes;
            self.ip_bytes += flow.counters.ip_bytes;
        }
        for (reason, amount) in snapshot.unaccounted_by_reason() {
            self.unaccounted.entry(reason).or_default().add(&amount);
        }
        self.late.add(&snapshot.late);
        self.dropped += snapshot.dropped;
        self.alerts += alerts;
    }
}
