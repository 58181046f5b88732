//! What was sent against what was counted. Pure.

use std::collections::BTreeMap;

use wherefore_common::{Direction, Reason};

use super::traffic::{Count, Parcel, Place};
use crate::snapshot::Snapshot;

/// What a backend promises of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Each frame as on the wire.
    Wire,
    /// A super-frame may be one packet of unknown segments, marked as such.
    Marked,
    /// A super-frame may be one packet of unknown segments.
    Merged,
}

impl Promise {
    /// Whether this is what was promised of packets that are `wire` on the wire and `merged` to who sees super-frames.
    fn keeps(self, counted: Count, wire: Count, merged: Count) -> bool {
        counted == wire
            || match self {
                Self::Wire => false,
                Self::Marked => counted == merged,
                Self::Merged => counted == merged || counted == Count { estimated: 0, ..merged },
            }
    }
}

/// Counts by direction and place.
pub type Counts = BTreeMap<(Direction, Place), Count>;

/// A kind of traffic that was counted otherwise than it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What, in words.
    pub traffic: String,
    /// Which way.
    pub direction: Direction,
    /// What was sent.
    pub sent: Count,
    /// What was counted.
    pub counted: Count,
}

/// Adds an interval to `counts`.
pub fn add(counts: &mut Counts, snapshot: &Snapshot) {
    for flow in &snapshot.flows {
        let key = &flow.key;
        let place = Place::of(key.family, key.src, key.dst, key.proto, (key.sport, key.dport));
        counts.entry((flow.direction(), place)).or_default().add(Count {
            packets: flow.counters.packets,
            wire_bytes: flow.counters.wire_bytes,
            ip_bytes: flow.counters.ip_bytes,
            estimated: flow.counters.estimated,
        });
    }
    for (key, amount) in &snapshot.unaccounted {
        let place = Reason::from_u8(key.reason).map_or(Place::Strange, Place::None);
        counts.entry((Direction::from_u8(key.direction), place)).or_default().add(Count {
            packets: amount.packets,
            wire_bytes: amount.wire_bytes,
            ..Count::default()
        });
    }
}

/// What `counts` has in one direction otherwise than `parcels`.
pub fn differences(
    parcels: &[Parcel],
    counts: &Counts,
    direction: Direction,
    promise: Promise,
) -> Vec<Difference> {
    let mut sent: BTreeMap<Place, (&str, Count, Count)> = BTreeMap::new();
    for parcel in parcels {
        let entry = sent.entry(parcel.place).or_insert((parcel.name, Count::default(), Count::default()));
        entry.1.add(parcel.on_the_wire());
        entry.2.add(parcel.merged());
    }
    let mut found = Vec::new();
    for (place, (name, wire, merged)) in &sent {
        let counted = counts.get(&(direction, *place)).copied().unwrap_or_default();
        if !promise.keeps(counted, *wire, *merged) {
            found.push(Difference { traffic: (*name).to_owned(), direction, sent: *wire, counted });
        }
    }
    for ((way, place), counted) in counts {
        if *way == direction && !sent.contains_key(place) {
            let traffic = match place {
                Place::Flow { proto, ports: (from, to), family } => {
                    format!("nothing that was sent: IPv{family}, protocol {proto}, ports {from} and {to}")
                }
                Place::None(reason) => format!("nothing that was sent: {}", reason.name()),
                Place::Strange => "nothing that was sent: other addresses".to_owned(),
            };
            found.push(Difference { traffic, direction, sent: Count::default(), counted: *counted });
        }
    }
    found
}

/// All of one direction.
pub fn sum(counts: &Counts, direction: Direction) -> Count {
    let mut sum = Count::default();
    counts.iter().filter(|((way, _), _)| *way == direction).for_each(|(_, count)| sum.add(*count));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selftest::traffic;

    fn counted(parcels: &[Parcel], merged: bool) -> Counts {
        let mut counts = Counts::new();
        for parcel in parcels {
            let count = if merged { parcel.merged() } else { parcel.on_the_wire() };
            counts.entry((Direction::Egress, parcel.place)).or_default().add(count);
        }
        counts
    }

    #[test]
    fn what_was_sent_agrees_and_a_byte_less_does_not() {
        let parcels = traffic::all();
        let mut counts = counted(&parcels, false);
        assert_eq!(differences(&parcels, &counts, Direction::Egress, Promise::Wire), []);
        assert_eq!(differences(&parcels, &counts, Direction::Egress, Promise::Merged), []);
        let place = parcels[1].place;
        counts.get_mut(&(Direction::Egress, place)).unwrap().ip_bytes -= 1;
        let found = differences(&parcels, &counts, Direction::Egress, Promise::Wire);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].traffic, parcels[1].name);
        assert_eq!(found[0].sent.ip_bytes, found[0].counted.ip_bytes + 1);
    }

    #[test]
    fn super_frames_as_one_packet_are_right_only_where_nobody_promised_more() {
        let parcels = traffic::all();
        let counts = counted(&parcels, true);
        for promise in [Promise::Marked, Promise::Merged] {
            assert_eq!(differences(&parcels, &counts, Direction::Egress, promise), []);
        }
        let found = differences(&parcels, &counts, Direction::Egress, Promise::Wire);
        assert_eq!(
            found.len(),
            parcels.iter().filter(|parcel| parcel.merged() != parcel.on_the_wire()).count()
        );
    }

    #[test]
    fn a_missing_mark_is_told_where_it_was_promised() {
        let parcels = traffic::all();
        let mut counts = counted(&parcels, true);
        counts.values_mut().for_each(|count| count.estimated = 0);
        assert_eq!(differences(&parcels, &counts, Direction::Egress, Promise::Merged), []);
        assert!(!differences(&parcels, &counts, Direction::Egress, Promise::Marked).is_empty());
    }

    #[test]
    fn what_nobody_sent_is_told() {
        let parcels = traffic::all();
        let mut counts = counted(&parcels, false);
        let extra = Count { packets: 1, wire_bytes: 60, ..Count::default() };
        counts.insert((Direction::Egress, Place::None(Reason::TableFull)), extra);
        let found = differences(&parcels, &counts, Direction::Egress, Promise::Wire);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].traffic.as_str(), found[0].counted),
            ("nothing that was sent: table_full", extra)
        );
    }
}
