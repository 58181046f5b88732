//! How fast a capture file is read.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use crate::{
    Scope,
    report::{Cell, Table},
    traffic::Traffic,
};

/// A program that reads the file.
struct Reader {
    name: &'static str,
    command: Command,
    /// By the clock and by CPU time; `None` where it is not installed.
    least: Option<[Duration; 2]>,
}

/// This program beside others that read the same file.
///
/// # Errors
/// What the system says, or that a reader failed.
pub fn measure(scope: Scope) -> Result<Vec<Table>> {
    let folder = crate::folder();
    let rounds = scope.pick(7, 1);
    let mut rows = Vec::new();
    let mut columns = Vec::new();
    let packets = scope.pick(2_000_000, 20_000);
    for snaplen in [65_535, 96] {
        let traffic = Traffic { packets, flows: scope.pick(50_000, 500), snaplen };
        let file = traffic.file(&folder)?;
        let mut readers = readers(&file, &folder);
        for _ in 0..rounds {
            for reader in &mut readers {
                reader.run()?;
            }
        }
        let own = readers.first().and_then(|reader| reader.least);
        for reader in &readers {
            let cells = match (reader.least, own) {
                (Some([clock, cpu]), Some([own_clock, own_cpu])) => [
                    Cell::Number(clock.as_secs_f64(), 3),
                    Cell::Number(f64::from(packets) / clock.as_secs_f64() / 1e6, 2),
                    Cell::Number(clock.as_secs_f64() / own_clock.as_secs_f64(), 2),
                    Cell::Number(cpu.as_secs_f64(), 3),
                    Cell::Number(cpu.as_secs_f64() / own_cpu.as_secs_f64(), 2),
                ],
                _ => [(); 5].map(|()| Cell::Text("not installed".into())),
            };
            rows.push((format!("{}, snap length {snaplen}", reader.name), cells.to_vec()));
        }
        columns =
            ["seconds", "million packets/s", "wherefore's speed, times", "CPU seconds", "by CPU, times"]
                .map(str::to_owned)
                .to_vec();
    }
    let about = format!(
        "Reading a capture file of {packets} packets, {} flows: least of {rounds} interleaved rounds.",
        scope.pick(50_000, 500)
    );
    Ok(vec![Table { name: "file", about, columns, rows }])
}

/// This program first.
fn readers(file: &Path, folder: &Path) -> Vec<Reader> {
    let reader = |name, program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        Reader { name, command, least: None }
    };
    let mut tcpdump = reader("tcpdump -w /dev/null", "tcpdump", &["-r"]);
    tcpdump.command.args(["-w", "/dev/null"]);
    // More flows than its 8,192: it would expire them all the time.
    let softflowd = reader("softflowd", "softflowd", &["-m", "100000", "-r"]);
    let mut nfpcapd = reader("nfpcapd", "nfpcapd", &["-r"]);
    nfpcapd.command.arg("-l").arg(folder);
    vec![
        reader("wherefore flows", &crate::agent().to_string_lossy(), &["flows"]),
        tcpdump,
        softflowd,
        nfpcapd,
    ]
}

impl Reader {
    /// Reads the file once. Nothing happens where the program is not installed.
    fn run(&mut self) -> Result<()> {
        let (begun, before) = (Instant::now(), children()?);
        let status = match self.command.status() {
            Ok(status) => status,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot start {}", self.name)),
        };
        let now = [begun.elapsed(), children()?.saturating_sub(before)];
        ensure!(status.success(), "{} ended with {status}", self.name);
        let least = self.least.unwrap_or(now);
        self.least = Some([least[0].min(now[0]), least[1].min(now[1])]);
        Ok(())
    }
}

/// CPU time of all processes that this one started and that ended.
fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.cast_unsigned()))
}
