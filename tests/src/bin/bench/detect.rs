//! What judging one series costs.

use anyhow::{Result, ensure};
use wherefore::detect::anomalyzer::{Anomalyzer, Method, Settings};
use wherefore_tests::{Random, allocations::allocations_in, plain};

use crate::{
    Scope, cpu_time,
    report::{Cell, Table},
};

/// Points of a history.
const POINTS: usize = 30;

/// The original's default tests.
const FIVE: [Method; 5] = [Method::Diff, Method::Fence, Method::HighRank, Method::LowRank, Method::Magnitude];

/// What series look like.
#[derive(Clone, Copy)]
enum Kind {
    /// Noise around a mean.
    Calm,
    /// One interval of four has bytes.
    Bursty,
    /// One interval of six has none.
    Gaps,
    /// Four values, each many times.
    Ties,
    /// One value, and at last a larger one: before it the gate of magnitude is closed.
    Constant,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Calm, Self::Bursty, Self::Gaps, Self::Ties, Self::Constant];

    const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Bursty => "bursty, mostly zero",
            Self::Gaps => "some zeros",
            Self::Ties => "ties",
            Self::Constant => "constant, then a burst",
        }
    }

    fn history(self, random: &mut Random) -> Vec<f64> {
        let value = |place| match self {
            Self::Calm => 800_000 + random.below(400_000),
            Self::Bursty if random.below(4) > 0 => 0,
            Self::Gaps if random.below(6) == 0 => 0,
            Self::Bursty | Self::Gaps => 1 + random.below(1_000_000),
            Self::Ties => 1_000 * (1 + random.below(4)),
            Self::Constant if place + 1 < POINTS => 1_000,
            Self::Constant => 2_000 + random.below(1_000_000),
        };
        (0..POINTS).map(value).map(|bytes| bytes as f64).collect()
    }
}

/// Judges series of several kinds.
///
/// # Errors
/// What the system says of CPU time.
pub fn measure(scope: Scope) -> Result<Vec<Table>> {
    let mut rows = Vec::new();
    for n_seasons in [4, POINTS - 1] {
        for kind in Kind::ALL {
            rows.push((format!("{}, reference {n_seasons}", kind.name()), row(scope, kind, n_seasons)?));
        }
    }
    let columns = [
        "five tests, µs",
        "without diff, µs",
        "ks more, µs",
        "circles for diff",
        "choices for ks",
        "allocations",
        "plain five, µs",
        "plain ks more, µs",
        "faster, times",
    ];
    let about = format!(
        "An evaluation of {POINTS} points by the Anomalyzer, the gate of magnitude open: CPU time, mean of {} \
         histories, least of {} rounds. Five tests: the original's default. A sample is as precise as {} shuffles; how \
         much of it that took is beside it, 0 being an exact answer. Plain: as the original computes it, with {} \
         shuffles for each random test.",
        histories(scope),
        rounds(scope),
        Settings::original().perm_count,
        Settings::original().perm_count,
    );
    Ok(vec![Table { name: "detect", about, columns: columns.map(str::to_owned).to_vec(), rows }])
}

const fn histories(scope: Scope) -> usize {
    scope.pick(500, 2)
}

const fn rounds(scope: Scope) -> usize {
    scope.pick(15, 1)
}

fn row(scope: Scope, kind: Kind, n_seasons: usize) -> Result<Vec<Cell>> {
    let with = |methods: &[Method]| Settings {
        methods: methods.to_vec(),
        // Opens the gate for any change.
        sensitivity: f64::MIN_POSITIVE,
        upper_bound: 1e6,
        n_seasons,
        ..Settings::original()
    };
    let five = with(&FIVE);
    let six = with(&[&FIVE[..], &[Method::Ks]].concat());
    let mut random = Random::new(1);
    let mut gate = Anomalyzer::new(five.clone())?;
    let open = |history: &Vec<f64>| gate.judge(history).parts.len() > 1;
    let histories: Vec<_> =
        std::iter::repeat_with(|| kind.history(&mut random)).filter(open).take(histories(scope)).collect();

    let ours = |settings: Settings| spent(Anomalyzer::new(settings)?, &histories, rounds(scope));
    let all = ours(six.clone())?;
    let both = ours(five.clone())?;
    let without = ours(with(&FIVE[1..]))?;

    let few = &histories[..scope.pick(10, 1)];
    let mut plainly = |settings: &Settings| {
        least(scope.pick(3, 1), few.len(), || {
            for history in few {
                std::hint::black_box(plain::raw(settings, history, &mut random));
            }
        })
    };
    let (plain_five, plain_six) = (plainly(&five)?, plainly(&six)?);
    Ok(vec![
        Cell::Number(both.micros, 2),
        Cell::Number(without.micros, 2),
        Cell::Number(all.micros - both.micros, 2),
        Cell::Number(all.circles, 1),
        Cell::Number(all.choices, 1),
        Cell::Number(all.allocations, 0),
        Cell::Number(plain_five, 0),
        Cell::Number(plain_six - plain_five, 0),
        Cell::Number(plain_five / both.micros, 0),
    ])
}

/// What an evaluation took, on average.
struct Spent {
    micros: f64,
    circles: f64,
    choices: f64,
    allocations: f64,
}

fn spent(mut anomalyzer: Anomalyzer, histories: &[Vec<f64>], rounds: usize) -> Result<Spent> {
    let (mut circles, mut choices) = (0, 0);
    for history in histories {
        ensure!(anomalyzer.judge(history).parts.len() > 1, "the gate is closed for {history:?}");
        circles += anomalyzer.samples(Method::Diff);
        choices += anomalyzer.samples(Method::Ks);
    }
    let mut judge_all = || {
        for history in histories {
            std::hint::black_box(anomalyzer.judge(history));
        }
    };
    let allocations = allocations_in(&mut judge_all);
    let micros = least(rounds, histories.len(), judge_all)?;
    let mean = |sum: f64| sum / histories.len() as f64;
    Ok(Spent {
        micros,
        circles: mean(circles as f64),
        choices: mean(choices as f64),
        allocations: mean(allocations as f64),
    })
}

/// Microseconds of CPU for each of the `evaluations` that `judge_all` makes, least of `rounds`.
fn least(rounds: usize, evaluations: usize, mut judge_all: impl FnMut()) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..rounds {
        let before = cpu_time()?;
        judge_all();
        least = least.min((cpu_time()? - before).as_secs_f64());
    }
    Ok(least / evaluations as f64 * 1e6)
}
