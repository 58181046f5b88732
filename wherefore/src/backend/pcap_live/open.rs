//! Opening one capture: an interface in one direction.

use std::{
    os::fd::AsFd,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64},
    },
    time::{Duration, Instant},
};

use caps::{CapSet, Capability};
use pcap::{Active, Capture, Precision};
use wherefore_common::Direction;

use super::{
    HAND_OVER, direction,
    expression::Expressions,
    watch::{Handle, Watch},
};
use crate::{
    backend::{Error, LiveSettings, interfaces::Interface, probe},
    time::Timestamp,
};

/// Bytes of the ring between kernel and agent, each capture. Room for some 5,000 full frames, or 80 ms of
/// half a million packets a second at a snap length of 64.
const RING: i32 = 8 << 20;
/// The most libpcap takes (`MAXIMUM_SNAPLEN`).
const MAX_SNAPLEN: u32 = 262_144;

/// Opens a capture that never blocks, restricted to one direction.
///
/// # Errors
/// As for [`super::start`].
pub(super) fn open(
    settings: &LiveSettings,
    expressions: Option<&mut Expressions>,
    interface: &Interface,
    way: Direction,
) -> Result<Watch, Error> {
    let name = interface.name.as_str();
    let failed =
        |action: &str, error: String| Error::System { action: format!("{action} on {name}"), reason: error };
    let mut snaplen = settings.snaplen.clamp(1, MAX_SNAPLEN);
    let mut opened = (Instant::now(), Timestamp::now());
    let mut capture = activate(settings, interface, snaplen)?;
    let compiles = expressions.as_ref().is_some_and(|expressions| !expressions.has(capture.get_datalink().0));
    let expression =
        expressions.map(|expressions| expressions.compile(&capture, interface, way)).transpose()?;
    // What is cut off cannot be asked about.
    let reach = expression.as_ref().map_or(0, |expression| expression.reach().unwrap_or(MAX_SNAPLEN));
    // Compiling may take minutes, while nobody reads: of what came meanwhile the ring holds the beginning only.
    if compiles || reach > snaplen {
        snaplen = snaplen.max(reach.min(MAX_SNAPLEN));
        opened = (Instant::now(), Timestamp::now());
        capture = activate(settings, interface, snaplen)?;
    }
    // Whatever is in the ring by now is sorted by libpcap, what comes later by the kernel.
    let side = if way == Direction::Egress { pcap::Direction::Out } else { pcap::Direction::In };
    capture.direction(side).map_err(|error| failed("choosing a direction", error.to_string()))?;
    if let Err(error) = direction::restrict(&capture, way, snaplen) {
        // Still exact: libpcap sorts. Only slower, and drops of the other direction count.
        tracing::debug!(interface = name, %error, "directions are sorted in user space");
    }
    // Until now both directions came: what did not fit may have been of the other one.
    let drops = capture.stats().map_or(0, |stats| stats.dropped);
    let socket = capture
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| failed("duplicating the capture's socket", error.to_string()))?;
    Ok(Watch {
        index: interface.index,
        direction: way,
        opened,
        mtu: AtomicU32::new(interface.mtu.unwrap_or_default()),
        end: AtomicU64::new(u64::MAX),
        linktype: capture.get_datalink().0,
        expression,
        socket,
        capture: Mutex::new(Handle { capture, drops, gone: false }),
    })
}

/// A capture of both directions, of which each packet is kept up to `snaplen` bytes.
fn activate(settings: &LiveSettings, interface: &Interface, snaplen: u32) -> Result<Capture<Active>, Error> {
    let timeout = settings.read_timeout.clamp(Duration::from_millis(1), HAND_OVER);
    Capture::from_device(interface.name.as_str())
        .map_err(|error| Error::System {
            action: format!("preparing a capture on {}", interface.name),
            reason: error.to_string(),
        })?
        .snaplen(snaplen as i32)
        .promisc(settings.promiscuous)
        .timeout(timeout.as_millis() as i32)
        .buffer_size(RING)
        .precision(Precision::Nano)
        .open()
        .and_then(Capture::setnonblock)
        .map_err(|error| refused(interface, &error.to_string()))
}

/// Why a capture could not be opened, with what to do about it.
fn refused(interface: &Interface, reason: &str) -> Error {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    if !has(Capability::CAP_NET_RAW) {
        return Error::Permission(permission(&interface.name));
    }
    let hint = if interface.up {
        String::new()
    } else {
        format!("; the interface is down: ip link set {} up", interface.name)
    };
    Error::System {
        action: format!("opening a capture on {}", interface.name),
        reason: format!("{reason}{hint}"),
    }
}

/// Promiscuous mode of a packet socket asks for no more (seen on Linux 6.18 without `CAP_NET_ADMIN`).
fn permission(interface: &str) -> String {
    format!("capturing on {interface} needs CAP_NET_RAW\n{}", probe::ways_to_allow())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_come_with_the_commands_to_run() {
        let text = permission("eth0");
        assert!(text.starts_with("capturing on eth0 needs CAP_NET_RAW\n"), "{text}");
        for command in [": sudo setcap cap_bpf,cap_net_admin,cap_perfmon,cap_net_raw+ep /", ":   sudo /"] {
            assert!(text.contains(command), "{text}");
        }
    }
}
