//! A tcpdump expression on the packets of files: compiled by libpcap for each link type, run here.
//!
//! libpcap's own interpreter is not used because the binding runs it with the captured length in place of the
//! wire's, and then `len` and `greater` mean something else. Source of the machine: McCanne and Jacobson, "The
//! BSD Packet Filter", 1993; `bpf(4)`.

use std::{
    io::{self, Write as _},
    os::fd::IntoRawFd as _,
};

use pcap::{Capture, Offline};

use wherefore_common::Reason;

use crate::backend::{Error, link};

const ETHERNET: i32 = 1;

/// An expression, with a program for each link type met.
#[derive(Debug)]
pub(super) struct Expression {
    text: String,
    programs: Vec<(i32, bool, Program)>,
}

/// Instructions of the classic machine. Loaded programs only jump forward, so each run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Program(Vec<Instruction>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

impl Expression {
    pub(super) const fn new(text: String) -> Self {
        Self { text, programs: Vec::new() }
    }

    /// Whether a packet matches. All do of a link type that neither libpcap nor [`link`] knows anything about:
    /// they are counted as such, and other link types of the same run are not given up for it. `foreign`: the
    /// file is in the byte order that is not this machine's, which matters to the address family of BSD loopback.
    ///
    /// # Errors
    /// [`Error::Expression`] where libpcap does not take the expression for this link type.
    pub(super) fn matches(
        &mut self,
        linktype: i32,
        foreign: bool,
        frame: &[u8],
        wire_len: u32,
    ) -> Result<bool, Error> {
        Ok(self.program(linktype, foreign)?.run(frame, wire_len) != 0)
    }

    /// Compiles for a link type, if that was not done yet.
    ///
    /// # Errors
    /// As [`Expression::matches`].
    pub(super) fn check(&mut self, linktype: i32, foreign: bool) -> Result<(), Error> {
        self.program(linktype, foreign).map(|_| ())
    }

    fn program(&mut self, linktype: i32, foreign: bool) -> Result<&Program, Error> {
        let known = self.programs.iter().position(|(l, f, _)| (*l, *f) == (linktype, foreign));
        let place = match known {
            Some(place) => place,
            None => {
                let unknown = || link::parse(linktype, &[]) == Err(Reason::LinkType);
                let program = match compile(&self.text, linktype, foreign) {
                    Ok(program) => program,
                    Err(_) if unknown() && compile(&self.text, ETHERNET, foreign).is_ok() => {
                        Program::constant(1)
                    }
                    Err(reason) => {
                        let reason = format!("link type {linktype}: {reason}");
                        return Err(Error::Expression { expression: self.text.clone(), reason });
                    }
                };
                self.programs.push((linktype, foreign, program));
                self.programs.len() - 1
            }
        };
        Ok(&self.programs[place].2)
    }
}

/// Compiles as `tcpdump -r` does for a file of that link type and byte order.
fn compile(text: &str, linktype: i32, foreign: bool) -> Result<Program, String> {
    let capture = empty_file(linktype, foreign)?;
    let compiled = match capture.compile(text, true) {
        Ok(compiled) => compiled,
        // `ip6` on raw IPv4: true of no packet, and no reason to leave a file with other link types unread.
        Err(pcap::Error::PcapError(words)) if words.contains("rejects all packets") => {
            return Ok(Program::constant(0));
        }
        Err(pcap::Error::PcapError(words)) => return Err(words),
        Err(other) => return Err(other.to_string()),
    };
    // The binding shows an instruction's fields in text only: "code jt jf k".
    compiled
        .get_instructions()
        .iter()
        .map(|instruction| parse(&instruction.to_string()))
        .collect::<Option<_>>()
        .map_or_else(
            || Err("libpcap returned an instruction that cannot be read".to_owned()),
            |program| Ok(Program(program)),
        )
}

fn parse(text: &str) -> Option<Instruction> {
    let mut fields = text.split_whitespace().map(str::parse::<u32>);
    let mut next = || fields.next()?.ok();
    Some(Instruction {
        code: u16::try_from(next()?).ok()?,
        jt: u8::try_from(next()?).ok()?,
        jf: u8::try_from(next()?).ok()?,
        k: next()?,
    })
}

/// A capture file without packets, through a pipe: libpcap maps link types and address families of files in
/// other ways than those of a handle without a file.
fn empty_file(linktype: i32, foreign: bool) -> Result<Capture<Offline>, String> {
    const SNAPLEN: u32 = 256 * 1024;
    let words = [0xa1b2_c3d4_u32, 0, 0, 0, SNAPLEN, linktype.cast_unsigned()];
    let mut header = Vec::with_capacity(24);
    for (i, word) in words.into_iter().enumerate() {
        let version = [2_u16, 4].map(|half| if foreign { half.swap_bytes() } else { half }.to_ne_bytes());
        match i {
            1 => header.extend(version.as_flattened()),
            _ => header.extend(if foreign { word.swap_bytes() } else { word }.to_ne_bytes()),
        }
    }
    let system = |error: io::Error| format!("cannot hand a header to libpcap: {error}");
    let (reader, mut writer) = io::pipe().map_err(system)?;
    writer.write_all(&header).map_err(system)?;
    drop(writer);
    // SAFETY: the descriptor is open and given away here, so libpcap is its only owner.
    unsafe { Capture::from_raw_fd(reader.into_raw_fd()) }.map_err(|error| error.to_string())
}

impl Program {
    /// The same verdict on every packet.
    fn constant(k: u32) -> Self {
        Self(vec![Instruction { code: RETURN, jt: 0, jf: 0, k }])
    }

    /// The program's verdict on a frame of which `frame` was captured: 0 means no. A load beyond what was
    /// captured, a division by zero and anything malformed mean no, as in libpcap.
    fn run(&self, frame: &[u8], wire_len: u32) -> u32 {
        self.execute(frame, wire_len).unwrap_or(0)
    }

    fn execute(&self, frame: &[u8], wire_len: u32) -> Option<u32> {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; 16]);
        let mut at = 0;
        loop {
            let Instruction { code, jt, jf, k } = *self.0.get(at)?;
            at += 1;
            match code & 0x07 {
                // Loads: size in 0x18, mode in 0xe0.
                0x00 => {
                    a = match code & 0xe0 {
                        0x00 => k,
                        0x20 => load(frame, k, code)?,
                        0x40 => load(frame, x.checked_add(k)?, code)?,
                        0x60 => *memory.get(k as usize)?,
                        0x80 => wire_len,
                        _ => return None,
                    }
                }
                0x01 => {
                    x = match code & 0xe0 {
                        0x00 => k,
                        0x60 => *memory.get(k as usize)?,
                        0x80 => wire_len,
                        // Four times the low half of a byte: an IPv4 header's length.
                        0xa0 => (load(frame, k, BYTE)? & 0xf) * 4,
                        _ => return None,
                    }
                }
                0x02 => *memory.get_mut(k as usize)? = a,
                0x03 => *memory.get_mut(k as usize)? = x,
                0x04 => a = calculate(code, a, if code & 0x08 == 0 { k } else { x })?,
                0x05 => {
                    let right = if code & 0x08 == 0 { k } else { x };
                    let holds = match code & 0xf0 {
                        0x00 => {
                            at = at.checked_add(k as usize)?;
                            continue;
                        }
                        0x10 => a == right,
                        0x20 => a > right,
                        0x30 => a >= right,
                        0x40 => a & right != 0,
                        _ => return None,
                    };
                    at += usize::from(if holds { jt } else { jf });
                }
                0x06 => return Some(if code & 0x18 == 0x10 { a } else { k }),
                _ if code & 0x80 == 0 => x = a,
                _ => a = x,
            }
        }
    }
}

const RETURN: u16 = 0x06;
const HALF: u16 = 0x08;
const BYTE: u16 = 0x10;

fn load(frame: &[u8], at: u32, code: u16) -> Option<u32> {
    let bytes = frame.get(at as usize..)?;
    match code & 0x18 {
        BYTE => bytes.first().copied().map(u32::from),
        HALF => bytes.first_chunk().copied().map(u16::from_be_bytes).map(u32::from),
        _ => bytes.first_chunk().copied().map(u32::from_be_bytes),
    }
}

fn calculate(code: u16, a: u32, right: u32) -> Option<u32> {
    Some(match code & 0xf0 {
        0x00 => a.wrapping_add(right),
        0x10 => a.wrapping_sub(right),
        0x20 => a.wrapping_mul(right),
        0x30 => a.checked_div(right)?,
        0x40 => a | right,
        0x50 => a & right,
        // A shift by 32 or more leaves nothing.
        0x60 => a.checked_shl(right).unwrap_or(0),
        0x70 => a.checked_shr(right).unwrap_or(0),
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(right)?,
        0xa0 => a ^ right,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

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
            let theirs =
                empty_file(1, false).and_then(|file| file.compile(text, true).map_err(|e| e.to_string()));
            let (theirs, ours) = (theirs.expect(text), compile(text, 1, false).expect(text));
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
    fn len_is_the_wire_length() {
        let mut expression = Expression::new("greater 1000".to_owned());
        assert!(expression.matches(1, false, &[0; 14], 1_000).expect("compiles"));
        assert!(!expression.matches(1, false, &[0; 14], 999).expect("compiles"));
    }

    /// Loopback frames state the address family in the capturing host's byte order, IPv6 by several numbers.
    #[test]
    fn loopback_in_both_byte_orders() {
        let mut expression = Expression::new("ip6".to_owned());
        let mut frame = [0; 44];
        frame[4] = 0x60;
        for family in [24_u32, 28, 30] {
            let native = family.to_ne_bytes();
            frame[..4].copy_from_slice(&native);
            assert!(expression.matches(0, false, &frame, 44).expect("compiles"));
            frame[..4].copy_from_slice(&family.swap_bytes().to_ne_bytes());
            assert!(expression.matches(0, true, &frame, 44).expect("compiles"));
        }
    }

    #[test]
    fn refusals_carry_libpcaps_words() {
        let mut expression = Expression::new("prot 80".to_owned());
        let error = expression.check(1, false).expect_err("no such word").to_string();
        assert!(error.contains("prot 80") && error.contains("syntax error"), "{error}");
        let mut expression = Expression::new("ip6".to_owned());
        assert!(!expression.matches(228, false, &[0x60; 40], 40).expect("compiles to no"));
        let mut expression = Expression::new("tcp".to_owned());
        // Known to nobody: not ours to filter. The same words with a mistake in them are refused all the same.
        assert!(expression.matches(999, false, &[0; 40], 40).expect("taken"));
        assert!(Expression::new("prot 80".to_owned()).check(999, false).is_err());
        // Known here, so its packets may not slip through.
        let mut expression = Expression::new("ether host 02:00:00:00:00:01".to_owned());
        let error = expression.check(101, false).expect_err("no Ethernet addresses").to_string();
        assert!(error.contains("link type 101"), "{error}");
    }

    #[test]
    fn malformed_programs_match_nothing() {
        let one = |code, k| Program(vec![Instruction { code, jt: 9, jf: 9, k }]);
        for code in 0..=0xff {
            for k in [0, 1, 15, 16, u32::MAX] {
                let verdict = one(code, k).run(&[1, 2, 3], 3);
                assert_eq!(verdict, if code & 7 == 6 && code & 0x18 != 0x10 { k } else { 0 });
            }
        }
    }
}
