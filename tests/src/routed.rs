//! A host behind a router whose further link carries every frame alone: what crosses it is what the host's own
//! packets, joined and not yet segmented, stand for.

use std::{fs, net::IpAddr};

use crate::{device, lan::Lan, netns::Netns};

/// A [`Lan`] whose world is a router to a third namespace.
///
/// The host sends segments of up to 64 KiB in one piece; the router cuts them for the last link, which has
/// segmentation and receive offloads off at both ends, and joins what comes back from there.
#[derive(Debug)]
pub struct Routed {
    /// The host, and the router as its world.
    pub lan: Lan,
    /// What is behind the router.
    pub end: Netns,
}

impl Routed {
    /// The router's device on the last link.
    pub const ROUTER_DEVICE: &str = "route0";
    /// The device behind it.
    pub const END_DEVICE: &str = "end0";
    /// Its addresses.
    pub const END: [IpAddr; 2] = [
        IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 2)),
        IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2)),
    ];
    /// The host's, of the same versions.
    pub const HOST: [IpAddr; 2] = [Lan::HOST_V4, Lan::HOST_V6];

    /// Sets all three up.
    ///
    /// # Panics
    /// When something cannot be set up.
    #[must_use]
    pub fn new() -> Self {
        let this = Self { lan: Lan::new(), end: Netns::new("end") };
        let (router, last, end) = (&this.lan.world, Self::ROUTER_DEVICE, Self::END_DEVICE);
        router.ip(&format!("link add {last} type veth peer name {end} netns {}", this.end.path()));
        for (netns, device, host) in [(router, last, 1), (&this.end, end, 2)] {
            netns.ip(&format!("link set {device} arp off multicast off addrgenmode none"));
            netns.ip(&format!("address add 203.0.113.{host}/24 dev {device}"));
            netns.ip(&format!("address add 2001:db8:1::{host}/64 dev {device} nodad"));
            netns.ip(&format!("link set {device} up"));
            device::offloads_off(netns, device);
            device::checksums_off(netns, device);
        }
        device::receive_offload_on(router, last);
        for (netns, device, other, peer, host) in
            [(router, last, &this.end, end, 2), (&this.end, end, router, last, 1)]
        {
            let mac = device::mac(other, peer).map(|byte| format!("{byte:02x}")).join(":");
            for address in [format!("203.0.113.{host}"), format!("2001:db8:1::{host}")] {
                netns.ip(&format!("neighbour add {address} lladdr {mac} dev {device} nud permanent"));
            }
        }
        this.end.ip("route add default via 203.0.113.1");
        this.end.ip("-6 route add default via 2001:db8:1::1");
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            sysctl(router, path, "1");
        }
        this.window(250_000);
        this
    }

    /// Lets both ends of a TCP connection take half of `bytes` at a time, so that no queue on the way
    /// overflows: what is dropped between two counters they cannot agree on. The shortest holds 256 packets
    /// (a veth's with receive offload), the others 1,000.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn window(&self, bytes: u32) {
        for netns in [&self.lan.host, &self.end] {
            sysctl(netns, "ipv4/tcp_rmem", &format!("4096 131072 {bytes}"));
        }
    }

    /// Lets both ends ask each other for TCP segments of at most `mss` bytes, options included.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn segment_size(&self, mss: u32) {
        self.lan.host.ip(&format!("route replace default via {} advmss {mss}", Lan::WORLD_V4));
        self.lan.host.ip(&format!("-6 route replace default via {} advmss {mss}", Lan::WORLD_V6));
        self.end.ip(&format!("route replace default via 203.0.113.1 advmss {mss}"));
        self.end.ip(&format!("-6 route replace default via 2001:db8:1::1 advmss {mss}"));
    }

    /// Adds a VXLAN device `vx0` at both ends, with the addresses 198.51.100.128 + `near` and
    /// 2001:db8:2::`near` at the host, one more at the end; packets go between [`Self::HOST`] and
    /// [`Self::END`] of one version. The router has one of its own, for the sake of its receive offload: that
    /// joins tunnelled segments only where somebody listens.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn vxlan(&self, version: usize) {
        let (host, end) = (Self::HOST[version], Self::END[version]);
        for (netns, local, remote, number) in [(&self.lan.host, host, end, 1), (&self.end, end, host, 2)] {
            let mac = |number: u32| format!("02:00:00:00:07:0{number}");
            netns.ip(&format!(
                "link add vx0 address {} mtu 1400 type vxlan id 7 local {local} remote {remote} dstport 4789",
                mac(number)
            ));
            netns.ip("link set vx0 arp off multicast off addrgenmode none");
            netns.ip(&format!("address add 198.51.100.{}/28 dev vx0", 128 + number));
            netns.ip(&format!("address add 2001:db8:2::{number}/64 dev vx0 nodad"));
            netns.ip("link set vx0 up");
            let other = 3 - number;
            for address in [format!("198.51.100.{}", 128 + other), format!("2001:db8:2::{other}")] {
                netns.ip(&format!("neighbour add {address} lladdr {} dev vx0 nud permanent", mac(other)));
            }
        }
        let local = [Lan::WORLD_V4, Lan::WORLD_V6][version];
        self.lan.world.ip(&format!("link add vx0 type vxlan id 8 local {local} remote {end} dstport 4789"));
        sysctl(&self.lan.world, "ipv6/conf/vx0/disable_ipv6", "1");
        self.lan.world.ip("link set vx0 arp off multicast off up");
    }
}

impl Default for Routed {
    fn default() -> Self {
        Self::new()
    }
}

fn sysctl(netns: &Netns, path: &str, value: &str) {
    let path = format!("/proc/sys/net/{path}");
    netns.run(|| fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
}
