//! Emptying a hash table of the kernel by `BPF_MAP_LOOKUP_AND_DELETE_BATCH` (Linux 5.6).
//!
//! aya has no batch calls. One costs 0.3 µs an entry where "next key, look up, delete" costs 2 to 6.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Pod, maps::MapData};

use super::{by_key, features::KernelFeature};

/// `bpf_cmd` of linux/bpf.h.
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;

/// Entries asked for at first: 330 kB of flows.
const FIRST_CHUNK: usize = 4096;

/// Times that a busy bucket may make us begin again; nobody else uses the table.
const BUSY_RETRIES: u32 = 100;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
struct Attr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Takes every entry out of the hash table `map` and hands it to `take`; key by key where the kernel has no batch
/// calls.
///
/// Entries that were handed over before an error are out of the table: the caller must keep them. A
/// table that nobody writes to is empty afterwards.
///
/// # Errors
/// What the kernel says, or `InvalidInput` for types of another size than the
/// map's.
pub fn drain<K: Pod + Default, V: Pod + Default>(
    map: &MapData,
    mut take: impl FnMut(K, V),
) -> io::Result<()> {
    if KernelFeature::Batch.hidden() {
        return by_key::drain(map, take);
    }
    by_key::same_sizes::<K, V>(map)?;
    let mut chunk = FIRST_CHUNK;
    let mut keys = vec![K::default(); chunk];
    let mut values = vec![V::default(); chunk];
    // The kernel's position: a bucket's number. Room for a key, in case it ever becomes one.
    let mut position = [0u64; 8];
    let mut started = false;
    let mut retries = BUSY_RETRIES;
    loop {
        let mut attr = Attr {
            in_batch: if started { position.as_ptr() as u64 } else { 0 },
            out_batch: position.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(chunk).unwrap_or(u32::MAX),
            map_fd: map.fd().as_fd().as_raw_fd().cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the pointers are to buffers of `count` keys and values of the map's own sizes (checked
        // above), alive during the call; `position` has room for the kernel's 4 bytes. The kernel reads
        // and writes size_of::<Attr>() bytes of `attr`.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_AND_DELETE_BATCH, &raw mut attr, size_of::<Attr>())
        };
        let error = (result < 0).then(io::Error::last_os_error);
        let code = error.as_ref().and_then(io::Error::raw_os_error);
        match (code, error) {
            // ENOENT comes with the last entries, ENOSPC with none. The lock of a bucket may be busy:
            // what came before it has been taken out all the same.
            (None | Some(libc::ENOENT | libc::ENOSPC), _) => {}
            (Some(libc::EBUSY | libc::EAGAIN | libc::EDEADLK | libc::EINTR), Some(error)) => {
                retries = match retries.checked_sub(1) {
                    Some(left) => left,
                    None => return Err(error),
                };
            }
            // A command that the kernel does not know.
            (Some(libc::EINVAL), _) if !started => return by_key::drain(map, take),
            (_, Some(error)) => return Err(error),
            (Some(_), None) => {}
        }
        let taken = (attr.count as usize).min(chunk);
        for (key, value) in keys.iter().zip(&values).take(taken) {
            take(*key, *value);
        }
        match code {
            None => started = true,
            Some(libc::ENOENT) => return Ok(()),
            Some(libc::ENOSPC) => {
                // A bucket holds more than there is room for. From the beginning again: what was taken
                // is gone from the table.
                chunk = chunk.saturating_mul(2);
                keys.resize(chunk, K::default());
                values.resize(chunk, V::default());
                started = false;
            }
            Some(_) => started = false,
        }
    }
}
