//! The programs at a TCX hook, by `BPF_PROG_QUERY`.
//!
//! aya's query also opens every program it finds, which takes `CAP_SYS_ADMIN`; the numbers alone are told to
//! `CAP_NET_ADMIN`, and they are enough to see who comes before whom.

use std::io;

use super::Way;

/// `BPF_MPROG_MAX`: more do not fit one hook.
const MOST: usize = 64;

/// The `query` member of `union bpf_attr`, whole: the kernel writes `revision` whatever size it is told.
#[repr(C)]
#[derive(Default)]
struct Attr {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Numbers of the programs in running order.
///
/// # Errors
/// What bpf(2) says: `EINVAL` from a kernel without TCX (before 6.6), `EPERM` without `CAP_NET_ADMIN`.
pub(super) fn programs(index: u32, way: Way) -> io::Result<Vec<u32>> {
    // linux/bpf.h
    const BPF_PROG_QUERY: libc::c_long = 16;
    const BPF_TCX_INGRESS: u32 = 46;
    const BPF_TCX_EGRESS: u32 = 47;
    let mut ids = vec![0u32; MOST];
    let mut attr = Attr {
        target_ifindex: index,
        attach_type: match way {
            Way::Ingress => BPF_TCX_INGRESS,
            Way::Egress => BPF_TCX_EGRESS,
        },
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MOST as u32,
        ..Attr::default()
    };
    // SAFETY: `prog_ids` points to `prog_cnt` numbers that outlive the call; the kernel reads and writes
    // size_of::<Attr>() bytes of `attr`, and nothing by the other pointers, which are null.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut attr, size_of::<Attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}
