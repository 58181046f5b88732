//! Where the step from the reference to the active differences lies among the reference differences.

use super::primitives::{Window, diff, ecdf, mean};

/// 2 |0.5 - F(active mean - reference mean)|, F being the distribution of the reference's absolute
/// differences. `None` if there are too few.
///
/// The argument is a difference of means, not a difference: an interval calmer than average gives 1 just as
/// a burst does. That is upstream's definition.
pub(super) fn cdf(values: &[f64], reference_size: usize, active_size: usize) -> Option<f64> {
    let mut differences = diff(values)?;
    for difference in &mut differences {
        *difference = difference.abs();
    }
    let window = Window::new(&differences, reference_size.saturating_sub(1), active_size, active_size)?;
    let q = ecdf(window.reference, mean(window.active) - mean(window.reference));
    Some(2.0 * (0.5 - q).abs())
}
