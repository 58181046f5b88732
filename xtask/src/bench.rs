//! `cargo xtask bench`: builds the agent and the measurements (`tests/src/bin/bench`) in release mode, and runs
//! them. The short form, whose figures are worth nothing, takes what `cargo xtask test` built.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::{cargo, setup};

/// `args` are those of the measurements' program.
///
/// # Errors
/// What does not build, or cannot be measured here.
pub fn run(install: bool, args: &[String]) -> anyhow::Result<ExitCode> {
    setup::ensure(&setup::ALL, install)?;
    let (profile, build) = if args.iter().any(|arg| arg == "--short") {
        ("debug", &["--workspace", "--exclude", "wherefore-ebpf"][..])
    } else {
        ("release", &["--release", "--package", "wherefore", "--package", "wherefore-tests"][..])
    };
    cargo(&[&["build", "--locked", "--bins"], build].concat())?;
    let binary = setup::workspace().join("target").join(profile).join("bench");
    let mut command = Command::new(&binary);
    command.args(args).current_dir(setup::workspace());
    setup::become_command(command).with_context(|| format!("cannot start {}", binary.display()))
}
