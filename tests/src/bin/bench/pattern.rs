//! Which flow each packet belongs to.

use wherefore_tests::Random;

/// An order of packets over flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// All packets of one flow.
    One,
    /// Sixteen packets of one flow, then of another, out of `flows` in random order: what segmentation and a
    /// busy sender make of traffic.
    Trains { flows: usize },
    /// Each packet of any of `flows`.
    Uniform { flows: usize },
    /// Each packet of one of `flows`, of which the nth is 1/n as likely as the first (Zipf, exponent 1).
    Zipf { flows: usize },
}

/// Packets of a train.
const TRAIN: usize = 16;

impl Pattern {
    /// In words.
    pub fn name(self) -> String {
        match self {
            Self::One => "1 flow".into(),
            Self::Trains { flows } => format!("{flows}, trains"),
            Self::Uniform { flows } => format!("{flows} uniform"),
            Self::Zipf { flows } => format!("{flows} Zipf"),
        }
    }

    /// The flow of each of `count` packets, as 24 bits that are different for each flow and otherwise
    /// random; the same in every run.
    pub fn steps(self, count: usize) -> Vec<u32> {
        let mut random = Random::new(1);
        // An odd factor permutes the numbers of 24 bits.
        let flow = |number: usize| (number as u32).wrapping_mul(0x009e_3779) & 0x00ff_ffff;
        match self {
            Self::One => vec![flow(1); count],
            Self::Trains { flows } => {
                let mut train = 0;
                (0..count)
                    .map(|place| {
                        if place % TRAIN == 0 {
                            train = flow(random.below(flows));
                        }
                        train
                    })
                    .collect()
            }
            Self::Uniform { flows } => (0..count).map(|_| flow(random.below(flows))).collect(),
            Self::Zipf { flows } => {
                let mut sum = 0.0;
                let sums: Vec<f64> = (1..=flows)
                    .map(|rank| {
                        sum += 1.0 / rank as f64;
                        sum
                    })
                    .collect();
                (0..count)
                    .map(|_| {
                        let at = random.next() as f64 / u64::MAX as f64 * sum;
                        flow(sums.partition_point(|&sum| sum < at))
                    })
                    .collect()
            }
        }
    }
}
