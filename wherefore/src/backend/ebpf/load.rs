//! From the object file to loaded programs and tables.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ArrayOfMaps, MapData, PerCpuArray},
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use aya_obj::generated::bpf_map_type;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use wherefore_common::{Amount, FlowCounters, FlowKey, UnaccountedKey, tables::UNACCOUNTED_ENTRIES};

use super::{Error, permission};

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
    /// The table of packets without a flow of each set.
    pub unaccounted: [MapData; 2],
    /// Where that table takes no more.
    pub fallback: PerCpuArray<MapData, Amount>,
}

/// Loads the object and makes its tables, `table_size` flows in each of two sets.
///
/// # Errors
/// [`Error::Permission`] with what is missing, else [`Error::System`].
pub fn load(table_size: u32, kernel_log: bool) -> Result<Loaded, Error> {
    // Before Linux 5.11 maps count against this limit. Later it is without effect, so failing is no news.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let failed =
        |error: &(dyn std::error::Error + 'static)| permission::explain("load the kernel programs", error);
    let coarse = u8::from(coarse_clock());
    let level = if kernel_log { LOG_ALL } else { LOG_OFF };
    let mut loader = EbpfLoader::new();
    loader.override_global("COARSE_CLOCK", &coarse, true).override_global("AYA_LOG_LEVEL", &level, true);
    if !kernel_log {
        loader.map_max_entries("AYA_LOGS", LOG_BUFFER_OFF);
    }
    let other = if cfg!(debug_assertions) { std::env::var_os(OBJECT_VARIABLE) } else { None };
    let mut ebpf = match other {
        Some(path) => loader.load_file(Path::new(&path)),
        None => loader.load(OBJECT),
    }
    .map_err(|error| failed(&error))?;
    let tables = tables(&mut ebpf, table_size)?;
    Ok(Loaded { ebpf, tables })
}

fn tables(ebpf: &mut Ebpf, table_size: u32) -> Result<Tables, Error> {
    let generation = Array::try_from(take(ebpf, "GENERATION")?)
        .map_err(|error| permission::explain("use the map GENERATION", &error))?;
    let fallback = PerCpuArray::try_from(take(ebpf, "FALLBACK")?)
        .map_err(|error| permission::explain("use the map FALLBACK", &error))?;
    let (flow_sets, flows) = sets::<FlowKey, FlowCounters>(ebpf, "FLOWS", "wherefore_flows", table_size)?;
    let (unaccounted_sets, unaccounted) =
        sets::<UnaccountedKey, Amount>(ebpf, "UNACCOUNTED", "wherefore_other", UNACCOUNTED_ENTRIES as u32)?;
    Ok(Tables { generation, flow_sets, unaccounted_sets, flows, unaccounted, fallback })
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

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, Error> {
    ebpf.take_map(name).ok_or_else(|| Error::System {
        action: "load the kernel programs".into(),
        reason: format!("the object has no map {name}: it was built from other sources"),
    })
}

/// Whether TC programs may call `bpf_ktime_get_coarse_ns` (Linux 5.11).
#[must_use]
pub fn coarse_clock() -> bool {
    is_helper_supported(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_ktime_get_coarse_ns)
        .unwrap_or(false)
}
