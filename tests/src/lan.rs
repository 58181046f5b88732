//! Two namespaces joined by a veth pair on which nothing moves but what a test sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{device, netns::Netns};

/// A watched host and the rest of the world, joined by a cable.
///
/// `host` has [`Lan::HOST_DEVICE`] with [`Lan::HOST_V4`] and [`Lan::HOST_V6`] and default routes by way of
/// the world; `world` has [`Lan::WORLD_DEVICE`] with [`Lan::WORLD_V4`], [`Lan::WORLD_V6`] and
/// [`Lan::FAR_V4`], which the host reaches by its default route only.
///
/// Neighbours are static and address resolution is off, so the kernel neither asks for addresses nor
/// reports multicast groups: seen with tcpdump, no packet in three seconds.
#[derive(Debug)]
pub struct Lan {
    /// The host that is watched.
    pub host: Netns,
    /// Everything else.
    pub world: Netns,
}

impl Lan {
    /// The host's end of the cable.
    pub const HOST_DEVICE: &str = "eth0";
    /// The world's end.
    pub const WORLD_DEVICE: &str = "peer0";
    /// The host's address, in a /24.
    pub const HOST_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    /// The world's address in the same net.
    pub const WORLD_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    /// An address of the world behind the default route.
    pub const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    /// An address in the net that nobody has: packets to it are dropped without an answer.
    pub const NOBODY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
    /// The host's IPv6 address, in a /64.
    pub const HOST_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    /// The world's IPv6 address in the same net.
    pub const WORLD_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
    /// An IPv6 address in the net that nobody has.
    pub const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99);

    /// Sets both up, with segmentation and receive offloads as the kernel has them.
    ///
    /// # Panics
    /// When something cannot be set up.
    #[must_use]
    pub fn new() -> Self {
        let (host, world) = (Netns::new("host"), Netns::new("world"));
        let (eth, peer) = (Self::HOST_DEVICE, Self::WORLD_DEVICE);
        host.ip(&format!("link add {eth} type veth peer name {peer} netns {}", world.path()));
        let this = Self { host, world };
        for (end, v4, v6) in
            [(this.host(), Self::HOST_V4, Self::HOST_V6), (this.world(), Self::WORLD_V4, Self::WORLD_V6)]
        {
            let (netns, device) = end;
            netns.ip(&format!("link set {device} arp off multicast off addrgenmode none"));
            netns.ip(&format!("address add {v4}/24 dev {device}"));
            netns.ip(&format!("address add {v6}/64 dev {device} nodad"));
            netns.ip(&format!("link set {device} up"));
        }
        this.world.ip(&format!("address add {}/32 dev lo", Self::FAR_V4));
        for (end, other, addresses) in [
            (this.host(), this.world(), [Self::WORLD_V4, Self::WORLD_V6]),
            (this.world(), this.host(), [Self::HOST_V4, Self::HOST_V6]),
        ] {
            let mac = device::mac(other.0, other.1).map(|byte| format!("{byte:02x}")).join(":");
            for address in addresses {
                end.0.ip(&format!("neighbour add {address} lladdr {mac} dev {} nud permanent", end.1));
            }
        }
        this.host.ip(&format!("route add default via {}", Self::WORLD_V4));
        this.host.ip(&format!("-6 route add default via {}", Self::WORLD_V6));
        this
    }

    /// As [`Lan::new`], with segmentation and receive offloads off at both ends, so that every packet of a
    /// TCP connection crosses as one frame and libpcap, eBPF and the device see the same packets.
    ///
    /// # Panics
    /// When something cannot be set up.
    #[must_use]
    pub fn without_offloads() -> Self {
        let this = Self::new();
        for (netns, device) in [this.host(), this.world()] {
            device::offloads_off(netns, device);
        }
        this
    }

    /// The host with the name of its device.
    #[must_use]
    pub const fn host(&self) -> (&Netns, &'static str) {
        (&self.host, Self::HOST_DEVICE)
    }

    /// The world with the name of its device.
    #[must_use]
    pub const fn world(&self) -> (&Netns, &'static str) {
        (&self.world, Self::WORLD_DEVICE)
    }
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}
