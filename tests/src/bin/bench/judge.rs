//! What judging an interval costs, by series.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use wherefore::{
    detect::{Detector, auto::Auto, ewma::Ewma},
    judge::{Judge, Settings, Thresholds},
    locality::Locality,
    series::{self, Level},
    snapshot::{Flow, Snapshot},
    state::{Form, Learned, StateDir},
    time::Timestamp,
};
use wherefore_common::{FlowCounters, FlowKey};

use crate::{
    Scope, median,
    report::{Cell, Table},
};

const INTERVAL: Duration = Duration::from_secs(5);
/// Intervals before the first one that is timed: each detector is warm, and each series has its evidence.
const WARM: u64 = 130;

/// So many pairs of addresses, of which each carries something in each interval: the most that judging can cost.
///
/// # Errors
/// What the system says.
pub fn measure(scope: Scope) -> Result<Vec<Table>> {
    let pairs = scope.pick(100_000, 1_000);
    let intervals = scope.pick(20, 2);
    let mut rows = Vec::new();
    let mut add = |name: &str, cost: Cost| {
        let each = |nanos: f64| Cell::Number(nanos / f64::from(pairs), 1);
        rows.push((
            name.to_owned(),
            vec![
                each(cost.nanos),
                Cell::Number(cost.nanos / 1e6, 1),
                Cell::Number(cost.bytes / f64::from(pairs), 0),
            ],
        ));
    };
    let all = series::Settings::default().levels;
    add("HashMap, add", reference(pairs, intervals)?);
    add(
        "pairs, a mean and a variance (ewma)",
        judged(pairs, intervals, &[Level::Pair], Ewma::new(INTERVAL))?,
    );
    add("pairs, auto", judged(pairs, intervals, &[Level::Pair], Auto::new(INTERVAL))?);
    add("pairs, networks and interfaces, auto", judged(pairs, intervals, &all, Auto::new(INTERVAL))?);
    let about = format!(
        "Judging an interval in which {pairs} pairs of addresses of {} networks carry something, on one CPU: median of \
         {intervals} intervals; the memory of what is remembered, by resident pages.",
        pairs.div_ceil(250)
    );
    let columns = ["ns a pair", "ms an interval", "bytes a pair"].map(str::to_owned).to_vec();
    Ok(vec![Table { name: "judge", about, columns, rows }, saving(pairs)?])
}

/// What it costs to save what was learned of so many pairs: the judge waits for the copy alone.
fn saving(pairs: u32) -> Result<Table> {
    let series = series::Settings { max_series: pairs as usize, ..series::Settings::default() };
    let settings = Settings { thresholds: Thresholds::default(), budget: Some(1.0) };
    let mut traffic = Traffic::new(pairs);
    let mut judge = Judge::new(series.clone(), INTERVAL, settings, Auto::new(INTERVAL));
    for number in 0..WARM {
        judge.judge(traffic.interval(number));
    }
    let folder = tempfile::tempdir_in(crate::folder()).context("cannot make a folder")?;
    let dir = StateDir::open(folder.path())?;
    let form = Form { settings: Vec::new(), limit: 1 << 30 };
    let mut rows = Vec::new();
    let mut add = |name: &str, start: Instant, bytes: Option<u64>| {
        let bytes = bytes.map_or(Cell::Text("-".into()), |bytes| Cell::Number(bytes as f64 / 1e6, 1));
        rows.push((name.to_owned(), vec![Cell::Number(start.elapsed().as_secs_f64() * 1e3, 0), bytes]));
    };
    let start = Instant::now();
    let value = judge.save();
    add("copy", start, None);
    let learned = Learned { until: Timestamp(0), value };
    let start = Instant::now();
    dir.save(&form, &learned)?;
    add("write", start, Some(std::fs::metadata(folder.path().join("learned.bin"))?.len()));
    drop(learned);
    let start = Instant::now();
    let learned = dir.load(&form, Timestamp(0))?.context("nothing was saved")?;
    add("read", start, None);
    let start = Instant::now();
    Judge::new(series, INTERVAL, settings, Auto::new(INTERVAL)).load(learned.value)?;
    add("take in", start, None);
    let about = format!(
        "Saving what was learned of {pairs} pairs, and of their networks and interfaces, and reading it."
    );
    Ok(Table { name: "state", about, columns: ["ms", "MB"].map(str::to_owned).to_vec(), rows })
}

struct Cost {
    /// Of an interval.
    nanos: f64,
    /// That stay.
    bytes: f64,
}

fn judged<D: Detector>(pairs: u32, intervals: u64, levels: &[Level], detector: D) -> Result<Cost> {
    let series = series::Settings {
        levels: levels.to_vec(),
        max_series: pairs as usize,
        ..series::Settings::default()
    };
    let settings = Settings { thresholds: Thresholds::default(), budget: Some(1.0) };
    let mut traffic = Traffic::new(pairs);
    let before = resident()?;
    let mut judge = Judge::new(series, INTERVAL, settings, detector);
    let mut spent = Vec::new();
    for number in 0..WARM + intervals {
        let snapshot = traffic.interval(number);
        let start = crate::cpu_time()?;
        std::hint::black_box(judge.judge(snapshot));
        spent.push((crate::cpu_time()? - start).as_nanos() as f64);
    }
    let bytes = resident()? - before;
    drop(judge);
    Ok(Cost { nanos: median(&spent[WARM as usize..]), bytes })
}

/// The least that anybody can do: add what each flow carried to what its pair carried before.
fn reference(pairs: u32, intervals: u64) -> Result<Cost> {
    let mut traffic = Traffic::new(pairs);
    let before = resident()?;
    let mut sums: HashMap<_, u64> = HashMap::new();
    let mut spent = Vec::new();
    for number in 0..intervals + 1 {
        let snapshot = traffic.interval(number);
        let start = crate::cpu_time()?;
        for flow in &snapshot.flows {
            *sums.entry((flow.src(), flow.dst())).or_default() += flow.counters.ip_bytes;
        }
        spent.push((crate::cpu_time()? - start).as_nanos() as f64);
    }
    std::hint::black_box(&sums);
    Ok(Cost { nanos: median(&spent[1..]), bytes: resident()? - before })
}

/// The same pairs in each interval, with other bytes.
struct Traffic {
    rng: SmallRng,
    snapshot: Snapshot,
}

impl Traffic {
    fn new(pairs: u32) -> Self {
        let flow = |i: u32| {
            // 250 hosts a network.
            let host = u32::from(Ipv4Addr::new(16, 0, 0, 0)) + i / 250 * 256 + i % 250;
            let key = FlowKey {
                src: Ipv4Addr::from(host).to_ipv6_mapped().octets(),
                dst: Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets(),
                sport: 443,
                dport: 50_000,
                proto: 6,
                family: 4,
                ifindex: 2,
                ..FlowKey::default()
            };
            Flow { locality: Locality::Incoming, ..Flow::new(key, FlowCounters::default()) }
        };
        let snapshot = Snapshot {
            length: INTERVAL,
            complete: true,
            flows: (0..pairs).map(flow).collect(),
            interfaces: [(2, "eth0".to_owned())].into(),
            ..Snapshot::default()
        };
        Self { rng: SmallRng::seed_from_u64(1), snapshot }
    }

    fn interval(&mut self, number: u64) -> &Snapshot {
        self.snapshot.start = Timestamp(number * INTERVAL.as_nanos() as u64);
        self.snapshot.end = self.snapshot.start.plus(INTERVAL);
        for flow in &mut self.snapshot.flows {
            flow.counters.ip_bytes = self.rng.random_range(500..200_000);
            flow.counters.packets = 1;
        }
        &self.snapshot
    }
}

/// Bytes of this process in memory.
fn resident() -> Result<f64> {
    let pages = std::fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages: f64 =
        pages.split(' ').nth(1).unwrap_or_default().parse().context("/proc/self/statm has another form")?;
    Ok(pages * 4_096.0)
}
