//! Chores of the project: `cargo xtask run`, `test`, `bpf`, `bench`, `eval`.

mod bench;
mod bpf;
mod eval;
mod setup;
mod suite;

use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the project")]
enum Xtask {
    /// Build Wherefore and start it on this host's traffic.
    ///
    /// Everything behind `run` goes to wherefore: `cargo xtask run flows -i eth0 --for 10s`. What it takes, `cargo
    /// xtask run -- --help` tells.
    Run {
        /// Do not install what is missing; say what it is and stop.
        #[arg(long)]
        no_install: bool,
        /// Passed on to `wherefore` (default: `run`).
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the whole test suite; as root with the kernel and namespace tests.
    Test {
        /// Do not install what is missing; say what it is and stop.
        #[arg(long)]
        no_install: bool,
        /// Passed on to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Install what building and testing need beyond Rust, and nothing else.
    Setup,
    /// Build the kernel object from source, into its place in the tree.
    Bpf {
        /// Rebuild and compare with the committed object instead of replacing it.
        #[arg(long)]
        check: bool,
    },
    /// Measure what Wherefore costs, beside references; `-- --help` tells what there is.
    Bench {
        /// Do not install what is missing; say what it is and stop.
        #[arg(long)]
        no_install: bool,
        /// Names of measurements, `--short`, `--json FILE`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Judge how well unusual traffic is told from usual traffic; `-- --help` tells what there is.
    Eval {
        /// Do not install what is missing; say what it is and stop.
        #[arg(long)]
        no_install: bool,
        /// Names of parts, `--short`, `--json FILE`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Xtask::parse() {
        Xtask::Run { no_install, args } => run(!no_install, &args),
        Xtask::Test { no_install, args } => suite::run(!no_install, &args),
        Xtask::Setup => setup::ensure(&setup::ALL, true).map(|()| ExitCode::SUCCESS),
        Xtask::Bench { no_install, args } => bench::run(!no_install, &args),
        Xtask::Eval { no_install, args } => eval::run(!no_install, &args),
        Xtask::Bpf { check } => bpf::run(check).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Builds the release binary and starts it; its exit code is ours.
fn run(install: bool, args: &[String]) -> anyhow::Result<ExitCode> {
    setup::ensure(&[setup::LIBPCAP], install)?;
    cargo(&["build", "--release", "--locked", "--package", "wherefore"])?;
    let binary = setup::workspace().join("target/release/wherefore");
    let mut command = if setup::is_root() || !needs_privilege(args) {
        Command::new(&binary)
    } else {
        eprintln!("wherefore needs privileges to see packets; starting it as: sudo {}", binary.display());
        let mut sudo = Command::new("sudo");
        // sudo drops the environment, and with it where alerts go.
        if std::env::var_os(SLACK_URL).is_some() {
            sudo.arg(format!("--preserve-env={SLACK_URL}"));
        }
        sudo.arg(&binary);
        sudo
    };
    command.args(args);
    setup::become_command(command).with_context(|| format!("cannot start {}", binary.display()))
}

/// The one setting that wherefore reads from the environment.
const SLACK_URL: &str = "WHEREFORE_SLACK_URL";

/// Reading a capture file, listing interfaces or asking for help needs no privilege; watching traffic does.
fn needs_privilege(args: &[String]) -> bool {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let asks = words.iter().any(|word| ["-h", "--help", "-V", "--version", "help"].contains(word));
    let live = |word: &&str| {
        word.starts_with("-i")
            || word.starts_with("--interface")
            || *word == "--for"
            || word.starts_with("--for=")
    };
    let live_flows = words.iter().any(live);
    match words.first() {
        _ if asks => false,
        Some(&"replay" | &"interfaces" | &"doctor") => false,
        Some(&"flows") => live_flows,
        _ => true,
    }
}

/// Runs cargo in the workspace, with its output shown.
fn cargo(args: &[&str]) -> anyhow::Result<()> {
    setup::succeed(Command::new(setup::cargo()).args(args).current_dir(setup::workspace()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_watches_traffic_needs_privilege() {
        let needs =
            |line: &str| needs_privilege(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        for line in ["", "run", "selftest", "flows --for 10s --key pair", "flows --for=1s", "flows -i eth0"] {
            assert!(needs(line), "{line}");
        }
        for line in ["flows a.pcap --format json", "replay a.pcap", "interfaces -i eth0", "doctor", "run -h"]
        {
            assert!(!needs(line), "{line}");
        }
    }
}
