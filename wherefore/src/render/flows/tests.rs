use proptest::prelude::*;
use serde_json::Value;
use wherefore_common::{FlowCounters, FlowKey, Reason, UnaccountedKey};

use std::time::Duration;

use super::*;
use crate::{
    backend::{Description, Watched},
    coverage::{Compared, Coverage, Ledger, Unit, Verdict},
    render::{
        Summary,
        summary::tests::{report, snapshots},
        text::columns,
    },
    snapshot::{Flow, Snapshot},
};

const JSON: Options = Options { format: Format::Json, top: None, width: None };

fn v4(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last]
}

fn flow(src: u8, family: u8, ifindex: u32, sport: u16, packets: u64, times: (u64, u64)) -> Flow {
    Flow {
        key: FlowKey {
            src: v4(src),
            dst: v4(200),
            ifindex,
            sport,
            dport: 443,
            proto: 6,
            family,
            direction: ifindex as u8 % 2,
            pad: [0; 5],
        },
        counters: FlowCounters {
            packets,
            wire_bytes: packets * 114,
            ip_bytes: packets * 100,
            first_ns: times.0,
            last_ns: times.1,
            ..FlowCounters::default()
        },
        own: false,
        ignored: false,
        locality: Default::default(),
    }
}

/// Two intervals; one conversation crosses two interfaces, its addresses also occur mapped in IPv6.
fn intervals() -> [Snapshot; 2] {
    let interfaces: BTreeMap<u32, String> = [(1, "eth0".to_owned()), (2, "e,\"1".to_owned())].into();
    let seconds = |seconds: u64| Timestamp(1_700_000_000_000_000_000 + seconds * 1_000_000_000);
    let mut first = Snapshot {
        start: seconds(0),
        end: seconds(1),
        interfaces: interfaces.clone(),
        flows: vec![
            flow(9, 4, 1, 1000, 2, (1_700_000_000_000_000_001, 1_700_000_000_500_000_000)),
            flow(10, 4, 1, 1000, 2, (1_700_000_000_000_000_003, 1_700_000_000_000_000_003)),
            flow(9, 6, 1, 1000, 2, (1_700_000_000_000_000_004, 1_700_000_000_000_000_004)),
        ],
        ..Snapshot::default()
    };
    let key = |reason| UnaccountedKey { ifindex: 1, reason, ..UnaccountedKey::default() };
    first.add_unaccounted(key(Reason::Filtered as u8), Amount { packets: 3, wire_bytes: 180 });
    first.add_unaccounted(key(Reason::NonIp as u8), Amount { packets: 1, wire_bytes: 42 });
    first.add_unaccounted(key(Reason::TableFull as u8), Amount::default());
    let second = Snapshot {
        start: seconds(1),
        end: seconds(5),
        interfaces,
        flows: vec![
            flow(9, 4, 2, 1000, 1, (1_700_000_001_000_000_000, 1_700_000_002_000_000_000)),
            flow(9, 4, 2, 1001, 1, (1_700_000_001_000_000_000, 1_700_000_001_000_000_000)),
        ],
        ..Snapshot::default()
    };
    [first, second]
}

fn printed(kind: KeyKind, by_interface: bool, options: Options) -> Output {
    let mut summary = Summary::new(kind, by_interface);
    intervals().iter().for_each(|snapshot| summary.add(snapshot));
    let watched = vec![Watched { name: "eth0".to_owned(), hook: "tcx".to_owned() }];
    let description = Description { backend: "ebpf", watched, ..Description::default() };
    render(&Report { description, ..summary.finish() }, options)
}

#[test]
fn json_by_flow_is_the_contract() {
    let expected = concat!(
        r#"{"start":"2023-11-14T22:13:20.000000000Z","end":"2023-11-14T22:13:25.000000000Z","backend":"ebpf","#,
        r#""watched":[{"name":"eth0","hook":"tcx"}],"interfaces":["e,\"1","eth0"],"#,
        r#""packets":12,"wire_bytes":1134,"ip_packets":8,"ip_bytes":800,"#,
        r#""unaccounted":{"non_ip":{"packets":1,"wire_bytes":42},"filtered":{"packets":3,"wire_bytes":180}},"#,
        r#""flows":["#,
        r#"{"src":"192.0.2.9","dst":"192.0.2.200","proto":6,"sport":1000,"dport":443,"packets":3,"#,
        r#""wire_bytes":342,"ip_bytes":300,"first":"2023-11-14T22:13:20.000000001Z","#,
        r#""last":"2023-11-14T22:13:22.000000000Z"},"#,
        r#"{"src":"192.0.2.10","dst":"192.0.2.200","proto":6,"sport":1000,"dport":443,"packets":2,"#,
        r#""wire_bytes":228,"ip_bytes":200,"first":"2023-11-14T22:13:20.000000003Z","#,
        r#""last":"2023-11-14T22:13:20.000000003Z"},"#,
        r#"{"src":"::ffff:192.0.2.9","dst":"::ffff:192.0.2.200","proto":6,"sport":1000,"dport":443,"#,
        r#""packets":2,"wire_bytes":228,"ip_bytes":200,"first":"2023-11-14T22:13:20.000000004Z","#,
        r#""last":"2023-11-14T22:13:20.000000004Z"},"#,
        r#"{"src":"192.0.2.9","dst":"192.0.2.200","proto":6,"sport":1001,"dport":443,"packets":1,"#,
        r#""wire_bytes":114,"ip_bytes":100,"first":"2023-11-14T22:13:21.000000000Z","#,
        r#""last":"2023-11-14T22:13:21.000000000Z"}]}"#,
        "\n"
    );
    let output = printed(KeyKind::Flow, false, JSON);
    assert_eq!(output.out, expected);
    assert_eq!(output.err, "");
}

#[test]
fn json_by_pair_has_no_transport() {
    let output = printed(KeyKind::Pair, false, JSON);
    let rows = concat!(
        r#""flows":[{"src":"192.0.2.9","dst":"192.0.2.200","packets":4,"wire_bytes":456,"ip_bytes":400,"#,
        r#""first":"2023-11-14T22:13:20.000000001Z","last":"2023-11-14T22:13:22.000000000Z"},"#,
    );
    assert!(output.out.contains(rows), "{}", output.out);
    assert!(!output.out.contains("port") && !output.out.contains("proto"));
}

#[test]
fn by_interface_splits_rows_and_names_each() {
    let output = printed(KeyKind::Flow, true, Options { format: Format::Csv, ..JSON });
    let mut lines = output.out.lines();
    assert_eq!(
        lines.next(),
        Some("src,dst,proto,sport,dport,interface,packets,wire_bytes,ip_bytes,first,last,estimated")
    );
    assert_eq!(lines.clone().count(), 5);
    assert!(output.out.contains(
        "192.0.2.9,192.0.2.200,6,1000,443,\"e,\"\"1\",1,114,100,\
         2023-11-14T22:13:21.000000000Z,2023-11-14T22:13:22.000000000Z,0\n"
    ));
    assert!(output.err.contains("Total   12 packets, 1,134 bytes (1.13 kB) on the wire"), "{}", output.err);
    let json = printed(KeyKind::Flow, true, JSON).out;
    assert!(json.contains(r#""dport":443,"interface":"e,\"1","packets":1"#), "{json}");
}

/// A live host knows its addresses, and which interfaces carry the same packets.
#[test]
fn a_live_host_says_which_way_and_what_counts_once() {
    let mut summary = Summary::new(KeyKind::Pair, false);
    for mut snapshot in intervals() {
        let own = [([192, 0, 2, 9].into(), 24)];
        snapshot.host_addresses = Some(std::sync::Arc::new(crate::locality::HostAddresses::new(own)));
        snapshot.stacked = [2].into();
        crate::enrich::locality::mark(&mut snapshot);
        summary.add(&snapshot);
    }
    let report = summary.finish();
    let json = render(&report, JSON).out;
    assert!(json.contains(r#","packets":12,"wire_bytes":1134,"ip_packets":8,"ip_bytes":800,"host":{"packets":10,"wire_bytes":906},"#), "{json}");
    assert!(
        json.contains(r#""src":"192.0.2.9","dst":"192.0.2.200","locality":"outgoing","packets":4"#),
        "{json}"
    );
    assert!(json.contains(r#""src":"192.0.2.10","dst":"192.0.2.200","locality":"forwarded","#), "{json}");
    let csv = render(&report, Options { format: Format::Csv, ..JSON });
    assert!(csv.out.starts_with("src,dst,locality,packets,"), "{}", csv.out);
    assert!(csv.err.contains("Host    10 packets, 906 bytes, each once"), "{}", csv.err);
    let table = render(&report, Options { format: Format::Table, top: None, width: Some(80) }).out;
    assert!(table.contains("Way") && table.contains(" fwd "), "{table}");
}

#[test]
fn nothing_at_all_is_still_one_object() {
    let output = render(&Summary::new(KeyKind::Flow, false).finish(), JSON);
    assert_eq!(
        output.out,
        "{\"backend\":\"\",\"watched\":[],\"interfaces\":[],\"packets\":0,\"wire_bytes\":0,\"ip_packets\":0,\"ip_bytes\":0,\"unaccounted\":{},\"flows\":[]}\n"
    );
}

#[test]
fn coverage_is_told_by_interface_direction_and_unit() {
    let mut summary = Summary::new(KeyKind::Flow, false);
    for mut snapshot in intervals() {
        for (direction, counted, device) in [(0, 0, 0), (1, 31, 50)] {
            let interval = Compared { counted, device, edges: 0 };
            snapshot.coverage.insert(
                (1, direction),
                Coverage {
                    unit: Unit::HandedOver,
                    interval,
                    window: Ledger::default(),
                    span: Duration::default(),
                    packets: device,
                    lost: 0,
                    verdict: Verdict::Low,
                },
            );
        }
        summary.add(&snapshot);
    }
    let report = summary.finish();
    let json = render(&report, JSON).out;
    let expected = concat!(
        r#","coverage":[{"interface":"eth0","direction":"egress","unit":"handed_over","#,
        r#""counted":62,"device":100,"missing":38,"share":0.62}],"flows":["#
    );
    assert!(json.contains(expected), "{json}");
    let lines = render(&report, Options { format: Format::Jsonl, ..JSON }).out;
    assert!(lines.lines().last().is_some_and(|line| line.contains(r#""share":0.62"#)), "{lines}");
    let table = render(&report, Options { format: Format::Table, ..JSON }).out;
    assert!(table.contains("Covered 62.0% of what eth0 counts at egress: 62 of 100 packets"), "{table}");
}

#[test]
fn packets_in_no_flow_are_told_by_interface_and_direction_on_a_live_host() {
    let mut snapshot = Snapshot { interfaces: [(1, "eth0".to_owned())].into(), ..Snapshot::default() };
    for (direction, packets) in [(0, 60), (1, 40)] {
        let reason = Reason::Filtered as u8;
        let key = UnaccountedKey::new(1, direction, reason);
        snapshot.add_unaccounted(key, Amount { packets, wire_bytes: packets * 60 });
    }
    let report = |snapshot: &Snapshot| {
        let mut summary = Summary::new(KeyKind::Flow, false);
        summary.add(snapshot);
        summary.finish()
    };
    let capture = render(&report(&snapshot), JSON).out;
    assert!(!capture.contains("unaccounted_places"), "{capture}");
    snapshot.host_addresses = Some(Default::default());
    let json = render(&report(&snapshot), JSON).out;
    let expected = concat!(
        r#""unaccounted":{"filtered":{"packets":100,"wire_bytes":6000}},"unaccounted_places":["#,
        r#"{"reason":"filtered","interface":"eth0","direction":"ingress","packets":60,"wire_bytes":3600},"#,
        r#"{"reason":"filtered","interface":"eth0","direction":"egress","packets":40,"wire_bytes":2400}]"#
    );
    assert!(json.contains(expected), "{json}");
    let table = render(&report(&snapshot), Options { format: Format::Table, ..JSON }).out;
    let lines = "filtered       100 packets, 6,000 bytes\n    eth0 ingress: 60 packets, 3,600 bytes\n";
    assert!(table.contains(lines), "{table}");
}

#[test]
fn a_table_tells_few_of_many_interfaces_and_json_all() {
    let mut snapshot = Snapshot { host_addresses: Some(Default::default()), ..Snapshot::default() };
    for ifindex in 1..=30 {
        snapshot.interfaces.insert(ifindex, format!("veth{ifindex}"));
        let key = UnaccountedKey::new(ifindex, 0, Reason::NonIp as u8);
        snapshot.add_unaccounted(key, Amount { packets: u64::from(ifindex), wire_bytes: 60 });
        let interval = Compared { counted: 100, device: 100 + u64::from(ifindex), edges: 0 };
        snapshot.coverage.insert(
            (ifindex, 1),
            Coverage {
                unit: Unit::HandedOver,
                interval,
                window: Ledger::default(),
                span: Duration::default(),
                packets: 100,
                lost: 0,
                verdict: Verdict::Low,
            },
        );
    }
    let mut summary = Summary::new(KeyKind::Flow, false);
    summary.add(&snapshot);
    let report = summary.finish();
    let table = render(&report, Options { format: Format::Table, ..JSON }).out;
    for (told, left) in [("    veth", "    … and 20 more\n"), ("of what veth", "Covered … and 20 more, ")]
    {
        let lines: Vec<&str> = table.lines().filter(|line| line.contains(told)).collect();
        assert_eq!(lines.len(), 10, "{table}");
        assert!(lines[0].contains("veth30 ") && lines[9].contains("veth21 "), "{table}");
        assert!(table.contains(left), "{table}");
    }
    let json = render(&report, JSON).out;
    for place in
        [r#""interface":"veth1","direction":"ingress""#, r#""interface":"veth1","direction":"egress""#]
    {
        assert!(json.contains(place), "{json}");
    }
}

#[test]
fn lost_packets_are_told_beside_the_data() {
    let late = Amount { packets: 2, wire_bytes: 120 };
    let mut summary = Summary::new(KeyKind::Flow, false);
    summary.add(&Snapshot { dropped: [((1, 0), 7)].into(), late, ..Snapshot::default() });
    let report = summary.finish();
    for format in [Format::Json, Format::Jsonl, Format::Csv] {
        let output = render(&report, Options { format, ..JSON });
        assert!(output.err.contains("7 packets were lost"));
        assert_eq!(output.out.contains(r#""lost":7,"late":2"#), format != Format::Csv, "{}", output.out);
    }
    assert!(render(&report, Options { format: Format::Table, ..JSON }).out.contains("7 packets were lost"));
}

#[test]
fn a_table_says_what_it_leaves_out() {
    let options = Options { format: Format::Table, top: Some(1), width: Some(80) };
    let out = printed(KeyKind::Flow, false, options).out;
    assert!(out.contains("192.0.2.9:1000"), "{out}");
    // Of the 954 bytes that no filter excluded.
    assert!(out.contains("3 rows not shown, 570 B (59.7%)"), "{out}");
    assert!(out.contains("No flow 4 packets:"), "{out}");
    assert!(out.contains("  filtered       3 packets, 180 bytes"), "{out}");
    let json = printed(KeyKind::Flow, false, Options { top: Some(1), ..JSON });
    assert!(json.out.contains(r#","packets":12,"#) && json.out.matches("src").count() == 1, "{}", json.out);
    assert!(json.err.contains("3 rows not shown"), "{}", json.err);
}

proptest! {
    #[test]
    fn json_sums_hold_for_a_reader(snapshots in snapshots(), by_interface: bool, pair: bool) {
        let kind = if pair { KeyKind::Pair } else { KeyKind::Flow };
        let report = report(&snapshots, kind, by_interface);
        let json: Value = serde_json::from_str(&render(&report, JSON).out).map_err(|e| {
            TestCaseError::fail(e.to_string())
        })?;
        let sum = |rows: &Value, field: &str| -> u64 {
            let values: Vec<&Value> = match rows {
                Value::Array(rows) => rows.iter().collect(),
                Value::Object(rows) => rows.values().collect(),
                _ => Vec::new(),
            };
            values.into_iter().filter_map(|row| row[field].as_u64()).sum()
        };
        for field in ["packets", "wire_bytes"] {
            let all = sum(&json["flows"], field) + sum(&json["unaccounted"], field);
            prop_assert_eq!(json[field].as_u64(), Some(all));
        }
        prop_assert_eq!(json["ip_packets"].as_u64(), Some(sum(&json["flows"], "packets")));
        prop_assert_eq!(json["ip_bytes"].as_u64(), Some(sum(&json["flows"], "ip_bytes")));

        let lines = render(&report, Options { format: Format::Jsonl, ..JSON }).out;
        let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        prop_assert_eq!(lines.len(), report.rows.len() + 1);
        prop_assert_eq!(&lines[report.rows.len()]["total"]["packets"], &json["packets"]);
        let flows = json["flows"].as_array().map_or(&[][..], Vec::as_slice);
        prop_assert_eq!(&lines[..report.rows.len()], flows);
    }

    #[test]
    fn a_table_fits_its_terminal(snapshots in snapshots(), width in 80usize..200, top in 0usize..50) {
        let report = report(&snapshots, KeyKind::Flow, true);
        let out = render(&report, Options { format: Format::Table, top: Some(top), width: Some(width) }).out;
        for line in out.lines() {
            prop_assert!(columns(line) <= width, "{line}");
        }
    }
}
