//! What a sender over a veth pair loses of its packet rate, with each of several watchers at its device.

use std::{net::UdpSocket, process::Command, time::Instant};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        tc::{NlOptions, TcAttachOptions, qdisc_add_clsact},
    },
};
use nix::sys::signal::Signal;
use wherefore::backend::{Hook, ebpf};
use wherefore_tests::{
    Agent, PATIENCE,
    agent::Stream,
    pair::{self, NEAR},
};

use crate::{
    Scope, median,
    report::{Cell, Table},
    rig::Rig,
};

/// Bytes of payload: 64-byte frames, where a packet's cost shows most.
const PAYLOAD: usize = 22;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watcher {
    Nothing,
    /// A reference program at egress and ingress.
    Reference(&'static str, Hook),
    Wherefore(Hook),
    Tcpdump,
}

const WATCHERS: [(&str, Watcher); 8] = [
    ("nothing", Watcher::Nothing),
    ("empty, tcx", Watcher::Reference("empty", Hook::Tc)),
    ("smallest, tcx", Watcher::Reference("smallest", Hook::Tc)),
    ("wherefore, tcx", Watcher::Wherefore(Hook::Tc)),
    ("empty, clsact", Watcher::Reference("empty", Hook::Clsact)),
    ("smallest, clsact", Watcher::Reference("smallest", Hook::Clsact)),
    ("wherefore, clsact", Watcher::Wherefore(Hook::Clsact)),
    ("tcpdump -w /dev/null", Watcher::Tcpdump),
];

/// Every watcher in each round, another one first each time.
///
/// # Errors
/// What the system says.
pub fn measure(scope: Scope) -> Result<Vec<Table>> {
    let packets = scope.pick(500_000, 2_000);
    let rounds = scope.pick(9, 1);
    let netns = pair::namespace();
    let rates = netns.run(|| {
        let mut rates = vec![Vec::new(); WATCHERS.len()];
        send(packets / 4)?;
        for round in 0..rounds {
            for place in 0..WATCHERS.len() {
                let place = (place + round) % WATCHERS.len();
                let (name, watcher) = WATCHERS[place];
                rates[place]
                    .push(watched(watcher, packets).with_context(|| format!("sending with: {name}"))?);
            }
        }
        anyhow::Ok(rates)
    })?;
    let rows = WATCHERS
        .iter()
        .zip(&rates)
        .map(|((name, watcher), own)| {
            let cells = if *watcher == Watcher::Tcpdump && !crate::installed("tcpdump") {
                vec![Cell::Text("not installed".into()); 2]
            } else {
                let losses: Vec<f64> =
                    own.iter().zip(&rates[0]).map(|(rate, free)| (1.0 - rate / free) * 100.0).collect();
                vec![Cell::Number(median(own) / 1e3, 0), Cell::Number(median(&losses), 1)]
            };
            ((*name).to_owned(), cells)
        })
        .collect();
    let about = format!(
        "A sender of datagrams of {PAYLOAD} bytes over a veth pair, watched at its own device, both ways: median \
         rate, and median loss against nothing in the same round, of {rounds} interleaved rounds of {packets} packets."
    );
    let columns = ["thousand packets/s", "loss, %"].map(str::to_owned).to_vec();
    Ok(vec![Table { name: "veth", about, columns, rows }])
}

/// Packets a second while `watcher` watches.
fn watched(watcher: Watcher, packets: u32) -> Result<f64> {
    match watcher {
        Watcher::Nothing => send(packets),
        Watcher::Reference(program, hook) => {
            let mut rig = Rig::new(&[0], 1 << 17)?;
            if hook == Hook::Clsact {
                qdisc_add_clsact(NEAR)?;
            }
            for way in [TcAttachType::Ingress, TcAttachType::Egress] {
                attach(&mut rig.ebpf, program, hook, way)?;
            }
            let rate = send(packets);
            drop(rig);
            if hook == Hook::Clsact {
                // Its filters go with it.
                drop(pair::tc(&format!("qdisc del dev {NEAR} clsact")));
            }
            rate
        }
        Watcher::Wherefore(hook) => {
            let mut settings = pair::settings(hook);
            settings.interfaces = vec![NEAR.into()];
            let backend = ebpf::start(&settings, &[pair::target(NEAR)])?;
            let rate = send(packets);
            drop(backend);
            rate
        }
        Watcher::Tcpdump if crate::installed("tcpdump") => {
            let mut command = Command::new("tcpdump");
            let mut process = Agent::start(None, command.args(["-i", NEAR, "-w", "/dev/null"]));
            process.wait_for_line(Stream::Err, PATIENCE, |line| line.contains("listening"));
            let rate = send(packets);
            process.signal(Signal::SIGTERM);
            drop(process.wait(PATIENCE));
            rate
        }
        Watcher::Tcpdump => Ok(f64::NAN),
    }
}

fn attach(ebpf: &mut Ebpf, name: &str, hook: Hook, way: TcAttachType) -> Result<()> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    let program: &mut SchedClassifier = program.try_into()?;
    let options = match hook {
        Hook::Clsact => TcAttachOptions::Netlink(NlOptions::default()),
        _ => TcAttachOptions::TcxOrder(LinkOrder::default()),
    };
    program.attach_with_options(NEAR, way, options)?;
    Ok(())
}

/// Sends as fast as it goes: packets a second.
fn send(packets: u32) -> Result<f64> {
    let socket: UdpSocket = pair::socket()?;
    socket.connect(pair::far(4100))?;
    let payload = [0; PAYLOAD];
    let begun = Instant::now();
    for _ in 0..packets {
        socket.send(&payload)?;
    }
    Ok(f64::from(packets) / begun.elapsed().as_secs_f64())
}
