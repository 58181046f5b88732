//! What a device belongs to, and what belongs to it.

use std::io;

use nix::{net::if_::if_indextoname, sys::socket::SockProtocol};

use super::{
    devices::native_xdp,
    netlink::{Ask, Socket, attribute, text, u32_at},
};

/// A device among others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::backend) struct Relations {
    /// Largest IP packet in bytes.
    pub mtu: Option<u32>,
    /// Name of the bridge, bond or other device it is a port of.
    pub master: Option<String>,
    /// Name of the other end of a pair, if that is in the same network namespace.
    pub peer: Option<String>,
    /// The driver runs XDP itself; `None` where the kernel does not say (before 6.3).
    pub native_xdp: Option<bool>,
}

/// Asks in the calling thread's network namespace.
///
/// # Errors
/// What rtnetlink says.
pub(in crate::backend) fn relations(index: u32) -> io::Result<Relations> {
    const IFINFOMSG: usize = 16;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_LINK_NETNSID: u16 = 37;
    let mut request = [0; IFINFOMSG];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    let answer = Socket::open(SockProtocol::NetlinkRoute)?.ask(libc::RTM_GETLINK, Ask::One, &request)?;
    let Some(attrs) = answer.first().and_then(|message| message.body.get(IFINFOMSG..)) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let number = |kind| attribute(attrs, kind).and_then(|value| u32_at(value, 0));
    let name = |kind| number(kind).and_then(|index| if_indextoname(index).ok()?.into_string().ok());
    let kind =
        attribute(attrs, libc::IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND)).map(text);
    let elsewhere = attribute(attrs, IFLA_LINK_NETNSID).is_some();
    Ok(Relations {
        peer: if kind.as_deref() == Some("veth") && !elsewhere { name(libc::IFLA_LINK) } else { None },
        mtu: number(libc::IFLA_MTU),
        master: name(libc::IFLA_MASTER),
        native_xdp: native_xdp().ok().and_then(|devices| devices.get(&index).copied()),
    })
}
