//! The kinds of hosts, as lists of what their traffic is made of.

use std::net::IpAddr;

use rand::{Rng as _, rngs::SmallRng};

use super::{
    Kind,
    address::{self, Network, neighbour},
    clock::{Curve, DAY, HOUR, Wander},
    parts::{Clients, Job, Names, Part, Pool, Radiation, Role, Size},
    traffic::Conversation,
};

/// Neighbours by their work.
const MONITORING: u8 = 5;
const RESOLVER: u8 = 1;
const BACKUP: u8 = 30;
const LOGS: u8 = 31;
const DATABASE: u8 = 32;
const REPORTS: u8 = 33;
const STANDBY: u8 = 34;
const BROKER: u8 = 35;
const ADMIN: u8 = 40;
/// The first of those who use the file server.
const DESKTOPS: u8 = 100;

const MB: f64 = 1e6;

/// The sources of traffic of a host of this kind; whom it talks with and when depends on `random`.
#[must_use]
pub fn parts(kind: Kind, random: &mut SmallRng) -> Vec<Part> {
    let mut parts = match kind {
        Kind::Web => web(random),
        Kind::Database => database(random),
        Kind::Worker => worker(random),
        Kind::Idle => idle(random),
        Kind::Files => files(random),
        Kind::Router => router(random),
    };
    parts.extend(everywhere(random));
    parts
}

/// What every host has: it is watched, keeps its clock right, and looks for updates at night.
fn everywhere(random: &mut SmallRng) -> Vec<Part> {
    let watched = Job {
        period: 15.0,
        offset: random.random_range(0.0..15.0),
        served: Some(9_100),
        sent: Size::around(9_000.0, 0.05),
        received: Size::around(300.0, 0.01),
        kept: Some(50_000),
        ..job("monitoring", neighbour(MONITORING, false), 0)
    };
    let clock = Job {
        period: 1_024.0,
        offset: random.random_range(0.0..1_024.0),
        sent: Size::around(48.0, 0.0),
        received: Size::around(48.0, 0.0),
        ..job("time", address::anybody(random, false), 123)
    };
    let mirror = address::anybody(random, true);
    let updates = Job {
        period: DAY,
        offset: 6.0 * HOUR,
        jitter: HOUR,
        sent: Size::around(3e4, 0.3),
        received: Size::around(4.0 * MB, 0.8).tailed(0.1, 600.0 * MB),
        rate: 8.0 * MB,
        ..job("updates", mirror, 443)
    };
    let names = Names { resolver: neighbour(RESOLVER, false), rate: 0.02, curve: Curve::Flat };
    vec![Part::Job(watched), Part::Job(clock), Part::Job(updates), Part::Names(names)]
}

/// A job that carries nothing yet.
fn job(name: &'static str, remote: IpAddr, port: u16) -> Job {
    Job {
        name,
        period: DAY,
        offset: 0.0,
        jitter: 0.0,
        remote: (remote, port),
        served: None,
        sent: Size::around(0.0, 0.0),
        received: Size::around(0.0, 0.0),
        rate: 10.0 * MB,
        kept: None,
        transfers: Vec::new(),
    }
}

/// Sessions that carry nothing yet.
fn clients(role: Role, port: u16) -> Clients {
    Clients {
        role,
        port,
        peers: Vec::new(),
        newcomers: 0.0,
        sessions: 0.0,
        curve: Curve::Flat,
        requests: 1.0,
        pause: 1.0,
        sent: Size::around(0.0, 0.0),
        received: Size::around(0.0, 0.0),
        rate: Size::around(MB, 0.8),
        wander: Wander::default(),
        transfers: Vec::new(),
    }
}

/// A job of the night, at a minute of its own.
fn nightly(name: &'static str, remote: IpAddr, port: u16, bytes: f64, random: &mut SmallRng) -> Job {
    Job {
        offset: random.random_range(0..5 * 60) as f64 * 60.0,
        jitter: 40.0,
        sent: Size::around(bytes, 0.08),
        received: Size::around(bytes / 1_000.0, 0.1),
        rate: 40.0 * MB,
        ..job(name, remote, port)
    }
}

/// So many addresses in about half as many networks, a third of them by IPv6.
fn people(n: usize, random: &mut SmallRng) -> Vec<IpAddr> {
    let mut network = Network::any(random, false);
    (0..n)
        .map(|_| {
            if random.random_bool(0.5) {
                let v6 = random.random_bool(0.33);
                network = Network::any(random, v6);
            }
            network.any_host(random)
        })
        .collect()
}

/// A public web server: hundreds of visitors, a database behind it, logs every minute, a small backup.
fn web(random: &mut SmallRng) -> Vec<Part> {
    let visitors = Clients {
        peers: people(400, random),
        newcomers: 0.05,
        sessions: 0.25,
        curve: Curve::Public,
        requests: 6.0,
        pause: 8.0,
        sent: Size::around(14_000.0, 1.5).tailed(0.02, 300.0 * MB),
        received: Size::around(900.0, 0.6).tailed(0.005, 20.0 * MB),
        ..clients(Role::Serve, 443)
    };
    let queries = Pool {
        connections: pool(neighbour(DATABASE, false), 5_432, 4, random),
        rate: 3.0,
        curve: Curve::Public,
        sent: Size::around(400.0, 0.7),
        received: Size::around(2_500.0, 1.2),
        wander: Wander::default(),
    };
    let logs = Job {
        period: 60.0,
        offset: random.random_range(0.0..60.0),
        sent: Size::around(60_000.0, 0.4),
        received: Size::around(300.0, 0.1),
        ..job("logs", neighbour(LOGS, false), 514)
    };
    let backup = nightly("backup", neighbour(BACKUP, false), 22, 200.0 * MB, random);
    vec![
        Part::Clients(visitors),
        Part::Pool(queries),
        Part::Job(logs),
        Part::Job(backup),
        Part::Radiation(Radiation::new(40, 2.0, false, random)),
    ]
}

/// A database: four application servers, a standby, reports on the hour, a large backup at night.
fn database(random: &mut SmallRng) -> Vec<Part> {
    let connections = (50..54)
        .flat_map(|server| (0..4).map(move |_| neighbour(server, server % 2 == 0)))
        .map(|server| Conversation::served(5_432, server, random))
        .collect();
    let queries = Pool {
        connections,
        rate: 4.0,
        curve: Curve::Public,
        sent: Size::around(3_000.0, 1.2),
        received: Size::around(450.0, 0.7),
        wander: Wander::default(),
    };
    let results = Clients {
        peers: (50..54).map(|server| neighbour(server, server % 2 == 0)).collect(),
        sessions: 0.004,
        curve: Curve::Office,
        sent: Size::around(2.0 * MB, 1.3).tailed(0.05, 400.0 * MB),
        received: Size::around(900.0, 0.5),
        rate: Size::around(30.0 * MB, 0.4),
        ..clients(Role::Serve, 5_432)
    };
    let standby = Pool {
        connections: vec![Conversation::served(5_432, neighbour(STANDBY, false), random)],
        rate: 3.0,
        curve: Curve::Public,
        sent: Size::around(8_000.0, 1.0),
        received: Size::around(60.0, 0.1),
        wander: Wander::default(),
    };
    let reports = Job {
        period: HOUR,
        offset: 0.0,
        jitter: 6.0,
        served: Some(5_432),
        sent: Size::around(30.0 * MB, 0.35),
        received: Size::around(4_000.0, 0.2),
        rate: 20.0 * MB,
        ..job("reports", neighbour(REPORTS, false), 0)
    };
    let backup = nightly("backup", neighbour(BACKUP, true), 22, 2_000.0 * MB, random);
    vec![
        Part::Pool(queries),
        Part::Clients(results),
        Part::Pool(standby),
        Part::Job(reports),
        Part::Job(backup),
    ]
}

/// A worker of a chat: a connection to its queue, work that comes in bursts, calls to services elsewhere.
fn worker(random: &mut SmallRng) -> Vec<Part> {
    let queue = Pool {
        connections: pool(neighbour(BROKER, true), 5_671, 1, random),
        rate: 0.8,
        curve: Curve::Home,
        sent: Size::around(500.0, 0.8),
        received: Size::around(900.0, 0.9),
        wander: Wander::default(),
    };
    let calls = Clients {
        peers: people(5, random),
        sessions: 0.01,
        curve: Curve::Home,
        requests: 12.0,
        pause: 2.5,
        sent: Size::around(2_500.0, 1.0),
        received: Size::around(18_000.0, 1.4).tailed(0.01, 40.0 * MB),
        rate: Size::around(4.0 * MB, 0.5),
        ..clients(Role::Ask, 443)
    };
    vec![Part::Pool(queue), Part::Clients(calls), Part::Job(beacon(random)), Part::Job(keep_alive(random))]
}

/// Hardly anything: a shell that is kept open, and an agent that reports.
fn idle(random: &mut SmallRng) -> Vec<Part> {
    let shell = Job {
        period: 30.0,
        offset: random.random_range(0.0..30.0),
        served: Some(22),
        sent: Size::around(44.0, 0.0),
        received: Size::around(44.0, 0.0),
        kept: Some(51_234),
        ..job("shell", neighbour(ADMIN, false), 0)
    };
    vec![Part::Job(shell), Part::Job(beacon(random))]
}

/// A file server of an office: few clients, most by IPv6, that read and write in bursts; a large backup at night.
fn files(random: &mut SmallRng) -> Vec<Part> {
    let desktops: Vec<IpAddr> = (0..8).map(|n| neighbour(DESKTOPS + n, n % 4 != 0)).collect();
    let reading = Clients {
        peers: desktops.clone(),
        sessions: 0.012,
        curve: Curve::Office,
        requests: 8.0,
        pause: 3.0,
        sent: Size::around(0.2 * MB, 2.0).tailed(0.02, 4_000.0 * MB),
        received: Size::around(1_500.0, 0.5),
        rate: Size::around(60.0 * MB, 0.4),
        ..clients(Role::Serve, 445)
    };
    let writing = Clients {
        peers: desktops,
        sessions: 0.004,
        sent: Size::around(1_500.0, 0.5),
        received: Size::around(0.2 * MB, 2.0).tailed(0.02, 2_000.0 * MB),
        ..reading.clone()
    };
    let backup = nightly("backup", neighbour(BACKUP, true), 22, 6_000.0 * MB, random);
    vec![Part::Clients(reading), Part::Clients(writing), Part::Job(backup)]
}

/// A router of an office, seen at its uplink: it forwards.
fn router(random: &mut SmallRng) -> Vec<Part> {
    let browsing = Clients {
        peers: people(300, random),
        newcomers: 0.05,
        sessions: 0.15,
        curve: Curve::Office,
        requests: 5.0,
        pause: 6.0,
        sent: Size::around(1_200.0, 0.8).tailed(0.005, 50.0 * MB),
        received: Size::around(25_000.0, 1.6).tailed(0.02, 800.0 * MB),
        rate: Size::around(2.0 * MB, 0.7),
        ..clients(Role::Forward, 443)
    };
    let calls = Clients {
        peers: people(6, random),
        sessions: 0.001,
        curve: Curve::Office,
        // Video calls of some twenty minutes: pieces of ten seconds one after the other.
        requests: 120.0,
        pause: 0.01,
        sent: Size::around(1.5 * MB, 0.3),
        received: Size::around(2.0 * MB, 0.3),
        rate: Size::around(0.2 * MB, 0.05),
        newcomers: 0.02,
        ..clients(Role::Forward, 3_478)
    };
    let devices = Clients {
        peers: people(12, random),
        sessions: 0.02,
        sent: Size::around(800.0, 0.5),
        received: Size::around(600.0, 0.5),
        ..clients(Role::Forward, 8_883)
    };
    vec![
        Part::Clients(browsing),
        Part::Clients(calls),
        Part::Clients(devices),
        Part::Radiation(Radiation::new(40, 2.0, true, random)),
    ]
}

/// What an agent tells its server every minute.
fn beacon(random: &mut SmallRng) -> Job {
    Job {
        period: 60.0,
        offset: random.random_range(0.0..60.0),
        jitter: 1.0,
        sent: Size::around(2_500.0, 0.1),
        received: Size::around(400.0, 0.1),
        ..job("beacon", address::anybody(random, false), 443)
    }
}

/// A connection that says every 25 s that it is still there.
fn keep_alive(random: &mut SmallRng) -> Job {
    Job {
        period: 25.0,
        offset: random.random_range(0.0..25.0),
        sent: Size::around(60.0, 0.0),
        received: Size::around(60.0, 0.0),
        kept: Some(40_123),
        ..job("keep-alive", address::anybody(random, true), 443)
    }
}

/// Connections to one server.
fn pool(server: IpAddr, port: u16, n: usize, random: &mut SmallRng) -> Vec<Conversation> {
    (0..n).map(|_| Conversation::asked(server, port, random)).collect()
}
