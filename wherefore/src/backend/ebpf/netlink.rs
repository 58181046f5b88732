//! The few questions to rtnetlink that aya does not ask: which filters an interface has at its clsact
//! hooks, and to remove that qdisc.

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::attach::Way;

/// `TC_H_CLSACT` with `TC_H_MIN_INGRESS` or `TC_H_MIN_EGRESS`, of linux/pkt_sched.h.
const CLSACT: u32 = 0xffff_0000;
const MIN_INGRESS: u32 = 0xfff2;
const MIN_EGRESS: u32 = 0xfff3;
const PARENT_CLSACT: u32 = 0xffff_fff1;

// linux/rtnetlink.h, linux/pkt_cls.h
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

const HEADER: usize = 16;
const TCMSG: usize = 20;

/// A filter at a clsact hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its name, where it is a BPF filter.
    pub name: String,
    /// `bpf`, `flower`, …
    pub kind: String,
    /// Lower comes first.
    pub priority: u16,
    /// Tells filters of one priority apart.
    pub handle: u32,
    /// The kernel's number of its program, where it is a BPF filter.
    pub program: Option<u32>,
}

/// The filters at one clsact hook of an interface, in their order; none where there is no clsact qdisc.
///
/// # Errors
/// What rtnetlink says.
pub fn filters(ifindex: u32, way: Way) -> io::Result<Vec<Filter>> {
    let parent = CLSACT
        | match way {
            Way::Ingress => MIN_INGRESS,
            Way::Egress => MIN_EGRESS,
        };
    let mut filters = Vec::new();
    let request = message(RTM_GETTFILTER, NLM_F_DUMP, ifindex, 0, parent);
    exchange(&request, |kind, body| {
        if kind != RTM_NEWTFILTER || number(body, 4) != Some(ifindex) {
            return;
        }
        let (Some(handle), Some(info)) = (number(body, 8), number(body, 16)) else { return };
        let mut filter = Filter {
            name: String::new(),
            kind: String::new(),
            priority: (info >> 16) as u16,
            handle,
            program: None,
        };
        for (attribute, value) in attributes(body.get(TCMSG..).unwrap_or_default()) {
            match attribute {
                TCA_KIND => filter.kind = text(value),
                TCA_OPTIONS => {
                    for (option, value) in attributes(value) {
                        match option {
                            TCA_BPF_NAME => filter.name = text(value),
                            TCA_BPF_ID => filter.program = number(value, 0),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        // Each priority also reports itself, with handle 0.
        if handle != 0 {
            filters.push(filter);
        }
    })?;
    Ok(filters)
}

/// Removes the interface's clsact qdisc with every filter in it.
///
/// # Errors
/// What rtnetlink says.
pub fn remove_clsact(ifindex: u32) -> io::Result<()> {
    exchange(&message(RTM_DELQDISC, NLM_F_ACK, ifindex, CLSACT, PARENT_CLSACT), |_, _| {})
}

/// A request with a `struct tcmsg`.
fn message(kind: u16, flags: u16, ifindex: u32, handle: u32, parent: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + TCMSG);
    bytes.extend(((HEADER + TCMSG) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]);
    for field in [0, ifindex, handle, parent, 0] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes
}

/// Sends a request and hands every message of the answer to `take`, as type and body.
fn exchange(request: &[u8], mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(socket.as_raw_fd(), request, MsgFlags::empty())?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while let Some(size) = number(rest, 0).map(|size| size as usize).filter(|size| *size >= HEADER) {
            let (Some(kind), Some(body)) = (half(rest, 4), rest.get(HEADER..size)) else { break };
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = number(body, 0).unwrap_or(0).cast_signed();
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => take(kind, body),
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Attributes as type and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        // The two highest bits say "nested" and "network order".
        let kind = half(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_ne_bytes(*four))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_ne_bytes(*two))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}
