//! Why the kernel programs miss packets that a device counts.

use std::collections::BTreeSet;

use super::{EbpfBackend, attach, lock, order};
use crate::{
    backend::{
        Hook,
        coverage::{Counted, behind_xdp, xdp},
        probe::{self, Attached, DeviceCounters, Way},
    },
    coverage::Coverage,
};

impl Counted for EbpfBackend {
    fn places(&self) -> BTreeSet<(u32, u8)> {
        lock(&self.seats).keys().flat_map(|index| [(*index, 0), (*index, 1)]).collect()
    }

    fn before_queue(&self) -> bool {
        true
    }

    fn cause(&self, counters: &DeviceCounters, index: u32, way: Way, _: &Coverage) -> String {
        let own = lock(&self.seats).get(&index).cloned().unwrap_or_default();
        cause(counters, index, way, self.hook, &own)
    }
}

/// Why packets may be missing, and where to look.
fn cause(counters: &DeviceCounters, index: u32, way: Way, hook: Hook, own: &BTreeSet<u32>) -> String {
    // The one program at XDP is ours then, and there is none of ours at TC.
    let ours_at_xdp = way == Way::Ingress && attach::tc_ways(hook).len() == 1;
    let xdp = match way {
        Way::Ingress if !ours_at_xdp => xdp(counters, index),
        _ => Vec::new(),
    };
    let chain = if ours_at_xdp { None } else { probe::chain(index, way).ok() };
    likely(way, &xdp, chain.as_deref(), own)
}

/// The likeliest cause: an XDP program, a program before ours in the chain (`None`: not known), or none that can be
/// seen from here.
fn likely(way: Way, xdp: &[Attached], chain: Option<&[Attached]>, own: &BTreeSet<u32>) -> String {
    if let Some(cause) = behind_xdp(xdp, "TC") {
        return cause;
    }
    let ours = |attached: &Attached| attached.id.is_some_and(|id| own.contains(&id));
    match chain.map(|chain| (chain, chain.iter().position(ours))) {
        Some((_, None)) => {
            return format!(
                "our program at {} was removed by somebody; a restart puts it back",
                order::way(way)
            );
        }
        Some((chain, Some(place))) => {
            let before = order::others(&chain[..place]);
            if !before.is_empty() {
                return format!(
                    "{} runs before our program: packets that it drops, redirects or passes with TC_ACT_OK never \
                     come to ours",
                    before.join(", ")
                );
            }
        }
        None => {}
    }
    let senders = match way {
        Way::Ingress => "",
        Way::Egress => "senders that skip TC (PACKET_QDISC_BYPASS, AF_XDP) and ",
    };
    format!(
        "no program is in the way; look for {senders}hardware offload (tc filters with skip_sw, Open vSwitch, an \
         eswitch)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::probe::Place;

    fn at(place: Place, id: u32, name: &str) -> Attached {
        Attached { place, id: Some(id), name: name.into(), priority: None, handle: None, leftover: false }
    }

    #[test]
    fn the_likeliest_cause_is_named() {
        let own = [7].into();
        let (ours, other) = (at(Place::TcxIngress, 7, "wherefore_in"), at(Place::TcxIngress, 9, "firewall"));
        let xdp = at(Place::XdpNative, 12, "drop");
        let both = [other, ours.clone()];
        let text = likely(Way::Ingress, &[xdp], Some(&both), &own);
        assert!(text.starts_with("XDP runs \"drop\" (program 12):"), "{text}");
        let text = likely(Way::Ingress, &[], Some(&both), &own);
        assert!(text.starts_with("\"firewall\" (program 9) runs before our program"), "{text}");
        let text = likely(Way::Egress, &[], Some(&both[..1]), &own);
        assert!(text.starts_with("our program at egress was removed"), "{text}");
        for (way, bypass) in [(Way::Ingress, false), (Way::Egress, true)] {
            for chain in [Some(std::slice::from_ref(&ours)), None] {
                let text = likely(way, &[], chain, &own);
                assert!(text.starts_with("no program is in the way"), "{text}");
                assert_eq!(text.contains("PACKET_QDISC_BYPASS"), bypass, "{text}");
            }
        }
    }
}
