//! Coverage: how much of what a device counts is counted here too. What never comes by our programs is missing
//! from every other figure, and nothing else would tell.
//!
//! Devices count in different units. A veth counts a super-frame once, most network cards count the frames it
//! becomes on the wire, and at ingress frames are joined (GRO) between the driver and the hook. So the unit is
//! found per interface and direction: the one in which both counts agree.
//!
//! What the device's counters mean is `Documentation/networking/statistics.rst` of the kernel: received packets
//! include those the host dropped later, and packets are sent once the device has them, so those that a queueing
//! discipline or the driver dropped are counted here and not there.

mod counters;
mod ledger;

use std::{collections::VecDeque, time::Duration};

use wherefore_common::{Amount, Direction};

pub use self::{
    counters::{Counters, Queue},
    ledger::{Compared, Ledger},
};

/// Counts are compared over this time: long enough that what waits in queues between the two counts is small
/// beside it, short enough that a warning is of now.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Some drivers take their counters from the device once a second (bnxt), some every other (e1000e), and packets
/// may wait in a queue on their way out. What a device counts within this time after ours is no sign of blindness.
pub const LAG: Duration = Duration::from_secs(2);
/// Shorter intervals are put together, so that what is told late is told in the next step.
const STEP: Duration = LAG;
/// Of long intervals this many make a window: what is told late is in one of them.
const LEAST_STEPS: usize = 3;
/// Fewer missing packets than this in a window are never told of.
pub const FEW: u64 = 100;
/// Packets of which not one was counted make a device busy and us blind.
pub const BUSY: u64 = 1000;
/// The headers that a merged packet lacks are up to this part of its bytes: 54 of 536 at the smallest usual segment.
const HEADERS: u64 = 10;
/// A unit fits whose counts differ by no more than this (logarithm of their ratio).
const FITS: f64 = 0.02;

/// What a device counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Packets as they pass between the stack and the driver: a super-frame is one.
    HandedOver,
    /// Frames on the wire.
    OnWire,
    /// Bytes, where it counts some super-frames once and some as their frames, so that no count of packets can
    /// agree: a device that segments TCP and leaves UDP to the stack, or a veth that joins frames; and where we
    /// cannot count the frames of a super-frame.
    Bytes,
}

impl Unit {
    /// Every one, in the order of its number.
    const ALL: [Self; 3] = [Self::HandedOver, Self::OnWire, Self::Bytes];

    /// `handed_over`, `on_wire`, `bytes`. Stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HandedOver => "handed_over",
            Self::OnWire => "on_wire",
            Self::Bytes => "bytes",
        }
    }

    /// What is counted, in words.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::HandedOver => "packets as handed over",
            Self::OnWire => "frames",
            Self::Bytes => "bytes",
        }
    }
}

/// What is to be thought of a direction of an interface; graver ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is known to be missing.
    #[default]
    Fine,
    /// Less is counted than was asked for.
    Low,
    /// The device is busy, and nothing at all is counted.
    Blind,
}

/// The coverage of an interface in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// In which unit both counts are.
    pub unit: Unit,
    /// Of this interval.
    pub interval: Compared,
    /// Of the newest intervals that together last [`WINDOW`] and [`LAG`], or of the newest three; as far as there are
    /// so many.
    pub window: Ledger,
    /// How long these last.
    pub span: Duration,
    /// Packets that the device counts in them, whatever the unit.
    pub packets: u64,
    /// What the capture itself lost in them, in `unit`: so much of what is missing came by it.
    pub lost: u64,
    /// What it comes to.
    pub verdict: Verdict,
}

/// Counts of one interval, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How long it took.
    pub length: Duration,
    /// Counted here, as handed over by the stack.
    pub seen: Amount,
    /// Counted here, as on the wire.
    pub all: Amount,
    /// Of these, packets that were merged by offload and counted as one each, without the headers of the others.
    pub estimated: Amount,
    /// Counted by the device.
    pub device: Amount,
    /// Counted by the device right before or behind it, while we began or ended: some of it may be in ours.
    pub edges: Amount,
    /// Packets that the host dropped: at egress behind our count, at ingress before or behind it.
    pub dropped: u64,
    /// Packets that came by us and that the capture lost before they could be counted.
    pub lost: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.length += other.length;
        self.seen.add(&other.seen);
        self.all.add(&other.all);
        self.estimated.add(&other.estimated);
        self.device.add(&other.device);
        self.edges.add(&other.edges);
        self.dropped += other.dropped;
        self.lost += other.lost;
    }

    /// Both counts in a unit.
    ///
    /// At egress dropped packets were counted here and not by the device. At ingress the kernel's count of them
    /// tells those that never came to our hook (a full backlog) not apart from those that nobody wanted after it,
    /// so it explains what is missing, as far as it goes. So do the headers that a merged packet lacks.
    fn compared(&self, unit: Unit, direction: Direction) -> Compared {
        let (counted, mut device, edges) = match unit {
            Unit::HandedOver => (self.seen.packets, self.device.packets, self.edges.packets),
            Unit::OnWire => (self.all.packets, self.device.packets, self.edges.packets),
            Unit::Bytes => (self.all.wire_bytes, self.device.wire_bytes, self.edges.wire_bytes),
        };
        if unit == Unit::Bytes {
            device = explained(counted, device, self.estimated.wire_bytes / HEADERS);
        }
        let dropped = match unit {
            Unit::HandedOver | Unit::OnWire => self.dropped,
            Unit::Bytes => {
                like(self.dropped, counted.max(device), self.seen.packets.max(self.device.packets))
            }
        };
        if direction == Direction::Egress {
            Compared { counted: counted.saturating_sub(dropped), device, edges }
        } else {
            Compared { counted, device: explained(counted, device, dropped), edges }
        }
    }

    /// What the capture lost, in a unit.
    fn lost(&self, unit: Unit) -> u64 {
        match (unit, self.seen.packets) {
            (Unit::HandedOver, _) | (Unit::OnWire, 0) => self.lost,
            (Unit::OnWire, packets) => like(self.lost, self.all.packets, packets),
            (Unit::Bytes, 0) => like(self.lost, self.device.wire_bytes, self.device.packets),
            (Unit::Bytes, packets) => like(self.lost, self.all.wire_bytes, packets),
        }
    }

    /// How far the counts in a unit are from agreeing.
    fn distance(&self, unit: Unit, direction: Direction) -> f64 {
        match self.compared(unit, direction) {
            Compared { counted: 0, .. } | Compared { device: 0, .. } => f64::INFINITY,
            Compared { counted, device, .. } => (counted as f64 / device as f64).ln().abs(),
        }
    }
}

/// What `packets` come to that were counted by nobody, if they were like others of which `of` come to `amount`.
fn like(packets: u64, amount: u64, of: u64) -> u64 {
    let amount = u128::from(packets) * u128::from(amount) / u128::from(of.max(1));
    u64::try_from(amount).unwrap_or(u64::MAX)
}

/// What the device counts, less what is known to be missing here, as far as something is.
fn explained(counted: u64, device: u64, missing: u64) -> u64 {
    device.min(counted.max(device.saturating_sub(missing)))
}

/// An interface in one direction, as time passes.
#[derive(Clone, Debug)]
pub struct Track {
    direction: Direction,
    /// Oldest first, [`STEP`] or longer each but the newest; without those before the window.
    steps: VecDeque<Counts>,
    /// What goes over to the oldest from those before, by unit.
    before: [Ledger; 3],
    unit: Option<Unit>,
    verdict: Verdict,
}

impl Track {
    /// Nothing known yet.
    #[must_use]
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            steps: VecDeque::new(),
            before: [Ledger::default(); 3],
            unit: None,
            verdict: Verdict::Fine,
        }
    }

    /// Takes an interval and judges the window that ends with it: `least` is the share below which coverage is
    /// [`Verdict::Low`].
    pub fn add(&mut self, counts: &Counts, least: f64) -> Coverage {
        match self.steps.back_mut() {
            Some(newest) if newest.length < STEP => newest.add(counts),
            _ => self.steps.push_back(*counts),
        }
        let mut whole = sum(&self.steps);
        while self.steps.len() > LEAST_STEPS
            && let Some(oldest) = self.steps.front()
            && whole.length.saturating_sub(oldest.length) >= WINDOW + LAG
        {
            for (unit, before) in Unit::ALL.into_iter().zip(&mut self.before) {
                before.add(&oldest.compared(unit, self.direction), oldest.length);
                *before = before.onward();
            }
            self.steps.pop_front();
            whole = sum(&self.steps);
        }
        let unit = self.choose(&whole);
        self.verdict = self.judge(unit, &whole, least);
        // Judging may forget some.
        let whole = sum(&self.steps);
        Coverage {
            unit,
            interval: counts.compared(unit, self.direction),
            window: self.compare(unit, self.before[unit as usize], 0),
            span: whole.length,
            packets: whole.device.packets,
            lost: whole.lost(unit),
            verdict: self.verdict,
        }
    }

    /// Both counts of the steps from the one of that number on; `before` goes over to it.
    fn compare(&self, unit: Unit, before: Ledger, from: usize) -> Ledger {
        let mut ledger = before;
        for step in self.steps.iter().skip(from) {
            ledger.add(&step.compared(unit, self.direction), step.length);
        }
        ledger
    }

    /// The unit that fits. The last one stays while it fits, and also where no other does: a change of what is
    /// missing is no change of how the device counts.
    fn choose(&mut self, whole: &Counts) -> Unit {
        let distance = |unit| whole.distance(unit, self.direction);
        let best =
            if distance(Unit::OnWire) < distance(Unit::HandedOver) { Unit::OnWire } else { Unit::HandedOver };
        if whole.device.packets < FEW {
            return self.unit.unwrap_or(best);
        }
        let [seen, all] = [Unit::HandedOver, Unit::OnWire].map(|unit| whole.compared(unit, self.direction));
        let chosen = match self.unit {
            Some(unit) if unit != Unit::Bytes && distance(unit) <= FITS => unit,
            _ if distance(best) <= FITS => best,
            _ if whole.estimated.packets > 0 => Unit::Bytes,
            // More than super-frames and fewer than frames: it counts now so and now so, or packets are missing.
            // Bytes tell which, as they are nearly the same in both units.
            _ if seen.counted < seen.device && all.device < all.counted => Unit::Bytes,
            Some(unit) if unit != Unit::Bytes => unit,
            _ => best,
        };
        self.unit = Some(chosen);
        chosen
    }

    fn judge(&mut self, unit: Unit, whole: &Counts, least: f64) -> Verdict {
        if self.uncounted() >= BUSY {
            return Verdict::Blind;
        }
        // Twice, as what was counted before the first step and told late lies in one place.
        if self.is_low(unit, 1, least) && self.is_low(unit, 2, least) {
            return self.verdict.max(Verdict::Low);
        }
        // Few packets say nothing.
        let window = self.compare(unit, self.before[unit as usize], 0);
        let recovered = whole.device.packets >= FEW && window.share().is_some_and(|share| share >= least);
        if recovered { Verdict::Fine } else { self.verdict }
    }

    /// Whether less than `least` is counted of what the device counts from that step on. Our counts of [`LAG`] before
    /// it are in it, since the device may tell of them late.
    fn is_low(&self, unit: Unit, from: usize, least: f64) -> bool {
        let mut ledger = self.before[unit as usize];
        for step in self.steps.iter().take(from) {
            let compared = step.compared(unit, self.direction);
            ledger.add(&compared, step.length);
            ledger = ledger.expecting(&compared, step.length);
        }
        let missing = 1.0 - self.compare(unit, ledger, from).share().unwrap_or(1.0);
        let packets: u64 = self.steps.iter().skip(from).map(|step| step.device.packets).sum();
        1.0 - missing < least && missing * packets as f64 >= FEW as f64
    }

    /// What the device counted since our last packet and [`LAG`]. Where that says that we are blind, what was
    /// before is forgotten.
    fn uncounted(&mut self) -> u64 {
        let silent = self.steps.iter().rev().take_while(|step| step.seen.packets == 0).count();
        let first = self.steps.len() - silent;
        let told = self.steps.iter().skip(first + 1);
        let device = sum(told).compared(Unit::HandedOver, self.direction).device;
        if device >= BUSY {
            self.steps.drain(..first);
            self.before = Default::default();
        }
        device
    }
}

fn sum<'a>(steps: impl IntoIterator<Item = &'a Counts>) -> Counts {
    let mut sum = Counts::default();
    steps.into_iter().for_each(|step| sum.add(step));
    sum
}

#[cfg(test)]
mod tests;
