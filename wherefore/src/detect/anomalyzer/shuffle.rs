//! The chance in the permutation tests, the same for the same history.

/// Most arrangements that are all looked at: as many as seven different values have.
pub(super) const EXACT: u64 = 5_040;

/// Samples after which it is asked whether they are precise enough, each time: so many, and one for so many shuffles,
/// lest what is rare is missed where much precision is wanted.
const BATCH: usize = 16;
const SHUFFLES_A_SAMPLE: usize = 32;

/// They are when their variance is this many times smaller than that of shuffles. It is an estimate, and a sample
/// that ends where it looks small is less precise than it looks; the fewer there are, the more: so many are not
/// relied on.
const MARGIN: f64 = 2.0;
const UNRELIABLE: f64 = 5.0;

/// Where hardly any arrangement, or nearly each, is less unusual, the mean is as precise as one of this p (1 - p): a
/// standard error of 0.006 for 500 shuffles.
const LEAST_VARIANCE: f64 = 0.02;

/// How a sample is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    /// It shall be as precise as so many independent shuffles.
    pub(super) shuffles: usize,
    /// Another one for the same values.
    pub(super) salt: u64,
}

/// A random generator (`SplitMix64`: Steele, Lea and Flood 2014), seeded from the values it will shuffle: the
/// same history gives the same probability on every machine, and two series do not share their errors.
pub(super) struct Shuffler(u64);

impl Shuffler {
    /// Seeded from the bits of `values` and, so that two tests on them differ, `salt`.
    pub(super) fn new(values: &[f64], salt: u64) -> Self {
        let mut generator = Self(salt);
        for value in values {
            generator.0 ^= value.to_bits();
            generator.0 = generator.next();
        }
        generator
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; its bias is below bound / 2^64.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Puts the elements in random order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, elements: &mut [T]) {
        for i in (1..elements.len()).rev() {
            let other = self.below(i + 1);
            elements.swap(i, other);
        }
    }
}

/// Means of shares over a sample, and how sure they are.
pub(super) struct Means<const N: usize> {
    samples: usize,
    sums: [f64; N],
    squares: [f64; N],
}

impl<const N: usize> Default for Means<N> {
    fn default() -> Self {
        Self { samples: 0, sums: [0.0; N], squares: [0.0; N] }
    }
}

impl<const N: usize> Means<N> {
    pub(super) fn add(&mut self, shares: [f64; N]) {
        self.samples += 1;
        for (i, share) in shares.into_iter().enumerate() {
            self.sums[i] += share;
            self.squares[i] += share * share;
        }
    }

    /// How many samples there are.
    pub(super) const fn samples(&self) -> usize {
        self.samples
    }

    pub(super) fn values(&self) -> [f64; N] {
        self.sums.map(|sum| sum / self.samples as f64)
    }

    /// Whether the sample shall go on until it is as precise as `shuffles` independent shuffles.
    pub(super) fn wants_more(&self, shuffles: usize) -> bool {
        let batch = BATCH.max(shuffles / SHUFFLES_A_SAMPLE);
        let asked = self.samples > 0 && self.samples.is_multiple_of(batch);
        self.samples < shuffles && !(asked && self.as_precise_as(shuffles))
    }

    /// Whether each mean has at most the variance of `shuffles` independent ones, p (1 - p) / shuffles. Asked of
    /// [`BATCH`] samples or more. Half a sample of 0 and half a one of 1 are added to those drawn: that a few were all
    /// alike does not say that none is otherwise.
    fn as_precise_as(&self, shuffles: usize) -> bool {
        let drawn = self.samples as f64;
        self.sums.iter().zip(self.squares).all(|(sum, squares)| {
            let (mean, square) = ((sum + 0.5) / (drawn + 1.0), (squares + 0.5) / (drawn + 1.0));
            let variance = (square - mean * mean) / (drawn + 1.0 - UNRELIABLE);
            let share = sum / drawn;
            MARGIN * variance <= (share * (1.0 - share)).max(LEAST_VARIANCE) / shuffles as f64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_comes_last_equally_often() {
        let mut shuffler = Shuffler::new(&[1.0, 2.0], 0);
        let mut last = [0_u32; 5];
        let mut values = [0_usize, 1, 2, 3, 4];
        for _ in 0..10_000 {
            shuffler.shuffle(&mut values);
            last[values[4]] += 1;
        }
        // 2,000 each, standard deviation 40.
        assert!(last.iter().all(|&count| (1_800..2_200).contains(&count)), "{last:?}");
        values.sort_unstable();
        assert_eq!(values, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn seeds_differ_by_values_and_salt() {
        let first = |values: &[f64], salt| Shuffler::new(values, salt).next();
        assert_eq!(first(&[1.0, 2.0], 0), first(&[1.0, 2.0], 0));
        assert_ne!(first(&[1.0, 2.0], 0), first(&[2.0, 1.0], 0));
        assert_ne!(first(&[1.0, 2.0], 0), first(&[1.0, 2.0], 1));
    }
}
