//! The reference programs, and the driver that gives a program under test another flow with each packet.

use std::{panic::resume_unwind, thread};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, ProgramArray},
    programs::{Program, ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use wherefore::backend::ebpf::bench::Bench;

/// Built by `cargo xtask bpf` from `wherefore-ebpf/src/reference.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("reference.bpf.o");

/// Where a program is attached to, in the kernel's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TC, either way.
    Tc,
    /// XDP.
    Xdp,
}

/// Driver and reference programs, loaded.
pub struct Rig {
    /// The object: `empty`, `smallest`, `empty_xdp`, `smallest_xdp`.
    pub ebpf: Ebpf,
    tc: ProgramArray<MapData>,
    xdp: ProgramArray<MapData>,
}

impl Rig {
    /// Loads the object with a pattern, the flow of each step, a power of two many; the smallest program
    /// gets a table for `flows` flows.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(steps: &[u32], flows: u32) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("SMALLEST", flows)
            .load(OBJECT)
            .context("the reference programs")?;
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let mut pattern: Array<_, u32> = take("PATTERN")?.try_into()?;
        for (place, step) in (0..).zip(steps) {
            pattern.set(place, step, 0)?;
        }
        let mut mask: Array<_, u32> = take("MASK")?.try_into()?;
        mask.set(0, u32::try_from(steps.len())? - 1, 0)?;
        let tc = take("TC_TARGET")?.try_into()?;
        let xdp = take("XDP_TARGET")?.try_into()?;
        for name in ["drive", "empty", "smallest", "drive_xdp", "empty_xdp", "smallest_xdp"] {
            load(&mut ebpf, name)?;
        }
        Ok(Self { ebpf, tc, xdp })
    }

    /// Puts a program behind the driver.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn aim(&mut self, kind: Kind, program: &ProgramFd) -> Result<()> {
        let target = match kind {
            Kind::Tc => &mut self.tc,
            Kind::Xdp => &mut self.xdp,
        };
        Ok(target.set(0, program, 0)?)
    }

    /// Runs the driver `packets` times with the program behind it, on frames to host `host` of a network:
    /// nanoseconds a packet.
    ///
    /// # Errors
    /// What the kernel says.
    fn run(&self, kind: Kind, packets: usize, host: u8) -> Result<f64> {
        let frame = frame(host);
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.repeat = u32::try_from(packets)?;
        let result = match kind {
            Kind::Tc => program_as::<SchedClassifier>(&self.ebpf, "drive")?.test_run(options)?,
            Kind::Xdp => program_as::<Xdp>(&self.ebpf, "drive_xdp")?.test_run(options)?,
        };
        Ok(result.duration.as_nanos() as f64)
    }

    /// As [`Rig::run`], on this CPU and from a thread of its own. Each CPU goes through the pattern by itself, so
    /// without that a run that moves to another begins anew.
    ///
    /// # Errors
    /// As [`Rig::run`], and that there is no such CPU.
    pub fn run_on(&self, cpu: usize, kind: Kind, packets: usize, host: u8) -> Result<f64> {
        let run = || {
            pin(cpu)?;
            ahead();
            self.run(kind, packets, host)
        };
        thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Loads the reference program `name`, of either kind; how to reach it.
///
/// # Errors
/// What the kernel says, or that there is no such program.
pub fn load(ebpf: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    match ebpf.program_mut(name).with_context(|| format!("no program {name}"))? {
        Program::SchedClassifier(program) if program.fd().is_err() => program.load()?,
        Program::Xdp(program) if program.fd().is_err() => program.load()?,
        _ => {}
    }
    fd(ebpf.program(name).with_context(|| format!("no program {name}"))?)
}

/// Loads this project's program `name`; how to reach it.
///
/// # Errors
/// What the kernel says, or that there is no such program.
pub fn load_own(bench: &mut Bench, name: &str) -> Result<ProgramFd> {
    fd(bench.load(name)?)
}

fn fd(program: &Program) -> Result<ProgramFd> {
    let fd = match program {
        Program::SchedClassifier(program) => program.fd()?,
        Program::Xdp(program) => program.fd()?,
        other => bail!("a program of type {:?}", other.prog_type()),
    };
    Ok(fd.try_clone()?)
}

fn program_as<'a, P>(ebpf: &'a Ebpf, name: &str) -> Result<&'a P>
where
    &'a P: TryFrom<&'a Program, Error = aya::programs::ProgramError>,
{
    Ok(ebpf.program(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// 64 bytes of Ethernet, IPv4 and UDP, to 192.0.2.`host`.
fn frame(host: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 198, 51, 100, 1, 192, 0, 2, host]);
    frame.extend([0, 9, 0x10, 0x04, 0, 30, 0, 0]);
    frame.resize(64, 0);
    frame
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// That there is no such CPU.
fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot keep to CPU {cpu}"))
}

/// Puts this thread before all ordinary ones, so that two of them do run at the same time on a machine that has
/// other things to do. Where that is not allowed it stays as it is: then the machine had better be idle.
fn ahead() {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a valid value that the call only reads; 0 is the calling thread.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}
