//! What a series usually carries.

use serde::{Deserialize, Serialize};

/// The middle of what came before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    /// Tenth percentile of the earlier values.
    pub low: f64,
    /// Their median.
    pub median: f64,
    /// Their ninetieth percentile.
    pub high: f64,
}

impl Usual {
    /// The middle of `earlier`, in any order; all 0 if there is nothing.
    #[must_use]
    pub fn of(earlier: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = earlier.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { low: quantile(&sorted, 0.1), median: quantile(&sorted, 0.5), high: quantile(&sorted, 0.9) }
    }

    /// What was usual before the last value of `history`: of a silence, before it began.
    #[must_use]
    pub fn before(history: &[f64]) -> Self {
        let earlier = &history[..history.len().saturating_sub(1)];
        let silent = if history.last() == Some(&0.0) {
            earlier.iter().rev().take_while(|&&value| value == 0.0).count()
        } else {
            0
        };
        let before = &earlier[..earlier.len() - silent];
        Self::of(if before.is_empty() { earlier } else { before }.iter().copied())
    }
}

/// The value below which the share `p` of `sorted` (ascending) lies, interpolated linearly between
/// neighbours; 0 for an empty slice.
#[must_use]
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = p.clamp(0.0, 1.0) * last as f64;
    let below = position as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_is_the_middle_eight_tenths() {
        assert_eq!(Usual::of((0..=10).rev().map(f64::from)), Usual { low: 1.0, median: 5.0, high: 9.0 });
        assert_eq!(Usual::of([1.0, 2.0]), Usual { low: 1.1, median: 1.5, high: 1.9 });
        assert_eq!(Usual::of([]), Usual::default());
    }
}
