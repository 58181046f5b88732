//! Interfaces are those of the namespace, and the ones with default routes are chosen.

use wherefore::backend::interfaces::{self, LinkKind, Request};
use wherefore_tests::{Lan, Netns, require_root};

fn chosen(netns: &Netns) -> (Vec<String>, String) {
    let plan = netns.run(|| interfaces::plan(&Request::default())).unwrap_or_else(|error| panic!("{error}"));
    (plan.watched().map(|verdict| verdict.interface.name.clone()).collect(), plan.why)
}

#[test]
fn addresses_routes_and_kinds_are_found() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    lan.host.ip("link add other0 type veth peer name other1");
    lan.host.ip("link set other0 up mtu 9000");
    lan.host.ip("tuntap add tun0 mode tun");
    let all = lan.host.run(interfaces::list).unwrap();
    let find = |name: &str| all.iter().find(|i| i.name == name).unwrap();
    let eth0 = find("eth0");
    assert_eq!(eth0.addresses, [(Lan::HOST_V4, 24), (Lan::HOST_V6, 64)]);
    assert_eq!((eth0.up, eth0.loopback, eth0.link), (true, false, LinkKind::Ethernet));
    assert_eq!((eth0.mtu, eth0.default_route), (Some(1500), true));
    assert_eq!((find("other0").mtu, find("other0").default_route), (Some(9000), false));
    assert_eq!((find("other1").up, find("other1").addresses.len()), (false, 0));
    assert_eq!(find("tun0").link, LinkKind::Ip);
    assert_eq!((find("lo").loopback, find("lo").link), (true, LinkKind::Loopback));
    assert!(all.is_sorted_by_key(|i| i.index));
}

#[test]
fn default_routes_choose_and_unreachable_ones_do_not() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    assert_eq!(chosen(&lan.host), (vec!["eth0".into()], "default route".into()));

    // The IPv6 one alone is enough.
    lan.host.ip("route delete default");
    assert_eq!(chosen(&lan.host), (vec!["eth0".into()], "default route".into()));

    lan.host.ip("-6 route delete default");
    lan.host.ip("route add unreachable default");
    lan.host.ip("-6 route add unreachable default");
    lan.host.ip("link add other0 type veth peer name other1");
    let (names, why) = chosen(&lan.host);
    assert_eq!(
        (names, why.as_str()),
        (vec!["eth0".to_owned()], "no default route: every interface that is up")
    );

    // Two default routes by two interfaces.
    lan.host.ip("link set other0 up");
    lan.host.ip("link set other1 up");
    lan.host.ip("route replace default dev eth0 metric 0");
    lan.host.ip("route add default dev other0 metric 100");
    let (mut names, _) = chosen(&lan.host);
    names.sort();
    assert_eq!(names, ["eth0", "other0"]);

    let alone = Netns::new("alone");
    let plan = alone.run(|| interfaces::plan(&Request::default())).unwrap();
    let error = plan.check().unwrap_err().to_string();
    assert!(error.contains("-i"), "{error}");
}
