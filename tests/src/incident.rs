//! Captures with a burst in them, and what a replay of one tells.

use serde_json::Value;

use crate::{
    capture::Packet,
    cli::{Said, line},
};

/// When the captures begin, in seconds.
pub const START: u64 = 1_700_000_000;
/// Seconds of an interval.
pub const INTERVAL: u64 = 5;
/// Ports of all of them.
pub const FLOW: (u16, u16) = (1000, 53);

/// `count` packets of 1000 bytes of IP, evenly over `seconds` from the start of an interval.
pub fn packets(host: u8, interval: u64, count: u64, seconds: u64) -> impl Iterator<Item = Packet> {
    (0..count).map(move |i| Packet {
        time: (START + interval * INTERVAL) * 1_000_000 + i * seconds * 1_000_000 / count,
        src: host,
        dst: 9,
        ports: FLOW,
        ip_bytes: 1000,
    })
}

/// Ten packets in each of these intervals.
#[must_use]
pub fn calm(intervals: std::ops::Range<u64>) -> Vec<Packet> {
    intervals.flat_map(|interval| packets(1, interval, 10, 5)).collect()
}

/// A hundred times as many, in its first fifth.
#[must_use]
pub fn burst(interval: u64) -> Vec<Packet> {
    packets(1, interval, 1000, 1).collect()
}

/// Ten calm intervals, then a burst that ends the capture in the middle of its interval.
#[must_use]
pub fn incident() -> Vec<Packet> {
    [calm(0..10), burst(10)].concat()
}

/// Replays a capture with the detector that needs no more than ten intervals to tell a burst.
///
/// # Panics
/// As [`line()`].
#[must_use]
pub fn replay(file: &str, flags: &str) -> Said {
    line(&format!("replay {file} --detector anomalyzer {flags}"))
}

/// The alerts of a replay that must end well.
///
/// # Panics
/// When it does not.
#[must_use]
pub fn alerts(file: &str, flags: &str) -> Vec<Value> {
    let said = replay(file, &format!("{flags} --format json"));
    assert_eq!(said.code, 0, "{flags}: {said:?}");
    said.out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}
