//! The flows of the live table.

use std::cmp::Reverse;

use wherefore_common::Direction;

use super::{Screen, Style};
use crate::{
    locality::Locality,
    render::text::{clean, columns, count, endpoint, estimated_mark, ports, protocol, rate, share},
    snapshot::{Flow, Snapshot},
};

/// The `n` largest flows by wire bytes, then by key: most first.
pub(super) fn top(snapshot: &Snapshot, n: usize) -> Vec<&Flow> {
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
pub(super) const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
        Direction::Unknown => "?",
    }
}

/// A flow's cells.
pub(super) struct Line {
    pub src: String,
    pub dst: String,
    pub proto: String,
    pub way: &'static str,
    pub interface: String,
    pub rate: String,
    pub share: String,
}

impl Line {
    const RATE: usize = 10;
    const SHARE: usize = 6;

    pub fn new(flow: &Flow, snapshot: &Snapshot, whole: u64) -> Self {
        let (sport, dport) = ports(flow.key.sport, flow.key.dport);
        let name = snapshot.interface_name(flow.key.ifindex);
        Self {
            src: endpoint(flow.src(), sport),
            dst: endpoint(flow.dst(), dport),
            proto: protocol(flow.key.proto).into_owned(),
            way: if flow.locality == Locality::Forwarded {
                flow.locality.short()
            } else {
                way(flow.direction())
            },
            interface: clean(&name).into_owned(),
            rate: format!(
                "{}{}",
                estimated_mark(flow.counters.estimated),
                rate(flow.counters.wire_bytes, snapshot.length)
            ),
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
pub(super) fn flow_lines(snapshot: &Snapshot, width: usize, room: usize, color: bool) -> Vec<String> {
    // A heading without a flow beneath says nothing.
    if room < 2 || snapshot.flows.is_empty() {
        return Vec::new();
    }
    let whole = snapshot.selected().wire_bytes;
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
