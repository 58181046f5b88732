//! One capture file of either format, packet by packet.

use std::io::Read;

use super::{
    input::Input,
    pcap::Pcap,
    pcapng::{self, Pcapng},
    record::{Fault, Interface, Record},
};

/// A file that has been opened; the first [`Reader::advance`] reads its header.
pub(super) struct Reader {
    stage: Stage,
    interfaces: Vec<Interface>,
    record: Option<Record>,
}

enum Stage {
    Opened(Option<Box<dyn Read + Send>>),
    Reading(Input, Format),
    Ended,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

impl Reader {
    pub(super) fn new(source: Box<dyn Read + Send>) -> Self {
        Self { stage: Stage::Opened(Some(source)), interfaces: Vec::new(), record: None }
    }

    /// `pcap`, `pcapng`, with `.gz` behind it where compressed; `unreadable` without a header.
    pub(super) const fn format(&self) -> &'static str {
        match &self.stage {
            Stage::Reading(input, Format::Pcap(_)) if input.is_gzip() => "pcap.gz",
            Stage::Reading(input, Format::Pcapng(_)) if input.is_gzip() => "pcapng.gz",
            Stage::Reading(_, Format::Pcap(_)) => "pcap",
            Stage::Reading(_, Format::Pcapng(_)) => "pcapng",
            _ => "unreadable",
        }
    }

    /// The record at hand: what the last [`Reader::advance`] found.
    #[inline]
    pub(super) const fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The interface of the record at hand, the frame captured, and whether the file's byte order is foreign.
    #[inline]
    pub(super) fn packet(&mut self, record: &Record) -> Option<(&mut Interface, &[u8], bool)> {
        let Stage::Reading(input, format) = &self.stage else { return None };
        let endian = match format {
            Format::Pcap(pcap) => pcap.endian(),
            Format::Pcapng(pcapng) => pcapng.endian(),
        };
        let frame = input.window().get(record.frame..)?.get(..record.captured)?;
        Some((self.interfaces.get_mut(record.interface)?, frame, endian.is_foreign()))
    }

    /// Moves on to the next record. After a fault the file is over.
    ///
    /// # Errors
    /// What is wrong with the file, and where.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<(), Fault> {
        let last = self.record.take();
        if let Stage::Opened(source) = &mut self.stage {
            let source = source.take();
            self.stage = Stage::Ended;
            if let Some(source) = source {
                self.stage = self.start(source)?;
            }
        }
        let Stage::Reading(input, format) = &mut self.stage else { return Ok(()) };
        if let Some(last) = last {
            input.consume(last.whole);
        }
        let next = match format {
            Format::Pcap(pcap) => pcap.next(input),
            Format::Pcapng(pcapng) => pcapng.next(input, &mut self.interfaces),
        };
        self.record = *next.as_ref().unwrap_or(&None);
        next.map(|_| ())
    }

    fn start(&mut self, source: Box<dyn Read + Send>) -> Result<Stage, Fault> {
        let mut input = Input::new(source)
            .map_err(|error| Fault { offset: 0, reason: format!("cannot read: {error}") })?;
        super::record::need(&mut input, 4, "the file header")?;
        let bytes = input.window();
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if magic == pcapng::MAGIC {
            return Ok(Stage::Reading(input, Format::Pcapng(Pcapng::new())));
        }
        if !Pcap::knows(magic) {
            let reason = "neither a pcap nor a pcapng file (gzip is undone, other compressions are not)";
            return Err(Fault::here(&input, reason));
        }
        let (pcap, interface) = Pcap::start(&mut input)?;
        self.interfaces.push(interface);
        Ok(Stage::Reading(input, Format::Pcap(pcap)))
    }
}
