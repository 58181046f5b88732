//! The shared captures and what is true of each. Reads `../shared/captures` beside the project. What may
//! differ from the truth, and why, is named in [`ROOM`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// How a capture may differ from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
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
pub const ROOM: &[(&str, Room, &str)] = &[
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

/// The folder of captures; `None`, with a word, where there is none.
#[must_use]
pub fn captures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if folder.join("pcap").is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no captures in {}", folder.display());
    None
}

/// The captures' names, sorted.
///
/// # Panics
/// When the folder cannot be read.
#[must_use]
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder.join("pcap"))
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            entry.file_name().to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Packets, wire bytes, IP bytes.
pub type Amounts = (u64, u64, u64);
/// Source, destination, protocol, ports.
pub type Name = (IpAddr, IpAddr, u64, u64, u64);

/// Adds to a sum.
pub fn add(sum: &mut Amounts, more: Amounts) {
    *sum = (sum.0 + more.0, sum.1 + more.1, sum.2 + more.2);
}

/// Flows summed by pair of addresses.
#[must_use]
pub fn pairs(flows: &BTreeMap<Name, Amounts>) -> BTreeMap<(IpAddr, IpAddr), Amounts> {
    let mut pairs = BTreeMap::new();
    for ((src, dst, ..), amounts) in flows {
        add(pairs.entry((*src, *dst)).or_default(), *amounts);
    }
    pairs
}

/// All of them summed.
#[must_use]
pub fn sum<K>(flows: &BTreeMap<K, Amounts>) -> Amounts {
    let mut sum = Amounts::default();
    for amounts in flows.values() {
        add(&mut sum, *amounts);
    }
    sum
}

/// A number of an object.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} of {value}"))
}

/// An address of an object.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn address(value: &Value, field: &str) -> IpAddr {
    value[field].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{field} of {value}"))
}

/// The amounts of a row.
///
/// # Panics
/// When one is missing.
#[must_use]
pub fn amounts(value: &Value) -> Amounts {
    (number(value, "packets"), number(value, "wire_bytes"), number(value, "ip_bytes"))
}

/// A list of an object.
///
/// # Panics
/// When it is none.
pub fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().unwrap_or_else(|| panic!("{field} of {value}")).iter()
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

/// What was counted of a capture.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Packets, whatever became of them.
    pub packets: u64,
    /// Their bytes on the wire.
    pub wire_bytes: u64,
    /// By pair of addresses.
    pub pairs: BTreeMap<(IpAddr, IpAddr), Amounts>,
    /// By flow, where that was asked for.
    pub flows: Option<BTreeMap<Name, Amounts>>,
    /// What is wrong with the file.
    pub fault: Option<String>,
}

/// What differs from the truth, in words.
///
/// # Panics
/// When the truth cannot be read.
#[must_use]
pub fn differences(folder: &Path, name: &str, counted: Counted) -> Vec<String> {
    let path = folder.join("truth").join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let truth: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let Counted { packets, wire_bytes, pairs: mut our_pairs, flows: mut our_flows, fault } = counted;
    let mut found = Differences::default();
    let all = (number(&truth, "packets"), number(&truth, "wire_bytes"));
    let room = ROOM.iter().find(|(file, ..)| *file == name).map(|(_, room, _)| *room);
    let all = match room {
        Some(Room::NoPackets(blocks, bytes)) => (all.0 - blocks, all.1 - bytes),
        Some(Room::UnknownLink(packets, bytes, _)) => (packets, bytes),
        Some(Room::WireBytes(bytes)) => (all.0, bytes),
        Some(Room::Protocol) | None => all,
    };
    found.check("packets and wire bytes", &(packets, wire_bytes), &all);
    if let Some(Room::UnknownLink(_, _, ip_packets)) = room {
        found.check("IP packets", &sum(&our_pairs).0, &ip_packets);
        found.check("fault", &fault, &None);
        return found.0;
    }
    found.check("IP packets", &sum(&our_pairs).0, &number(&truth, "ip_packets"));
    found.check("IP bytes", &sum(&our_pairs).2, &number(&truth, "ip_bytes"));
    let (mut true_pairs, mut true_flows) = (true_pairs(&truth), true_flows(&truth));
    if matches!(room, Some(Room::WireBytes(_))) {
        for amounts in our_pairs.values_mut().chain(true_pairs.values_mut()) {
            amounts.1 = 0;
        }
        for amounts in our_flows.iter_mut().flat_map(BTreeMap::values_mut).chain(true_flows.values_mut()) {
            amounts.1 = 0;
        }
    }
    found.compare("pair", &our_pairs, &true_pairs);
    if let Some(our_flows) = our_flows
        && room != Some(Room::Protocol)
    {
        found.compare("flow", &our_flows, &true_flows);
    }
    if fault.is_some() != (number(&truth, "rc") != 0) {
        found.0.push(format!("fault: {fault:?}"));
    }
    found.0
}
