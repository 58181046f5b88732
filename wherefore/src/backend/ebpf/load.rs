//! From the object file to loaded programs and tables.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ArrayOfMaps, MapData, PerCpuArray, ProgramArray},
    programs::{Program, ProgramError, ProgramFd},
    util::nr_cpus,
};
use aya_obj::generated::bpf_map_type;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use wherefore_common::{
    Amount, Extra, FlowKey, Stored, Totals, UnaccountedKey,
    cache::{Aside, Slot},
    tables::{JOURNAL_WHOLE, TOTALS_SLOTS, UNACCOUNTED_ENTRIES, journal_slots},
};

use super::{
    Error, cidr::Cidr, clock::Clock, features::uninterrupted, journal::Journal, mapped::Mapped, permission,
};
use crate::backend::probe::os_error;

/// The kernel programs, built by `cargo xtask bpf` from `wherefore-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("wherefore.bpf.o");

/// Names another object to load instead, so that the tests can try one before it is committed. Heeded in
/// debug builds only: an installed binary has capabilities that whoever calls it has not.
pub const OBJECT_VARIABLE: &str = "WHEREFORE_BPF_OBJECT";

/// aya-log's level that lets nothing through; its levels begin at 1.
const LOG_OFF: u8 = 0;
const LOG_ALL: u8 = u8::MAX;
/// The log's ring buffer when nothing is logged: the smallest there is.
const LOG_BUFFER_OFF: u32 = 4096;

/// Slots of the write-combining cache for each CPU and set, as a power of two: those of one set take half of
/// a second-level cache of 512 KiB.
const CACHE_BITS: u8 = 12;
/// Where the caches of all CPUs would take more bytes than this, each is made smaller.
const CACHE_LIMIT: usize = 64 << 20;

/// What the programs do for each packet. Each can be left out, which is how its cost is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Count what passes by interface and direction, but for what the cache holds.
    pub totals: bool,
    /// Count super-frames as the frames they stand for.
    pub offload: bool,
    /// Count tags that lie outside the data.
    pub tag: bool,
    /// Ask for the socket's cookie of flows that leave.
    pub cookie: bool,
    /// Combine in a cache per CPU what goes to the tables. Never on `PREEMPT_RT`, where the programs of one CPU
    /// may interrupt each other.
    pub cache: bool,
    /// Be ready for a CIDR filter.
    pub cidr: bool,
    /// Mark packets beyond the MTU in the XDP program: where it runs behind receive offload (generic mode).
    pub estimate: bool,
    /// Print the programs' own debug messages.
    pub log: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            totals: true,
            offload: true,
            tag: true,
            cookie: false,
            cache: true,
            cidr: true,
            estimate: false,
            log: false,
        }
    }
}

/// The loaded object: programs that are not attached yet, and their tables.
pub struct Loaded {
    /// The programs; also keeps the maps they use.
    pub ebpf: Ebpf,
    /// The tables.
    pub tables: Tables,
}

/// The tables user space reads and writes.
pub struct Tables {
    /// The word that chooses the set.
    pub generation: Array<MapData, u32>,
    /// The map of maps of the flows, for the grace period.
    pub flow_sets: ArrayOfMaps<MapData, aya::maps::MapFd>,
    /// The same of the packets without a flow. Programs refer to maps by descriptor until each is
    /// loaded, so it must stay open.
    pub unaccounted_sets: ArrayOfMaps<MapData, aya::maps::MapFd>,
    /// The flow table of each set.
    pub flows: [MapData; 2],
    /// What few flows have besides, of each set.
    pub extras: [MapData; 2],
    /// The table of packets without a flow of each set.
    pub unaccounted: [MapData; 2],
    /// Where that table takes no more.
    pub fallback: PerCpuArray<MapData, Amount>,
    /// The write-combining caches.
    pub cache: Mapped<Slot>,
    /// The rest of their slots.
    pub aside: Mapped<Aside>,
    /// Slots of one CPU's cache in each set, as a power of two; 0: there is no cache.
    pub cache_bits: u8,
    /// What passed and is in no slot of the cache.
    pub totals: Mapped<Totals>,
    /// Keys that are in the flow tables.
    pub journal: Option<Journal>,
    /// Registers of both sets that estimate how many flows found no room.
    pub lost: Mapped<u64>,
    /// CPUs there may be.
    pub cpus: u32,
    /// Times in the tables.
    pub clock: Clock,
    /// The CIDR filter.
    pub cidr: Cidr,
    // Programs refer to these by descriptor until each is loaded.
    _arrays: [aya::maps::Map; 6],
    _extra_sets: ArrayOfMaps<MapData, aya::maps::MapFd>,
}

/// Loads the object and makes its tables, `table_size` flows in each of two sets.
///
/// # Errors
/// [`Error::Permission`] with what is missing, else [`Error::System`].
pub fn load(table_size: u32, features: &Features) -> Result<Loaded, Error> {
    // Before Linux 5.11 maps count against this limit. Later it is without effect, so failing is no news.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let failed =
        |error: &(dyn std::error::Error + 'static)| permission::explain("load the kernel programs", error);
    let cpus = u32::try_from(nr_cpus().map_err(|(_, error)| permission::explain("count the CPUs", &error))?)
        .unwrap_or(1);
    let per_cpu = uninterrupted();
    if !per_cpu {
        tracing::info!("this kernel is PREEMPT_RT: packets are counted without a cache per CPU");
    }
    let cache_bits = if features.cache && per_cpu { cache_bits(cpus) } else { 0 };
    let cache_slots = if cache_bits == 0 { 1 } else { (2 * cpus) << cache_bits };
    let totals_slots = if per_cpu { 2 * cpus * TOTALS_SLOTS } else { 1 };
    let globals = [
        ("AYA_LOG_LEVEL", if features.log { LOG_ALL } else { LOG_OFF }),
        ("ESTIMATE_ON", u8::from(features.estimate)),
        ("LOG_ON", u8::from(features.log)),
        ("CACHE_BITS", cache_bits),
        ("PER_CPU", u8::from(per_cpu)),
        ("TOTALS_ON", u8::from(features.totals)),
        ("OFFLOAD_ON", u8::from(features.offload)),
        ("TAG_ON", u8::from(features.tag)),
        ("COOKIE_ON", u8::from(features.cookie)),
        ("CIDR_FILTER", u8::from(features.cidr)),
    ];
    let mut loader = EbpfLoader::new();
    for (name, value) in &globals {
        loader.override_global(name, value, true);
    }
    let (parts, slots) = if per_cpu { (2 * cpus, journal_slots(table_size)) } else { (1, 0) };
    loader.override_global("JOURNAL_SLOTS", &slots, true);
    for (table, slots) in [
        ("CACHE", cache_slots),
        ("ASIDE", cache_slots),
        ("TOTALS", totals_slots),
        ("JOURNAL", (parts * slots).max(1)),
        ("NOTED", JOURNAL_WHOLE + parts),
    ] {
        loader.map_max_entries(table, slots);
    }
    if !features.log {
        loader.map_max_entries("AYA_LOGS", LOG_BUFFER_OFF);
    }
    let other = if cfg!(debug_assertions) { std::env::var_os(OBJECT_VARIABLE) } else { None };
    let mut ebpf = match other {
        Some(path) => loader.load_file(Path::new(&path)),
        None => loader.load(OBJECT),
    }
    .map_err(|error| failed(&error))?;
    let extras = features.estimate || features.cookie;
    let tables = tables(&mut ebpf, table_size, extras, cpus, (cache_bits, per_cpu))?;
    Ok(Loaded { ebpf, tables })
}

/// Where a program sends what it does not count itself: program array, place in it, and the program there.
const RESTS: [(&str, &str, u32, &str); 3] = [
    ("wherefore_in", "REST", 0, "wherefore_irest"),
    ("wherefore_out", "REST", 1, "wherefore_orest"),
    ("wherefore_xdp", "XDP_REST", 0, "wherefore_xrest"),
];

/// Hands a program to the kernel, unless that was done; after the one that it sends packets to.
///
/// # Errors
/// [`Error::Permission`], or [`Error::System`] with the end of the verifier's protocol.
pub fn program(ebpf: &mut Ebpf, name: &str) -> Result<(), Error> {
    if let Some((_, array, place, rest)) = RESTS.iter().find(|(of, ..)| *of == name) {
        one_program(ebpf, rest)?;
        let failed = |error: &dyn std::fmt::Display| Error::System {
            action: format!("make {name} send packets to {rest}"),
            reason: error.to_string(),
        };
        let fd = program_fd(ebpf, rest)
            .and_then(|fd| fd.try_clone().map_err(ProgramError::IOError))
            .map_err(|error| failed(&error))?;
        let map = ebpf.map_mut(array).ok_or_else(|| failed(&"the object was built from other sources"))?;
        let mut places = ProgramArray::try_from(map).map_err(|error| failed(&error))?;
        places.set(*place, &fd, 0).map_err(|error| failed(&error))?;
    }
    one_program(ebpf, name)
}

/// Times a program is handed over before that counts as refused.
const TRIES: u32 = 5;

/// Hands this one program to the kernel.
///
/// # Errors
/// As [`program`].
pub(super) fn one_program(ebpf: &mut Ebpf, name: &str) -> Result<(), Error> {
    let mut load = || match ebpf.program_mut(name) {
        Some(Program::SchedClassifier(program)) => program.load(),
        Some(Program::Xdp(program)) => program.load(),
        _ => Err(ProgramError::NotLoaded),
    };
    let mut loaded = load();
    for _ in 1..TRIES {
        match &loaded {
            // The verifier gives up where a signal waits for the thread (`do_check`).
            Err(error) if os_error(error) == Some(libc::EAGAIN) => loaded = load(),
            _ => break,
        }
    }
    match loaded {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(error) => Err(permission::explain(&format!("load the kernel program {name}"), &error)),
    }
}

fn program_fd<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a ProgramFd, ProgramError> {
    match ebpf.program(name) {
        Some(Program::SchedClassifier(program)) => program.fd(),
        Some(Program::Xdp(program)) => program.fd(),
        _ => Err(ProgramError::NotLoaded),
    }
}

/// The size of each CPU's cache that keeps all of them within [`CACHE_LIMIT`].
fn cache_bits(cpus: u32) -> u8 {
    let all = |bits: u8| (2 * cpus as usize * (size_of::<Slot>() + size_of::<Aside>())) << bits;
    (1..=CACHE_BITS).rev().find(|bits| all(*bits) <= CACHE_LIMIT).unwrap_or(0)
}

fn tables(
    ebpf: &mut Ebpf,
    table_size: u32,
    extras: bool,
    cpus: u32,
    (cache_bits, per_cpu): (u8, bool),
) -> Result<Tables, Error> {
    let generation = Array::try_from(take(ebpf, ".data.generation")?)
        .map_err(|error| permission::explain("use the map of the generation", &error))?;
    let fallback = PerCpuArray::try_from(take(ebpf, "FALLBACK")?)
        .map_err(|error| permission::explain("use the map FALLBACK", &error))?;
    let (flow_sets, flows) = sets::<FlowKey, Stored>(ebpf, "FLOWS", "wherefore_flows", table_size)?;
    let extras = if extras { table_size } else { 1 };
    let (extra_sets, extras) = sets::<FlowKey, Extra>(ebpf, "EXTRAS", "wherefore_extra", extras)?;
    let (unaccounted_sets, unaccounted) =
        sets::<UnaccountedKey, Amount>(ebpf, "UNACCOUNTED", "wherefore_other", UNACCOUNTED_ENTRIES as u32)?;
    let arrays = [
        take(ebpf, "CACHE")?,
        take(ebpf, "ASIDE")?,
        take(ebpf, "TOTALS")?,
        take(ebpf, "LOST")?,
        take(ebpf, "JOURNAL")?,
        take(ebpf, "NOTED")?,
    ];
    Ok(Tables {
        generation,
        flow_sets,
        unaccounted_sets,
        flows,
        unaccounted,
        extras,
        fallback,
        cache: mapped(&arrays[0])?,
        cache_bits,
        aside: mapped(&arrays[1])?,
        totals: mapped(&arrays[2])?,
        lost: mapped(&arrays[3])?,
        journal: if per_cpu {
            Some(Journal::new(mapped(&arrays[4])?, mapped(&arrays[5])?, cpus, table_size))
        } else {
            None
        },
        cpus,
        clock: Clock::new(ebpf)?,
        cidr: Cidr::new(ebpf)?,
        _arrays: arrays,
        _extra_sets: extra_sets,
    })
}

fn mapped<T: aya::Pod>(map: &aya::maps::Map) -> Result<Mapped<T>, Error> {
    let failed = |reason: String| Error::System { action: "map a kernel table into memory".into(), reason };
    match map {
        aya::maps::Map::Array(data) => Mapped::new(data).map_err(|error| failed(error.to_string())),
        _ => Err(failed("it is no array: the object was built from other sources".into())),
    }
}

/// Two tables for the map of maps `outer`.
fn sets<K, V>(
    ebpf: &mut Ebpf,
    outer: &str,
    name: &str,
    entries: u32,
) -> Result<(ArrayOfMaps<MapData, aya::maps::MapFd>, [MapData; 2]), Error> {
    let create = || {
        let shape = aya_obj::Map::new_from_params(
            bpf_map_type::BPF_MAP_TYPE_HASH as u32,
            size_of::<K>() as u32,
            size_of::<V>() as u32,
            entries,
            0,
        );
        MapData::create(shape, name, None).map_err(|error| {
            permission::explain(&format!("make a kernel table of {entries} entries"), &error)
        })
    };
    let tables = [create()?, create()?];
    let mut sets = ArrayOfMaps::<_, aya::maps::MapFd>::try_from(take(ebpf, outer)?)
        .map_err(|error| permission::explain(&format!("use the map {outer}"), &error))?;
    for (index, table) in (0..).zip(&tables) {
        sets.set(index, table.fd(), 0)
            .map_err(|error| permission::explain(&format!("fill the map {outer}"), &error))?;
    }
    Ok((sets, tables))
}

/// A map of the object, which must stay open until every program that uses it is loaded.
///
/// # Errors
/// [`Error::System`] where there is none of that name.
pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, Error> {
    ebpf.take_map(name).ok_or_else(|| Error::System {
        action: "load the kernel programs".into(),
        reason: format!("the object has no map {name}: it was built from other sources"),
    })
}
