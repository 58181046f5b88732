//! Kolmogorov-Smirnov: do active and reference values come from the same distribution?

use super::{primitives::Window, shuffle::Shuffler};

/// The largest distance between the distributions of the active and the reference values, seen on a grid of
/// as many equal steps as there are values, as upstream does; the true distance may be a little larger.
///
/// `None` if there are fewer reference than active values, or not a whole multiple.
#[must_use]
pub fn statistic(values: &[f64], reference_size: usize, active_size: usize) -> Option<f64> {
    let window = windows(values, reference_size, active_size)?;
    Some(distance(&mut window.reference.to_vec(), &mut window.active.to_vec()))
}

/// Share of arrangements of all values whose distance is strictly smaller than the one seen. `None` as for
/// [`statistic`].
pub(super) fn ks(values: &[f64], reference_size: usize, active_size: usize, shuffles: usize) -> Option<f64> {
    let window = windows(values, reference_size, active_size)?;
    let observed = distance(&mut window.reference.to_vec(), &mut window.active.to_vec());
    let (reference, active) = (window.reference.len(), window.active.len());
    if active == 1 && reference + 1 == values.len() {
        return Some(each_in_turn(values, observed));
    }

    let mut shuffler = Shuffler::new(values, 2);
    let mut shuffled = values.to_vec();
    let mut smaller = 0_usize;
    for _ in 0..shuffles {
        shuffler.shuffle_last(&mut shuffled, reference + active);
        let start = values.len() - reference - active;
        let (reference, active) = shuffled[start..].split_at_mut(reference);
        smaller += usize::from(distance(reference, active) < observed);
    }
    Some(smaller as f64 / shuffles as f64)
}

/// With one active value and all others as reference, the arrangements are the choices of that one.
fn each_in_turn(values: &[f64], observed: f64) -> f64 {
    let mut reference = vec![0.0; values.len() - 1];
    let smaller = (0..values.len())
        .filter(|&i| {
            let (before, rest) = values.split_at(i);
            reference[..i].copy_from_slice(before);
            reference[i..].copy_from_slice(&rest[1..]);
            distance(&mut reference, &mut [values[i]]) < observed
        })
        .count();
    smaller as f64 / values.len() as f64
}

fn windows(values: &[f64], reference_size: usize, active_size: usize) -> Option<Window<'_>> {
    let window = Window::new(values, reference_size, active_size, active_size)?;
    window.reference.len().is_multiple_of(window.active.len()).then_some(window)
}

/// Sorts both (neither is empty) and walks the grid.
fn distance(reference: &mut [f64], active: &mut [f64]) -> f64 {
    reference.sort_unstable_by(f64::total_cmp);
    active.sort_unstable_by(f64::total_cmp);
    let points = reference.len() + active.len();
    let low = reference[0].min(active[0]);
    let high = reference[reference.len() - 1].max(active[active.len() - 1]);
    let step = (high - low) / (points - 1) as f64;
    let (mut grid, mut largest) = (low, 0.0_f64);
    let (mut in_reference, mut in_active) = (0, 0);
    for _ in 0..points {
        in_reference += reference[in_reference..].iter().take_while(|&&value| value <= grid).count();
        in_active += active[in_active..].iter().take_while(|&&value| value <= grid).count();
        let gap = in_active as f64 / active.len() as f64 - in_reference as f64 / reference.len() as f64;
        largest = largest.max(gap.abs());
        grid += step;
    }
    largest
}
