//! Captures that are to be closed. The kernel hands over what arrived last within some time, and nobody but a poll need
//! wait for that.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    HAND_OVER, Shared, lock,
    watch::{Handle, Watch},
};
use crate::time::Timestamp;

/// A capture that counts no more of what arrives.
pub(super) struct Leaving {
    watch: Arc<Watch>,
    /// Everything from before is handed over by then.
    due: Instant,
}

impl Shared {
    /// Ends the captures of these interfaces: what has arrived on them is still counted. Whether there were any.
    pub(super) fn leave(&self, indexes: &[u32]) -> bool {
        let due = Instant::now() + 2 * HAND_OVER;
        let mut watches = lock(&self.watches);
        let left: Vec<Leaving> = watches
            .extract_if(.., |watch| indexes.contains(&watch.index))
            .map(|watch| Leaving { watch, due })
            .collect();
        drop(watches);
        for Leaving { watch, .. } in &left {
            watch.end.store(Timestamp::now().0, Ordering::Relaxed);
        }
        let any = !left.is_empty();
        lock(&self.leaving).extend(left);
        any
    }

    /// Takes what a capture has dropped by now.
    pub(super) fn add_drops(&self, watch: &Watch, handle: &mut Handle) {
        let new = handle.new_drops();
        if new > 0 {
            *lock(&self.dropped).entry(watch.place()).or_default() += new;
        }
    }

    /// Closes those whose time has come; how long it is until the next one's.
    pub(super) fn close_due(&self) -> Option<Duration> {
        let now = Instant::now();
        // Held meanwhile: a poll waits until what another thread closes is counted.
        let mut leaving = lock(&self.leaving);
        for Leaving { watch, .. } in leaving.extract_if(.., |leaving| leaving.due <= now) {
            let mut handle = lock(&watch.capture);
            // libpcap tells that the interface is gone before it hands over what is left in the ring.
            for _ in 0..2 {
                handle.gone = false;
                watch.catch_up(&mut handle, &self.table);
            }
            self.add_drops(&watch, &mut handle);
            handle.gone = true;
        }
        leaving.iter().map(|leaving| leaving.due.saturating_duration_since(now)).min()
    }

    /// Waits for those there are now, and closes them: their packets belong to the interval, the last one that knows
    /// the interface's name.
    pub(super) fn close_all(&self) {
        let last = lock(&self.leaving).iter().map(|leaving| leaving.due).max();
        if let Some(last) = last {
            thread::sleep(last.saturating_duration_since(Instant::now()));
            self.close_due();
        }
    }
}
