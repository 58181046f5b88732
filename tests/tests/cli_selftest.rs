//! `wherefore selftest` on this very machine: every backend and hook counts right, and a wrong count is told.
//!
//! Run inside a network namespace of the test, which has no interface but a loopback device that is down: nothing
//! of the machine's own could be touched.

use serde_json::Value;
use wherefore::selftest::{CANDIDATES, FAULT_VARIABLE};
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

#[test]
fn without_rights_it_says_which_are_missing() {
    if !require_root() {
        return;
    }
    let netns = Netns::try_new("selftest").unwrap_or_else(|error| panic!("network namespace: {error}"));
    let said = netns.run(|| {
        // Of this thread, which ends here, and of what it executes.
        caps::drop(None, caps::CapSet::Bounding, caps::Capability::CAP_SYS_ADMIN)
            .unwrap_or_else(|error| panic!("{error}"));
        finish(command(&["selftest"]), &[])
    });
    assert_eq!((said.code, said.out.as_str()), (77, ""), "{said:?}");
    assert!(said.err.contains("needs CAP_SYS_ADMIN") && said.err.contains("sudo "), "{said:?}");
}
