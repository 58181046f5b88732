//! Kolmogorov-Smirnov: do active and reference values come from the same distribution?

use super::{
    primitives::Window,
    shuffle::{Means, Sampling, Shuffler},
    subset::Subset,
};

/// The largest distance between the distributions of the active and the reference values, seen on a grid of
/// as many equal steps as there are values, as upstream does; the true distance may be a little larger.
///
/// `None` if there are fewer reference than active values, or not a whole multiple.
#[must_use]
pub fn statistic(values: &[f64], reference_size: usize, active_size: usize) -> Option<f64> {
    Ks::default().observe(values, reference_size, active_size)
}

/// The test, and what it uses again.
#[derive(Clone, Debug, Default)]
pub(super) struct Ks {
    /// The windows, and all values, in ascending order.
    reference: Vec<f64>,
    active: Vec<f64>,
    sorted: Vec<f64>,
    /// Which values lie in the windows of an arrangement.
    subset: Subset,
    chosen: Vec<f64>,
    allowed: [usize; 2],
    chances: Vec<f64>,
    /// How many choices of values the last answer is a sample of; 0 for an exact one.
    pub(super) samples: usize,
}

impl Ks {
    /// Share of arrangements of all values whose distance is strictly smaller than the one seen. `None` as for
    /// [`statistic`].
    ///
    /// Which of the windows' values are active is always counted. Which values lie in the windows is counted
    /// where there are few choices, as where they hold all; else choices are drawn, by the seed of the values,
    /// until the share is as precise as from so many independent shuffles.
    pub(super) fn share(
        &mut self,
        values: &[f64],
        reference_size: usize,
        active_size: usize,
        Sampling { shuffles, salt }: Sampling,
    ) -> Option<f64> {
        self.samples = 0;
        let observed = self.observe(values, reference_size, active_size)?;
        if observed == 0.0 {
            return Some(0.0);
        }
        self.allowed = self.allowed_beside(observed);
        sort_into(&mut self.sorted, values);
        self.subset.start(self.reference.len() + self.active.len(), values.len());
        let mut means = Means::default();
        if self.subset.are_few() {
            means.add([self.share_of_subset(observed)]);
            while self.subset.advance() {
                means.add([self.share_of_subset(observed)]);
            }
        } else {
            let mut shuffler = Shuffler::new(values, salt);
            while means.wants_more(shuffles) {
                self.subset.draw(&mut shuffler);
                means.add([self.share_of_subset(observed)]);
            }
            self.samples = means.samples();
        }
        let [share] = means.values();
        Some(share)
    }

    /// The distance; keeps the windows.
    fn observe(&mut self, values: &[f64], reference_size: usize, active_size: usize) -> Option<f64> {
        let window = Window::new(values, reference_size, active_size, active_size)?;
        if !window.reference.len().is_multiple_of(window.active.len()) {
            return None;
        }
        let Self { reference, active, chosen, .. } = self;
        sort_into(reference, window.reference);
        sort_into(active, window.active);
        sort_into(chosen, &values[values.len() - reference.len() - active.len()..]);
        let (mut largest, mut in_reference, mut in_active) = (0.0_f64, 0, 0);
        for point in grid(chosen) {
            in_reference += passed(&reference[in_reference..], point);
            in_active += passed(&active[in_active..], point);
            largest = largest.max((share(in_active, active) - share(in_reference, reference)).abs());
        }
        Some(largest)
    }

    /// The share of the choices of active values among those of the subset whose distance is smaller.
    fn share_of_subset(&mut self, observed: f64) -> f64 {
        self.chosen.clear();
        self.chosen.extend(self.subset.places().iter().map(|&place| self.sorted[place]));
        if self.active.len() == 1 { self.alone() } else { self.together(observed) }
    }

    /// Reference values that may lie below a single active value, beyond a point of the grid, and above.
    fn allowed_beside(&self, observed: f64) -> [usize; 2] {
        let reference = &self.reference;
        let far = |passed: usize, in_active: f64| (in_active - share(passed, reference)).abs() >= observed;
        let below = (1..=reference.len()).take_while(|&below| !far(below, 0.0));
        let above = (1..=reference.len()).take_while(|&above| !far(reference.len() - above, 1.0));
        [below.count(), above.count()]
    }

    /// With one active value: neither below nor above it may too many others lie.
    fn alone(&self) -> f64 {
        let Self { chosen, allowed: [below, above], .. } = self;
        // It lies with or above the first, and with or below the second.
        let (lowest, highest) = (chosen.len() - 1 - above, *below);
        let (mut from, mut to) = (0, 0);
        for point in grid(chosen) {
            to += passed(&chosen[to..], point);
            from = if to <= lowest { to } else { from };
            if to > highest {
                return share(to - from, chosen);
            }
        }
        share(chosen.len() - from, chosen)
    }

    /// With several: the windows draw the values from the lowest to the highest, and what is too far apart at a
    /// point of the grid is given up there. That is the counting of lattice paths (Hodges 1958), with chances in
    /// place of counts.
    fn together(&mut self, observed: f64) -> f64 {
        let Self { chosen, reference, active, chances, .. } = self;
        // chances[a]: that a of the values drawn so far are active, and were never too far apart.
        chances.clear();
        chances.resize(active.len() + 1, 0.0);
        chances[0] = 1.0;
        let mut drawn = 0;
        for point in grid(chosen) {
            let before = drawn;
            drawn += passed(&chosen[drawn..], point);
            if drawn == before {
                continue;
            }
            for drawn in before..drawn {
                let left = (chosen.len() - drawn) as f64;
                let (mut active_left, mut reference_left) =
                    (active.len() as f64, reference.len() as f64 - drawn as f64);
                let mut from_fewer = 0.0;
                for chance in &mut *chances {
                    let more = *chance * active_left / left;
                    *chance = *chance * reference_left / left + from_fewer;
                    from_fewer = more;
                    active_left -= 1.0;
                    reference_left += 1.0;
                }
            }
            for (in_active, chance) in chances.iter_mut().enumerate().take(drawn + 1) {
                let in_reference = share(drawn - in_active, reference);
                if (share(in_active, active) - in_reference).abs() >= observed {
                    *chance = 0.0;
                }
            }
        }
        chances.iter().sum()
    }
}

fn sort_into(sorted: &mut Vec<f64>, values: &[f64]) {
    sorted.clear();
    sorted.extend_from_slice(values);
    sorted.sort_unstable_by(f64::total_cmp);
}

/// A point for each of the `sorted` values, in equal steps from the lowest on; rounding may keep the last point
/// from the highest.
fn grid(sorted: &[f64]) -> impl Iterator<Item = f64> {
    let step = (sorted[sorted.len() - 1] - sorted[0]) / (sorted.len() - 1) as f64;
    let mut next = sorted[0];
    (0..sorted.len()).map(move |_| {
        let point = next;
        next += step;
        point
    })
}

/// How many of the `sorted` values lie at or below `point`.
fn passed(sorted: &[f64], point: f64) -> usize {
    sorted.iter().take_while(|&&value| value <= point).count()
}

fn share(count: usize, of: &[f64]) -> f64 {
    count as f64 / of.len() as f64
}
