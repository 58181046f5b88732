//! What the traffic of a host is made of: people who come and go, jobs at their times, connections that stay, and what the
//! internet sends to everybody.

use std::net::IpAddr;

use rand::{Rng as _, rngs::SmallRng};
use rand_distr::{Distribution as _, Exp, LogNormal, Pareto, Poisson, StandardNormal};

use super::{
    address::{self, Network},
    clock::{Curve, Wander},
    traffic::{Conversation, TCP, Traffic, Transfer, UDP, ephemeral},
};

/// How large something is: log-normal around its median, with a Pareto tail now and then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Half are smaller.
    pub median: f64,
    /// Standard deviation of the logarithm.
    pub deviation: f64,
    /// Share that comes from the tail, which begins at ten times the median.
    pub tail: f64,
    /// None is larger.
    pub most: f64,
}

impl Size {
    /// Shape of the tail: transfers of the web and of files have 1.1 to 1.5 (Crovella and Bestavros, Self-Similarity in
    /// World Wide Web Traffic, 1997). The mean is finite, the variance is not.
    const SHAPE: f64 = 1.3;

    /// Without a tail.
    #[must_use]
    pub const fn around(median: f64, deviation: f64) -> Self {
        Self { median, deviation, tail: 0.0, most: f64::MAX }
    }

    /// With this share in the tail.
    #[must_use]
    pub const fn tailed(self, tail: f64, most: f64) -> Self {
        Self { tail, most, ..self }
    }

    /// One of them.
    pub fn draw(&self, random: &mut SmallRng) -> f64 {
        if self.median == 0.0 {
            return 0.0;
        }
        let value = if random.random_bool(self.tail) {
            Pareto::new(10.0 * self.median, Self::SHAPE).map(|tail| tail.sample(random))
        } else {
            LogNormal::new(self.median.ln(), self.deviation)
                .map(|body| body.sample(random))
                .or(Ok(self.median))
        };
        value.unwrap_or(self.median).min(self.most)
    }

    /// The sum of `n` of them; of many by the law of large numbers, without the tail.
    fn sum(&self, n: u64, random: &mut SmallRng) -> f64 {
        if n <= 30 {
            return (0..n).map(|_| self.draw(random)).sum();
        }
        let square = self.deviation * self.deviation;
        let (mean, spread) = (self.median * (square / 2.0).exp(), (square.exp() - 1.0).sqrt());
        let noise: f64 = StandardNormal.sample(random);
        (mean * n as f64 * (1.0 + spread * noise / (n as f64).sqrt())).max(0.0)
    }
}

/// How many of something come that come `mean` times on average.
fn count(mean: f64, random: &mut SmallRng) -> u64 {
    // Fails where the mean is 0.
    Poisson::new(mean).map_or(0, |poisson| poisson.sample(random) as u64)
}

/// One source of traffic.
#[derive(Clone, Debug)]
pub enum Part {
    /// People or programs that come for a while.
    Clients(Clients),
    /// Something that happens at its times.
    Job(Job),
    /// Connections that stay.
    Pool(Pool),
    /// Looked-up names.
    Names(Names),
    /// What comes to every address of the internet.
    Radiation(Radiation),
}

impl Part {
    /// Adds what this source has in the interval.
    pub fn step(&mut self, traffic: &mut Traffic, random: &mut SmallRng) {
        match self {
            Self::Clients(clients) => clients.step(traffic, random),
            Self::Job(job) => job.step(traffic, random),
            Self::Pool(pool) => pool.step(traffic, random),
            Self::Names(names) => names.step(traffic, random),
            Self::Radiation(radiation) => radiation.step(traffic, random),
        }
    }
}

/// On which side of the interface a session begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// They come to the host.
    Serve,
    /// The host goes to them.
    Ask,
    /// Hosts behind the router go to them.
    Forward,
}

/// Sessions: they come at random, more or fewer by the hour; each is one connection with several requests.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Where a session begins.
    pub role: Role,
    /// The server's port.
    pub port: u16,
    /// The others, those who come most often first.
    pub peers: Vec<IpAddr>,
    /// Share of sessions with somebody who was never there.
    pub newcomers: f64,
    /// Sessions a second when it is busiest.
    pub sessions: f64,
    /// How busy it is by the hour.
    pub curve: Curve,
    /// Requests of a session, on average.
    pub requests: f64,
    /// Seconds between them, on average.
    pub pause: f64,
    /// Bytes from this side by request.
    pub sent: Size,
    /// Bytes from the other side.
    pub received: Size,
    /// Bytes a second that the way between them allows.
    pub rate: Size,
    /// Begin with none.
    pub wander: Wander,
    /// Likewise.
    pub transfers: Vec<Transfer>,
}

impl Clients {
    fn step(&mut self, traffic: &mut Traffic, random: &mut SmallRng) {
        let clock = traffic.clock;
        let mean = self.sessions * clock.length * self.curve.at(&clock) * self.wander.next(&clock, random);
        for _ in 0..count(mean, random) {
            let begin = clock.start + random.random::<f64>() * clock.length;
            self.session(begin, random);
        }
        for transfer in &self.transfers {
            transfer.cross(traffic);
        }
        self.transfers.retain(|transfer| transfer.end > clock.end());
    }

    fn session(&mut self, begin: f64, random: &mut SmallRng) {
        let remote = if self.peers.is_empty() || random.random_bool(self.newcomers) {
            let v6 = random.random_bool(0.4);
            address::anybody(random, v6)
        } else {
            // Half of the sessions are those of a quarter of the peers.
            let place = (random.random::<f64>().powi(2) * self.peers.len() as f64) as usize;
            self.peers[place]
        };
        let conversation = match self.role {
            Role::Serve => Conversation::served(self.port, remote, random),
            Role::Ask => Conversation::asked(remote, self.port, random),
            Role::Forward => {
                let local = address::inner(random.random_range(1..=INNER), remote.is_ipv6());
                Conversation { local, ..Conversation::asked(remote, self.port, random) }
            }
        };
        let rate = self.rate.draw(random);
        let mut begin = begin;
        for _ in 0..=count(self.requests - 1.0, random) {
            let (sent, received) = (self.sent.draw(random), self.received.draw(random));
            let transfer = Transfer::new(conversation, begin, sent, received, rate);
            begin = transfer.end + Exp::new(1.0 / self.pause).map_or(0.0, |pause| pause.sample(random));
            self.transfers.push(transfer);
        }
    }
}

/// Hosts behind the router.
pub const INNER: u8 = 20;

/// Something that a clock starts.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name; a scenario takes `beacon` away.
    pub name: &'static str,
    /// Seconds from one to the next.
    pub period: f64,
    /// Seconds from midnight, or from the beginning of a period, to the first.
    pub offset: f64,
    /// It begins up to this many seconds later.
    pub jitter: f64,
    /// With whom, and at which port; the local one where that is not new each time.
    pub remote: (IpAddr, u16),
    /// The other end is the one that asks, at this port.
    pub served: Option<u16>,
    /// Bytes from this side.
    pub sent: Size,
    /// Bytes from the other side.
    pub received: Size,
    /// Bytes a second, at most.
    pub rate: f64,
    /// The port that stays, where one connection is kept.
    pub kept: Option<u16>,
    /// Begin with none.
    pub transfers: Vec<Transfer>,
}

impl Job {
    fn step(&mut self, traffic: &mut Traffic, random: &mut SmallRng) {
        for moment in traffic.clock.moments(self.period, self.offset) {
            let mut conversation = match self.served {
                Some(port) => Conversation::served(port, self.remote.0, random),
                None => Conversation::asked(self.remote.0, self.remote.1, random),
            };
            if let Some(port) = self.kept {
                match self.served {
                    Some(_) => conversation.remote_port = port,
                    None => conversation.local_port = port,
                }
            }
            let begin = moment + random.random::<f64>() * self.jitter;
            let (sent, received) = (self.sent.draw(random), self.received.draw(random));
            self.transfers.push(Transfer::new(conversation, begin, sent, received, self.rate));
        }
        for transfer in &self.transfers {
            transfer.cross(traffic);
        }
        self.transfers.retain(|transfer| transfer.end > traffic.clock.end());
    }
}

/// Connections that stay open, over which many small things pass.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The connections.
    pub connections: Vec<Conversation>,
    /// Things a second over each when it is busiest.
    pub rate: f64,
    /// How busy it is by the hour.
    pub curve: Curve,
    /// Bytes from this side by thing.
    pub sent: Size,
    /// Bytes from the other side.
    pub received: Size,
    /// Begins with none.
    pub wander: Wander,
}

impl Pool {
    /// Seconds after which a connection is opened anew, on average.
    const LIFE: f64 = 6.0 * 3_600.0;

    fn step(&mut self, traffic: &mut Traffic, random: &mut SmallRng) {
        let clock = traffic.clock;
        let mean = self.rate * clock.length * self.curve.at(&clock) * self.wander.next(&clock, random);
        for connection in &mut self.connections {
            if random.random_bool((clock.length / Self::LIFE).min(1.0)) {
                // The end that asked has the high port.
                let served = connection.local_port < connection.remote_port;
                let port = if served { &mut connection.remote_port } else { &mut connection.local_port };
                *port = ephemeral(random);
            }
            let things = count(mean, random);
            if things > 0 {
                let (sent, received) = (self.sent.sum(things, random), self.received.sum(things, random));
                traffic.exchange(connection, sent, received);
            }
        }
    }
}

/// Names that are looked up, each from a port of its own.
#[derive(Clone, Debug)]
pub struct Names {
    /// Who knows them.
    pub resolver: IpAddr,
    /// How many a second when it is busiest.
    pub rate: f64,
    /// How busy it is by the hour.
    pub curve: Curve,
}

impl Names {
    fn step(&mut self, traffic: &mut Traffic, random: &mut SmallRng) {
        let mean = self.rate * traffic.clock.length * self.curve.at(&traffic.clock);
        for _ in 0..count(mean, random) {
            let conversation = Conversation { proto: UDP, ..Conversation::asked(self.resolver, 53, random) };
            let answer = Size::around(110.0, 0.5).draw(random);
            traffic.exchange(&conversation, random.random_range(28.0..60.0), answer);
        }
    }
}

/// What reaches every address of the internet: scanners and what is left of worms, mostly one packet each.
#[derive(Clone, Debug)]
pub struct Radiation {
    /// Scanners that come again.
    pub scanners: Vec<IpAddr>,
    /// Packets a second.
    pub rate: f64,
    /// They are for hosts behind the router.
    pub forward: bool,
}

impl Radiation {
    /// Ports that are asked for most.
    const PORTS: [u16; 12] = [22, 23, 80, 443, 445, 1433, 3389, 5060, 6379, 8080, 8443, 9200];

    /// Scanners in so many networks, five of each.
    #[must_use]
    pub fn new(networks: u16, a_minute: f64, forward: bool, random: &mut SmallRng) -> Self {
        let scanners = (0..networks)
            .flat_map(|_| {
                let network = Network::any(random, false);
                [network.any_host(random), network.any_host(random), network.any_host(random)]
                    .into_iter()
                    .chain([network.any_host(random), network.any_host(random)])
            })
            .collect();
        Self { scanners, rate: a_minute / 60.0, forward }
    }

    fn step(&mut self, traffic: &mut Traffic, random: &mut SmallRng) {
        for _ in 0..count(self.rate * traffic.clock.length, random) {
            // Three of four were here before.
            let remote = if random.random_bool(0.75) {
                self.scanners[random.random_range(0..self.scanners.len())]
            } else {
                address::anybody(random, false)
            };
            let local = if self.forward {
                address::inner(random.random_range(1..=254), false)
            } else {
                address::host(false)
            };
            let local_port = if random.random_bool(0.6) {
                Self::PORTS[random.random_range(0..Self::PORTS.len())]
            } else {
                random.random_range(1..=u16::MAX)
            };
            let remote_port = random.random_range(1_024..=u16::MAX);
            let conversation = Conversation { local, local_port, remote, remote_port, proto: TCP };
            // Half are refused, half dropped.
            traffic.bare(&conversation, u64::from(random.random_bool(0.5)), 1);
        }
    }
}
