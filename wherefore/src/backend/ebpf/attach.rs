//! Attaching to an interface, and leaving no trace.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::FdLink,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
    },
};

use super::{
    Error, Hook,
    netlink::{self, Filter},
    permission::{explain, os_error},
};

/// Which way packets go through a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Into the host.
    Ingress,
    /// Out of the host.
    Egress,
}

impl Way {
    const fn kind(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

/// What a frame of an interface begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// An Ethernet header; also the loopback device.
    Ethernet,
    /// The IP header itself: tun, `WireGuard`, PPP, IP tunnels.
    Ip,
}

/// An interface to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name.
    pub name: String,
    /// Number by which the kernel knows it.
    pub index: u32,
    /// What its frames begin with.
    pub start: Start,
}

/// All our programs and clsact filters have names that begin so.
pub const NAME_PREFIX: &str = "wherefore_";

const fn program_name(way: Way, start: Start) -> &'static str {
    match (way, start) {
        (Way::Ingress, Start::Ethernet) => "wherefore_in",
        (Way::Egress, Start::Ethernet) => "wherefore_out",
        (Way::Ingress, Start::Ip) => "wherefore_inip",
        (Way::Egress, Start::Ip) => "wherefore_outip",
    }
}

/// Programs attached to one interface; detached when dropped.
pub struct Attached {
    /// `tcx`, `clsact`, `xdp+tcx`, `xdp-generic+clsact`, …
    pub hook: String,
    links: Vec<SchedClassifierLink>,
    xdp: Option<FdLink>,
    clsact: Option<Clsact>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The links first: the qdisc can only go once it is empty. Dropped links detach; what fails here
        // (the interface is gone) has nothing left to detach.
        self.links.clear();
        self.xdp = None;
        self.clsact = None;
    }
}

/// Attaches the programs that `hook` asks for to one interface. `owner` marks clsact filters as ours.
///
/// # Errors
/// [`Error::Permission`], or [`Error::System`] with what to do instead.
pub fn attach(ebpf: &mut Ebpf, target: &Target, hook: Hook, owner: &Owner) -> Result<Attached, Error> {
    let mut attached = Attached { hook: String::new(), links: Vec::new(), xdp: None, clsact: None };
    let mut ways = vec![Way::Ingress, Way::Egress];
    if let Some((mode, name)) = match hook {
        Hook::Xdp => Some((XdpMode::Driver, "xdp+")),
        Hook::XdpGeneric => Some((XdpMode::Skb, "xdp-generic+")),
        Hook::Tc | Hook::Clsact => None,
    } {
        attached.xdp = Some(xdp(ebpf, target, mode)?);
        attached.hook.push_str(name);
        ways.retain(|way| *way == Way::Egress);
    }
    if hook != Hook::Clsact {
        let mut refused = false;
        for way in &ways {
            match tcx(ebpf, target, *way) {
                Ok(link) => attached.links.push(link),
                // EINVAL: a kernel before 6.6 does not know the place to attach to.
                Err(error) if os_error(&error) == Some(libc::EINVAL) => {
                    refused = true;
                    break;
                }
                Err(error) => return Err(explain(&format!("attach to {} (TCX)", target.name), &error)),
            }
        }
        if !refused {
            attached.hook.push_str("tcx");
            return Ok(attached);
        }
        attached.links.clear();
    }
    remove_leftovers(target)?;
    attached.clsact = Some(Clsact::ensure(target)?);
    for way in &ways {
        attached.links.push(clsact(ebpf, target, *way, owner)?);
    }
    attached.hook.push_str("clsact");
    Ok(attached)
}

fn classifier(ebpf: &mut Ebpf, way: Way, start: Start) -> Result<&mut SchedClassifier, ProgramError> {
    let program = ebpf.program_mut(program_name(way, start)).ok_or(ProgramError::NotLoaded)?;
    let program: &mut SchedClassifier = program.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

/// First at ingress, last at egress: at both ends nearest to the wire.
fn tcx(ebpf: &mut Ebpf, target: &Target, way: Way) -> Result<SchedClassifierLink, ProgramError> {
    let program = classifier(ebpf, way, target.start)?;
    let order = match way {
        Way::Ingress => LinkOrder::first(),
        Way::Egress => LinkOrder::last(),
    };
    let id = program.attach_with_options(&target.name, way.kind(), TcAttachOptions::TcxOrder(order))?;
    program.take_link(id)
}

fn clsact(ebpf: &mut Ebpf, target: &Target, way: Way, owner: &Owner) -> Result<SchedClassifierLink, Error> {
    let action = format!("attach to {} (clsact)", target.name);
    let others = netlink::filters(target.index, way).map_err(|error| explain(&action, &error))?;
    let priority = match way {
        Way::Ingress => first_priority(&others),
        Way::Egress => last_priority(&others),
    };
    let options = NlOptions { priority, handle: TcHandle::from(owner.handle), classid: None };
    let link = classifier(ebpf, way, target.start).and_then(|program| {
        let id = program.attach_with_options(&target.name, way.kind(), TcAttachOptions::Netlink(options))?;
        program.take_link(id)
    });
    link.map_err(|error| explain(&action, &error))
}

/// Before every other filter; beside them where they leave no room.
fn first_priority(filters: &[Filter]) -> u16 {
    filters
        .iter()
        .map(|filter| filter.priority)
        .min()
        .map_or(DEFAULT_PRIORITY, |first| first.saturating_sub(1).max(1))
}

/// Behind every other filter.
fn last_priority(filters: &[Filter]) -> u16 {
    filters.iter().map(|filter| filter.priority).max().map_or(DEFAULT_PRIORITY, |last| last.saturating_add(1))
}

/// What the kernel itself gives the first filter that names none.
const DEFAULT_PRIORITY: u16 = 0xc000;

fn xdp(ebpf: &mut Ebpf, target: &Target, mode: XdpMode) -> Result<FdLink, Error> {
    let action = format!("attach to {} (XDP)", target.name);
    let refuse = |reason: &str| Error::System { action: action.clone(), reason: reason.into() };
    if target.start == Start::Ip {
        return Err(refuse("its packets have no Ethernet header, which XDP wants; --hook tc counts there"));
    }
    let program = ebpf.program_mut("wherefore_xdp").ok_or(ProgramError::NotLoaded);
    let link = program.and_then(|program| {
        let program: &mut Xdp = program.try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        let id = program.attach_to_if_index(target.index, mode)?;
        program.take_link(id)
    });
    let link = link.map_err(|error| match os_error(&error) {
        Some(libc::EBUSY | libc::EEXIST) => {
            refuse("another XDP program is there, and one is all that fits; --hook tc counts beside it")
        }
        Some(libc::EOPNOTSUPP) => refuse(
            "its driver has no native XDP; --hook tc counts the same, --hook xdp-generic is slower and \
             switches receive offload off",
        ),
        Some(libc::EINVAL | libc::ERANGE | libc::ENOSPC | libc::ENOMEM) => refuse(
            "its driver refuses XDP with the present MTU, offloads or queues; --hook tc has no such limits",
        ),
        _ => explain(&action, &error),
    })?;
    // A link by file descriptor goes with the process; one by netlink would stay after a kill.
    FdLink::try_from(link)
        .map_err(|_| refuse("this kernel has no XDP links (Linux 5.9); --hook tc counts the same"))
}

/// A clsact qdisc, removed when dropped if we made it and nobody else has put anything in.
struct Clsact {
    index: u32,
    created: bool,
}

impl Clsact {
    fn ensure(target: &Target) -> Result<Self, Error> {
        let created = match qdisc_add_clsact(&target.name) {
            Ok(()) => true,
            Err(error) if os_error(&error) == Some(libc::EEXIST) => false,
            Err(error) => {
                return Err(explain(&format!("add a clsact qdisc to {}", target.name), &error));
            }
        };
        Ok(Self { index: target.index, created })
    }
}

impl Drop for Clsact {
    fn drop(&mut self) {
        let empty = |way| netlink::filters(self.index, way).is_ok_and(|filters| filters.is_empty());
        if self.created && empty(Way::Ingress) && empty(Way::Egress) {
            let _ = netlink::remove_clsact(self.index);
        }
    }
}

/// A sign of life: as long as this process lives, a socket's abstract name says that filters with
/// `handle` belong to a running agent. The name is bound to the network namespace, as the filters are.
pub struct Owner {
    handle: u32,
    _alive: UnixDatagram,
}

impl Owner {
    /// A handle that no running agent of this network namespace has.
    ///
    /// # Errors
    /// [`Error::System`] where no such socket can be made.
    pub fn new() -> Result<Self, Error> {
        let seed = std::process::id();
        let mut result = Err(io::Error::from(io::ErrorKind::AddrInUse));
        for turn in 0..64u32 {
            // Handles are 31 bits and never 0; the multiplier (Knuth's) spreads neighbouring numbers.
            let handle = (seed.wrapping_mul(64).wrapping_add(turn)).wrapping_mul(2_654_435_761) >> 1 | 1;
            result = sign_of_life(handle).map(|alive| Self { handle, _alive: alive });
            if result.is_ok() {
                break;
            }
        }
        result.map_err(|error| explain("mark kernel filters as our own", &error))
    }
}

fn sign_of_life(handle: u32) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("wherefore-clsact-{handle:08x}"))?)
}

/// Our own clsact filters on an interface whose agent is gone, as (way, filter).
///
/// # Errors
/// What rtnetlink says.
pub fn leftovers(index: u32) -> io::Result<Vec<(Way, Filter)>> {
    let mut found = Vec::new();
    for way in [Way::Ingress, Way::Egress] {
        for filter in netlink::filters(index, way)? {
            // Whoever can bind the name shows that nobody has it.
            if filter.name.starts_with(NAME_PREFIX) && sign_of_life(filter.handle).is_ok() {
                found.push((way, filter));
            }
        }
    }
    Ok(found)
}

/// Removes the filters that killed agents left behind, and the qdisc if that leaves it empty: nobody
/// but them can have made it. Returns how many filters.
///
/// # Errors
/// [`Error::Permission`] or [`Error::System`].
pub fn remove_leftovers(target: &Target) -> Result<usize, Error> {
    let action = format!("remove what a killed run left on {}", target.name);
    let found = leftovers(target.index).map_err(|error| explain(&action, &error))?;
    for (way, filter) in &found {
        let link = SchedClassifierLink::attached(
            &target.name,
            way.kind(),
            filter.priority,
            TcHandle::from(filter.handle),
            None,
        );
        // Dropped, it detaches.
        drop(link.map_err(|error| explain(&action, &error))?);
    }
    if !found.is_empty() {
        tracing::info!("removed {} filters that a killed run left on {}", found.len(), target.name);
        drop(Clsact { index: target.index, created: true });
    }
    Ok(found.len())
}

/// A program attached to an interface, for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// `tcx ingress`, `tcx egress`, `clsact ingress` or `clsact egress`.
    pub place: &'static str,
    /// Its name, or the kind of the filter.
    pub name: String,
    /// The kernel's number of it; 0 where there is none.
    pub id: u32,
    /// Ours, by its name.
    pub ours: bool,
}

/// What is attached to an interface at TCX and clsact, in running order. A place that cannot be asked
/// counts as empty.
#[must_use]
pub fn attached_programs(target: &Target) -> Vec<AttachedProgram> {
    let mut found = Vec::new();
    for (way, tcx, clsact) in
        [(Way::Ingress, "tcx ingress", "clsact ingress"), (Way::Egress, "tcx egress", "clsact egress")]
    {
        if let Ok((_, programs)) = SchedClassifier::query_tcx(&target.name, way.kind()) {
            found.extend(programs.iter().map(|program| {
                let name = program.name_as_str().unwrap_or_default().to_owned();
                AttachedProgram { place: tcx, ours: name.starts_with(NAME_PREFIX), name, id: program.id() }
            }));
        }
        found.extend(netlink::filters(target.index, way).unwrap_or_default().into_iter().map(|filter| {
            let ours = filter.name.starts_with(NAME_PREFIX);
            let name = if filter.name.is_empty() { filter.kind } else { filter.name };
            AttachedProgram { place: clsact, name, id: filter.program.unwrap_or(0), ours }
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(priority: u16) -> Filter {
        Filter { name: String::new(), kind: "bpf".into(), priority, handle: 1, program: None }
    }

    #[test]
    fn takes_the_place_nearest_to_the_wire() {
        assert_eq!(first_priority(&[]), DEFAULT_PRIORITY);
        assert_eq!(first_priority(&[at(7), at(3)]), 2);
        assert_eq!(first_priority(&[at(1)]), 1);
        assert_eq!(last_priority(&[at(7), at(3)]), 8);
        assert_eq!(last_priority(&[at(u16::MAX)]), u16::MAX);
    }

    #[test]
    fn a_living_owner_is_seen_and_a_dropped_one_not() {
        let owner = Owner::new().unwrap();
        assert!(owner.handle != 0 && owner.handle <= 0x7fff_ffff);
        assert!(sign_of_life(owner.handle).is_err());
        let second = Owner::new().unwrap();
        assert_ne!(second.handle, owner.handle);
        let handle = owner.handle;
        drop(owner);
        assert!(sign_of_life(handle).is_ok());
    }
}
