//! Are the active values higher, or lower, than chance would make them?

use super::{
    circle::{self, Circles},
    primitives::{Window, rank_sum_of_last, ranks_into},
    shuffle::Sampling,
};

/// Most additions spent on an exact answer: some 0.1 ms.
const EXACT_COST: usize = 400_000;

/// What the tests use again.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranks {
    circles: Circles,
    sorted: Vec<f64>,
    ranks: Vec<usize>,
    elements: Vec<f64>,
    choices: Vec<f64>,
}

impl Ranks {
    /// Shares of the arrangements of all values whose active values rank (strictly) lower, and higher, than they
    /// do: upstream's `highrank` and `lowrank`. `None` if there are fewer reference than active values.
    ///
    /// Exact where that is cheap, always for an active window of one point; else as [`Circles::shares`].
    pub(super) fn shares(
        &mut self,
        values: &[f64],
        reference_size: usize,
        active_size: usize,
        sampling: Sampling,
    ) -> Option<[f64; 2]> {
        let active = Window::new(values, reference_size, active_size, active_size)?.active;
        if values.iter().any(|value| value.is_nan()) {
            // Ranks depend on where NaN stands.
            let observed = rank_sum_of_last(values, active.len());
            return Some(self.circles.shares(values, sampling, |circle, step| {
                self.elements.clear();
                self.elements.extend_from_slice(circle);
                self.elements.extend_from_slice(circle);
                circle::by_ranks(&self.elements, circle.len(), active.len(), observed, step)
            }));
        }
        if let &[last] = active {
            let share = |count: usize| count as f64 / values.len() as f64;
            let lower = values.iter().map(|&value| usize::from(value < last)).sum();
            let higher = values.iter().map(|&value| usize::from(value > last)).sum();
            return Some([share(lower), share(higher)]);
        }
        self.sorted.clear();
        self.sorted.extend_from_slice(values);
        self.sorted.sort_unstable_by(f64::total_cmp);
        ranks_into(&mut self.ranks, values, &self.sorted);
        Some(self.exact(active.len()).unwrap_or_else(|| self.sampled(active.len(), sampling)))
    }

    /// Counts the choices of `active` ranks by their sum, one rank after the other. `None` if that is too dear.
    fn exact(&mut self, active: usize) -> Option<[f64; 2]> {
        let Self { ranks, choices, .. } = self;
        // Sums up to the one seen are counted, by the ranks or by what they lack, whichever are fewer.
        let largest = ranks.len() - 1;
        let sum: usize = ranks[ranks.len() - active..].iter().sum();
        let lack = active * largest - sum;
        let width = sum.min(lack) + 1;
        if ranks.len().saturating_mul(active).saturating_mul(width) > EXACT_COST {
            return None;
        }
        // choices[k * width + s]: ways to take k of the ranks so far with sum s.
        choices.clear();
        choices.resize((active + 1) * width, 0.0);
        choices[0] = 1.0;
        for (before, &rank) in ranks.iter().enumerate() {
            let step = if lack < sum { largest - rank } else { rank };
            if step >= width {
                continue;
            }
            for k in (1..=active.min(before + 1)).rev() {
                let (fewer, these) = choices.split_at_mut(k * width);
                let fewer = &fewer[(k - 1) * width..];
                for (to, from) in these[step..width].iter_mut().zip(fewer) {
                    *to += from;
                }
            }
        }
        let all = (0..active).fold(1.0, |all, k| all * (ranks.len() - k) as f64 / (k + 1) as f64);
        let (&equal, below) = choices[active * width..].split_last()?;
        let below: f64 = below.iter().sum();
        let above = (all - below - equal).max(0.0);
        let shares = [below / all, above / all];
        Some(if lack < sum { [shares[1], shares[0]] } else { shares })
    }

    fn sampled(&mut self, active: usize, sampling: Sampling) -> [f64; 2] {
        let Self { circles, ranks, elements, sorted, .. } = self;
        let observed: usize = ranks[ranks.len() - active..].iter().sum();
        // Whole numbers: their sums are exact.
        sorted.clear();
        sorted.extend(ranks.iter().map(|&rank| rank as f64));
        circles.shares(sorted, sampling, |circle, _| {
            elements.clear();
            elements.extend_from_slice(circle);
            elements.extend_from_slice(&circle[..active - 1]);
            let (mut lower, mut higher) = (0_usize, 0_usize);
            for window in elements.windows(active) {
                let sum: f64 = window.iter().sum();
                lower += usize::from(sum < observed as f64);
                higher += usize::from(sum > observed as f64);
            }
            [lower, higher].map(|count| count as f64 / circle.len() as f64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_agrees_with_the_exact_answer() {
        for factor in [7_919, 4_099, 6_007] {
            let values: Vec<f64> = (1..=30).map(|i| f64::from(i * factor % 101)).collect();
            let mut ranks = Ranks::default();
            let exact = ranks.shares(&values, 20, 5, Sampling { shuffles: 500, salt: 0 }).unwrap();
            assert_eq!(ranks.circles.samples, 0);
            let sampled = ranks.sampled(5, Sampling { shuffles: 20_000, salt: 0 });
            // Four standard errors of 20,000 shuffles: 0.0035 at most, each.
            let far = |(one, other): (f64, f64)| (one - other).abs() > 0.014;
            assert!(!exact.into_iter().zip(sampled).any(far), "{exact:?} {sampled:?}");
            assert!(ranks.circles.samples > 0);
        }
    }
}
