use super::*;
use crate::snapshot::Passed;

/// A backend that counts on interface 1 at ingress.
struct Ingress(Description);

impl Backend for Ingress {
    fn description(&self) -> &Description {
        &self.0
    }

    fn is_live(&self) -> bool {
        true
    }

    fn poll(&mut self) -> Result<Option<Snapshot>, Error> {
        Ok(None)
    }
}

impl Counted for Ingress {
    fn places(&self) -> BTreeSet<(u32, u8)> {
        [PLACE].into()
    }

    fn before_queue(&self) -> bool {
        true
    }

    fn cause(&self, _: &DeviceCounters, _: u32, _: Way, _: &Coverage) -> String {
        String::new()
    }
}

const PLACE: (u32, u8) = (1, Direction::Ingress as u8);

const fn amount(packets: u64) -> Amount {
    Amount { packets, wire_bytes: packets * 100 }
}

/// Counters of the device, as many each way.
fn readings(packets: u64) -> Readings {
    [(1, [Counters { passed: amount(packets), ..Counters::default() }; 2])].into()
}

fn watch() -> Watch {
    Watch { counters: None, least: 0.95, devices: BTreeMap::new(), said: false }
}

/// Five seconds in which `packets` were counted.
fn counted(packets: u64) -> Snapshot {
    let passed = Passed { seen: amount(packets), all: amount(packets), ..Passed::default() };
    let length = std::time::Duration::from_secs(5);
    Snapshot { length, passed: [(PLACE, passed)].into(), ..Snapshot::default() }
}

fn end(watch: &mut Watch, device: u64, mut snapshot: Snapshot) -> Coverage {
    let backend = Ingress(Description::default());
    watch.end(Some(readings(device)), &mut snapshot, &backend.places(), &backend);
    assert_eq!(snapshot.coverage.len(), 1, "{snapshot:?}");
    snapshot.coverage[&PLACE]
}

#[test]
fn both_edges_of_a_run_of_one_interval_are_of_it() {
    let mut watch = watch();
    watch.begin(Some(readings(130)));
    watch.edges(&readings(100), &readings(130));
    watch.edges(&readings(1130), &readings(1140));
    let coverage = end(&mut watch, 1130, counted(1040));
    assert_eq!((coverage.interval.device, coverage.interval.edges), (1000, 40));
    assert_eq!((coverage.window.missing(), coverage.window.ratio()), (0, Some(1.0)));
}

#[test]
fn an_edge_is_of_the_interval_beside_it_alone() {
    let mut watch = watch();
    watch.begin(Some(readings(130)));
    watch.edges(&readings(100), &readings(130));
    // The device began anew, so that this one has no coverage.
    let backend = Ingress(Description::default());
    let mut snapshot = counted(1000);
    watch.end(Some(readings(10)), &mut snapshot, &backend.places(), &backend);
    assert!(snapshot.coverage.is_empty(), "{snapshot:?}");
    assert_eq!(end(&mut watch, 1010, counted(1000)).interval.edges, 0);
}

#[test]
fn what_is_lost_or_merged_elsewhere_explains_nothing_here() {
    let elsewhere = [(1, Direction::Egress as u8), (2, Direction::Ingress as u8)];
    let with = |place| {
        let mut watch = watch();
        watch.begin(Some(readings(0)));
        let mut snapshot = counted(940);
        snapshot.dropped.insert(place, 60);
        snapshot.passed.entry(place).or_default().estimated = amount(940);
        end(&mut watch, 1000, snapshot)
    };
    for coverage in elsewhere.map(with) {
        assert_eq!((coverage.unit, coverage.lost), (crate::coverage::Unit::HandedOver, 0), "{coverage:?}");
    }
    let coverage = with(PLACE);
    // In bytes, of which the packets here have 100 each.
    assert_eq!((coverage.unit, coverage.lost), (crate::coverage::Unit::Bytes, 6000), "{coverage:?}");
}
