//! Why libpcap misses packets that a device counts.
//!
//! What libpcap calls `ps_ifdrop` is what the card itself missed (`rx_missed_errors` and `rx_fifo_errors` of the
//! device): nothing that the device counts as received, and so nothing that is missing here.

use std::collections::BTreeSet;

use super::{PcapBackend, lock};
use crate::{
    backend::{
        coverage::{Counted, behind_xdp, xdp},
        probe::{DeviceCounters, Way},
    },
    coverage::{Coverage, Unit},
};

impl Counted for PcapBackend {
    fn places(&self) -> BTreeSet<(u32, u8)> {
        lock(&self.shared.watches).iter().map(|watch| watch.place()).collect()
    }

    /// It sees what is sent between the queueing discipline and the driver (`xmit_one` of the kernel).
    fn before_queue(&self) -> bool {
        false
    }

    fn cause(&self, counters: &DeviceCounters, index: u32, way: Way, coverage: &Coverage) -> String {
        let programs = if way == Way::Ingress { xdp(counters, index) } else { Vec::new() };
        likely(way, coverage, || behind_xdp(&programs, "libpcap"))
    }
}

/// The likeliest cause: libpcap itself where it lost most of what is missing, an XDP program, or none that can be seen
/// from here.
fn likely(way: Way, coverage: &Coverage, xdp: impl FnOnce() -> Option<String>) -> String {
    let Coverage { unit, lost, window, .. } = coverage;
    let lost = match lost {
        0 => "none".to_owned(),
        lost => format!("{lost} {} in that time", if *unit == Unit::Bytes { "bytes" } else { "packets" }),
    };
    if coverage.lost > window.missing() / 2 {
        return format!(
            "libpcap lost {lost}, which came faster than they were read; --backend ebpf counts them in the kernel, a \
             smaller -s makes room for more"
        );
    }
    xdp().unwrap_or_else(|| {
        let senders = match way {
            Way::Ingress => "",
            Way::Egress => "senders that skip it (PACKET_QDISC_BYPASS, AF_XDP) and ",
        };
        format!("libpcap lost {lost}; look for {senders}hardware offload")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::coverage::{Compared, Ledger, Verdict};

    /// 1,000 packets of 10,000 are missing.
    fn missing(lost: u64) -> Coverage {
        let interval = Compared { counted: 9_000, device: 10_000, edges: 0 };
        let (mut window, span) = (Ledger::default(), Duration::from_secs(62));
        window.add(&interval, span);
        let (unit, verdict) = (Unit::HandedOver, Verdict::Low);
        Coverage { unit, interval, window, span, packets: 10_000, lost, verdict }
    }

    #[test]
    fn the_likeliest_cause_is_named() {
        let xdp = || Some("XDP runs".to_owned());
        let words = likely(Way::Ingress, &missing(700), xdp);
        assert!(words.starts_with("libpcap lost 700 packets in that time, which came faster"), "{words}");
        // Losses that explain some of it only are not the cause.
        assert_eq!([0, 300].map(|lost| likely(Way::Ingress, &missing(lost), xdp)), ["XDP runs"; 2]);
        let words = likely(Way::Egress, &missing(300), || None);
        assert!(words.starts_with("libpcap lost 300 packets in that time; look for senders"), "{words}");
        assert!(words.contains("PACKET_QDISC_BYPASS"), "{words}");
        let words = likely(Way::Ingress, &missing(0), || None);
        assert_eq!(words, "libpcap lost none; look for hardware offload");
    }
}
