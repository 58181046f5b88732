//! What an agent costs a host on which nothing happens.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use wherefore_tests::{Agent, Netns, PATIENCE, agent::Stream, pair};

use crate::{
    Scope,
    report::{Cell, Table},
};

/// The agent by both backends and tcpdump as reference, at the same time, on a veth pair without traffic.
///
/// # Errors
/// What the system says.
pub fn measure(scope: Scope) -> Result<Vec<Table>> {
    // An interval ends in the short form too.
    let time = Duration::from_secs(scope.pick(60, 6));
    let netns = pair::namespace();
    let agent = |backend: &str| {
        let mut command = Command::new(crate::agent());
        command.args(["run", "--backend", backend, "-i", pair::NEAR]);
        command
    };
    let mut processes = vec![
        ("wherefore", Some(start(&netns, agent("ebpf"), Stream::Out)?)),
        ("wherefore, libpcap", Some(start(&netns, agent("pcap"), Stream::Out)?)),
        ("tcpdump -w /dev/null", None),
    ];
    if crate::installed("tcpdump") {
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-i", pair::NEAR, "-w", "/dev/null"]);
        processes[2].1 = Some(start(&netns, tcpdump, Stream::Err)?);
    }
    let spent = || -> Result<Vec<u64>> {
        processes.iter().map(|(_, process)| process.as_ref().map_or(Ok(0), |it| on_cpu(it.pid()))).collect()
    };
    let before = spent()?;
    thread::sleep(time);
    let after = spent()?;
    let mut rows = Vec::new();
    for ((name, process), (before, after)) in processes.into_iter().zip(before.into_iter().zip(after)) {
        let cells = match process {
            Some(process) => {
                let share = after.saturating_sub(before) as f64 / time.as_nanos() as f64;
                let [memory, peak] = memory(process.pid())?;
                process.signal(Signal::SIGTERM);
                drop(process.wait(PATIENCE));
                vec![Cell::Number(share * 100.0, 3), Cell::Number(memory, 1), Cell::Number(peak, 1)]
            }
            None => vec![Cell::Text("not installed".into()); 3],
        };
        rows.push((name.to_owned(), cells));
    }
    let about = format!("An idle host over {} s, intervals of 5 s, everything at once.", time.as_secs());
    let columns = ["CPU, % of one", "memory, MiB", "peak, MiB"].map(str::to_owned).to_vec();
    Ok(vec![Table { name: "idle", about, columns, rows }])
}

/// Starts a process inside and waits until it says on `stream` that it watches.
fn start(netns: &Netns, mut command: Command, stream: Stream) -> Result<Agent> {
    let folder = crate::folder().join("idle");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut process = Agent::start(Some(netns), command.current_dir(folder));
    process.wait_for_line(stream, PATIENCE, |line| line.contains(pair::NEAR));
    Ok(process)
}

/// Resident memory of a process and its peak, in MiB.
fn memory(process: u32) -> Result<[f64; 2]> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let mebibytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok().map(|kibibytes| kibibytes / 1024.0)
    };
    let memory = mebibytes("VmRSS:").zip(mebibytes("VmHWM:"));
    memory.map(|(now, peak)| [now, peak]).with_context(|| format!("{path} tells no memory"))
}

/// Nanoseconds that the threads of a process have run so far. One that ended meanwhile is not counted.
fn on_cpu(process: u32) -> Result<u64> {
    let folder = format!("/proc/{process}/task");
    let mut sum = 0;
    for thread in fs::read_dir(&folder).context(folder)? {
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
