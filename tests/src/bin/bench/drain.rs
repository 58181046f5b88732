//! Ending an interval: from the kernel's table to a snapshot.

use std::{collections::BTreeMap, fs, time::Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::HashMap;
use wherefore::backend::ebpf::bench::Bench;

use crate::{
    Scope, cpu_time, median,
    report::{Cell, Table},
    rig::{Kind, Rig, load, load_own},
};

/// A table of `slots` with `flows` in it.
#[derive(Clone, Copy)]
struct Case {
    flows: u32,
    slots: u32,
}

/// Fills tables and empties them.
///
/// # Errors
/// What the kernel says.
pub fn measure(scope: Scope) -> Result<Vec<Table>> {
    let rounds = scope.pick(7, 1);
    let full = scope.pick(1_000_000, 20_000);
    let most = scope.pick(1 << 20, 1 << 15);
    let cases = [
        Case { flows: 1_000, slots: 1 << 16 },
        Case { flows: 1 << 16, slots: 1 << 16 },
        Case { flows: 1_000, slots: most },
        Case { flows: full, slots: most },
    ];
    let rows = cases
        .iter()
        .filter(|case| !scope.short || case.slots == most)
        .map(|&case| {
            let name = format!("{} flows in {} slots", case.flows, case.slots);
            Ok((name, row(case, rounds)?))
        })
        .collect::<Result<_>>()?;
    let columns = [
        "poll, ms",
        "of that CPU, ms",
        "empty poll, CPU, ms",
        "CPU a flow, µs",
        "key by key, CPU a flow, µs",
        "kernel memory, MiB",
        "peak process memory, MiB",
    ];
    let about = format!(
        "Handing an interval over, median of {rounds}: a poll by the clock, most of it waiting until no program uses \
         the old tables, and its CPU time; the same of empty tables; the difference over the flows. Beside it the \
         smallest program's table read and deleted key by key. Kernel memory: all maps, both sets. Process memory: \
         the highest so far."
    );
    Ok(vec![Table { name: "drain", about, columns: columns.map(str::to_owned).to_vec(), rows }])
}

fn row(case: Case, rounds: usize) -> Result<Vec<Cell>> {
    let Case { flows, slots } = case;
    // The nth step is flow n: as many packets as flows make each flow once.
    let steps: Vec<u32> = (0..flows.next_power_of_two()).collect();
    let before = map_bytes()?;
    let mut bench = Bench::new(slots)?;
    let program = load_own(&mut bench, "wherefore_in")?;
    let memory = map_bytes()?.saturating_sub(before);
    let (mut clock, mut filled, mut empty, mut singly) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        // Position 0 again.
        let mut rig = Rig::new(&steps, slots)?;
        let smallest = load(&mut rig.ebpf, "smallest")?;
        empty.push(poll(&mut bench, 0)?.cpu);
        rig.aim(Kind::Tc, &program)?;
        rig.run_on(0, Kind::Tc, flows as usize, 2)?;
        let spent = poll(&mut bench, flows as usize)?;
        clock.push(spent.clock);
        filled.push(spent.cpu);
        rig.aim(Kind::Tc, &smallest)?;
        rig.run_on(0, Kind::Tc, steps.len(), 2)?;
        singly.push(key_by_key(&mut rig, flows as usize)?);
    }
    let (empty, filled) = (median(&empty), median(&filled));
    Ok(vec![
        Cell::Number(median(&clock) * 1e3, 1),
        Cell::Number(filled * 1e3, 1),
        Cell::Number(empty * 1e3, 1),
        Cell::Number((filled - empty) * 1e6 / f64::from(flows), 2),
        Cell::Number(median(&singly) * 1e6, 2),
        Cell::Number(mebibytes(memory), 1),
        Cell::Number(mebibytes(peak()?), 1),
    ])
}

/// Seconds that something took.
struct Spent {
    clock: f64,
    cpu: f64,
}

fn poll(bench: &mut Bench, expected: usize) -> Result<Spent> {
    let (begun, before) = (Instant::now(), cpu_time()?);
    let snapshot = bench.poll()?;
    let cpu = (cpu_time()? - before).as_secs_f64();
    let clock = begun.elapsed().as_secs_f64();
    let found = snapshot.flows.len();
    ensure!(found == expected, "{found} flows were handed over of {expected}");
    Ok(Spent { clock, cpu })
}

/// Seconds a flow for the reference: its key, its value, its deletion, each a call of its own.
fn key_by_key(rig: &mut Rig, least: usize) -> Result<f64> {
    let map = rig.ebpf.map_mut("SMALLEST").context("no map SMALLEST")?;
    let mut map: HashMap<_, [u64; 5], [u64; 2]> = map.try_into()?;
    let before = cpu_time()?;
    let flows = map.iter().collect::<Result<Vec<_>, _>>()?;
    for (key, _) in &flows {
        map.remove(key)?;
    }
    let taken = (cpu_time()? - before).as_secs_f64();
    ensure!(flows.len() >= least, "{} flows were read of {least}", flows.len());
    Ok(taken / flows.len() as f64)
}

/// Bytes of kernel memory in the maps this process has open, as the kernel accounts them.
fn map_bytes() -> Result<u64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo").context("/proc/self/fdinfo")? {
        // The folder's own descriptor is gone by now.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        if let (Some(map), Some(bytes)) = (field(&text, "map_id:"), field(&text, "memlock:")) {
            maps.insert(map, bytes);
        }
    }
    Ok(maps.values().sum())
}

/// Bytes of memory this process had at most.
fn peak() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    Ok(field(&text, "VmHWM:").context("no VmHWM in /proc/self/status")? * 1024)
}

/// The number behind a name, in the manner of /proc.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
