//! `wherefore flows FILE... --format json` is a contract that scripts rely on: checked through the binary, word
//! by word. The last test reads `../shared/captures` beside the project; skipped, with a word, where absent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    net::IpAddr,
    path::Path,
    process::Command,
    thread,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use wherefore_common::Reason;
use wherefore_tests::{
    capture::{Packet, Writer, frame, pcap, pcap_of, pcap_of_link},
    cli::{Folder, Said, command, finish, line, say, text},
    truth::{self, Counted, add, address, amounts, captures, list, names, number, pairs},
};

/// What an object ends with that counted nothing.
const ZEROS: &str =
    "\"packets\":0,\"wire_bytes\":0,\"ip_packets\":0,\"ip_bytes\":0,\"unaccounted\":{},\"flows\":[]}\n";

/// The object without the names of what was read, after everything that holds of every object was checked.
fn object(said: &Said, pair: bool) -> Value {
    let mut json = said.json();
    let whole = json.as_object_mut().expect("object");
    let [watched, interfaces] = ["watched", "interfaces"].map(|field| whole.remove(field).expect(field));
    assert!(watched.as_array().is_some_and(|files| files.iter().all(|file| file["hook"].is_string())));
    assert_eq!(interfaces == json!([]), whole["packets"] == 0, "{said:?}");
    assert_eq!(whole["backend"], "file");
    // Where packets are larger than any frame; nowhere else.
    let fields = |value: &Value| -> BTreeSet<_> {
        let names = value.as_object().expect("object").keys().filter(|name| *name != "estimated");
        names.cloned().collect()
    };
    let estimated = list(&json, "flows").map(|flow| flow["estimated"].as_u64().unwrap_or_default());
    assert_eq!(estimated.sum::<u64>(), json["estimated"].as_u64().unwrap_or_default());
    let words = |words: &str| words.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let times = if json["packets"] == 0 { "" } else { "start end" };
    let names = format!("{times} backend packets wire_bytes ip_packets ip_bytes unaccounted flows");
    assert_eq!(fields(&json), words(&names));
    let row = if pair { "src dst" } else { "src dst proto sport dport" };
    let row = words(&format!("{row} packets wire_bytes ip_bytes first last"));
    let known: BTreeSet<_> = Reason::ALL.map(Reason::name).into();
    let mut sums = (0, 0, 0);
    let mut keys = BTreeSet::new();
    let mut order = Vec::new();
    for flow in list(&json, "flows") {
        assert_eq!(fields(flow), row);
        add(&mut sums, amounts(flow));
        assert!(number(flow, "packets") > 0, "{flow}");
        let optional = |field: &str| flow[field].as_u64();
        let key = (
            address(flow, "src"),
            address(flow, "dst"),
            optional("proto"),
            optional("sport"),
            optional("dport"),
        );
        assert_eq!(key.2.is_none(), pair, "{flow}");
        assert!(keys.insert(key), "one row a key: {flow}");
        order.push((std::cmp::Reverse(number(flow, "wire_bytes")), key));
        let times = ["first", "last"].map(|field| flow[field].as_str().expect("time"));
        for time in times {
            let digits = time.as_bytes();
            assert!(
                digits.len() == 30 && digits[10] == b'T' && digits[19] == b'.' && time.ends_with('Z'),
                "{time}"
            );
        }
        assert!(times[0] <= times[1], "{flow}");
    }
    assert!(order.is_sorted(), "by bytes, then key: {order:?}");
    let mut rest = (0, 0);
    for (reason, amount) in json["unaccounted"].as_object().expect("object") {
        assert!(known.contains(reason.as_str()), "{reason}");
        assert_eq!(fields(amount), words("packets wire_bytes"));
        rest = (rest.0 + number(amount, "packets"), rest.1 + number(amount, "wire_bytes"));
    }
    assert_eq!(number(&json, "ip_packets"), sums.0);
    assert_eq!(number(&json, "ip_bytes"), sums.2);
    assert_eq!(number(&json, "packets"), sums.0 + rest.0);
    assert_eq!(number(&json, "wire_bytes"), sums.1 + rest.1);
    json
}

fn counted(arguments: &str) -> Value {
    let said = line(&format!("flows {arguments} --format json"));
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments}: {said:?}");
    object(&said, arguments.contains("--key pair"))
}

fn unaccounted(object: &Value, reason: Reason) -> (u64, u64) {
    let amount = &object["unaccounted"][reason.name()];
    (number(amount, "packets"), number(amount, "wire_bytes"))
}

fn packet(time: u64, src: u8, ports: (u16, u16), ip_bytes: u16) -> Packet {
    Packet { time, src, dst: 9, ports, ip_bytes }
}

/// Three flows of two pairs, the smallest flow first in the file.
fn mixed() -> Vec<u8> {
    pcap_of(&[
        packet(1_700_000_000_000_001, 7, (5, 53), 100),
        packet(1_700_000_000_500_000, 3, (1000, 80), 500),
        packet(1_700_000_001_000_000, 3, (1001, 80), 200),
        packet(1_700_000_002_000_000, 3, (1000, 80), 700),
    ])
}

#[test]
fn the_object_of_a_capture_to_the_byte() {
    let folder = Folder::new();
    let file = folder.file("a.pcap", &mixed());
    let flow = |src: u8, sport: u16, dport: u16, packets: u64, ip: u64, first: &str, last: &str| {
        format!(
            "{{\"src\":\"192.0.2.{src}\",\"dst\":\"198.51.100.9\",\"proto\":17,\"sport\":{sport},\"dport\":{dport},\
             \"packets\":{packets},\"wire_bytes\":{},\"ip_bytes\":{ip},\"first\":\"2023-11-14T22:13:{first}Z\",\
             \"last\":\"2023-11-14T22:13:{last}Z\"}}",
            ip + 14 * packets
        )
    };
    let expected = format!(
        "{{\"start\":\"2023-11-14T22:13:20.000001000Z\",\"end\":\"2023-11-14T22:13:22.000000000Z\",\
         \"backend\":\"file\",\"watched\":[{{\"name\":\"{file}\",\"hook\":\"pcap\"}}],\"interfaces\":[\"a.pcap\"],\
         \"packets\":4,\"wire_bytes\":1556,\"ip_packets\":4,\"ip_bytes\":1500,\"unaccounted\":{{}},\"flows\":[{},{},{}]}}\n",
        flow(3, 1000, 80, 2, 1200, "20.500000000", "22.000000000"),
        flow(3, 1001, 80, 1, 200, "21.000000000", "21.000000000"),
        flow(7, 5, 53, 1, 100, "20.000001000", "20.000001000"),
    );
    for key in ["", "--key flow", "--key 5tuple", "-key=5tuple"] {
        let said = line(&format!("flows {file} {key} --format json"));
        assert_eq!(said, Said { code: 0, out: expected.clone(), err: String::new() }, "{key}");
    }
    let pairs = counted(&format!("{file} --key pair"));
    let rows: Vec<_> = list(&pairs, "flows").map(|row| (address(row, "src"), amounts(row))).collect();
    let host = |n: u8| IpAddr::from([192, 0, 2, n]);
    assert_eq!(rows, [(host(3), (3, 1442, 1400)), (host(7), (1, 114, 100))]);
    assert_eq!(pairs["flows"][0]["first"], "2023-11-14T22:13:20.500000000Z");
    assert_eq!(pairs["flows"][0]["last"], "2023-11-14T22:13:22.000000000Z");
}

#[test]
fn flows_of_equal_size_come_in_the_order_of_their_keys() {
    let folder = Folder::new();
    // By number, not by text: 10 behind 9.
    let packets: Vec<_> =
        [(10, 1), (9, 20), (9, 3), (100, 1)].map(|(src, port)| packet(1_000_000, src, (port, 53), 60)).into();
    let object = counted(&folder.file("a.pcap", &pcap_of(&packets)));
    let rows: Vec<_> =
        list(&object, "flows").map(|row| (row["src"].as_str().expect("src"), number(row, "sport"))).collect();
    assert_eq!(rows, [("192.0.2.9", 3), ("192.0.2.9", 20), ("192.0.2.10", 1), ("192.0.2.100", 1)]);
}

#[test]
fn one_row_over_files_interfaces_and_ways_in() {
    let folder = Folder::new();
    let file = folder.file("a.pcap", &mixed());
    let once = counted(&file);
    let mut twice = Writer::new(true);
    twice.section().interface(1, "eth0", 6, 0).interface(1, "eth1", 6, 0);
    twice.packet(0, 1_000_000, &frame(1)).packet(1, 2_000_000, &frame(1));
    let twice = folder.file("two.pcapng", &twice.bytes);
    assert_eq!(list(&counted(&twice), "flows").count(), 1);

    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&mixed()).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    assert_eq!(counted(&folder.file("a.pcap.gz", &gzip)), once);
    for input in [mixed(), gzip] {
        let said = finish(command(&["flows", "-", "--format", "json"]), &input);
        assert_eq!((said.code, object(&said, false)), (0, once.clone()), "standard input");
    }
    // A file that never has an end nor a length, as from another program.
    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let object = thread::scope(|scope| {
        scope.spawn(|| fs::write(&pipe, mixed()).expect("written"));
        counted(&pipe.display().to_string())
    });
    assert_eq!(object, once);

    let both = counted(&format!("{file} {file}"));
    assert_eq!(number(&both, "packets"), 8);
    assert_eq!(list(&both, "flows").count(), 3, "one row a flow over both files");

    let split = line(&format!("flows {twice} --by interface --format json")).json();
    let names: Vec<_> = list(&split, "flows").map(|row| row["interface"].as_str().expect("name")).collect();
    assert_eq!(names, ["eth0", "eth1"]);
}

#[test]
fn filtered_packets_are_counted_as_such() {
    let folder = Folder::new();
    let file = folder.file("a.pcap", &mixed());
    for (filter, flows, filtered) in [
        ("-f udp", 3, None),
        ("-f tcp", 0, Some((4, 1556))),
        ("--expression=len>600", 1, Some((3, 842))),
        ("--include 192.0.2.7", 1, Some((3, 1442))),
        ("--include-dst 192.0.2.7", 0, Some((4, 1556))),
        ("--exclude 192.0.2.0/29 --include 192.0.2.0/24", 0, Some((4, 1556))),
        ("--exclude-src 192.0.2.7,2001:db8::/32", 2, Some((1, 114))),
        ("--include-src 192.0.2.7 --include-dst 198.51.100.0/24", 3, None),
        ("-filter_ip_CIDR=192.0.2.7/32 -filter_src", 1, Some((3, 1442))),
        ("--include 2001:db8::/32", 0, Some((4, 1556))),
        // Both filters: what the one drops the other need not see.
        ("-f len<=200 --exclude 192.0.2.7", 0, Some((4, 1556))),
    ] {
        let said = line(&format!("flows {file} {filter} --format json"));
        assert_eq!(said.code, 0, "{filter}: {said:?}");
        let object = object(&said, false);
        assert_eq!(list(&object, "flows").count(), flows, "{filter}: {object}");
        match filtered {
            Some(amount) => assert_eq!(unaccounted(&object, Reason::Filtered), amount, "{filter}"),
            None => assert_eq!(object["unaccounted"], json!({}), "{filter}"),
        }
        assert_eq!((number(&object, "packets"), number(&object, "wire_bytes")), (4, 1556), "{filter}");
    }
    let object = object(&say(&["flows", &file, "-f", "port 80 and src 192.0.2.3", "--format=json"]), false);
    assert_eq!(unaccounted(&object, Reason::Filtered), (1, 114));
    // Of what was selected, not of everything: the largest flow is all there is.
    let table = line(&format!("flows {file} --include 192.0.2.7")).out;
    assert!(table.contains("100%") && table.contains("IP      1 packet in 1 flow, 100 bytes"), "{table}");
    let table = line(&format!("flows {file} -f tcp")).out;
    let words = "IP      no flow matched the filter; 4 packets did not, 1,556 bytes (1.56 kB)\n";
    assert!(table.contains(words), "{table}");
}

#[test]
fn a_link_type_nobody_knows_is_counted_whole() {
    let folder = Folder::new();
    let packets = [packet(1, 1, (1, 1), 100), packet(2, 2, (2, 2), 200)];
    let unknown = folder.file("u.pcap", &pcap_of_link(147, &packets));
    let known = folder.file("k.pcap", &pcap_of(&packets));
    let object = counted(&unknown);
    assert_eq!(object["unaccounted"], json!({"link_type": {"packets": 2, "wire_bytes": 328}}));
    // An expression cannot be asked of it; that is no reason to refuse the other file, or to lose packets.
    let object = counted(&format!("{unknown} {known} -f udp[4:2]>150"));
    assert_eq!(unaccounted(&object, Reason::LinkType), (2, 328));
    assert_eq!(unaccounted(&object, Reason::Filtered), (1, 114));
    assert_eq!(number(&object, "ip_packets"), 1);
    let mut mixed = Writer::new(false);
    mixed.section().interface(1, "eth0", 6, 0).interface(147, "odd", 6, 0);
    mixed.packet(0, 1, &frame(1)).packet(1, 2, &frame(2)).packet(0, 3, &frame(3));
    let object = counted(&format!("{} -f udp", folder.file("m.pcapng", &mixed.bytes)));
    assert_eq!((number(&object, "packets"), number(&object, "ip_packets")), (3, 2));
    let said = line(&format!("flows {unknown} -f nonsense --format json"));
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
}

#[test]
fn a_broken_file_still_has_its_object() {
    let folder = Folder::new();
    let whole = mixed();
    // In the middle of the last packet.
    let cut = folder.file("cut.pcap", &whole[..whole.len() - 1]);
    let said = line(&format!("flows {cut} --format json"));
    assert_eq!(said.code, 1);
    assert_eq!(number(&object(&said, false), "packets"), 3);
    let at = whole.len() - Packet::CAPTURED - 16;
    assert!(said.err.contains(&cut) && said.err.contains(&format!("at byte {at}")), "{}", said.err);

    // Only one of two is broken: the other is counted all the same.
    let other = folder.file("b.pcap", &pcap(&[(1, 1), (2, 2)]));
    let said = line(&format!("flows {cut} {other} --format json"));
    assert_eq!((said.code, number(&object(&said, false), "packets")), (1, 5));

    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&whole).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    let said = line(&format!("flows {} --format json", folder.file("c.gz", &gzip[..gzip.len() - 9])));
    assert_eq!(said.code, 1, "{said:?}");
    let _ = object(&said, false);
}

#[test]
fn an_unreadable_header_is_an_object_of_zeros() {
    let folder = Folder::new();
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("text", b"This is no capture.\n"),
        ("zeros", &[0; 100]),
        ("magic", &[0xd4, 0xc3, 0xb2, 0xa1]),
        ("short", &pcap(&[])[..23]),
        ("gzip", &[0x1f, 0x8b, 8, 0, 0]),
    ] {
        let file = folder.file(name, bytes);
        for key in ["flow", "pair"] {
            let said = line(&format!("flows {file} --key {key} --format json"));
            assert!(said.code == 1 && said.out.ends_with(ZEROS), "{name}: {said:?}");
            assert!(said.err.starts_with("error: ") && said.err.contains(&file), "{name}: {said:?}");
        }
    }
    let nothing = finish(command(&["flows", "-", "--format=json"]), &[]);
    assert!(nothing.code == 1 && nothing.out.ends_with(ZEROS), "{nothing:?}");
    // A capture without packets is whole.
    let said = line(&format!("flows {} --format json", folder.file("none.pcap", &pcap(&[]))));
    assert!(said.code == 0 && said.out.ends_with(ZEROS) && said.err.is_empty(), "{said:?}");
}

#[test]
fn what_cannot_be_opened_says_nothing_on_standard_output() {
    let folder = Folder::new();
    let file = folder.file("a.pcap", &mixed());
    let missing = folder.path("missing.pcap").display().to_string();
    let directory = folder.path("").display().to_string();
    for files in [missing.clone(), format!("{file} {missing}"), directory] {
        for command in ["flows --format json", "flows --key pair", "replay", "replay --format json"] {
            let said = line(&format!("{command} {files}"));
            assert_eq!((said.code, said.out.as_str()), (66, ""), "{command} {files}: {said:?}");
            assert_eq!(said.err.lines().count(), 1, "{said:?}");
        }
    }
}

#[test]
fn other_forms_hold_the_same_rows() {
    let folder = Folder::new();
    let file = folder.file("a.pcap", &mixed());
    let rows = counted(&file)["flows"].as_array().expect("rows").clone();
    let jsonl = line(&format!("flows {file} --format jsonl"));
    let lines: Vec<Value> =
        jsonl.out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(lines[..rows.len()], rows);
    assert_eq!(lines.len(), rows.len() + 1);
    assert_eq!(lines[rows.len()]["total"]["packets"], 4);
    let csv = line(&format!("flows {file} --format csv"));
    let mut lines = csv.out.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().expect("names");
    for row in &rows {
        let fields: BTreeMap<_, _> = names.iter().zip(lines.next().expect("a row")).collect();
        for (name, value) in row.as_object().expect("object") {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(*fields[&name.as_str()], value, "{name}");
        }
    }
    assert_eq!(lines.next(), None);
    let table = line(&format!("flows {file} --top 1"));
    assert!(table.out.contains("2 rows not shown"), "{}", table.out);
    assert!(table.out.contains("4 packets, 1,556 bytes"), "{}", table.out);
}

/// The table of docs/output.md names the reasons that the code has, no more and no less.
#[test]
fn reasons_are_documented() {
    let page = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/output.md"));
    let table = page.split("| `unaccounted` | when |").nth(1).expect("table of reasons");
    let documented: BTreeSet<&str> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split(','))
        .map(|name| name.trim().trim_matches('`'))
        .collect();
    assert_eq!(documented, Reason::ALL.map(Reason::name).into());
}

/// Counts every shared capture through the binary, with both keys, and holds it against the truth.
#[test]
fn every_shared_capture_through_the_binary() {
    let Some(folder) = captures() else { return };
    let names = names(&folder);
    // Two processes at a time: the machine may have no more, and each is over in milliseconds.
    let (first, second) = names.split_at(names.len() / 2);
    let check = |names: &[String]| names.iter().flat_map(|name| check(&folder, name)).collect::<Vec<_>>();
    let wrong = thread::scope(|scope| {
        let other = scope.spawn(|| check(second));
        let mut wrong = check(first);
        wrong.extend(other.join().expect("no panic"));
        wrong
    });
    assert!(wrong.is_empty(), "of {} captures:\n{}", names.len(), wrong.join("\n"));
}

fn check(folder: &Path, name: &str) -> Vec<String> {
    let path = folder.join("pcap").join(name).display().to_string();
    let mut wrong = Vec::new();
    let mut by_pair = BTreeMap::new();
    for key in ["flow", "pair"] {
        let said = say(&["flows", &path, "--key", key, "--format", "json"]);
        assert!(said.code == 0 || said.code == 1, "{name}: {said:?}");
        assert_eq!(said.code == 1, said.err.contains("error: "), "{name}: {said:?}");
        let object = object(&said, key == "pair");
        let mut flows = BTreeMap::new();
        for row in list(&object, "flows") {
            let field = |field: &str| row[field].as_u64().unwrap_or_default();
            let row_name =
                (address(row, "src"), address(row, "dst"), field("proto"), field("sport"), field("dport"));
            add(flows.entry(row_name).or_default(), amounts(row));
        }
        let pairs = pairs(&flows);
        if key == "flow" {
            by_pair = pairs.clone();
        } else {
            assert_eq!(pairs, by_pair, "{name}: both keys");
        }
        let counted = Counted {
            packets: number(&object, "packets"),
            wire_bytes: number(&object, "wire_bytes"),
            pairs,
            flows: (key == "flow").then_some(flows),
            fault: (said.code == 1).then_some(said.err),
        };
        wrong.extend(
            truth::differences(folder, name, counted)
                .into_iter()
                .map(|words| format!("{name} by {key}: {words}")),
        );
    }
    wrong
}
