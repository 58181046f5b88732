//! An alert in words.

use std::{fmt::Write as _, time::Duration};

use wherefore_common::Direction;

use super::Alert;
use crate::{
    clean::clean,
    finding::{Contributor, Finding, Highest, Trend},
    locality::Locality,
    rules::Broken,
    series::{Metric, SeriesKey, Unit, endpoint},
    time::Timestamp,
    units::{format_bytes, format_duration, grouped, scale_bytes},
};

/// Most values of the history shown in [`lines`].
const SHOWN: usize = 12;
/// It is worth saying that a value is the highest in so many intervals.
const HIGHEST: u32 = 12;

pub(super) fn sentence(finding: &Finding) -> String {
    if let Some(broken) = finding.broken() {
        return broken.sentence();
    }
    let interval = format_duration(finding.interval);
    let mut text = if finding.trend == Trend::Silence {
        let silent = finding.time.since(finding.since).saturating_add(finding.interval);
        format!("nothing {} for {}", route(finding), format_duration(silent))
    } else {
        let only = if finding.trend == Trend::Fall { "only " } else { "" };
        let estimated = if finding.estimated > 0 { "an estimated " } else { "" };
        let amount = format!("{only}{estimated}{}", amount(finding.metric, finding.value));
        let rate = match finding.metric {
            Metric::Bytes => format!(" ({}/s)", format_bytes(finding.rate())),
            Metric::Flows => String::new(),
        };
        match ends(finding) {
            Some((source, destination)) => {
                format!("{source} sent {amount} to {destination} in {interval}{rate}")
            }
            None => format!("{amount} {} in {interval}{rate}", route(finding)),
        }
    };
    if let Some(transport) = finding.series.transport() {
        let _ = write!(text, " over {}", protocol(transport.proto));
    }
    if finding.locality == Locality::Forwarded && ends(finding).is_some() {
        text.push_str(", forwarded by this host");
    }
    text.push_str(&compared(finding, &interval));
    if let Some(first) = finding.contributors.first() {
        let _ = write!(text, "; first: {}", share(first));
    }
    text
}

/// What the value is held against.
fn compared(finding: &Finding, interval: &str) -> String {
    let usual = range_of(finding.metric, finding.usual.low, finding.usual.high);
    if let Some(known) = finding.newcomer {
        let seen = if known.is_zero() {
            "never seen before".to_owned()
        } else {
            format!("first seen {} ago", format_duration(known))
        };
        return format!(", {seen}; what is new usually comes to {usual}");
    }
    // The judged interval itself is no part of what is usual.
    if finding.history.len() <= 1 {
        return ", never seen before".into();
    }
    let mut text = format!(", usually {usual}");
    match finding.trend {
        Trend::Silence => {
            let _ = write!(text, " in {interval}");
        }
        Trend::Fall => {}
        Trend::Rise => text.push_str(&highest(finding)),
    }
    text
}

/// `, highest in 25 min`, where that is long.
fn highest(finding: &Finding) -> String {
    let (words, ago) = match finding.highest {
        Highest::For(ago) => ("highest in", ago),
        Highest::SinceStart(ago) => ("highest since counting began", ago),
    };
    if ago < finding.interval.saturating_mul(HIGHEST) {
        return String::new();
    }
    let after = if matches!(finding.highest, Highest::SinceStart(_)) { " ago" } else { "" };
    format!(", {words} {}{after}", format_duration(rounded(ago)))
}

/// To what is worth saying: minutes from ten minutes on.
fn rounded(duration: Duration) -> Duration {
    let seconds = duration.as_secs();
    Duration::from_secs(if seconds >= 600 { seconds / 60 * 60 } else { seconds })
}

/// `from 192.0.2.7 to 198.51.100.9`, `to 203.0.113.0/24`, `into eth0`.
fn route(finding: &Finding) -> String {
    if let Some((source, destination)) = ends(finding) {
        return format!("from {source} to {destination}");
    }
    match finding.series {
        SeriesKey::Interface { name, direction } => {
            let way = match direction {
                Direction::Ingress => "into",
                Direction::Egress => "out of",
                Direction::Unknown => "on",
            };
            format!("{way} {}", clean(&name))
        }
        key => key.to_string(),
    }
}

/// Source and destination of a pair or flow.
pub(crate) fn ends(finding: &Finding) -> Option<(String, String)> {
    let (src, dst) = finding.series.ends()?;
    Some(match finding.series.transport() {
        Some(transport) => (endpoint(src, transport.sport), endpoint(dst, transport.dport)),
        None => (src.to_string(), dst.to_string()),
    })
}

/// `4.1 GB`, `3,120 flows`, `1 flow`.
pub(crate) fn amount(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Bytes => format_bytes(value),
        Metric::Flows => {
            let count = value.round().max(0.0) as u64;
            format!("{} {}", grouped(count), if count == 1 { "flow" } else { "flows" })
        }
    }
}

/// `12 to 40 MB`, `0 to 4`: of flows the number alone.
pub(crate) fn range_of(metric: Metric, low: f64, high: f64) -> String {
    match metric {
        Metric::Bytes => range(low, high),
        Metric::Flows => {
            let number = |value: f64| grouped(value.round().max(0.0) as u64);
            match (number(low), number(high)) {
                (_, high) if high == "0" => "none".into(),
                (low, high) if low == high => high,
                (low, high) => format!("{low} to {high}"),
            }
        }
    }
}

/// `192.0.2.7 → 203.0.113.9 (62 %)`.
pub(crate) fn share(contributor: &Contributor) -> String {
    format!("{} ({:.0} %)", contributor.series, contributor.share * 100.0)
}

pub(super) fn lines(alert: &Alert) -> String {
    let finding = &alert.finding;
    let mut text =
        format!("{} {} {}: {}", seconds(finding), clean(&alert.host), place(finding), sentence(finding));
    match finding.broken() {
        Some(Broken { rule, since, .. }) => {
            let (severity, condition) = (rule.severity.name(), &rule.condition);
            let _ = write!(text, "\n  {severity}: {condition}, since {}", to_second(*since));
        }
        None => judged(finding, &mut text),
    }
    for (words, of) in [("most of it", &finding.contributors), ("same cause, not told", &finding.folded.top)]
    {
        let named: Vec<String> = of.iter().map(share).collect();
        if !named.is_empty() {
            let _ = write!(text, "\n  {words}: {}", named.join(", "));
        }
    }
    let more = finding.folded.count.saturating_sub(finding.folded.top.len() as u64);
    if more > 0 {
        let _ = write!(text, " and {} more", grouped(more));
    }
    if let Some(reverse) = &finding.reverse {
        let _ = write!(
            text,
            "\n  the other way, too: {} ({})",
            amount(reverse.metric, reverse.value),
            reverse.series
        );
    }
    if alert.suppressed > 0 {
        let _ = write!(text, "\n  held back since it was last told: {}", alert.suppressed);
    }
    text
}

/// What the detector judged.
fn judged(finding: &Finding, text: &mut String) {
    let _ = write!(text, "\n  probability {:.3}", finding.evaluation.probability);
    for (i, part) in finding.evaluation.parts.iter().enumerate() {
        let _ = write!(text, "{}{part}", if i == 0 { " = " } else { ", " });
    }
    let shown = &finding.history[finding.history.len().saturating_sub(SHOWN)..];
    let _ =
        write!(text, "\n  last {} of {} intervals ({}):", shown.len(), finding.history.len(), unit(finding));
    for value in shown {
        let _ = match finding.metric {
            Metric::Bytes => write!(text, " {}", format_bytes(*value)),
            Metric::Flows => write!(text, " {}", grouped(value.round() as u64)),
        };
    }
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
    to_second(finding.time)
}

fn to_second(time: Timestamp) -> String {
    let full = time.to_string();
    match full.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => full,
    }
}

/// What the values are of.
pub(crate) const fn unit(finding: &Finding) -> &'static str {
    match (finding.metric, finding.unit) {
        (Metric::Flows, _) => "flows",
        (Metric::Bytes, Unit::Ip) => "IP bytes",
        (Metric::Bytes, Unit::Wire) => "wire bytes",
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
    use crate::{alert::samples, finding::Usual, time::Timestamp};

    #[test]
    fn says_who_to_whom_how_much_and_what_is_usual() {
        assert_eq!(
            samples::burst().sentence(),
            "192.0.2.7 sent 4.1 GB to 198.51.100.9 in 5 s (820 MB/s), usually 12 to 40 MB, highest in 25 min"
        );
        let mut alert = samples::connection();
        assert_eq!(
            alert.sentence(),
            "192.0.2.7:443 sent 4.1 GB to 198.51.100.9:51234 in 5 s (820 MB/s) over TCP, usually 12 to 40 MB, \
             highest in 25 min"
        );
        let SeriesKey::Flow { src, .. } = &mut alert.finding.series else { unreachable!() };
        *src = "2001:db8::7".parse().unwrap();
        alert.finding.usual = Usual::default();
        assert_eq!(
            alert.sentence(),
            "[2001:db8::7]:443 sent 4.1 GB to 198.51.100.9:51234 in 5 s (820 MB/s) over TCP, usually nothing, \
             highest in 25 min"
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
            "192.0.2.7 sent 4.1 GB to 198.51.100.9 in 5 s (820 MB/s), forwarded by this host, usually 12 to 40 MB, \
             highest in 25 min"
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
             (820 MB/s), usually 12 to 40 MB, highest in 25 min\n  \
             probability 0.930 = magnitude 1.000 (weight 0.5), ks 0.860 (weight 0.5)\n  \
             last 4 of 4 intervals (IP bytes): 12 MB 20 MB 40 MB 4.1 GB\n  \
             held back since it was last told: 3"
        );
    }

    #[test]
    fn what_a_network_and_an_interface_carry() {
        let mut alert = samples::scan();
        assert_eq!(
            alert.sentence(),
            "3,120 flows from 203.0.113.0/24 in 5 s, usually 0 to 4, highest since counting began 3 h ago; \
             first: 203.0.113.9 → 192.0.2.1 (62 %)"
        );
        assert!(alert.to_text().ends_with(
            "last 4 of 4 intervals (flows): 0 1 4 3,120\n  \
             most of it: 203.0.113.9 → 192.0.2.1 (62 %)\n  \
             same cause, not told: eth0 ingress (90 %) and 2 more\n  \
             the other way, too: 1,560 flows (to 203.0.113.0/24)"
        ));
        alert.finding.newcomer = Some(Duration::ZERO);
        alert.finding.contributors.clear();
        assert_eq!(
            alert.sentence(),
            "3,120 flows from 203.0.113.0/24 in 5 s, never seen before; what is new usually comes to 0 to 4"
        );
        let mut alert = samples::burst();
        alert.finding.series = SeriesKey::interface("eth0", Direction::Egress);
        alert.finding.trend = Trend::Fall;
        alert.finding.value = 1e6;
        assert_eq!(alert.sentence(), "only 1 MB out of eth0 in 5 s (200 kB/s), usually 12 to 40 MB");
    }

    #[test]
    fn silence_is_told_with_its_length() {
        let mut alert = samples::burst();
        alert.finding.trend = Trend::Silence;
        alert.finding.value = 0.0;
        alert.finding.since = Timestamp(1_700_000_005_000_000_000 - 295_000_000_000);
        let rest = "for 5 min, usually 12 to 40 MB in 5 s";
        assert_eq!(alert.sentence(), format!("nothing from 192.0.2.7 to 198.51.100.9 {rest}"));
        alert.finding.series = SeriesKey::net("198.51.100.9".parse().unwrap(), true);
        assert_eq!(alert.sentence(), format!("nothing to 198.51.100.0/24 {rest}"));
    }

    #[test]
    fn a_broken_rule_says_what_is_allowed_and_who_it_was() {
        assert_eq!(
            samples::broken().to_text(),
            "2023-11-14T22:13:25Z web1 eth0 egress: rule \"backup-only\": 3.2 GB/s for 12 s to 198.51.100.0/24, \
             allowed is 1 GB/s\n  \
             critical: rate > 1 GB/s for 10s, since 2023-11-14T22:13:13Z\n  \
             most of it: 192.0.2.7 → 198.51.100.9 (75 %), 192.0.2.8 → 198.51.100.9 (25 %)"
        );
        assert_eq!(samples::broken().explained(), samples::broken().to_text());
    }

    #[test]
    fn ranges_name_their_unit_once() {
        assert_eq!(range(900e3, 1.2e6), "900 kB to 1.2 MB");
        assert_eq!(range(0.0, 40e6), "0 to 40 MB");
        assert_eq!(range(40e6, 40.1e6), "40 MB");
        assert_eq!(range(0.0, 0.0), "nothing");
    }
}
