//! `wherefore interfaces`: what there is to watch, and what is watched when nothing is said.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    backend::{
        self,
        ebpf::xdp_safety::{self, Judgement},
        interfaces::{self, LinkKind, Plan, Request},
        probe::{self, Attached, Device},
    },
    render::{
        Format, Output,
        table::{fit, plain_table},
        text::{clean, columns, csv_line, json_line, wrap},
    },
};

/// One interface, as printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Name.
    pub name: String,
    /// Number by which the kernel knows it.
    pub index: u32,
    /// `up`, `no carrier` or `down`.
    pub state: &'static str,
    /// What a frame begins with: `ethernet`, `ip`, `loopback`, or the number of `linux/if_arp.h`.
    pub link: String,
    /// Kind of a virtual device (`veth`, `bridge`, …).
    pub kind: Option<String>,
    /// Addresses with the length of their prefix.
    pub addresses: Vec<String>,
    /// Largest IP packet in bytes.
    pub mtu: Option<u32>,
    /// Carries a default route.
    pub default_route: bool,
    /// Hook that `--hook tc` uses: `tcx` or `clsact`; `None` where the kernel did not tell.
    pub hook: Option<&'static str>,
    /// What `--hook xdp` comes to: `native`, `refused` because it would change the device, or `no`; `None` where that
    /// could not be found out.
    pub xdp: Option<&'static str>,
    /// Programs attached by anybody.
    pub attached: Vec<Program>,
    /// Watched by what was asked for.
    pub watched: bool,
    /// Another watched interface counts its packets as well: not part of the host's totals.
    pub stacked: bool,
    /// Why it is or is not.
    pub why: String,
}

/// One attached program, as printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// `xdp`, `xdp-generic`, `xdp-offload`, `tcx ingress`, `clsact egress`, …
    pub place: String,
    /// Its number, where the kernel tells.
    pub id: Option<u32>,
    /// Its name, or its filter's.
    pub name: String,
    /// Priority of a clsact filter.
    pub priority: Option<u16>,
}

impl From<&Attached> for Program {
    fn from(attached: &Attached) -> Self {
        Self {
            place: attached.place.to_string(),
            id: attached.id,
            name: attached.name.clone(),
            priority: attached.priority,
        }
    }
}

/// Lists the interfaces of this network namespace, and which of them `request` would watch.
///
/// # Errors
/// When the kernel does not list them.
pub fn run(request: &Request, format: Format, width: Option<usize>) -> Result<Output, backend::Error> {
    let plan = interfaces::plan(request)?;
    // Without what is attached to each, the list is poorer, not wrong.
    let devices = probe::devices().unwrap_or_default();
    let all: Vec<_> = plan.verdicts.iter().map(|verdict| verdict.interface.clone()).collect();
    let xdp = xdp_safety::judge(&all);
    Ok(render(&rows(&plan, &devices, &xdp), request, &plan.unmet, format, width))
}

/// Puts together what is known of each interface. Pure.
#[must_use]
pub fn rows(plan: &Plan, devices: &[Device], xdp: &BTreeMap<u32, Judgement>) -> Vec<Row> {
    plan.verdicts
        .iter()
        .map(|verdict| {
            let interface = &verdict.interface;
            let device = devices.iter().find(|device| device.index == interface.index);
            Row {
                name: interface.name.clone(),
                index: interface.index,
                state: match device {
                    _ if !interface.up => "down",
                    Some(device) if !device.running => "no carrier",
                    _ => "up",
                },
                link: match interface.link {
                    LinkKind::Ethernet => "ethernet".to_owned(),
                    LinkKind::Ip => "ip".to_owned(),
                    LinkKind::Loopback => "loopback".to_owned(),
                    LinkKind::Other(number) => number.to_string(),
                },
                kind: interface.kind.clone(),
                addresses: interface
                    .addresses
                    .iter()
                    .map(|(address, bits)| format!("{address}/{bits}"))
                    .collect(),
                mtu: interface.mtu,
                default_route: interface.default_route,
                hook: device.and_then(|device| device.tcx).map(|tcx| if tcx { "tcx" } else { "clsact" }),
                xdp: xdp.get(&interface.index).and_then(Judgement::name),
                attached: device
                    .map(|device| device.attached.iter().map(Program::from).collect())
                    .unwrap_or_default(),
                watched: verdict.watched,
                stacked: verdict.stacked,
                why: verdict.reason.clone(),
            }
        })
        .collect()
}

/// Prints the rows: JSON is `{"interfaces": […]}`; in CSV addresses and programs are joined by spaces and `; `.
/// `unmet`: names and globs of `request` that lead to nothing that is watched, told apart from the result.
#[must_use]
pub fn render(
    rows: &[Row],
    request: &Request,
    unmet: &[String],
    format: Format,
    width: Option<usize>,
) -> Output {
    #[derive(Serialize)]
    struct Whole<'a> {
        interfaces: &'a [Row],
    }
    let out = match format {
        Format::Json => json_line(&Whole { interfaces: rows }),
        Format::Jsonl => rows.iter().map(json_line).collect(),
        Format::Csv => csv(rows),
        Format::Table => table(rows, *request == Request::default(), width),
    };
    let err = unmet.iter().map(|text| format!("-i {}: nothing to watch by it\n", clean(text))).collect();
    Output { out, err }
}

const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn program(program: &Program) -> String {
    let mut text = program.place.clone();
    if let Some(priority) = program.priority {
        text.push_str(&format!(" pref {priority}"));
    }
    if !program.name.is_empty() {
        text.push_str(&format!(" {}", clean(&program.name)));
    }
    if let Some(id) = program.id {
        text.push_str(&format!(" (program {id})"));
    }
    text
}

fn csv(rows: &[Row]) -> String {
    let mut out = csv_line([
        "name",
        "index",
        "state",
        "link",
        "kind",
        "addresses",
        "mtu",
        "default_route",
        "hook",
        "xdp",
        "attached",
        "watched",
        "stacked",
        "why",
    ]);
    for row in rows {
        out.push_str(&csv_line([
            row.name.clone(),
            row.index.to_string(),
            row.state.to_owned(),
            row.link.clone(),
            row.kind.clone().unwrap_or_default(),
            row.addresses.join(" "),
            row.mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
            row.default_route.to_string(),
            row.hook.unwrap_or_default().to_owned(),
            row.xdp.unwrap_or_default().to_owned(),
            row.attached.iter().map(program).collect::<Vec<_>>().join("; "),
            row.watched.to_string(),
            row.stacked.to_string(),
            row.why.clone(),
        ]));
    }
    out
}

/// `unasked`: by the default alone.
fn table(rows: &[Row], unasked: bool, width: Option<usize>) -> String {
    let whole = draw(rows, true, None);
    // A list beneath where long IPv6 addresses do not fit beside the rest.
    let beside = width.is_none_or(|width| whole.lines().all(|line| columns(line) <= width));
    let mut out = if beside { whole } else { draw(rows, false, width) };
    if !beside {
        out.push('\n');
        for row in rows.iter().filter(|row| !row.addresses.is_empty()) {
            let lines = wrap(&row.addresses.join(" "), width.unwrap_or(usize::MAX).saturating_sub(2));
            out.push_str(&format!("{}:\n  {}\n", clean(&row.name), lines.join("\n  ")));
        }
    }
    out.push('\n');
    let heading = if unasked { "Watched without -i" } else { "Watched" };
    let advice = if unasked { "; name an interface with -i" } else { "" };
    match watched(rows) {
        Some(watched) => out.push_str(&format!("{heading}: {watched}\n")),
        None => out.push_str(&format!("{heading}: nothing{advice}\n")),
    }
    for row in rows.iter().filter(|row| row.watched && row.stacked) {
        out.push_str(&format!("Not part of the host's totals: {} ({})\n", clean(&row.name), row.why));
    }
    for row in rows.iter().filter(|row| !row.watched) {
        out.push_str(&format!("Not watched: {} ({})\n", clean(&row.name), row.why));
    }
    for row in rows {
        for attached in &row.attached {
            out.push_str(&format!("Attached to {}: {}\n", clean(&row.name), program(attached)));
        }
    }
    out
}

/// Those that are watched and why, if that is the same of all after the last; those stacked are explained apart.
fn watched(rows: &[Row]) -> Option<String> {
    let watched: Vec<&Row> = rows.iter().filter(|row| row.watched).collect();
    let reasons: BTreeSet<&str> =
        watched.iter().filter(|row| !row.stacked).map(|row| row.why.as_str()).collect();
    let names: Vec<String> = watched
        .iter()
        .map(|row| match clean(&row.name) {
            name if reasons.len() > 1 && !row.stacked => format!("{name} ({})", row.why),
            name => name.into_owned(),
        })
        .collect();
    let common = reasons.first().filter(|_| reasons.len() == 1).map(|why| format!(" ({why})"));
    (!names.is_empty()).then(|| names.join(", ") + &common.unwrap_or_default())
}

fn draw(rows: &[Row], addresses: bool, width: Option<usize>) -> String {
    let mut table = plain_table();
    let header = ["Name", "State", "Link", "MTU", "Route", "Hook", "XDP", "Watched"];
    table.set_header(header.into_iter().chain(addresses.then_some("Addresses")));
    for row in rows {
        let link = match &row.kind {
            Some(kind) => format!("{} ({})", row.link, clean(kind)),
            None => row.link.clone(),
        };
        let cells = [
            clean(&row.name).into_owned(),
            row.state.to_owned(),
            link,
            row.mtu.map_or_else(|| "?".to_owned(), |mtu| mtu.to_string()),
            if row.default_route { "default" } else { "" }.to_owned(),
            row.hook.unwrap_or("?").to_owned(),
            row.xdp.unwrap_or("?").to_owned(),
            yes(row.watched).to_owned(),
        ];
        table.add_row(cells.into_iter().chain(addresses.then(|| row.addresses.join("\n"))));
    }
    fit(&mut table, 2, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{
        interfaces::{Interface, Memory, choose},
        probe::Place,
    };

    fn interface(index: u32, name: &str, up: bool, default_route: bool) -> Interface {
        Interface {
            index,
            name: name.to_owned(),
            up,
            loopback: name == "lo",
            link: if name == "lo" { LinkKind::Loopback } else { LinkKind::Ethernet },
            addresses: vec![([192, 0, 2, index as u8].into(), 24)],
            mtu: Some(1500),
            default_route,
            ..Interface::default()
        }
    }

    fn example() -> Vec<Row> {
        let all = [
            interface(1, "lo", true, false),
            interface(2, "eth0", true, true),
            interface(3, "x,y", false, false),
        ];
        let attached = Attached {
            place: Place::ClsactIngress,
            id: Some(7),
            name: "other".to_owned(),
            priority: Some(1),
            handle: Some(1),
            leftover: false,
        };
        let devices = [Device {
            index: 2,
            name: "eth0".to_owned(),
            running: true,
            tcx: Some(true),
            attached: vec![attached],
            ..Device::default()
        }];
        let xdp = BTreeMap::from([(2, Judgement::Changes(vec!["everything".to_owned()]))]);
        rows(&choose(&all, &Request::default(), &Memory::default()), &devices, &xdp)
    }

    #[test]
    fn json_has_what_is_known_and_null_for_the_rest() {
        let out = render(&example(), &Request::default(), &[], Format::Jsonl, None).out;
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(
            lines[1],
            concat!(
                r#"{"name":"eth0","index":2,"state":"up","link":"ethernet","kind":null,"#,
                r#""addresses":["192.0.2.2/24"],"mtu":1500,"default_route":true,"hook":"tcx","xdp":"refused","#,
                r#""attached":[{"place":"clsact ingress","id":7,"name":"other","priority":1}],"#,
                r#""watched":true,"stacked":false,"why":"default route"}"#
            )
        );
        assert!(lines[0].contains(r#""hook":null,"xdp":null"#), "{out}");
        assert!(
            lines[2].contains(r#""state":"down""#)
                && lines[2].contains(r#""watched":false,"stacked":false,"why":"down""#),
            "{out}"
        );
        let whole = render(&example(), &Request::default(), &[], Format::Json, None).out;
        assert_eq!(whole, format!("{{\"interfaces\":[{}]}}\n", lines.join(",")));
    }

    #[test]
    fn csv_and_table_hold_every_interface() {
        let csv = render(&example(), &Request::default(), &[], Format::Csv, None).out;
        assert_eq!(csv.lines().count(), 4);
        assert!(csv.contains("\n\"x,y\",3,down,"), "{csv}");
        let table = render(&example(), &Request::default(), &[], Format::Table, Some(80)).out;
        assert!(table.contains("Watched without -i: eth0 (default route)"), "{table}");
        assert!(table.lines().all(|line| columns(line) <= 80), "{table}");
        assert!(table.contains("Not watched: x,y (down)"), "{table}");
        assert!(table.contains("Attached to eth0: clsact ingress pref 1 other (program 7)"), "{table}");
    }

    #[test]
    fn each_is_watched_for_its_own_reason_and_what_leads_nowhere_is_told() {
        let all = [interface(1, "lo", true, false), interface(2, "eth0", true, true)];
        let of = |patterns: &[&str]| {
            let include = patterns.iter().map(|text| text.parse().unwrap()).collect();
            let request = Request { include, ..Request::default() };
            let plan = choose(&all, &request, &Memory::default());
            render(&rows(&plan, &[], &BTreeMap::new()), &request, &plan.unmet, Format::Table, None)
        };
        let Output { out, err } = of(&["lo", "eth*"]);
        assert!(out.contains("\nWatched: lo (named), eth0 (matches eth*)\n") && err.is_empty(), "{out}{err}");
        assert!(of(&["lo", "eth0"]).out.contains("\nWatched: lo, eth0 (named)\n"));
        let Output { out, err } = of(&["eth7", "veth*"]);
        assert!(out.contains("\nWatched: nothing\n"), "{out}");
        assert_eq!(err, "-i eth7: nothing to watch by it\n-i veth*: nothing to watch by it\n");
    }
}
