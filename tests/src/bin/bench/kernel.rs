//! Nanoseconds a packet costs in the kernel programs, by test runs of the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf,
    programs::{Program, ProgramFd},
};
use wherefore::{
    backend::{
        Hook,
        ebpf::{
            Start, Target,
            bench::{Bench, Features},
            filter::Filter,
        },
    },
    filter::{CidrFilter, Prefixes},
};

use wherefore_tests::Random;

use crate::{
    Scope, median,
    pattern::Pattern,
    report::{Cell, Table},
    rig::{Kind, Rig, load, load_own},
};

const PATTERNS: [Pattern; 5] = [
    Pattern::One,
    Pattern::Trains { flows: 1_000 },
    Pattern::Uniform { flows: 1_000 },
    Pattern::Zipf { flows: 100_000 },
    Pattern::Uniform { flows: 100_000 },
];

/// Flows the tables are made for, as many as the smallest program's.
const TABLE: u32 = 1 << 17;

/// A program to be measured. Owns what keeps it and its tables alive.
struct Subject {
    name: String,
    kind: Kind,
    program: ProgramFd,
    /// Of the net cost of this reference a share is told.
    counts: bool,
    /// An interval begins with each run, so that all flows are new.
    anew: bool,
    bench: Option<Bench>,
    _ebpf: Option<Ebpf>,
    _filter: Option<Filter>,
}

impl Subject {
    fn run(&mut self, rig: &mut Rig, packets: usize) -> Result<f64> {
        if let (true, Some(bench)) = (self.anew, &mut self.bench) {
            bench.poll()?;
        }
        rig.aim(self.kind, &self.program)?;
        rig.run_on(0, self.kind, packets, 2)
    }
}

/// Runs every program on every pattern.
///
/// Each is loaded several times: the kernel puts a program at a random place (`bpf_jit_binary_pack_alloc`), and its
/// tables into whatever pages are free, which alone changes what a packet costs by 7 ns.
///
/// # Errors
/// What the kernel says.
pub fn measure(scope: Scope) -> Result<Vec<Table>> {
    let packets = scope.pick(1 << 20, 1 << 14);
    let loads = scope.pick(5, 1);
    let rounds = scope.pick(3, 1);
    let c_object = build_c_reference()?;
    let mut rows: Vec<Row> = Vec::new();
    for pattern in PATTERNS {
        for load in 0..loads {
            let mut rig = Rig::new(&pattern.steps(packets), TABLE)?;
            let mut subjects = subjects(&mut rig, c_object.as_deref())?;
            if rows.is_empty() {
                rows = subjects.iter().map(Row::new).collect();
            }
            let order = shuffled(subjects.len(), load as u64);
            // The first time through the pattern makes the flows.
            for &place in &order {
                subjects[place].run(&mut rig, packets)?;
            }
            let mut least = vec![f64::INFINITY; subjects.len()];
            for _ in 0..rounds {
                for &place in &order {
                    least[place] = least[place].min(subjects[place].run(&mut rig, packets)?);
                }
            }
            for (row, least) in rows.iter_mut().zip(least) {
                row.figures.push(least);
            }
        }
    }
    Ok(tables(&rows, loads, rounds, packets))
}

/// The numbers below `count` in an order that is another one for each load: what ran before is in the caches.
fn shuffled(count: usize, load: u64) -> Vec<usize> {
    let mut random = Random::new(load);
    let mut order: Vec<usize> = (0..count).collect();
    for left in (1..count).rev() {
        order.swap(left, random.below(left + 1));
    }
    order
}

/// What a program took.
struct Row {
    name: String,
    kind: Kind,
    counts: bool,
    /// Nanoseconds a packet, by pattern and within that by load.
    figures: Vec<f64>,
}

impl Row {
    fn new(subject: &Subject) -> Self {
        Self { name: subject.name.clone(), kind: subject.kind, counts: subject.counts, figures: Vec::new() }
    }
}

fn tables(rows: &[Row], loads: usize, rounds: usize, packets: usize) -> Vec<Table> {
    let columns: Vec<String> = PATTERNS.into_iter().map(Pattern::name).collect();
    let find = |name: &str| rows.iter().find(|row| row.name == name);
    let cells = |figures: &[f64], decimals| -> Vec<Cell> {
        figures.chunks(loads).map(|loads| Cell::Number(median(loads), decimals)).collect()
    };
    let nanoseconds = rows.iter().map(|row| (row.name.clone(), cells(&row.figures, 0))).collect();
    let shares = rows
        .iter()
        .filter(|row| row.counts)
        .filter_map(|row| {
            let (empty, smallest) = match row.kind {
                Kind::Tc => (find("empty")?, find("smallest")?),
                Kind::Xdp => (find("empty, XDP")?, find("smallest, XDP")?),
            };
            let figures = row.figures.iter().zip(&empty.figures).zip(&smallest.figures);
            let shares: Vec<f64> =
                figures.map(|((own, empty), smallest)| (own - empty) / (smallest - empty)).collect();
            Some((row.name.clone(), cells(&shares, 2)))
        })
        .collect();
    vec![
        Table {
            name: "kernel",
            about: format!(
                "Nanoseconds a packet, the driver's included: median of {loads} loads, of each the least of \
                 {rounds} interleaved rounds of {packets} packets."
            ),
            columns: columns.clone(),
            rows: nanoseconds,
        },
        Table {
            name: "kernel_share",
            about: "The same net of the empty program, as a share of the smallest program in the same load: median."
                .into(),
            columns,
            rows: shares,
        },
    ]
}

/// Everything that is measured, references first.
fn subjects(rig: &mut Rig, c_object: Option<&Path>) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    let references = [
        ("empty", Kind::Tc, "empty", false),
        ("smallest", Kind::Tc, "smallest", true),
        ("empty, XDP", Kind::Xdp, "empty_xdp", false),
        ("smallest, XDP", Kind::Xdp, "smallest_xdp", true),
    ];
    for (name, kind, program, counts) in references {
        let program = load(&mut rig.ebpf, program)?;
        subjects.push(Subject {
            name: name.into(),
            kind,
            program,
            counts,
            anew: false,
            bench: None,
            _ebpf: None,
            _filter: None,
        });
    }
    if let Some(path) = c_object {
        let mut ebpf = Ebpf::load_file(path).with_context(|| format!("loading {}", path.display()))?;
        let program = load(&mut ebpf, "count")?;
        let name = "smallest, in C".into();
        subjects.push(Subject {
            name,
            kind: Kind::Tc,
            program,
            counts: true,
            anew: false,
            bench: None,
            _ebpf: Some(ebpf),
            _filter: None,
        });
    }
    for (kind, name) in
        [(Kind::Tc, "wherefore_in"), (Kind::Tc, "wherefore_out"), (Kind::Xdp, "wherefore_xdp")]
    {
        subjects.push(ours(name, kind, name, &Features::default())?);
    }
    for (variant, change) in VARIANTS {
        let mut features = Features::default();
        change(&mut features);
        subjects.push(ours(&format!("wherefore_out{variant}"), Kind::Tc, "wherefore_out", &features)?);
    }
    let mut anew = ours(ANEW, Kind::Tc, "wherefore_out", &Features::default())?;
    anew.anew = true;
    subjects.push(anew);
    for (verdict, expression) in EXPRESSIONS {
        subjects.push(behind(&format!("wherefore_out behind -f, {verdict}"), expression)?);
    }
    for (verdict, net) in NETWORKS {
        subjects.push(within(&format!("wherefore_out with --exclude, {verdict}"), net)?);
    }
    Ok(subjects)
}

/// This program where all flows are new, in an interval of as many packets as a round has.
const ANEW: &str = "wherefore_out, all flows new";

/// Expressions that take all of the driver's packets, and none.
const EXPRESSIONS: [(&str, &str); 2] = [("accepted", "udp port 4100"), ("rejected", "tcp port 443")];

/// Networks that none of the driver's packets are from or to, and all.
const NETWORKS: [(&str, &str); 2] = [("accepted", "2001:db8::/32"), ("rejected", "0.0.0.0/0")];

/// This program behind a tcpdump expression.
fn behind(name: &str, expression: &str) -> Result<Subject> {
    let mut bench = Bench::new(TABLE)?;
    let target = Target { name: "none".into(), index: 1, start: Start::Ethernet };
    let filter = bench.expression(expression, &[target], Hook::Tc)?;
    let program = match filter.programs.program("wherefore_out") {
        Some(Program::SchedClassifier(program)) => program.fd()?.try_clone()?,
        _ => bail!("the expression has no program for what leaves"),
    };
    let (bench, filter) = (Some(bench), Some(filter));
    let name = name.into();
    Ok(Subject {
        name,
        kind: Kind::Tc,
        program,
        counts: true,
        anew: false,
        bench,
        _ebpf: None,
        _filter: filter,
    })
}

/// This program with a CIDR filter that excludes `net`.
fn within(name: &str, net: &str) -> Result<Subject> {
    let mut subject = ours(name, Kind::Tc, "wherefore_out", &Features::default())?;
    if let Some(bench) = &mut subject.bench {
        let exclude = Prefixes { either: vec![net.parse()?], ..Prefixes::default() };
        bench.filter(&CidrFilter { exclude, ..CidrFilter::default() })?;
        bench.poll()?;
    }
    Ok(subject)
}

fn ours(name: &str, kind: Kind, program: &str, features: &Features) -> Result<Subject> {
    let mut bench = Bench::with(TABLE, features)?;
    let program = load_own(&mut bench, program)?;
    Ok(Subject {
        name: name.into(),
        kind,
        program,
        counts: true,
        anew: false,
        bench: Some(bench),
        _ebpf: None,
        _filter: None,
    })
}

type Change = fn(&mut Features);

/// This program with one feature more or less than by default: what that feature costs is the difference.
const VARIANTS: [(&str, Change); 6] = [
    (" without totals", |features| features.totals = false),
    (" without offload", |features| features.offload = false),
    (" without tag", |features| features.tag = false),
    (" without cache", |features| features.cache = false),
    (" without a place for CIDR filters", |features| features.cidr = false),
    (" with cookie", |features| features.cookie = true),
];

/// Compiles the smallest program's C form where it and a compiler for it are; else says what is missing.
fn build_c_reference() -> Result<Option<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source = root.join("../shared/bench/smallest.bpf.c");
    let compiler = ["clang", "clang-19"].into_iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    // It is no part of this repository.
    if !source.is_file() {
        return Ok(None);
    }
    let Some(compiler) = compiler else {
        eprintln!("the smallest program in C is left out: there is no clang to compile it with");
        return Ok(None);
    };
    let folder = crate::folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // aya knows the sections of TC programs by their older name only.
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let copy = folder.join("smallest.bpf.c");
    fs::write(&copy, text.replace("SEC(\"tc\")", "SEC(\"classifier\")"))
        .with_context(|| format!("cannot write {}", copy.display()))?;
    let object = copy.with_extension("o");
    let headers = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(compiler)
        .args(["-O2", "-g", "-target", "bpf", &headers, "-c"])
        .arg(&copy)
        .arg("-o")
        .arg(&object)
        .output()
        .context("cannot run clang")?;
    ensure!(output.status.success(), "clang: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Some(object))
}
