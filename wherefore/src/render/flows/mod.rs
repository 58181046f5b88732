//! A [`Report`] as `wherefore flows` prints it. JSON, JSON Lines and CSV are a contract: scripts rely on
//! their names and their order.

mod table;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use wherefore_common::{Amount, Direction};

use super::{
    Format, KeyKind, Output, Report, Row,
    text::{csv_line, json_line, reason},
};
use crate::{locality::Locality, time::Timestamp};

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Table, JSON, …
    pub format: Format,
    /// Rows printed at most, the largest; `None`: 20 in a table, else all. The totals are always of all rows.
    pub top: Option<usize>,
    /// Columns of the terminal a table must fit; `None`: as wide as it gets (not a terminal).
    pub width: Option<usize>,
}

/// Rows of a table when nothing is said.
const TABLE_ROWS: usize = 20;

/// Prints a report.
///
/// * JSON: one object, `{"start", "end", "backend", "watched", "interfaces", "packets", "wire_bytes", "ip_packets",
///   "ip_bytes", "unaccounted", "flows"}`; with `"host"` where interfaces are stacked on others, with `"coverage"` and
///   with a `"locality"` of each flow where they are known; without `"start"` and `"end"` where there was no interval;
///   with `"unaccounted_places"` of a live host that has any.
///   `watched` is what was watched when it began, each with `"name"` and `"hook"` (of a capture, path and format).
/// * JSON Lines: a line per flow, as in `flows`; then `{"total": {…}}` with the others.
/// * CSV: a header line and a line per flow; the totals go to standard error.
/// * Table: the largest rows, the totals, and what is not in the rows.
///
/// Where packets were merged by offload and may stand for several on the wire, `estimated` is their number, behind
/// `ip_bytes` of rows and totals; in CSV it is the last column of every row.
///
/// Times are RFC 3339 in UTC with nine digits. Packets lost before counting (`lost`) are in none of the
/// other figures; if there were any, standard error says so.
#[must_use]
pub fn render(report: &Report, options: Options) -> Output {
    let table_only = if options.format == Format::Table { TABLE_ROWS } else { usize::MAX };
    let (shown, hidden) = report.rows.split_at(report.rows.len().min(options.top.unwrap_or(table_only)));
    let (out, mut err) = match options.format {
        Format::Table => {
            return Output { out: table::table(report, shown, hidden, options.width), err: String::new() };
        }
        Format::Json => {
            let flows = lines(report, shown).collect();
            (json_line(&Whole { total: total(report), flows }), String::new())
        }
        Format::Jsonl => {
            let mut out: String = lines(report, shown).map(|row| json_line(&row)).collect();
            out.push_str(&json_line(&LastLine { total: total(report) }));
            (out, String::new())
        }
        Format::Csv => (csv(report, shown), table::totals(report).join("\n") + "\n"),
    };
    if !hidden.is_empty() {
        err.push_str(&table::left_out(report, hidden));
    }
    if report.dropped > 0 {
        err.push_str(&table::dropped(report.dropped));
    }
    Output { out, err }
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    total: Total<'a>,
    flows: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct LastLine<'a> {
    total: Total<'a>,
}

#[derive(Serialize)]
struct Total<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Timestamp>,
    backend: &'static str,
    watched: Vec<Watch<'a>>,
    interfaces: &'a BTreeSet<String>,
    packets: u64,
    wire_bytes: u64,
    ip_packets: u64,
    ip_bytes: u64,
    #[serde(skip_serializing_if = "none")]
    estimated: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Sum>,
    #[serde(serialize_with = "unaccounted")]
    unaccounted: &'a BTreeMap<u8, Amount>,
    /// Not of captures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unaccounted_places: Vec<Place<'a>>,
    /// About how many flows the packets under `table_full` belong to.
    #[serde(skip_serializing_if = "none")]
    lost_flows: u64,
    /// Packets lost before counting: in none of the figures above.
    #[serde(skip_serializing_if = "none")]
    lost: u64,
    /// Packets of a capture that came out of time order, counted all the same.
    #[serde(skip_serializing_if = "none")]
    late: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    coverage: Vec<Covered<'a>>,
}

#[derive(Serialize)]
struct Watch<'a> {
    name: &'a str,
    hook: &'a str,
}

#[derive(Serialize)]
struct Place<'a> {
    reason: Cow<'static, str>,
    interface: &'a str,
    direction: &'static str,
    #[serde(flatten)]
    sum: Sum,
}

#[derive(Serialize)]
struct Covered<'a> {
    interface: &'a str,
    direction: &'static str,
    unit: &'static str,
    counted: u64,
    device: u64,
    /// Of the device's, not counted here. More than the difference, where the device counts too little elsewhere.
    missing: u64,
    /// The part that is not missing, rounded to a millionth.
    share: f64,
}

#[derive(Serialize)]
struct Line<'a> {
    src: IpAddr,
    dst: IpAddr,
    #[serde(flatten)]
    transport: Option<Transport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locality: Option<Locality>,
    packets: u64,
    wire_bytes: u64,
    ip_bytes: u64,
    #[serde(skip_serializing_if = "none")]
    estimated: u64,
    first: Timestamp,
    last: Timestamp,
}

/// A contract with scripts: what is not there is said by leaving it out.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn none(packets: &u64) -> bool {
    *packets == 0
}

#[derive(Serialize)]
struct Transport {
    proto: u8,
    sport: u16,
    dport: u16,
}

#[derive(Serialize)]
struct Sum {
    packets: u64,
    wire_bytes: u64,
}

impl From<&Amount> for Sum {
    fn from(amount: &Amount) -> Self {
        Self { packets: amount.packets, wire_bytes: amount.wire_bytes }
    }
}

fn unaccounted<S: Serializer>(amounts: &BTreeMap<u8, Amount>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(amounts.len()))?;
    for (number, amount) in amounts {
        map.serialize_entry(&reason(*number), &Sum::from(amount))?;
    }
    map.end()
}

fn total(report: &Report) -> Total<'_> {
    let coverage = report.coverage.iter().filter_map(|((interface, direction, unit), ledger)| {
        Some(Covered {
            interface,
            direction: Direction::from_u8(*direction).name(),
            unit: unit.name(),
            counted: ledger.counted(),
            device: ledger.device(),
            missing: ledger.missing(),
            share: (ledger.share()? * 1e6).round() / 1e6,
        })
    });
    let watched = report.description.watched.iter();
    let places = report.unaccounted_places.iter().filter(|_| report.localities);
    let places = places.map(|(place, amount)| Place {
        reason: reason(place.reason),
        interface: &place.interface,
        direction: Direction::from_u8(place.direction).name(),
        sum: amount.into(),
    });
    Total {
        start: report.span.map(|(start, _)| start),
        end: report.span.map(|(_, end)| end),
        backend: report.description.backend,
        watched: watched.map(|watched| Watch { name: &watched.name, hook: &watched.hook }).collect(),
        interfaces: &report.interfaces,
        packets: report.total.packets,
        wire_bytes: report.total.wire_bytes,
        ip_packets: report.ip_packets,
        ip_bytes: report.ip_bytes,
        estimated: report.estimated,
        host: report.host.as_ref().map(Sum::from),
        unaccounted: &report.unaccounted,
        unaccounted_places: places.collect(),
        lost_flows: report.lost_flows,
        lost: report.dropped,
        late: report.late.packets,
        coverage: coverage.collect(),
    }
}

fn lines<'a>(report: &Report, rows: &'a [Row]) -> impl Iterator<Item = Line<'a>> {
    let localities = report.localities;
    rows.iter().map(move |row| Line {
        src: row.src,
        dst: row.dst,
        transport: row.transport.map(|(proto, sport, dport)| Transport { proto, sport, dport }),
        interface: row.interface.as_deref(),
        locality: localities.then_some(row.locality),
        packets: row.counters.packets,
        wire_bytes: row.counters.wire_bytes,
        ip_bytes: row.counters.ip_bytes,
        estimated: row.counters.estimated,
        first: Timestamp(row.counters.first_ns),
        last: Timestamp(row.counters.last_ns),
    })
}

fn csv(report: &Report, rows: &[Row]) -> String {
    let mut header = vec!["src", "dst"];
    if report.kind == KeyKind::Flow {
        header.extend(["proto", "sport", "dport"]);
    }
    if report.by_interface {
        header.push("interface");
    }
    if report.localities {
        header.push("locality");
    }
    header.extend(["packets", "wire_bytes", "ip_bytes", "first", "last", "estimated"]);
    let mut out = csv_line(header);
    for row in lines(report, rows) {
        let mut fields = vec![row.src.to_string(), row.dst.to_string()];
        if let Some(Transport { proto, sport, dport }) = row.transport {
            fields.extend([proto.to_string(), sport.to_string(), dport.to_string()]);
        }
        fields.extend(row.interface.map(str::to_owned));
        fields.extend(row.locality.map(|locality| locality.name().to_owned()));
        fields.extend([row.packets, row.wire_bytes, row.ip_bytes].map(|number| number.to_string()));
        fields.extend([row.first.to_string(), row.last.to_string(), row.estimated.to_string()]);
        out.push_str(&csv_line(fields));
    }
    out
}

#[cfg(test)]
mod tests;
