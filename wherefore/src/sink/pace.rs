//! How fast, and how soon again. Pure: times are durations since any fixed moment.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// At most one message per `per`, after a burst of `burst` (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    per: Duration,
    /// How far ahead of its time a message may be.
    tolerance: Duration,
    /// When the next message is due at the steady rate.
    due: Duration,
}

impl Bucket {
    pub(super) fn new(burst: u32, per: Duration) -> Self {
        Self { per, tolerance: per * burst.saturating_sub(1), due: Duration::ZERO }
    }

    /// How long the next message must wait from `now`; it is taken as sent then.
    pub(super) fn take(&mut self, now: Duration) -> Duration {
        let due = self.due.max(now);
        self.due = due + self.per;
        due.saturating_sub(self.tolerance).saturating_sub(now)
    }
}

/// Exponential back-off with full jitter: a wait drawn evenly from zero to `first * 2^n`, at most
/// `longest` ("Exponential Backoff And Jitter", AWS architecture blog, 2015).
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    rng: SmallRng,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, rng: SmallRng::seed_from_u64(seed) }
    }

    /// The wait after try number `tries`, counted from 1.
    pub(super) fn wait(&mut self, tries: u32) -> Duration {
        let factor = 1u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let ceiling = self.first.saturating_mul(factor).min(self.longest);
        ceiling.mul_f64(self.rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In no window of length t are there more than burst + t/per messages.
        #[test]
        fn never_faster_than_allowed(gaps in prop::collection::vec(0u64..3000, 1..80), burst in 1u32..6) {
            let per = Duration::from_secs(1);
            let mut bucket = Bucket::new(burst, per);
            let mut now = Duration::from_secs(1000);
            let mut sent = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                now += bucket.take(now);
                sent.push(now);
            }
            for (i, from) in sent.iter().enumerate() {
                for (n, to) in sent[i..].iter().enumerate() {
                    let allowed = u64::from(burst) + (*to - *from).as_secs();
                    prop_assert!((n as u64) < allowed, "{} messages in {:?}", n + 1, *to - *from);
                }
            }
        }

        #[test]
        fn waits_stay_below_a_ceiling_that_doubles(seed: u64, tries in 1u32..200) {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300), seed);
            let ceiling = if tries > 9 { 300 } else { 1 << (tries - 1) };
            prop_assert!(backoff.wait(tries) <= Duration::from_secs(ceiling));
        }
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_a_second_apart() {
        let mut bucket = Bucket::new(4, Duration::from_secs(1));
        let now = Duration::from_secs(50);
        let waits: Vec<u64> = (0..7).map(|_| bucket.take(now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 3]);
    }

    #[test]
    fn the_same_seed_waits_the_same_and_another_one_does_not() {
        let waits = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300), seed);
            (1..10).map(|tries| backoff.wait(tries)).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
