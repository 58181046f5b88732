//! The kernel's CIDR filter: a trie of prefixes for each set of tables, replaced whole.
//!
//! A new filter begins with an interval: the set that will count next gets it before the generation changes, the
//! other one when nobody counts in it any more. So every interval is counted by one filter.

use aya::{
    Ebpf,
    maps::{Array, ArrayOfMaps, LpmTrie, Map, MapData, MapFd, lpm_trie::Key},
};
use aya_obj::generated::{BPF_F_NO_PREALLOC, bpf_map_type};
use wherefore_common::cidr::{EXCLUDES, INCLUDES, NONE, Prefix};

use super::{Error, load::take, permission::explain};
use crate::filter::{CidrFilter, Entry};

/// The filter's tables.
pub struct Cidr {
    tries: ArrayOfMaps<MapData, MapFd>,
    modes: Array<MapData, u32>,
    /// What the programs shall filter by, and which sets still filter by something else.
    wanted: (Vec<Entry>, u32),
    stale: [bool; 2],
}

impl Cidr {
    /// No filter yet.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let tries = ArrayOfMaps::try_from(take(ebpf, "CIDR")?)
            .map_err(|error| explain("use the map CIDR", &error))?;
        let modes = Array::try_from(take(ebpf, "CIDR_MODE")?)
            .map_err(|error| explain("use the map CIDR_MODE", &error))?;
        Ok(Self { tries, modes, wanted: (Vec::new(), NONE), stale: [false; 2] })
    }

    /// Filters by `filter` from the next interval on.
    pub fn replace(&mut self, filter: &CidrFilter) {
        let mode = match (filter.include.is_empty(), filter.exclude.is_empty()) {
            (true, true) => NONE,
            (true, false) => EXCLUDES,
            (false, _) => INCLUDES,
        };
        self.wanted = (filter.entries(), mode);
        self.stale = [true; 2];
    }

    /// Brings the filter into a set that nobody counts in.
    ///
    /// # Errors
    /// [`Error::System`]; the set keeps the filter it had, and the next call tries again.
    pub fn bring(&mut self, set: u32) -> Result<(), Error> {
        let Some(stale) = self.stale.get_mut(set as usize).filter(|stale| **stale) else { return Ok(()) };
        let (entries, mode) = &self.wanted;
        let failed = |error: &(dyn std::error::Error + 'static)| explain("change the CIDR filter", error);
        let trie = trie(entries)?;
        self.tries.set(set, trie.fd(), 0).map_err(|error| failed(&error))?;
        self.modes.set(set, mode, 0).map_err(|error| failed(&error))?;
        *stale = false;
        Ok(())
    }
}

fn trie(entries: &[Entry]) -> Result<MapData, Error> {
    let action = || format!("make a CIDR filter of {} prefixes", entries.len());
    let shape = aya_obj::Map::new_from_params(
        bpf_map_type::BPF_MAP_TYPE_LPM_TRIE as u32,
        size_of::<Key<Prefix>>() as u32,
        size_of::<u32>() as u32,
        u32::try_from(entries.len()).unwrap_or(u32::MAX).max(1),
        BPF_F_NO_PREALLOC,
    );
    let data = MapData::create(shape, "wherefore_cidr", None).map_err(|error| explain(&action(), &error))?;
    let mut map = Map::LpmTrie(data);
    let mut trie: LpmTrie<_, Prefix, u32> =
        LpmTrie::try_from(&mut map).map_err(|error| explain(&action(), &error))?;
    for Entry { length, prefix, lists } in entries {
        trie.insert(&Key::new(*length, *prefix), lists, 0).map_err(|error| explain(&action(), &error))?;
    }
    match map {
        Map::LpmTrie(data) => Ok(data),
        _ => Err(Error::System { action: action(), reason: "the map changed its type".into() }),
    }
}
