//! CIDR filters: which flows are wanted. Pure.

use ipnet::IpNet;

/// Include and exclude prefixes. Excluded beats included; an empty include list includes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrFilter {
    /// Prefixes by the side they apply to.
    pub include: Prefixes,
    /// Likewise.
    pub exclude: Prefixes,
}

/// Prefixes by the side of a flow they are held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// The source address.
    pub src: Vec<IpNet>,
    /// The destination address.
    pub dst: Vec<IpNet>,
    /// Either address.
    pub either: Vec<IpNet>,
}
