//! Live counting through libpcap, where the kernel's tables cannot be used.
//!
//! Each interface has two captures, one a direction; the loopback device has one, because every packet
//! passes it twice and libpcap shows the receiving side only. One thread waits for all of them and counts
//! into one table, so the agent never takes more than one processor.
//!
//! What libpcap cannot know, so it is not in the numbers: how many frames a packet stands for that offload has
//! merged. It counts as one packet of its own length, with the headers of the others missing. One with more IP bytes
//! than the interface's MTU cannot be anything else: it is marked
//! [estimated](wherefore_common::FlowCounters::estimated). eBPF counts those exactly. What merged into less than the
//! MTU cannot be told.
//!
//! `-f` runs here, on the frames as libpcap shows them, with every tag at its place (`expression.rs`). In the
//! kernel, where libpcap would have it run, a tag may be out of the frame, and what is rejected is counted by nobody.
//!
//! A packet is handed over when its block of the ring is full or [`HAND_OVER`] old. So what arrived just
//! before a poll may be in the next snapshot, and is then counted there under `late` as well. The end waits for it.

mod captures;
mod coverage;
mod direction;
mod expression;
mod leaving;
mod open;
mod reader;
mod watch;

use std::{
    collections::BTreeMap,
    io,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use wherefore_common::Amount;

use self::{captures::Captures, leaving::Leaving, watch::Watch};
use super::{
    Backend, Description, Error, LiveSettings, counter::Counter, interfaces::Follower, merged::Merged,
};
use crate::{filter::CompiledFilter, snapshot::Snapshot, time::Timestamp};

/// Longest time a captured packet waits in the kernel, whatever `-w` says: an interval should hold what
/// arrived in it, and a wake-up every 50 ms costs nothing that can be measured.
pub const HAND_OVER: Duration = Duration::from_millis(50);

/// Counts through libpcap; see [`start`].
pub struct PcapBackend {
    description: Description,
    // Ends before the reader, which it tells about new captures.
    follower: Follower,
    shared: Arc<Shared>,
    filter: CompiledFilter,
    since: Instant,
    merged: Merged,
    /// Dropped to stop the reader: its end of the pair then reports a hang-up.
    stop: Option<UnixStream>,
    reader: Option<JoinHandle<()>>,
}

/// What the threads have in common.
struct Shared {
    watches: Mutex<Vec<Arc<Watch>>>,
    /// Captures that are to be closed.
    leaving: Mutex<Vec<Leaving>>,
    table: Mutex<Table>,
    /// Packets that captures dropped since the last poll, by interface and direction (as number).
    dropped: Mutex<BTreeMap<(u32, u8), u64>>,
}

/// What the open interval holds so far.
struct Table {
    counter: Counter,
    start: Timestamp,
    late: Amount,
}

/// Starts counting on the interfaces that the settings ask for, and follows these; `why` goes into the description.
///
/// # Errors
/// [`Error::NoInterface`], [`Error::Permission`], [`Error::Expression`], and [`Error::System`] where an
/// interface cannot be captured on.
pub fn start(settings: &LiveSettings, why: String) -> Result<PcapBackend, Error> {
    let failed = |error: io::Error| Error::System {
        action: "starting the capture thread".into(),
        reason: error.to_string(),
    };
    let counter = Counter::new(Some(settings.table_size));
    let table = Table { counter, start: Timestamp::now(), late: Amount::default() };
    let shared = Arc::new(Shared {
        watches: Mutex::default(),
        leaving: Mutex::default(),
        table: Mutex::new(table),
        dropped: Mutex::default(),
    });
    let (stop, stopped) = UnixStream::pair().map_err(failed)?;
    stopped.set_nonblocking(true).map_err(failed)?;
    let news = stop.try_clone().map_err(failed)?;
    let captures = Captures::new(settings.clone(), Arc::clone(&shared), news);
    let (follower, started) = Follower::start(&settings.interfaces, captures)?;
    // The first interval begins with the first ring, not with what it took to compile an expression.
    let first = lock(&shared.watches).iter().map(|watch| watch.opened).min();
    let (since, begin) = first.unwrap_or_else(|| (Instant::now(), Timestamp::now()));
    lock(&shared.table).start = begin;
    let reader = thread::Builder::new()
        .name("capture".into())
        .spawn({
            let shared = Arc::clone(&shared);
            move || reader::read(&shared, stopped)
        })
        .map_err(failed)?;
    Ok(PcapBackend {
        description: Description { backend: "pcap", watched: started.watched, chosen: started.why, why },
        follower,
        shared,
        filter: settings.filter.compile(),
        since,
        merged: Merged::new(
            "libpcap sees",
            "--backend ebpf counts them exactly; ethtool -K INTERFACE gro off lro off gso off tso off keeps them \
             apart, at the price of speed",
        ),
        stop: Some(stop),
        reader: Some(reader),
    })
}

impl Backend for PcapBackend {
    fn description(&self) -> &Description {
        &self.description
    }

    fn is_live(&self) -> bool {
        true
    }

    fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
        self.shared.close_all();
        let watches = lock(&self.shared.watches).clone();
        for watch in watches {
            let mut handle = lock(&watch.capture);
            watch.catch_up(&mut handle, &self.shared.table);
            self.shared.add_drops(&watch, &mut handle);
        }
        let dropped = std::mem::take(&mut *lock(&self.shared.dropped));
        let end = Timestamp::now();
        let length = self.since.elapsed();
        let (counted, late, start) = {
            let mut table = lock(&self.shared.table);
            let start = std::mem::replace(&mut table.start, end);
            (table.counter.take(), std::mem::take(&mut table.late), start)
        };
        self.since += length;
        let mut snapshot = Snapshot {
            start,
            end,
            length,
            complete: true,
            flows: counted.flows,
            unaccounted: counted.unaccounted,
            late,
            passed: counted.passed,
            lost: counted.lost,
            dropped,
            ..Snapshot::default()
        };
        self.filter.apply(&mut snapshot);
        self.follower.describe(&mut snapshot)?;
        self.merged.check(&snapshot);
        Ok(Some(snapshot))
    }

    fn stop(&mut self) -> Result<Option<Snapshot>, Error> {
        // The kernel's timer may have begun a moment ago.
        thread::sleep(2 * HAND_OVER);
        self.poll()
    }
}

impl Drop for PcapBackend {
    fn drop(&mut self) {
        // It holds the other half of what tells the reader to stop.
        if let Err(error) = self.follower.stop() {
            tracing::error!("{error}");
        }
        drop(self.stop.take());
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            tracing::error!("the capture thread had panicked");
        }
    }
}

/// A panic while counting leaves whole numbers behind, so the lock is as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
