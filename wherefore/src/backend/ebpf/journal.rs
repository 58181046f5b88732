//! The keys that were put into the flow table, as the kernel programs noted them.

use wherefore_common::{
    FlowKey,
    tables::{JOURNAL_WHOLE, Noted, PLACES_A_KEY, journal_slots, part},
};

use super::mapped::Mapped;

/// The journal of all CPUs and both sets.
pub struct Journal {
    keys: Mapped<FlowKey>,
    noted: Mapped<Noted>,
    cpus: u32,
    table_size: u32,
}

impl Journal {
    /// Of the two maps, for so many CPUs and tables of so many flows.
    pub const fn new(keys: Mapped<FlowKey>, noted: Mapped<Noted>, cpus: u32, table_size: u32) -> Self {
        Self { keys, noted, cpus, table_size }
    }

    /// The keys in the flow table of a generation that has ended; `None` where they are too many to be taken out one by
    /// one, or not all known.
    pub fn keys(&self, generation: u32) -> Option<Vec<FlowKey>> {
        let places = places(generation, self.cpus, self.table_size, |place| self.noted.get(place))?;
        Some(places.into_iter().map(|place| self.keys.get(place)).collect())
    }
}

/// Where the keys of a generation are noted: as [`Journal::keys`], of what is at each place of the lengths.
fn places(generation: u32, cpus: u32, table_size: u32, noted: impl Fn(u32) -> Noted) -> Option<Vec<u32>> {
    let of = |place| Some(noted(place)).filter(|noted| noted.generation == generation);
    if of(generation & 1).is_some() {
        return None;
    }
    let slots = journal_slots(table_size);
    let mut left = table_size / PLACES_A_KEY;
    let mut places = Vec::new();
    for part in (0..cpus).map(|cpu| part(cpu, generation)) {
        let Some(Noted { keys, .. }) = of(JOURNAL_WHOLE + part) else { continue };
        left = left.checked_sub(keys)?;
        if keys > slots {
            return None;
        }
        places.extend(part * slots..part * slots + keys);
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four keys are few among so many places, and all that a part holds.
    const SIZE: u32 = 4 * PLACES_A_KEY;

    /// Of generation 7 and two CPUs; `lengths` by place: both sets' marks, then each CPU's two parts.
    fn of(lengths: [(u32, u32); 6]) -> Option<Vec<u32>> {
        places(7, 2, SIZE, |place| {
            let (generation, keys) = lengths[place as usize];
            Noted { generation, keys }
        })
    }

    #[test]
    fn few_keys_are_known_by_place() {
        // Set 1 counts; what earlier intervals noted, in either set, is no matter.
        assert_eq!(of([(6, 0), (5, 0), (6, 9), (7, 3), (6, 9), (7, 1)]), Some(vec![4, 5, 6, 12]));
        assert_eq!(of([(6, 0), (5, 0), (6, 9), (5, 9), (6, 9), (7, 4)]), Some(vec![12, 13, 14, 15]));
        assert_eq!(of([(0, 0); 6]), Some(vec![]));
    }

    #[test]
    fn many_keys_or_unknown_ones_are_not() {
        // Five on one CPU, on both together, and some on a CPU that has no part.
        assert_eq!(of([(0, 0), (0, 0), (0, 0), (7, 5), (0, 0), (0, 0)]), None);
        assert_eq!(of([(0, 0), (0, 0), (0, 0), (7, 3), (0, 0), (7, 2)]), None);
        assert_eq!(of([(0, 0), (7, u32::MAX), (0, 0), (7, 1), (0, 0), (7, 1)]), None);
    }

    #[test]
    fn a_small_table_is_looked_through() {
        let noted = |place| Noted { generation: if place < JOURNAL_WHOLE { 0 } else { 7 }, keys: 1 };
        assert_eq!(places(7, 1, PLACES_A_KEY - 1, noted), None);
        assert_eq!(places(7, 1, PLACES_A_KEY, noted), Some(vec![1]));
    }
}
