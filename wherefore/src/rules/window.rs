//! A sum over a sliding window, and many of them in bounded memory.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

/// Parts that a window is told apart in. So a window of a day is exact to 24 minutes, and takes half a kilobyte.
const BUCKETS: u32 = 60;

/// What was added within a window, in at most [`BUCKETS`] sums.
///
/// The sum is of what was added within the window, but for its oldest bucket: never more than the plain sliding sum,
/// and at least that of a window shorter by a bucket. So what is told as too much was too much.
#[derive(Clone, Debug)]
pub struct Window {
    bucket: u128,
    /// Bucket of the clock and its sum, oldest first; buckets without anything are not there.
    sums: VecDeque<(u128, u64)>,
    total: u64,
}

impl Window {
    /// An empty one of this length.
    pub fn new(length: Duration) -> Self {
        Self { bucket: (length.as_nanos() / u128::from(BUCKETS)).max(1), sums: VecDeque::new(), total: 0 }
    }

    /// Adds at a time that is no earlier than that of any call before, and forgets what left the window.
    pub fn add(&mut self, now: Duration, amount: u64) {
        self.slide(now);
        if amount == 0 {
            return;
        }
        // Saturates where nobody will ever be: 2^64 bytes in a window.
        let amount = amount.min(u64::MAX - self.total);
        self.total += amount;
        let at = now.as_nanos() / self.bucket;
        match self.sums.back_mut() {
            Some((last, sum)) if *last == at => *sum += amount,
            _ => self.sums.push_back((at, amount)),
        }
    }

    /// Forgets what left the window.
    pub fn slide(&mut self, now: Duration) {
        let at = now.as_nanos() / self.bucket;
        while let Some(&(oldest, sum)) = self.sums.front()
            && oldest + u128::from(BUCKETS) <= at
        {
            self.total -= sum;
            self.sums.pop_front();
        }
    }

    /// What was added within the window that ends with the last call.
    pub const fn sum(&self) -> u64 {
        self.total
    }
}

/// Values by key, at most so many: when it is full, a newcomer replaces the lightest value if it is heavier itself,
/// else it is turned away and counted. So a scan replaces its own remains, not the talkers.
#[derive(Clone, Debug)]
pub struct Bounded<K, V> {
    values: HashMap<K, V>,
    capacity: usize,
    turned_away: u64,
}

impl<K: Copy + Eq + Hash + Ord, V> Bounded<K, V> {
    /// An empty one.
    pub fn new(capacity: usize) -> Self {
        Self { values: HashMap::new(), capacity, turned_away: 0 }
    }

    /// Values by key.
    pub const fn values(&self) -> &HashMap<K, V> {
        &self.values
    }

    /// Values by key, to be changed.
    pub const fn values_mut(&mut self) -> &mut HashMap<K, V> {
        &mut self.values
    }

    /// Newcomers turned away; one that comes again counts again.
    pub const fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// Makes room for those of `amounts` that are not there yet, as far as they deserve it; `weight` is that of a
    /// value, `make` a newcomer's.
    pub fn admit(&mut self, amounts: &[(K, u64)], weight: impl Fn(&V) -> u64, make: impl Fn() -> V) {
        let mut newcomers: Vec<(u64, K)> = amounts
            .iter()
            .filter(|(key, _)| !self.values.contains_key(key))
            .map(|(key, amount)| (*amount, *key))
            .collect();
        let order = |a: &(u64, K), b: &(u64, K)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
        if let Some(more) = newcomers.len().checked_sub(self.capacity).filter(|more| *more > 0) {
            // No more than there are places can win one.
            newcomers.select_nth_unstable_by(self.capacity, order);
            newcomers.truncate(self.capacity);
            self.turned_away += more as u64;
        }
        newcomers.sort_unstable_by(order);
        let places = self.capacity.saturating_sub(self.values.len()).min(newcomers.len());
        let contenders = newcomers.split_off(places);
        if !contenders.is_empty() {
            let mut held: Vec<(u64, K)> =
                self.values.iter().map(|(key, value)| (weight(value), *key)).collect();
            held.sort_unstable();
            let wins = contenders.iter().zip(&held).take_while(|(new, old)| old.0 < new.0).count();
            for (_, key) in &held[..wins] {
                self.values.remove(key);
            }
            newcomers.extend_from_slice(&contenders[..wins]);
            self.turned_away += (contenders.len() - wins) as u64;
        }
        for (_, key) in newcomers {
            self.values.insert(key, make());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_left_the_window_is_forgotten() {
        let mut window = Window::new(60 * SECOND);
        window.add(SECOND, 5);
        window.add(30 * SECOND, 7);
        assert_eq!(window.sum(), 12);
        window.slide(60 * SECOND);
        assert_eq!(window.sum(), 12);
        window.slide(61 * SECOND);
        assert_eq!(window.sum(), 7);
        window.add(1_000 * SECOND, 0);
        assert_eq!(window.sum(), 0);
        window.add(1_000 * SECOND, u64::MAX);
        window.add(1_001 * SECOND, 9);
        assert_eq!(window.sum(), u64::MAX);
    }

    #[test]
    fn a_million_small_ones_replace_no_large_one() {
        let mut table = Bounded::new(100);
        let large: Vec<(u32, u64)> = (0..50).map(|key| (key, 1_000 + u64::from(key))).collect();
        let fill = |table: &mut Bounded<u32, u64>, amounts: &[(u32, u64)]| {
            table.admit(amounts, |weight| *weight, || 0);
            for (key, amount) in amounts {
                if let Some(value) = table.values_mut().get_mut(key) {
                    *value += amount;
                }
            }
        };
        fill(&mut table, &large);
        for round in 0..10 {
            let scan: Vec<(u32, u64)> = (0..100_000).map(|n| (1_000 + round * 100_000 + n, 60)).collect();
            fill(&mut table, &scan);
        }
        assert_eq!(table.values().len(), 100);
        assert!(large.iter().all(|(key, amount)| table.values()[key] == *amount));
        assert_eq!(table.turned_away(), 1_000_000 - 50);
        fill(&mut table, &[(7_000_000, 61)]);
        assert_eq!(table.values()[&7_000_000], 61);
    }

    proptest! {
        /// The sum lies between those of the plain sliding windows of this length and of one shorter by a bucket.
        #[test]
        fn the_sum_is_the_plain_one_within_a_bucket(
            length in 1u64..100_000,
            steps in prop::collection::vec((0u64..5_000, 0u64..1_000), 1..300),
        ) {
            let length = Duration::from_millis(length);
            let bucket = length / BUCKETS;
            let mut window = Window::new(length);
            let (mut now, mut added) = (Duration::ZERO, Vec::new());
            for (wait, amount) in steps {
                now += Duration::from_millis(wait);
                window.add(now, amount);
                added.push((now, amount));
                let plain = |length: Duration| -> u64 {
                    added.iter().filter(|(at, _)| *at + length > now).map(|(_, amount)| amount).sum()
                };
                // Nanoseconds that 60 does not divide are the bucket's.
                let shorter = length.saturating_sub(bucket + Duration::from_nanos(u64::from(BUCKETS)));
                prop_assert!(window.sum() <= plain(length), "{} > {}", window.sum(), plain(length));
                prop_assert!(window.sum() >= plain(shorter), "{} < {}", window.sum(), plain(shorter));
                prop_assert!(window.sums.len() <= BUCKETS as usize);
            }
        }
    }
}
