//! How well Wherefore tells the unusual from the usual: `cargo xtask eval`, which builds this in release mode.
//! docs/detection.md explains the rules.

mod heard;
mod labelled;
mod nab;
mod parallel;
mod scenarios;
mod scorer;
mod series;
mod show;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use wherefore_tests::report::{Report, Table};

/// What is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Series that people labelled.
    Labelled,
    /// Hosts to which something happens, and to which nothing does.
    Scenarios,
}

#[derive(Parser)]
#[command(name = "cargo xtask eval", about = "Judges the detectors")]
struct Args {
    /// What to judge by; everything where nothing is named.
    parts: Vec<Part>,
    /// Detectors to score on the labelled series, by their names in the tables; all where none is named.
    #[arg(long = "detector", value_name = "NAME")]
    detectors: Vec<String>,
    /// A little of everything: shows that it works, not how good the detectors are.
    #[arg(long)]
    short: bool,
    /// Say of each host to which something happens what the agent said about it.
    #[arg(long)]
    list: bool,
    /// Write the figures to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    show: show::Show,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.show.run()? {
        return Ok(());
    }
    let chosen = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    let mut report = Report::new(args.short);
    for part in chosen {
        let tables: Vec<Table> = match part {
            Part::Labelled => labelled::tables(&args.detectors, args.short)?,
            Part::Scenarios => scenarios::tables(args.short, args.list),
        };
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
