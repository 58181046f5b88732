//! Just enough netlink (RFC 3549) to ask the kernel for lists and for a new thing, and to hear of changes.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
            setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

const HEADER: usize = 16;
/// `NLMSG_ERROR` and `NLMSG_DONE` of `linux/netlink.h`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_ROOT | NLM_F_MATCH`, `NLM_F_CREATE | NLM_F_EXCL`.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x600;
/// Bits of an attribute's type that are flags: nested, byte order.
const TYPE_MASK: u16 = 0x3fff;
/// The kernel answers in pieces of at most 32 KiB.
const BUFFER: usize = 64 * 1024;

/// What is asked for: one thing, a list, or a thing that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    One,
    All,
    New,
}

/// A message of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub kind: u16,
    pub body: Vec<u8>,
}

/// A netlink socket of the calling thread's network namespace.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // The kernel answers within the call; the limit only keeps a fault from hanging the command.
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
        Ok(Self(fd))
    }

    /// Sends one request and collects the whole answer.
    pub fn ask(&self, kind: u16, ask: Ask, body: &[u8]) -> io::Result<Vec<Message>> {
        let flags = REQUEST
            | match ask {
                Ask::One => ACK,
                Ask::All => DUMP,
                Ask::New => ACK | CREATE,
            };
        let mut request = Vec::with_capacity(HEADER + body.len());
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        // Sequence number and port: one request per answer, and the kernel knows the port.
        request.extend([0; 8]);
        request.extend(body);
        sendto(self.0.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;

        let mut messages = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC)?;
            let answer =
                buffer.get(..length).ok_or_else(|| io::Error::other("netlink answer longer than 64 KiB"))?;
            if split(answer, &mut messages)? {
                return Ok(messages);
            }
        }
    }
}

/// A netlink socket that hears what changes in the calling thread's network namespace.
pub(super) struct Listener(OwnedFd);

/// Datagrams taken at a time: under a flood there would always be another.
const AT_A_TIME: usize = 1024;

/// What a [`Listener`] heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub messages: Vec<Message>,
    /// The kernel had no room for further messages (`ENOBUFS`), or one was not understood.
    pub missed: bool,
}

impl Listener {
    /// Hears the multicast groups of this mask (`RTMGRP_…` of `linux/rtnetlink.h`); `waiting` bytes of messages may
    /// wait.
    pub fn open(groups: u32, waiting: usize) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        // Beyond the host's limit with CAP_NET_ADMIN only; without it up to that limit.
        if setsockopt(&fd, sockopt::RcvBufForce, &waiting).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &waiting);
        }
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self(fd))
    }

    /// What was heard since the last call. Never waits.
    pub fn take(&self) -> io::Result<Heard> {
        let mut heard = Heard::default();
        let mut buffer = vec![0; BUFFER];
        for _ in 0..AT_A_TIME {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) => match buffer.get(..length) {
                    Some(datagram) => heard.missed |= split(datagram, &mut heard.messages).is_err(),
                    None => heard.missed = true,
                },
                Err(Errno::ENOBUFS) => heard.missed = true,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(heard)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes the messages out of one datagram; true when it held the last one.
fn split(mut rest: &[u8], messages: &mut Vec<Message>) -> io::Result<bool> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer");
    while !rest.is_empty() {
        let length = u32_at(rest, 0).ok_or_else(malformed)? as usize;
        let kind = u16_at(rest, 4).ok_or_else(malformed)?;
        let body = rest.get(HEADER..length).ok_or_else(malformed)?;
        match kind {
            DONE => return Ok(true),
            ERROR => match u32_at(body, 0).ok_or_else(malformed)?.cast_signed() {
                0 => return Ok(true),
                code => return Err(io::Error::from_raw_os_error(code.saturating_neg())),
            },
            _ => messages.push(Message { kind, body: body.to_vec() }),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attributes in `bytes`; ends at the first that is cut or malformed.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the attribute `kind`.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// One attribute, padded.
pub(super) fn encode_attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// Text up to its terminating zero; bytes that are no UTF-8 are replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_is_the_system_s() {
        let mut answer = Vec::new();
        answer.extend(20u32.to_ne_bytes());
        answer.extend(ERROR.to_ne_bytes());
        answer.extend([0; 10]);
        answer.extend((-libc::EPERM).to_ne_bytes());
        let error = split(&answer, &mut Vec::new()).err();
        assert_eq!(error.and_then(|e| e.raw_os_error()), Some(libc::EPERM));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = split(&bytes, &mut Vec::new());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }

        #[test]
        fn attributes_come_back(values in proptest::collection::vec(
            (0u16..TYPE_MASK, proptest::collection::vec(any::<u8>(), 0..20)), 0..10,
        )) {
            let bytes: Vec<u8> = values.iter().flat_map(|(kind, value)| encode_attribute(*kind, value)).collect();
            let read: Vec<(u16, Vec<u8>)> = attributes(&bytes).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(read, values);
        }
    }
}
