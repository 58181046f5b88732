//! Choices of some of n places: each once, or drawn at random.

use super::shuffle::{EXACT, Shuffler};

/// A choice of places, in ascending order.
#[derive(Clone, Debug, Default)]
pub(super) struct Subset {
    all: usize,
    places: Vec<usize>,
    /// A bit for each place, which sorts what is drawn.
    bits: Vec<u64>,
}

impl Subset {
    /// The first `count` of `all` places.
    pub(super) fn start(&mut self, count: usize, all: usize) {
        self.all = all;
        self.places.clear();
        self.places.extend(0..count);
        self.bits.clear();
        self.bits.resize(all.div_ceil(64), 0);
    }

    /// The places chosen.
    pub(super) fn places(&self) -> &[usize] {
        &self.places
    }

    /// Whether there are few choices of so many places.
    pub(super) fn are_few(&self) -> bool {
        let (all, count) = (self.all as u64, self.places.len() as u64);
        let mut choices = 1_u64;
        for k in 0..count.min(all - count) {
            choices = choices * (all - k) / (k + 1);
            if choices * count > EXACT {
                return false;
            }
        }
        true
    }

    /// The next choice of so many places; `false` behind the last one.
    pub(super) fn advance(&mut self) -> bool {
        let spare = self.all - self.places.len();
        let Some(movable) = (0..self.places.len()).rfind(|&i| self.places[i] < spare + i) else {
            return false;
        };
        let first = self.places[movable] + 1;
        for (place, next) in self.places[movable..].iter_mut().zip(first..) {
            *place = next;
        }
        true
    }

    /// Chooses so many places at random (Floyd: Bentley and Floyd 1987).
    pub(super) fn draw(&mut self, shuffler: &mut Shuffler) {
        let Self { all, places, bits } = self;
        bits.fill(0);
        for last in *all - places.len()..*all {
            let drawn = shuffler.below(last + 1);
            let taken = bits[drawn / 64] >> (drawn % 64) & 1 == 1;
            let place = if taken { last } else { drawn };
            bits[place / 64] |= 1 << (place % 64);
        }
        places.clear();
        for (i, &word) in bits.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                places.push(i * 64 + word.trailing_zeros() as usize);
                word &= word - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_choices_come_once_and_in_order() {
        let mut subset = Subset::default();
        subset.start(3, 6);
        let mut seen = vec![subset.places().to_vec()];
        while subset.advance() {
            seen.push(subset.places().to_vec());
        }
        assert_eq!(seen.len(), 20);
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        assert!(seen.iter().flatten().all(|&place| place < 6));
        subset.start(4, 4);
        assert!(!subset.advance() && subset.are_few());
    }

    #[test]
    fn few_is_what_all_can_be_looked_at() {
        let few = |count, all| {
            let mut subset = Subset::default();
            subset.start(count, all);
            subset.are_few()
        };
        // 792 choices of 5 values, and 1,287.
        assert!(few(5, 12) && !few(5, 13));
        assert!(few(30, 30) && few(10_000, 10_000) && !few(5_000, 10_000));
    }

    #[test]
    fn every_choice_is_drawn_equally_often() {
        let mut shuffler = Shuffler::new(&[], 0);
        let mut subset = Subset::default();
        subset.start(2, 5);
        let mut counts = std::collections::HashMap::new();
        for _ in 0..10_000 {
            subset.draw(&mut shuffler);
            *counts.entry(subset.places().to_vec()).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 10);
        // 1,000 each, standard deviation 30.
        assert!(counts.values().all(|count| (860..1_140).contains(count)), "{counts:?}");
    }

    #[test]
    fn places_beyond_a_word_are_drawn() {
        let mut shuffler = Shuffler::new(&[], 0);
        let mut subset = Subset::default();
        subset.start(100, 130);
        subset.draw(&mut shuffler);
        assert_eq!(subset.places().len(), 100);
        assert!(subset.places().is_sorted_by(|a, b| a < b) && subset.places()[99] >= 99);
    }
}
