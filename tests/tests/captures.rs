//! Every shared capture against its truth. Reads `../shared/captures` beside the project; skipped, with a word,
//! where that is absent. What may differ from the truth, and why, is named in [`ROOM`].

use std::{collections::BTreeMap, path::Path};

use wherefore::{
    backend::{Backend as _, Error, FileSettings, pcap_file},
    filter::CidrFilter,
    snapshot::Snapshot,
};
use wherefore_common::{Direction, Reason};
use wherefore_tests::truth::{self, Amounts, Counted, Name, ROOM, add, captures, names, pairs, sum};

/// Everything a file holds, and its fault if it has one.
fn read(path: &Path) -> (Snapshot, Option<Error>) {
    let settings = FileSettings {
        files: vec![path.to_owned()],
        interval: None,
        table_size: None,
        expression: None,
        filter: CidrFilter::default(),
    };
    let mut backend = pcap_file::open(&settings).expect("capture opens");
    let (mut snapshot, mut fault) = (Snapshot::default(), None);
    loop {
        match backend.poll() {
            Ok(Some(more)) => {
                assert_eq!(snapshot, Snapshot::default(), "one interval without a length");
                snapshot = more;
            }
            Ok(None) => return (snapshot, fault),
            Err(error) => {
                assert!(fault.is_none(), "one fault a file");
                fault = Some(error);
            }
        }
    }
}

/// Amounts by flow, over all interfaces.
fn flows(snapshot: &Snapshot) -> BTreeMap<Name, Amounts> {
    let mut flows = BTreeMap::new();
    for flow in &snapshot.flows {
        assert_eq!(flow.direction(), Direction::Unknown);
        let (key, counters) = (flow.key, flow.counters);
        let name = (flow.src(), flow.dst(), key.proto.into(), key.sport.into(), key.dport.into());
        add(flows.entry(name).or_default(), (counters.packets, counters.wire_bytes, counters.ip_bytes));
    }
    flows
}

fn differences(folder: &Path, name: &str) -> Vec<String> {
    let (snapshot, fault) = read(&folder.join("pcap").join(name));
    let (flows, total) = (flows(&snapshot), snapshot.total());
    let counted = Counted {
        packets: total.packets,
        wire_bytes: total.wire_bytes,
        pairs: pairs(&flows),
        flows: Some(flows),
        fault: fault.map(|fault| fault.to_string()),
    };
    let mut found = truth::differences(folder, name, counted);
    if !found.is_empty() {
        found.push(format!("unaccounted: {:?}", snapshot.unaccounted_by_reason()));
    }
    found
}

#[test]
fn every_capture_has_its_truth() {
    let Some(folder) = captures() else { return };
    let names = names(&folder);
    for (name, _, reason) in ROOM {
        assert!(names.iter().any(|known| known == name), "room for {name}, which is not there: {reason}");
    }
    let mut wrong = 0;
    for name in &names {
        let differences = differences(&folder, name);
        if !differences.is_empty() {
            wrong += 1;
            eprintln!("{name}\n    {}", differences.join("\n    "));
        }
    }
    assert_eq!(wrong, 0, "of {} captures", names.len());
}

/// The same packets in every encoding give the same flows, and the same IP packets behind every link header.
#[test]
fn sets_agree() {
    let Some(folder) = captures() else { return };
    let names = names(&folder);
    let flows_of = |name: &str| flows(&read(&folder.join("pcap").join(name)).0);
    let of_set = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).collect::<Vec<_>>();

    let reference = flows_of("mut__same_le_us.pcap");
    assert_eq!((pairs(&reference).len(), sum(&reference).0), (331, 913));
    let same = of_set("mut__same_");
    assert!(same.len() > 3, "{same:?}");
    for name in same {
        assert_eq!(flows_of(name), reference, "{name}");
    }

    let ip_only = |name: &str| -> BTreeMap<Name, (u64, u64)> {
        flows_of(name).into_iter().map(|(flow, (packets, _, bytes))| (flow, (packets, bytes))).collect()
    };
    let behind = of_set("mut__l2_");
    assert!(behind.len() > 3, "{behind:?}");
    for name in &behind {
        let flows = flows_of(name);
        let (packets, _, ip_bytes) = sum(&flows);
        assert_eq!((flows.len(), pairs(&flows).len(), packets, ip_bytes), (346, 326, 907, 74_419), "{name}");
        assert_eq!(ip_only(name), ip_only(behind[0]), "{name}");
    }

    let outer = [of_set("mut__tun_"), of_set("mut__icmp_error")].concat();
    assert!(outer.len() > 2, "{outer:?}");
    for name in outer {
        let flows = flows_of(name);
        assert_eq!((pairs(&flows).len(), sum(&flows).0), (1, 907), "{name}");
    }
}

/// The shared captures show every reason that a parser can give, so one that is never given is noticed.
#[test]
fn reasons_are_given() {
    let Some(folder) = captures() else { return };
    let mut seen = BTreeMap::<Reason, u64>::new();
    for name in names(&folder) {
        for (reason, amount) in read(&folder.join("pcap").join(name)).0.unaccounted_by_reason() {
            *seen.entry(reason).or_default() += amount.packets;
        }
    }
    for reason in [
        Reason::NonIp,
        Reason::LinkTruncated,
        Reason::IpTruncated,
        Reason::IpVersion,
        Reason::IpHeader,
        Reason::LinkType,
    ] {
        assert!(seen.contains_key(&reason), "{reason:?} in {seen:?}");
    }
}
