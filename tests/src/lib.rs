//! What the end-to-end tests share: network namespaces joined by veth pairs that carry nothing but what a
//! test sends, exactly known traffic, the agent as a process, and a web server that can misbehave.
//!
//! Everything here is for tests, so it panics with the reason instead of returning errors. It needs root,
//! iproute2's `ip`, and a kernel with veth.

pub mod agent;
pub mod allocations;
pub mod capture;
pub mod cli;
pub mod device;
pub mod expression;
pub mod files;
pub mod frame;
pub mod hosts;
pub mod http;
pub mod incident;
pub mod lan;
pub mod mixture;
pub mod netns;
pub mod pair;
pub mod plain;
pub mod program;
mod random;
pub mod report;
pub mod ring;
pub mod routed;
pub mod scenario;
pub mod sinks;
pub mod stacked;
pub mod tally;
pub mod traffic;
pub mod truth;
pub mod volley;
pub mod watch;
pub mod webhook;
pub mod wire;

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

pub use agent::{Agent, run_agent};
pub use http::{Answer, HttpServer};
pub use lan::Lan;
pub use netns::Netns;
pub use random::Random;
pub use tally::Tally;

/// Long enough for anything a test waits for, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `condition` again and again until it holds.
///
/// # Panics
/// When it does not within `timeout`; `what` says what was awaited.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < timeout, "waited {timeout:?} in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// True when network namespaces can be made here. Otherwise prints why the test is skipped and returns
/// false.
///
/// # Panics
/// Instead of skipping where `WHEREFORE_REQUIRE_BPF` is 1.
#[must_use]
pub fn require_root() -> bool {
    if !nix::unistd::geteuid().is_root() {
        return skip("not root");
    }
    if let Err(error) = Netns::try_new("probe") {
        return skip(&format!("no network namespaces: {error}"));
    }
    match Command::new("ip").arg("-V").output() {
        Ok(_) => true,
        Err(error) => skip(&format!("iproute2's ip: {error}")),
    }
}

/// As [`require_root`], and the kernel takes TC programs from this process.
///
/// # Panics
/// As [`require_root`].
#[must_use]
pub fn require_bpf() -> bool {
    if !require_root() {
        return false;
    }
    match aya::sys::is_program_supported(aya::programs::ProgramType::SchedClassifier) {
        Ok(true) => true,
        Ok(false) => skip("the kernel takes no TC programs"),
        Err(error) => skip(&format!("bpf(2): {error}")),
    }
}

fn skip(reason: &str) -> bool {
    let required = std::env::var_os("WHEREFORE_REQUIRE_BPF").is_some_and(|value| value == "1");
    assert!(!required, "WHEREFORE_REQUIRE_BPF=1, but: {reason}");
    eprintln!("skipped: {reason}");
    false
}

/// Whether this process may load kernel programs; as [`require_root`] where not. Needs no namespace.
///
/// # Panics
/// As [`require_root`].
#[must_use]
pub fn can_load() -> bool {
    match wherefore::backend::ebpf::bench::Bench::new(1) {
        Ok(_) => true,
        Err(error) => skip(&format!("cannot load kernel programs: {error}")),
    }
}
