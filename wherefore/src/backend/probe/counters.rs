//! What devices count themselves, by rtnetlink: /sys and /proc/net/dev show the network namespace they were mounted
//! or opened in, a socket shows its own.

use std::{collections::BTreeMap, io};

use nix::sys::socket::SockProtocol;
use wherefore_common::Amount;

use super::{
    Attached,
    chain::{TCMSG, tcmsg},
    devices::xdp,
    netlink::{Ask, Socket, attribute, u32_at, u64_at},
};
use crate::coverage::{Counters, Queue};

/// Reads counters of devices of the network namespace of the thread that made it, whoever asks.
pub(in crate::backend) struct DeviceCounters(Socket);

impl DeviceCounters {
    /// # Errors
    /// What socket(2) says.
    pub fn new() -> io::Result<Self> {
        Socket::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// The counters of these devices as they are now: ingress, then egress. Devices that are gone are left out.
    /// One question for each, and one for all queueing disciplines: about 10 µs each.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&self, indexes: impl IntoIterator<Item = u32>) -> io::Result<BTreeMap<u32, [Counters; 2]>> {
        let queues = self.queues()?;
        let mut found = BTreeMap::new();
        for index in indexes {
            match self.link(index) {
                Ok(mut counters) => {
                    counters[1].queue = queues.get(&index).copied();
                    found.insert(index, counters);
                }
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn link(&self, index: u32) -> io::Result<[Counters; 2]> {
        /// struct if_stats_msg of `linux/if_link.h`: family and padding, index, mask of what is wanted.
        const IF_STATS_MSG: usize = 12;
        const IFLA_STATS_LINK_64: u16 = 1;
        let mut message = vec![0; 4];
        message.extend(index.to_ne_bytes());
        message.extend((1u32 << (IFLA_STATS_LINK_64 - 1)).to_ne_bytes());
        let answer = self.0.ask(libc::RTM_GETSTATS, Ask::One, &message)?;
        answer
            .first()
            .and_then(|message| link(attribute(message.body.get(IF_STATS_MSG..)?, IFLA_STATS_LINK_64)?))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Root queueing disciplines by device; most virtual devices have none. All of them are asked for, as the kernel
    /// answers a question about one to everybody who listens for changes.
    fn queues(&self) -> io::Result<BTreeMap<u32, Queue>> {
        let all = self.0.ask(libc::RTM_GETQDISC, Ask::All, &tcmsg(0, 0, 0))?;
        Ok(all.iter().filter_map(|message| queue(&message.body)).collect())
    }

    /// XDP programs of a device, without their names.
    ///
    /// # Errors
    /// As [`DeviceCounters::read`].
    pub fn xdp(&self, index: u32) -> io::Result<Vec<Attached>> {
        // struct ifinfomsg of `linux/rtnetlink.h`: the index at 4.
        let mut message = [0; 16];
        message[4..8].copy_from_slice(&index.to_ne_bytes());
        let answer = self.0.ask(libc::RTM_GETLINK, Ask::One, &message)?;
        let attributes = answer.first().and_then(|message| message.body.get(message.body.len().min(16)..));
        Ok(attributes
            .and_then(|attributes| attribute(attributes, libc::IFLA_XDP))
            .map(xdp)
            .unwrap_or_default())
    }
}

/// struct rtnl_link_stats64 of `linux/if_link.h`: received and sent packets, their bytes, errors, dropped, each
/// 64 bits.
fn link(stats: &[u8]) -> Option<[Counters; 2]> {
    let number = |place: usize| u64_at(stats, 8 * place);
    let way = |way: usize| {
        Some(Counters {
            passed: Amount { packets: number(way)?, wire_bytes: number(2 + way)? },
            dropped: number(6 + way)?,
            queue: None,
        })
    };
    Some([way(0)?, way(1)?])
}

/// One `RTM_NEWQDISC`, if it is of a root: the device, and of `TCA_STATS2` struct gnet_stats_queue
/// (`linux/gen_stats.h`), whose third number of 32 bits is of dropped packets. A discipline with children has theirs
/// in it.
fn queue(body: &[u8]) -> Option<(u32, Queue)> {
    const TCA_STATS2: u16 = 7;
    const TCA_STATS_QUEUE: u16 = 3;
    /// `TC_H_ROOT` of `linux/pkt_sched.h`.
    const ROOT: u32 = 0xffff_ffff;
    if u32_at(body, 12)? != ROOT {
        return None;
    }
    let stats = attribute(attribute(body.get(TCMSG..)?, TCA_STATS2)?, TCA_STATS_QUEUE)?;
    Some((u32_at(body, 4)?, Queue { handle: u32_at(body, 8)?, dropped: u32_at(stats, 8)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::probe::netlink::encode_attribute;

    #[test]
    fn received_and_sent_are_told_apart() {
        let stats: Vec<u8> = (1u64..=25).flat_map(u64::to_ne_bytes).collect();
        let way = |packets, wire_bytes, dropped| Counters {
            passed: Amount { packets, wire_bytes },
            dropped,
            queue: None,
        };
        assert_eq!(link(&stats), Some([way(1, 3, 7), way(2, 4, 8)]));
        assert_eq!(link(&stats[..60]), None);
    }

    #[test]
    fn a_queueing_discipline_s_dropped_packets_are_read() {
        let mut body = tcmsg(3, 0x8001_0000, u32::MAX);
        let numbers: Vec<u8> = [10u32, 20, 30, 40, 50].into_iter().flat_map(u32::to_ne_bytes).collect();
        body.extend(encode_attribute(7, &encode_attribute(3, &numbers)));
        assert_eq!(queue(&body), Some((3, Queue { handle: 0x8001_0000, dropped: 30 })));
        assert_eq!(queue(&body[..30]), None);
        // A child's are in its parent's.
        body[12] = 1;
        assert_eq!(queue(&body), None);
    }
}
