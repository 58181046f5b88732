//! One capture, and how its packets are counted.

use std::{
    os::fd::OwnedFd,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use nix::{errno::Errno, net::if_::if_indextoname};
use pcap::{Active, Capture};
use wherefore_common::{Amount, Direction, Reason};

use super::{Table, expression::Expression, lock};
use crate::{backend::counter::Packet, time::Timestamp};

/// Packets counted under one lock of the table, so that a poll waits microseconds.
const BATCH: usize = 256;
/// Batches of one capture that a poll counts itself; under a flood there would always be another.
const CATCH_UP: usize = 256;

/// One capture: an interface in one direction.
pub(super) struct Watch {
    pub(super) index: u32,
    pub(super) direction: Direction,
    /// When its ring began to take packets.
    pub(super) opened: (Instant, Timestamp),
    pub(super) linktype: i32,
    /// Largest IP packet in bytes, as last asked for; 0: not known.
    pub(super) mtu: AtomicU32,
    /// What arrives from then on, in nanoseconds since 1970, is counted no more.
    pub(super) end: AtomicU64,
    /// Which packets have a flow; `None`: all.
    pub(super) expression: Option<Expression>,
    /// The capture's socket once more, to wait for it without holding the lock.
    pub(super) socket: OwnedFd,
    pub(super) capture: Mutex<Handle>,
}

pub(super) struct Handle {
    pub(super) capture: Capture<Active>,
    /// Drops libpcap told so far; it counts in 32 bits, from when the capture began.
    pub(super) drops: u32,
    /// The interface vanished.
    pub(super) gone: bool,
}

impl Watch {
    /// Counts what is there now, as far as there is an end.
    pub(super) fn catch_up(&self, handle: &mut Handle, table: &Mutex<Table>) {
        for _ in 0..CATCH_UP {
            if self.count(handle, table) < BATCH {
                break;
            }
        }
    }

    /// Counts up to [`BATCH`] packets that are there now: how many. Never waits.
    pub(super) fn count(&self, handle: &mut Handle, table: &Mutex<Table>) -> usize {
        if handle.gone {
            return 0;
        }
        let mut table = lock(table);
        let mtu = Some(self.mtu.load(Ordering::Relaxed)).filter(|mtu| *mtu > 0);
        let end = Timestamp(self.end.load(Ordering::Relaxed));
        let result = handle.capture.dispatch(Some(BATCH), |packet| {
            let time = nanoseconds(packet.header.ts);
            if time >= end {
                return;
            }
            // Lengths count as on the wire: `caplen` is what -s left of them.
            let wire_len = packet.header.len;
            if time < table.start {
                table.late.add(&Amount { packets: 1, wire_bytes: u64::from(wire_len) });
            }
            let packet = Packet {
                linktype: self.linktype,
                ifindex: self.index,
                direction: self.direction,
                time,
                frame: packet.data,
                wire_len,
                mtu,
            };
            if self.expression.as_ref().is_none_or(|expression| expression.matches(&packet)) {
                table.counter.count(&packet);
            } else {
                table.counter.count_without_flow(&packet, Reason::Filtered);
            }
        });
        drop(table);
        result.unwrap_or_else(|error| {
            // Whether it is gone the follower finds out, and says.
            tracing::debug!(interface = self.index, %error, "the capture ended");
            handle.gone = true;
            0
        })
    }

    /// Interface and direction (as number).
    pub(super) const fn place(&self) -> (u32, u8) {
        (self.index, self.direction as u8)
    }

    /// After the socket reported an error: false when the interface is gone for good, true when it is only
    /// switched off, and packets will come again when it is switched on.
    pub(super) fn still_exists(&self) -> bool {
        if_indextoname(self.index) != Err(Errno::ENXIO)
    }
}

impl Handle {
    /// Packets the kernel dropped since the last call, for want of room in the ring.
    pub(super) fn new_drops(&mut self) -> u64 {
        let Ok(stats) = self.capture.stats() else { return 0 };
        let new = stats.dropped.wrapping_sub(self.drops);
        self.drops = stats.dropped;
        u64::from(new)
    }
}

/// The time of a capture opened with nanosecond precision: `tv_usec` then holds nanoseconds.
fn nanoseconds(time: libc::timeval) -> Timestamp {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_usec).unwrap_or_default();
    Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
