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
        let left: Vec<Arc<Watch>> =
            lock(&self.watches).extract_if(.., |watch| indexes.contains(&watch.index)).collect();
        for watch in &left {
            let mut handle = lock(&watch.capture);
            self.add_drops(watch, &mut handle);
            watch.end.store(Timestamp::now().0, Ordering::Relaxed);
        }
        let any = !left.is_empty();
        let due = Instant::now() + 2 * HAND_OVER;
        lock(&self.leaving).extend(left.into_iter().map(|watch| Leaving { watch, due }));
        any
    }

    /// Takes what a capture has dropped by now. After its end nothing is wanted, and so nothing lost.
    pub(super) fn add_drops(&self, watch: &Watch, handle: &mut Handle) {
        if watch.end.load(Ordering::Relaxed) < u64::MAX {
            return;
        }
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::UdpSocket, process::Command, sync::Mutex};

    use nix::{
        sched::{CloneFlags, unshare},
        unistd::Uid,
    };
    use wherefore_common::{Amount, Direction};

    use super::*;
    use crate::{
        backend::{
            Hook, LiveSettings,
            counter::Counter,
            interfaces::{Request, plan},
            pcap_live::{Table, open},
        },
        filter::CidrFilter,
    };

    fn settings() -> LiveSettings {
        LiveSettings {
            interfaces: Request::named(["lo"]),
            hook: Hook::Tc,
            force_xdp: false,
            table_size: 16,
            kernel_log: false,
            min_coverage: 0.95,
            snaplen: 65_535,
            read_timeout: HAND_OVER,
            promiscuous: false,
            expression: None,
            filter: CidrFilter::default(),
        }
    }

    /// A capture of the loopback device that loses packets while it is wanted and afterwards: what is told as lost, and
    /// what libpcap lost in all.
    fn lost() -> (BTreeMap<(u32, u8), u64>, u64) {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "lo up");
        let settings = settings();
        let plan = plan(&settings.interfaces).expect("interfaces");
        let lo = plan.watched().next().expect("lo").interface.clone();
        let watch = Arc::new(open::open(&settings, None, &lo, Direction::Ingress).expect("a capture"));
        let table =
            Table { counter: Counter::new(Some(16)), start: Timestamp::now(), late: Amount::default() };
        let shared = Shared {
            watches: Mutex::new(vec![Arc::clone(&watch)]),
            leaving: Mutex::default(),
            table: Mutex::new(table),
            dropped: Mutex::default(),
        };
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        // The ring holds 8 MiB of these 18 MB.
        let send = || {
            for _ in 0..300 {
                socket.send_to(&[0; 60_000], socket.local_addr().expect("an address")).expect("sent");
            }
        };
        send();
        assert!(shared.leave(&[lo.index]));
        send();
        // A poll that has had the capture since before.
        shared.add_drops(&watch, &mut lock(&watch.capture));
        shared.close_all();
        assert!(!lock(&shared.table).counter.is_empty());
        let lost = lock(&shared.dropped).clone();
        let all = lock(&watch.capture).capture.stats().expect("libpcap's figures").dropped;
        (lost, u64::from(all))
    }

    /// In a network namespace of its own, which ends with the thread.
    #[test]
    fn what_is_dropped_once_it_is_not_wanted_is_not_lost() {
        let required = std::env::var_os("WHEREFORE_REQUIRE_BPF").is_some_and(|value| value == "1");
        if !Uid::effective().is_root() {
            assert!(!required, "this test needs root");
            eprintln!("skipped: needs root to make a network namespace");
            return;
        }
        let (lost, all) = thread::spawn(lost).join().expect("a capture of lo");
        let (place, lost) = lost.into_iter().next().expect("the ring was full");
        assert_eq!(place, (1, Direction::Ingress as u8));
        assert!(lost > 0 && lost + 300 <= all, "{lost} of {all}");
    }
}
