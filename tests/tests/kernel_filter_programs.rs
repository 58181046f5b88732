//! Random programs of the classic machine give the same verdicts in the kernel as in the interpreter for files,
//! which is held to libpcap's own.
//!
//! Needs root and eBPF.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use wherefore::backend::{
    classic::{CELLS, Instruction, Program, op},
    ebpf::{Start, filter::Dialect},
};
use wherefore_tests::{
    Random, can_load,
    expression::{Judge, Post},
    pair::{FAR, NEAR, index, namespace},
    ring::Ring,
    stacked::stacked,
};

/// One of several, at random.
fn one<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len())]
}

/// An offset or operand: often a place in headers, sometimes around the tag's, seldom anything.
fn number(random: &mut Random) -> u32 {
    match random.below(16) {
        0..8 => random.below(80) as u32,
        8..13 => 6 + random.below(14) as u32,
        13 => random.below(40_000) as u32,
        14 => one(random, &[0, 1, 0x0800, 0x8100, 0x86dd, 0x7fff_ffff, 0x8000_0000, u32::MAX]),
        _ => random.next() as u32,
    }
}

fn instruction(random: &mut Random, left: usize) -> Instruction {
    let plain = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let size = one(random, &[op::W, op::H, op::B]);
    let cell = random.below(CELLS as usize) as u32;
    match random.below(20) {
        0..4 => plain(op::LD | op::ABS | size, number(random)),
        4..6 => plain(op::LD | op::IND | size, number(random)),
        6 => plain(op::LDX | op::MSH | op::B, number(random)),
        7 => plain(one(random, &[op::LD, op::LDX]) | op::IMM, number(random)),
        8 => plain(one(random, &[op::LD, op::LDX]) | op::LEN, 0),
        9 => plain(one(random, &[op::LD, op::LDX]) | op::MEM, cell),
        10 => plain(one(random, &[op::ST, op::STX]), cell),
        11 => plain(op::MISC | one(random, &[0, op::TXA]), 0),
        12..16 => {
            let alu = [
                op::ADD,
                op::SUB,
                op::MUL,
                op::DIV,
                op::OR,
                op::AND,
                op::LSH,
                op::RSH,
                op::NEG,
                op::MOD,
                op::XOR,
            ];
            let by = one(random, &[0, op::X]);
            let operands = [number(random), random.below(40) as u32];
            let k = one(random, &operands);
            plain(op::ALU | one(random, &alu) | by, k)
        }
        16 => plain(op::JMP | op::JA, random.below(left.min(4)) as u32),
        _ => Instruction {
            code: op::JMP | one(random, &[op::JEQ, op::JGT, op::JGE, op::JSET]) | one(random, &[0, op::X]),
            jt: random.below(left.min(6)) as u8,
            jf: random.below(left.min(6)) as u8,
            k: number(random),
        },
    }
}

/// Of up to 40 instructions, which end in one of the returns.
fn program(random: &mut Random) -> Program {
    let len = 1 + random.below(40);
    let mut instructions: Vec<_> = (0..len).map(|at| instruction(random, len - at)).collect();
    let ret = |k| Instruction { code: op::RET, jt: 0, jf: 0, k };
    let last = one(random, &[ret(1), ret(0), Instruction { code: op::RET | op::RET_A, ..ret(0) }]);
    instructions.push(last);
    Program(instructions)
}

/// At least an Ethernet header and two bytes: a test run wants one, and the kernel drops a tagged frame without.
fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = stacked(random);
    if random.below(3) == 0 {
        frame.truncate(16 + random.below(60));
    }
    frame.resize(frame.len().clamp(16, 1500), 0);
    frame
}

#[test]
fn random_programs_in_test_runs() {
    if !can_load() {
        return;
    }
    let mut random = Random::new(20_260_301);
    let (mut accepted, mut runs) = (0, 0);
    for _ in 0..150 {
        let program = program(&mut random);
        let judges =
            [(Dialect::Tc, Start::Ethernet), (Dialect::Tc, Start::Ip), (Dialect::Xdp, Start::Ethernet)]
                .map(|(dialect, start)| (dialect, Judge::new(&program, dialect, start)));
        for _ in 0..40 {
            let frame = frame(&mut random);
            let expected = program.run(&frame, frame.len() as u32) != 0;
            for (dialect, judge) in &judges {
                let Some(verdict) = judge.verdict(&frame) else { continue };
                assert_eq!(verdict, expected, "{dialect:?}, {program:?} on {frame:02x?}");
                runs += 1;
                accepted += u32::from(verdict);
            }
        }
    }
    println!("{accepted} of {runs} runs accepted");
    assert!(accepted > runs / 20 && accepted < runs / 2, "{accepted} of {runs} say nothing");
}

/// What runs on packets that `send` lets come to an interface, and what must come of them.
fn meet(seed: u64, tagged: bool, mut send: impl FnMut(&[u8])) {
    let mut random = Random::new(seed);
    let (mut accepted, mut runs) = (0, 0);
    for _ in 0..100 {
        let program = program(&mut random);
        let post = Post::new(&program, FAR);
        for _ in 0..40 {
            let mut frame = frame(&mut random);
            let kind = one(&mut random, &[0x8100_u16, 0x88a8]);
            if tagged {
                frame.splice(12..12, [kind.to_be_bytes(), (random.next() as u16).to_be_bytes()].concat());
            } else if matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]) {
                continue;
            }
            let expected = program.run(&frame, frame.len() as u32) != 0;
            let verdict = post.verdict(|| send(&frame));
            assert_eq!(verdict, expected, "{program:?} on {frame:02x?}");
            runs += 1;
            accepted += u32::from(verdict);
        }
    }
    println!("{accepted} of {runs} accepted");
    assert!(accepted > runs / 20 && accepted < runs / 2, "{accepted} of {runs} say nothing");
}

/// The kernel takes the outermost tag out of the frame before the program sees it.
#[test]
fn random_programs_on_frames_whose_tag_was_stripped() {
    if can_load() {
        namespace().run(|| {
            let mut near = pcap::Capture::from_device(NEAR).unwrap().open().unwrap();
            meet(20_260_302, true, |frame| near.sendpacket(frame).unwrap());
        });
    }
}

/// Only the Ethernet header is in the packet's linear part.
#[test]
fn random_programs_on_packets_in_pieces() {
    if can_load() {
        namespace().run(|| {
            let mut ring = Ring::new(index(NEAR)).unwrap();
            meet(20_260_303, false, |frame| ring.send(frame).unwrap());
        });
    }
}
