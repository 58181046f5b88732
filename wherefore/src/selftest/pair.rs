//! The two devices, and sending on them. Everything is in the calling thread's network namespace.

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    ifaddrs::getifaddrs,
    sched::{CloneFlags, unshare},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, setsockopt, socket,
        sockopt::UdpGsoSegment,
    },
};

use super::{
    frame::{DISCARD, DST_V4, ETHERNET, SRC_V4},
    traffic::{Form, Parcel},
};
use crate::backend::{
    Error,
    probe::{self, create},
};

/// Sends.
pub const NEAR: &str = "near";
/// Receives what [`NEAR`] sends.
pub const FAR: &str = "far";

/// Both devices, in a network namespace of the calling thread alone; it goes with the thread, and the devices with
/// it.
pub struct Pair {
    near: LinkAddr,
    plain: OwnedFd,
    merged: OwnedFd,
}

impl Pair {
    /// Moves the calling thread into a new network namespace and makes the devices there.
    ///
    /// # Errors
    /// [`Error::Permission`] with what is missing; [`Error::System`] where the kernel has no veth or no namespaces.
    pub fn new() -> Result<Self, Error> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| explain("make a network namespace", &error.into(), "CAP_SYS_ADMIN"))?;
        create::veth_pair(NEAR, FAR).map_err(|error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Error::System {
                action: "make a pair of devices".into(),
                reason: "this kernel has no veth; modprobe veth loads it where it is a module".into(),
            },
            _ => explain("make a pair of devices", &error, "CAP_NET_ADMIN"),
        })?;
        create::address(NEAR, SRC_V4)
            .map_err(|error| explain("give a device an address", &error, "CAP_NET_ADMIN"))?;
        let packets = || socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
        let sockets = || -> io::Result<(OwnedFd, OwnedFd)> {
            let merged = packets()?;
            take_offload_headers(&merged)?;
            Ok((packets()?, merged))
        };
        let (plain, merged) = sockets().map_err(|error| explain("send frames", &error, "CAP_NET_RAW"))?;
        let near = getifaddrs()
            .map_err(|error| explain("find the devices", &error.into(), "CAP_NET_ADMIN"))?
            .filter(|entry| entry.interface_name == NEAR)
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .ok_or_else(|| Error::System {
                action: "find the devices".into(),
                reason: "the one made a moment ago is gone".into(),
            })?;
        Ok(Self { near, plain, merged })
    }

    /// Sends all of a parcel from [`NEAR`].
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn send(&self, parcel: &Parcel) -> Result<(), Error> {
        let sent = (|| match &parcel.form {
            Form::Frame(frame) => self.frames(&self.plain, frame, parcel.times),
            Form::Merged { frame, family, size } => {
                let mut bytes = offload_header(*family, *size).to_vec();
                bytes.extend(frame);
                self.frames(&self.merged, &bytes, parcel.times)
            }
            Form::Datagram { port, data, segment } => {
                let socket = UdpSocket::bind((SRC_V4, *port))?;
                if let Some(size) = segment {
                    setsockopt(&socket, UdpGsoSegment, &i32::from(*size))?;
                }
                let data = vec![0xa5; *data];
                for _ in 0..parcel.times {
                    socket.send_to(&data, (DST_V4, DISCARD))?;
                }
                Ok(())
            }
        })();
        sent.map_err(|error: io::Error| explain(&format!("send {}", parcel.name), &error, "CAP_NET_RAW"))
    }

    fn frames(&self, socket: &OwnedFd, bytes: &[u8], times: u64) -> io::Result<()> {
        for _ in 0..times {
            sendto(socket.as_raw_fd(), bytes, &self.near, MsgFlags::empty())?;
        }
        Ok(())
    }
}

/// Lets each frame sent begin with a `struct virtio_net_hdr` (`PACKET_VNET_HDR`).
fn take_offload_headers(socket: &OwnedFd) -> io::Result<()> {
    const PACKET_VNET_HDR: libc::c_int = 15;
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads a c_int from `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_VNET_HDR,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct virtio_net_hdr` of `linux/virtio_net.h` for TCP without options: flags, kind, bytes of all headers, of
/// a segment, and where the checksum is to be put.
fn offload_header(family: u8, size: u16) -> [u8; 10] {
    const NEEDS_CHECKSUM: u8 = 1;
    const TCP_V4: u8 = 1;
    const TCP_V6: u8 = 4;
    const TCP_HEADER: u16 = 20;
    const TCP_CHECKSUM: u16 = 16;
    let (kind, ip) = if family == 4 { (TCP_V4, 20) } else { (TCP_V6, 40) };
    let transport = ETHERNET as u16 + ip;
    let mut header = [0; 10];
    header[..2].copy_from_slice(&[NEEDS_CHECKSUM, kind]);
    for (at, value) in [(2, transport + TCP_HEADER), (4, size), (6, transport), (8, TCP_CHECKSUM)] {
        header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

/// Missing rights are told from everything else.
fn explain(action: &str, error: &io::Error, needed: &str) -> Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let arguments = format!("sudo {} selftest", probe::program());
            Error::Permission(format!(
                "cannot {action}: the self-test needs {needed}, to have a network of its own\n  {arguments}"
            ))
        }
        _ => Error::System { action: action.into(), reason: error.to_string() },
    }
}
