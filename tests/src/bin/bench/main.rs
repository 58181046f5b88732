//! What Wherefore costs, each figure beside a reference measured in the same go:
//! `cargo xtask bench [NAME…]`, which builds the agent and this in release mode. docs/performance.md explains the
//! measurements.

mod cpus;
mod detect;
mod drain;
mod file;
mod idle;
mod judge;
mod kernel;
mod pattern;
mod rig;
mod traffic;
mod veth;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use nix::time::{ClockId, clock_gettime};
use wherefore_tests::allocations::Counting;

use wherefore_tests::report::{self, Report, Table};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Nanoseconds a packet costs in the kernel programs.
    Kernel,
    /// Speed of reading capture files.
    File,
    /// What a sender over a veth pair loses of its packet rate.
    Veth,
    /// Time and memory for handing over an interval.
    Drain,
    /// CPU and memory of an agent that has nothing to count.
    Idle,
    /// Two CPUs that count at once.
    Cpus,
    /// What judging one series costs.
    Detect,
    /// Time and memory for judging an interval.
    Judge,
}

/// How thoroughly.
#[derive(Clone, Copy, Debug)]
struct Scope {
    /// A few seconds for everything: figures of no worth, but each path is gone once.
    short: bool,
}

impl Scope {
    /// `long` of a thorough run, `short` of a short one.
    const fn pick<T: Copy>(self, long: T, short: T) -> T {
        if self.short { short } else { long }
    }
}

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measures what Wherefore costs, beside references")]
struct Args {
    /// What to measure; everything where nothing is named.
    measurements: Vec<Measurement>,
    /// Go each way once in a few seconds: shows that the measurements work, not what things cost.
    #[arg(long)]
    short: bool,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(
        nix::unistd::geteuid().is_root(),
        "loading kernel programs and making network namespaces needs root"
    );
    let scope = Scope { short: args.short };
    let chosen =
        if args.measurements.is_empty() { Measurement::value_variants() } else { &args.measurements };
    let mut report = Report::new(args.short);
    for measurement in chosen {
        let tables: Vec<Table> = match measurement {
            Measurement::Kernel => kernel::measure(scope),
            Measurement::File => file::measure(scope),
            Measurement::Veth => veth::measure(scope),
            Measurement::Drain => drain::measure(scope),
            Measurement::Idle => idle::measure(scope),
            Measurement::Cpus => cpus::measure(scope),
            Measurement::Detect => detect::measure(scope),
            Measurement::Judge => judge::measure(scope),
        }
        .with_context(|| format!("measuring {measurement:?}"))?;
        for table in tables {
            print!("\n{table}");
            report.add(table);
        }
    }
    if let Some(path) = args.json {
        fs::write(&path, report.json()?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The middle of `values`, the lower one of two; NaN where there are none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// How long this thread has been on a CPU.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// The agent's binary: `$WHEREFORE_BIN`, else the one beside this.
fn agent() -> PathBuf {
    std::env::var_os("WHEREFORE_BIN").map_or_else(|| beside("wherefore"), PathBuf::from)
}

/// Where what is made for measurements is kept: `target/bench`.
fn folder() -> PathBuf {
    beside("../bench")
}

fn beside(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}

/// Whether a command is there to compare with.
fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}
