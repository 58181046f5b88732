//! Two CPUs that count at once: what they cost each other.

use std::{panic::resume_unwind, sync::Barrier, thread};

use anyhow::{Context as _, Result};
use wherefore::backend::ebpf::bench::Bench;

use crate::{
    Scope, median,
    pattern::Pattern,
    report::{Cell, Table},
    rig::{Kind, Rig, load, load_own},
};

const TABLE: u32 = 1 << 17;

/// One CPU, then two on the same flow, on a flow each, and on a thousand flows each.
///
/// # Errors
/// What the kernel says.
pub fn measure(scope: Scope) -> Result<Vec<Table>> {
    let packets = scope.pick(1 << 20, 1 << 14);
    let rounds = scope.pick(9, 1);
    let columns =
        ["alone", "both, same flow", "both, a flow each", "alone, 1000 flows", "both, 1000 flows each"];
    if thread::available_parallelism()?.get() < 2 {
        let about = "Two CPUs counting at once: not measured, there is one.".into();
        return Ok(vec![Table { name: "cpus", about, columns: Vec::new(), rows: Vec::new() }]);
    }
    let mut rows: Vec<(String, Vec<f64>)> =
        ["empty", "smallest", "wherefore_in"].map(|name| (name.to_owned(), Vec::new())).to_vec();
    for pattern in [Pattern::One, Pattern::Uniform { flows: 1_000 }] {
        let mut rig = Rig::new(&pattern.steps(packets), TABLE)?;
        let mut bench = Bench::new(TABLE)?;
        let programs = [
            load(&mut rig.ebpf, "empty")?,
            load(&mut rig.ebpf, "smallest")?,
            load_own(&mut bench, "wherefore_in")?,
        ];
        // Hosts that the frames of the CPUs go to: different hosts, different flows.
        let ways: &[&[u8]] = match pattern {
            Pattern::One => &[&[2], &[2, 2], &[2, 3]],
            _ => &[&[2], &[2, 3]],
        };
        let mut figures = vec![vec![Vec::new(); ways.len()]; programs.len()];
        // Of the first round, in which the flows are made, nothing is kept.
        for round in 0..=rounds {
            for (program, figures) in programs.iter().zip(&mut figures) {
                rig.aim(Kind::Tc, program)?;
                for (hosts, figures) in ways.iter().zip(figures) {
                    let figure = together(&rig, packets, hosts)?;
                    if round > 0 {
                        figures.push(figure);
                    }
                }
            }
        }
        for ((_, row), figures) in rows.iter_mut().zip(figures) {
            row.extend(figures.iter().map(|figures| median(figures)));
        }
    }
    let rows = rows
        .into_iter()
        .map(|(name, figures)| (name, figures.into_iter().map(|figure| Cell::Number(figure, 0)).collect()))
        .collect();
    let about = format!(
        "Nanoseconds a packet on the slower CPU of one or two that count at once, the driver's included: median \
         of {rounds} interleaved rounds of {packets} packets each."
    );
    Ok(vec![Table { name: "cpus", about, columns: columns.map(str::to_owned).to_vec(), rows }])
}

/// A run on a CPU of its own for each of `hosts`, all at once: nanoseconds a packet of the slowest.
fn together(rig: &Rig, packets: usize, hosts: &[u8]) -> Result<f64> {
    let barrier = Barrier::new(hosts.len());
    let run = |cpu, host| {
        barrier.wait();
        rig.run_on(cpu, Kind::Tc, packets, host)
    };
    let figures = thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> =
            hosts.iter().enumerate().map(|(cpu, &host)| scope.spawn(move || run(cpu, host))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect::<Result<Vec<f64>>>()
    })?;
    figures.into_iter().reduce(f64::max).context("no CPU to measure on")
}
