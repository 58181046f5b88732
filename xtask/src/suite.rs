//! The whole test suite.

use std::process::{Command, ExitCode};

use crate::{cargo, setup};

/// Builds everything and runs every test; says at the end which ones a user without privileges left out.
pub fn run(install: bool, args: &[String]) -> anyhow::Result<ExitCode> {
    setup::ensure(&setup::ALL, install)?;
    // The end-to-end tests start the binary, which `cargo test` alone would not build for them; the same
    // packages as the tests, so that features are the same and nothing is compiled twice.
    cargo(&["build", "--locked", "--workspace", "--exclude", "wherefore-ebpf"])?;
    let mut command = Command::new(setup::cargo());
    command.args(["test", "--locked", "--workspace", "--exclude", "wherefore-ebpf"]).args(args);
    setup::succeed(command.current_dir(setup::workspace()))?;
    if !args.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if !setup::workspace().join("../shared").is_dir() {
        eprintln!(
            "Left out, because ../shared is not there: the tests against real captures and series, which are \
             other people's data and no part of this repository."
        );
    }
    if setup::is_root() {
        if std::env::var_os("WHEREFORE_REQUIRE_BPF").is_some_and(|value| value == "1") {
            eprintln!("Kernel and namespace tests ran, none skipped.");
        } else {
            eprintln!(
                "Kernel and namespace tests ran where this machine lets them; with WHEREFORE_REQUIRE_BPF=1 one \
                 that it does not let run fails instead of skipping."
            );
        }
    } else {
        eprintln!(
            "Left out, because they need root: the tests of the kernel programs (kernel_*), of live capture \
             (live_*) and of whole hosts in network namespaces (host_*). For all: sudo -E $(which cargo) xtask test"
        );
    }
    Ok(ExitCode::SUCCESS)
}
