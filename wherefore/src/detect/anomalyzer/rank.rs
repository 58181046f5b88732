//! Are the active values higher, or lower, than chance would make them?

use super::{
    primitives::{Window, rank},
    shuffle::Shuffler,
};

/// Most additions spent on an exact answer; beyond it shuffles are cheaper.
const EXACT_COST: usize = 40_000;

/// Shares of the arrangements of all values whose active values rank (strictly) lower, and higher, than they
/// do: upstream's `highrank` and `lowrank`. `None` if there are fewer reference than active values.
///
/// Exact where that is cheap (always for an active window of one point), else from `shuffles` shuffles.
pub(super) fn high_and_low(
    values: &[f64],
    reference_size: usize,
    active_size: usize,
    shuffles: usize,
) -> Option<(f64, f64)> {
    let active = Window::new(values, reference_size, active_size, active_size)?.active.len();
    let mut ranks = rank(values);
    let observed: i64 = ranks[ranks.len() - active..].iter().sum();
    let shares = if active == 1 {
        count(ranks.iter().copied(), ranks.len(), observed)
    } else if (values.len() * active).pow(2) <= EXACT_COST {
        exact(&ranks, active, observed)
    } else {
        let mut shuffler = Shuffler::new(values, 0);
        let sums = (0..shuffles).map(|_| {
            shuffler.shuffle_last(&mut ranks, active);
            ranks[ranks.len() - active..].iter().sum()
        });
        count(sums, shuffles, observed)
    };
    Some(shares)
}

fn count(sums: impl Iterator<Item = i64>, of: usize, observed: i64) -> (f64, f64) {
    let (mut lower, mut higher) = (0_usize, 0_usize);
    for sum in sums {
        lower += usize::from(sum < observed);
        higher += usize::from(sum > observed);
    }
    (lower as f64 / of as f64, higher as f64 / of as f64)
}

/// Counts the choices of `active` ranks by their sum, one rank after the other.
fn exact(ranks: &[i64], active: usize, observed: i64) -> (f64, f64) {
    // A rank is at least -1 (NaN): one more makes it an index.
    let observed = observed + active as i64;
    let width = ranks.len() * active + 1;
    // choices[k * width + s]: ways to take k of the ranks so far with sum s.
    let mut choices = vec![0.0_f64; (active + 1) * width];
    choices[0] = 1.0;
    for &rank in ranks {
        let step = usize::try_from(rank + 1).unwrap_or_default();
        for k in (1..=active).rev() {
            let (fewer, these) = choices.split_at_mut(k * width);
            let fewer = &fewer[(k - 1) * width..];
            for (to, from) in these[step..width].iter_mut().zip(fewer) {
                *to += from;
            }
        }
    }
    let (mut all, mut lower, mut higher) = (0.0, 0.0, 0.0);
    for (sum, &ways) in choices[active * width..].iter().enumerate() {
        all += ways;
        match (sum as i64).cmp(&observed) {
            std::cmp::Ordering::Less => lower += ways,
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => higher += ways,
        }
    }
    (lower / all, higher / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_four_by_hand() {
        // Ranks 0 1 2 3, the active ones sum to 5: of the six pairs five sum to less, none to more.
        assert_eq!(high_and_low(&[1.0, 2.0, 3.0, 4.0], 8, 2, 500), Some((5.0 / 6.0, 0.0)));
        // Ranks 2 3 0 1: all but the pair itself sum to more than 1.
        assert_eq!(high_and_low(&[3.0, 4.0, 1.0, 2.0], 8, 2, 500), Some((0.0, 5.0 / 6.0)));
        assert_eq!(high_and_low(&[7.0; 4], 8, 2, 500), Some((0.0, 0.0)));
    }

    #[test]
    fn shuffles_agree_with_the_exact_answer() {
        let values: Vec<f64> = (0..30).map(|i| f64::from(i * 7919 % 101)).collect();
        let ranks = rank(&values);
        let observed: i64 = ranks[25..].iter().sum();
        let (high, low) = exact(&ranks, 5, observed);
        let mut shuffler = Shuffler::new(&values, 0);
        let mut shuffled = ranks;
        let sums = (0..20_000).map(|_| {
            shuffler.shuffle_last(&mut shuffled, 5);
            shuffled[25..].iter().sum()
        });
        let (sampled_high, sampled_low) = count(sums, 20_000, observed);
        // Standard error below 0.0036.
        assert!((high - sampled_high).abs() < 0.015 && (low - sampled_low).abs() < 0.015);
    }
}
