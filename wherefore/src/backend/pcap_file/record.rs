//! What the two formats have in common: byte order, interfaces, records, faults.

use std::io;

use super::input::Input;

/// Bytes of one packet accepted whatever a header says: what libpcap and Wireshark accept.
pub(super) const MAX_CAPTURED: u32 = 256 * 1024;

/// Byte order of a file or section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Endian {
    /// The 2 bytes at `at`; the caller made sure that they are there.
    #[inline]
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let raw = [bytes[at], bytes[at + 1]];
        if self == Self::Little { u16::from_le_bytes(raw) } else { u16::from_be_bytes(raw) }
    }

    /// The 4 bytes at `at`; the caller made sure that they are there.
    #[inline]
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let raw = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self == Self::Little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) }
    }

    /// True when it is not this machine's.
    pub(super) fn is_foreign(self) -> bool {
        (self == Self::Big) != cfg!(target_endian = "big")
    }
}

/// One interface of a file (of a section of it).
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) linktype: i32,
    /// As written in the file.
    pub(super) name: Option<Box<str>>,
    pub(super) clock: Clock,
    /// Its number over all files, given at its first packet; 0 before.
    pub(super) ifindex: u32,
    /// The interval in which it last had a packet, counted from 1.
    pub(super) seen_in: u64,
}

impl Interface {
    pub(super) const fn new(linktype: i32, name: Option<Box<str>>, clock: Clock) -> Self {
        Self { linktype, name, clock, ifindex: 0, seen_in: 0 }
    }
}

/// Units and offset of a pcapng interface's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// `if_tsresol`: a negative power of 10 or, with the top bit set, of 2.
    pub(super) resolution: u8,
    /// `if_tsoffset`: seconds to add.
    pub(super) offset: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { resolution: 6, offset: 0 }
    }
}

impl Clock {
    /// Nanoseconds since 1970 of a timestamp of `ticks` units, saturating at both ends.
    pub(super) fn nanoseconds(self, ticks: u64) -> u64 {
        let wide = u128::from(ticks);
        let nanoseconds = match self.resolution {
            6 => wide * 1_000,
            9 => wide,
            0x80.. => (wide * 1_000_000_000) >> u32::from(self.resolution & 0x7f),
            // 10^38 is the largest power of ten in 128 bits; beyond 10^28 the result is zero anyway.
            exponent => wide * 1_000_000_000 / 10_u128.pow(u32::from(exponent).min(38)),
        };
        let shift = i128::from(self.offset) * 1_000_000_000;
        let shifted = i128::try_from(nanoseconds).unwrap_or(i128::MAX).saturating_add(shift);
        u64::try_from(shifted.max(0)).unwrap_or(u64::MAX)
    }
}

/// One packet record; its frame lies in the input's window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Nanoseconds since 1970; `None` where the record has no time of its own.
    pub(super) time: Option<u64>,
    pub(super) wire_len: u32,
    /// Place in the reader's list of interfaces.
    pub(super) interface: usize,
    /// Where the frame begins in the window.
    pub(super) frame: usize,
    pub(super) captured: usize,
    /// Bytes of the whole record, to be consumed before the next one is read.
    pub(super) whole: usize,
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) offset: u64,
    pub(super) reason: String,
}

impl Fault {
    /// A fault at the window's beginning.
    pub(super) fn here(input: &Input, reason: impl Into<String>) -> Self {
        Self { offset: input.offset(), reason: reason.into() }
    }
}

/// Asks for `len` bytes of something that has begun: its end before that is a fault.
pub(super) fn need(input: &mut Input, len: usize, what: &str) -> Result<(), Fault> {
    match input.fill(len) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::here(input, format!("the file ends inside {what}"))),
        Err(error) => Err(unreadable(input, &error)),
    }
}

/// Asks for `len` bytes of something that may begin here or not: false where the stream is at its end.
pub(super) fn begin(input: &mut Input, len: usize, what: &str) -> Result<bool, Fault> {
    match input.fill(1) {
        Ok(true) => need(input, len, what).map(|()| true),
        Ok(false) => Ok(false),
        Err(error) => Err(unreadable(input, &error)),
    }
}

/// A fault for what the system or the decompressor says.
pub(super) fn unreadable(input: &Input, error: &io::Error) -> Fault {
    let offset = input.offset() + input.window().len() as u64;
    let reason = if error.kind() == io::ErrorKind::UnexpectedEof && input.is_gzip() {
        "the gzip stream is cut short".to_owned()
    } else if input.is_gzip() {
        format!("cannot decompress: {error}")
    } else {
        format!("cannot read: {error}")
    };
    Fault { offset, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_ten_and_two_and_offsets() {
        let clock = |resolution, offset| Clock { resolution, offset };
        assert_eq!(clock(6, 0).nanoseconds(1_700_000_000_000_001), 1_700_000_000_000_001_000);
        assert_eq!(clock(9, 0).nanoseconds(17), 17);
        assert_eq!(clock(0, 0).nanoseconds(17), 17_000_000_000);
        assert_eq!(clock(3, -1).nanoseconds(1_500), 500_000_000);
        assert_eq!(clock(3, -2).nanoseconds(1_500), 0);
        assert_eq!(clock(12, 0).nanoseconds(1_999), 1);
        assert_eq!(clock(0x80 | 10, 0).nanoseconds(1_536), 1_500_000_000);
        assert_eq!(clock(0x80 | 127, 0).nanoseconds(u64::MAX), 0);
        assert_eq!(clock(127, 0).nanoseconds(u64::MAX), 0);
        assert_eq!(clock(0, i64::MAX).nanoseconds(u64::MAX), u64::MAX);
        assert_eq!(clock(0, i64::MIN).nanoseconds(1), 0);
        for resolution in 0..=u8::MAX {
            for ticks in [0, 1, u64::MAX] {
                assert!(clock(resolution, 0).nanoseconds(ticks) <= clock(0, 0).nanoseconds(ticks));
            }
        }
    }
}
