//! Why libpcap misses packets that a device counts.
//!
//! What libpcap calls `ps_ifdrop` is what the card itself missed (`rx_missed_errors` and `rx_fifo_errors` of the
//! device): nothing that the device counts as received, and so nothing that is missing here.

use std::collections::BTreeSet;

use super::{PcapBackend, lock};
use crate::backend::{
    coverage::{Counted, behind_xdp, xdp},
    probe::{DeviceCounters, Way},
};

impl Counted for PcapBackend {
    fn places(&self) -> BTreeSet<(u32, u8)> {
        lock(&self.shared.watches).iter().map(|watch| (watch.index, watch.direction as u8)).collect()
    }

    /// It sees what is sent between the queueing discipline and the driver (`xmit_one` of the kernel).
    fn before_queue(&self) -> bool {
        false
    }

    fn cause(&self, counters: &DeviceCounters, index: u32, way: Way, lost: u64) -> String {
        let programs = if way == Way::Ingress { xdp(counters, index) } else { Vec::new() };
        likely(way, lost, || behind_xdp(&programs, "libpcap"))
    }
}

/// The likeliest cause.
fn likely(way: Way, lost: u64, xdp: impl FnOnce() -> Option<String>) -> String {
    if lost > 0 {
        return format!(
            "libpcap lost {lost} packets so far, which came faster than they were read; --backend ebpf counts them in \
             the kernel, a smaller -s makes room for more"
        );
    }
    xdp().unwrap_or_else(|| {
        let senders = match way {
            Way::Ingress => "",
            Way::Egress => "senders that skip it (PACKET_QDISC_BYPASS, AF_XDP) and ",
        };
        format!("libpcap lost none; look for {senders}hardware offload")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_cause_is_named() {
        let xdp = || Some("XDP runs".to_owned());
        assert!(likely(Way::Ingress, 7, xdp).starts_with("libpcap lost 7 packets so far"));
        assert_eq!(likely(Way::Ingress, 0, xdp), "XDP runs");
        assert!(likely(Way::Egress, 0, || None).contains("PACKET_QDISC_BYPASS"));
        assert!(!likely(Way::Ingress, 0, || None).contains("PACKET_QDISC_BYPASS"));
    }
}
