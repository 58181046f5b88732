//! Where the step from the reference to the active differences lies among the reference differences.

use super::primitives::{Window, differences, ecdf, mean};

/// What the test uses again.
#[derive(Clone, Debug, Default)]
pub(super) struct Cdf {
    sizes: Vec<f64>,
}

impl Cdf {
    /// 2 |0.5 - F(active mean - reference mean)|, F being the distribution of the reference's absolute
    /// differences. `None` if there are too few.
    ///
    /// The argument is a difference of means, not a difference: an interval calmer than average gives 1 just as
    /// a burst does. That is upstream's definition.
    pub(super) fn value(&mut self, values: &[f64], reference_size: usize, active_size: usize) -> Option<f64> {
        self.sizes.clear();
        self.sizes.extend(differences(values).map(f64::abs));
        let window = Window::new(&self.sizes, reference_size.saturating_sub(1), active_size, active_size)?;
        let q = ecdf(window.reference, mean(window.active) - mean(window.reference));
        Some(2.0 * (0.5 - q).abs())
    }
}
