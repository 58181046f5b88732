//! The classic machine, for packets of files and of libpcap on a live host.
//!
//! libpcap's own interpreter is not used because the binding runs it with the captured length in place of the
//! wire's, and then `len` and `greater` mean something else.

use super::{Instruction, Program, op};

/// Instructions of one run. Only `protochain` jumps back, 10 to 20 instructions a header; a crafted IPv4
/// authentication header keeps libpcap 1.10's program for it in a circle.
const MOST_STEPS: u32 = 1 << 16;

impl Program {
    /// The same verdict on every packet.
    #[must_use]
    pub fn constant(k: u32) -> Self {
        Self(vec![Instruction { code: op::RET, jt: 0, jf: 0, k }])
    }

    /// The program's verdict on a frame of which `frame` was captured: 0 means no. A load beyond what was
    /// captured, a division by zero and anything malformed mean no, as in libpcap.
    #[must_use]
    pub fn run(&self, frame: &[u8], wire_len: u32) -> u32 {
        self.execute(frame, wire_len).unwrap_or(0)
    }

    fn execute(&self, frame: &[u8], wire_len: u32) -> Option<u32> {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; super::CELLS as usize]);
        let mut at = 0_usize;
        for _ in 0..MOST_STEPS {
            let Instruction { code, jt, jf, k } = *self.0.get(at)?;
            at += 1;
            let right = if code & op::X == 0 { k } else { x };
            match code & op::CLASS {
                op::LD => {
                    a = match code & op::MODE {
                        op::IMM => k,
                        op::ABS => load(frame, k, code)?,
                        op::IND => load(frame, x.checked_add(k)?, code)?,
                        op::MEM => *memory.get(k as usize)?,
                        op::LEN => wire_len,
                        _ => return None,
                    }
                }
                op::LDX => {
                    x = match code & op::MODE {
                        op::IMM => k,
                        op::MEM => *memory.get(k as usize)?,
                        op::LEN => wire_len,
                        // Four times the low half of a byte: an IPv4 header's length.
                        op::MSH => (load(frame, k, op::B)? & 0xf) * 4,
                        _ => return None,
                    }
                }
                op::ST => *memory.get_mut(k as usize)? = a,
                op::STX => *memory.get_mut(k as usize)? = x,
                op::ALU => a = calculate(code, a, right)?,
                op::JMP => {
                    let holds = match code & op::KIND {
                        // Signed where it leads back.
                        op::JA => {
                            at = at.checked_add_signed(k.cast_signed() as isize)?;
                            continue;
                        }
                        op::JEQ => a == right,
                        op::JGT => a > right,
                        op::JGE => a >= right,
                        op::JSET => a & right != 0,
                        _ => return None,
                    };
                    at += usize::from(if holds { jt } else { jf });
                }
                op::RET => return Some(if code & op::SIZE == op::RET_A { a } else { k }),
                _ if code & op::TXA == 0 => x = a,
                _ => a = x,
            }
        }
        None
    }
}

fn load(frame: &[u8], at: u32, code: u16) -> Option<u32> {
    let bytes = frame.get(at as usize..)?;
    match code & op::SIZE {
        op::B => bytes.first().copied().map(u32::from),
        op::H => bytes.first_chunk().copied().map(u16::from_be_bytes).map(u32::from),
        _ => bytes.first_chunk().copied().map(u32::from_be_bytes),
    }
}

fn calculate(code: u16, a: u32, right: u32) -> Option<u32> {
    Some(match code & op::KIND {
        op::ADD => a.wrapping_add(right),
        op::SUB => a.wrapping_sub(right),
        op::MUL => a.wrapping_mul(right),
        op::DIV => a.checked_div(right)?,
        op::OR => a | right,
        op::AND => a & right,
        // A shift by 32 or more leaves nothing.
        op::LSH => a.checked_shl(right).unwrap_or(0),
        op::RSH => a.checked_shr(right).unwrap_or(0),
        op::NEG => a.wrapping_neg(),
        op::MOD => a.checked_rem(right)?,
        op::XOR => a ^ right,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

    use super::super::{ETHERNET, compile, empty_file};
    use super::*;

    const EXPRESSIONS: [&str; 12] = [
        "tcp",
        "udp port 53 or icmp6",
        "ip6 and tcp portrange 0-40000",
        "vlan and ip",
        "mpls and ip6",
        "ip[8] > 64 and ip[2:2] >= 40",
        "ether[0] & 1 != 0",
        "ip[6:2] & 0x1fff = 0 and not tcp[13] & 2 != 0",
        "(ip[8] * 3 + 7) / (ip[9] - 6) % 5 << 2 > 3",
        "src net 10.0.0.0/8 or dst host 2001:db8::1",
        "ip protochain 6",
        "len > 60",
    ];

    /// The interpreter agrees with libpcap's on frames of every kind, where the captured length is the wire's.
    #[test]
    fn agrees_with_libpcap() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut matched = 0;
        for text in EXPRESSIONS {
            let theirs = empty_file(ETHERNET, false)
                .and_then(|file| file.compile(text, true).map_err(|e| e.to_string()));
            let (theirs, ours) = (theirs.expect(text), compile(text, ETHERNET, false).expect(text));
            for _ in 0..2_000 {
                let mut frame: Vec<u8> = (0..random.random_range(0..80)).map(|_| random.random()).collect();
                let types = [[8, 0, 0x45], [0x86, 0xdd, 0x60], [0x81, 0, 0], [0x88, 0x47, 0]];
                let kind = types[random.random_range(0..types.len())];
                if let Some(head) = frame.get_mut(12..15) {
                    head.copy_from_slice(&kind);
                }
                let proto = [6, 17, 58, 10][random.random_range(0..4)];
                for place in [20, 23] {
                    if let Some(byte) = frame.get_mut(place) {
                        *byte = proto;
                    }
                }
                let ours = ours.run(&frame, frame.len() as u32) != 0;
                assert_eq!(ours, theirs.filter(&frame), "{text} on {frame:02x?}");
                matched += u32::from(ours);
            }
        }
        assert!(matched > 1_000, "only {matched} frames matched anything");
    }

    #[test]
    fn protochain_follows_the_chain_and_ends() {
        let mut v6 = vec![0; 12];
        v6.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 36, 0, 64]);
        v6.extend([0; 32]);
        v6.extend([60, 0, 1, 4, 0, 0, 0, 0]);
        v6.extend([6, 0, 1, 4, 0, 0, 0, 0]);
        v6.extend([0; 20]);
        let program = compile("ip6 protochain 6", ETHERNET, false).expect("compiles");
        assert_ne!(program.run(&v6, 90), 0);
        v6[62] = 17;
        assert_eq!(program.run(&v6, 90), 0);
        // The source address says 51 and 1 where the program looks for a next header and its length.
        let mut circle = vec![0; 12];
        circle.extend([8, 0, 0x45, 0, 0, 64, 0, 0, 0, 0, 64, 51, 0, 0, 51, 1, 0, 0, 192, 0, 2, 2]);
        circle.extend([51, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        let program = compile("ip protochain 6", ETHERNET, false).expect("compiles");
        assert_eq!(program.run(&circle, 46), 0);
    }

    #[test]
    fn malformed_programs_match_nothing() {
        let one = |code, k| Program(vec![Instruction { code, jt: 9, jf: 9, k }]);
        for code in 0..=0xff {
            for k in [0, 1, 15, 16, u32::MAX] {
                let verdict = one(code, k).run(&[1, 2, 3], 3);
                assert_eq!(
                    verdict,
                    if code & op::CLASS == op::RET && code & op::SIZE != op::RET_A { k } else { 0 }
                );
            }
        }
    }
}
