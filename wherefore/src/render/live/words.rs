//! A run in words: a line per interval, and the closing summary.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use wherefore_common::{Amount, Direction};

use super::{
    rows,
    status::{beside, blind, by_direction, rates, sum, unaccounted_by_reason},
};
use crate::{
    render::text::{bytes, clean, count, duration, grouped, reason},
    snapshot::Snapshot,
};

/// Interfaces and directions told apart of each reason in [`Totals`]: on a host of short-lived ones there is no end of
/// them.
pub(super) const PLACES: usize = 1024;
/// As many of these are shown.
const SHOWN: usize = 6;

/// Sums since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Intervals, also those without a packet.
    pub intervals: u64,
    /// What the host carried, by [`wherefore_common::Direction`] as number.
    pub directions: [Amount; 3],
    /// What was counted besides, on interfaces that are stacked on others.
    pub stacked: Amount,
    /// Packets without a flow, by a reason's number; then by interface and [`wherefore_common::Direction`] as number.
    pub unaccounted: BTreeMap<u8, BTreeMap<(String, u8), Amount>>,
    /// Packets that may stand for several on the wire.
    pub estimated: u64,
    /// Packets lost before counting.
    pub dropped: u64,
    /// Packets of a capture that came after their interval was closed: counted in the one then open.
    pub late: u64,
}

impl Totals {
    /// Adds one interval.
    pub fn add(&mut self, snapshot: &Snapshot) {
        self.intervals += 1 + snapshot.skipped;
        for (sum, amount) in self.directions.iter_mut().zip(by_direction(snapshot)) {
            sum.add(&amount);
        }
        self.stacked.add(&beside(snapshot));
        for (key, amount) in
            snapshot.unaccounted.iter().filter(|(key, _)| snapshot.counts_for_host(key.ifindex))
        {
            let places = self.unaccounted.entry(key.reason).or_default();
            let mut place = (snapshot.interface_name(key.ifindex).into_owned(), key.direction);
            if places.len() >= PLACES && !places.contains_key(&place) {
                place.0 = "others".to_owned();
            }
            places.entry(place).or_default().add(amount);
        }
        self.estimated += snapshot.estimated();
        self.dropped += snapshot.dropped();
        self.late += snapshot.late.packets;
    }

    /// All directions together.
    #[must_use]
    pub fn total(&self) -> Amount {
        sum(self.directions)
    }
}

/// One interval as one line, for logs, which bring the time themselves.
#[must_use]
pub fn interval_line(snapshot: &Snapshot) -> String {
    let total = snapshot.host_total();
    let mut line = format!(
        "{} · {} in {}",
        rates(snapshot),
        count(total.wire_bytes, "byte", "bytes"),
        count(total.packets, "packet", "packets"),
    );
    if let [flow] = rows::top(snapshot, 1)[..] {
        let all = snapshot.selected().wire_bytes;
        let top = rows::Line::new(flow, snapshot, all);
        let _ = write!(
            line,
            " · largest flow: {} → {} {} {} {} {}",
            top.src, top.dst, top.proto, top.way, top.interface, top.rate
        );
        // Of a flow that is alone the figures before have told the rate and the share.
        if flow.counters.wire_bytes < all {
            let _ = write!(line, " ({})", top.share);
        }
    }
    if blind(snapshot) {
        line.push_str(" · no watched interface is there: nothing is counted");
    }
    let lost = unaccounted_by_reason(snapshot, |_| true);
    if !lost.is_empty() {
        let _ = write!(line, " · in no flow: {lost}");
    }
    let estimated = snapshot.estimated();
    if estimated > 0 {
        let _ = write!(line, " · estimated: {}", grouped(estimated));
    }
    let dropped = snapshot.dropped();
    if dropped > 0 {
        let _ = write!(line, " · lost before counting: {}", grouped(dropped));
    }
    if snapshot.late.packets > 0 {
        let _ = write!(line, " · out of time order: {}", grouped(snapshot.late.packets));
    }
    line
}

/// The last words of a run: lines that each end in a line feed.
#[must_use]
pub fn closing(totals: &Totals, length: Duration, alerts: u64) -> String {
    let total = totals.total();
    let mut out = format!(
        "{} in {}: {}, {} on the wire ({}); {}\n",
        count(totals.intervals, "interval", "intervals"),
        duration(length),
        count(total.packets, "packet", "packets"),
        count(total.wire_bytes, "byte", "bytes"),
        bytes(total.wire_bytes),
        count(alerts, "alert", "alerts"),
    );
    let [ingress, egress, unknown] = totals.directions;
    for (name, amount) in [("in", ingress), ("out", egress), ("direction unknown", unknown)] {
        if amount.packets > 0 && amount != total {
            let _ = writeln!(
                out,
                "  {name}: {}, {} ({})",
                count(amount.packets, "packet", "packets"),
                count(amount.wire_bytes, "byte", "bytes"),
                bytes(amount.wire_bytes)
            );
        }
    }
    if totals.stacked.packets > 0 {
        let _ = writeln!(
            out,
            "  besides, on interfaces stacked on these: {}, {}",
            count(totals.stacked.packets, "packet", "packets"),
            count(totals.stacked.wire_bytes, "byte", "bytes")
        );
    }
    for (number, places) in &totals.unaccounted {
        let amount = sum(places.values().copied());
        if amount.packets == 0 {
            continue;
        }
        let _ = writeln!(
            out,
            "  in no flow, {}: {}, {}{}",
            reason(*number),
            count(amount.packets, "packet", "packets"),
            count(amount.wire_bytes, "byte", "bytes"),
            shares(places)
        );
    }
    if totals.estimated > 0 {
        let _ = writeln!(
            out,
            "  {} estimated: merged by offload before being seen, so more packets and bytes on the wire",
            count(totals.estimated, "packet", "packets")
        );
    }
    if totals.late > 0 {
        let _ = writeln!(
            out,
            "  {} out of time order: counted in a later interval than their own",
            count(totals.late, "packet was", "packets were")
        );
    }
    if totals.dropped > 0 {
        let _ = writeln!(
            out,
            "  {} lost before counting: the true figures are higher",
            count(totals.dropped, "packet", "packets")
        );
    }
    out
}

/// ` (eth0 in 60, eth0 out 40)`: packets by interface and direction, the most first; nothing where no direction is
/// known (captures).
fn shares(places: &BTreeMap<(String, u8), Amount>) -> String {
    let known = |direction: u8| Direction::from_u8(direction) != Direction::Unknown;
    let mut places: Vec<_> = places.iter().filter(|((_, direction), _)| known(*direction)).collect();
    places.sort_by_key(|(_, amount)| std::cmp::Reverse(amount.packets));
    let mut shares: Vec<String> = places
        .iter()
        .take(SHOWN)
        .map(|((interface, direction), amount)| {
            let way = rows::way(Direction::from_u8(*direction));
            format!("{} {way} {}", clean(interface), grouped(amount.packets))
        })
        .collect();
    if places.len() > SHOWN {
        shares.push("…".to_owned());
    }
    if shares.is_empty() { String::new() } else { format!(" ({})", shares.join(", ")) }
}

/// That a run of so many intervals of that length was too short for any alert, which takes `least` of them: a line.
/// Empty where it was not.
#[must_use]
pub fn too_short(intervals: u64, least: u64, interval: Duration) -> String {
    if intervals >= least {
        return String::new();
    }
    format!(
        "  too short to judge anything: {} of {} are needed, {} in all; --interval makes them shorter\n",
        count(least, "interval", "intervals"),
        duration(interval),
        duration(interval.saturating_mul(u32::try_from(least).unwrap_or(u32::MAX)))
    )
}
