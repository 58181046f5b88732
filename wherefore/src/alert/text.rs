//! An alert in words.

use std::{fmt::Write as _, net::IpAddr};

use wherefore_common::Direction;

use super::Alert;
use crate::{
    clean::clean,
    finding::Finding,
    locality::Locality,
    series::Unit,
    units::{format_bytes, format_duration, scale_bytes},
};

/// Most values of the history shown in [`lines`].
const SHOWN: usize = 12;

pub(super) fn sentence(finding: &Finding) -> String {
    let mut text = format!(
        "{} sent {}{} to {} in {} ({}/s)",
        source(finding),
        if finding.estimated > 0 { "an estimated " } else { "" },
        format_bytes(finding.bytes),
        destination(finding),
        format_duration(finding.interval),
        format_bytes(finding.rate()),
    );
    if let Some(transport) = finding.series.transport {
        let _ = write!(text, " over {}", protocol(transport.proto));
    }
    if finding.locality == Locality::Forwarded {
        text.push_str(", forwarded by this host");
    }
    // The judged interval itself is no part of what is usual.
    if finding.history.len() > 1 {
        let _ = write!(text, ", usually {}", range(finding.usual.low, finding.usual.high));
    } else {
        text.push_str(", never seen before");
    }
    text
}

pub(super) fn lines(alert: &Alert) -> String {
    let finding = &alert.finding;
    let mut text =
        format!("{} {} {}: {}", seconds(finding), clean(&alert.host), place(finding), sentence(finding));
    let _ = write!(text, "\n  probability {:.3}", finding.evaluation.probability);
    for (i, part) in finding.evaluation.parts.iter().enumerate() {
        let _ = write!(text, "{}{part}", if i == 0 { " = " } else { ", " });
    }
    let shown = &finding.history[finding.history.len().saturating_sub(SHOWN)..];
    let _ = write!(
        text,
        "\n  last {} of {} intervals ({}):",
        shown.len(),
        finding.history.len(),
        unit(finding.unit)
    );
    for value in shown {
        let _ = write!(text, " {}", format_bytes(*value));
    }
    if alert.suppressed > 0 {
        let _ = write!(text, "\n  held back since it was last told: {}", alert.suppressed);
    }
    text
}

/// `192.0.2.7`, at level flow with its port.
pub(crate) fn source(finding: &Finding) -> String {
    endpoint(finding.series.src, finding.series.transport.map(|transport| transport.sport))
}

/// As [`source`].
pub(crate) fn destination(finding: &Finding) -> String {
    endpoint(finding.series.dst, finding.series.transport.map(|transport| transport.dport))
}

/// `eth0 egress`, or the interface alone where the direction is not known.
pub(crate) fn place(finding: &Finding) -> String {
    let interface = clean(&finding.interface);
    match finding.direction {
        Direction::Unknown => interface.into_owned(),
        direction => format!("{interface} {}", direction.name()),
    }
}

/// The time to the second, as in the original's logs.
pub(crate) fn seconds(finding: &Finding) -> String {
    let full = finding.time.to_string();
    match full.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => full,
    }
}

pub(crate) const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Ip => "IP bytes",
        Unit::Wire => "wire bytes",
    }
}

fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
    }
}

/// The common ones by name, the rest by number (IANA protocol numbers).
pub(crate) fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        47 => "GRE".into(),
        50 => "ESP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        number => format!("IP protocol {number}"),
    }
}

/// `12 to 40 MB`, `900 kB to 1.2 MB`, `12 MB`, `nothing`.
pub(crate) fn range(low: f64, high: f64) -> String {
    let ((low, low_unit), (high, high_unit)) = (scale_bytes(low), scale_bytes(high));
    if high == "0" {
        "nothing".into()
    } else if low == high && low_unit == high_unit {
        format!("{high} {high_unit}")
    } else if low_unit == high_unit || low == "0" {
        format!("{low} to {high} {high_unit}")
    } else {
        format!("{low} {low_unit} to {high} {high_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alert::samples, finding::Usual};

    #[test]
    fn says_who_to_whom_how_much_and_what_is_usual() {
        assert_eq!(
            samples::burst().sentence(),
            "192.0.2.7 sent 4.1 GB to 198.51.100.9 in 5 s (820 MB/s), usually 12 to 40 MB"
        );
        let mut alert = samples::connection();
        assert_eq!(
            alert.sentence(),
            "192.0.2.7:443 sent 4.1 GB to 198.51.100.9:51234 in 5 s (820 MB/s) over TCP, usually 12 to 40 MB"
        );
        alert.finding.series.src = "2001:db8::7".parse().unwrap();
        alert.finding.usual = Usual::default();
        assert_eq!(
            alert.sentence(),
            "[2001:db8::7]:443 sent 4.1 GB to 198.51.100.9:51234 in 5 s (820 MB/s) over TCP, usually nothing"
        );
        alert.finding.estimated = 3;
        assert!(alert.sentence().contains("sent an estimated 4.1 GB to "), "{}", alert.sentence());
        alert.finding.history = vec![4.1e9];
        assert!(alert.sentence().ends_with("never seen before"), "{}", alert.sentence());
    }

    /// What this host only passes on is not told as if it had sent it.
    #[test]
    fn says_so_where_it_is_forwarded() {
        let mut alert = samples::burst();
        alert.finding.locality = Locality::Outgoing;
        assert_eq!(alert.sentence(), samples::burst().sentence());
        alert.finding.locality = Locality::Forwarded;
        assert_eq!(
            alert.sentence(),
            "192.0.2.7 sent 4.1 GB to 198.51.100.9 in 5 s (820 MB/s), forwarded by this host, usually 12 to 40 MB"
        );
    }

    #[test]
    fn lines_hold_the_evidence_and_no_control_characters() {
        let mut alert = samples::burst();
        alert.suppressed = 3;
        alert.finding.interface = "eth0\u{1b}[2J".into();
        assert_eq!(
            alert.to_text(),
            "2023-11-14T22:13:25Z web1 eth0\\u{1b}[2J egress: 192.0.2.7 sent 4.1 GB to 198.51.100.9 in 5 s \
             (820 MB/s), usually 12 to 40 MB\n  \
             probability 0.930 = magnitude 1.000 (weight 0.5), ks 0.860 (weight 0.5)\n  \
             last 4 of 4 intervals (IP bytes): 12 MB 20 MB 40 MB 4.1 GB\n  \
             held back since it was last told: 3"
        );
    }

    #[test]
    fn ranges_name_their_unit_once() {
        assert_eq!(range(900e3, 1.2e6), "900 kB to 1.2 MB");
        assert_eq!(range(0.0, 40e6), "0 to 40 MB");
        assert_eq!(range(40e6, 40.1e6), "40 MB");
        assert_eq!(range(0.0, 0.0), "nothing");
    }
}
