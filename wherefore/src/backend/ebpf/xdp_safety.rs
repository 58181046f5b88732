//! What native XDP would change on a device, and whether it came back.
//!
//! A program that only counts must not slow the host down, and many drivers reset their queues or give up offloads for
//! any XDP program. So native XDP is refused where it changes something, unless it is forced.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use nix::net::if_::if_indextoname;

use super::{Error, Start, Target, features::KernelFeature, permission::explain, target};
use crate::backend::{
    interfaces::Interface,
    probe::{self, Routing, ethtool::Ethtool, native_xdp},
};

/// What is known of a device before a program is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The driver's name; `None` where it does not tell.
    pub driver: Option<String>,
    /// Largest IP packet in bytes.
    pub mtu: Option<u32>,
    /// Name of the bridge or bond it is a port of.
    pub master: Option<String>,
    /// Name of the other end of a pair, if that is in the same network namespace.
    pub peer: Option<String>,
    /// Offloads that are on.
    pub features: BTreeSet<String>,
    /// Queues in use, receiving and sending; `None` where the driver does not tell.
    pub channels: Option<(u32, u32)>,
}

/// A driver whose source was read.
struct Driver {
    /// As ethtool names it.
    name: &'static str,
    /// What the first XDP program changes, one each; none: nothing.
    changes: &'static [&'static str],
}

/// What drivers do for the first XDP program, by their source in Linux 6.12; the file and function stand beside each.
const DRIVERS: &[Driver] = &[
    // drivers/net/veth.c: veth_xdp_set, veth_fix_features. Measured: 21.4 became 4.7 Gb/s of TCP.
    driver(
        "veth",
        &[
            "the other end of the pair loses its segmentation offload (TSO, GSO)",
            "most of the pair's speed goes: TCP fell from 21.4 to 4.7 Gb/s where it was measured",
        ],
    ),
    // drivers/net/virtio_net.c: virtnet_xdp_set, virtnet_clear_guest_offloads.
    driver(
        "virtio_net",
        &[
            "the hypervisor may no longer hand over merged packets (receive offload)",
            "all queues pause, and a transmit queue for each processor is taken where there are enough",
        ],
    ),
    // drivers/net/ethernet/intel/ixgbe/ixgbe_main.c: ixgbe_xdp_setup, ixgbe_setup_tc, ixgbe_fix_features.
    driver("ixgbe", &["all queues are torn down and made again", "large receive offload goes off"]),
    // drivers/net/ethernet/intel/ixgbevf/ixgbevf_main.c: ixgbevf_xdp_setup.
    driver("ixgbevf", &["the device is closed and opened again"]),
    // drivers/net/ethernet/intel/i40e/i40e_main.c: i40e_xdp_setup (i40e_prep_for_reset, i40e_reset_and_rebuild).
    driver("i40e", &["the whole adapter is reset"]),
    // drivers/net/ethernet/intel/ice/ice_main.c: ice_xdp_setup_prog (ice_down, ice_up), ice_vsi_determine_xdp_res.
    driver("ice", &["the device goes down and up again", "a transmit queue for each processor is taken"]),
    // drivers/net/ethernet/intel/igb/igb_main.c: igb_xdp_setup.
    driver("igb", &["the device is closed and opened again"]),
    // drivers/net/ethernet/intel/igc/igc_xdp.c: igc_xdp_set_prog.
    driver("igc", &["all rings stop and are set up again"]),
    // drivers/net/ethernet/mellanox/mlx5/core/en_main.c: mlx5e_xdp_set, mlx5e_xdp_allowed.
    driver("mlx5_core", &["all channels are made again", "LRO or hardware GRO must be off"]),
    // drivers/net/ethernet/mellanox/mlx4/en_netdev.c: mlx4_xdp_set.
    driver(
        "mlx4_en",
        &["the port stops and starts again", "a transmit queue is taken for each receive queue"],
    ),
    // drivers/net/ethernet/broadcom/bnxt/bnxt_xdp.c: bnxt_xdp_set, bnxt_set_rx_skb_mode.
    driver(
        "bnxt_en",
        &[
            "the device is closed and opened again",
            "LRO and hardware GRO go off",
            "a transmit queue is taken for each receive queue",
        ],
    ),
    // drivers/net/ethernet/amazon/ena/ena_xdp.c: ena_xdp_set, ena_xdp_allowed.
    driver("ena", &["the device goes down and up again", "at most half of its queues may be in use"]),
    // drivers/net/ethernet/google/gve/gve_main.c: gve_set_xdp.
    driver("gve", &["traffic stops while transmit queues are added"]),
    // drivers/net/hyperv/netvsc_bpf.c: netvsc_bpf, netvsc_vf_setxdp.
    driver("hv_netvsc", &["the program also goes to the virtual function below, whose driver may reset it"]),
    // drivers/net/ethernet/microsoft/mana/mana_bpf.c: mana_xdp_set.
    driver("mana", &["all receive queues are made again", "the largest MTU shrinks to what fits a page"]),
    // drivers/net/vmxnet3/vmxnet3_xdp.c: vmxnet3_xdp_set.
    driver("vmxnet3", &["the device is stopped, reset and started again", "large receive offload goes off"]),
    // drivers/net/xen-netfront.c: xennet_xdp_set; its bus calls it "vif".
    driver("vif", &["the connection to the back end is negotiated anew"]),
    // drivers/net/bonding/bond_main.c: bond_xdp_set.
    driver("bonding", &["the program goes to every device of the bond, whose drivers may reset them"]),
    // drivers/net/tun.c: tun_xdp_set swaps a pointer and sets a flag of each queue's socket.
    driver("tun", &[]),
];

const fn driver(name: &'static str, changes: &'static [&'static str]) -> Driver {
    Driver { name, changes }
}

/// Offloads that drivers switch off for XDP, or refuse it for.
const MERGING: [(&str, &str); 2] =
    [("rx-lro", "large receive offload (LRO)"), ("rx-gro-hw", "hardware receive offload (GRO)")];

/// Bytes of a page that a program without fragments leaves for an IP packet: less `XDP_PACKET_HEADROOM`, the aligned
/// `skb_shared_info` and an Ethernet header, as `veth_xdp_set` counts.
const fn room(page: u32) -> u32 {
    page.saturating_sub(256 + 320 + 14)
}

/// What native XDP would change, one each; none: nothing that anybody would mind. `page`: bytes of a page.
#[must_use]
pub fn objections(facts: &Facts, page: u32) -> Vec<String> {
    let mut found = Vec::new();
    let peer = facts.peer.as_deref().map(|peer| format!(" ({peer})")).unwrap_or_default();
    match &facts.driver {
        Some(name) => match DRIVERS.iter().find(|driver| driver.name == name) {
            Some(driver) => found.extend(driver.changes.iter().map(|change| {
                let pair = "the other end of the pair";
                format!("driver {name}: {}", change.replacen(pair, &format!("{pair}{peer}"), 1))
            })),
            None => {
                found.push(format!("driver {name}: what it changes is not known; most reset their queues"));
            }
        },
        None => found.push("its driver has no name, so what it changes is not known".into()),
    }
    if let Some((receiving, sending)) = facts.channels.filter(|_| !found.is_empty()) {
        found.push(format!("queues that it may change: {receiving} to receive, {sending} to send"));
    }
    for (feature, words) in MERGING {
        if facts.features.contains(feature) {
            found.push(format!("{words} is on, which has to go off"));
        }
    }
    if let Some(mtu) = facts.mtu.filter(|mtu| *mtu > room(page)) {
        found
            .push(format!("its MTU is {mtu}, and {} are what fits a page beside XDP's own room", room(page)));
    }
    if let Some(master) = &facts.master {
        found.push(format!("it is a port of {master}, whose offloads follow those of its ports"));
    }
    found
}

/// What `--hook xdp` comes to on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Attached: nothing changes.
    Harmless,
    /// Refused unless forced: what would change, one each.
    Changes(Vec<String>),
    /// It cannot be attached: why.
    Impossible(String),
    /// The device could not be looked at: why.
    Unknown(String),
}

impl Judgement {
    /// In a word, for tables and scripts: `native`, `refused`, `no`; `None` where it is not known.
    #[must_use]
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Harmless => Some("native"),
            Self::Changes(_) => Some("refused"),
            Self::Impossible(_) => Some("no"),
            Self::Unknown(_) => None,
        }
    }
}

/// By index, what `--hook xdp` comes to on each of these interfaces of the calling thread's network namespace.
#[must_use]
pub fn judge(interfaces: &[Interface]) -> BTreeMap<u32, Judgement> {
    let look = Look::new().map_err(|error| error.to_string());
    let judge = |interface: &Interface| match (target(interface), &look) {
        (Err(error), _) => Judgement::Impossible(error.to_string()),
        (Ok(_), Err(error)) => Judgement::Unknown(error.clone()),
        (Ok(target), Ok(look)) => look
            .judge(&target)
            .map_or_else(|error| Judgement::Unknown(error.to_string()), |(judgement, _)| judgement),
    };
    interfaces.iter().map(|interface| (interface.index, judge(interface))).collect()
}

/// Why no XDP program goes to an interface, in whichever mode.
pub(super) fn obstacle(target: &Target) -> Option<&'static str> {
    if target.start == Start::Ip {
        Some("its packets have no Ethernet header, which XDP wants; --hook tc counts there")
    } else if !KernelFeature::XdpLinks.by_version(&probe::release()) {
        Some(NO_LINKS)
    } else {
        None
    }
}

/// A link by file descriptor goes with the process; a program attached by netlink would stay after a kill.
pub(super) const NO_LINKS: &str = "this kernel has no XDP links (Linux 5.9); --hook tc counts the same";
/// `EOPNOTSUPP`, or no `NETDEV_XDP_ACT_BASIC` (Linux 6.3).
pub(super) const NO_NATIVE: &str = "its driver has no native XDP; --hook tc counts the same, --hook xdp-generic is \
                                    slower and switches receive offload off";

/// Where devices are asked.
struct Look {
    ethtool: Ethtool,
    routing: Routing,
    /// Whether each device's driver runs XDP itself.
    native: BTreeMap<u32, bool>,
}

impl Look {
    fn new() -> io::Result<Self> {
        let native = native_xdp().unwrap_or_default();
        Ok(Self { ethtool: Ethtool::new()?, routing: Routing::open()?, native })
    }

    /// With the facts, where it came to these.
    fn judge(&self, target: &Target) -> io::Result<(Judgement, Facts)> {
        let facts = self.facts(target)?;
        let judgement = match obstacle(target) {
            Some(obstacle) => Judgement::Impossible(obstacle.into()),
            None if self.native.get(&target.index) == Some(&false) => Judgement::Impossible(NO_NATIVE.into()),
            None => match objections(&facts, page_size()) {
                changes if changes.is_empty() => Judgement::Harmless,
                changes => Judgement::Changes(changes),
            },
        };
        Ok((judgement, facts))
    }

    /// What a device does not tell is not held against it: a driver without a name is unknown anyway.
    fn facts(&self, target: &Target) -> io::Result<Facts> {
        let link = self.routing.link(target.index)?.ok_or(io::ErrorKind::NotFound)?;
        let name = |index: u32| if_indextoname(index).ok()?.into_string().ok();
        Ok(Facts {
            driver: self.ethtool.driver(&target.name).ok(),
            mtu: link.mtu,
            master: link.master.and_then(name),
            peer: link.lower.filter(|_| link.kind.as_deref() == Some("veth")).and_then(name),
            features: self.ethtool.features(&target.name).unwrap_or_default(),
            channels: self.ethtool.channels(&target.name).ok(),
        })
    }
}

/// Offloads of a device and of its peer while a program is there.
#[derive(Debug)]
pub struct Offloads {
    ethtool: Ethtool,
    /// By device: those that were on before.
    before: Vec<(String, BTreeSet<String>)>,
}

/// Whether native XDP may be attached: looks at the device, and remembers its offloads. What is forced is warned of.
///
/// # Errors
/// [`Error::XdpChanges`] unless forced; [`Error::NotOffered`]; [`Error::System`].
pub fn allow(target: &Target, forced: bool) -> Result<Offloads, Error> {
    let action = format!("attach to {} (XDP)", target.name);
    let failed = |error: io::Error| explain(&action, &error);
    let look = Look::new().map_err(failed)?;
    let (judgement, facts) = look.judge(target).map_err(failed)?;
    match judgement {
        Judgement::Harmless => {}
        Judgement::Changes(changes) if forced => {
            for change in changes {
                tracing::warn!("{}: native XDP (--force-xdp): {change}", target.name);
            }
        }
        Judgement::Changes(changes) => {
            return Err(Error::XdpChanges { interface: target.name.clone(), changes });
        }
        Judgement::Impossible(reason) => return Err(Error::NotOffered { action, reason }),
        Judgement::Unknown(reason) => return Err(Error::System { action, reason }),
    }
    let Look { ethtool, .. } = look;
    let devices = [Some(target.name.clone()), facts.peer].into_iter().flatten();
    let before =
        devices.filter_map(|device| Some((device.clone(), ethtool.features(&device).ok()?))).collect();
    Ok(Offloads { ethtool, before })
}

impl Offloads {
    /// Offloads that were on and are off, by device.
    #[must_use]
    pub fn missing(&self) -> Vec<(String, Vec<String>)> {
        let mut missing = Vec::new();
        for (device, before) in &self.before {
            // A device that is gone misses nothing.
            let Ok(now) = self.ethtool.features(device) else { continue };
            let gone: Vec<String> = before.difference(&now).cloned().collect();
            if !gone.is_empty() {
                missing.push((device.clone(), gone));
            }
        }
        missing
    }

    /// Says what went off by attaching.
    pub fn tell_attached(&self) {
        for (device, gone) in self.missing() {
            tracing::warn!("{device}: native XDP switched off {}", gone.join(", "));
        }
    }

    /// Says whether all came back by detaching. The program goes with the last copy of its link's descriptor, which a
    /// process that is just being started may hold for a moment.
    pub fn tell_detached(&self) {
        const TRIES: u32 = 10;
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
        let mut missing = self.missing();
        for _ in 0..TRIES {
            if missing.is_empty() {
                break;
            }
            std::thread::sleep(PAUSE);
            missing = self.missing();
        }
        if missing.is_empty() {
            for (device, _) in &self.before {
                tracing::info!("{device}: native XDP is gone, and every offload is as it was");
            }
        }
        for (device, gone) in missing {
            let switches: String = gone.iter().map(|name| format!(" {name} on")).collect();
            tracing::warn!("{device}: still off since native XDP was there: ethtool -K {device}{switches}");
        }
    }
}

fn page_size() -> u32 {
    // SAFETY: sysconf(3) takes a number and touches no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(size).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(driver: &str) -> Facts {
        Facts { driver: Some(driver.into()), mtu: Some(1500), ..Facts::default() }
    }

    #[test]
    fn a_device_that_loses_nothing_is_let_through() {
        assert_eq!(objections(&facts("tun"), 4096), Vec::<String>::new());
    }

    #[test]
    fn what_would_change_is_said() {
        let of = |facts: &Facts| objections(facts, 4096).join("\n");
        let veth = Facts { peer: Some("vb".into()), ..facts("veth") };
        assert!(
            of(&veth).contains("the other end of the pair (vb) loses its segmentation offload (TSO, GSO)")
        );
        let virtio = Facts { channels: Some((2, 2)), ..facts("virtio_net") };
        assert!(of(&virtio).contains("receive offload") && of(&virtio).contains("2 to receive"));
        assert!(of(&facts("lan78xx")).contains("driver lan78xx: what it changes is not known"));
        assert!(of(&Facts::default()).contains("no name"));
        let merging = Facts { features: ["rx-lro".to_owned()].into(), ..facts("tun") };
        assert!(of(&merging).contains("large receive offload (LRO) is on"));
        let jumbo = Facts { mtu: Some(9000), ..facts("tun") };
        assert!(of(&jumbo).contains("its MTU is 9000, and 3506 are"), "{}", of(&jumbo));
        let port = Facts { master: Some("br0".into()), ..facts("tun") };
        assert!(of(&port).contains("it is a port of br0"));
    }

    #[test]
    fn no_driver_is_named_twice() {
        let names: BTreeSet<&str> = DRIVERS.iter().map(|driver| driver.name).collect();
        assert_eq!(names.len(), DRIVERS.len());
    }
}
