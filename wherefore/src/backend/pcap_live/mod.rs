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
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_indextoname,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use pcap::{Active, Capture};
use wherefore_common::{Amount, Direction};

use super::{
    Backend, Description, Error, LiveSettings,
    counter::{Counter, Packet},
    interfaces::{Attach, Follower, Interface},
    merged::Merged,
};
use crate::{clean::clean, filter::CompiledFilter, snapshot::Snapshot, time::Timestamp};

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
    // Ends before the reader, which it tells about new captures.
    follower: Follower,
    shared: Arc<Shared>,
    filter: CompiledFilter,
    since: Instant,
    polls: u64,
    merged: Merged,
    /// Dropped to stop the reader: its end of the pair then reports a hang-up.
    stop: Option<UnixStream>,
    reader: Option<JoinHandle<()>>,
}

/// What the threads have in common.
struct Shared {
    watches: Mutex<Vec<Arc<Watch>>>,
    table: Mutex<Table>,
    /// Packets dropped by captures that are closed by now.
    dropped: AtomicU64,
}

/// Opens and closes captures as interfaces come and go.
struct Captures {
    settings: LiveSettings,
    shared: Arc<Shared>,
    /// What is captured on.
    interfaces: BTreeMap<u32, Interface>,
    /// A byte tells the reader to look at the list of captures.
    news: UnixStream,
}

/// One capture: an interface in one direction.
struct Watch {
    index: u32,
    direction: Direction,
    linktype: i32,
    /// Largest IP packet in bytes, as last asked for; 0: not known.
    mtu: AtomicU32,
    /// The capture's socket once more, to wait for it without holding the lock.
    socket: OwnedFd,
    capture: Mutex<Handle>,
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
    let shared =
        Arc::new(Shared { watches: Mutex::default(), table: Mutex::new(table), dropped: AtomicU64::new(0) });
    let (stop, stopped) = UnixStream::pair().map_err(failed)?;
    stopped.set_nonblocking(true).map_err(failed)?;
    let news = stop.try_clone().map_err(failed)?;
    let captures = Captures {
        settings: settings.clone(),
        shared: Arc::clone(&shared),
        interfaces: BTreeMap::new(),
        news,
    };
    let (follower, started) = Follower::start(&settings.interfaces, captures)?;
    let reader = thread::Builder::new()
        .name("capture".into())
        .spawn({
            let shared = Arc::clone(&shared);
            move || read(&shared, stopped)
        })
        .map_err(failed)?;
    Ok(PcapBackend {
        description: Description { backend: "pcap", watched: started.watched, chosen: started.why, why },
        follower,
        shared,
        filter: settings.filter.compile(),
        since: Instant::now(),
        polls: 0,
        merged: Merged::new(
            "libpcap",
            "--backend ebpf counts them exactly; ethtool -K INTERFACE gro off lro off gso off tso off keeps them \
             apart, at the price of speed",
        ),
        stop: Some(stop),
        reader: Some(reader),
    })
}

impl Attach for Captures {
    fn attach(&mut self, interface: &Interface) -> Result<String, Error> {
        let directions: &[Direction] =
            if interface.loopback { &[Direction::Ingress] } else { &[Direction::Ingress, Direction::Egress] };
        let opened: Vec<_> = directions
            .iter()
            .map(|&direction| open::open(&self.settings, interface, direction).map(Arc::new))
            .collect::<Result<_, _>>()?;
        lock(&self.shared.watches).extend(opened);
        self.interfaces.insert(interface.index, interface.clone());
        self.tell();
        Ok("libpcap".into())
    }

    fn detach(&mut self, indexes: &[u32]) {
        let closed: Vec<Arc<Watch>> =
            lock(&self.shared.watches).extract_if(.., |watch| indexes.contains(&watch.index)).collect();
        self.interfaces.retain(|index, _| !indexes.contains(index));
        if closed.is_empty() {
            return;
        }
        // What arrived last is handed over within that time.
        thread::sleep(2 * HAND_OVER);
        for watch in closed {
            let mut handle = lock(&watch.capture);
            // libpcap tells that the interface is gone before it hands over what is left in the ring.
            for _ in 0..2 {
                handle.gone = false;
                watch.catch_up(&mut handle, &self.shared.table);
            }
            self.shared.dropped.fetch_add(handle.new_drops(), Ordering::Relaxed);
            handle.gone = true;
        }
        self.tell();
    }

    fn renew(&mut self, interface: &Interface) {
        if let Some(mtu) = interface.mtu {
            for watch in lock(&self.shared.watches).iter().filter(|watch| watch.index == interface.index) {
                watch.mtu.store(mtu, Ordering::Relaxed);
            }
        }
        self.interfaces.insert(interface.index, interface.clone());
        self.check();
    }

    /// A capture on an interface that had another name when it began ends when that goes down: libpcap asks for the
    /// interface by the old name. Begins a new one once it is up.
    fn check(&mut self) {
        let broken: Vec<Interface> = self
            .interfaces
            .values()
            .filter(|interface| interface.up && self.is_broken(interface.index))
            .cloned()
            .collect();
        for interface in broken {
            self.detach(&[interface.index]);
            if let Err(error) = self.attach(&interface) {
                tracing::warn!("{}: no longer captured: {error}", clean(&interface.name));
            }
        }
    }

    fn wants_up(&self) -> bool {
        true
    }
}

impl Captures {
    fn is_broken(&self, index: u32) -> bool {
        let watches = lock(&self.shared.watches).clone();
        watches.iter().filter(|watch| watch.index == index).any(|watch| {
            let mut handle = lock(&watch.capture);
            // Only by reading does it come to light.
            watch.count(&mut handle, &self.shared.table);
            handle.gone
        })
    }

    fn tell(&mut self) {
        // Fails only when the reader has ended, or its pipe is full of such news.
        let _ = self.news.write(&[0]);
    }
}

impl Backend for PcapBackend {
    fn description(&self) -> &Description {
        &self.description
    }

    fn is_live(&self) -> bool {
        true
    }

    fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
        let watches = lock(&self.shared.watches).clone();
        let mut dropped = 0;
        for watch in watches {
            let mut handle = lock(&watch.capture);
            watch.catch_up(&mut handle, &self.shared.table);
            dropped += handle.new_drops();
        }
        dropped += self.shared.dropped.swap(0, Ordering::Relaxed);
        let end = Timestamp::now();
        let length = self.since.elapsed();
        let (counted, late, start) = {
            let mut table = lock(&self.shared.table);
            let start = std::mem::replace(&mut table.start, end);
            (table.counter.take(), std::mem::take(&mut table.late), start)
        };
        self.since += length;
        self.polls += 1;
        let mut snapshot = Snapshot {
            start,
            end,
            length,
            complete: self.polls > 1,
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

impl Watch {
    /// Counts what is there now, as far as there is an end.
    fn catch_up(&self, handle: &mut Handle, table: &Mutex<Table>) {
        for _ in 0..CATCH_UP {
            if self.count(handle, table) < BATCH {
                break;
            }
        }
    }

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
            // Whether it is gone the follower finds out, and says.
            tracing::debug!(interface = self.index, %error, "the capture ended");
            handle.gone = true;
            0
        })
    }

    /// After the socket reported an error: false when the interface is gone for good, true when it is only
    /// switched off, and packets will come again when it is switched on.
    fn still_exists(&self) -> bool {
        if_indextoname(self.index) != Err(Errno::ENXIO)
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

/// The reader thread: waits for packets and counts them until the other end of `news` is closed.
fn read(shared: &Shared, mut news: UnixStream) {
    let mut bytes = [0; 64];
    let mut open = Vec::new();
    loop {
        match news.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => open = lock(&shared.watches).clone(),
            // Nothing new.
            Err(_) => {}
        }
        let events = match wait(news.as_fd(), &open) {
            Ok(events) => events,
            Err(error) => {
                // Polls go on counting what is there.
                tracing::error!("waiting for packets: {error}");
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
            watch.count(&mut handle, &shared.table);
            // libpcap takes an error for a sign that the interface may come back, and would wait.
            !handle.gone && (!event.contains(PollFlags::POLLERR) || watch.still_exists())
        });
    }
}

/// Waits for news or something on any capture: what each of these has to tell, in order.
fn wait(news: BorrowedFd<'_>, open: &[Arc<Watch>]) -> nix::Result<Vec<PollFlags>> {
    let mut fds = Vec::with_capacity(open.len() + 1);
    fds.push(PollFd::new(news, PollFlags::POLLIN));
    fds.extend(open.iter().map(|watch| PollFd::new(watch.socket.as_fd(), PollFlags::POLLIN)));
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    // Flags this crate does not know still mean that something happened.
    Ok(fds.iter().skip(1).map(|fd| fd.revents().unwrap_or(PollFlags::POLLIN)).collect())
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
