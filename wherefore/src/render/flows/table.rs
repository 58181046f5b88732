//! A report as a table for people.

use std::cmp::Reverse;

use comfy_table::{CellAlignment, Table};

use wherefore_common::{Amount, Direction};

use crate::{
    coverage::Ledger,
    render::{
        KeyKind, Report, Row, Unaccounted,
        table::{clipped, gap, plain_table},
        text::{
            bytes, clean, columns, count, duration, endpoint, estimated_mark, grouped, ports, protocol,
            reason, share,
        },
    },
};

/// Interfaces and directions that are told one by one, of each kind: a host of many containers has hundreds.
const PLACES: usize = 10;

/// The table's lines beneath its rows: everything the rows alone do not say.
pub(super) fn totals(report: &Report) -> Vec<String> {
    let (total, lost) = (report.total, report.total.packets - report.ip_packets);
    let mut lines = Vec::new();
    if let Some((start, end)) = report.span {
        lines.push(format!("From {start} to {end} ({})", duration(end.since(start))));
    }
    lines.push(format!(
        "Total   {}, {} on the wire",
        count(total.packets, "packet", "packets"),
        exactly(total.wire_bytes)
    ));
    if let Some(host) = report.host {
        lines.push(format!(
            "Host    {}, {}, each once",
            count(host.packets, "packet", "packets"),
            exactly(host.wire_bytes)
        ));
    }
    let rows = match report.kind {
        KeyKind::Flow => count(report.rows.len() as u64, "flow", "flows"),
        KeyKind::Pair => count(report.rows.len() as u64, "pair", "pairs"),
    };
    let filtered = report.filtered();
    if report.rows.is_empty() && filtered.packets > 0 {
        lines.push(format!(
            "IP      no flow matched the filter; {} did not, {}",
            count(filtered.packets, "packet", "packets"),
            exactly(filtered.wire_bytes)
        ));
    } else {
        lines.push(format!(
            "IP      {} in {rows}, {} of IP",
            count(report.ip_packets, "packet", "packets"),
            exactly(report.ip_bytes)
        ));
    }
    if report.estimated > 0 {
        lines.push(format!(
            "~       {} merged by offload before being seen: estimated, on the wire it is more packets and bytes",
            count(report.estimated, "packet was", "packets were")
        ));
    }
    if lost > 0 {
        lines.push(format!("No flow {}:", count(lost, "packet", "packets")));
        for (number, amount) in &report.unaccounted {
            lines.push(format!(
                "  {:<14} {}, {}",
                reason(*number),
                count(amount.packets, "packet", "packets"),
                count(amount.wire_bytes, "byte", "bytes")
            ));
            lines.extend(places(report, *number));
        }
    }
    if report.lost_flows > 0 {
        lines.push(format!(
            "About {} found no room in the table; --table-size makes more.",
            count(report.lost_flows, "flow", "flows")
        ));
    }
    // The least covered first, as it is what must not be cut.
    let mut coverage: Vec<_> = report.coverage.iter().collect();
    if coverage.len() > PLACES {
        coverage.sort_by_key(|(_, ledger)| Reverse(ledger.missing()));
    }
    for ((interface, direction, unit), ledger) in coverage.iter().take(PLACES) {
        lines.push(format!(
            "Covered {ledger} of what {} counts at {}: {}",
            clean(interface),
            Direction::from_u8(*direction).name(),
            both_counts(ledger, unit.noun())
        ));
    }
    lines.extend(more(coverage.len()).map(|more| format!("Covered {more}, with fewer packets missing")));
    if report.late.packets > 0 {
        lines.push(format!(
            "{} out of time order; counted all the same.",
            count(report.late.packets, "packet was", "packets were")
        ));
    }
    lines
}

/// Where packets of a live host without a flow for this reason passed; of many places those of the most packets.
fn places(report: &Report, reason: u8) -> Vec<String> {
    let here = |place: &Unaccounted| report.localities && place.reason == reason;
    let mut places: Vec<_> = report.unaccounted_places.iter().filter(|(place, _)| here(place)).collect();
    if places.len() > PLACES {
        places.sort_by_key(|(_, amount)| Reverse(amount.packets));
    }
    let line = |(place, amount): &(&Unaccounted, &Amount)| {
        format!(
            "    {} {}: {}, {}",
            clean(&place.interface),
            Direction::from_u8(place.direction).name(),
            count(amount.packets, "packet", "packets"),
            count(amount.wire_bytes, "byte", "bytes")
        )
    };
    let mut lines: Vec<String> = places.iter().take(PLACES).map(line).collect();
    lines.extend(more(places.len()).map(|more| format!("    {more}")));
    lines
}

/// `… and 7 more`, of so many places.
fn more(places: usize) -> Option<String> {
    (places > PLACES).then(|| format!("… and {} more", places - PLACES))
}

/// `9,990 of 10,000 frames`; where the difference is not what is missing, with what it means.
fn both_counts(ledger: &Ledger, unit: &str) -> String {
    let (counted, device, missing) = (ledger.counted(), ledger.device(), ledger.missing());
    let both = format!("{} of {} {unit}", grouped(counted), grouped(device));
    if missing == device.saturating_sub(counted) && counted <= device {
        both
    } else if missing > 0 {
        format!("{both}, yet {} missing: at times it counts less than we", grouped(missing))
    } else if ledger.excess() > 0 {
        match counted.saturating_sub(device).saturating_sub(ledger.excess()) {
            0 => format!("{both}: it counts later, or less, than we"),
            edges => format!(
                "{both}: {} passed while counting began or ended; the others it counts later, or not at all",
                grouped(edges)
            ),
        }
    } else {
        format!("{both}: the others passed while counting began or ended")
    }
}

/// `1,234,567 bytes (1.23 MB)`.
fn exactly(value: u64) -> String {
    let exact = count(value, "byte", "bytes");
    if value < 1000 { exact } else { format!("{exact} ({})", bytes(value)) }
}

pub(super) fn dropped(packets: u64) -> String {
    format!(
        "{} lost before counting: the true figures are higher.\n",
        count(packets, "packet was", "packets were")
    )
}

pub(super) fn left_out(report: &Report, hidden: &[Row]) -> String {
    let sum = hidden.iter().map(|row| row.counters.wire_bytes).sum();
    format!(
        "… {} not shown, {} ({}); --top {} shows all\n",
        count(hidden.len() as u64, "row", "rows"),
        bytes(sum),
        share(sum, report.selected().wire_bytes),
        report.rows.len()
    )
}

pub(super) fn table(report: &Report, shown: &[Row], hidden: &[Row], width: Option<usize>) -> String {
    let mut out = String::new();
    if !shown.is_empty() {
        let fits =
            |text: &String| text.lines().all(|line| columns(line.trim_end()) <= width.unwrap_or(usize::MAX));
        let text = Some(draw(report, shown, 2)).filter(fits);
        let text = text.or_else(|| Some(draw(report, shown, 1)).filter(fits));
        out = clipped(&text.unwrap_or_else(|| draw_stacked(report, shown)), width);
    }
    if !hidden.is_empty() {
        out.push_str(&left_out(report, hidden));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    for line in totals(report) {
        out.push_str(&line);
        out.push('\n');
    }
    if report.dropped > 0 {
        out.push_str(&dropped(report.dropped));
    }
    out
}

/// A row's cells: source, destination, then protocol and interface where rows have them, then numbers.
struct Cells {
    src: String,
    dst: String,
    proto: Option<String>,
    interface: Option<String>,
    locality: Option<String>,
    packets: String,
    wire: String,
    ip: String,
    share: String,
}

impl Cells {
    fn new(row: &Row, report: &Report) -> Self {
        let (sport, dport) = row.transport.map_or((None, None), |(_, sport, dport)| ports(sport, dport));
        Self {
            src: endpoint(row.src, sport),
            dst: endpoint(row.dst, dport),
            proto: row.transport.map(|(proto, ..)| protocol(proto).into_owned()),
            interface: row.interface.as_deref().map(|name| clean(name).into_owned()),
            locality: report.localities.then(|| row.locality.short().to_owned()),
            packets: format!("{}{}", estimated_mark(row.counters.estimated), grouped(row.counters.packets)),
            wire: bytes(row.counters.wire_bytes),
            ip: bytes(row.counters.ip_bytes),
            share: share(row.counters.wire_bytes, report.selected().wire_bytes),
        }
    }

    fn heading(report: &Report) -> Self {
        Self {
            src: "Source".to_owned(),
            dst: "Destination".to_owned(),
            proto: (report.kind == KeyKind::Flow).then(|| "Proto".to_owned()),
            interface: report.by_interface.then(|| "Iface".to_owned()),
            locality: report.localities.then(|| "Way".to_owned()),
            packets: "Packets".to_owned(),
            wire: "Wire".to_owned(),
            ip: "IP".to_owned(),
            share: "Share".to_owned(),
        }
    }

    fn flat(self) -> Vec<String> {
        let names = [Some(self.src), Some(self.dst), self.proto, self.interface, self.locality];
        let names = names.into_iter().flatten();
        names.chain([self.packets, self.wire, self.ip, self.share]).collect()
    }

    fn stacked(self) -> Vec<String> {
        let above = [self.proto, self.locality].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let kind: Vec<String> = [Some(above), self.interface].into_iter().flatten().collect();
        vec![
            format!("{}\n→ {}", self.src, self.dst),
            kind.join("\n"),
            format!("{}\n{}", self.packets, self.wire),
            format!("{}\n{}", self.ip, self.share),
        ]
    }
}

fn draw(report: &Report, rows: &[Row], space: u16) -> String {
    let mut table = plain_table();
    let heading = Cells::heading(report).flat();
    let numbers = heading.len() - 4;
    table.set_header(heading);
    table.add_rows(rows.iter().map(|row| Cells::new(row, report).flat()));
    right_align(&mut table, numbers, space);
    table.to_string()
}

/// Two lines a row: two long IPv6 addresses fit 80 columns only one above the other.
fn draw_stacked(report: &Report, rows: &[Row]) -> String {
    let mut table = plain_table();
    table.set_header(Cells::heading(report).stacked());
    table.add_rows(rows.iter().map(|row| Cells::new(row, report).stacked()));
    right_align(&mut table, 2, 1);
    table.to_string()
}

/// Aligns the columns from the `first` one on to the right, and sets the space after every column.
fn right_align(table: &mut Table, first: usize, space: u16) {
    gap(table, space);
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
