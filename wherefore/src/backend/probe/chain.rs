//! The programs at an interface's TCX and clsact hooks, in the order in which packets meet them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
};

use aya::programs::{loaded_programs, tc::TcAttachType};
use nix::sys::socket::SockProtocol;

use super::{
    netlink::{Ask, Socket, attribute, text, u32_at},
    owner, tcx,
};

/// All our programs and clsact filters have names that begin so.
pub const NAME_PREFIX: &str = "wherefore_";

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// XDP in the driver.
    XdpNative,
    /// XDP after the driver, on packets the kernel copied.
    XdpGeneric,
    /// XDP in the device.
    XdpOffloaded,
    /// TCX at ingress (kernel 6.6).
    TcxIngress,
    /// TCX at egress.
    TcxEgress,
    /// A filter of the clsact queueing discipline at ingress.
    ClsactIngress,
    /// A filter of the clsact queueing discipline at egress.
    ClsactEgress,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XdpNative => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::XdpOffloaded => "xdp-offload",
            Self::TcxIngress => "tcx ingress",
            Self::TcxEgress => "tcx egress",
            Self::ClsactIngress => "clsact ingress",
            Self::ClsactEgress => "clsact egress",
        })
    }
}

/// One program at one place of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where.
    pub place: Place,
    /// The program's number, where the kernel tells.
    pub id: Option<u32>,
    /// Name of the program, or of the filter; empty where neither is known.
    pub name: String,
    /// Priority of a clsact filter: `pref` of tc(8). Lower comes first.
    pub priority: Option<u16>,
    /// What tells clsact filters of one priority apart: `handle` of tc(8).
    pub handle: Option<u32>,
    /// A clsact filter of ours whose agent is gone. Links of killed runs go with them, filters stay.
    pub leftover: bool,
}

impl Attached {
    /// A program, without its name.
    pub(super) const fn program(place: Place, id: u32) -> Self {
        Self { place, id: Some(id), name: String::new(), priority: None, handle: None, leftover: false }
    }

    pub(in crate::backend) fn take_name(&mut self, names: &BTreeMap<u32, String>) {
        if let Some(name) = self.id.and_then(|id| names.get(&id)) {
            self.name.clone_from(name);
        }
    }

    /// Its name and its number, as a message tells them.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self.id {
            Some(id) if self.name.is_empty() => format!("program {id}"),
            Some(id) => format!("{:?} (program {id})", self.name),
            None => format!("{:?}", self.name),
        }
    }

    /// A program of this or another agent of ours, by its name.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.name.starts_with(NAME_PREFIX)
    }
}

/// Which way packets go through a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Into the host.
    Ingress,
    /// Out of the host.
    Egress,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// aya's word for it.
    pub(in crate::backend) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }

    pub(super) const fn tcx(self) -> Place {
        match self {
            Self::Ingress => Place::TcxIngress,
            Self::Egress => Place::TcxEgress,
        }
    }

    pub(super) const fn clsact(self) -> Place {
        match self {
            Self::Ingress => Place::ClsactIngress,
            Self::Egress => Place::ClsactEgress,
        }
    }
}

/// What is attached to an interface at TCX and, behind it, at clsact, in running order. Programs at TCX are
/// without names where the process has no `CAP_SYS_ADMIN`.
///
/// # Errors
/// What the kernel says; no permission without `CAP_NET_ADMIN`.
pub fn chain(index: u32, way: Way) -> io::Result<Vec<Attached>> {
    let mut found = match tcx(index, way) {
        // A kernel without TCX.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Vec::new(),
        found => found?,
    };
    if !found.is_empty() {
        let names = program_names();
        found.iter_mut().for_each(|attached| attached.take_name(&names));
    }
    found.extend(filters(index, way)?);
    Ok(found)
}

/// Numbers of the programs at TCX and clsact, in running order: [`chain`] at a tenth of its price.
pub(in crate::backend) fn chain_ids(index: u32, way: Way) -> io::Result<Vec<Option<u32>>> {
    let mut found = match tcx::programs(index, way) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Vec::new(),
        found => found?.into_iter().map(Some).collect(),
    };
    found.extend(filters(index, way)?.into_iter().map(|filter| filter.id));
    Ok(found)
}

/// What is attached to an interface at TCX, in running order and without names. `EINVAL`: the kernel has no
/// TCX (before 6.6).
pub(super) fn tcx(index: u32, way: Way) -> io::Result<Vec<Attached>> {
    let programs = tcx::programs(index, way)?;
    Ok(programs.into_iter().map(|id| Attached::program(way.tcx(), id)).collect())
}

/// Names of all programs by number; empty without `CAP_SYS_ADMIN`.
pub(in crate::backend) fn program_names() -> BTreeMap<u32, String> {
    loaded_programs()
        .filter_map(Result::ok)
        .map(|program| (program.id(), String::from_utf8_lossy(program.name()).into_owned()))
        .collect()
}

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// struct tcmsg of `linux/rtnetlink.h`: family and padding, index, handle, parent, info.
pub(super) const TCMSG: usize = 20;

pub(super) fn tcmsg(index: u32, handle: u32, parent: u32) -> Vec<u8> {
    let mut message = vec![0; 4];
    for field in [index, handle, parent, 0] {
        message.extend(field.to_ne_bytes());
    }
    message
}

/// Indexes of the interfaces with a clsact queueing discipline.
pub(super) fn clsact(route: &Socket) -> io::Result<BTreeSet<u32>> {
    let disciplines = route.ask(libc::RTM_GETQDISC, Ask::All, &tcmsg(0, 0, 0))?;
    Ok(disciplines
        .iter()
        .filter(|message| {
            let kind = message.body.get(TCMSG..).and_then(|attrs| attribute(attrs, TCA_KIND));
            kind.is_some_and(|kind| text(kind) == "clsact")
        })
        .filter_map(|message| u32_at(&message.body, 4))
        .collect())
}

/// The filters at one clsact hook of an interface, in running order; none where there is no clsact qdisc.
pub(in crate::backend) fn filters(index: u32, way: Way) -> io::Result<Vec<Attached>> {
    // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) and _EGRESS of linux/pkt_sched.h.
    let parent = match way {
        Way::Ingress => 0xffff_fff2,
        Way::Egress => 0xffff_fff3,
    };
    let route = Socket::open(SockProtocol::NetlinkRoute)?;
    let filters = route.ask(libc::RTM_GETTFILTER, Ask::All, &tcmsg(index, 0, parent))?;
    let mut found: Vec<_> =
        filters.iter().filter_map(|message| filter(&message.body, way.clsact())).collect();
    // An ingress qdisc in clsact's place answers for egress too, with its filters at ingress.
    if way == Way::Egress && !found.is_empty() && !clsact(&route)?.contains(&index) {
        found.clear();
    }
    Ok(found)
}

/// Whether the interface has a clsact qdisc: false also for the older ingress qdisc in its place.
pub(in crate::backend) fn has_clsact(index: u32) -> io::Result<bool> {
    Ok(clsact(&Socket::open(SockProtocol::NetlinkRoute)?)?.contains(&index))
}

/// Removes the interface's clsact qdisc with every filter in it.
pub(in crate::backend) fn remove_clsact(index: u32) -> io::Result<()> {
    // TC_H_CLSACT as handle and as parent.
    let message = tcmsg(index, 0xffff_0000, 0xffff_fff1);
    Socket::open(SockProtocol::NetlinkRoute)?.ask(libc::RTM_DELQDISC, Ask::One, &message).map(drop)
}

/// One `RTM_NEWTFILTER`. The kernel also sends one without a handle per priority, which is no filter.
fn filter(body: &[u8], place: Place) -> Option<Attached> {
    const TCA_BPF_NAME: u16 = 7;
    const TCA_BPF_ID: u16 = 11;
    let handle = u32_at(body, 8)?;
    let info = u32_at(body, 16)?;
    let attrs = body.get(TCMSG..)?;
    let options = attribute(attrs, TCA_OPTIONS)?;
    if handle == 0 {
        return None;
    }
    let kind = attribute(attrs, TCA_KIND).map(text).unwrap_or_default();
    let (id, name) = if kind == "bpf" {
        let id = attribute(options, TCA_BPF_ID).and_then(|value| u32_at(value, 0));
        (id, attribute(options, TCA_BPF_NAME).map(text))
    } else {
        (None, None)
    };
    let name = name.unwrap_or(kind);
    Some(Attached {
        place,
        id,
        leftover: name.starts_with(NAME_PREFIX) && !owner::lives(handle),
        name,
        // The upper half is the priority, the lower one the protocol.
        priority: u16::try_from(info >> 16).ok(),
        handle: Some(handle),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::probe::netlink::encode_attribute;

    #[test]
    fn a_filter_s_name_number_and_priority_are_read() {
        let mut body = tcmsg(3, 0, 0xffff_fff2);
        body[8..12].copy_from_slice(&1u32.to_ne_bytes());
        body[16..20].copy_from_slice(&(49_152u32 << 16 | 3).to_ne_bytes());
        body.extend(encode_attribute(TCA_KIND, b"bpf\0"));
        let mut options = encode_attribute(7, b"wherefore_in\0");
        options.extend(encode_attribute(11, &42u32.to_ne_bytes()));
        body.extend(encode_attribute(TCA_OPTIONS, &options));
        let expected = Attached {
            place: Place::ClsactIngress,
            id: Some(42),
            name: "wherefore_in".to_owned(),
            priority: Some(49_152),
            handle: Some(1),
            // Nobody has bound the name of handle 1.
            leftover: true,
        };
        assert_eq!(filter(&body, Place::ClsactIngress), Some(expected));
        body[8..12].fill(0);
        assert_eq!(filter(&body, Place::ClsactIngress), None);
    }
}
