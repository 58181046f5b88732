//! What `wherefore run` shows while it runs: the live table on a terminal, a line per interval elsewhere,
//! and the closing summary.

mod rows;
mod words;

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use wherefore_common::{Amount, Direction, Reason, UnaccountedKey};

use super::text::{bytes, clean, clip, count, duration, grouped, rate, reason, scaled, share, wrap};
use crate::{
    backend::Description,
    coverage::{self, Compared, Verdict},
    snapshot::{Flow, Snapshot},
};

pub use words::{Totals, closing, interval_line};

/// What the live table shows besides the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct LiveView<'a> {
    /// What is watched.
    pub description: &'a Description,
    /// The interval asked for.
    pub interval: Duration,
    /// Alerts since the start.
    pub alerts: u64,
    /// The latest alerts and log lines, oldest first; as many of the last ones are shown as fit, broken between
    /// words.
    pub recent: &'a [String],
    /// Columns of the terminal.
    pub width: usize,
    /// Lines of the terminal.
    pub height: usize,
    /// Use ANSI colours; false with `NO_COLOR` or `--color never`.
    pub color: bool,
}

fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts.into_iter().fold(Amount::default(), |mut sum, amount| {
        sum.add(&amount);
        sum
    })
}

/// What the host carried in an interval, in flows or not, by direction as number.
fn by_direction(snapshot: &Snapshot) -> [Amount; 3] {
    let mut amounts = [Amount::default(); 3];
    let flows = snapshot.flows.iter().map(|flow| (flow.key.ifindex, flow.direction(), amount(flow)));
    let lost = snapshot.unaccounted.iter();
    let lost = lost.map(|(key, amount)| (key.ifindex, Direction::from_u8(key.direction), *amount));
    for (_, direction, amount) in flows.chain(lost).filter(|part| snapshot.counts_for_host(part.0)) {
        amounts[direction as usize].add(&amount);
    }
    amounts
}

/// What was counted on interfaces that are stacked on others, and so is no part of the host's totals.
fn beside(snapshot: &Snapshot) -> Amount {
    let (all, host) = (snapshot.total(), snapshot.host_total());
    Amount { packets: all.packets - host.packets, wire_bytes: all.wire_bytes - host.wire_bytes }
}

/// No watched interface is there.
fn blind(snapshot: &Snapshot) -> bool {
    snapshot.interfaces.is_empty() && snapshot.host_addresses.is_some()
}

const fn amount(flow: &Flow) -> Amount {
    Amount { packets: flow.counters.packets, wire_bytes: flow.counters.wire_bytes }
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Warning,
}

/// Lines that fit, with their style.
struct Screen {
    width: usize,
    color: bool,
    lines: Vec<String>,
}

impl Screen {
    /// One line of the screen: cut to the width, styled afterwards, so that no escape sequence is cut.
    fn line(&self, text: &str, style: Style) -> String {
        let text = clip(text.trim_end(), self.width);
        let code = match style {
            _ if !self.color || text.is_empty() => return text.into_owned(),
            Style::Plain => return text.into_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Warning => "1;33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    fn push(&mut self, text: &str, style: Style) {
        let line = self.line(text, style);
        self.lines.push(line);
    }
}

/// The screen of a running `wherefore`: at most `height` lines of at most `width` columns, joined by line
/// feeds, without one at the end (it would scroll).
///
/// From the top: what is watched and why so, totals and rates, warnings, the flows with most wire bytes in
/// this interval, the latest alerts, how to stop. Where lines are short, flows and alerts go first. A flow
/// whose addresses do not fit one line takes two.
#[must_use]
pub fn live_table(snapshot: &Snapshot, view: &LiveView<'_>) -> String {
    let LiveView { width, height, color, .. } = *view;
    if width == 0 || height == 0 {
        return String::new();
    }
    let mut head = Screen { width, color, lines: Vec::new() };
    head.push(&format!("wherefore: watching {}", watched(snapshot, view.description)), Style::Bold);
    head.push(&format!("{}: {}", view.description.backend, clean(&view.description.why)), Style::Dim);
    if snapshot.length.is_zero() {
        head.push(&format!("first figures in {}", duration(view.interval)), Style::Plain);
    } else {
        let mut line = rates(snapshot);
        let others = lost_by_reason(snapshot, ordinary);
        if !others.is_empty() {
            let _ = write!(line, " · in no flow: {others}");
        }
        head.push(&line, Style::Plain);
        for warning in warnings(snapshot) {
            head.push(&format!("! {warning}"), Style::Warning);
        }
    }
    let mut foot = Screen { width, color, lines: Vec::new() };
    foot.push(
        &format!(
            "{} · every {} · Ctrl-C stops",
            count(view.alerts, "alert", "alerts"),
            duration(view.interval)
        ),
        if view.alerts > 0 { Style::Bold } else { Style::Dim },
    );
    head.lines.truncate(height.saturating_sub(1).max(1));
    if head.lines.len() == height {
        return head.lines.join("\n");
    }
    let mut room = height - head.lines.len() - foot.lines.len();

    let mut alerts = Screen { width, color, lines: Vec::new() };
    for line in recent_lines(view.recent, width, room / 3) {
        alerts.push(&line, Style::Warning);
    }
    room -= alerts.lines.len();
    head.lines.extend(rows::flow_lines(snapshot, width, room, color));
    head.lines.append(&mut alerts.lines);
    head.lines.append(&mut foot.lines);
    head.lines.join("\n")
}

/// The interfaces of this interval, before the first those of the start, with the hooks these had.
fn watched(snapshot: &Snapshot, description: &Description) -> String {
    let with_hook = |name: &str| match description.watched.iter().find(|watched| watched.name == name) {
        Some(watched) => format!("{} ({})", clean(name), clean(&watched.hook)),
        None => clean(name).into_owned(),
    };
    let names: Vec<String> = if snapshot.length.is_zero() {
        description.watched.iter().map(|watched| with_hook(&watched.name)).collect()
    } else {
        // Number 0 is none of them.
        snapshot.interfaces.iter().filter(|(index, _)| **index > 0).map(|(_, name)| with_hook(name)).collect()
    };
    if names.is_empty() { "no interface".to_owned() } else { names.join(", ") }
}

/// The last of `recent` in at most `room` lines, oldest first. What follows the first line of one is indented.
fn recent_lines(recent: &[String], width: usize, room: usize) -> Vec<String> {
    let mut newest_first = Vec::new();
    let mut left = room;
    for text in recent.iter().rev() {
        let mut lines = wrap(&clean(text), width.saturating_sub(2));
        lines.iter_mut().skip(1).for_each(|line| line.insert_str(0, "  "));
        // The newest is shown even if it must be cut.
        if lines.len() > left && left < room {
            break;
        }
        lines.truncate(left);
        left -= lines.len();
        newest_first.push(lines);
    }
    newest_first.into_iter().rev().flatten().collect()
}

fn rates(snapshot: &Snapshot) -> String {
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
    if let Some(Compared { counted, device }) = lowest_coverage(snapshot) {
        let _ = write!(line, " · coverage {}", share(counted, device));
    }
    line
}

/// Of the interface and direction with the lowest; of few packets it says nothing.
fn lowest_coverage(snapshot: &Snapshot) -> Option<Compared> {
    let windows = snapshot.coverage.values().map(|coverage| coverage.window);
    let known = windows.filter_map(|window| window.share().map(|share| (share, window)));
    let lowest =
        known.filter(|(_, window)| window.device >= coverage::FEW).min_by(|(a, _), (b, _)| a.total_cmp(b));
    lowest.map(|(_, window)| window)
}

fn packet_rate(amount: Amount, length: Duration) -> String {
    if length.is_zero() {
        return "- p/s".to_owned();
    }
    scaled((amount.packets as f64 / length.as_secs_f64()).round(), "p/s")
}

/// What a person must know to trust the table: packets in no flow, losses, silence.
fn warnings(snapshot: &Snapshot) -> Vec<String> {
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
    let estimated: u64 = snapshot.estimated().values().sum();
    if estimated > 0 {
        warnings.push(format!(
            "{} estimated (~): merged by offload before being seen; the true rates are higher",
            count(estimated, "packet is", "packets are")
        ));
    }
    for ((ifindex, direction), coverage) in &snapshot.coverage {
        if coverage.verdict > Verdict::Fine {
            let Compared { counted, device } = coverage.window;
            warnings.push(format!(
                "{} of what {} counts at {} is counted here, {} of {} {}; the log says why",
                share(counted, device),
                clean(&snapshot.interface_name(*ifindex)),
                Direction::from_u8(*direction).name(),
                grouped(counted),
                grouped(device),
                coverage.unit.noun()
            ));
        }
    }
    if snapshot.dropped > 0 {
        warnings.push(format!(
            "{} lost before they could be counted; the true rates are higher",
            count(snapshot.dropped, "packet", "packets")
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
    let others = lost_by_reason(snapshot, |key| !overflowed(&key) && !ordinary(key));
    if !others.is_empty() {
        warnings.push(format!("packets in no flow: {others}"));
    }
    warnings
}

/// Packets without a flow that every host has or its user wants: ARP and the like, and what a filter excludes.
fn ordinary(key: &UnaccountedKey) -> bool {
    [Reason::NonIp as u8, Reason::Filtered as u8].contains(&key.reason)
}

/// `non_ip 12, filtered 3`; empty where there is none.
fn lost_by_reason(snapshot: &Snapshot, wanted: impl Fn(&UnaccountedKey) -> bool) -> String {
    let mut sums: BTreeMap<u8, u64> = BTreeMap::new();
    for (key, amount) in snapshot.unaccounted.iter().filter(|(key, amount)| wanted(key) && amount.packets > 0)
    {
        *sums.entry(key.reason).or_default() += amount.packets;
    }
    let parts: Vec<String> =
        sums.iter().map(|(number, packets)| format!("{} {}", reason(*number), grouped(*packets))).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        backend::Watched,
        coverage::{Coverage, Unit},
        render::{
            summary::tests::snapshots,
            text::{columns, endpoint, ports},
        },
    };

    fn description() -> Description {
        Description {
            backend: "ebpf",
            watched: vec![
                Watched { name: "eth0".to_owned(), hook: "tcx".to_owned() },
                Watched { name: "wlan\x1b[2J0".to_owned(), hook: "clsact".to_owned() },
            ],
            chosen: "named".to_owned(),
            why: "TCX: kernel 6.6 or newer".to_owned(),
        }
    }

    fn view<'a>(
        description: &'a Description,
        recent: &'a [String],
        width: usize,
        height: usize,
    ) -> LiveView<'a> {
        let interval = Duration::from_secs(5);
        LiveView { description, interval, alerts: recent.len() as u64, recent, width, height, color: false }
    }

    /// The text without the styles this module writes.
    fn bare(text: &str) -> String {
        let mut out = text.to_owned();
        for code in ["\x1b[1m", "\x1b[2m", "\x1b[1;33m", "\x1b[0m"] {
            out = out.replace(code, "");
        }
        out
    }

    proptest! {
        #[test]
        fn fits_every_terminal(
            snapshots in snapshots(), width in 0usize..150, height in 0usize..40, color: bool, alerts in 0usize..9,
        ) {
            let description = description();
            let recent = vec!["anomaly \x1b[31m 192.0.2.1 → 192.0.2.2 ".repeat(5); alerts];
            let view = LiveView { color, ..view(&description, &recent, width, height) };
            for snapshot in &snapshots {
                let table = live_table(snapshot, &view);
                let bare = bare(&table);
                prop_assert!(color || table == bare, "no escape sequences without colour");
                prop_assert!(!bare.contains('\x1b'), "nothing from outside reaches the terminal unescaped");
                prop_assert!(bare.split('\n').count() <= height.max(1));
                prop_assert!(height > 0 || bare.is_empty());
                for line in bare.lines() {
                    prop_assert!(columns(line) <= width, "{line}");
                }
                if height >= 2 && width >= 40 {
                    prop_assert!(bare.ends_with("Ctrl-C stops"), "{bare}");
                }
            }
        }

        #[test]
        fn long_addresses_are_whole_on_80_columns(snapshots in snapshots()) {
            let description = description();
            for snapshot in &snapshots {
                let table = live_table(snapshot, &view(&description, &[], 80, 200));
                for flow in &snapshot.flows {
                    let (sport, dport) = ports(flow.key.sport, flow.key.dport);
                    prop_assert!(table.contains(&endpoint(flow.src(), sport)));
                    prop_assert!(table.contains(&endpoint(flow.dst(), dport)));
                }
                prop_assert!(!table.contains("with less"));
            }
        }

        #[test]
        fn totals_are_the_sums_of_the_snapshots(snapshots in snapshots()) {
            let mut totals = Totals::default();
            let mut all = Amount::default();
            for snapshot in &snapshots {
                totals.add(snapshot);
                all.add(&snapshot.host_total());
            }
            prop_assert_eq!(totals.total(), all);
            prop_assert!(closing(&totals, Duration::from_secs(9), 2).contains(&grouped(all.wire_bytes)));
        }

        #[test]
        fn an_interval_is_one_line(snapshots in snapshots()) {
            for snapshot in &snapshots {
                let line = interval_line(snapshot);
                prop_assert!(!line.contains('\n'));
                prop_assert!(line.contains(&grouped(snapshot.host_total().wire_bytes)));
            }
        }
    }

    /// Two long IPv6 addresses and what is usual do not fit 80 columns, and none of it may be missing.
    #[test]
    fn an_alert_is_whole_on_80_columns_and_the_newest_comes_last() {
        let description = description();
        let address = |n: u32| format!("2001:db8:1234:5678:9abc:def0:1234:{n}");
        let alert =
            format!("2026-11-24T05:27:50Z {} sent 22 MB to {} in 1 s, usually 9 kB", address(1), address(2));
        let recent: Vec<String> =
            std::iter::repeat_n("old news".to_owned(), 20).chain([alert.clone()]).collect();
        let flow = Flow::new(wherefore_common::FlowKey::default(), Default::default());
        let snapshot = Snapshot { flows: vec![flow; 99], ..Snapshot::default() };
        let table = live_table(&snapshot, &view(&description, &recent, 80, 24));
        let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&format!("{alert} 21 alerts")), "{table}");
        assert!(table.contains("old news"), "{table}");
        assert_eq!(table.lines().count(), 24);
    }

    #[test]
    fn what_is_watched_now_is_said_and_that_nothing_is() {
        let mut snapshot = Snapshot {
            length: Duration::from_secs(5),
            interfaces: [(0, "(any)"), (2, "eth0"), (7, "ve1\x1b")]
                .map(|(i, name)| (i, name.to_owned()))
                .into(),
            host_addresses: Some(Default::default()),
            ..Snapshot::default()
        };
        let description = description();
        let table = live_table(&snapshot, &view(&description, &[], 100, 24));
        assert!(table.starts_with("wherefore: watching eth0 (tcx), ve1\\u{1b}\n"), "{table}");
        assert!(table.contains("! not one packet"), "{table}");
        snapshot.interfaces.clear();
        let table = live_table(&snapshot, &view(&description, &[], 100, 24));
        assert!(table.starts_with("wherefore: watching no interface\n"), "{table}");
        assert!(table.contains("! no watched interface is there: nothing is counted"), "{table}");
        assert!(interval_line(&snapshot).ends_with("nothing is counted"));
        // A capture file without packets is no such case.
        snapshot.host_addresses = None;
        assert!(!interval_line(&snapshot).contains("nothing is counted"));
    }

    /// The same packets on a VLAN and its carrier.
    #[test]
    fn the_host_s_totals_count_once_what_is_stacked() {
        let on = |ifindex| {
            let key = wherefore_common::FlowKey { ifindex, family: 4, ..Default::default() };
            let counters =
                wherefore_common::FlowCounters { packets: 10, wire_bytes: 1000, ..Default::default() };
            Flow::new(key, counters)
        };
        let mut snapshot = Snapshot {
            length: Duration::from_secs(1),
            complete: true,
            flows: vec![on(2), on(3)],
            stacked: [3].into(),
            ..Snapshot::default()
        };
        let key = UnaccountedKey { ifindex: 3, ..UnaccountedKey::default() };
        snapshot.add_unaccounted(key, Amount { packets: 1, wire_bytes: 60 });
        let line = interval_line(&snapshot);
        assert!(line.contains("in 1.00 kB/s 10 p/s") && line.contains("1,000 bytes in 10 packets"), "{line}");
        assert!(line.contains("on stacked interfaces besides 1.06 kB/s"), "{line}");
        let mut totals = Totals::default();
        totals.add(&snapshot);
        let closing = closing(&totals, Duration::from_secs(1), 0);
        assert!(closing.contains(": 10 packets, 1,000 bytes on the wire"), "{closing}");
        assert!(
            closing.contains("besides, on interfaces stacked on these: 11 packets, 1,060 bytes"),
            "{closing}"
        );
        assert!(!closing.contains("in no flow"), "{closing}");
    }

    #[test]
    fn coverage_is_shown_and_its_lack_warned_of() {
        let covered = |counted, verdict| {
            let window = Compared { counted, device: 10_000 };
            let span = Duration::from_secs(62);
            Coverage { unit: Unit::OnWire, interval: window, window, span, verdict }
        };
        let mut snapshot = Snapshot {
            length: Duration::from_secs(5),
            interfaces: [(1, "eth\x1b0".to_owned())].into(),
            ..Snapshot::default()
        };
        snapshot.coverage.insert((1, 0), covered(9_999, Verdict::Fine));
        snapshot.coverage.insert((1, 1), covered(20_000, Verdict::Fine));
        let description = description();
        let view = view(&description, &[], 200, 24);
        let table = live_table(&snapshot, &view);
        assert!(table.contains(" · coverage 99.9%") && !table.contains("the log says why"), "{table}");
        snapshot.coverage.insert((1, 1), covered(6_200, Verdict::Low));
        let table = live_table(&snapshot, &view);
        let warning = "62.0% of what eth\\u{1b}0 counts at egress is counted here, 6,200 of 10,000 frames";
        assert!(table.contains(warning), "{table}");
        assert!(interval_line(&snapshot).contains(" · coverage 62.0%"));
    }

    #[test]
    fn losses_and_silence_are_warned_of() {
        let mut snapshot = Snapshot { length: Duration::from_secs(5), complete: true, ..Snapshot::default() };
        let description = description();
        let view = view(&description, &[], 100, 24);
        assert!(live_table(&snapshot, &view).contains("! not one packet"));
        snapshot.dropped = 3;
        let key = UnaccountedKey { reason: Reason::TableFull as u8, proto: 6, ..UnaccountedKey::default() };
        snapshot.add_unaccounted(key, Amount { packets: 1000, wire_bytes: 60_000 });
        let table = live_table(&snapshot, &view);
        assert!(table.contains("! 1,000 packets (60.0 kB) in no flow"), "{table}");
        assert!(table.contains("! 3 packets lost"), "{table}");
        assert!(!table.contains("not one packet"), "{table}");
    }
}
