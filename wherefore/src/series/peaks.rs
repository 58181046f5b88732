//! How long ago a series last carried as much.

use serde::{Deserialize, Serialize};

const KEPT: usize = 3;

/// The few values of the past that later ones did not reach, each larger and older than the next.
///
/// Of those that would be more than there is room for, two neighbours become one: as large as the larger, as young as the
/// younger. So what it says is never too long ago, but may be too short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Peaks {
    /// The oldest first; 0 where there is none.
    values: [f32; KEPT],
    /// Numbers of their intervals.
    when: [u32; KEPT],
}

impl Peaks {
    /// Intervals since one that carried at least `value`; `None` where none did.
    pub(super) fn since(&self, value: f64, now: u32) -> Option<u32> {
        let value = value as f32;
        let found = (0..KEPT).rev().find(|&i| self.values[i] > 0.0 && self.values[i] >= value);
        found.map(|i| now.saturating_sub(self.when[i]))
    }

    /// Takes in the value of interval `now`.
    pub(super) fn push(&mut self, value: f64, now: u32) {
        let value = value as f32;
        if value <= 0.0 {
            return;
        }
        let kept = self.values.iter().take_while(|&&kept| kept > value).count();
        if kept < KEPT {
            self.values[kept..].fill(0.0);
            (self.values[kept], self.when[kept]) = (value, now);
            return;
        }
        // All are larger: two give way to one, where that says least less.
        let age = |i: usize| f64::from(now.saturating_sub(self.when[i])) + 1.0;
        let size = |i: usize| f64::from(self.values[i]);
        let loss = |older: usize| {
            let (ages, sizes) = (age(older) / age(older + 1), size(older) / size(older + 1));
            (ages - 1.0) * (sizes - 1.0)
        };
        let newest = (age(KEPT - 1) - 1.0) * (size(KEPT - 1) / f64::from(value) - 1.0);
        let mut least = (newest, KEPT - 1);
        for older in 0..KEPT - 1 {
            let lost = loss(older);
            if lost < least.0 {
                least = (lost, older);
            }
        }
        let older = least.1;
        if older == KEPT - 1 {
            self.when[older] = now;
            return;
        }
        self.when[older] = self.when[older + 1];
        self.values.copy_within(older + 2.., older + 1);
        self.when.copy_within(older + 2.., older + 1);
        (self.values[KEPT - 1], self.when[KEPT - 1]) = (value, now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_remembered_behind_what_is_usual() {
        let mut peaks = Peaks::default();
        peaks.push(5e9, 0);
        for now in 1..10_000 {
            peaks.push(f64::from(20 + now * 7 % 13) * 1e6, now);
        }
        assert_eq!(peaks.since(4e9, 10_000), Some(10_000));
        assert_eq!(peaks.since(6e9, 10_000), None);
        assert!(peaks.since(20e6, 10_000).is_some_and(|ago| ago <= 13));
    }

    proptest! {
        /// "Highest in so long" is true, and "highest ever" too.
        #[test]
        fn it_is_never_told_too_long(values in prop::collection::vec(0_u16..1_000, 1..200), asked in 1_u16..1_100) {
            let mut peaks = Peaks::default();
            for (now, &value) in (0_u32..).zip(&values) {
                peaks.push(f64::from(value), now);
            }
            let now = values.len() as u32;
            let truth = values.iter().rev().position(|&value| value >= asked).map(|ago| ago as u32 + 1);
            match (peaks.since(f64::from(asked), now), truth) {
                (Some(said), Some(truth)) => prop_assert!(said <= truth, "{said} {truth}"),
                (said, None) => prop_assert_eq!(said, None),
                (None, Some(_)) => prop_assert!(false, "it had been reached"),
            }
        }
    }
}
