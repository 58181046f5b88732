//! The keys that were put into the flow table, as the kernel programs noted them.

use wherefore_common::{
    FlowKey,
    tables::{JOURNAL_SLOTS, JOURNAL_WHOLE, Noted, part},
};

use super::mapped::Mapped;

/// Places of the table that are looked through in the time that one key takes to be taken out.
const PLACES_A_KEY: usize = 1024;

/// The journal of all CPUs and both sets.
pub struct Journal {
    keys: Mapped<FlowKey>,
    noted: Mapped<Noted>,
    cpus: u32,
}

impl Journal {
    /// Of the two maps, for so many CPUs.
    pub const fn new(keys: Mapped<FlowKey>, noted: Mapped<Noted>, cpus: u32) -> Self {
        Self { keys, noted, cpus }
    }

    /// The keys in the flow table of a generation that has ended; `None` where they are too many for taking them one
    /// by one out of a table of `table_size` places, or not all known.
    pub fn keys(&self, generation: u32, table_size: u32) -> Option<Vec<FlowKey>> {
        if self.noted.get(generation & 1).generation == generation {
            return None;
        }
        let mut keys = Vec::new();
        for cpu in 0..self.cpus {
            let part = part(cpu, generation);
            let noted = self.noted.get(JOURNAL_WHOLE + part);
            if noted.generation != generation {
                continue;
            }
            if noted.keys > JOURNAL_SLOTS
                || (keys.len() + noted.keys as usize) * PLACES_A_KEY > table_size as usize
            {
                return None;
            }
            let first = part * JOURNAL_SLOTS;
            keys.extend((first..first + noted.keys).map(|place| self.keys.get(place)));
        }
        Some(keys)
    }
}
