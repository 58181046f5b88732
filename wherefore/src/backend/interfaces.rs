//! Which interfaces the host has, and which of them to watch.
//!
//! Everything comes from the network namespace of the calling thread: getifaddrs(3), ioctl(2) and
//! `/proc/thread-self/net`. Not from `/sys/class/net`, which shows the namespace it was mounted in.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nametoindex},
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, socket},
};

use super::Error;

/// `ARPHRD_RAWIP` of `linux/if_arp.h`: modems and other devices without a link header.
const ARPHRD_RAWIP: u16 = 519;

/// What a frame of an interface begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// An Ethernet header.
    Ethernet,
    /// The IP header itself: tun, WireGuard, PPP, IP tunnels.
    Ip,
    /// The loopback device; its frames look like Ethernet with zero addresses.
    Loopback,
    /// Another `ARPHRD_` number of `linux/if_arp.h`.
    Other(u16),
}

impl LinkKind {
    /// The kind that a hardware type of `linux/if_arp.h` stands for.
    #[must_use]
    pub const fn from_arphrd(hardware: u16) -> Self {
        match hardware {
            libc::ARPHRD_ETHER => Self::Ethernet,
            libc::ARPHRD_LOOPBACK => Self::Loopback,
            libc::ARPHRD_NONE
            | ARPHRD_RAWIP
            | libc::ARPHRD_PPP
            | libc::ARPHRD_TUNNEL
            | libc::ARPHRD_TUNNEL6
            | libc::ARPHRD_SIT => Self::Ip,
            other => Self::Other(other),
        }
    }
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Number by which the kernel knows it.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Switched on by the administrator (`IFF_UP`); says nothing about the cable.
    pub up: bool,
    /// The loopback device.
    pub loopback: bool,
    /// What its frames begin with.
    pub link: LinkKind,
    /// Addresses with the length of their prefix, in the kernel's order.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Largest IP packet in bytes, where the kernel says.
    pub mtu: Option<u32>,
    /// Carries a default route of the main table, IPv4 or IPv6.
    pub default_route: bool,
}

/// The interfaces to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// By index; never empty.
    pub interfaces: Vec<Interface>,
    /// Why these: `named`, `default route`, `no default route: every interface that is up`.
    pub why: String,
}

/// All interfaces of the calling thread's network namespace, by index.
///
/// # Errors
/// [`Error::System`] when the kernel does not list them.
pub fn list() -> Result<Vec<Interface>, Error> {
    let failed = |errno: nix::Error| Error::System {
        action: "listing the network interfaces".into(),
        reason: errno.to_string(),
    };
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    let mut addresses: Vec<(String, (IpAddr, u8))> = Vec::new();
    let control = control()?;
    for entry in getifaddrs().map_err(failed)? {
        // An address label (`eth0:1`) is still an address of eth0.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        if let Some(ip) = entry.address.as_ref().and_then(ip_address) {
            let prefix = entry.netmask.as_ref().and_then(ip_address).map_or(0, prefix_length);
            addresses.push((name.to_owned(), (ip, prefix)));
        } else if let Ok(index) = if_nametoindex(name) {
            // A device without a link-layer address (tun) has an entry without an address here, so its
            // number and type are asked for. One that is gone by now is left out.
            let interface = Interface {
                index,
                name: name.to_owned(),
                up: entry.flags.contains(InterfaceFlags::IFF_UP),
                loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
                link: hardware_type(&control, name).map_or(LinkKind::Other(u16::MAX), LinkKind::from_arphrd),
                addresses: Vec::new(),
                mtu: mtu(&control, name).ok(),
                default_route: false,
            };
            found.insert(interface.name.clone(), interface);
        }
    }
    for (name, address) in addresses {
        if let Some(interface) = found.get_mut(&name) {
            interface.addresses.push(address);
        }
    }
    let routed = default_route_interfaces();
    let mut interfaces: Vec<Interface> = found.into_values().collect();
    for interface in &mut interfaces {
        interface.default_route = routed.contains(&interface.name);
    }
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// The interfaces to watch: those named, else those that carry a default route, else all that are up.
///
/// # Errors
/// [`Error::NoInterface`] for a name that does not exist; [`Error::System`] when nothing is left to watch.
pub fn choose(named: &[String]) -> Result<Chosen, Error> {
    pick(&list()?, named)
}

/// What [`choose`] does with a list of interfaces. Pure.
fn pick(all: &[Interface], named: &[String]) -> Result<Chosen, Error> {
    if let Some(unknown) = named.iter().find(|name| all.iter().all(|i| i.name != **name)) {
        let known: Vec<&str> = all.iter().map(|i| i.name.as_str()).collect();
        return Err(Error::NoInterface { name: unknown.clone(), known: known.join(", ") });
    }
    let those = |wanted: &dyn Fn(&Interface) -> bool, why: &str| {
        let interfaces: Vec<Interface> = all.iter().filter(|i| wanted(i)).cloned().collect();
        (!interfaces.is_empty()).then(|| Chosen { interfaces, why: why.into() })
    };
    if !named.is_empty() {
        return those(&|i| named.contains(&i.name), "named").ok_or_else(nothing);
    }
    those(&|i| i.default_route, "default route")
        .or_else(|| those(&|i| i.up && !i.loopback, "no default route: every interface that is up"))
        .ok_or_else(nothing)
}

fn nothing() -> Error {
    Error::System {
        action: "choosing an interface".into(),
        reason: "no default route, and no interface but the loopback device is up; \
                 name one with -i (-i lo watches the loopback device)"
            .into(),
    }
}

fn ip_address(address: &SockaddrStorage) -> Option<IpAddr> {
    address
        .as_sockaddr_in()
        .map(|v4| IpAddr::V4(v4.ip()))
        .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn prefix_length(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    // At most 128.
    ones as u8
}

/// A socket to ask about interfaces with.
pub(super) fn control() -> Result<OwnedFd, Error> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .or_else(|_| socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None))
        .map_err(|errno| Error::System {
            action: "asking for the network interfaces".into(),
            reason: errno.to_string(),
        })
}

/// Largest IP packet in bytes.
pub(super) fn mtu(control: &OwnedFd, name: &str) -> io::Result<u32> {
    let answer = ask(control, name, libc::SIOCGIFMTU as _)?;
    // SAFETY: SIOCGIFMTU succeeded, so this is the member it wrote; any bytes are an integer.
    u32::try_from(unsafe { answer.ifr_ifru.ifru_mtu }).map_err(io::Error::other)
}

fn hardware_type(control: &OwnedFd, name: &str) -> io::Result<u16> {
    let answer = ask(control, name, libc::SIOCGIFHWADDR as _)?;
    // SAFETY: SIOCGIFHWADDR succeeded, so this is the member it wrote; any bytes are integers.
    Ok(unsafe { answer.ifr_ifru.ifru_hwaddr.sa_family })
}

/// An ioctl's request about the interface `name`.
pub(super) fn ifreq(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is integers, byte arrays and a union of such; all zeros are valid.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    let room = ifreq.ifr_name.len() - 1;
    for (to, from) in ifreq.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    ifreq
}

/// Asks the kernel about one interface: a request of netdevice(7) that fills in an `ifreq`.
fn ask(control: &OwnedFd, name: &str, request: libc::Ioctl) -> io::Result<libc::ifreq> {
    let mut ifreq = ifreq(name);
    // SAFETY: the requests of this file read ifr_name and write within the ifreq, which outlives the call.
    if unsafe { libc::ioctl(control.as_raw_fd(), request, &raw mut ifreq) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ifreq)
}

/// Names of the interfaces with default routes in the main tables. A host without one of the files (IPv6
/// switched off) has no such routes. Of an IPv4 multipath route the kernel lists the first path only.
fn default_route_interfaces() -> Vec<String> {
    let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let mut names = ipv4_defaults(&read("route"));
    names.extend(ipv6_defaults(&read("ipv6_route")));
    names
}

/// `RTF_UP` of `linux/route.h`.
const ROUTE_UP: u32 = 0x0001;
/// `RTF_REJECT`: unreachable, prohibit, blackhole.
const ROUTE_REJECT: u32 = 0x0200;

fn leads_out(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & (ROUTE_UP | ROUTE_REJECT) == ROUTE_UP)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers in hexadecimal.
fn ipv4_defaults(table: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [name, "00000000", _, flags, _, _, _, "00000000", ..] = fields[..]
            && leads_out(flags)
            && name != "lo"
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// `destination length source length gateway metric refcnt use flags interface`, numbers in hexadecimal.
fn ipv6_defaults(table: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [destination, "00", _, "00", _, _, _, _, flags, name] = fields[..]
            && destination.bytes().all(|digit| digit == b'0')
            && leads_out(flags)
            && name != "lo"
        {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, up: bool, default_route: bool) -> Interface {
        Interface {
            index,
            name: name.into(),
            up,
            loopback: name == "lo",
            link: LinkKind::Ethernet,
            addresses: Vec::new(),
            mtu: Some(1500),
            default_route,
        }
    }

    fn names(chosen: &Chosen) -> Vec<&str> {
        chosen.interfaces.iter().map(|i| i.name.as_str()).collect()
    }

    #[test]
    fn named_then_default_routes_then_all_that_are_up() {
        let all = vec![
            interface(1, "lo", true, false),
            interface(2, "eth0", true, true),
            interface(3, "eth1", true, true),
            interface(4, "tun0", true, false),
            interface(5, "eth2", false, false),
        ];
        let named = pick(&all, &["lo".into(), "tun0".into(), "lo".into()]).unwrap();
        assert_eq!((names(&named), named.why.as_str()), (vec!["lo", "tun0"], "named"));
        assert_eq!(names(&pick(&all, &[]).unwrap()), ["eth0", "eth1"]);

        let unrouted: Vec<Interface> =
            all.into_iter().map(|i| Interface { default_route: false, ..i }).collect();
        let up = pick(&unrouted, &[]).unwrap();
        assert_eq!(names(&up), ["eth0", "eth1", "tun0"]);
        assert_eq!(up.why, "no default route: every interface that is up");

        let error = pick(&unrouted[..1], &[]).unwrap_err().to_string();
        assert!(error.contains("-i"), "{error}");
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let all = vec![interface(1, "lo", true, false), interface(2, "eth0", true, true)];
        let error = pick(&all, &["eth0".into(), "eht0".into()]).unwrap_err().to_string();
        assert_eq!(error, "no interface named \"eht0\"; there are: lo, eth0");
    }

    #[test]
    fn default_routes_are_read_and_rejecting_ones_are_not() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  eth1\t00000000\t00000000\t0001\t0\t0\t100\t00000000\t0\t0\t0\n\
                  *\t00000000\t00000000\t0200\t0\t0\t200\t00000000\t0\t0\t0\n\
                  vpn0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n\
                  eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                  broken\t00000000\n";
        assert_eq!(ipv4_defaults(v4), ["eth0", "eth1"]);

        let zero = "0".repeat(32);
        let net = "20010db8000000000000000000000000";
        let v6 = format!(
            "{net} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth0\n\
             {zero} 00 {zero} 00 {net} 00000400 00000001 00000000 00000003     eth2\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             {zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 00000203     eth3\n"
        );
        assert_eq!(ipv6_defaults(&v6), ["eth2"]);
    }

    #[test]
    fn this_host_has_a_loopback_device() {
        let all = list().unwrap();
        let lo = all.iter().find(|i| i.loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.link, lo.default_route), ("lo", LinkKind::Loopback, false));
        assert!(lo.index > 0 && lo.mtu.is_some());
        if lo.up {
            assert!(lo.addresses.contains(&(IpAddr::from([127, 0, 0, 1]), 8)), "{:?}", lo.addresses);
        }
    }
}
