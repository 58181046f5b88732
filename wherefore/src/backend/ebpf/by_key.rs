//! Emptying a hash table of the kernel key by key, where it has no batch calls: 2 to 6 µs an entry instead of 0.3.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Once,
};

use aya::{Pod, maps::MapData};

/// `bpf_cmd` of linux/bpf.h.
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;

/// The member of `union bpf_attr` for single elements.
#[repr(C)]
struct Attr {
    map_fd: u32,
    pad: u32,
    key: u64,
    /// Where the value or the next key goes.
    value: u64,
    flags: u64,
}

/// As [`super::batch::drain`], for a table that nobody else uses. Says once that it is so.
///
/// # Errors
/// What the kernel says.
pub fn drain<K: Pod + Default, V: Pod + Default>(
    map: &MapData,
    mut take: impl FnMut(K, V),
) -> io::Result<()> {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            "this kernel has no batch calls (Linux 5.6): tables are emptied key by key, ten times slower"
        );
    });
    same_sizes::<K, V>(map)?;
    let mut next = next_key::<K>(map, None)?;
    while let Some(key) = next {
        // Before the key goes: of one that is gone the next is the first.
        next = next_key(map, Some(&key))?;
        take(key, remove(map, &key)?);
    }
    Ok(())
}

/// Takes the entries of these keys out of the table `map`, which nobody else uses, and hands them to `take`. Whether all
/// were there: one that is not may have been handed over before, by a call that then failed.
///
/// # Errors
/// What the kernel says.
pub fn take<K: Pod, V: Pod + Default>(
    map: &MapData,
    keys: &[K],
    mut take: impl FnMut(K, V),
) -> io::Result<bool> {
    same_sizes::<K, V>(map)?;
    let mut all = true;
    for key in keys {
        match remove(map, key) {
            Ok(value) => take(*key, value),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => all = false,
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Compares the sizes of key and value with the map's.
pub(super) fn same_sizes<K, V>(map: &MapData) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    if (info.key_size() as usize, info.value_size() as usize) == (size_of::<K>(), size_of::<V>()) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "key or value of another size"))
    }
}

fn remove<K: Pod, V: Pod + Default>(map: &MapData, key: &K) -> io::Result<V> {
    let mut value = V::default();
    match call(map, BPF_MAP_LOOKUP_AND_DELETE_ELEM, Some(key), Some(&mut value)) {
        Ok(()) => return Ok(value),
        // Before Linux 5.14 hash tables do not know it; ENOTSUPP is no number of user space.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | 524)) => {}
        Err(error) => return Err(error),
    }
    call(map, BPF_MAP_LOOKUP_ELEM, Some(key), Some(&mut value))?;
    call::<K, V>(map, BPF_MAP_DELETE_ELEM, Some(key), None)?;
    Ok(value)
}

/// The key after `key`, or the first; `None` behind the last.
fn next_key<K: Pod + Default>(map: &MapData, key: Option<&K>) -> io::Result<Option<K>> {
    let mut next = K::default();
    match call(map, BPF_MAP_GET_NEXT_KEY, key, Some(&mut next)) {
        Ok(()) => Ok(Some(next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One of the commands. `K` is of the map's key size; `out` of its value size, or for the next key of its key
/// size.
fn call<K: Pod, O: Pod>(
    map: &MapData,
    command: libc::c_long,
    key: Option<&K>,
    out: Option<&mut O>,
) -> io::Result<()> {
    let attr = Attr {
        map_fd: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        pad: 0,
        key: key.map_or(0, |key| std::ptr::from_ref(key) as u64),
        value: out.map_or(0, |out| std::ptr::from_mut(out) as u64),
        flags: 0,
    };
    // SAFETY: the kernel reads a key at `key` (none where it is null, which only the next key allows) and writes a
    // value or key at `value`, of the sizes that `same_sizes` compared with the map's; both references outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attr, size_of::<Attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
