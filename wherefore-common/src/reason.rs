//! Why a packet is in no flow.

/// Why a packet was counted without a flow. Names and numbers are stable: scripts and the kernel object
/// rely on them, so a new reason goes to the end.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The frame carries no IP: ARP, LLDP, spanning tree, …
    NonIp = 0,
    /// The frame ends inside its link header, tags or labels.
    LinkTruncated = 1,
    /// More tags, labels or encapsulations before the IP header than the parser follows.
    LinkDepth = 2,
    /// The captured bytes end inside the IP header.
    IpTruncated = 3,
    /// The IP version does not match the frame's type.
    IpVersion = 4,
    /// The IP header contradicts itself: header length below 20, or total length below header length.
    IpHeader = 5,
    /// A filter excluded it.
    Filtered = 6,
    /// The flow table was full.
    TableFull = 7,
    /// The flow table could not be written for another reason (lock contention, memory).
    TableBusy = 8,
    /// A capture of a link type that is not understood.
    LinkType = 9,
}

impl Reason {
    /// Every reason, in order of its number.
    pub const ALL: [Self; 10] = [
        Self::NonIp,
        Self::LinkTruncated,
        Self::LinkDepth,
        Self::IpTruncated,
        Self::IpVersion,
        Self::IpHeader,
        Self::Filtered,
        Self::TableFull,
        Self::TableBusy,
        Self::LinkType,
    ];

    /// The stable name, as in `unaccounted` of `wherefore flows --format json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NonIp => "non_ip",
            Self::LinkTruncated => "link_truncated",
            Self::LinkDepth => "link_depth",
            Self::IpTruncated => "ip_truncated",
            Self::IpVersion => "ip_version",
            Self::IpHeader => "ip_header",
            Self::Filtered => "filtered",
            Self::TableFull => "table_full",
            Self::TableBusy => "table_busy",
            Self::LinkType => "link_type",
        }
    }

    /// The reason of a number found in a key.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions_and_names_are_unique() {
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
            assert_eq!(Reason::from_u8(i as u8), Some(*reason));
            assert_eq!(Reason::ALL.iter().filter(|r| r.name() == reason.name()).count(), 1);
        }
        assert_eq!(Reason::from_u8(Reason::ALL.len() as u8), None);
    }
}
