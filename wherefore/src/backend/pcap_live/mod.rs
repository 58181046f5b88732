//! Live counting through libpcap, where the kernel's tables cannot be used.
//!
//! Each interface has two captures, one a direction; the loopback device has one, because every packet
//! passes it twice and libpcap shows the receiving side only. One thread waits for all of them and counts
//! into one table, so the agent never takes more than one processor.
//!
//! What libpcap cannot know, so it is not in the numbers:
//! * packets that `-f` rejects: the kernel drops them before anyone can count them, so there is no
//!   `filtered`;
//! * how many frames a packet stands for that offload has merged: it counts as one packet of its own length, with
//!   the headers of the others missing. One with more IP bytes than the interface's MTU cannot be anything else: it
//!   is marked [estimated](wherefore_common::FlowCounters::estimated). eBPF counts those exactly. What merged into
//!   less than the MTU cannot be told.
//!
//! A packet is handed over when its block of the ring is full or [`HAND_OVER`] old. So what arrived just
//! before a poll may be in the next snapshot, and is then counted there under `late` as well. The end waits for it.

mod direction;
mod open;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pcap::{Active, Capture};
use wherefore_common::{Amount, Direction};

use super::{
    Backend, Description, Error, LiveSettings, Watched,
    counter::{Counter, Packet},
    interfaces,
    merged::Merged,
};
use crate::{snapshot::Snapshot, time::Timestamp};

/// Longest time a captured packet waits in the kernel, whatever `-w` says: an interval should hold what
/// arrived in it, and a wake-up every 50 ms costs nothing that can be measured.
pub const HAND_OVER: Duration = Duration::from_millis(50);
/// Packets counted under one lock of the table, so that a poll waits microseconds.
const BATCH: usize = 256;
/// Batches of one capture that a poll counts itself; under a flood there would always be another.
const CATCH_UP: usize = 256;

/// Counts through libpcap; see [`start`].
pub struct PcapBackend {
    description: Description,
    names: BTreeMap<u32, String>,
    watches: Arc<Vec<Watch>>,
    table: Arc<Mutex<Table>>,
    since: Instant,
    polls: u64,
    merged: Merged,
    /// To ask for the interfaces' MTU with, in their network namespace; `None` where there is no socket.
    control: Option<OwnedFd>,
    /// Dropped to stop the reader: its end of the pair then reports a hang-up.
    stop: Option<UnixStream>,
    reader: Option<JoinHandle<()>>,
}

/// One capture: an interface in one direction.
struct Watch {
    name: String,
    index: u32,
    direction: Direction,
    linktype: i32,
    /// Largest IP packet in bytes, as last asked for; 0: not known.
    mtu: AtomicU32,
    /// The capture's socket once more, to wait for it without holding the lock.
    socket: OwnedFd,
    capture: Mutex<Handle>,
    /// Its end was reported; shared by both directions.
    reported: Arc<AtomicBool>,
}

struct Handle {
    capture: Capture<Active>,
    /// Drops libpcap told so far; it counts in 32 bits, from when the capture began.
    drops: u32,
    /// The interface vanished.
    gone: bool,
}

/// What the open interval holds so far.
struct Table {
    counter: Counter,
    start: Timestamp,
    late: Amount,
}

/// Starts counting on every interface of the settings; `why` goes into the description.
///
/// # Errors
/// [`Error::NoInterface`], [`Error::Permission`], [`Error::Expression`], and [`Error::System`] where an
/// interface cannot be captured on.
pub fn start(settings: &LiveSettings, why: String) -> Result<PcapBackend, Error> {
    let chosen = interfaces::choose(&settings.interfaces)?;
    let mut watches = Vec::new();
    for interface in &chosen.interfaces {
        let directions: &[Direction] =
            if interface.loopback { &[Direction::Ingress] } else { &[Direction::Ingress, Direction::Egress] };
        let reported = Arc::default();
        for &direction in directions {
            watches.push(open::open(settings, interface, direction, &reported)?);
        }
    }
    let watches = Arc::new(watches);
    let start = Timestamp::now();
    let counter = Counter::new(Some(settings.table_size));
    let table = Arc::new(Mutex::new(Table { counter, start, late: Amount::default() }));
    let failed = |error: io::Error| Error::System {
        action: "starting the capture thread".into(),
        reason: error.to_string(),
    };
    let (stop, stopped) = UnixStream::pair().map_err(failed)?;
    let reader = thread::Builder::new()
        .name("capture".into())
        .spawn({
            let (watches, table) = (Arc::clone(&watches), Arc::clone(&table));
            move || read(&watches, &table, &stopped)
        })
        .map_err(failed)?;
    let watched = chosen.interfaces.iter();
    Ok(PcapBackend {
        description: Description {
            backend: "pcap",
            watched: watched.map(|i| Watched { name: i.name.clone(), hook: "libpcap".into() }).collect(),
            why,
        },
        names: chosen.interfaces.into_iter().map(|i| (i.index, i.name)).collect(),
        watches,
        table,
        since: Instant::now(),
        polls: 0,
        merged: Merged::new(
            "libpcap",
            "--backend ebpf counts them exactly; ethtool -K INTERFACE gro off lro off gso off tso off keeps them \
             apart, at the price of speed",
        ),
        control: interfaces::control().ok(),
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

    /// # Errors
    /// [`Error::System`] when every interface vanished and all that was counted before is handed over.
    fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
        let mut dropped = 0;
        let mut watching = false;
        for watch in self.watches.iter() {
            let mut handle = lock(&watch.capture);
            for _ in 0..CATCH_UP {
                if watch.count(&mut handle, &self.table) < BATCH {
                    break;
                }
            }
            dropped += handle.new_drops();
            watching |= !handle.gone;
        }
        let end = Timestamp::now();
        let length = self.since.elapsed();
        let (counted, late, start) = {
            let mut table = lock(&self.table);
            let start = std::mem::replace(&mut table.start, end);
            (table.counter.take(), std::mem::take(&mut table.late), start)
        };
        if !watching && counted.flows.is_empty() && counted.unaccounted.is_empty() {
            return Err(super::all_gone());
        }
        self.since += length;
        self.polls += 1;
        let snapshot = Snapshot {
            start,
            end,
            length,
            skipped: 0,
            complete: self.polls > 1,
            interfaces: self.names.clone(),
            flows: counted.flows,
            unaccounted: counted.unaccounted,
            late,
            passed: BTreeMap::new(),
            lost_flows: counted.lost.estimate(),
            dropped,
        };
        self.merged.check(&snapshot);
        self.renew_mtus();
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
        drop(self.stop.take());
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            tracing::error!("the capture thread had panicked");
        }
    }
}

impl PcapBackend {
    /// An MTU may change while we watch. Of an interface that does not answer the last one holds.
    fn renew_mtus(&self) {
        let Some(control) = &self.control else { return };
        for watch in self.watches.iter() {
            if let Ok(mtu) = interfaces::mtu(control, &watch.name) {
                watch.mtu.store(mtu, Ordering::Relaxed);
            }
        }
    }
}

impl Watch {
    /// Counts up to [`BATCH`] packets that are there now: how many. Never waits.
    fn count(&self, handle: &mut Handle, table: &Mutex<Table>) -> usize {
        if handle.gone {
            return 0;
        }
        let mut table = lock(table);
        let mtu = Some(self.mtu.load(Ordering::Relaxed)).filter(|mtu| *mtu > 0);
        let result = handle.capture.dispatch(Some(BATCH), |packet| {
            let time = nanoseconds(packet.header.ts);
            // Lengths count as on the wire: `caplen` is what -s left of them.
            let wire_len = packet.header.len;
            if time < table.start {
                table.late.add(&Amount { packets: 1, wire_bytes: u64::from(wire_len) });
            }
            table.counter.count(&Packet {
                linktype: self.linktype,
                ifindex: self.index,
                direction: self.direction,
                time,
                frame: packet.data,
                wire_len,
                mtu,
            });
        });
        drop(table);
        result.unwrap_or_else(|error| {
            self.lost(handle, &error.to_string());
            0
        })
    }

    /// Stops reading from an interface, with one warning for both of its directions.
    fn lost(&self, handle: &mut Handle, reason: &str) {
        handle.gone = true;
        if !self.reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(interface = self.name, reason, "no longer watched; the others go on");
        }
    }

    /// After the socket reported an error: false when the interface is gone for good, true when it is only
    /// switched off, and packets will come again when it is switched on.
    fn still_exists(&self) -> bool {
        interfaces::list().is_ok_and(|all| all.iter().any(|i| i.index == self.index))
    }
}

impl Handle {
    /// Packets the kernel dropped since the last call, for want of room in the ring.
    fn new_drops(&mut self) -> u64 {
        let Ok(stats) = self.capture.stats() else { return 0 };
        let new = stats.dropped.wrapping_sub(self.drops);
        self.drops = stats.dropped;
        u64::from(new)
    }
}

/// The reader thread: waits for packets and counts them until the other end of `stopped` is closed.
fn read(watches: &[Watch], table: &Mutex<Table>, stopped: &UnixStream) {
    let mut open: Vec<&Watch> = watches.iter().collect();
    loop {
        let events = match wait(stopped.as_fd(), &open) {
            Ok(Some(events)) => events,
            Ok(None) => return,
            Err(error) => {
                for watch in open {
                    watch.lost(&mut lock(&watch.capture), &format!("waiting for packets: {error}"));
                }
                return;
            }
        };
        let mut events = events.into_iter();
        open.retain(|watch| {
            let event = events.next().unwrap_or(PollFlags::empty());
            if event.is_empty() {
                return true;
            }
            let mut handle = lock(&watch.capture);
            watch.count(&mut handle, table);
            // libpcap takes an error for a sign that the interface may come back, and would wait.
            if !handle.gone && event.contains(PollFlags::POLLERR) && !watch.still_exists() {
                watch.lost(&mut handle, "the interface is gone");
            }
            !handle.gone
        });
    }
}

/// Waits for something on any capture: what each has to tell, in order. `None` when it is time to stop.
fn wait(stopped: BorrowedFd<'_>, open: &[&Watch]) -> nix::Result<Option<Vec<PollFlags>>> {
    let mut fds = Vec::with_capacity(open.len() + 1);
    fds.push(PollFd::new(stopped, PollFlags::POLLIN));
    fds.extend(open.iter().map(|watch| PollFd::new(watch.socket.as_fd(), PollFlags::POLLIN)));
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => break,
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    // Flags this crate does not know still mean that something happened.
    let mut told = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLIN));
    if told.next().is_some_and(|event| !event.is_empty()) {
        return Ok(None);
    }
    Ok(Some(told.collect()))
}

/// The time of a capture opened with nanosecond precision: `tv_usec` then holds nanoseconds.
fn nanoseconds(time: libc::timeval) -> Timestamp {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_usec).unwrap_or_default();
    Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// A panic while counting leaves whole numbers behind, so the lock is as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
