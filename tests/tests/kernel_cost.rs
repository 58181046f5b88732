//! The verifier's work when the kernel programs are loaded. What a packet costs: the example `packet_time`.
//!
//! Needs root and eBPF.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use aya::programs::{Program, ProgramInfo};
use wherefore::backend::ebpf::bench::Bench;
use wherefore_tests::can_load;

/// Instructions the verifier may follow in one program. Linux refuses a million; kernels before 6.8 prune
/// worse than the one this is measured on.
const VERIFIER_BUDGET: u32 = 100_000;

/// What is attached, and what that sends packets to; what stands behind an expression.
const PROGRAMS: [(&str, Option<&str>); 12] = [
    ("wherefore_in", Some("wherefore_irest")),
    ("wherefore_out", Some("wherefore_orest")),
    ("wherefore_inip", None),
    ("wherefore_outip", None),
    ("wherefore_xdp", Some("wherefore_xrest")),
    ("wherefore_rin", None),
    ("wherefore_rout", None),
    ("wherefore_rinip", None),
    ("wherefore_routi", None),
    ("wherefore_rxdp", None),
    ("wherefore_len", None),
    ("wherefore_lenip", None),
];

fn info(program: &Program) -> ProgramInfo {
    match program {
        Program::SchedClassifier(program) => program.info().unwrap(),
        Program::Xdp(program) => program.info().unwrap(),
        other => panic!("a program of type {:?}", other.prog_type()),
    }
}

#[test]
fn the_verifier_is_done_soon() {
    if !can_load() {
        return;
    }
    let mut bench = Bench::new(1).unwrap();
    let mut dear = Vec::new();
    for (name, rest) in PROGRAMS {
        bench.load(name).unwrap();
        for name in [Some(name), rest].into_iter().flatten() {
            let info = info(bench.ebpf.program(name).unwrap());
            let followed = info.verified_instruction_count().unwrap_or(0);
            println!(
                "{name}: {followed} instructions followed, {:?} bytes translated",
                info.size_translated()
            );
            if followed > VERIFIER_BUDGET {
                dear.push(name);
            }
        }
    }
    assert!(dear.is_empty(), "more than {VERIFIER_BUDGET} instructions followed: {dear:?}");
}
