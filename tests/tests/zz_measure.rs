//! measure
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use wherefore::backend::ebpf::bench::Bench;
#[test]
fn measure() {
    let mut bench = Bench::new(1 << 16).unwrap();
    let mut v4 = vec![0u8; 12];
    v4.extend([8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1, 1, 2, 3, 4, 0, 30, 0, 0]);
    v4.resize(64, 0);
    let mut v6 = vec![0u8; 12];
    v6.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64]);
    v6.extend([0x20; 32]);
    v6.extend([1, 2, 3, 4, 0, 20, 0, 0]);
    v6.resize(74, 0);
    for name in ["wherefore_in", "wherefore_out", "wherefore_inip", "wherefore_outip", "wherefore_xdp"] {
        let program = bench.ebpf.program_mut(name).unwrap();
        let t = std::time::Instant::now();
        if name == "wherefore_xdp" {
            let p: &mut Xdp = program.try_into().unwrap();
            p.load().unwrap();
        } else {
            let p: &mut SchedClassifier = program.try_into().unwrap();
            p.load().unwrap();
        }
        let load = t.elapsed();
        let info = bench.ebpf.program(name).unwrap().info().unwrap();
        let mut ns = vec![];
        for f in [&v4, &v6] {
            let mut best = std::time::Duration::MAX;
            for _ in 0..5 {
                let mut o = TestRunOptions::new();
                o.data_in = Some(f);
                o.repeat = 1_000_000;
                let r = if name == "wherefore_xdp" {
                    let p: &Xdp = bench.ebpf.program(name).unwrap().try_into().unwrap();
                    p.test_run(o).unwrap()
                } else {
                    let p: &SchedClassifier = bench.ebpf.program(name).unwrap().try_into().unwrap();
                    p.test_run(o).unwrap()
                };
                best = best.min(r.duration);
            }
            ns.push(best);
        }
        println!("{name}: load {load:?} verified {:?} xlated {:?} ns v4/v6 {ns:?}", info.verified_instruction_count(), info.size_translated());
    }
}
