//! How fast a capture file is read.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Scope,
    report::{Cell, Table},
    traffic::Traffic,
};

/// A program that reads the file.
struct Reader {
    name: &'static str,
    command: Command,
    least: Option<Duration>,
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
                (Some(least), Some(own)) => [
                    Cell::Number(least.as_secs_f64(), 3),
                    Cell::Number(f64::from(packets) / least.as_secs_f64() / 1e6, 2),
                    Cell::Number(least.as_secs_f64() / own.as_secs_f64(), 2),
                ],
                _ => [(); 3].map(|()| Cell::Text("not installed".into())),
            };
            rows.push((format!("{}, snap length {snaplen}", reader.name), cells.to_vec()));
        }
        columns = ["seconds", "million packets/s", "wherefore is as fast, times"].map(str::to_owned).to_vec();
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
        let begun = Instant::now();
        let status = match self.command.status() {
            Ok(status) => status,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot start {}", self.name)),
        };
        let taken = begun.elapsed();
        ensure!(status.success(), "{} ended with {status}", self.name);
        self.least = Some(self.least.map_or(taken, |least| least.min(taken)));
        Ok(())
    }
}
