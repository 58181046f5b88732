//! Alerts as comma-separated values (RFC 4180). Text and JSON forms are the alert's own.

use super::text::csv_line as fields;
use crate::{alert::Alert, finding::Trend, series::Metric};

/// The header line.
#[must_use]
pub fn csv_header() -> String {
    fields([
        "time",
        "host",
        "interface",
        "direction",
        "src",
        "dst",
        "proto",
        "sport",
        "dport",
        "bytes",
        "interval_seconds",
        "rate",
        "usual_low",
        "usual_median",
        "usual_high",
        "probability",
        "suppressed",
        "estimated",
        "locality",
        "series_level",
        "metric",
        "series",
        "flows",
        "trend",
        "newcomer",
        "since",
        "threshold",
        "limit",
        "highest_for_seconds",
        "folded",
        "rule",
    ])
}

/// One alert; fields as in its JSON form. Empty is what a series of its level and metric has not, the locality
/// where it is not known, and the rule where none was broken.
#[must_use]
pub fn csv_line(alert: &Alert) -> String {
    let finding = &alert.finding;
    let transport = finding.series.transport();
    let (src, dst) = finding.series.ends().unzip();
    let text = |part: Option<std::net::IpAddr>| part.map(|ip| ip.to_string()).unwrap_or_default();
    let number = |part: Option<u16>| part.map(|n| n.to_string()).unwrap_or_default();
    let of =
        |metric| if finding.metric == metric { finding.value.round().to_string() } else { String::new() };
    fields([
        finding.time.to_string(),
        alert.host.clone(),
        finding.interface.clone(),
        finding.direction.name().to_owned(),
        text(src),
        text(dst),
        number(transport.map(|t| t.proto.into())),
        number(transport.map(|t| t.sport)),
        number(transport.map(|t| t.dport)),
        of(Metric::Bytes),
        finding.interval.as_secs_f64().to_string(),
        finding.rate().round().to_string(),
        finding.usual.low.round().to_string(),
        finding.usual.median.round().to_string(),
        finding.usual.high.round().to_string(),
        finding.evaluation.probability.to_string(),
        alert.suppressed.to_string(),
        finding.estimated.to_string(),
        if finding.locality.is_known() { finding.locality.name().to_owned() } else { String::new() },
        finding.level().name().to_owned(),
        finding.metric.name().to_owned(),
        finding.series.to_string(),
        of(Metric::Flows),
        finding.trend.name().to_owned(),
        finding.newcomer.is_some().to_string(),
        finding.since.to_string(),
        finding.threshold.to_string(),
        finding.limit.map(|limit| limit.round().to_string()).unwrap_or_default(),
        match finding.trend {
            Trend::Rise => finding.highest.duration().as_secs_f64().to_string(),
            Trend::Fall | Trend::Silence => String::new(),
        },
        finding.folded.count.to_string(),
        finding.broken().map(|broken| broken.rule.name.to_string()).unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::samples;

    #[test]
    fn every_line_has_the_header_s_fields() {
        let columns = csv_header().split(',').count();
        for alert in [samples::burst(), samples::connection(), samples::scan(), samples::broken()] {
            let line = csv_line(&alert);
            assert!(line.ends_with('\n'), "{line:?}");
            assert_eq!(line.split(',').count(), columns, "{line}");
        }
    }
}
