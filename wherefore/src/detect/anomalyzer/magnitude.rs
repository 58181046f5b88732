//! How far the active mean lies from the reference mean, relative to the latter.

use super::primitives::{Window, mean};

/// |active - reference| / reference, unbounded; with a reference of 0, 0 or 1. `None` without a reference.
pub(super) fn magnitude(values: &[f64], reference_size: usize, active_size: usize) -> Option<f64> {
    let window = Window::new(values, reference_size, active_size, 1)?;
    let (active, reference) = (mean(window.active), mean(window.reference));
    Some(if reference == 0.0 {
        if active == 0.0 { 0.0 } else { 1.0 }
    } else {
        (active - reference).abs() / reference
    })
}
