//! What we count, held against the devices' own counters ([`crate::coverage`]), and said where it falls short.

use std::collections::{BTreeMap, BTreeSet};

use wherefore_common::Direction;

use super::{Hook, attach, order};
use crate::{
    backend::probe::{self, Attached, DeviceCounters, Way},
    coverage::{Counters, Counts, Coverage, Track, Verdict},
    snapshot::Snapshot,
    units::format_duration,
};

/// Counters of devices at one time, by interface; ingress, then egress.
pub type Readings = BTreeMap<u32, [Counters; 2]>;

/// The watched interfaces' devices.
pub struct Watch {
    /// `None` where the kernel gave no socket to ask with: then there is no coverage.
    counters: Option<DeviceCounters>,
    hook: Hook,
    least: f64,
    devices: BTreeMap<u32, Device>,
    /// That the counters could not be read was said.
    said: bool,
}

struct Device {
    /// At the end of the last interval; `None` where they could not be read.
    last: Option<[Counters; 2]>,
    tracks: [Track; 2],
    told: [Verdict; 2],
}

impl Watch {
    /// For devices of the calling thread's network namespace; `least` as of [`Track::add`].
    pub fn new(hook: Hook, least: f64) -> Self {
        let counters = DeviceCounters::new()
            .map_err(|error| tracing::warn!("coverage is not known: no netlink socket: {error}"))
            .ok();
        Self { counters, hook, least, devices: BTreeMap::new(), said: false }
    }

    /// The devices' counters now, without those of devices that are gone; `None` where the kernel does not tell,
    /// which is said once.
    pub fn read(&mut self, indexes: impl IntoIterator<Item = u32>) -> Option<Readings> {
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
    pub fn begin(&mut self, readings: Option<Readings>) {
        let Some(readings) = readings else {
            self.devices.values_mut().for_each(|device| device.last = None);
            return;
        };
        self.devices.retain(|index, _| readings.contains_key(index));
        for (index, last) in readings {
            let last = Some(last);
            self.devices.entry(index).and_modify(|device| device.last = last).or_insert_with(|| Device {
                last,
                tracks: [Direction::Ingress, Direction::Egress].map(Track::new),
                told: [Verdict::Fine; 2],
            });
        }
    }

    /// Takes what was read when the snapshot's interval ended, adds the coverage to the snapshot, and says each
    /// change. `own` are our programs at TC, by interface. An interval in which a device's counters went back, or that a device was not there for, has none.
    pub fn end(
        &mut self,
        readings: Option<Readings>,
        snapshot: &mut Snapshot,
        own: &BTreeMap<u32, BTreeSet<u32>>,
    ) {
        for (index, now) in readings.iter().flatten() {
            let Some(device) = self.devices.get_mut(index) else { continue };
            let Some(last) = device.last else { continue };
            for way in Way::ALL {
                let (at, direction) = (way as usize, direction(way));
                let Some((counted, dropped)) = now[at].since(&last[at]) else { continue };
                let place = (*index, direction as u8);
                let passed = snapshot.passed.get(&place).copied().unwrap_or_default();
                let counts = Counts {
                    length: snapshot.length,
                    seen: passed.seen,
                    all: passed.all,
                    device: counted,
                    dropped,
                };
                let coverage = device.tracks[at].add(&counts, self.least);
                snapshot.coverage.insert(place, coverage);
                let before = std::mem::replace(&mut device.told[at], coverage.verdict);
                if coverage.verdict != before {
                    let name = snapshot.interface_name(*index);
                    let own = own.get(index).cloned().unwrap_or_default();
                    let cause = || self.counters.as_ref().map(|c| cause(c, *index, way, self.hook, &own));
                    say(&name, way, &coverage, || cause().unwrap_or_default());
                }
            }
        }
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

/// `62.0% of what the device counts at ingress (6200 of 10000 packets in 62 s)`.
fn part(way: Way, coverage: &Coverage) -> String {
    let Coverage { unit, window, span, .. } = coverage;
    format!(
        "{:.1}% of what the device counts at {} ({} of {} {} in {})",
        window.share().unwrap_or_default() * 100.0,
        order::way(way),
        window.counted,
        window.device,
        unit.noun(),
        format_duration(*span),
    )
}

/// Why packets may be missing, and where to look.
fn cause(counters: &DeviceCounters, index: u32, way: Way, hook: Hook, own: &BTreeSet<u32>) -> String {
    // The one program at XDP is ours then, and there is none of ours at TC.
    let ours_at_xdp = way == Way::Ingress && attach::tc_ways(hook).len() == 1;
    let xdp = match way {
        Way::Ingress if !ours_at_xdp => counters.xdp(index).unwrap_or_default(),
        _ => Vec::new(),
    };
    let chain = if ours_at_xdp { None } else { probe::chain(index, way).ok() };
    likely(way, &with_names(xdp), chain.as_deref(), own)
}

fn with_names(mut programs: Vec<Attached>) -> Vec<Attached> {
    if !programs.is_empty() {
        let names = probe::program_names();
        programs.iter_mut().for_each(|program| program.take_name(&names));
    }
    programs
}

/// The likeliest cause: an XDP program, a program before ours in the chain (`None`: not known), or none that can be
/// seen from here.
fn likely(way: Way, xdp: &[Attached], chain: Option<&[Attached]>, own: &BTreeSet<u32>) -> String {
    if !xdp.is_empty() {
        let names: Vec<String> = xdp.iter().map(order::name).collect();
        return format!(
            "XDP runs {}: packets that it drops, redirects or hands to AF_XDP never come to TC",
            names.join(", ")
        );
    }
    let ours = |attached: &Attached| attached.id.is_some_and(|id| own.contains(&id));
    match chain.map(|chain| (chain, chain.iter().position(ours))) {
        Some((_, None)) => {
            return format!(
                "our program at {} was removed by somebody; a restart puts it back",
                order::way(way)
            );
        }
        Some((chain, Some(place))) => {
            let before = order::others(&chain[..place]);
            if !before.is_empty() {
                return format!(
                    "{} runs before our program: packets that it drops, redirects or passes with TC_ACT_OK never \
                     come to ours",
                    before.join(", ")
                );
            }
        }
        None => {}
    }
    let senders = match way {
        Way::Ingress => "",
        Way::Egress => "senders that skip TC (PACKET_QDISC_BYPASS, AF_XDP) and ",
    };
    format!(
        "no program is in the way; look for {senders}hardware offload (tc filters with skip_sw, Open vSwitch, an \
         eswitch)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::probe::Place;

    fn at(place: Place, id: u32, name: &str) -> Attached {
        Attached { place, id: Some(id), name: name.into(), priority: None, handle: None, leftover: false }
    }

    #[test]
    fn the_likeliest_cause_is_named() {
        let own = [7].into();
        let (ours, other) = (at(Place::TcxIngress, 7, "wherefore_in"), at(Place::TcxIngress, 9, "firewall"));
        let xdp = at(Place::XdpNative, 12, "drop");
        let both = [other, ours.clone()];
        let text = likely(Way::Ingress, &[xdp], Some(&both), &own);
        assert!(text.starts_with("XDP runs \"drop\" (program 12):"), "{text}");
        let text = likely(Way::Ingress, &[], Some(&both), &own);
        assert!(text.starts_with("\"firewall\" (program 9) runs before our program"), "{text}");
        let text = likely(Way::Egress, &[], Some(&both[..1]), &own);
        assert!(text.starts_with("our program at egress was removed"), "{text}");
        for (way, bypass) in [(Way::Ingress, false), (Way::Egress, true)] {
            for chain in [Some(std::slice::from_ref(&ours)), None] {
                let text = likely(way, &[], chain, &own);
                assert!(text.starts_with("no program is in the way"), "{text}");
                assert_eq!(text.contains("PACKET_QDISC_BYPASS"), bypass, "{text}");
            }
        }
    }
}
