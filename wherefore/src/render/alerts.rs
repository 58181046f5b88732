//! Alerts as comma-separated values (RFC 4180). Text and JSON forms are the alert's own.

use super::text::csv_line as fields;
use crate::alert::Alert;

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
    ])
}

/// One alert; fields as in its JSON form, protocol and ports empty at level pair, and the locality
/// where it is not known.
#[must_use]
pub fn csv_line(alert: &Alert) -> String {
    let finding = &alert.finding;
    let transport = finding.series.transport;
    let number = |part: Option<u16>| part.map(|n| n.to_string()).unwrap_or_default();
    fields([
        finding.time.to_string(),
        alert.host.clone(),
        finding.interface.clone(),
        finding.direction.name().to_owned(),
        finding.src().to_string(),
        finding.dst().to_string(),
        number(transport.map(|t| t.proto.into())),
        number(transport.map(|t| t.sport)),
        number(transport.map(|t| t.dport)),
        finding.bytes.round().to_string(),
        finding.interval.as_secs_f64().to_string(),
        finding.rate().round().to_string(),
        finding.usual.low.round().to_string(),
        finding.usual.median.round().to_string(),
        finding.usual.high.round().to_string(),
        finding.evaluation.probability.to_string(),
        alert.suppressed.to_string(),
        finding.estimated.to_string(),
        if finding.locality.is_known() { finding.locality.name().to_owned() } else { String::new() },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::samples;

    #[test]
    fn every_line_has_the_header_s_fields() {
        let columns = csv_header().split(',').count();
        for alert in [samples::burst(), samples::connection()] {
            let line = csv_line(&alert);
            assert!(line.ends_with('\n'), "{line:?}");
            assert_eq!(line.split(',').count(), columns, "{line}");
        }
    }
}
