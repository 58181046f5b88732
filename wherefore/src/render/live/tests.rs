use proptest::prelude::*;
use wherefore_common::{Amount, Reason, UnaccountedKey};

use super::{words::PLACES, *};
use crate::{
    backend::Watched,
    coverage::{self, Compared, Coverage, Ledger, Unit, Verdict},
    render::{
        summary::tests::snapshots,
        text::{columns, endpoint, grouped, ports},
    },
    snapshot::Flow,
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

fn view<'a>(description: &'a Description, recent: &'a [String], width: usize, height: usize) -> LiveView<'a> {
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
    let recent: Vec<String> = std::iter::repeat_n("old news".to_owned(), 20).chain([alert.clone()]).collect();
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
        interfaces: [(0, "(any)"), (2, "eth0"), (7, "ve1\x1b")].map(|(i, name)| (i, name.to_owned())).into(),
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
        let counters = wherefore_common::FlowCounters { packets: 10, wire_bytes: 1000, ..Default::default() };
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
        let (interval, span) = (Compared { counted, device: 10_000, edges: 0 }, Duration::from_secs(62));
        let mut window = Ledger::default();
        window.add(&interval, span);
        Coverage { unit: Unit::OnWire, interval, window, span, packets: 10_000, lost: 0, verdict }
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
    let warning =
        "62.0% of what eth\\u{1b}0 counts at egress is counted here, 3,800 of 10,000 frames are missing";
    assert!(table.contains(warning), "{table}");
    assert!(interval_line(&snapshot).contains(" · coverage 62.0%"));

    // Few packets have many bytes.
    let few = Coverage { unit: Unit::Bytes, packets: coverage::FEW - 1, ..covered(5_000, Verdict::Fine) };
    snapshot.coverage.insert((1, 0), few);
    assert!(interval_line(&snapshot).contains(" · coverage 62.0%"));
    snapshot.coverage.insert((1, 0), Coverage { packets: coverage::FEW, ..few });
    assert!(interval_line(&snapshot).contains(" · coverage 50.0%"));
}

#[test]
fn losses_and_silence_are_warned_of() {
    let mut snapshot = Snapshot { length: Duration::from_secs(5), complete: true, ..Snapshot::default() };
    let description = description();
    let view = view(&description, &[], 100, 24);
    assert!(live_table(&snapshot, &view).contains("! not one packet"));
    snapshot.dropped = [((1, 0), 2), ((1, 1), 1)].into();
    let key = UnaccountedKey { reason: Reason::TableFull as u8, proto: 6, ..UnaccountedKey::default() };
    snapshot.add_unaccounted(key, Amount { packets: 1000, wire_bytes: 60_000 });
    let table = live_table(&snapshot, &view);
    assert!(table.contains("! 1,000 packets (60.0 kB) in no flow"), "{table}");
    assert!(table.contains("! 3 packets lost"), "{table}");
    assert!(!table.contains("not one packet"), "{table}");
}

#[test]
fn a_run_too_short_for_any_alert_says_what_it_would_take() {
    let interval = Duration::from_secs(5);
    let text = too_short(2, 10, interval);
    assert!(text.contains("10 intervals of 5 s are needed, 50 s in all"), "{text}");
    assert_eq!((too_short(10, 10, interval), too_short(0, 0, interval)), (String::new(), String::new()));
}

#[test]
fn packets_in_no_flow_are_told_by_interface_and_direction() {
    let mut snapshot = Snapshot {
        interfaces: (1..=2000).map(|index| (index, format!("veth{index}"))).collect(),
        ..Snapshot::default()
    };
    let key = |ifindex, direction| UnaccountedKey {
        ifindex,
        direction,
        reason: Reason::Filtered as u8,
        ..UnaccountedKey::default()
    };
    snapshot.add_unaccounted(key(1, 0), Amount { packets: 60, wire_bytes: 3_600 });
    snapshot.add_unaccounted(key(2, 1), Amount { packets: 1_234, wire_bytes: 99_000 });
    let told = |snapshot: &Snapshot| {
        let mut totals = Totals::default();
        totals.add(snapshot);
        assert!(totals.unaccounted.values().all(|places| places.len() <= PLACES + 2));
        closing(&totals, Duration::from_secs(1), 0)
    };
    let text = told(&snapshot);
    let expected = "in no flow, filtered: 1,294 packets, 102,600 bytes (veth2 out 1,234, veth1 in 60)\n";
    assert!(text.contains(expected), "{text}");
    for index in 3..=2000 {
        snapshot.add_unaccounted(key(index, 0), Amount { packets: 1, wire_bytes: 60 });
    }
    let text = told(&snapshot);
    // Of 1,024 places 1,022 have one packet, and the others the rest.
    assert!(
        text.contains(" (veth2 out 1,234, others in 976, veth1 in 60, ") && text.contains(", …)"),
        "{text}"
    );
    // A capture does not know which way.
    let mut capture = Snapshot::default();
    capture.add_unaccounted(key(1, 2), Amount { packets: 5, wire_bytes: 300 });
    assert!(told(&capture).contains("in no flow, filtered: 5 packets, 300 bytes\n"));
}
