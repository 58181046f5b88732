//! `cargo xtask eval`: builds the program that judges the detectors (`tests/src/bin/eval`) in release mode, and runs it.
//! The short form, whose figures are worth nothing, takes what `cargo xtask test` built.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::{cargo, setup};

/// `args` are those of that program.
///
/// # Errors
/// What does not build or start.
pub fn run(install: bool, args: &[String]) -> anyhow::Result<ExitCode> {
    setup::ensure(&[setup::LIBPCAP], install)?;
    let (profile, release) = if args.iter().any(|arg| arg == "--short") {
        ("debug", &[][..])
    } else {
        ("release", &["--release"][..])
    };
    cargo(&[&["build", "--locked", "--package", "wherefore-tests", "--bin", "eval"], release].concat())?;
    let binary = setup::workspace().join("target").join(profile).join("eval");
    let mut command = Command::new(&binary);
    command.args(args).current_dir(setup::workspace());
    setup::become_command(command).with_context(|| format!("cannot start {}", binary.display()))
}
