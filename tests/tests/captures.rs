//! Every shared capture against its truth. Reads `../shared/captures` beside the project; skipped, with a word,
//! where that is absent. What may differ from the truth, and why, is named in [`ROOM`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;
use wherefore::{
    backend::{Backend as _, Error, FileSettings, pcap_file},
    snapshot::Snapshot,
};
use wherefore_common::{Direction, Reason};

/// How a capture may differ from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// The reference counts blocks that are no packets: so many, with so many bytes.
    NoPackets(u64, u64),
    /// The reference does not know the link type and has nothing: these packets, bytes and IP packets are right.
    UnknownLink(u64, u64, u64),
    /// The reference's protocol of some flows is another: pairs are as in the truth, flows are not looked at.
    Protocol,
    /// The reference clamps lengths to 2^31 - 1: the right total of wire bytes; the rest is as in the truth.
    WireBytes(u64),
}

/// The captures that may differ, with the reason.
const ROOM: &[(&str, Room, &str)] = &[
    ("bad__ng_unknown.pcapng", Room::NoPackets(1, 4), "a block of an unknown type"),
    ("bad__wire4g.pcap", Room::WireBytes(50 * 4_294_967_295), "wire lengths above 2^31"),
    ("mut__snap54.pcap", Room::Protocol, "IPv6 extension chains cut by the snapshot length"),
    ("pcapng-test-generator__output_be_basic_test018.pcapng", Room::NoPackets(4, 152), "custom blocks"),
    ("pcapng-test-generator__output_le_basic_test018.pcapng", Room::NoPackets(4, 152), "custom blocks"),
    (
        "pcapng-test-generator__output_le_advanced_test102.pcapng",
        Room::NoPackets(3, 116),
        "journal and custom blocks",
    ),
    (
        "pcapng-test-generator__output_be_difficult_test202.pcapng",
        Room::NoPackets(3, 116),
        "journal and custom blocks",
    ),
    (
        "pcapng-test-generator__output_le_difficult_test202.pcapng",
        Room::NoPackets(3, 116),
        "journal and custom blocks",
    ),
    ("tcpdump__tests_dsa.pcap", Room::UnknownLink(8, 722, 6), "link type 284"),
    ("tcpdump__tests_dsa-high-vid.pcap", Room::UnknownLink(4, 408, 4), "link type 284"),
    ("tcpdump__tests_edsa-high-vid.pcap", Room::UnknownLink(4, 424, 4), "link type 285"),
    (
        "tcpdump__tests_ip6_frag_asan.pcap",
        Room::Protocol,
        "an IPv6 extension chain cut by the snapshot length",
    ),
    ("tcpdump__tests_juniper_es_oobr.pcap", Room::UnknownLink(1, 262_144, 0), "link type 132"),
    (
        "tcpdump__tests_juniper_monitor_invalid_cookie_length.pcap",
        Room::UnknownLink(1, 82, 0),
        "link type 164",
    ),
];

fn captures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if folder.join("pcap").is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no captures in {}", folder.display());
    None
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder.join("pcap"))
        .expect("folder of captures")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("name in UTF-8"))
        .collect();
    names.sort();
    names
}

/// Everything a file holds, and its fault if it has one.
fn read(path: &Path) -> (Snapshot, Option<Error>) {
    let settings =
        FileSettings { files: vec![path.to_owned()], interval: None, table_size: None, expression: None };
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

/// Packets, wire bytes, IP bytes.
type Amounts = (u64, u64, u64);
/// Source, destination, protocol, ports.
type Name = (IpAddr, IpAddr, u64, u64, u64);

fn add(sum: &mut Amounts, more: Amounts) {
    *sum = (sum.0 + more.0, sum.1 + more.1, sum.2 + more.2);
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

fn pairs(flows: &BTreeMap<Name, Amounts>) -> BTreeMap<(IpAddr, IpAddr), Amounts> {
    let mut pairs = BTreeMap::new();
    for ((src, dst, ..), amounts) in flows {
        add(pairs.entry((*src, *dst)).or_default(), *amounts);
    }
    pairs
}

fn sum<K>(flows: &BTreeMap<K, Amounts>) -> Amounts {
    let mut sum = Amounts::default();
    for amounts in flows.values() {
        add(&mut sum, *amounts);
    }
    sum
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn address(value: &Value, field: &str) -> IpAddr {
    value[field].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{field} of {value}"))
}

fn amounts(value: &Value) -> Amounts {
    (number(value, "packets"), number(value, "wire_bytes"), number(value, "ip_bytes"))
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().expect("list").iter()
}

fn true_flows(truth: &Value) -> BTreeMap<Name, Amounts> {
    let mut flows = BTreeMap::new();
    for flow in list(truth, "flows") {
        let (src, dst) = (address(flow, "src"), address(flow, "dst"));
        let name = (src, dst, number(flow, "proto"), number(flow, "sport"), number(flow, "dport"));
        add(flows.entry(name).or_default(), amounts(flow));
    }
    flows
}

fn true_pairs(truth: &Value) -> BTreeMap<(IpAddr, IpAddr), Amounts> {
    list(truth, "pairs").map(|pair| ((address(pair, "src"), address(pair, "dst")), amounts(pair))).collect()
}

/// What differs, in words.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn check<T: PartialEq + fmt::Debug>(&mut self, what: &str, ours: &T, theirs: &T) {
        if ours != theirs {
            self.0.push(format!("{what}: {ours:?}, not {theirs:?}"));
        }
    }

    fn compare<K: Ord + fmt::Debug>(
        &mut self,
        what: &str,
        ours: &BTreeMap<K, Amounts>,
        theirs: &BTreeMap<K, Amounts>,
    ) {
        for key in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            self.check(&format!("{what} {key:?}"), &ours.get(key), &theirs.get(key));
        }
    }
}

fn differences(folder: &Path, name: &str) -> Vec<String> {
    let (snapshot, fault) = read(&folder.join("pcap").join(name));
    let text = fs::read_to_string(folder.join("truth").join(format!("{name}.json"))).expect("truth");
    let truth: Value = serde_json::from_str(&text).expect("truth is JSON");
    let (ours, mut found) = (flows(&snapshot), Differences::default());
    let total = (snapshot.total().packets, snapshot.total().wire_bytes);
    let all = (number(&truth, "packets"), number(&truth, "wire_bytes"));
    let room = ROOM.iter().find(|(file, ..)| *file == name).map(|(_, room, _)| *room);
    let all = match room {
        Some(Room::NoPackets(blocks, bytes)) => (all.0 - blocks, all.1 - bytes),
        Some(Room::UnknownLink(packets, bytes, _)) => (packets, bytes),
        Some(Room::WireBytes(bytes)) => (all.0, bytes),
        Some(Room::Protocol) | None => all,
    };
    found.check("packets and wire bytes", &total, &all);
    if let Some(Room::UnknownLink(_, _, ip_packets)) = room {
        found.check("IP packets", &sum(&ours).0, &ip_packets);
        found.check("fault", &fault.map(|fault| fault.to_string()), &None);
        return found.0;
    }
    found.check("IP packets", &sum(&ours).0, &number(&truth, "ip_packets"));
    found.check("IP bytes", &sum(&ours).2, &number(&truth, "ip_bytes"));
    let (mut our_pairs, mut true_pairs) = (pairs(&ours), true_pairs(&truth));
    let (mut our_flows, mut true_flows) = (ours, true_flows(&truth));
    if matches!(room, Some(Room::WireBytes(_))) {
        for amounts in our_pairs.values_mut().chain(true_pairs.values_mut()) {
            amounts.1 = 0;
        }
        for amounts in our_flows.values_mut().chain(true_flows.values_mut()) {
            amounts.1 = 0;
        }
    }
    found.compare("pair", &our_pairs, &true_pairs);
    if room != Some(Room::Protocol) {
        found.compare("flow", &our_flows, &true_flows);
    }
    if fault.is_some() != (number(&truth, "rc") != 0) {
        found.0.push(format!("fault: {fault:?}"));
    }
    if !found.0.is_empty() {
        found.0.push(format!("unaccounted: {:?}", snapshot.unaccounted_by_reason()));
    }
    found.0
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
