//! Who talks with a host. All addresses are of ranges that no host on the internet has: the host and its neighbours in
//! 192.0.2.0/24 and 2001:db8::/48 (RFC 5737, RFC 3849), hosts behind a router in 198.51.100.0/24 and 2001:db8:1::/48,
//! everybody else in 198.18.0.0/15, the range for benchmarks (RFC 2544), which has 512 networks of the size of a /24,
//! and in other /48 of 2001:db8::/32.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::{Rng as _, rngs::SmallRng};

/// Number of the host in its network.
const HOST: u8 = 10;

/// The host's own address.
#[must_use]
pub const fn host(v6: bool) -> IpAddr {
    neighbour(HOST, v6)
}

/// A host in the same network; 10 is the host itself.
#[must_use]
pub const fn neighbour(n: u8, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n as u16))
    } else {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))
    }
}

/// A host behind the router.
#[must_use]
pub const fn inner(n: u8, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n as u16))
    } else {
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, n))
    }
}

/// A remote network: a /24 or a /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    number: u16,
    v6: bool,
}

impl Network {
    /// Any of 512 by IPv4, of 32,768 by IPv6.
    pub fn any(random: &mut SmallRng, v6: bool) -> Self {
        // Lower numbers by IPv6 are the host's own network and that behind the router.
        Self {
            number: if v6 { random.random_range(0x8000..=0xffff) } else { random.random_range(0..512) },
            v6,
        }
    }

    /// One of its hosts.
    #[must_use]
    pub fn host(self, n: u16) -> IpAddr {
        if self.v6 {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, self.number, 0, 0, 0, 0, n))
        } else {
            let [high, low] = self.number.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(198, 18 + high, low, n.to_be_bytes()[1]))
        }
    }

    /// Any of its hosts.
    pub fn any_host(self, random: &mut SmallRng) -> IpAddr {
        self.host(random.random_range(1..255))
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(ip) => !self.v6 && self.host(ip.octets()[3].into()) == address,
            IpAddr::V6(ip) => self.v6 && self.host(ip.segments()[7]) == address,
        }
    }
}

/// Somebody somewhere.
pub fn anybody(random: &mut SmallRng, v6: bool) -> IpAddr {
    Network::any(random, v6).any_host(random)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_network_contains_its_hosts_and_no_others() {
        let mut random = SmallRng::seed_from_u64(1);
        for v6 in [false, true] {
            let (network, other) = (Network { number: 0x101, v6 }, Network { number: 0x102, v6 });
            for _ in 0..100 {
                assert!(network.contains(network.any_host(&mut random)));
                assert!(!network.contains(other.any_host(&mut random)));
            }
            assert!(!network.contains(host(v6)) && !network.contains(inner(9, v6)));
        }
        assert_eq!(Network { number: 0x101, v6: false }.host(7).to_string(), "198.19.1.7");
    }
}
