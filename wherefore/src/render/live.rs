//! What `wherefore run` shows while it runs: the live table on a terminal, a line per interval elsewhere,
//! and the closing summary.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _, time::Duration};

use wherefore_common::{Amount, Direction, Reason, UnaccountedKey};

use super::text::{
    bytes, clean, clip, columns, count, duration, endpoint, grouped, ports, protocol, rate, reason, share,
};
use crate::{
    backend::Description,
    snapshot::{Flow, Snapshot},
};

/// What the live table shows besides the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct LiveView<'a> {
    /// What is watched.
    pub description: &'a Description,
    /// The interval asked for.
    pub interval: Duration,
    /// Alerts since the start.
    pub alerts: u64,
    /// The latest alerts, oldest first, one line each; as many of the last ones are shown as fit.
    pub recent: &'a [String],
    /// Columns of the terminal.
    pub width: usize,
    /// Lines of the terminal.
    pub height: usize,
    /// Use ANSI colours; false with `NO_COLOR` or `--color never`.
    pub color: bool,
}

/// Sums since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Intervals, also those without a packet.
    pub intervals: u64,
    /// Everything counted, by [`Direction`] as number.
    pub directions: [Amount; 3],
    /// Packets without a flow, by a reason's number.
    pub unaccounted: BTreeMap<u8, Amount>,
    /// Packets lost before they could be counted.
    pub dropped: u64,
}

impl Totals {
    /// Adds one interval.
    pub fn add(&mut self, snapshot: &Snapshot) {
        self.intervals += 1 + snapshot.skipped;
        for (sum, amount) in self.directions.iter_mut().zip(by_direction(snapshot)) {
            sum.add(&amount);
        }
        for (key, amount) in &snapshot.unaccounted {
            self.unaccounted.entry(key.reason).or_default().add(amount);
        }
        self.dropped += snapshot.dropped;
    }

    /// All directions together.
    #[must_use]
    pub fn total(&self) -> Amount {
        sum(self.directions)
    }
}

fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts.into_iter().fold(Amount::default(), |mut sum, amount| {
        sum.add(&amount);
        sum
    })
}

/// Everything an interval counted, in flows or not, by direction as number.
fn by_direction(snapshot: &Snapshot) -> [Amount; 3] {
    let mut amounts = [Amount::default(); 3];
    let flows = snapshot.flows.iter().map(|flow| (flow.direction(), amount(flow)));
    let lost = snapshot.unaccounted.iter().map(|(key, amount)| (Direction::from_u8(key.direction), *amount));
    for (direction, amount) in flows.chain(lost) {
        amounts[direction as usize].add(&amount);
    }
    amounts
}

const fn amount(flow: &Flow) -> Amount {
    Amount { packets: flow.counters.packets, wire_bytes: flow.counters.wire_bytes }
}

/// The `n` largest flows by wire bytes, then by key: most first.
fn top(snapshot: &Snapshot, n: usize) -> Vec<&Flow> {
    let order = |flow: &&Flow| (Reverse(flow.counters.wire_bytes), flow.key);
    let mut flows: Vec<&Flow> = snapshot.flows.iter().collect();
    if n == 0 {
        return Vec::new();
    }
    if n < flows.len() {
        flows.select_nth_unstable_by_key(n - 1, order);
        flows.truncate(n);
    }
    flows.sort_unstable_by_key(order);
    flows
}

/// `in`, `out`, `?`: as seen from the host.
const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
        Direction::Unknown => "?",
    }
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
    let watched: Vec<String> =
        view.description.watched.iter().map(|w| format!("{} ({})", clean(&w.name), clean(&w.hook))).collect();
    head.push(&format!("wherefore: watching {}", watched.join(", ")), Style::Bold);
    head.push(&format!("{}: {}", view.description.backend, clean(&view.description.why)), Style::Dim);
    head.push(&rates(snapshot), Style::Plain);
    for warning in warnings(snapshot) {
        head.push(&format!("! {warning}"), Style::Warning);
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
    let shown = view.recent.len().min(room / 4);
    for alert in &view.recent[view.recent.len() - shown..] {
        alerts.push(&clean(alert), Style::Warning);
    }
    room -= shown;
    head.lines.extend(flow_lines(snapshot, width, room, color));
    head.lines.append(&mut alerts.lines);
    head.lines.append(&mut foot.lines);
    head.lines.join("\n")
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
        if snapshot.complete { "" } else { " (cut short)" }
    );
    line
}

fn packet_rate(amount: Amount, length: Duration) -> String {
    if length.is_zero() {
        return "- p/s".to_owned();
    }
    super::text::scaled((amount.packets as f64 / length.as_secs_f64()).round(), "p/s")
}

/// What a person must know to trust the table: packets in no flow, losses, silence.
fn warnings(snapshot: &Snapshot) -> Vec<String> {
    let mut warnings = Vec::new();
    let overflowed =
        |key: &&UnaccountedKey| [Reason::TableFull as u8, Reason::TableBusy as u8].contains(&key.reason);
    let overflow =
        sum(snapshot.unaccounted.iter().filter(|(key, _)| overflowed(key)).map(|(_, amount)| *amount));
    if overflow.packets > 0 {
        warnings.push(format!(
            "{} ({}) in no flow: flow table full or busy; see --table-size",
            count(overflow.packets, "packet", "packets"),
            bytes(overflow.wire_bytes)
        ));
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
    if snapshot.total().packets == 0 {
        warnings.push(match snapshot.skipped {
            0 => "not one packet in this interval".to_owned(),
            skipped => format!("not one packet in {} intervals", grouped(skipped + 1)),
        });
    }
    let others = lost_by_reason(snapshot, |key| !overflowed(&key));
    if !others.is_empty() {
        warnings.push(format!("packets in no flow: {others}"));
    }
    warnings
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

struct Line {
    src: String,
    dst: String,
    proto: String,
    way: &'static str,
    interface: String,
    rate: String,
    share: String,
}

impl Line {
    const RATE: usize = 9;
    const SHARE: usize = 6;

    fn new(flow: &Flow, snapshot: &Snapshot, whole: u64) -> Self {
        let (sport, dport) = ports(flow.key.sport, flow.key.dport);
        let name = snapshot.interface_name(flow.key.ifindex);
        Self {
            src: endpoint(flow.src(), sport),
            dst: endpoint(flow.dst(), dport),
            proto: protocol(flow.key.proto).into_owned(),
            way: way(flow.direction()),
            interface: clean(&name).into_owned(),
            rate: rate(flow.counters.wire_bytes, snapshot.length),
            share: share(flow.counters.wire_bytes, whole),
        }
    }

    fn heading() -> Self {
        Self {
            src: "source".to_owned(),
            dst: "destination".to_owned(),
            proto: "proto".to_owned(),
            way: "way",
            interface: "iface".to_owned(),
            rate: "rate".to_owned(),
            share: "share".to_owned(),
        }
    }
}

/// A heading and the largest flows, in at most `room` lines; the last one says how many are not shown.
fn flow_lines(snapshot: &Snapshot, width: usize, room: usize, color: bool) -> Vec<String> {
    // A heading without a flow beneath says nothing.
    if room < 2 || snapshot.flows.is_empty() {
        return Vec::new();
    }
    let whole = snapshot.total().wire_bytes;
    let lines: Vec<Line> =
        top(snapshot, room - 1).into_iter().map(|flow| Line::new(flow, snapshot, whole)).collect();
    let widest = |field: fn(&Line) -> &str, heading: usize| {
        lines.iter().map(|line| columns(field(line))).max().unwrap_or(0).max(heading)
    };
    let (src, dst) = (widest(|line| &line.src, 6), widest(|line| &line.dst, 11));
    let (proto, interface) = (widest(|line| &line.proto, 5), widest(|line| &line.interface, 5));
    let one_line =
        |gap: usize| src + dst + proto + 3 + interface + Line::RATE + Line::SHARE + 6 * gap <= width;
    let gap = if one_line(2) { 2 } else { 1 };
    let one_line = one_line(gap);

    let mut screen = Screen { width, color, lines: Vec::new() };
    let add = |screen: &mut Screen, line: &Line, style| {
        let gap = " ".repeat(gap);
        let volume = format!("{:>2$}{gap}{:>3$}", line.rate, line.share, Line::RATE, Line::SHARE);
        let kind =
            [pad(&line.proto, proto), pad(line.way, 3), pad(&line.interface, interface)].join(gap.as_str());
        if one_line {
            let flow = [pad(&line.src, src), pad(&line.dst, dst), kind, volume];
            screen.push(&flow.join(gap.as_str()), style);
        } else {
            let flow = src.max(dst + 2);
            screen.push(&format!("{}{gap}{volume}", pad(&line.src, flow)), style);
            screen.push(&format!("{}{gap}{kind}", pad(&format!("→ {}", line.dst), flow)), style);
        }
    };
    let each = if one_line { 1 } else { 2 };
    let fits = |reserved: usize| (room - reserved.min(room)) / each;
    let flows = snapshot.flows.len();
    // The heading takes as many lines as a flow does.
    let shown = if flows < fits(0) { flows } else { fits(1).saturating_sub(1).min(lines.len()) };
    if shown == 0 {
        return Vec::new();
    }
    add(&mut screen, &Line::heading(), Style::Dim);
    for line in &lines[..shown] {
        add(&mut screen, line, Style::Plain);
    }
    let hidden = flows - shown;
    if hidden > 0 {
        screen.push(&format!("… and {} with less", count(hidden as u64, "flow", "flows")), Style::Dim);
    }
    screen.lines
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// One interval as one line, for logs and pipes.
#[must_use]
pub fn interval_line(snapshot: &Snapshot) -> String {
    let total = snapshot.total();
    let mut line = format!(
        "{} {} · {} in {}",
        snapshot.end,
        rates(snapshot),
        count(total.wire_bytes, "byte", "bytes"),
        count(total.packets, "packet", "packets"),
    );
    if let [flow] = top(snapshot, 1)[..] {
        let top = Line::new(flow, snapshot, total.wire_bytes);
        let _ = write!(
            line,
            " · most: {} → {} {} {} {} {} ({})",
            top.src, top.dst, top.proto, top.way, top.interface, top.rate, top.share
        );
    }
    let lost = lost_by_reason(snapshot, |_| true);
    if !lost.is_empty() {
        let _ = write!(line, " · in no flow: {lost}");
    }
    if snapshot.dropped > 0 {
        let _ = write!(line, " · lost uncounted: {}", grouped(snapshot.dropped));
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
    for (number, amount) in totals.unaccounted.iter().filter(|(_, amount)| amount.packets > 0) {
        let _ = writeln!(
            out,
            "  in no flow, {}: {}, {}",
            reason(*number),
            count(amount.packets, "packet", "packets"),
            count(amount.wire_bytes, "byte", "bytes")
        );
    }
    if totals.dropped > 0 {
        let _ = writeln!(
            out,
            "  {} lost before they could be counted: the true figures are higher",
            count(totals.dropped, "packet", "packets")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{backend::Watched, render::summary::tests::snapshots};

    fn description() -> Description {
        Description {
            backend: "ebpf",
            watched: vec![
                Watched { name: "eth0".to_owned(), hook: "tcx".to_owned() },
                Watched { name: "wlan\x1b[2J0".to_owned(), hook: "clsact".to_owned() },
            ],
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
                all.add(&snapshot.total());
            }
            prop_assert_eq!(totals.total(), all);
            prop_assert!(closing(&totals, Duration::from_secs(9), 2).contains(&grouped(all.wire_bytes)));
        }

        #[test]
        fn an_interval_is_one_line(snapshots in snapshots()) {
            for snapshot in &snapshots {
                let line = interval_line(snapshot);
                prop_assert!(!line.contains('\n'));
                prop_assert!(line.contains(&grouped(snapshot.total().wire_bytes)));
            }
        }
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
