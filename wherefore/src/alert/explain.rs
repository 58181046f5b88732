//! Why an alert was raised, line by line.

use std::fmt::Write as _;

use super::text::amount;
use crate::finding::{Finding, Trend};

/// What each part of the verdict said, the threshold, and what the value would have had to be: aligned lines without a
/// line feed at the end.
pub(super) fn lines(finding: &Finding) -> String {
    let threshold = chance(finding.threshold);
    let mut rows = vec![["part", "value", "weight", "measured", "alert above"].map(str::to_owned)];
    for part in &finding.evaluation.parts {
        rows.push([
            part.method.to_owned(),
            chance(part.value),
            format!("{:.2}", part.weight),
            format!("{:.2}", part.statistic),
            String::new(),
        ]);
    }
    rows.push([
        "all".into(),
        chance(finding.evaluation.probability),
        String::new(),
        String::new(),
        threshold,
    ]);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = format!("  {:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            let _ = write!(line, "  {cell:>width$}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let side = if finding.trend == Trend::Rise { "at most" } else { "at least" };
    let _ = match finding.limit {
        Some(limit) => write!(text, "  no alert with {side} {}", amount(finding.metric, limit)),
        None => write!(text, "  no value would have been usual after what came before"),
    };
    if let Some(budget) = finding.budget {
        let _ = write!(text, "; this series may cost {budget:.2e} false alerts a day");
    }
    text
}

/// A probability; near 1 by what is missing, `1-2.1e-08`.
fn chance(probability: f64) -> String {
    if probability == 1.0 {
        "1".into()
    } else if probability > 0.999 {
        format!("1-{:.1e}", 1.0 - probability)
    } else {
        format!("{probability:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::samples;

    #[test]
    fn every_part_the_threshold_and_the_limit_are_there() {
        assert_eq!(
            lines(&samples::burst().finding),
            "  part       value  weight  measured  alert above\n  \
             magnitude      1    0.50      1.00\n  \
             ks         0.860    0.50      1.00\n  \
             all        0.930                          0.900\n  \
             no alert with at most 60 MB"
        );
        let mut scan = samples::scan().finding;
        scan.evaluation.probability = 1.0 - 2.13e-8;
        scan.threshold = 1.0 - 4.5e-7;
        scan.budget = Some(0.003126);
        let text = lines(&scan);
        assert!(text.contains("\n  all        1-2.1e-8                       1-4.5e-7\n"), "{text}");
        assert!(
            text.ends_with("at most 17 flows; this series may cost 3.13e-3 false alerts a day"),
            "{text}"
        );
        scan.limit = None;
        assert!(lines(&scan).contains("no value would have been usual"));
    }
}
