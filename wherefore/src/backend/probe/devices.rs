//! Interfaces as rtnetlink lists them, and the programs attached to each.

use std::{collections::BTreeMap, io};

use nix::sys::socket::SockProtocol;

use super::{
    chain::{self, Attached, Place, Way},
    netlink::{Ask, Socket, attribute, attributes, encode_attribute, text, u16_at, u32_at, u64_at},
};
use crate::backend::Error;

/// One interface with what is attached to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Number by which the kernel knows it.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind of a virtual device (`veth`, `bridge`, …); `None` for hardware and the loopback device.
    pub kind: Option<String>,
    /// The link works (`IF_OPER_UP`, or unknown, as devices without a cable say); false: no carrier or down.
    pub running: bool,
    /// Has a clsact queueing discipline.
    pub clsact: bool,
    /// The kernel has TCX (6.6 or newer); `None` where that could not be found out.
    pub tcx: Option<bool>,
    /// Programs in the order in which packets meet them, by place.
    pub attached: Vec<Attached>,
    /// What could not be found out, one sentence each.
    pub unknown: Vec<String>,
}

/// All interfaces of the calling thread's network namespace, by index.
///
/// What is attached to TCX is only told to a process with `CAP_NET_ADMIN`, by number only without
/// `CAP_SYS_ADMIN`; what is not told the device says in [`Device::unknown`].
///
/// # Errors
/// [`Error::System`] when the kernel does not list the interfaces at all.
pub fn devices() -> Result<Vec<Device>, Error> {
    let failed = |error: io::Error| Error::System {
        action: "listing the interfaces by netlink".into(),
        reason: error.to_string(),
    };
    let route = Socket::open(SockProtocol::NetlinkRoute).map_err(failed)?;
    // struct ifinfomsg of linux/rtnetlink.h: all zeros means every interface.
    let links = route.ask(libc::RTM_GETLINK, Ask::All, &[0; 16]).map_err(failed)?;
    let mut devices: Vec<Device> = links.iter().filter_map(|link| device(&link.body)).collect();
    devices.sort_by_key(|device| device.index);

    let clsact = chain::clsact(&route);
    let names = chain::program_names();
    for device in &mut devices {
        add_tcx(device);
        device.attached.iter_mut().for_each(|attached| attached.take_name(&names));
        match &clsact {
            Ok(having) if having.contains(&device.index) => {
                device.clsact = true;
                add_filters(device);
            }
            Ok(_) => {}
            Err(error) => device.unknown.push(format!("clsact: {error}")),
        }
    }
    Ok(devices)
}

/// One `RTM_NEWLINK`: struct ifinfomsg (16 bytes, the index at 4), then attributes.
fn device(body: &[u8]) -> Option<Device> {
    const IFINFOMSG: usize = 16;
    const IFLA_INFO_KIND: u16 = 1;
    const IF_OPER_UNKNOWN: u8 = 0;
    const IF_OPER_UP: u8 = 6;
    let index = u32_at(body, 4)?;
    let flags = u32_at(body, 8)?;
    let attrs = body.get(IFINFOMSG..)?;
    let state = attribute(attrs, libc::IFLA_OPERSTATE).and_then(|value| value.first().copied());
    let kind =
        attribute(attrs, libc::IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND)).map(text);
    Some(Device {
        index,
        name: text(attribute(attrs, libc::IFLA_IFNAME)?),
        kind,
        running: flags & libc::IFF_UP as u32 != 0
            && matches!(state, Some(IF_OPER_UNKNOWN | IF_OPER_UP) | None),
        attached: attribute(attrs, libc::IFLA_XDP).map(xdp).unwrap_or_default(),
        ..Device::default()
    })
}

/// `IFLA_XDP` of `linux/if_link.h`: the mode, then the programs, one for each mode where there are several.
pub(super) fn xdp(nested: &[u8]) -> Vec<Attached> {
    const ATTACHED: u16 = 2;
    const PROG_ID: u16 = 4;
    const MULTI: u8 = 4;
    let mode = attribute(nested, ATTACHED).and_then(|value| value.first().copied()).unwrap_or_default();
    let place = |number| match number {
        1 => Some(Place::XdpNative),
        2 => Some(Place::XdpGeneric),
        3 => Some(Place::XdpOffloaded),
        _ => None,
    };
    let mut found = Vec::new();
    for (kind, value) in attributes(nested) {
        let place = match kind {
            PROG_ID if mode != MULTI => place(mode.into()),
            // IFLA_XDP_DRV_PROG_ID, _SKB_PROG_ID and _HW_PROG_ID.
            5..=7 if mode == MULTI => place(kind - 4),
            _ => None,
        };
        if let (Some(place), Some(id)) = (place, u32_at(value, 0)) {
            found.push(Attached::program(place, id));
        }
    }
    found
}

fn add_tcx(device: &mut Device) {
    for way in Way::ALL {
        match chain::tcx(device.index, way) {
            Ok(programs) => {
                device.tcx = Some(true);
                device.attached.extend(programs);
            }
            // The kernel does not know what is asked for.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                device.tcx = Some(false);
                return;
            }
            Err(error) => {
                device.unknown.push(format!("{}: {}", way.tcx(), error));
                return;
            }
        }
    }
}

fn add_filters(device: &mut Device) {
    for way in Way::ALL {
        match chain::filters(device.index, way) {
            Ok(filters) => device.attached.extend(filters),
            Err(error) => device.unknown.push(format!("{}: {error}", way.clsact())),
        }
    }
}

/// Whether each interface's driver runs XDP itself, from the kernel's `netdev` family (6.3 or newer).
pub(in crate::backend) fn native_xdp() -> io::Result<BTreeMap<u32, bool>> {
    const GENL_ID_CTRL: u16 = 0x10;
    const CTRL_CMD_GETFAMILY: u8 = 3;
    const CTRL_ATTR_FAMILY_ID: u16 = 1;
    const CTRL_ATTR_FAMILY_NAME: u16 = 2;
    const NETDEV_CMD_DEV_GET: u8 = 1;
    const NETDEV_A_DEV_IFINDEX: u16 = 1;
    const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
    const NETDEV_XDP_ACT_BASIC: u64 = 1;
    /// struct genlmsghdr: command, version, two bytes reserved.
    const GENLMSGHDR: usize = 4;

    let generic = Socket::open(SockProtocol::NetlinkGeneric)?;
    let mut request = vec![CTRL_CMD_GETFAMILY, 2, 0, 0];
    request.extend(encode_attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0"));
    let answer = generic.ask(GENL_ID_CTRL, Ask::One, &request)?;
    let family = answer
        .first()
        .and_then(|message| attribute(message.body.get(GENLMSGHDR..)?, CTRL_ATTR_FAMILY_ID))
        .and_then(|value| u16_at(value, 0))
        .ok_or(io::ErrorKind::NotFound)?;
    let devices = generic.ask(family, Ask::All, &[NETDEV_CMD_DEV_GET, 1, 0, 0])?;
    Ok(devices
        .iter()
        .filter_map(|message| {
            let attrs = message.body.get(GENLMSGHDR..)?;
            let index = u32_at(attribute(attrs, NETDEV_A_DEV_IFINDEX)?, 0)?;
            let features = u64_at(attribute(attrs, NETDEV_A_DEV_XDP_FEATURES)?, 0)?;
            Some((index, features & NETDEV_XDP_ACT_BASIC != 0))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use nix::{
        sched::{CloneFlags, unshare},
        unistd::Uid,
    };

    use super::*;

    fn run(command: &str) {
        let status = Command::new("sh").args(["-c", command]).status();
        assert!(status.is_ok_and(|status| status.success()), "{command}");
    }

    #[test]
    fn several_xdp_programs_keep_their_modes() {
        let mut nested = encode_attribute(2, &[4]);
        nested.extend(encode_attribute(5, &7u32.to_ne_bytes()));
        nested.extend(encode_attribute(6, &8u32.to_ne_bytes()));
        let found: Vec<_> = xdp(&nested).into_iter().map(|attached| (attached.place, attached.id)).collect();
        assert_eq!(found, [(Place::XdpNative, Some(7)), (Place::XdpGeneric, Some(8))]);
    }

    /// In a network namespace of its own, which ends with the thread.
    #[test]
    fn filters_of_a_real_interface_are_found() {
        let required = std::env::var_os("WHEREFORE_REQUIRE_BPF").is_some_and(|value| value == "1");
        if !Uid::effective().is_root() {
            assert!(!required, "this test needs root");
            eprintln!("skipped: needs root to make a network namespace");
            return;
        }
        let result = thread::spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                return Err(error.to_string());
            }
            run("ip link add v0 type veth peer name v1");
            run("ip link set v0 up");
            run("tc qdisc add dev v0 clsact");
            run("tc filter add dev v0 egress pref 7 protocol all bpf bytecode '1,6 0 0 0'");
            devices().map_err(|error| error.to_string())
        })
        .join();
        let devices = match result {
            Ok(Ok(devices)) => devices,
            other => {
                assert!(!required, "{other:?}");
                eprintln!("skipped: {other:?}");
                return;
            }
        };
        let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        assert!(names.contains(&"v0") && names.contains(&"v1") && names.contains(&"lo"), "{names:?}");
        let v0 = devices.iter().find(|device| device.name == "v0");
        assert!(v0.is_some_and(|v0| v0.clsact && v0.kind.as_deref() == Some("veth")), "{v0:?}");
        let attached: Vec<_> = v0.into_iter().flat_map(|v0| &v0.attached).collect();
        assert_eq!(attached.len(), 1, "{v0:?}");
        assert_eq!((attached[0].place, attached[0].priority), (Place::ClsactEgress, Some(7)));
    }
}
