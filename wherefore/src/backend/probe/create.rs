//! Makes a veth pair with an address, in the calling thread's network namespace.

use std::{io, net::Ipv4Addr};

use nix::{net::if_::if_nametoindex, sys::socket::SockProtocol};

use super::netlink::{Ask, Socket, encode_attribute};

/// `linux/if_link.h`, `linux/veth.h`, `linux/if_addr.h`.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// struct ifinfomsg: family and padding, type, index, flags, which flags to change.
fn ifinfomsg(index: u32, flags: i32, change: i32) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(index.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(change.to_ne_bytes());
    message
}

fn name_attribute(name: &str) -> Vec<u8> {
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    encode_attribute(libc::IFLA_IFNAME, &text)
}

/// Makes two Ethernet devices of which each receives what the other sends. Both are up, ask nobody for addresses
/// (no ARP, no multicast) and say nothing by themselves.
///
/// # Errors
/// What the kernel says: `EOPNOTSUPP` where it has no veth.
pub(crate) fn veth_pair(near: &str, far: &str) -> io::Result<()> {
    let route = Socket::open(SockProtocol::NetlinkRoute)?;
    let peer = [ifinfomsg(0, 0, 0), name_attribute(far)].concat();
    let info = [
        encode_attribute(IFLA_INFO_KIND, b"veth"),
        encode_attribute(IFLA_INFO_DATA, &encode_attribute(VETH_INFO_PEER, &peer)),
    ]
    .concat();
    let request =
        [ifinfomsg(0, 0, 0), name_attribute(near), encode_attribute(libc::IFLA_LINKINFO, &info)].concat();
    route.ask(libc::RTM_NEWLINK, Ask::New, &request)?;
    for device in [near, far] {
        let index = if_nametoindex(device)?;
        // Without an address of its own IPv6 discovers no neighbours. A kernel without IPv6 refuses this and
        // needs it not.
        let mode = encode_attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        let inet6 = encode_attribute(libc::AF_INET6 as u16, &mode);
        let quiet = [ifinfomsg(index, 0, 0), encode_attribute(libc::IFLA_AF_SPEC, &inet6)].concat();
        match route.ask(libc::RTM_NEWLINK, Ask::One, &quiet) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
            done => drop(done?),
        }
        let up = libc::IFF_UP | libc::IFF_NOARP;
        let request = ifinfomsg(index, up, up | libc::IFF_MULTICAST);
        route.ask(libc::RTM_NEWLINK, Ask::One, &request)?;
    }
    Ok(())
}

/// Gives a device an address with a prefix of 24 bits.
///
/// # Errors
/// What the kernel says.
pub(crate) fn address(device: &str, address: Ipv4Addr) -> io::Result<()> {
    // struct ifaddrmsg: family, prefix, flags, scope, index.
    let mut request = vec![libc::AF_INET as u8, 24, 0, 0];
    request.extend(if_nametoindex(device)?.to_ne_bytes());
    request.extend(encode_attribute(IFA_LOCAL, &address.octets()));
    request.extend(encode_attribute(IFA_ADDRESS, &address.octets()));
    Socket::open(SockProtocol::NetlinkRoute)?.ask(libc::RTM_NEWADDR, Ask::New, &request).map(drop)
}
