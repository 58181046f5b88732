//! Directions sorted out in the kernel, and packets cut there.
//!
//! libpcap's own `pcap_setdirection` drops the other direction's packets in user space, after the kernel
//! copied them: two handles copy everything twice, and each one's drops count packets it never wanted. So
//! the direction is the socket's filter. It also says how much of a packet is copied: without a filter the kernel
//! puts whole packets into the ring, and libpcap cuts them there.
//!
//! libpcap's `inbound`/`outbound` would do the same, but after `pcap_setfilter` it filters the first block
//! of the ring in user space, where the packet's type cannot be read: it would reject that block.

use std::{io, os::fd::AsRawFd};

use libc::{sock_filter, sock_fprog};
use wherefore_common::Direction;

/// `SKF_AD_OFF + SKF_AD_PKTTYPE` of `linux/filter.h`: the packet's type as a load offset.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;

/// Restricts a packet socket to one direction, and what is kept of each packet to `snaplen` bytes; any filter
/// that it has is replaced.
///
/// # Errors
/// What the kernel said; the socket's filter is then what it was.
pub fn restrict(socket: &impl AsRawFd, direction: Direction, snaplen: u32) -> io::Result<()> {
    attach(socket, &mut only(direction, snaplen))
}

fn only(direction: Direction, snaplen: u32) -> [sock_filter; 4] {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let outgoing = u32::from(libc::PACKET_OUTGOING);
    // Over the refusal when the packet goes the wanted way.
    let (jt, jf) = if direction == Direction::Egress { (1, 0) } else { (0, 1) };
    [
        instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, PACKET_TYPE),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, outgoing),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, snaplen),
    ]
}

fn attach(socket: &impl AsRawFd, program: &mut [sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let fprog = sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: `fprog` points to `len` instructions, which the kernel copies during the call and verifies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const fprog).cast(),
            size_of::<sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
