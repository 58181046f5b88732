//! What a live backend counts, held against the devices' own counters ([`crate::coverage`]), and said where it falls
//! short.

use std::collections::{BTreeMap, BTreeSet};

use wherefore_common::{Amount, Direction};

use super::{
    Backend, Description, Error, LiveSettings, interfaces,
    probe::{self, Attached, DeviceCounters, Way},
};
use crate::{
    coverage::{Counters, Counts, Coverage, Track, Verdict},
    snapshot::Snapshot,
    units::format_duration,
};

/// A live backend whose counts devices have counterparts of.
pub(super) trait Counted: Backend {
    /// Where it counts all that passes: interfaces and [`Direction`] (as number).
    fn places(&self) -> BTreeSet<(u32, u8)>;

    /// Whether it counts at egress before the queueing discipline, so that what that drops is counted and not sent.
    fn before_queue(&self) -> bool;

    /// Why packets may be missing, and where to look.
    fn cause(&self, counters: &DeviceCounters, index: u32, way: Way, coverage: &Coverage) -> String;
}

/// A backend with the coverage of what it counts.
pub(super) struct Covered<B> {
    backend: B,
    watch: Watch,
}

impl<B: Counted> Covered<B> {
    /// Starts a backend on devices of the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn start(
        settings: &LiveSettings,
        start: impl FnOnce(&LiveSettings) -> Result<B, Error>,
    ) -> Result<Self, Error> {
        let mut watch = Watch::new(settings.min_coverage);
        // What is wrong with the request `start` says.
        let indexes = interfaces::plan(&settings.interfaces)
            .map(|plan| plan.watched().map(|verdict| verdict.interface.index).collect())
            .unwrap_or_default();
        let before = watch.read(indexes).unwrap_or_default();
        let backend = start(settings)?;
        let readings = watch.read(indexes_of(&backend.places()));
        watch.begin(readings.clone());
        if let Some(readings) = &readings {
            watch.edges(&before, readings);
        }
        Ok(Self { backend, watch })
    }

    /// Ends an interval: the devices' counters are read, then ours.
    fn end(
        &mut self,
        end: impl FnOnce(&mut B) -> Result<Option<Snapshot>, Error>,
        last: bool,
    ) -> Result<Option<Snapshot>, Error> {
        let places = self.backend.places();
        let readings = self.watch.read(indexes_of(&places));
        let mut ended = end(&mut self.backend)?;
        if last && let Some(readings) = &readings {
            let behind = self.watch.read(indexes_of(&places)).unwrap_or_default();
            self.watch.edges(readings, &behind);
        }
        if let Some(snapshot) = &mut ended {
            self.watch.end(readings, snapshot, &places, &self.backend);
        }
        Ok(ended)
    }
}

impl<B: Counted> Backend for Covered<B> {
    fn description(&self) -> &Description {
        self.backend.description()
    }

    fn is_live(&self) -> bool {
        self.backend.is_live()
    }

    fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
        self.end(Backend::poll, false)
    }

    fn stop(&mut self) -> Result<Option<Snapshot>, Error> {
        // Devices go on counting when nobody does here.
        self.end(Backend::stop, true)
    }
}

fn indexes_of(places: &BTreeSet<(u32, u8)>) -> BTreeSet<u32> {
    places.iter().map(|(index, _)| *index).collect()
}

/// Counters of devices at one time, by interface; ingress, then egress.
type Readings = BTreeMap<u32, [Counters; 2]>;

/// The watched interfaces' devices.
struct Watch {
    /// `None` where the kernel gave no socket to ask with: then there is no coverage.
    counters: Option<DeviceCounters>,
    least: f64,
    devices: BTreeMap<u32, Device>,
    /// That the counters could not be read was said.
    said: bool,
}

struct Device {
    /// At the end of the last interval; `None` where they could not be read.
    last: Option<[Counters; 2]>,
    /// Counted by the device while the backend began or ended; of that interval only.
    edges: [Amount; 2],
    tracks: [Track; 2],
    told: [Verdict; 2],
}

impl Watch {
    fn new(least: f64) -> Self {
        let counters = DeviceCounters::new()
            .map_err(|error| tracing::warn!("coverage is not known: no netlink socket: {error}"))
            .ok();
        Self { counters, least, devices: BTreeMap::new(), said: false }
    }

    /// The devices' counters now, without those of devices that are gone; `None` where the kernel does not tell,
    /// which is said once.
    fn read(&mut self, indexes: BTreeSet<u32>) -> Option<Readings> {
        match self.counters.as_ref()?.read(indexes) {
            Ok(readings) => Some(readings),
            Err(error) => {
                if !std::mem::replace(&mut self.said, true) {
                    tracing::warn!(
                        "coverage is not known: reading the devices' counters by netlink: {error}"
                    );
                }
                None
            }
        }
    }

    /// Takes what was read when counting began.
    fn begin(&mut self, readings: Option<Readings>) {
        let Some(readings) = readings else {
            self.devices.values_mut().for_each(|device| device.last = None);
            return;
        };
        self.devices.retain(|index, _| readings.contains_key(index));
        for (index, last) in readings {
            let last = Some(last);
            self.devices.entry(index).and_modify(|device| device.last = last).or_insert_with(|| Device {
                last,
                edges: [Amount::default(); 2],
                tracks: [Direction::Ingress, Direction::Egress].map(Track::new),
                told: [Verdict::Fine; 2],
            });
        }
    }

    /// Takes what was read before and behind the time in which the backend began or ended, which may both be beside one
    /// interval.
    fn edges(&mut self, before: &Readings, behind: &Readings) {
        for (index, before) in before {
            let Some(device) = self.devices.get_mut(index) else { continue };
            let Some(behind) = behind.get(index) else { continue };
            for (way, edges) in device.edges.iter_mut().enumerate() {
                if let Some((passed, _)) = behind[way].since(&before[way]) {
                    edges.add(&passed);
                }
            }
        }
    }

    /// Takes what was read when the snapshot's interval ended, adds the coverage to the snapshot, and says each
    /// change. An interval in which a device's counters went back, or that a device was not there for, has none.
    fn end(
        &mut self,
        readings: Option<Readings>,
        snapshot: &mut Snapshot,
        places: &BTreeSet<(u32, u8)>,
        backend: &impl Counted,
    ) {
        for (index, now) in readings.iter().flatten() {
            let Some(device) = self.devices.get_mut(index) else { continue };
            let Some(last) = device.last else { continue };
            for way in Way::ALL {
                let (at, place) = (way as usize, (*index, direction(way) as u8));
                if !places.contains(&place) {
                    continue;
                }
                let (mut now, mut last) = (now[at], last[at]);
                if !backend.before_queue() {
                    (now.queue, last.queue) = (None, None);
                }
                let Some((counted, dropped)) = now.since(&last) else { continue };
                let passed = snapshot.passed.get(&place).copied().unwrap_or_default();
                let counts = Counts {
                    length: snapshot.length,
                    seen: passed.seen,
                    all: passed.all,
                    estimated: passed.estimated,
                    device: counted,
                    edges: device.edges[at],
                    dropped,
                    lost: snapshot.dropped.get(&place).copied().unwrap_or_default(),
                };
                let coverage = device.tracks[at].add(&counts, self.least);
                snapshot.coverage.insert(place, coverage);
                let before = std::mem::replace(&mut device.told[at], coverage.verdict);
                if coverage.verdict != before {
                    let name = snapshot.interface_name(*index);
                    let cause = || self.counters.as_ref().map(|c| backend.cause(c, *index, way, &coverage));
                    say(&name, way, &coverage, || cause().unwrap_or_default());
                }
            }
        }
        self.devices.values_mut().for_each(|device| device.edges = Default::default());
        self.begin(readings);
    }
}

const fn direction(way: Way) -> Direction {
    match way {
        Way::Ingress => Direction::Ingress,
        Way::Egress => Direction::Egress,
    }
}

/// Says a verdict that is new.
fn say(name: &str, way: Way, coverage: &Coverage, cause: impl Fn() -> String) {
    let part = part(way, coverage);
    match coverage.verdict {
        Verdict::Fine => tracing::info!("{name}: counted again is {part}"),
        Verdict::Low => tracing::warn!("{name}: counted is only {part}: {}", cause()),
        Verdict::Blind => {
            tracing::error!("{name}: nothing is counted on a busy device, {part}: {}", cause());
        }
    }
}

/// `62.0% of what the device counts at ingress (3800 of 10000 packets missing in 62 s)`.
fn part(way: Way, coverage: &Coverage) -> String {
    let Coverage { unit, window, span, .. } = coverage;
    format!(
        "{window} of what the device counts at {} ({} of {} {} missing in {})",
        direction(way).name(),
        window.missing(),
        window.device(),
        unit.noun(),
        format_duration(*span),
    )
}

/// What the XDP programs of a device may keep from whoever counts behind them, in words; `None` without any.
pub(super) fn behind_xdp(programs: &[Attached], who: &str) -> Option<String> {
    let names: Vec<String> = programs.iter().map(Attached::in_words).collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("XDP runs {names}: packets that it drops, redirects or hands to AF_XDP never come to {who}")
    })
}

/// The XDP programs of a device, with their names.
pub(super) fn xdp(counters: &DeviceCounters, index: u32) -> Vec<Attached> {
    let mut programs = counters.xdp(index).unwrap_or_default();
    if !programs.is_empty() {
        let names = probe::program_names();
        programs.iter_mut().for_each(|program| program.take_name(&names));
    }
    programs
}

#[cfg(test)]
mod tests;
