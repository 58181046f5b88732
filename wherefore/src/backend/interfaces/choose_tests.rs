use proptest::prelude::*;

use super::*;
use crate::backend::interfaces::{LinkKind, Pattern};

/// `NAME[:KIND][@LOWER][<MASTER][!]…`: `@` on another one (or the other end of a veth), `@-` in another namespace,
/// `<` a port of another one, `!` with a default route, `-` down, `>` forwards. Numbered from 1.
fn host(description: &str) -> Vec<Interface> {
    let words: Vec<&str> = description.split_whitespace().collect();
    let name = |word: &str| word.split([':', '@', '<', '!', '>', '~']).next().unwrap().to_owned();
    let number = |wanted: &str| {
        let place = words.iter().position(|word| name(word) == wanted);
        1 + place.unwrap_or_else(|| panic!("no {wanted}")) as u32
    };
    let part = |word: &str, mark: char| {
        let rest = word.split_once(mark)?.1;
        Some(rest.split([':', '@', '<', '!', '>', '~']).next().unwrap().to_owned())
    };
    let interface = |(place, word): (usize, &&str)| {
        let kind = part(word, ':');
        let lower = part(word, '@');
        let loopback = name(word) == "lo";
        Interface {
            index: 1 + place as u32,
            name: name(word),
            up: !word.contains('~'),
            loopback,
            link: match kind.as_deref() {
                _ if loopback => LinkKind::Loopback,
                Some("tun" | "wireguard") if name(word).starts_with("tun") => LinkKind::Ip,
                _ => LinkKind::Ethernet,
            },
            default_route: word.contains('!'),
            lower: lower.as_deref().filter(|lower| *lower != "-").map(number),
            lower_elsewhere: lower.as_deref() == Some("-"),
            master: part(word, '<').as_deref().map(number),
            forwarding: word.contains('>'),
            kind,
            ..Interface::default()
        }
    };
    words.iter().enumerate().map(interface).collect()
}

fn request(include: &str) -> Request {
    let patterns = |text: &str| text.split_whitespace().map(|p| p.parse::<Pattern>().unwrap()).collect();
    let (include, exclude) = include.split_once('^').unwrap_or((include, ""));
    Request { include: patterns(include), exclude: patterns(exclude), stacked: false }
}

/// The watched ones, stacked ones in brackets.
fn names(plan: &Plan) -> String {
    let name = |v: &Verdict| {
        if v.stacked { format!("[{}]", v.interface.name) } else { v.interface.name.clone() }
    };
    plan.watched().map(name).collect::<Vec<_>>().join(" ")
}

fn chosen(description: &str, wanted: &str) -> String {
    names(&choose(&host(description), &request(wanted), &Memory::default()))
}

/// A host with containers behind a bridge that forwards.
const DOCKER: &str = "lo eth0!> docker0:bridge> veth1:veth@-<docker0> veth2:veth@-<docker0>";
/// Virtual machines on the bridge that has the host's address.
const MACHINES: &str = "lo eno1<br0 eno2~ br0:bridge! tap1:tun<br0 tap2:tun<br0";

#[test]
fn each_packet_of_the_host_counts_once() {
    for (description, wanted, expected) in [
        // Without a request: default routes, else all that are up.
        ("lo eth0! eth1! tun0:tun eth2~", "", "eth0 eth1"),
        ("lo eth0 eth1 eth2~", "", "eth0 eth1"),
        ("lo eth0:veth@-!", "", "eth0"),
        (DOCKER, "", "eth0"),
        (MACHINES, "", "br0"),
        ("lo eth0 eth0.5:vlan@eth0!", "", "eth0.5"),
        ("lo eth0 eth1 bond0:bond!", "", "bond0"),
        // A tunnel with a default route beside its carrier, and one alone.
        ("lo eth0! tun0:tun!", "", "eth0"),
        ("lo eth0 tun0:tun!", "", "tun0"),
        ("lo eth0! wg0:wireguard!", "", "eth0"),
        // Globs: everything there is, each packet once.
        (DOCKER, "*", "eth0"),
        (MACHINES, "*", "eno2 br0"),
        ("lo eth0! eth0.5:vlan@eth0 mac0:macvlan@eth0", "*", "eth0"),
        ("lo eth0<bond0 eth1<bond0 bond0:bond! bond0.7:vlan@bond0", "*", "bond0"),
        ("lo eth0! vx0:vxlan@eth0 vx1:vxlan gre0:gre", "*", "eth0"),
        ("lo eth0! ifb0:ifb", "*", "eth0"),
        ("lo eth0 eth1", "*", "eth0 eth1"),
        ("lo eth0! lan1:dsa@eth0 lan2:dsa@eth0", "*", "eth0"),
        ("lo eth0! br-in:openvswitch ovs:openvswitch tap0:tun<ovs", "*", "eth0 br-in ovs"),
        ("lo eth0<ovs br-ex:openvswitch! ovs:openvswitch~ tap0:tun<ovs", "*", "br-ex ovs"),
        ("lo eth0<vrf0 vrf0:vrf", "*", "eth0"),
        // Both ends of a pair: the older one, or the one a route leads to.
        ("lo a:veth@b b:veth@a", "*", "a"),
        ("lo a:veth@b b:veth@a!", "*", "b"),
        // What leads into the host is all there is where the host does not forward.
        ("lo eth0! ve1:veth@-", "*", "eth0 ve1"),
        ("lo eth0! ve1:veth@->", "*", "eth0"),
        ("lo eth0~ ve1:veth@->", "*", "eth0 ve1"),
        ("lo eth0! a:veth@b> b:veth@a>", "*", "eth0"),
        // By way of others that nobody asked for.
        ("lo eth0<bond0 bond0:bond bond0.7:vlan@bond0", "eth* *.7", "eth0"),
        ("lo eth0 mac0:macvlan@eth0 mac0.3:vlan@mac0", "eth0 *.3", "eth0"),
        // Alone they are watched.
        (DOCKER, "veth*", "veth1 veth2"),
        (DOCKER, "docker*", "docker0"),
        (DOCKER, "veth* ^veth1", "veth2"),
        (DOCKER, "* ^eth0 docker0", "veth1 veth2"),
        (MACHINES, "eno1 tap*", "eno1 tap1 tap2"),
        // By name in any case, but not part of the host's totals.
        (DOCKER, "eth0 veth1", "eth0 [veth1]"),
        (DOCKER, "eth0 docker0 veth*", "eth0 [docker0]"),
        (MACHINES, "br0 eno1", "[eno1] br0"),
        ("lo eth0! eth0.5:vlan@eth0", "eth0 eth0.5", "eth0 [eth0.5]"),
        ("lo eth0! vx0:vxlan", "vx0 eth0", "eth0 [vx0]"),
        ("lo eth0!", "lo eth0", "lo eth0"),
        ("lo eth0!", "l*", ""),
        ("lo eth0!", "eth0 ^eth*", ""),
        // A ring of them: one counts all the same.
        ("lo eth0!<br0 br0:bridge>", "*", "br0"),
        ("lo a:vlan@b b:vlan@a", "*", "a"),
    ] {
        assert_eq!(chosen(description, wanted), expected, "{wanted:?} of {description}");
    }
}

#[test]
fn every_verdict_has_its_reason() {
    let reasons = |description: &str, wanted: &str| -> Vec<String> {
        let plan = choose(&host(description), &request(wanted), &Memory::default());
        plan.verdicts.iter().map(|v| format!("{}: {}", v.interface.name, v.reason)).collect()
    };
    assert_eq!(
        reasons(DOCKER, "*"),
        [
            "lo: the loopback device is watched only when named",
            "eth0: matches *",
            "docker0: leads into this host; counted on eth0",
            "veth1: port of docker0; counted on eth0",
            "veth2: port of docker0; counted on eth0",
        ]
    );
    assert_eq!(
        reasons("lo eth0! eth1 eth2~ vx0:vxlan@eth0", "^eth1"),
        [
            "lo: the loopback device is watched only when named",
            "eth0: default route",
            "eth1: excluded by eth1",
            "eth2: down",
            "vx0: no default route",
        ]
    );
    assert_eq!(
        reasons("eth0! vx0:vxlan@eth0 tun1:tun eth1", "eth0 vx0 tun*"),
        [
            "eth0: named",
            "vx0: vxlan on eth0; counted on eth0",
            "tun1: tun tunnel; counted on eth0",
            "eth1: not asked for"
        ]
    );
    let plan = |wanted: &str| choose(&host(DOCKER), &request(wanted), &Memory::default());
    assert_eq!(plan("eth0 veth*").why, "named or matching veth*");
    assert_eq!(plan("eth0 veth*").unmet, ["veth*"]);
    assert_eq!(plan("eth0 docker0").why, "named");
    let stacked = Request { stacked: true, ..request("*") };
    let all = choose(&host(DOCKER), &stacked, &Memory::default());
    assert_eq!(names(&all), "eth0 [docker0] [veth1] [veth2]");
}

#[test]
fn what_cannot_be_met_at_the_start_is_an_error_and_says_what_to_do() {
    let error = |description: &str, wanted: &str| {
        let checked = choose(&host(description), &request(wanted), &Memory::default()).check();
        checked.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error("lo eth0!", "eth0 eht0"), "no interface named \"eht0\"; there are: lo, eth0");
    assert!(error("lo eth0~", "").contains("no default route") && error("lo eth0~", "").contains("with -i"));
    assert!(error("lo eth0!", "^eth*").contains("excluded"), "{}", error("lo eth0!", "^eth*"));
    // It may come yet.
    assert_eq!(error("lo eth0!", "veth*"), "");
}

/// One decision after the other, each with the memory of the last.
fn course(wanted: &str, descriptions: &[&str]) -> Vec<String> {
    let mut memory = Memory::default();
    let mut all = Vec::new();
    for description in descriptions {
        let plan = choose(&host(description), &request(wanted), &memory);
        all.push(names(&plan));
        memory = plan.memory;
    }
    all
}

#[test]
fn a_lost_route_and_a_new_name_change_nothing_until_something_else_is_there() {
    // The route moves by way of none; only where the last uplink is gone everything is taken.
    let moving = ["lo eth0! eth1", "lo eth0 eth1", "lo eth0 eth1!", "lo eth0 eth1", "lo eth0", "lo eth0!"];
    assert_eq!(course("", &moving), ["eth0", "eth0", "eth1", "eth1", "eth0", "eth0"]);
    // Without any route from the start new ones are taken as they come.
    assert_eq!(course("", &["lo eth0", "lo eth0 eth1"]), ["eth0", "eth0 eth1"]);
    // Renamed, but the same number; then another one comes by the old name.
    assert_eq!(course("eth0", &["lo eth0", "lo wan0", "lo wan0 eth0"]), ["eth0", "wan0", "wan0 eth0"]);
    assert_eq!(course("eth* ^wan*", &["lo eth0", "lo wan0", "lo eth5"]), ["eth0", "", "eth5"]);
    // Gone, and made again under the same name.
    assert_eq!(course("eth0", &["lo eth0", "lo", "lo x eth0"]), ["eth0", "", "eth0"]);
}

/// Any interfaces in any relation to each other.
fn interfaces() -> impl Strategy<Value = Vec<Interface>> {
    let kinds = ["", "bridge", "bond", "veth", "vlan", "vxlan", "tun", "ifb", "vrf", "openvswitch"];
    let one = (0..kinds.len(), 0u32..9, 0u32..9, any::<[bool; 4]>());
    proptest::collection::vec(one, 1..8).prop_map(move |all| {
        let interface =
            |(place, (kind, master, lower, flags)): (usize, (usize, u32, u32, [bool; 4]))| Interface {
                index: 1 + place as u32,
                name: format!("i{place}"),
                up: flags[0],
                default_route: flags[1],
                forwarding: flags[2],
                lower_elsewhere: flags[3],
                kind: Some(kinds[kind].to_owned()).filter(|kind| !kind.is_empty()),
                master: Some(master).filter(|master| *master > 0),
                lower: Some(lower).filter(|lower| *lower > 0),
                ..Interface::default()
            };
        all.into_iter().enumerate().map(interface).collect()
    })
}

proptest! {
    #[test]
    fn something_always_counts_and_the_order_does_not_matter(all in interfaces(), named: bool) {
        let wanted = Request { stacked: named, ..request("*") };
        let plan = choose(&all, &wanted, &Memory::default());
        prop_assert!(plan.watched().any(|verdict| !verdict.stacked), "{plan:?}");
        prop_assert!(named == plan.verdicts.iter().all(|v| v.watched) || plan.watched().count() == all.len());
        for verdict in plan.verdicts.iter().filter(|verdict| verdict.stacked) {
            let on = verdict.reason.rsplit(' ').next().unwrap_or_default();
            prop_assert!(plan.watched().any(|v| v.interface.name == on && !v.stacked), "{verdict:?}");
        }
        let again = choose(&all, &wanted, &plan.memory);
        prop_assert_eq!(again.verdicts, plan.verdicts, "decided again it stays so");
    }
}

#[test]
fn of_many_interfaces_a_wrong_name_is_told_the_first_few() {
    let of = |count: u32| {
        let all: Vec<Interface> = (1..=count)
            .map(|index| Interface { index, name: format!("veth{index}"), up: true, ..Interface::default() })
            .collect();
        choose(&all, &request("eth0"), &Memory::default()).check().unwrap_err().to_string()
    };
    let few = of(12);
    assert!(few.contains("veth12") && !few.contains(" more"), "{few}");
    let many = of(300);
    assert!(many.contains("veth12 and 288 more (`wherefore interfaces` lists them)"), "{many}");
    assert!(!many.contains("veth13"), "{many}");
}
