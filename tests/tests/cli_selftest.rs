//! `wherefore selftest` on this very machine: every backend and hook counts right, and a wrong count is told.
//!
//! Run inside a network namespace of the test, which has no interface but a loopback device that is down: nothing
//! of the machine's own could be touched.

use anyhow::Context as _;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use serde_json::Value;
use wherefore::{
    backend::ebpf::load::OBJECT_VARIABLE,
    selftest::{CANDIDATES, FAULT_VARIABLE},
};
use wherefore_tests::{
    Netns,
    cli::{Said, command, finish},
    require_bpf, require_root,
};

/// What `selftest` says inside a namespace that has nothing.
fn selftest(arguments: &[&str], fault: bool) -> Said {
    let mut selftest = command(&[&["selftest"], arguments].concat());
    if fault {
        selftest.env(FAULT_VARIABLE, "1");
    }
    let netns = Netns::try_new("selftest").unwrap_or_else(|error| panic!("network namespace: {error}"));
    netns.run(|| finish(selftest, &[]))
}

/// Results by hook, in order.
fn results(said: &Said) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let report = said.json();
    let tests = report["tests"].as_array().unwrap_or_else(|| panic!("{said:?}"));
    tests.iter().map(|test| (text(&test["hook"]), text(&test["result"]))).collect()
}

#[test]
fn every_backend_and_hook_counts_right() {
    if !require_bpf() {
        return;
    }
    let said = selftest(&["--format", "json"], false);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let results = results(&said);
    assert_eq!(results.len(), CANDIDATES.len());
    for ((hook, result), candidate) in results.iter().zip(CANDIDATES) {
        assert!(hook.starts_with(candidate.hook) && result == "ok", "{hook}: {said:?}");
    }
    // More than one packet each: what was compared is not nothing.
    let report = said.json();
    assert!(report["tests"][0]["sent"]["packets"].as_u64() > Some(500), "{report}");
}

#[test]
fn a_wrong_count_is_told_with_both_figures() {
    if !require_root() {
        return;
    }
    let said = selftest(&[], true);
    assert_eq!(said.code, 1, "{said:?}");
    let line = said.out.lines().find(|line| line.contains("libpcap")).unwrap_or_else(|| panic!("{said:?}"));
    assert!(line.starts_with("differs"), "{said:?}");
    // Twenty packets of a byte were said to be sent, and forty were.
    assert!(
        line.contains("1 byte of data, sending: 20 packets, 860 bytes (580 of IP) sent, 40 packets, 1,720"),
        "{said:?}"
    );
}

/// The kernel object, with a program for what arrives that reads beyond its stack. The kernel's error for it,
/// EACCES, is also that for missing rights.
fn object_with_a_fault() -> anyhow::Result<tempfile::NamedTempFile> {
    /// `r0 = *(u64 *)(r10 + 8)`.
    const FAULT: [u8; 8] = [0x79, 0xa0, 8, 0, 0, 0, 0, 0];
    let mut bytes =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../wherefore/src/backend/ebpf/wherefore.bpf.o"))?;
    let at = {
        let file = object::File::parse(bytes.as_slice())?;
        let symbol = file.symbol_by_name("wherefore_in").context("no wherefore_in")?;
        let section = file.section_by_index(symbol.section_index().context("no section")?)?;
        let (begin, _) = section.file_range().context("no bytes")?;
        usize::try_from(begin + symbol.address())?
    };
    bytes.get_mut(at..at + FAULT.len()).context("cut")?.copy_from_slice(&FAULT);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), bytes)?;
    Ok(file)
}

#[test]
fn a_program_that_the_kernel_refuses_is_a_failure_with_the_verifier_s_reason() {
    if !require_bpf() {
        return;
    }
    let object = object_with_a_fault().unwrap_or_else(|error| panic!("{error:#}"));
    let run = |arguments: &[&str]| {
        let mut selftest = command(&[&["selftest"], arguments].concat());
        selftest.env(OBJECT_VARIABLE, object.path());
        let netns = Netns::try_new("selftest").unwrap_or_else(|error| panic!("network namespace: {error}"));
        netns.run(|| finish(selftest, &[]))
    };
    let said = run(&["--format", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let results: Vec<String> = results(&said).into_iter().map(|(_, result)| result).collect();
    // With XDP it is another program that counts what arrives.
    assert_eq!(results, ["failed", "failed", "ok", "ok", "ok"], "{said:?}");
    let reason = said.json()["tests"][0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(
        reason.contains("load the kernel program wherefore_in") && reason.contains("invalid read from stack"),
        "{said:?}"
    );
    let table = run(&[]);
    assert_eq!(table.code, 1, "{table:?}");
    assert!(
        table.out.starts_with("failed    ebpf tcx ") && table.out.contains("invalid read from stack"),
        "{table:?}"
    );
}

#[test]
fn without_rights_it_says_which_are_missing() {
    if !require_root() {
        return;
    }
    for (capability, name) in
        [(caps::Capability::CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (caps::Capability::CAP_NET_RAW, "CAP_NET_RAW")]
    {
        let netns = Netns::try_new("selftest").unwrap_or_else(|error| panic!("network namespace: {error}"));
        let said = netns.run(|| {
            // Of this thread, which ends here, and of what it executes.
            caps::drop(None, caps::CapSet::Bounding, capability).unwrap_or_else(|error| panic!("{error}"));
            finish(command(&["selftest"]), &[])
        });
        assert_eq!((said.code, said.out.as_str()), (77, ""), "{said:?}");
        assert!(said.err.contains(&format!("needs {name}")) && said.err.contains("sudo "), "{said:?}");
    }
}
