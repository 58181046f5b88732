//! A filter made ready for many flows: sorted ranges of addresses.

use std::{mem, net::IpAddr};

use ipnet::IpNet;
use wherefore_common::Reason;

use super::{CidrFilter, Prefixes, unmapped};
use crate::snapshot::Snapshot;

/// A [`CidrFilter`] made ready for many flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledFilter {
    include: Option<Sides>,
    exclude: Option<Sides>,
}

impl CompiledFilter {
    pub(super) fn new(filter: &CidrFilter) -> Self {
        let sides = |prefixes: &Prefixes| (!prefixes.is_empty()).then(|| Sides::new(prefixes));
        Self { include: sides(&filter.include), exclude: sides(&filter.exclude) }
    }

    /// As [`CidrFilter::wants`].
    #[must_use]
    pub fn wants(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.include.as_ref().is_none_or(|sides| sides.matches(src, dst))
            && !self.exclude.as_ref().is_some_and(|sides| sides.matches(src, dst))
    }

    /// Moves the flows that are not wanted to `unaccounted` as [`Reason::Filtered`].
    pub fn apply(&self, snapshot: &mut Snapshot) {
        if self.include.is_none() && self.exclude.is_none() {
            return;
        }
        let flows = mem::take(&mut snapshot.flows);
        let (wanted, unwanted): (Vec<_>, Vec<_>) =
            flows.into_iter().partition(|flow| self.wants(flow.src(), flow.dst()));
        snapshot.flows = wanted;
        for flow in unwanted {
            snapshot.add_unaccounted(flow.key.unaccounted(Reason::Filtered, 0), flow.counters.amount());
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sides {
    src: Ranges,
    dst: Ranges,
}

impl Sides {
    fn new(prefixes: &Prefixes) -> Self {
        let side = |list: &[IpNet]| Ranges::new(list.iter().chain(&prefixes.either).copied());
        Self { src: side(&prefixes.src), dst: side(&prefixes.dst) }
    }

    fn matches(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.src.contains(src) || self.dst.contains(dst)
    }
}

/// Addresses as sorted ranges that neither overlap nor touch, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    fn new(prefixes: impl Iterator<Item = IpNet>) -> Self {
        let mut ranges = Self::default();
        for prefix in prefixes {
            match unmapped(prefix) {
                IpNet::V4(net) => ranges.v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => ranges.v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        Self {
            v4: merged(ranges.v4, |end| end.checked_add(1)),
            v6: merged(ranges.v6, |end| end.checked_add(1)),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => within(&self.v4, v4.into()),
            IpAddr::V6(v6) => {
                within(&self.v6, v6.into())
                    || v6.to_ipv4_mapped().is_some_and(|v4| within(&self.v4, v4.into()))
            }
        }
    }
}

fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            // Without a number after the last range's end, everything greater is in it.
            Some(last) if after(last.1).is_none_or(|next| start <= next) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|range| range.0 <= address);
    after.checked_sub(1).is_some_and(|place| address <= ranges[place].1)
}
