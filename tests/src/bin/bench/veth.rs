//! What a sender over a veth pair loses of its packet rate, with each of several watchers at its device.

use std::{
    process::Command,
    time::{Duration, Instant},
};

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
    Scope, cpu_time, median,
    report::{Cell, Table},
    rig::Rig,
};

/// Bytes of payload: 64-byte frames, where a packet's cost shows most.
const PAYLOAD: usize = 22;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watcher {
    /// A reference program at egress and ingress.
    Reference(&'static str, Hook),
    Wherefore(Hook),
    Tcpdump,
}

/// Packets a second, by the clock and by the CPU time of the sending thread. The latter is not disturbed by
/// what else the machine does, and does not see what a watcher costs other threads.
#[derive(Clone, Copy, Debug)]
struct Rate {
    clock: f64,
    cpu: f64,
}

const WATCHERS: [(&str, Watcher); 7] = [
    ("empty, tcx", Watcher::Reference("empty", Hook::Tc)),
    ("smallest, tcx", Watcher::Reference("smallest", Hook::Tc)),
    ("wherefore, tcx", Watcher::Wherefore(Hook::Tc)),
    ("empty, clsact", Watcher::Reference("empty", Hook::Clsact)),
    ("smallest, clsact", Watcher::Reference("smallest", Hook::Clsact)),
    ("wherefore, clsact", Watcher::Wherefore(Hook::Clsact)),
    ("tcpdump -w /dev/null", Watcher::Tcpdump),
];

/// Every watcher in each round, each right after nothing.
///
/// # Errors
/// What the system says.
pub fn measure(scope: Scope) -> Result<Vec<Table>> {
    let packets = scope.pick(150_000, 2_000);
    let rounds = scope.pick(11, 1);
    let watchers: Vec<_> = WATCHERS
        .into_iter()
        .filter(|(_, watcher)| *watcher != Watcher::Tcpdump || crate::installed("tcpdump"))
        .collect();
    let netns = pair::namespace();
    let pairs = netns.run(|| {
        let mut pairs = vec![Vec::new(); watchers.len()];
        send(packets)?;
        for _ in 0..rounds {
            for ((name, watcher), pairs) in watchers.iter().zip(&mut pairs) {
                let free = send(packets)?;
                let rate = watched(*watcher, packets).with_context(|| format!("sending with: {name}"))?;
                pairs.push((free, rate));
            }
        }
        anyhow::Ok(pairs)
    })?;
    let free: Vec<f64> = pairs.iter().flatten().map(|(free, _)| free.clock).collect();
    let kilo = |rates: &[f64]| Cell::Number(median(rates) / 1e3, 0);
    let dash = || Cell::Text("-".into());
    let mut rows = vec![("nothing".to_owned(), vec![kilo(&free), dash(), dash()])];
    for ((name, _), pairs) in watchers.iter().zip(&pairs) {
        let values = |of: fn(&(Rate, Rate)) -> f64| pairs.iter().map(of).collect::<Vec<f64>>();
        let cells = vec![
            kilo(&values(|(_, rate)| rate.clock)),
            Cell::Number(median(&values(|(free, rate)| (1.0 - rate.clock / free.clock) * 100.0)), 1),
            Cell::Number(median(&values(|(free, rate)| (1.0 - rate.cpu / free.cpu) * 100.0)), 1),
        ];
        rows.push(((*name).to_owned(), cells));
    }
    if watchers.len() < WATCHERS.len() {
        rows.push(("tcpdump".into(), vec![Cell::Text("not installed".into()); 3]));
    }
    let about = format!(
        "A sender of datagrams of {PAYLOAD} bytes over a veth pair, watched at its own device, both ways: median \
         rate, and median loss against nothing right before, by the clock and by the sending thread's CPU time, of \
         {rounds} interleaved rounds of {packets} packets."
    );
    let columns = ["thousand packets/s", "loss, %", "loss by CPU time, %"].map(str::to_owned).to_vec();
    Ok(vec![Table { name: "veth", about, columns, rows }])
}

/// Packets a second while `watcher` watches.
fn watched(watcher: Watcher, packets: u32) -> Result<Rate> {
    match watcher {
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
            let backend = ebpf::start(&pair::only(NEAR, hook))?;
            let rate = send(packets);
            drop(backend);
            rate
        }
        Watcher::Tcpdump => {
            let mut command = Command::new("tcpdump");
            let mut process = Agent::start(None, command.args(["-i", NEAR, "-w", "/dev/null"]));
            process.wait_for_line(Stream::Err, PATIENCE, |line| line.contains("listening"));
            let rate = send(packets);
            process.signal(Signal::SIGTERM);
            drop(process.wait(PATIENCE));
            rate
        }
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

/// Sends as fast as it goes.
fn send(packets: u32) -> Result<Rate> {
    let socket = pair::socket()?;
    socket.connect(pair::far(4100))?;
    let payload = [0; PAYLOAD];
    let (begun, before) = (Instant::now(), cpu_time()?);
    for _ in 0..packets {
        socket.send(&payload)?;
    }
    let rate = |time: Duration| f64::from(packets) / time.as_secs_f64();
    Ok(Rate { clock: rate(begun.elapsed()), cpu: rate(cpu_time()? - before) })
}
