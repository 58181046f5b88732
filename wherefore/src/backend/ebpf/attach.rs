//! Attaching to an interface, and leaving no trace.

use std::{collections::BTreeSet, io};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, Program, ProgramError, SchedClassifier, Xdp, XdpMode,
        links::FdLink,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
    },
};

use super::{
    Error, Hook, LiveSettings,
    features::KernelFeature,
    load,
    order::Post,
    permission::explain,
    xdp_safety::{self, Offloads},
};
use crate::backend::probe::{self, Attached as Found, Owner, Way, os_error};

/// What a frame of an interface begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

const fn program_name(way: Way, start: Start) -> &'static str {
    match (way, start) {
        (Way::Ingress, Start::Ethernet) => "wherefore_in",
        (Way::Egress, Start::Ethernet) => "wherefore_out",
        (Way::Ingress, Start::Ip) => "wherefore_inip",
        (Way::Egress, Start::Ip) => "wherefore_outip",
    }
}

const XDP_NAME: &str = "wherefore_xdp";

/// How XDP is attached, and what the hook's description begins with, where XDP is asked for.
const fn xdp_mode(hook: Hook) -> Option<(XdpMode, &'static str)> {
    match hook {
        Hook::Xdp => Some((XdpMode::Driver, "xdp+")),
        Hook::XdpGeneric => Some((XdpMode::Skb, "xdp-generic+")),
        Hook::Tc | Hook::Clsact => None,
    }
}

/// The ways that TC programs count: what XDP sees they need not.
pub const fn tc_ways(hook: Hook) -> &'static [Way] {
    if xdp_mode(hook).is_some() { &[Way::Egress] } else { &Way::ALL }
}

/// Names of the counting programs that `hook` needs on `targets`.
pub fn names(targets: &[Target], hook: Hook) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for target in targets {
        names.extend(tc_ways(hook).iter().map(|way| program_name(*way, target.start)));
    }
    if xdp_mode(hook).is_some() {
        names.insert(XDP_NAME);
    }
    names
}

/// Loads the programs that `hook` needs on `targets`, and no other: the verifier takes its time over each. Those that
/// are loaded stay so.
///
/// # Errors
/// [`Error::Permission`], or [`Error::System`] with the end of the verifier's protocol.
pub fn load(ebpf: &mut Ebpf, targets: &[Target], hook: Hook) -> Result<(), Error> {
    names(targets, hook).into_iter().try_for_each(|name| load::program(ebpf, name))
}

/// Programs attached to one interface; detached when dropped.
pub struct Attached {
    /// `tcx`, `clsact`, `xdp+tcx`, `xdp-generic+clsact`, …
    pub hook: String,
    links: Vec<SchedClassifierLink>,
    xdp: Option<FdLink>,
    /// With native XDP: what it may have switched off.
    offloads: Option<Offloads>,
    clsact: Option<Clsact>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The links first: the qdisc can only go once it is empty. Dropped links detach; what fails here
        // (the interface is gone) has nothing left to detach.
        self.links.clear();
        let had_xdp = self.xdp.take().is_some();
        if let Some(offloads) = self.offloads.take().filter(|_| had_xdp) {
            offloads.tell_detached();
        }
        self.clsact = None;
    }
}

/// Attaches the programs of the hook that is asked for, which are loaded, to one interface. `owner` marks clsact
/// filters as ours.
///
/// # Errors
/// [`Error::Permission`], or [`Error::System`] with what to do instead.
pub fn attach(
    ebpf: &mut Ebpf,
    target: &Target,
    settings: &LiveSettings,
    owner: &Owner,
) -> Result<Attached, Error> {
    let hook = settings.hook;
    let mut attached =
        Attached { hook: String::new(), links: Vec::new(), xdp: None, offloads: None, clsact: None };
    remove_leftovers(target)?;
    if let Some((mode, name)) = xdp_mode(hook) {
        if hook == Hook::Xdp {
            attached.offloads = Some(xdp_safety::allow(target, settings.force_xdp)?);
        }
        attached.xdp = Some(xdp(ebpf, target, mode)?);
        attached.hook.push_str(name);
        if let Some(offloads) = &attached.offloads {
            offloads.tell_attached();
        }
    }
    if hook != Hook::Clsact && !KernelFeature::Tcx.hidden() {
        let mut refused = false;
        for way in tc_ways(hook) {
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
    attached.clsact = Some(Clsact::ensure(target)?);
    for way in tc_ways(hook) {
        attached.links.push(clsact(ebpf, target, *way, owner)?);
    }
    attached.hook.push_str("clsact");
    Ok(attached)
}

/// Where the TC programs stand that [`attach`] attached.
pub fn posts(ebpf: &Ebpf, target: &Target, hook: Hook) -> Vec<Post> {
    let mut posts = Vec::new();
    for way in tc_ways(hook) {
        let info = match ebpf.program(program_name(*way, target.start)) {
            Some(Program::SchedClassifier(program)) => program.info(),
            _ => continue,
        };
        // What cannot be asked for its number is not watched over.
        if let Ok(info) = info {
            posts.push(Post { target: target.clone(), way: *way, program: info.id() });
        }
    }
    posts
}

fn classifier(ebpf: &mut Ebpf, way: Way, start: Start) -> Result<&mut SchedClassifier, ProgramError> {
    ebpf.program_mut(program_name(way, start)).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// First at ingress, last at egress: at both ends nearest to the wire.
fn tcx(ebpf: &mut Ebpf, target: &Target, way: Way) -> Result<SchedClassifierLink, ProgramError> {
    let program = classifier(ebpf, way, target.start)?;
    let order = match way {
        Way::Ingress => LinkOrder::first(),
        Way::Egress => LinkOrder::last(),
    };
    let id =
        program.attach_with_options(&target.name, way.attach_type(), TcAttachOptions::TcxOrder(order))?;
    program.take_link(id)
}

fn clsact(ebpf: &mut Ebpf, target: &Target, way: Way, owner: &Owner) -> Result<SchedClassifierLink, Error> {
    let action = format!("attach to {} (clsact)", target.name);
    let others = filters(target.index, way).map_err(|error| explain(&action, &error))?;
    let priority = match way {
        Way::Ingress => first_priority(&others),
        Way::Egress => last_priority(&others),
    };
    let options = NlOptions { priority, handle: TcHandle::from(owner.handle), classid: None };
    let link = classifier(ebpf, way, target.start).and_then(|program| {
        let id = program.attach_with_options(
            &target.name,
            way.attach_type(),
            TcAttachOptions::Netlink(options),
        )?;
        program.take_link(id)
    });
    link.map_err(|error| explain(&action, &error))
}

/// Before every other filter; where one is at the very first priority, as near behind it as there is room: of one
/// priority all filters must be of one kind and protocol.
fn first_priority(filters: &[Found]) -> u16 {
    let taken = priorities(filters);
    match taken.first() {
        None => DEFAULT_PRIORITY,
        Some(first @ 2..) => first - 1,
        Some(_) => (1..=u16::MAX).find(|priority| !taken.contains(priority)).unwrap_or(1),
    }
}

/// Behind every other filter, or as near before the last one as there is room.
fn last_priority(filters: &[Found]) -> u16 {
    let taken = priorities(filters);
    match taken.last() {
        None => DEFAULT_PRIORITY,
        Some(last) => last.checked_add(1).unwrap_or_else(|| {
            (1..=u16::MAX).rev().find(|priority| !taken.contains(priority)).unwrap_or(u16::MAX)
        }),
    }
}

fn priorities(filters: &[Found]) -> BTreeSet<u16> {
    filters.iter().filter_map(|filter| filter.priority).collect()
}

/// What the kernel itself gives the first filter that names none.
const DEFAULT_PRIORITY: u16 = 0xc000;

fn xdp(ebpf: &mut Ebpf, target: &Target, mode: XdpMode) -> Result<FdLink, Error> {
    let action = format!("attach to {} (XDP)", target.name);
    let refuse = |reason: &str| Error::System { action: action.clone(), reason: reason.into() };
    let not_offered = |reason: &str| Error::NotOffered { action: action.clone(), reason: reason.into() };
    if let Some(obstacle) = xdp_safety::obstacle(target) {
        return Err(not_offered(obstacle));
    }
    let program = ebpf.program_mut(XDP_NAME).ok_or(ProgramError::NotLoaded);
    let link = program.and_then(|program| {
        let program: &mut Xdp = program.try_into()?;
        let id = program.attach_to_if_index(target.index, mode)?;
        program.take_link(id)
    });
    let link = link.map_err(|error| match os_error(&error) {
        Some(libc::EBUSY | libc::EEXIST) => {
            refuse("another XDP program is there, and one is all that fits; --hook tc counts beside it")
        }
        Some(libc::EOPNOTSUPP) => not_offered(xdp_safety::NO_NATIVE),
        Some(libc::EINVAL | libc::ERANGE | libc::ENOSPC | libc::ENOMEM) => refuse(
            "its driver refuses XDP with the present MTU, offloads or queues; --hook tc has no such limits",
        ),
        _ => explain(&action, &error),
    })?;
    FdLink::try_from(link).map_err(|_| not_offered(xdp_safety::NO_LINKS))
}

/// A clsact qdisc, removed when dropped if we made it and nobody else has put anything in.
struct Clsact {
    index: u32,
    created: bool,
}

impl Clsact {
    fn ensure(target: &Target) -> Result<Self, Error> {
        let action = format!("add a clsact qdisc to {}", target.name);
        let created = match qdisc_add_clsact(&target.name) {
            Ok(()) => true,
            Err(error) if os_error(&error) == Some(libc::EEXIST) => false,
            Err(error) => return Err(explain(&action, &error)),
        };
        if !created && !probe::has_clsact(target.index).map_err(|error| explain(&action, &error))? {
            let reason = format!(
                "an ingress qdisc is in its place, which cannot count what leaves; tc qdisc del dev {} ingress \
                 removes it with its filters, and --backend pcap works beside it",
                target.name
            );
            return Err(Error::System { action, reason });
        }
        Ok(Self { index: target.index, created })
    }
}

impl Drop for Clsact {
    fn drop(&mut self) {
        let empty = |way| filters(self.index, way).is_ok_and(|filters| filters.is_empty());
        if self.created && empty(Way::Ingress) && empty(Way::Egress) {
            let _ = probe::remove_clsact(self.index);
        }
    }
}

fn filters(index: u32, way: Way) -> io::Result<Vec<Found>> {
    probe::filters(index, way)
}

/// Our own clsact filters on an interface whose agent is gone, as (way, filter).
///
/// # Errors
/// What rtnetlink says.
pub fn leftovers(index: u32) -> io::Result<Vec<(Way, Found)>> {
    let mut found = Vec::new();
    for way in Way::ALL {
        let left = filters(index, way)?.into_iter().filter(|filter| filter.leftover);
        found.extend(left.map(|filter| (way, filter)));
    }
    Ok(found)
}

/// Removes the filters that killed agents left behind, and the qdisc if that leaves it empty: as a rule they made
/// it, and whoever else did has nothing in it.
fn remove_leftovers(target: &Target) -> Result<(), Error> {
    let action = format!("remove what a killed run left on {}", target.name);
    let found = leftovers(target.index).map_err(|error| explain(&action, &error))?;
    for (way, filter) in &found {
        let (Some(priority), Some(handle)) = (filter.priority, filter.handle) else { continue };
        let link = SchedClassifierLink::attached(
            &target.name,
            way.attach_type(),
            priority,
            TcHandle::from(handle),
            None,
        );
        // Dropped, it detaches.
        drop(link.map_err(|error| explain(&action, &error))?);
    }
    if !found.is_empty() {
        tracing::info!("removed {} filters that a killed run left on {}", found.len(), target.name);
        drop(Clsact { index: target.index, created: true });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::probe::Place;

    fn at(priority: u16) -> Found {
        Found {
            place: Place::ClsactIngress,
            id: None,
            name: "u32".into(),
            priority: Some(priority),
            handle: Some(1),
            leftover: false,
        }
    }

    #[test]
    fn takes_the_place_nearest_to_the_wire() {
        assert_eq!(first_priority(&[]), DEFAULT_PRIORITY);
        assert_eq!(first_priority(&[at(7), at(3)]), 2);
        assert_eq!(first_priority(&[at(1), at(2), at(7)]), 3);
        assert_eq!(last_priority(&[at(7), at(3)]), 8);
        assert_eq!(last_priority(&[at(9), at(u16::MAX)]), u16::MAX - 1);
    }
}
