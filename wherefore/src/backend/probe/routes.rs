//! Default routes, and the nexthop objects that they may name (`ip nexthop`, Linux 5.3).
//!
//! Of a route by a nexthop object the kernel lists the interfaces as of any other, unless the host switched that off:
//! `net.ipv4.nexthop_compat_mode` 0 (Linux 5.7), of both families. Then the objects are asked.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    netlink::{attribute, attributes, u16_at, u32_at},
    rtnetlink::{NHMSG, RTMSG},
};

/// `RTM_GETNEXTHOP` of `linux/rtnetlink.h`.
pub(super) const RTM_GETNEXTHOP: u16 = 106;
/// `RTNH_F_DEAD` of `linux/rtnetlink.h`: the link is down.
const DEAD: u32 = 1;

/// Where the default routes of the main table lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultRoutes {
    /// Numbers of the interfaces.
    pub interfaces: BTreeSet<u32>,
    /// A nexthop object decides about one of them: it may change without a word about the route.
    pub by_nexthop: bool,
}

impl DefaultRoutes {
    /// Of routes, and of messages about nexthop objects, where one leads by these alone.
    pub(super) fn new<'a>(routes: &[Route], nexthops: impl Iterator<Item = &'a [u8]>) -> Self {
        let nexthops: BTreeMap<u32, Nexthop> = nexthops.filter_map(nexthop).collect();
        let mut interfaces: BTreeSet<u32> = BTreeSet::new();
        for route in routes {
            interfaces.extend(&route.interfaces);
            if let Some(named) = route.nexthop.filter(|_| route.is_by_nexthop_alone())
                && let Some(named) = nexthops.get(&named)
            {
                // A group's members are no groups.
                let members = named.members.iter().filter_map(|member| nexthops.get(member));
                interfaces.extend(members.chain([named]).filter_map(|nexthop| nexthop.interface));
            }
        }
        Self { interfaces, by_nexthop: routes.iter().any(|route| route.nexthop.is_some()) }
    }
}

/// A default route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    interfaces: Vec<u32>,
    /// Number of the nexthop object.
    nexthop: Option<u32>,
    /// The kernel listed paths, dead ones too.
    listed: bool,
}

impl Route {
    /// Only the object tells where it leads.
    pub const fn is_by_nexthop_alone(&self) -> bool {
        self.nexthop.is_some() && !self.listed
    }
}

/// A nexthop object.
struct Nexthop {
    /// Where it leads; `None` for a group, a black hole, or where the link is down.
    interface: Option<u32>,
    /// Numbers of a group's members.
    members: Vec<u32>,
}

/// A route that leads anywhere from anywhere, if it is one: struct rtmsg (lengths of destination and source at 1 and
/// 2, table at 4, type at 7, flags at 8), then attributes.
pub(super) fn default_route(body: &[u8]) -> Option<Route> {
    /// `RTA_NH_ID` of `linux/rtnetlink.h`.
    const RTA_NH_ID: u16 = 30;
    /// struct rtnexthop: length at 0, flags at 2, index at 4.
    const RTNEXTHOP: usize = 8;
    let attrs = body.get(RTMSG..)?;
    let number = |kind| attribute(attrs, kind).and_then(|value| u32_at(value, 0));
    let flags = u32_at(body, 8)?;
    let table = number(libc::RTA_TABLE).unwrap_or_else(|| u32::from(body[4]));
    if body[1] != 0
        || body[2] != 0
        || table != u32::from(libc::RT_TABLE_MAIN)
        || body[7] != libc::RTN_UNICAST
        || flags & libc::RTM_F_CLONED != 0
    {
        return None;
    }
    let interface = number(libc::RTA_OIF);
    let multipath = attribute(attrs, libc::RTA_MULTIPATH);
    let mut interfaces: Vec<u32> = interface.filter(|_| flags & DEAD == 0).into_iter().collect();
    let mut paths = multipath.unwrap_or_default();
    while let (Some(length), Some(flags), Some(index)) = (u16_at(paths, 0), paths.get(2), u32_at(paths, 4)) {
        if u32::from(*flags) & DEAD == 0 {
            interfaces.push(index);
        }
        let length = usize::from(length).max(RTNEXTHOP).next_multiple_of(4);
        paths = paths.get(length..).unwrap_or_default();
    }
    Some(Route { interfaces, nexthop: number(RTA_NH_ID), listed: interface.is_some() || multipath.is_some() })
}

/// A nexthop object by its number: struct nhmsg (flags at 4), then `NHA_…` attributes of `linux/nexthop.h`.
fn nexthop(body: &[u8]) -> Option<(u32, Nexthop)> {
    const ID: u16 = 1;
    const GROUP: u16 = 2;
    const OIF: u16 = 5;
    /// struct nexthop_grp: the member's number, its weight, two bytes reserved.
    const NEXTHOP_GRP: usize = 8;
    let flags = u32_at(body, 4)?;
    let attrs = body.get(NHMSG..)?;
    let (mut id, mut interface, mut members) = (None, None, Vec::new());
    for (kind, value) in attributes(attrs) {
        match kind {
            ID => id = u32_at(value, 0),
            OIF => interface = u32_at(value, 0).filter(|_| flags & DEAD == 0),
            GROUP => members = value.chunks_exact(NEXTHOP_GRP).filter_map(|one| u32_at(one, 0)).collect(),
            _ => {}
        }
    }
    Some((id?, Nexthop { interface, members }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::netlink::encode_attribute, *};

    fn route(head: [u8; 12], attributes: &[Vec<u8>]) -> Vec<u8> {
        [head.to_vec(), attributes.concat()].concat()
    }

    fn number(kind: u16, value: u32) -> Vec<u8> {
        encode_attribute(kind, &value.to_ne_bytes())
    }

    fn interfaces(body: &[u8]) -> Option<Vec<u32>> {
        default_route(body).map(|route| route.interfaces)
    }

    const MAIN: [u8; 12] = [2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
    const NH_ID: u16 = 30;

    #[test]
    fn default_routes_with_all_their_paths_and_no_other() {
        let oif = number(libc::RTA_OIF, 7);
        assert_eq!(interfaces(&route(MAIN, std::slice::from_ref(&oif))), Some(vec![7]));
        // Prefix, source, table, type, flags.
        for (at, value) in [(1, 8), (2, 8), (4, 255), (7, 7), (9, 2)] {
            let mut head = MAIN;
            head[at] = value;
            assert_eq!(default_route(&route(head, std::slice::from_ref(&oif))), None, "{at}");
        }
        let other = number(libc::RTA_TABLE, 1000);
        assert_eq!(default_route(&route(MAIN, &[oif, other])), None);

        let path = |flags, index: u32| [&[8, 0, flags, 0][..], &index.to_ne_bytes()].concat();
        let paths = [path(0, 3), path(1, 4), path(0, 5)].concat();
        let multipath = encode_attribute(libc::RTA_MULTIPATH, &paths);
        assert_eq!(interfaces(&route(MAIN, &[multipath])), Some(vec![3, 5]));
    }

    #[test]
    fn nexthop_objects_lead_on_where_the_route_does_not_say() {
        let members: Vec<u8> =
            [1u32, 2, 3, 9].iter().flat_map(|id| [*id, 0]).flat_map(u32::to_ne_bytes).collect();
        let group = encode_attribute(2, &members);
        let nexthop = |flags: u8, attributes: &[Vec<u8>]| {
            [vec![2, 0, 0, 0, flags, 0, 0, 0], attributes.concat()].concat()
        };
        let nexthops = [
            nexthop(0, &[number(1, 1), number(5, 11)]),
            nexthop(1, &[number(1, 2), number(5, 12)]),
            nexthop(0, &[number(1, 3), number(5, 13)]),
            nexthop(0, &[number(1, 10), group]),
        ];
        let of = |attributes: &[Vec<u8>]| {
            let listed = default_route(&route(MAIN, attributes)).into_iter().collect::<Vec<_>>();
            DefaultRoutes::new(&listed, nexthops.iter().map(Vec::as_slice))
        };
        let leads = |interfaces: &[u32]| DefaultRoutes {
            interfaces: interfaces.iter().copied().collect(),
            by_nexthop: true,
        };
        assert_eq!(of(&[number(NH_ID, 3)]), leads(&[13]));
        // The second one's link is down, and nobody knows the ninth.
        assert_eq!(of(&[number(NH_ID, 10)]), leads(&[11, 13]));
        assert_eq!(of(&[number(NH_ID, 2)]), leads(&[]));
        assert_eq!(of(&[number(NH_ID, 3), number(libc::RTA_OIF, 7)]), leads(&[7]));
        assert!(!of(&[number(libc::RTA_OIF, 7)]).by_nexthop);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (default_route(&bytes), nexthop(&bytes));
            let _ = default_route(&route(MAIN, &[encode_attribute(libc::RTA_MULTIPATH, &bytes)]));
        }
    }
}
