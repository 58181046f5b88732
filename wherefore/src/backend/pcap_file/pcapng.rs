//! The pcapng format: sections of blocks. Source: the IETF draft "PCAP Now Generic (pcapng) Capture File
//! Format". Strict where Wireshark is: a block that contradicts itself ends the file with a named fault.

use super::{
    input::Input,
    record::{Clock, Endian, Fault, Interface, MAX_CAPTURED, Record, begin, need, unreadable},
};

/// A section header block's type, the same in either byte order.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const PACKET: u32 = 6;

const END_OF_OPTIONS: u16 = 0;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// Type and length before a block's body, the length again after it.
const HEAD: usize = 8;
const TAIL: usize = 4;
/// Most bytes of a block that is read as a whole: a packet, its options and comments.
const MAX_BLOCK: u32 = 16 * 1024 * 1024;
const MAX_INTERFACES: usize = 1 << 16;

/// How to read the blocks of the section at hand.
#[derive(Debug)]
pub(super) struct Pcapng {
    endian: Endian,
    /// Snapshot length of each interface, which a simple packet block is cut to.
    snaplens: Vec<u32>,
}

impl Pcapng {
    /// A reader at a file's first byte.
    pub(super) const fn new() -> Self {
        Self { endian: Endian::Little, snaplens: Vec::new() }
    }

    /// The section's byte order.
    pub(super) const fn endian(&self) -> Endian {
        self.endian
    }

    /// The next packet, `None` at the end of the file. Keeps `interfaces` to those of the section at hand.
    pub(super) fn next(
        &mut self,
        input: &mut Input,
        interfaces: &mut Vec<Interface>,
    ) -> Result<Option<Record>, Fault> {
        while begin(input, HEAD + TAIL, "a block header")? {
            let is_section = input.window()[..4] == MAGIC;
            if is_section {
                self.section(input)?;
            }
            let bytes = input.window();
            let (kind, len) = (self.endian.u32(bytes, 0), self.endian.u32(bytes, 4));
            if (len as usize) < HEAD + TAIL || len % 4 != 0 {
                let reason = format!("a block of {len} bytes: no multiple of 4, or less than 12");
                return Err(Fault::here(input, reason));
            }
            if !matches!(kind, SECTION | INTERFACE | OLD_PACKET | SIMPLE_PACKET | PACKET) {
                self.skip(input, len)?;
                continue;
            }
            if len > MAX_BLOCK {
                let reason = format!("a block of {len} bytes, more than the {MAX_BLOCK} possible");
                return Err(Fault::here(input, reason));
            }
            let whole = len as usize;
            need(input, whole, "a block")?;
            let bytes = &input.window()[..whole];
            let again = self.endian.u32(bytes, whole - TAIL);
            if again != len {
                let reason = format!("a block with two lengths, {len} and {again}");
                return Err(Fault::here(input, reason));
            }
            let body = &bytes[HEAD..whole - TAIL];
            let read = match kind {
                SECTION => {
                    interfaces.clear();
                    self.snaplens.clear();
                    self.options(body, 16, |_, _| ()).map(|()| None)
                }
                INTERFACE => self.interface(body, interfaces).map(|()| None),
                _ => self.packet(kind, body, interfaces).map(Some),
            };
            match read {
                Ok(None) => input.consume(whole),
                Ok(Some(record)) => return Ok(Some(Record { whole, ..record })),
                Err(reason) => return Err(Fault::here(input, reason)),
            }
        }
        Ok(None)
    }

    /// Checks a section header and takes its byte order on.
    fn section(&mut self, input: &mut Input) -> Result<(), Fault> {
        need(input, HEAD + 16, "a section header")?;
        let bytes = input.window();
        self.endian = match bytes[8..12] {
            [0x4d, 0x3c, 0x2b, 0x1a] => Endian::Little,
            [0x1a, 0x2b, 0x3c, 0x4d] => Endian::Big,
            _ => return Err(Fault::here(input, "a section header without a byte-order magic")),
        };
        let len = self.endian.u32(bytes, 4);
        if (len as usize) < HEAD + 16 + TAIL {
            return Err(Fault::here(input, format!("a section header of {len} bytes, less than 28")));
        }
        // 1.2 was written by some and reads as 1.0.
        match (self.endian.u16(bytes, 12), self.endian.u16(bytes, 14)) {
            (1, 0 | 2) => Ok(()),
            (major, minor) => {
                Err(Fault::here(input, format!("pcapng version {major}.{minor}, only 1.0 is known")))
            }
        }
    }

    /// Steps over a block that is not needed, however long, but checks that its two lengths agree.
    fn skip(&self, input: &mut Input, len: u32) -> Result<(), Fault> {
        let start = input.offset();
        let at_start = |reason| Fault { offset: start, reason };
        match input.skip(u64::from(len) - TAIL as u64) {
            Ok(true) => {}
            Ok(false) => return Err(at_start("the file ends inside a block".to_owned())),
            Err(error) => return Err(unreadable(input, &error)),
        }
        need(input, TAIL, "a block").map_err(|fault| at_start(fault.reason))?;
        let again = self.endian.u32(input.window(), 0);
        if again != len {
            return Err(at_start(format!("a block with two lengths, {len} and {again}")));
        }
        input.consume(TAIL);
        Ok(())
    }

    fn interface(&mut self, body: &[u8], interfaces: &mut Vec<Interface>) -> Result<(), String> {
        const FIXED: usize = 8;
        if body.len() < FIXED {
            return Err(format!("an interface block of {} bytes", body.len()));
        }
        if interfaces.len() >= MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces in a section"));
        }
        let linktype = i32::from(self.endian.u16(body, 0));
        let snaplen = self.endian.u32(body, 4);
        let (mut name, mut clock) = (None, Clock::default());
        self.options(body, FIXED, |code, value| match (code, value) {
            (IF_NAME, text) if !text.is_empty() => {
                name = Some(String::from_utf8_lossy(text).trim_end_matches('\0').into());
            }
            (IF_TSRESOL, &[resolution]) => clock.resolution = resolution,
            (IF_TSOFFSET, &[a, b, c, d, e, f, g, h]) => {
                let raw = [a, b, c, d, e, f, g, h];
                let little = self.endian == Endian::Little;
                clock.offset = if little { i64::from_le_bytes(raw) } else { i64::from_be_bytes(raw) };
            }
            _ => {}
        })?;
        interfaces.push(Interface::new(linktype, name, clock));
        self.snaplens.push(if snaplen == 0 { MAX_CAPTURED } else { snaplen });
        Ok(())
    }

    fn packet(&self, kind: u32, body: &[u8], interfaces: &[Interface]) -> Result<Record, String> {
        let fixed = if kind == SIMPLE_PACKET { 4 } else { 20 };
        if body.len() < fixed {
            return Err(format!("a packet block of {} bytes", body.len()));
        }
        let word = |at| self.endian.u32(body, at);
        let (interface, time, captured, wire_len) = match kind {
            SIMPLE_PACKET => {
                let snaplen = self.snaplens.first().copied().unwrap_or(MAX_CAPTURED);
                (0, None, word(0).min(snaplen), word(0))
            }
            OLD_PACKET => {
                (usize::from(self.endian.u16(body, 0)), Some((word(4), word(8))), word(12), word(16))
            }
            _ => (word(0) as usize, Some((word(4), word(8))), word(12), word(16)),
        };
        let Some(known) = interfaces.get(interface) else {
            let count = interfaces.len();
            return Err(format!("a packet of interface {interface}, but the section has {count} so far"));
        };
        let room = body.len() - fixed;
        if captured as usize > room {
            return Err(format!("a packet of {captured} bytes in a block with room for {room}"));
        }
        let captured = captured as usize;
        let options = fixed + captured.next_multiple_of(4);
        if kind != SIMPLE_PACKET && options < body.len() {
            self.options(body, options, |_, _| ())?;
        }
        Ok(Record {
            time: time.map(|(high, low)| known.clock.nanoseconds(u64::from(high) << 32 | u64::from(low))),
            wire_len,
            interface,
            frame: HEAD + fixed,
            captured,
            whole: 0,
        })
    }

    /// Hands each option of `body` from `at` on to `take`.
    fn options(&self, body: &[u8], mut at: usize, mut take: impl FnMut(u16, &[u8])) -> Result<(), String> {
        while body.len() >= at + 4 {
            let (code, len) = (self.endian.u16(body, at), usize::from(self.endian.u16(body, at + 2)));
            if code == END_OF_OPTIONS {
                break;
            }
            let Some(value) = body.get(at + 4..at + 4 + len) else {
                return Err(format!(
                    "an option of {len} bytes in a block with room for {}",
                    body.len() - at - 4
                ));
            };
            take(code, value);
            at += 4 + len.next_multiple_of(4);
        }
        Ok(())
    }
}
