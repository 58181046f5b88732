//! Kolmogorov-Smirnov: do active and reference values come from the same distribution?

use super::{
    circle::advance,
    primitives::Window,
    shuffle::{EXACT, Means, Shuffler},
};

/// Tells this test's sample from others'.
const SALT: u64 = 2;

/// The largest distance between the distributions of the active and the reference values, seen on a grid of
/// as many equal steps as there are values, as upstream does; the true distance may be a little larger.
///
/// `None` if there are fewer reference than active values, or not a whole multiple.
#[must_use]
pub fn statistic(values: &[f64], reference_size: usize, active_size: usize) -> Option<f64> {
    Ks::default().observed(values, reference_size, active_size)
}

/// The test, and what it uses again.
#[derive(Clone, Debug, Default)]
pub(super) struct Ks {
    reference: Vec<f64>,
    active: Vec<f64>,
    /// The values of both windows.
    chosen: Vec<f64>,
    values: Vec<f64>,
    marks: Vec<bool>,
    /// `shares[a]` is a / active values, and then r / reference values: what has passed.
    active_shares: Vec<f64>,
    reference_shares: Vec<f64>,
    chances: Vec<f64>,
}

impl Ks {
    /// Share of arrangements of all values whose distance is strictly smaller than the one seen. `None` as for
    /// [`statistic`].
    ///
    /// Which of the windows' values are active is always counted. Which values lie in the windows is counted
    /// where there are few choices, as where they hold all; else it is a seeded sample, which goes on until it
    /// is as precise as `shuffles` independent shuffles.
    pub(super) fn share(
        &mut self,
        values: &[f64],
        reference_size: usize,
        active_size: usize,
        shuffles: usize,
    ) -> Option<f64> {
        let observed = self.observed(values, reference_size, active_size)?;
        if observed == 0.0 {
            return Some(0.0);
        }
        let steps = |count: usize| (0..=count).map(move |passed| passed as f64 / count as f64);
        self.active_shares.clear();
        self.active_shares.extend(steps(self.active.len()));
        self.reference_shares.clear();
        self.reference_shares.extend(steps(self.reference.len()));

        let windows = self.reference.len() + self.active.len();
        self.values.clear();
        self.values.extend_from_slice(values);
        let mut means = Means::default();
        if few(values.len(), windows) {
            self.values.sort_unstable_by(f64::total_cmp);
            self.marks.clear();
            self.marks.resize(values.len() - windows, false);
            self.marks.resize(values.len(), true);
            loop {
                let marked = self.values.iter().zip(&self.marks).filter(|(_, mark)| **mark);
                self.chosen.clear();
                self.chosen.extend(marked.map(|(value, _)| value));
                means.add([self.share_of_chosen(observed)]);
                if !advance(&mut self.marks, bool::cmp) {
                    break;
                }
            }
        } else {
            let mut shuffler = Shuffler::new(values, SALT);
            while means.wants_more(shuffles) {
                shuffler.shuffle_last(&mut self.values, windows);
                self.chosen.clear();
                self.chosen.extend_from_slice(&self.values[values.len() - windows..]);
                self.chosen.sort_unstable_by(f64::total_cmp);
                means.add([self.share_of_chosen(observed)]);
            }
        }
        let [share] = means.values();
        Some(share)
    }

    /// The distance; keeps the windows' values, sorted.
    fn observed(&mut self, values: &[f64], reference_size: usize, active_size: usize) -> Option<f64> {
        let window = Window::new(values, reference_size, active_size, active_size)?;
        if !window.reference.len().is_multiple_of(window.active.len()) {
            return None;
        }
        let sort = |sorted: &mut Vec<f64>, values: &[f64]| {
            sorted.clear();
            sorted.extend_from_slice(values);
            sorted.sort_unstable_by(f64::total_cmp);
        };
        sort(&mut self.reference, window.reference);
        sort(&mut self.active, window.active);
        let Self { reference, active, .. } = self;
        let ends = [reference[0], active[0], reference[reference.len() - 1], active[active.len() - 1]];
        let low = if ends[0].total_cmp(&ends[1]).is_lt() { ends[0] } else { ends[1] };
        let high = if ends[2].total_cmp(&ends[3]).is_gt() { ends[2] } else { ends[3] };
        let (mut largest, mut in_reference, mut in_active) = (0.0_f64, 0, 0);
        for point in grid(low, high, reference.len() + active.len()) {
            in_reference += passed(&reference[in_reference..], point);
            in_active += passed(&active[in_active..], point);
            let gap = in_active as f64 / active.len() as f64 - in_reference as f64 / reference.len() as f64;
            largest = largest.max(gap.abs());
        }
        Some(largest)
    }

    /// The share of the choices of active values among the chosen, which are sorted, whose distance is smaller.
    ///
    /// The windows draw the values from the lowest to the highest; what is too far apart at a point of the grid
    /// is given up there. That is the counting of lattice paths (Hodges 1958), with chances in place of counts.
    fn share_of_chosen(&mut self, observed: f64) -> f64 {
        let Self { chosen, active_shares, reference_shares, chances, .. } = self;
        let (active, reference) = (active_shares.len() - 1, reference_shares.len() - 1);
        // chances[a]: that a of the values drawn so far are active, and were never too far apart.
        chances.clear();
        chances.resize(active + 1, 0.0);
        chances[0] = 1.0;
        let mut drawn = 0;
        for point in grid(chosen[0], chosen[chosen.len() - 1], chosen.len()) {
            let before = drawn;
            drawn += passed(&chosen[drawn..], point);
            for drawn in before..drawn {
                let each = 1.0 / (chosen.len() - drawn) as f64;
                for a in (drawn.saturating_sub(reference)..=active.min(drawn + 1)).rev() {
                    let to_reference = (reference + a - drawn.min(reference + a)) as f64;
                    chances[a] *= to_reference * each;
                    if a > 0 {
                        chances[a] += chances[a - 1] * (active - (a - 1)) as f64 * each;
                    }
                }
            }
            for a in drawn.saturating_sub(reference)..=active.min(drawn) {
                if (active_shares[a] - reference_shares[drawn - a]).abs() >= observed {
                    chances[a] = 0.0;
                }
            }
        }
        chances.iter().sum()
    }
}

/// A point for each of `values`, in equal steps from `low` on; rounding may keep the last one from `high`.
fn grid(low: f64, high: f64, values: usize) -> impl Iterator<Item = f64> {
    let step = (high - low) / (values - 1) as f64;
    std::iter::successors(Some(low), move |point| Some(point + step)).take(values)
}

/// How many of the `sorted` values lie at or below `point`.
fn passed(sorted: &[f64], point: f64) -> usize {
    sorted.iter().take_while(|&&value| value <= point).count()
}

/// Whether there are few ways to choose `chosen` of `all` values.
fn few(all: usize, chosen: usize) -> bool {
    let mut choices = 1_u64;
    for k in 0..(all - chosen).min(chosen) {
        choices = choices * (all - k) as u64 / (k as u64 + 1);
        if choices * chosen as u64 > EXACT {
            return false;
        }
    }
    true
}
