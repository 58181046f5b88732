//! Capture files as a backend: pcap and pcapng, plain or gzip, several at once, on their own clock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    path::PathBuf,
};

use wherefore_common::{Amount, Direction, Reason};

use self::{
    expression::Expression,
    intervals::{Interval, Intervals, Place},
    reader::Reader,
    record::Fault,
};
use super::{
    Backend, Description, Error, FileSettings, Watched,
    counter::{Counter, Packet},
    merged::{JUMBO, Merged, largest_frame},
};
use crate::{filter::CompiledFilter, snapshot::Snapshot, time::Timestamp};

mod expression;
mod input;
mod intervals;
mod pcap;
mod pcapng;
mod reader;
mod record;

/// Reads capture files, counts their packets, and hands over one snapshot per interval of the files' clock.
///
/// Several files are read together in time order. The first interval begins at the first packet's time; its
/// like follow without gaps, and those without any packet are only counted (`Snapshot::skipped`). The last one
/// is handed over as incomplete, with the length that was asked for. Without an interval there is one complete
/// snapshot from the earliest packet to the latest. Files without packets make no snapshot.
pub struct FileBackend {
    description: Description,
    files: Vec<CaptureFile>,
    /// Files with a packet at hand, by its time, then by their order.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    counter: Counter,
    intervals: Intervals,
    expression: Option<Expression>,
    filter: CompiledFilter,
    open: Open,
    errors: VecDeque<Error>,
    interfaces: u32,
    merged: Merged,
}

/// What the open interval has beyond the counter's counts.
#[derive(Default)]
struct Open {
    names: BTreeMap<u32, String>,
    late: Amount,
    /// Number of the interval; the first one is 1.
    number: u64,
}

struct CaptureFile {
    path: PathBuf,
    name: String,
    reader: Reader,
    /// Time of the latest packet: that of records that have none.
    time: u64,
}

/// Opens the files and reads the first packet of each.
///
/// # Errors
/// [`Error::NoInput`] for a file that cannot be opened, [`Error::Expression`] for an expression that libpcap
/// does not take, [`Error::System`] for settings that contradict themselves. A file whose header is broken is
/// an error of [`Backend::poll`], after the other files are counted.
pub fn open(settings: &FileSettings) -> Result<FileBackend, Error> {
    let contradiction = |reason: &str| {
        Err(Error::System { action: "reading capture files".to_owned(), reason: reason.to_owned() })
    };
    if settings.interval.is_some_and(|interval| interval.is_zero()) {
        return contradiction("an interval of no length: give one of at least a nanosecond");
    }
    if settings.files.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return contradiction("standard input is named twice: give - once");
    }
    let mut files = Vec::with_capacity(settings.files.len());
    for path in &settings.files {
        let source =
            crate::input::open(path).map_err(|source| Error::NoInput { path: path.clone(), source })?;
        let name = match path.file_name() {
            _ if path.as_os_str() == "-" => "stdin".to_owned(),
            Some(name) => name.to_string_lossy().into_owned(),
            None => path.display().to_string(),
        };
        files.push(CaptureFile { path: path.clone(), name, reader: Reader::new(source), time: 0 });
    }
    let mut backend = FileBackend {
        description: Description {
            chosen: String::new(),
            backend: "file",
            watched: Vec::new(),
            why: "capture files were named".to_owned(),
        },
        queue: BinaryHeap::with_capacity(files.len()),
        files,
        counter: Counter::new(settings.table_size),
        filter: settings.filter.compile(),
        intervals: Intervals::new(settings.interval),
        expression: settings.expression.clone().map(Expression::new),
        open: Open { number: 1, ..Open::default() },
        errors: VecDeque::new(),
        interfaces: 0,
        merged: Merged::new(
            "the capture has",
            "Smaller ones cannot be told from jumbo frames. Live, --backend ebpf counts them exactly",
        ),
    };
    for index in 0..backend.files.len() {
        backend.advance(index);
        let file = &backend.files[index];
        let hook = file.reader.format().to_owned();
        backend.description.watched.push(Watched { name: file.path.display().to_string(), hook });
    }
    backend.check_expression()?;
    Ok(backend)
}

impl FileBackend {
    /// Compiles the expression for the first packet of each file; where there is none, for Ethernet, so that a
    /// mistake in it is told all the same.
    fn check_expression(&mut self) -> Result<(), Error> {
        const ETHERNET: i32 = 1;
        let Some(expression) = &mut self.expression else { return Ok(()) };
        if self.queue.is_empty() {
            return expression.check(ETHERNET, false);
        }
        for file in &mut self.files {
            if let Some(record) = file.reader.record().copied()
                && let Some((interface, _, foreign)) = file.reader.packet(&record)
            {
                expression.check(interface.linktype, foreign)?;
            }
        }
        Ok(())
    }

    /// Moves a file on to its next packet and queues it by that.
    #[inline]
    fn advance(&mut self, index: usize) {
        let file = &mut self.files[index];
        match file.reader.advance() {
            Ok(()) => {
                if let Some(record) = file.reader.record() {
                    file.time = record.time.unwrap_or(file.time);
                    self.queue.push(Reverse((file.time, index)));
                }
            }
            Err(Fault { offset, reason }) => {
                self.errors.push_back(Error::BrokenFile { path: file.path.clone(), offset, reason });
            }
        }
    }

    /// Counts the packet at hand of a file.
    fn count(&mut self, index: usize, late: bool) -> Result<(), Error> {
        let file = &mut self.files[index];
        let Some(record) = file.reader.record().copied() else { return Ok(()) };
        let Some((interface, frame, foreign)) = file.reader.packet(&record) else { return Ok(()) };
        let matches = match &mut self.expression {
            Some(expression) => expression.matches(interface.linktype, foreign, frame, record.wire_len)?,
            None => true,
        };
        if interface.seen_in != self.open.number {
            if interface.ifindex == 0 {
                self.interfaces = self.interfaces.saturating_add(1);
                interface.ifindex = self.interfaces;
            }
            interface.seen_in = self.open.number;
            let name = interface.name.as_deref().unwrap_or(&file.name);
            self.open.names.insert(interface.ifindex, name.to_owned());
        }
        let packet = Packet {
            linktype: interface.linktype,
            ifindex: interface.ifindex,
            direction: Direction::Unknown,
            time: Timestamp(record.time.unwrap_or_else(|| file.time.max(self.intervals.start()))),
            frame,
            wire_len: record.wire_len,
            mtu: if record.wire_len > JUMBO { largest_frame(interface.linktype, frame) } else { None },
        };
        if matches {
            self.counter.count(&packet);
        } else {
            self.counter.count_without_flow(&packet, Reason::Filtered);
        }
        if late {
            self.open.late.add(&Amount { packets: 1, wire_bytes: u64::from(record.wire_len) });
        }
        Ok(())
    }

    /// Closes the open interval.
    fn snapshot(&mut self, interval: Interval) -> Snapshot {
        let counts = self.counter.take();
        let number = self.open.number + 1;
        let open = std::mem::replace(&mut self.open, Open { number, ..Open::default() });
        let mut snapshot = Snapshot {
            start: interval.start,
            end: interval.end,
            length: interval.length,
            skipped: interval.skipped,
            complete: interval.complete,
            interfaces: open.names,
            flows: counts.flows,
            unaccounted: counts.unaccounted,
            late: open.late,
            passed: counts.passed,
            lost: counts.lost,
            ..Snapshot::default()
        };
        self.filter.apply(&mut snapshot);
        self.merged.check(&snapshot);
        snapshot
    }
}

impl Backend for FileBackend {
    fn description(&self) -> &Description {
        &self.description
    }

    fn is_live(&self) -> bool {
        false
    }

    fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
        while let Some(&Reverse((_, index))) = self.queue.peek() {
            let time = self.files[index].reader.record().and_then(|record| record.time);
            let late = match time.map(|time| self.intervals.place(time)) {
                Some(Place::Next(ended)) => return Ok(Some(self.snapshot(ended))),
                Some(Place::Late) => true,
                Some(Place::Now) | None => false,
            };
            self.queue.pop();
            match self.count(index, late) {
                Ok(()) => self.advance(index),
                // Of a link type the expression has no meaning for: nothing more can be said about this file.
                Err(error) => self.errors.push_back(error),
            }
        }
        if !self.counter.is_empty() {
            let last = self.intervals.finish();
            return Ok(Some(self.snapshot(last)));
        }
        self.errors.pop_front().map_or(Ok(None), Err)
    }
}
