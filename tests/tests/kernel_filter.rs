//! tcpdump expressions select the same packets in the kernel, in libpcap, and of files.
//!
//! Needs root and eBPF; reads the captures of ../shared where they are.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use wherefore::backend::{
    classic,
    ebpf::{Start, filter::Dialect},
};
use wherefore_tests::{can_load, expression::Judge};

#[test]
fn smoke() {
    if !can_load() {
        return;
    }
    for e in [
        "tcp port 443",
        "host 192.0.2.1",
        "net 192.0.2.0/24",
        "len > 60",
        "ip[8]*3/ip[9] > 2 and ether[60000]=1",
        "vlan 7 and tcp port 80",
    ] {
        let p = classic::compile(e, 1, false).unwrap();
        for d in [Dialect::Tc, Dialect::Xdp] {
            let j = Judge::new(&p, d, Start::Ethernet);
            println!("{e} {d:?} {:?}", j.verdict(&wherefore_tests::capture::frame(1)));
        }
    }
}
