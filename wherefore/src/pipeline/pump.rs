//! Polls a backend, and keeps the pace.

use std::{
    sync::mpsc as std_mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    backend::{self, Backend},
    snapshot::Snapshot,
};

/// Snapshots that may wait to be judged. When all places are taken the counting goes on in the backend's
/// tables and the interval lengthens: nothing is lost.
const SNAPSHOTS_WAITING: usize = 4;

/// Polls the backend on a thread of its own, so that neither a slow sink nor a slow terminal can delay a
/// poll, nor a poll (16 ms of grace period) the async runtime.
pub(super) struct Pump {
    /// Ends once the backend is dropped, and so detached.
    pub snapshots: mpsc::Receiver<Result<Snapshot, backend::Error>>,
    /// Sending to it, or dropping it, ends a live backend with a last snapshot.
    pub stop: std_mpsc::Sender<()>,
    /// Fails if the backend panicked.
    pub thread: JoinHandle<()>,
}

impl Pump {
    pub fn start(mut backend: Box<dyn Backend>, interval: Duration) -> Self {
        let (to, snapshots) = mpsc::channel(SNAPSHOTS_WAITING);
        let (stop, stopped) = std_mpsc::channel();
        let thread = std::thread::spawn(move || {
            pump(backend.as_mut(), interval, &to, &stopped);
            // In this order: whoever sees the end of the snapshots may end the process.
            drop(backend);
            drop(to);
        });
        Self { snapshots, stop, thread }
    }
}

fn pump(
    backend: &mut dyn Backend,
    interval: Duration,
    to: &mpsc::Sender<Result<Snapshot, backend::Error>>,
    stopped: &std_mpsc::Receiver<()>,
) {
    let mut due = Instant::now() + interval;
    loop {
        let wait =
            if backend.is_live() { due.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
        let last = !matches!(stopped.recv_timeout(wait), Err(std_mpsc::RecvTimeoutError::Timeout));
        if last && !backend.is_live() {
            return;
        }
        due = next_due(due, Instant::now(), interval);
        if backend.is_live() && !last && to.capacity() == 0 {
            continue;
        }
        let polled = if last { backend.stop() } else { backend.poll() };
        let over = matches!(polled, Ok(None)) || (polled.is_err() && backend.is_live());
        let item = match polled {
            Ok(None) => return,
            Ok(Some(mut snapshot)) => {
                // The end comes when it is asked for.
                snapshot.complete &= !last || snapshot.length >= interval;
                Ok(snapshot)
            }
            Err(fault) => Err(fault),
        };
        if to.blocking_send(item).is_err() || over || last {
            return;
        }
    }
}

/// The time after `due` at the even pace that is at least half an interval from `now`. Volumes are normalised by
/// the measured length: an interval of a tenth after a poll that came late would tell a tenfold rate of a single
/// packet.
fn next_due(mut due: Instant, now: Instant, interval: Duration) -> Instant {
    while due < now + interval / 2 {
        due += interval;
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_poll_makes_a_longer_interval_and_never_a_short_one() {
        let interval = Duration::from_secs(10);
        let start = Instant::now();
        let next = |due: u64, now: u64| {
            let at = |seconds| start + Duration::from_secs(seconds);
            next_due(at(due), at(now), interval).duration_since(start).as_secs()
        };
        assert_eq!(next(10, 10), 20);
        assert_eq!(next(10, 14), 20);
        assert_eq!(next(10, 19), 30);
        assert_eq!(next(10, 95), 100);
        assert_eq!(next(10, 96), 110);
    }
}
