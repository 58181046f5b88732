//! The pcap format: a header, then records. Sources: the IETF draft "PCAP Capture File Format"; tcpdump.org,
//! `pcap-savefile(5)`.

use super::{
    input::Input,
    record::{Clock, Endian, Fault, Interface, MAX_CAPTURED, Record, begin, need},
};

const HEADER: usize = 24;
/// The largest snapshot length that a header can raise the limit to.
const MAX_SNAPLEN: u32 = 16 * 1024 * 1024;

/// How to read the records of one file.
#[derive(Debug)]
pub(super) struct Pcap {
    endian: Endian,
    /// Nanoseconds of a unit of the timestamps' second word.
    unit: u64,
    /// Bytes of a record's header.
    head: usize,
    lengths: Lengths,
    limit: u32,
}

/// The order of a record's two lengths: before format 2.3 the wire's came first, in 2.3 either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    WireFirst,
    SmallerIsCaptured,
}

impl Pcap {
    /// True when `magic` is one of the format's.
    pub(super) fn knows(magic: [u8; 4]) -> bool {
        variant(magic).is_some()
    }

    /// Reads the header: how to read on, and the file's one interface.
    pub(super) fn start(input: &mut Input) -> Result<(Self, Interface), Fault> {
        need(input, HEADER, "the file header")?;
        let bytes = input.window();
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let Some((endian, unit, head)) = variant(magic) else {
            return Err(Fault::here(input, "not a pcap file"));
        };
        let (major, minor) = (endian.u16(bytes, 4), endian.u16(bytes, 6));
        let snaplen = endian.u32(bytes, 16);
        // Of the link type's word the upper bits hold the length of a frame check sequence.
        let linktype = (endian.u32(bytes, 20) & 0x03ff_ffff) as i32;
        let lengths = match (major, minor) {
            (2, 0..3) => Lengths::WireFirst,
            (2, 3) => Lengths::SmallerIsCaptured,
            _ => Lengths::CapturedFirst,
        };
        input.consume(HEADER);
        let limit = snaplen.clamp(MAX_CAPTURED, MAX_SNAPLEN);
        Ok((Self { endian, unit, head, lengths, limit }, Interface::new(linktype, None, Clock::default())))
    }

    /// The file's byte order.
    pub(super) const fn endian(&self) -> Endian {
        self.endian
    }

    /// The next record, `None` at the end of the file.
    #[inline]
    pub(super) fn next(&self, input: &mut Input) -> Result<Option<Record>, Fault> {
        if !begin(input, self.head, "a record header")? {
            return Ok(None);
        }
        let bytes = input.window();
        let word = |at| self.endian.u32(bytes, at);
        let (seconds, fraction, first, second) = (word(0), word(4), word(8), word(12));
        let (captured, wire_len) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::WireFirst => (second, first),
            Lengths::SmallerIsCaptured => (first.min(second), first.max(second)),
        };
        if captured > self.limit {
            let reason = format!("a record of {captured} bytes, more than the {} possible", self.limit);
            return Err(Fault::here(input, reason));
        }
        let whole = self.head + captured as usize;
        need(input, whole, "a packet")?;
        Ok(Some(Record {
            time: Some(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit),
            wire_len,
            interface: 0,
            frame: self.head,
            captured: captured as usize,
            whole,
        }))
    }
}

/// Byte order, nanoseconds a unit and record header length of a magic number.
const fn variant(magic: [u8; 4]) -> Option<(Endian, u64, usize)> {
    Some(match magic {
        [0xd4, 0xc3, 0xb2, 0xa1] => (Endian::Little, 1_000, 16),
        [0xa1, 0xb2, 0xc3, 0xd4] => (Endian::Big, 1_000, 16),
        [0x4d, 0x3c, 0xb2, 0xa1] => (Endian::Little, 1, 16),
        [0xa1, 0xb2, 0x3c, 0x4d] => (Endian::Big, 1, 16),
        // Alexey Kuznetzov's patched libpcap: interface, protocol and packet type follow each record's lengths.
        [0x34, 0xcd, 0xb2, 0xa1] => (Endian::Little, 1_000, 24),
        [0xa1, 0xb2, 0xcd, 0x34] => (Endian::Big, 1_000, 24),
        _ => return None,
    })
}
