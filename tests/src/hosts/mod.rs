//! Hosts that do not exist, and what their interfaces carry: traffic as a live backend would hand it over, interval by
//! interval. Pure: the same seed gives the same snapshots.
//!
//! [`kinds`] says what each kind of host is made of, [`scenario`] what may happen to it, [`expected`] what must be said
//! about that, and [`trial`] asks the agent's own stages.

pub mod address;
pub mod clock;
pub mod expected;
pub mod kinds;
pub mod parts;
pub mod scenario;
pub mod traffic;
pub mod trial;

use std::{net::IpAddr, sync::Arc, time::Duration};

use rand::{SeedableRng as _, rngs::SmallRng};
use wherefore::locality::HostAddresses;

use self::{clock::Clock, parts::Part, traffic::Traffic};
use crate::Random;

/// A kind of host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// A public web server.
    Web,
    /// A database with its application servers.
    Database,
    /// A worker that others send work to.
    Worker,
    /// Hardly anything.
    Idle,
    /// A file server of an office.
    Files,
    /// The router of an office.
    Router,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Web, Self::Database, Self::Worker, Self::Idle, Self::Files, Self::Router];

    /// `web`, `database`, `worker`, `idle`, `files`, `router`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Database => "database",
            Self::Worker => "worker",
            Self::Idle => "idle",
            Self::Files => "files",
            Self::Router => "router",
        }
    }
}

/// A host and where it is in time.
#[derive(Clone, Debug)]
pub struct Host {
    kind: Kind,
    clock: Clock,
    parts: Vec<(Part, SmallRng)>,
    addresses: Arc<HostAddresses>,
}

impl Host {
    /// One before its first interval, at midnight of a day of the week that depends on the seed.
    #[must_use]
    pub fn new(kind: Kind, seed: u64, interval: Duration) -> Self {
        let mut seeds = Random::new(seed ^ ((kind as u64 + 1) << 32));
        let mut random = SmallRng::seed_from_u64(seeds.next());
        let first_day = seeds.next() % 7;
        let parts = kinds::parts(kind, &mut random)
            .into_iter()
            .map(|part| (part, SmallRng::seed_from_u64(seeds.next())))
            .collect();
        let length = interval.as_secs_f64();
        Self {
            kind,
            clock: Clock { first_day, start: 0.0, length },
            parts,
            addresses: Arc::new(HostAddresses::new([(address::host(false), 24), (address::host(true), 64)])),
        }
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The next interval.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> Arc<HostAddresses> {
        self.addresses.clone()
    }

    /// What it carries in the next interval when nothing happens to it.
    pub fn step(&mut self) -> Traffic {
        let mut traffic = Traffic::new(self.clock);
        for (part, random) in &mut self.parts {
            part.step(&mut traffic, random);
        }
        // Not a sum: of a sum of many small numbers the end of a day is none of a moment.
        let intervals = (self.clock.start / self.clock.length).round() + 1.0;
        self.clock.start = intervals * self.clock.length;
        traffic
    }

    /// It does a job no more: with whom it did.
    pub fn drop_job(&mut self, name: &str) -> Option<IpAddr> {
        let is_it = |part: &Part| matches!(part, Part::Job(job) if job.name == name);
        let dropped = self.parts.extract_if(.., |(part, _)| is_it(part)).next();
        dropped.and_then(|(part, _)| match part {
            Part::Job(job) => Some(job.remote.0),
            _ => None,
        })
    }

    /// Whether it does a job of this name.
    #[must_use]
    pub fn has_job(&self, name: &str) -> bool {
        self.parts.iter().any(|(part, _)| matches!(part, Part::Job(job) if job.name == name))
    }
}

#[cfg(test)]
mod tests;
