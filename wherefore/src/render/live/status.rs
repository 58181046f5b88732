//! An interval's figures in a line, and what a person must know to trust them.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use wherefore_common::{Amount, Direction, Reason, UnaccountedKey};

use crate::{
    coverage::{self, Ledger, Verdict},
    render::text::{bytes, clean, count, duration, grouped, rate, reason, scaled},
    snapshot::Snapshot,
};

pub(super) fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts.into_iter().fold(Amount::default(), |mut sum, amount| {
        sum.add(&amount);
        sum
    })
}

/// What the host carried in an interval, in flows or not, by direction as number.
pub(super) fn by_direction(snapshot: &Snapshot) -> [Amount; 3] {
    let mut amounts = [Amount::default(); 3];
    let flows =
        snapshot.flows.iter().map(|flow| (flow.key.ifindex, flow.direction(), flow.counters.amount()));
    let lost = snapshot.unaccounted.iter();
    let lost = lost.map(|(key, amount)| (key.ifindex, Direction::from_u8(key.direction), *amount));
    for (_, direction, amount) in flows.chain(lost).filter(|part| snapshot.counts_for_host(part.0)) {
        amounts[direction as usize].add(&amount);
    }
    amounts
}

/// What was counted on interfaces that are stacked on others, and so is no part of the host's totals.
pub(super) fn beside(snapshot: &Snapshot) -> Amount {
    let (all, host) = (snapshot.total(), snapshot.host_total());
    Amount { packets: all.packets - host.packets, wire_bytes: all.wire_bytes - host.wire_bytes }
}

/// No watched interface is there.
pub(super) fn blind(snapshot: &Snapshot) -> bool {
    snapshot.interfaces.is_empty() && snapshot.host_addresses.is_some()
}

pub(super) fn rates(snapshot: &Snapshot) -> String {
    let [ingress, egress, unknown] = by_direction(snapshot);
    let part = |name: &str, amount: Amount| {
        format!(
            "{name} {} {}",
            rate(amount.wire_bytes, snapshot.length),
            packet_rate(amount, snapshot.length)
        )
    };
    let mut line = if unknown.packets > 0 && ingress.packets + egress.packets == 0 {
        part("all", unknown)
    } else {
        format!("{} · {}", part("in", ingress), part("out", egress))
    };
    let _ = write!(
        line,
        " · {} · {}{}",
        count(snapshot.flows.len() as u64, "flow", "flows"),
        duration(snapshot.length),
        if snapshot.complete { "" } else { " (not a whole interval)" }
    );
    let beside = beside(snapshot);
    if beside.packets > 0 {
        let _ = write!(line, " · on stacked interfaces besides {}", rate(beside.wire_bytes, snapshot.length));
    }
    if let Some(window) = lowest_coverage(snapshot) {
        let _ = write!(line, " · coverage {window}");
    }
    line
}

/// Of the interface and direction with the lowest; of few packets it says nothing.
fn lowest_coverage(snapshot: &Snapshot) -> Option<Ledger> {
    let known = snapshot.coverage.values().filter(|coverage| coverage.packets >= coverage::FEW);
    let windows = known.map(|coverage| coverage.window);
    // Where nothing is missing, the one that agrees most.
    let order = |window: &Ledger| (window.share().unwrap_or_default(), window.ratio().unwrap_or_default());
    windows.min_by(|a, b| {
        let ((a, a_ratio), (b, b_ratio)) = (order(a), order(b));
        a.total_cmp(&b).then(a_ratio.total_cmp(&b_ratio))
    })
}

fn packet_rate(amount: Amount, length: Duration) -> String {
    if length.is_zero() {
        return "- p/s".to_owned();
    }
    scaled((amount.packets as f64 / length.as_secs_f64()).round(), "p/s")
}

/// What a person must know to trust the table: packets in no flow, losses, silence.
pub(super) fn warnings(snapshot: &Snapshot) -> Vec<String> {
    let mut warnings = Vec::new();
    let overflowed =
        |key: &&UnaccountedKey| [Reason::TableFull as u8, Reason::TableBusy as u8].contains(&key.reason);
    let overflow =
        sum(snapshot.unaccounted.iter().filter(|(key, _)| overflowed(key)).map(|(_, amount)| *amount));
    if overflow.packets > 0 {
        let flows = match snapshot.lost.estimate() {
            0 => String::new(),
            lost => format!(", of about {}", count(lost, "flow", "flows")),
        };
        warnings.push(format!(
            "{} ({}){flows} in no flow: flow table full or busy; see --table-size",
            count(overflow.packets, "packet", "packets"),
            bytes(overflow.wire_bytes)
        ));
    }
    let estimated = snapshot.estimated();
    if estimated > 0 {
        warnings.push(format!(
            "{} estimated (~): merged by offload before being seen; the true rates are higher",
            count(estimated, "packet is", "packets are")
        ));
    }
    for ((ifindex, direction), coverage) in &snapshot.coverage {
        if coverage.verdict > Verdict::Fine {
            let window = coverage.window;
            warnings.push(format!(
                "{window} of what {} counts at {} is counted here, {} of {} {} are missing; the log says why",
                clean(&snapshot.interface_name(*ifindex)),
                Direction::from_u8(*direction).name(),
                grouped(window.missing()),
                grouped(window.device()),
                coverage.unit.noun()
            ));
        }
    }
    let dropped = snapshot.dropped();
    if dropped > 0 {
        warnings.push(format!(
            "{} lost before counting: the true rates are higher",
            count(dropped, "packet", "packets")
        ));
    }
    if snapshot.late.packets > 0 {
        warnings.push(format!(
            "{} out of time order, counted here",
            count(snapshot.late.packets, "packet", "packets")
        ));
    }
    if blind(snapshot) {
        warnings.push("no watched interface is there: nothing is counted".to_owned());
    } else if snapshot.total().packets == 0 {
        warnings.push(match snapshot.skipped {
            0 => "not one packet in this interval".to_owned(),
            skipped => format!("not one packet in {} intervals", grouped(skipped + 1)),
        });
    }
    let others = unaccounted_by_reason(snapshot, |key| !overflowed(&key) && !ordinary(key));
    if !others.is_empty() {
        warnings.push(format!("packets in no flow: {others}"));
    }
    warnings
}

/// Packets without a flow that every host has or its user wants: ARP and the like, and what a filter excludes.
pub(super) fn ordinary(key: &UnaccountedKey) -> bool {
    [Reason::NonIp as u8, Reason::Filtered as u8].contains(&key.reason)
}

/// `non_ip 12, filtered 3`; empty where there is none.
pub(super) fn unaccounted_by_reason(snapshot: &Snapshot, wanted: impl Fn(&UnaccountedKey) -> bool) -> String {
    let mut sums: BTreeMap<u8, u64> = BTreeMap::new();
    for (key, amount) in snapshot.unaccounted.iter().filter(|(key, amount)| wanted(key) && amount.packets > 0)
    {
        *sums.entry(key.reason).or_default() += amount.packets;
    }
    let parts: Vec<String> =
        sums.iter().map(|(number, packets)| format!("{} {}", reason(*number), grouped(*packets))).collect();
    parts.join(", ")
}
