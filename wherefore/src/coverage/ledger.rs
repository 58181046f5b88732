//! Two counts of the same packets, step by step.

use std::{fmt, time::Duration};

use super::LAG;

/// What comes to us this much later than to the device: behind its count packets are joined (GRO) and wait for a
/// processor, and libpcap hands them over by blocks.
const EARLY: Duration = Duration::from_millis(100);

/// Our count beside the device's, in one unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Counted here, less what the host dropped between us and the device.
    pub counted: u64,
    /// Counted by the device, less what the host dropped between the device and us.
    pub device: u64,
    /// Counted by the device besides, right before or behind this time, while we began or ended to count.
    pub edges: u64,
}

/// Both counts over steps that follow each other, and how much of the device's is not in ours.
///
/// The counters are read at other moments than ours, and some drivers renew them every two seconds only. So what we
/// have more in a step may be what the device tells in the next, and what we lack may come to us in the next; an
/// excess makes up for a lack nowhere else. Where one of them runs behind the other for longer, it does so by no more
/// than was counted in [`LAG`], or in 100 ms where it is we.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    counted: u64,
    device: u64,
    edges: u64,
    missing: u64,
    /// Counted here; the device may tell of it in the next step.
    ahead: u64,
    /// Missing; may come to us in the next step.
    behind: u64,
}

impl Ledger {
    /// Adds a step that took `length`, [`LAG`] or longer but for the last one.
    pub fn add(&mut self, step: &Compared, length: Duration) {
        let Compared { counted, device, edges } = *step;
        self.counted += counted;
        self.device += device;
        self.edges += edges;
        // The oldest first: what the device tells was counted here before, as far as it goes.
        let told = device.saturating_sub(self.ahead);
        let lack = told.saturating_sub(counted);
        let untold = counted.saturating_sub(told);
        let arrived = untold.min(self.behind);
        self.missing = (self.missing + lack).saturating_sub(arrived);
        self.ahead = (untold - arrived).min(counted.saturating_sub(device).max(part(counted, LAG, length)));
        self.behind = (self.behind - arrived + lack).min(lack.max(part(device, EARLY, length)));
    }

    /// What goes over into a window that begins here: without the sums.
    #[must_use]
    pub(super) fn onward(self) -> Self {
        Self { ahead: self.ahead, behind: self.behind, ..Self::default() }
    }

    /// As [`Ledger::onward`], where all that was counted in the end of the `last` step may be told yet.
    #[must_use]
    pub(super) fn expecting(self, last: &Compared, length: Duration) -> Self {
        Self { ahead: self.ahead.max(part(last.counted, LAG, length)), ..self.onward() }
    }

    /// Counted here.
    #[must_use]
    pub const fn counted(&self) -> u64 {
        self.counted
    }

    /// Counted by the device.
    #[must_use]
    pub const fn device(&self) -> u64 {
        self.device
    }

    /// Counted by the device, and not here.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing.min(self.device)
    }

    /// The part of what the device counts that is counted here, 0 to 1. `None` where it counts nothing.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        (self.device > 0).then(|| 1.0 - self.missing() as f64 / self.device as f64)
    }

    /// What we count more than the device, less what may have passed while we began or ended.
    #[must_use]
    pub const fn excess(&self) -> u64 {
        self.counted.saturating_sub(self.device).saturating_sub(self.edges)
    }

    /// Our count as a part of the device's, without what may have passed while we began or ended: above 1 where that
    /// comes late, or counts otherwise. `None` where the device counts nothing.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let counted = self.counted.min(self.device) + self.excess();
        (self.device > 0).then(|| counted as f64 / self.device as f64)
    }
}

/// The share in per cent: `99.8%`; `100%` where nothing is missing, and `103.2%` where we count more than that; `-`
/// where the device counts nothing.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.share(), self.ratio()) {
            (Some(share), _) if self.missing() > 0 => write!(f, "{:.1}%", (share * 100.0).min(99.9)),
            // Less than that the moments of reading make.
            (_, Some(ratio)) if (ratio * 1000.0).round() > 1000.0 => write!(f, "{:.1}%", ratio * 100.0),
            (Some(_), _) => f.write_str("100%"),
            (None, _) => f.write_str("-"),
        }
    }
}

/// What passed in `time` of a `length` in which `amount` passed evenly.
fn part(amount: u64, time: Duration, length: Duration) -> u64 {
    if length <= time { amount } else { (amount as f64 * (time.as_secs_f64() / length.as_secs_f64())) as u64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_secs(5);

    fn ledger(steps: impl IntoIterator<Item = (u64, u64)>) -> Ledger {
        let mut ledger = Ledger::default();
        steps
            .into_iter()
            .for_each(|(counted, device)| ledger.add(&Compared { counted, device, edges: 0 }, STEP));
        ledger
    }

    #[test]
    fn an_excess_makes_up_for_the_step_beside_it_alone() {
        // Told late; came late.
        assert_eq!(ledger([(1000, 300), (0, 700)]).missing(), 0);
        assert_eq!(ledger([(300, 1000), (700, 0)]).missing(), 0);
        // Nothing of it is left two steps on.
        assert_eq!(ledger([(2000, 1000), (0, 0), (0, 1000)]).missing(), 1000);
        assert_eq!(ledger([(0, 1000), (0, 0), (2000, 1000)]).missing(), 1000);
        // It is spent once.
        assert_eq!(ledger([(2000, 1000), (0, 1000), (0, 1000)]).missing(), 1000);
        assert_eq!(ledger([(0, 1000), (2000, 1000), (0, 1000)]).missing(), 1000);
    }

    /// What a device counts too little for ever hides a loss by two seconds' traffic at most.
    #[test]
    fn a_lasting_excess_hides_no_lasting_loss() {
        let steps = std::iter::repeat_n((1100, 1000), 20).chain(std::iter::repeat_n((700, 1000), 10));
        let ledger = ledger(steps);
        assert_eq!(ledger.missing(), 10 * 300 - 1100 * 2 / 5);
        assert!(ledger.ratio() > Some(0.96), "the sums hide it: {ledger:?}");
        assert_eq!(ledger.share(), Some(1.0 - 2560.0 / 30_000.0));
    }

    #[test]
    fn without_a_device_s_count_there_is_no_share() {
        assert_eq!((ledger([(5, 0)]).share(), ledger([(5, 0)]).ratio()), (None, None));
        assert_eq!((ledger([(5, 4)]).share(), ledger([(5, 4)]).ratio()), (Some(1.0), Some(1.25)));
        let words = [(0, 0), (1, 0), (100_049, 100_000), (100_060, 100_000), (99_999, 100_000), (0, 9)];
        let words = words.map(|step| ledger([step]).to_string());
        assert_eq!(words, ["-", "-", "100%", "100.1%", "99.9%", "0.0%"]);
        let seconds = Duration::from_secs;
        assert_eq!([part(1000, LAG, seconds(8)), part(1000, LAG, seconds(1))], [250, 1000]);
    }

    /// Steps of five seconds, as packets of each second and what of the last seconds is not told yet at the end.
    fn late() -> impl Strategy<Value = Vec<(u64, u64)>> {
        // Even within a step, so that two of its seconds are what may be told late.
        prop::collection::vec((0u64..10_000, 0u64..=2), 1..60).prop_map(|steps| {
            let mut owed = 0;
            let told = |(each, seconds): (u64, u64)| {
                let counted = each * 5;
                let before = std::mem::replace(&mut owed, each * seconds);
                (counted, before + counted - owed)
            };
            steps.into_iter().map(told).collect()
        })
    }

    proptest! {
        /// Neither counters that come late nor packets that do.
        #[test]
        fn nothing_is_missing_of_what_comes_late(steps in late()) {
            prop_assert_eq!(ledger(steps).missing(), 0);
        }

        /// Nothing the device counts is taken for counted without a packet of ours.
        #[test]
        fn what_is_not_missing_was_counted(steps in prop::collection::vec((0u64..1000, 0u64..1000), 0..60)) {
            let ledger = ledger(steps);
            prop_assert!(ledger.missing() + ledger.counted() >= ledger.device());
            prop_assert!(ledger.share().is_none_or(|share| (0.0..=1.0).contains(&share)));
        }

        /// Whatever was counted too much before: what is missing from two steps on is told but for two seconds'
        /// packets, and that only where the steps between have so many.
        #[test]
        fn an_excess_pays_for_no_later_loss(
            excess in 0u64..1_000_000, between in prop::collection::vec(0u64..10_000, 1..20),
            loss in prop::collection::vec(0u64..10_000, 1..20),
        ) {
            let least = between.iter().min().copied().unwrap_or_default();
            let steps = [(excess, 0)].into_iter().chain(between.iter().map(|&all| (all, all)));
            let steps = steps.chain(loss.iter().map(|&lost| (0, lost)));
            let lost: u64 = loss.iter().sum();
            prop_assert!(ledger(steps).missing() + least * 2 / 5 >= lost);
        }
    }
}
