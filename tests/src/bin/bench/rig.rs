//! The reference programs, and the driver that gives a program under test another flow with each packet.

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Array, MapData, ProgramArray},
    programs::{Program, ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};

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
    frame: Vec<u8>,
}

impl Rig {
    /// Loads the object with a pattern: the flow of each step, a power of two many.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(steps: &[u32]) -> Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT).context("the reference programs")?;
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
        Ok(Self { ebpf, tc, xdp, frame: frame() })
    }

    /// Runs the driver `packets` times with a program behind it: nanoseconds a packet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn run(&mut self, kind: Kind, program: &ProgramFd, packets: usize) -> Result<f64> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&self.frame);
        options.repeat = u32::try_from(packets)?;
        let result = match kind {
            Kind::Tc => {
                self.tc.set(0, program, 0)?;
                program_as::<SchedClassifier>(&self.ebpf, "drive")?.test_run(options)?
            }
            Kind::Xdp => {
                self.xdp.set(0, program, 0)?;
                program_as::<Xdp>(&self.ebpf, "drive_xdp")?.test_run(options)?
            }
        };
        Ok(result.duration.as_nanos() as f64)
    }
}

/// Loads the program `name` of either kind; how to reach it.
///
/// # Errors
/// What the kernel says, or that there is no such program.
pub fn load(ebpf: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    let fd = match program {
        Program::SchedClassifier(program) => {
            if program.fd().is_err() {
                program.load()?;
            }
            program.fd()?
        }
        Program::Xdp(program) => {
            if program.fd().is_err() {
                program.load()?;
            }
            program.fd()?
        }
        other => bail!("{name} is a program of type {:?}", other.prog_type()),
    };
    Ok(fd.try_clone()?)
}

fn program_as<'a, P>(ebpf: &'a Ebpf, name: &str) -> Result<&'a P>
where
    &'a P: TryFrom<&'a Program, Error = aya::programs::ProgramError>,
{
    Ok(ebpf.program(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// 64 bytes of Ethernet, IPv4 and UDP.
fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 198, 51, 100, 1, 192, 0, 2, 2]);
    frame.extend([0, 9, 0x10, 0x04, 0, 30, 0, 0]);
    frame.resize(64, 0);
    frame
}
