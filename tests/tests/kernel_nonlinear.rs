//! Packets whose headers lie outside their linear part, where the programs' packet pointers do not reach:
//! counted all the same, and alike.
//!
//! That they do come so is seen by taking `bpf_skb_load_bytes` out of the programs: then most of these frames
//! count as cut. Needs root, eBPF and iproute2; in a network namespace of the test's own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeMap;

use wherefore::{
    backend::{Backend as _, Hook, LiveSettings, ebpf},
    snapshot::Snapshot,
};
use wherefore_common::{
    Amount, Direction, FlowKey, UnaccountedKey,
    parse::{self, Slice},
};
use wherefore_tests::{
    Random, can_load,
    pair::{FAR, NEAR, index, namespace, settings},
    ring::Ring,
    stacked::stacked,
};

/// Packets, wire bytes and IP bytes of each flow; packets and wire bytes without one.
type Counted = (BTreeMap<FlowKey, [u64; 3]>, BTreeMap<UnaccountedKey, Amount>);

fn add(counted: &mut Counted, ifindex: u32, direction: Direction, frame: &[u8]) {
    let wire = frame.len() as u64;
    match parse::ethernet(&Slice(frame)) {
        Ok(parsed) => {
            let key = FlowKey {
                src: parsed.src,
                dst: parsed.dst,
                ifindex,
                sport: parsed.sport,
                dport: parsed.dport,
                proto: parsed.proto,
                family: parsed.family,
                direction: direction as u8,
                pad: [0; 5],
            };
            let sums = counted.0.entry(key).or_default();
            for (sum, more) in sums.iter_mut().zip([1, wire, u64::from(parsed.ip_bytes(wire as u32))]) {
                *sum += more;
            }
        }
        Err(reason) => {
            let key = UnaccountedKey::new(ifindex, direction as u8, reason as u8);
            counted.1.entry(key).or_default().add(&Amount { packets: 1, wire_bytes: wire });
        }
    }
}

fn counted(snapshot: Snapshot) -> Counted {
    let flows = snapshot.flows.into_iter().map(|flow| {
        let counters = flow.counters;
        (flow.key, [counters.packets, counters.wire_bytes, counters.ip_bytes])
    });
    (flows.collect(), snapshot.unaccounted)
}

/// Frames that begin with a tag are left to the tests of tags: at ingress the kernel takes the tag off,
/// pulling headers into the linear part.
fn frames() -> Vec<Vec<u8>> {
    let mut random = Random::new(20_260_202);
    let mut frames = Vec::new();
    while frames.len() < 1000 {
        let mut frame = stacked(&mut random);
        if random.below(8) == 0 {
            frame.truncate(15 + random.below(frame.len() - 15));
        }
        let tagged = matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8]));
        if !tagged && frame.len() <= 1514 {
            frames.push(frame);
        }
    }
    frames
}

#[test]
fn headers_outside_the_linear_part_are_read() {
    if !can_load() {
        return;
    }
    for hook in [Hook::Tc, Hook::Clsact] {
        namespace().run(|| {
            let settings = LiveSettings { table_size: 1 << 13, ..settings(hook) };
            let mut backend = ebpf::start(&settings).unwrap();
            let mut ring = Ring::new(index(NEAR)).unwrap();
            let mut want = Counted::default();
            let frames = frames();
            for frame in &frames {
                ring.send(frame).unwrap();
                add(&mut want, index(NEAR), Direction::Egress, frame);
                add(&mut want, index(FAR), Direction::Ingress, frame);
            }
            if counted(backend.poll().unwrap().unwrap()) == want {
                return;
            }
            for frame in &frames {
                ring.send(frame).unwrap();
                let mut want = Counted::default();
                add(&mut want, index(NEAR), Direction::Egress, frame);
                add(&mut want, index(FAR), Direction::Ingress, frame);
                let got = counted(backend.poll().unwrap().unwrap());
                assert_eq!(got, want, "{hook:?}, frame {frame:02x?}");
            }
            panic!("{hook:?}: the sums differ, but no single frame does");
        });
    }
}
