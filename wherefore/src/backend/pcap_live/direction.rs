//! Directions sorted out in the kernel.
//!
//! libpcap's own `pcap_setdirection` drops the other direction's packets in user space, after the kernel
//! copied them: two handles copy everything twice, and each one's drops count packets it never wanted. So
//! the direction becomes part of the socket's filter, in front of what libpcap attached for `-f`.
//!
//! libpcap's `inbound`/`outbound` would do the same, but after `pcap_setfilter` it filters the first block
//! of the ring in user space, where the packet's type cannot be read: it would reject that block.

use std::{io, os::fd::AsRawFd};

use libc::{sock_filter, sock_fprog};
use wherefore_common::Direction;

/// `SKF_AD_OFF + SKF_AD_PKTTYPE` of `linux/filter.h`: the packet's type as a load offset.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
/// "All of it" for a packet socket.
const WHOLE_PACKET: u32 = u32::MAX;

/// Restricts a packet socket to one direction, keeping the filter it has.
///
/// # Errors
/// What the kernel said; the socket's filter is then what it was.
pub fn restrict(socket: &impl AsRawFd, direction: Direction) -> io::Result<()> {
    let wanted = current(socket)?;
    attach(socket, &mut in_front(direction, &wanted))
}

/// The program that asks for the direction first and for `wanted` (empty: everything) then. Jumps of
/// classic BPF are relative, so `wanted` runs unchanged behind it.
fn in_front(direction: Direction, wanted: &[sock_filter]) -> Vec<sock_filter> {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let outgoing = u32::from(libc::PACKET_OUTGOING);
    // Over the refusal when the packet goes the wanted way.
    let (jt, jf) = if direction == Direction::Egress { (1, 0) } else { (0, 1) };
    let mut program = vec![
        instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, PACKET_TYPE),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, outgoing),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        // A filter starts with an accumulator of 0.
        instruction(libc::BPF_LD | libc::BPF_IMM, 0, 0, 0),
    ];
    program.extend_from_slice(wanted);
    if wanted.is_empty() {
        program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, WHOLE_PACKET));
    }
    program
}

/// The filter attached to a socket; empty when there is none.
fn current(socket: &impl AsRawFd) -> io::Result<Vec<sock_filter>> {
    // For this option the kernel counts in instructions, not bytes, and tells the number for a length of 0.
    let mut count: libc::socklen_t = 0;
    // SAFETY: a length of 0 writes nothing through the null pointer; `count` outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_GET_FILTER,
            std::ptr::null_mut(),
            &raw mut count,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut program = vec![sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; count as usize];
    if program.is_empty() {
        return Ok(program);
    }
    // SAFETY: `program` has room for `count` instructions, and the kernel refuses to write more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_GET_FILTER,
            program.as_mut_ptr().cast(),
            &raw mut count,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(program) }
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// Classic BPF filters any socket: on a UDP socket the program can be attached and read back without
    /// privileges.
    #[test]
    fn the_filter_a_socket_has_is_kept_behind_the_direction() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(current(&socket).unwrap().is_empty());
        let before = sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 77 };
        attach(&socket, &mut [before]).unwrap();
        restrict(&socket, Direction::Egress).unwrap();
        let after = current(&socket).unwrap();
        assert_eq!(after.len(), 5);
        assert_eq!((after[4].code, after[4].k), (before.code, 77));
        assert_eq!((after[0].k, after[1].k), (PACKET_TYPE, 4));
    }
}
