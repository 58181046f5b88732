//! How close the active mean comes to fixed bounds.

use super::primitives::mean;

/// (10^d - 1) / 9 with d, within 0..=1, the distance from the middle of the bounds (1 at either), or the
/// share of the upper bound if there is no lower one. NaN for no values.
pub(super) fn fence(values: &[f64], active_size: usize, upper: f64, lower: Option<f64>) -> f64 {
    let active = mean(&values[values.len() - active_size.min(values.len())..]);
    let distance = match lower {
        None => active / upper,
        Some(lower) => {
            let half = (upper - lower) / 2.0;
            (active - (lower + half)).abs() / half
        }
    };
    (10_f64.powf(distance.clamp(0.0, 1.0)) - 1.0) / 9.0
}
