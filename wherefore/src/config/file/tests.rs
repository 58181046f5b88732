use proptest::prelude::*;

use super::*;
use crate::rules::{By, Severity};

/// Line, column and message of all that is wrong with a text.
fn faults(text: &str) -> Vec<String> {
    let faults = match File::read(text) {
        Ok(file) => file.check(Duration::from_secs(5), Some(65_536)),
        Err(faults) => faults,
    };
    let error = FileError::new("f".into(), faults).to_string();
    error.lines().map(str::to_owned).collect()
}

const GOOD: &str = r#"
[capture]
interval = "10s"
interface = ["eth0", "veth*"]
stacked = true
table_size = 0x1000

[detection]
min_bytes = 200_000
min_factor = 4.5

[[rule]]
name = "backup-only"
match = { remote = "198.51.100.0/24", proto = ["tcp", 17], port = ["8000-8999", 443] }
condition = 'rate > "1 GB/s" for "10s"'
by = "net"
severity = "critical"

[[rule]]
name = "new"
condition = "new destination"
learn = "24h"

[rule.match]
locality = "outgoing"

[[override]]
match = { prefix = "192.0.2.7" }
ignore = true
"#;

#[test]
fn a_good_file_is_read() {
    let file = File::read(GOOD).unwrap_or_else(|faults| panic!("{faults:?}"));
    let settings: Vec<_> = file
        .settings
        .iter()
        .map(|setting| (setting.section, setting.key.as_str(), setting.values.join(",")))
        .collect();
    let expected = [
        ("capture", "interval", "10s"),
        ("capture", "interface", "eth0,veth*"),
        ("capture", "stacked", "true"),
        ("capture", "table_size", "4096"),
        ("detection", "min_bytes", "200000"),
        ("detection", "min_factor", "4.5"),
    ];
    assert_eq!(settings, expected.map(|(section, key, value)| (section, key, value.to_owned())));
    assert_eq!(file.settings[0].place, Place { line: 3, column: 12 });
    let [backup, new] = &file.rules[..] else { panic!("two rules") };
    assert_eq!(
        (backup.by, backup.severity, backup.wanted.proto.clone()),
        (By::Net, Severity::Critical, vec![6, 17])
    );
    assert_eq!(backup.wanted.port, [8_000..=8_999, 443..=443]);
    assert_eq!(backup.condition.to_string(), "rate > 1 GB/s for 10s");
    assert_eq!((new.by, new.severity, new.learn), (By::All, Severity::Warning, Duration::from_secs(86_400)));
    assert!(file.overrides[0].ignore && file.overrides[0].wanted.prefix.len() == 1);
    assert_eq!(file.check(Duration::from_secs(5), None), []);
    assert_eq!(File::read(""), Ok(File::default()));
}

#[test]
fn every_fault_is_told_with_its_place_and_what_is_allowed() {
    let mut wrong = Vec::new();
    let rule = |rest: &str| format!("[[rule]]\nname = \"a\"\n{rest}");
    for (text, expected) in [
        ("interval = ", &["f:1:12: not TOML: string values must be quoted, expected literal string"][..]),
        ("[detection]\nmin_byte = 1", &["f:2:1: unknown key \"min_byte\"; did you mean \"min_bytes\"?"]),
        ("[detecton]", &["f:1:2: unknown key \"detecton\"; did you mean \"detection\"?"]),
        (
            "[series]\nfoo = 1",
            &["f:2:1: unknown key \"foo\"; allowed are level, bytes, max_series, expire_after"],
        ),
        (
            "[capture]\ninterval = \"5x\"\nbackend = \"nf\"\nstacked = 1",
            &[
                "f:2:12: \"5x\": unknown unit \"x\"; give a number with ns, us, ms, s, m, h or d, as in 5s, 500ms or \
                 1m30s (a plain number is seconds)",
                "f:3:11: \"nf\": allowed are auto, ebpf, pcap",
                "f:4:11: invalid type: integer 1, expected a boolean",
            ],
        ),
        (
            "[capture]\ninclude = [\"192.0.2.0/33\"]\ninterface = []\nmin_coverage = \"all\"",
            &[
                "f:2:12: \"192.0.2.0/33\": give a prefix or an address, as in 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7",
                "f:3:13: an empty list asks for nothing; leave the key out",
                "f:4:16: invalid type: string \"all\", expected a number",
            ],
        ),
        ("[[rule]]\n", &["f:1:1: \"name\" is missing"]),
        (
            "[[rule]]\nname = 'a'\n[[rule]]\nname = ' b'",
            &[
                "f:1:1: \"condition\" is missing",
                "f:4:8: \" b\": give a name of 1 to 64 characters, without quotes, control characters and spaces at its ends",
            ],
        ),
        (
            &rule("condition = 'rate > 0 B/s'\nmatch = { prefx = \"192.0.2.0/24\", port = 0 }"),
            &[
                "f:4:11: unknown key \"prefx\"; did you mean \"prefix\"?",
                "f:4:42: 0: give a port or a range of ports, as in 443 or \"8000-8999\", 1 to 65535",
                "f:3:21: a limit of 0 is broken by any traffic: give more than 0",
            ],
        ),
        (
            &rule("condition = 'new destination'"),
            &["f:3:13: a new destination needs a time to learn which ones there are, as in learn = \"24h\""],
        ),
        (
            &rule("condition = 'flows > 5'\nlearn = '1h'"),
            &["f:4:9: learn goes with the condition \"new destination\" alone"],
        ),
        (
            &rule("condition = 'flows > 5'\nmatch = { proto = 'icmp', port = 53 }"),
            &["f:4:9: no flow can match: port with proto icmp, which has no ports"],
        ),
        (&rule("condition = 'flows > 5 for 1s'"), &["f:3:13: 1 s is shorter than an interval, 5 s"]),
        (
            &rule("condition = 'flows > 5'\n[[rule]]\nname = 'a'\ncondition = 'flows > 9'"),
            &["f:5:8: a rule named \"a\" stands before; give each its own name"],
        ),
        (
            &rule("condition = 'flows > 5'\n[[rule]]\nname = 'b'\ncondition = 'flows > 9'"),
            &[
                "f:6:13: adds nothing to rule \"a\": what breaks this one breaks that one too; leave one of them out",
            ],
        ),
        (
            "[[override]]\nmatch = { prefix = '192.0.2.0/24' }",
            &["f:2:9: an override that changes nothing: give ignore = true, min_bytes or min_flows"],
        ),
        (
            "[[override]]\nmatch = {}\nmin_flows = -1\n[[override]]\nmin_bytes = 5\nmatch = { port = 5 }",
            &[
                "f:3:13: -1: give a whole number, 0 or more",
                "f:6:9: never used: an override before it matches all of this",
                "f:6:9: port: what is judged has addresses and no ports or protocol; only ignore = true can ask for them",
                "f:2:9: an override that changes nothing: give ignore = true, min_bytes or min_flows",
            ],
        ),
        ("[[override]]\nignore = true", &["f:1:1: \"match\" is missing"]),
        ("capture = 5", &["f:1:11: invalid type: integer 5, expected a table"]),
        ("[capture]\nhook = 'tc'\nhook = 'xdp'", &["f:3:1: not TOML: duplicate key"]),
    ] {
        let mut expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        expected.sort_by_key(|line| line.split(':').nth(1).and_then(|line| line.parse::<u32>().ok()));
        let found = faults(text);
        if found != expected {
            wrong.push(format!("{text}\n  expected {expected:#?}\n  found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn columns_count_characters() {
    assert_eq!(Place::of("a\nüé = 5", 6), Place { line: 2, column: 3 });
    assert_eq!(faults("[alerts]\n\"ü\" = 5")[0].split(": ").next(), Some("f:2:1"));
}

#[test]
fn a_file_of_faults_ends() {
    let text: String = (0..1_000).map(|n| format!("key{n} = 5\n")).collect();
    assert_eq!(faults(&text).len(), 50);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in ".*") {
        let _ = File::read(&text);
    }

    /// Near to what is right, where more is looked at.
    #[test]
    fn nor_a_good_file_with_something_strange_in_it(at in 0..GOOD.len(), end in 0..GOOD.len(), text in "[\"'\\[\\]{}=,.\n a-z0-9-]{0,4}") {
        let (begin, end) = (at.min(end), at.max(end));
        let mut strange = GOOD.to_owned();
        strange.replace_range(begin..end.min(begin + 9), &text);
        if let Err(faults) = File::read(&strange) {
            prop_assert!(!faults.is_empty());
            prop_assert!(faults.iter().all(|fault| fault.place.line <= strange.lines().count() + 1));
        }
    }
}
