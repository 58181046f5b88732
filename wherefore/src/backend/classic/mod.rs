//! tcpdump expressions as programs of the classic BPF machine, compiled by libpcap.
//!
//! They mean the frame as on the wire, as of a capture file: what libpcap compiles for a live handle asks Linux
//! for a stripped VLAN tag instead. Source of the machine: McCanne and Jacobson, "The BSD Packet Filter", 1993;
//! `bpf(4)`.

mod machine;
mod reach;

use std::{
    io::{self, Write as _},
    os::fd::IntoRawFd as _,
};

use pcap::{Activated, Capture, Offline};

/// `LINKTYPE_ETHERNET`.
pub const ETHERNET: i32 = 1;
/// `LINKTYPE_RAW`: IPv4 or IPv6 without anything in front.
pub const RAW: i32 = 101;

/// The numbers of an instruction's fields, of linux/bpf_common.h.
#[allow(missing_docs, reason = "the machine's own names")]
pub mod op {
    pub const CLASS: u16 = 0x07;
    pub const LD: u16 = 0x00;
    pub const LDX: u16 = 0x01;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ALU: u16 = 0x04;
    pub const JMP: u16 = 0x05;
    pub const RET: u16 = 0x06;
    pub const MISC: u16 = 0x07;

    pub const SIZE: u16 = 0x18;
    pub const W: u16 = 0x00;
    pub const H: u16 = 0x08;
    pub const B: u16 = 0x10;

    pub const MODE: u16 = 0xe0;
    pub const IMM: u16 = 0x00;
    pub const ABS: u16 = 0x20;
    pub const IND: u16 = 0x40;
    pub const MEM: u16 = 0x60;
    pub const LEN: u16 = 0x80;
    pub const MSH: u16 = 0xa0;

    pub const KIND: u16 = 0xf0;
    pub const ADD: u16 = 0x00;
    pub const SUB: u16 = 0x10;
    pub const MUL: u16 = 0x20;
    pub const DIV: u16 = 0x30;
    pub const OR: u16 = 0x40;
    pub const AND: u16 = 0x50;
    pub const LSH: u16 = 0x60;
    pub const RSH: u16 = 0x70;
    pub const NEG: u16 = 0x80;
    pub const MOD: u16 = 0x90;
    pub const XOR: u16 = 0xa0;
    pub const JA: u16 = 0x00;
    pub const JEQ: u16 = 0x10;
    pub const JGT: u16 = 0x20;
    pub const JGE: u16 = 0x30;
    pub const JSET: u16 = 0x40;

    /// The right operand is X instead of the constant.
    pub const X: u16 = 0x08;
    /// What is returned is A instead of the constant.
    pub const RET_A: u16 = 0x10;
    /// `TXA`; without it `TAX`.
    pub const TXA: u16 = 0x80;
}

/// Cells of the machine's memory.
pub const CELLS: u32 = 16;

/// An instruction of the classic machine: `struct bpf_insn` of `bpf(4)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do; the parts are in [`op`].
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jt: u8,
    /// The same where it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// A program. Nothing is promised of its instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(pub Vec<Instruction>);

/// Why an expression is no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Every packet contradicts it, for this link type.
    #[error("{0}")]
    RejectsAll(String),
    /// It asks for what files do not tell, as `inbound` does.
    #[error("{0}")]
    NotOfFiles(String),
    /// In libpcap's words.
    #[error("{0}")]
    Refused(String),
}

/// Compiles, optimised, as `tcpdump -r` does for a file of that `LINKTYPE_` number. `foreign`: the file is in the
/// byte order that is not this machine's, which matters to the address family of BSD loopback.
///
/// # Errors
/// [`Unusable`].
pub fn compile(text: &str, linktype: i32, foreign: bool) -> Result<Program, Unusable> {
    compile_for(&empty_file(linktype, foreign).map_err(Unusable::Refused)?, text)
}

/// Compiles, optimised, for the packets of `capture`. For a live one libpcap asks Linux for what is not in the frame,
/// by loads at `SKF_AD_OFF` and above.
///
/// # Errors
/// [`Unusable`].
pub fn compile_for<T: Activated>(capture: &Capture<T>, text: &str) -> Result<Program, Unusable> {
    let compiled = capture.compile(text, true).map_err(|error| match error {
        pcap::Error::PcapError(words) if words.contains("rejects all packets") => Unusable::RejectsAll(words),
        pcap::Error::PcapError(words) if words.contains("savefile") => Unusable::NotOfFiles(words),
        pcap::Error::PcapError(words) => Unusable::Refused(words),
        other => Unusable::Refused(other.to_string()),
    })?;
    // The binding shows an instruction's fields in text only: "code jt jf k".
    compiled
        .get_instructions()
        .iter()
        .map(|instruction| parse(&instruction.to_string()))
        .collect::<Option<_>>()
        .map(Program)
        .ok_or_else(|| Unusable::Refused("libpcap returned an instruction that cannot be read".to_owned()))
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
