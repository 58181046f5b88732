//! What may happen to a host, and how that changes its traffic.

use ipnet::IpNet;
use std::net::IpAddr;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::{
    Host, Kind,
    address::{self, Network},
    clock::{Clock, DAY, HOUR},
    parts::{INNER, Size},
    traffic::{Conversation, Traffic, Transfer},
};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scenario {
    /// 10 to 50 times the host's mean rate, 1 MB/s at least, to one remote host for one to five minutes.
    TheftBurst,
    /// To one remote host, growing over two hours to four times the host's mean rate, 0.5 MB/s at least.
    TheftRamp,
    /// 4,000 flows within a quarter of an hour to all hosts of one network: five times the host's mean rate together,
    /// 160 MB at least.
    TheftScattered,
    /// Some 100 MB in half an hour to the same remote host, each of three nights.
    TheftTrickle,
    /// For an hour as much to a remote host as the largest regular peer had in the hour before, 50 kB/s at least.
    NewDestination,
    /// One remote host tries 5,000 ports within a minute.
    PortScanIn,
    /// This host, or one behind it, tries 8 ports of each host of a network within a minute.
    PortScanOut,
    /// 300 attempts a second to connect, each from another address, for three minutes.
    SynFlood,
    /// What an agent told its server every minute is told no more.
    BeaconStops,
    /// Nothing crosses the interface for five minutes.
    Outage,
    /// 500 MB to a neighbour, from now on every night.
    NewBackup,
    /// Every flow carries twice as much from now on.
    DeployDoubles,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::TheftBurst,
        Self::TheftRamp,
        Self::TheftScattered,
        Self::TheftTrickle,
        Self::NewDestination,
        Self::PortScanIn,
        Self::PortScanOut,
        Self::SynFlood,
        Self::BeaconStops,
        Self::Outage,
        Self::NewBackup,
        Self::DeployDoubles,
    ];

    /// Its name in tables and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TheftBurst => "theft-burst",
            Self::TheftRamp => "theft-ramp",
            Self::TheftScattered => "theft-scattered",
            Self::TheftTrickle => "theft-trickle",
            Self::NewDestination => "new-destination",
            Self::PortScanIn => "port-scan-in",
            Self::PortScanOut => "port-scan-out",
            Self::SynFlood => "syn-flood",
            Self::BeaconStops => "beacon-stops",
            Self::Outage => "outage",
            Self::NewBackup => "new-backup",
            Self::DeployDoubles => "deploy-doubles",
        }
    }

    /// It goes on for days.
    #[must_use]
    pub const fn takes_nights(self) -> bool {
        matches!(self, Self::TheftTrickle | Self::NewBackup)
    }
}

/// What a host carried so far, as far as a scenario is measured by it. Bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usual {
    /// Sent, on average.
    pub sent: f64,
    /// By the peer that has most of the last hour, both ways.
    pub largest_peer: f64,
}

/// A scenario that happens to a host.
#[derive(Clone, Debug)]
pub struct Incident {
    scenario: Scenario,
    /// Second at which it begins.
    onset: f64,
    usual: Usual,
    random: SmallRng,
    /// Whom it concerns most: the remote host, or the neighbour that the backup goes to.
    peer: IpAddr,
    network: Network,
    /// This end of it.
    local: IpAddr,
    /// The connection of what grows.
    upload: Conversation,
    transfers: Vec<Transfer>,
}

/// Seconds of a theft in a ramp.
const RAMP: f64 = 2.0 * HOUR;
/// Flows of a scattered theft, and seconds that they take.
const SCATTERED: (u64, f64) = (4_000, 900.0);
/// Nights of a trickle.
const NIGHTS: f64 = 3.0;
/// Attempts a second and seconds of a flood.
const FLOOD: (f64, f64) = (300.0, 180.0);
/// Seconds of a scan.
const SCAN: f64 = 60.0;
/// Ports that an inward scan tries.
const SCANNED: u16 = 5_000;
/// Seconds of an outage.
const OUTAGE: f64 = 300.0;

impl Incident {
    /// One that begins with the host's next interval.
    #[must_use]
    pub fn new(scenario: Scenario, host: &mut Host, usual: Usual, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let v6 = random.random_bool(0.4);
        let network = Network::any(&mut random, v6);
        let peer = match scenario {
            Scenario::NewBackup => address::neighbour(36, v6),
            _ => network.any_host(&mut random),
        };
        let local = match host.kind() {
            Kind::Router => address::inner(random.random_range(1..=INNER), v6),
            _ => address::host(v6),
        };
        let onset = host.clock().start;
        let upload = Conversation { local, ..Conversation::asked(peer, 443, &mut random) };
        let mut this =
            Self { scenario, onset, usual, random, peer, network, local, upload, transfers: Vec::new() };
        this.begin(host);
        this
    }

    /// What happens.
    #[must_use]
    pub const fn scenario(&self) -> Scenario {
        self.scenario
    }

    /// An address has to do with it; all have with what concerns the whole interface.
    #[must_use]
    pub fn concerns(&self, address: IpAddr) -> bool {
        match self.scenario {
            Scenario::TheftScattered | Scenario::PortScanOut => self.network.contains(address),
            Scenario::SynFlood | Scenario::Outage | Scenario::DeployDoubles => true,
            _ => address == self.peer,
        }
    }

    /// A remote network has to do with it; likewise.
    #[must_use]
    pub fn concerns_network(&self, net: IpNet) -> bool {
        net.contains(&self.peer) || self.concerns(net.addr())
    }

    /// It is of the whole interface.
    #[must_use]
    pub const fn is_of_all(&self) -> bool {
        matches!(self.scenario, Scenario::SynFlood | Scenario::Outage | Scenario::DeployDoubles)
    }

    /// Whom it concerns most, where that is one.
    #[must_use]
    pub const fn peer(&self) -> IpAddr {
        self.peer
    }

    /// What is known at the beginning.
    fn begin(&mut self, host: &mut Host) {
        match self.scenario {
            Scenario::TheftBurst => {
                let factor = 10.0 * 5_f64.powf(self.random.random());
                let rate = (factor * self.usual.sent).max(1e6);
                let length = self.random.random_range(60.0..300.0);
                self.send(self.onset, rate * length, rate);
            }
            Scenario::TheftTrickle => {
                for night in 0..NIGHTS as u32 {
                    // Between 1 and 5 h of the next night.
                    let midnight = (self.onset / DAY).ceil() + f64::from(night);
                    let begin = midnight * DAY + self.random.random_range(HOUR..5.0 * HOUR);
                    let bytes = Size::around(100e6, 0.1).draw(&mut self.random);
                    self.send(begin, bytes, bytes / 1_800.0);
                }
            }
            Scenario::NewDestination => {
                let rate = self.usual.largest_peer.max(5e4);
                self.send(self.onset, rate * HOUR, rate);
            }
            Scenario::NewBackup => {
                let minute = self.random.random_range(0..5 * 60);
                for night in 0..7 {
                    let midnight = (self.onset / DAY).ceil() + f64::from(night);
                    let bytes = Size::around(500e6, 0.08).draw(&mut self.random);
                    self.send(midnight * DAY + f64::from(minute) * 60.0 + 5.0, bytes, 40e6);
                }
            }
            Scenario::BeaconStops => {
                if let Some(peer) = host.drop_job("beacon") {
                    self.peer = peer;
                }
            }
            _ => {}
        }
    }

    /// Bytes to the peer, over a connection of their own.
    fn send(&mut self, begin: f64, bytes: f64, rate: f64) {
        let conversation = self.to(self.peer, 443);
        // What an upload is answered with.
        self.transfers.push(Transfer::new(conversation, begin, bytes, bytes / 2_000.0, rate));
    }

    fn to(&mut self, remote: IpAddr, port: u16) -> Conversation {
        Conversation { local: self.local, ..Conversation::asked(remote, port, &mut self.random) }
    }

    /// Changes what the host carries in an interval since the onset.
    pub fn change(&mut self, traffic: &mut Traffic) {
        let clock = traffic.clock;
        match self.scenario {
            Scenario::TheftRamp => self.ramp(traffic),
            Scenario::TheftScattered => self.scatter(&clock),
            Scenario::PortScanIn => self.scan_in(traffic),
            Scenario::PortScanOut => self.scan_out(traffic),
            Scenario::SynFlood => self.flood(traffic),
            Scenario::Outage if clock.start < self.onset + OUTAGE => traffic.cut(),
            Scenario::DeployDoubles => traffic.multiply(2),
            _ => {}
        }
        for transfer in &self.transfers {
            transfer.cross(traffic);
        }
        self.transfers.retain(|transfer| transfer.end > clock.end());
    }

    fn ramp(&self, traffic: &mut Traffic) {
        let clock = traffic.clock;
        let since = clock.start - self.onset + clock.length / 2.0;
        if since < RAMP {
            let bytes = (4.0 * self.usual.sent).max(5e5) * since / RAMP * clock.length;
            traffic.exchange(&self.upload, bytes, bytes / 2_000.0);
        }
    }

    /// How many of `n` things that take `length` seconds from the onset fall into an interval.
    fn of(&self, n: u64, length: f64, clock: &Clock) -> std::ops::Range<u64> {
        let at =
            |moment: f64| ((moment - self.onset) / length * n as f64).clamp(0.0, n as f64).round() as u64;
        at(clock.start)..at(clock.end())
    }

    fn scatter(&mut self, clock: &Clock) {
        let (flows, length) = SCATTERED;
        let size = Size::around((5.0 * self.usual.sent * length / flows as f64).max(40_000.0), 0.3);
        for _ in self.of(flows, length, clock) {
            let remote = self.network.any_host(&mut self.random);
            let conversation = self.to(remote, 443);
            let begin = clock.start + self.random.random::<f64>() * clock.length;
            let bytes = size.draw(&mut self.random);
            self.transfers.push(Transfer::new(conversation, begin, bytes, 2_000.0, 1e6));
        }
    }

    fn scan_in(&mut self, traffic: &mut Traffic) {
        for n in self.of(SCANNED.into(), SCAN, &traffic.clock) {
            let probe = Conversation {
                local: self.local,
                local_port: n as u16 + 1,
                remote: self.peer,
                remote_port: 40_000,
                proto: super::traffic::TCP,
            };
            traffic.bare(&probe, 1, 1);
        }
    }

    fn scan_out(&mut self, traffic: &mut Traffic) {
        const PORTS: [u16; 8] = [22, 23, 80, 443, 445, 3_389, 8_080, 8_443];
        for n in self.of(8 * 254, SCAN, &traffic.clock) {
            let remote = self.network.host((n / 8) as u16 + 1);
            let probe = self.to(remote, PORTS[(n % 8) as usize]);
            // One in ten answers.
            traffic.bare(&probe, 1, u64::from(self.random.random_bool(0.1)));
        }
    }

    fn flood(&mut self, traffic: &mut Traffic) {
        let (rate, length) = FLOOD;
        let local = address::host(false);
        for _ in self.of((rate * length) as u64, length, &traffic.clock) {
            let remote = address::anybody(&mut self.random, false);
            let attempt = Conversation { local, ..Conversation::served(443, remote, &mut self.random) };
            traffic.bare(&attempt, 1, 1);
        }
    }
}

#[cfg(test)]
#[path = "scenario_tests.rs"]
mod tests;
