//! What is remembered of one series.

use std::sync::Arc;

use wherefore_common::Direction;

use super::quantile;
use crate::locality::Locality;

/// Busy intervals remembered, however long ago they were.
const BUSY: usize = 32;
/// Busy intervals needed to say what a busy interval is like.
pub const BUSY_LEAST: usize = 3;

/// One series: its last intervals, and its last busy ones.
#[derive(Clone, Debug)]
pub struct Series {
    /// Bytes per interval, oldest first.
    history: Vec<f64>,
    /// Bytes of the last intervals that had any, oldest first; the newest included. They outlast silences
    /// that fill the history. Single precision: they are held against a factor.
    busy: Vec<f32>,
    /// Intervals since the last one with a byte.
    idle: u64,
    interface: Arc<str>,
    direction: Direction,
    locality: Locality,
}

impl Series {
    /// Begins with its first value: what was before is not known to have been 0.
    pub(super) fn new(value: f64, interface: Arc<str>, direction: Direction, locality: Locality) -> Self {
        Self { history: vec![value], busy: vec![value as f32], idle: 0, interface, direction, locality }
    }

    /// Adds `count` silent intervals, keeping at most `cap` points.
    pub(super) fn fall_silent(&mut self, count: u64, cap: usize) {
        self.idle = self.idle.saturating_add(count);
        let zeros = usize::try_from(count).unwrap_or(usize::MAX).min(cap);
        let excess = (self.history.len() + zeros).saturating_sub(cap);
        self.history.drain(..excess.min(self.history.len()));
        self.history.resize(self.history.len() + zeros, 0.0);
    }

    /// Puts what the newest interval, so far silent, carried.
    pub(super) fn speak(
        &mut self,
        value: f64,
        interface: Arc<str>,
        direction: Direction,
        locality: Locality,
    ) {
        if let Some(newest) = self.history.last_mut() {
            *newest = value;
        }
        if self.busy.len() == BUSY {
            self.busy.remove(0);
        }
        self.busy.push(value as f32);
        self.idle = 0;
        self.interface = interface;
        self.direction = direction;
        self.locality = locality;
    }

    /// How much it deserves its place: its largest interval, divided by one more than the silent intervals
    /// since it last spoke.
    pub(super) fn weight(&self) -> f64 {
        let largest = self.history.iter().copied().fold(0.0, f64::max);
        largest / (1.0 + self.idle as f64)
    }

    /// Bytes per interval, oldest first, the newest last; never empty.
    #[must_use]
    pub fn history(&self) -> &[f64] {
        &self.history
    }

    /// Bytes of the newest interval.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.history.last().copied().unwrap_or_default()
    }

    /// The points before the newest.
    #[must_use]
    pub fn earlier(&self) -> &[f64] {
        &self.history[..self.history.len() - 1]
    }

    /// Intervals since the last one with a byte; 0 if the newest has some.
    #[must_use]
    pub const fn idle(&self) -> u64 {
        self.idle
    }

    /// What a busy interval is like: the ninetieth percentile of the last 32 earlier intervals that had
    /// bytes. `None` below three of them.
    #[must_use]
    pub fn busy_level(&self) -> Option<f64> {
        let earlier = self.busy.len() - usize::from(self.idle == 0);
        if earlier < BUSY_LEAST {
            return None;
        }
        let mut sorted: Vec<f64> = self.busy[..earlier].iter().copied().map(f64::from).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Some(quantile(&sorted, 0.9))
    }

    /// Interface that carried most in the last interval with bytes.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Direction that carried most in the last interval with bytes.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// Which end of it was this host in the last interval with bytes.
    #[must_use]
    pub const fn locality(&self) -> Locality {
        self.locality
    }
}
