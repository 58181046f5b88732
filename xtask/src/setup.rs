//! What a bare machine lacks: found out, asked for, installed.

use std::{
    env, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail};

/// Something the project needs that cargo cannot bring.
#[derive(Clone, Copy)]
pub struct Need {
    /// What it is, for people.
    what: &'static str,
    /// Debian's and Ubuntu's package of it.
    package: &'static str,
    /// Whether it is there.
    present: fn() -> bool,
}

/// libpcap with its headers: linked by the capture backends.
pub const LIBPCAP: Need = Need { what: "libpcap's headers", package: "libpcap-dev", present: libpcap };
/// The tests build their networks with `ip`.
const IPROUTE: Need = Need { what: "the command ip", package: "iproute2", present: || on_path("ip") };

/// The tests of HTTPS make their certificates with it.
const OPENSSL: Need =
    Need { what: "the command openssl", package: "openssl", present: || on_path("openssl") };

/// Everything that building and testing need.
pub const ALL: [Need; 3] = [LIBPCAP, IPROUTE, OPENSSL];

/// Makes sure of `needs`: installs what is missing, or says what it is.
pub fn ensure(needs: &[Need], install: bool) -> anyhow::Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if !install {
        bail!("missing: {what}; install it with: {by_hand} (or without --no-install this command does)");
    }
    apt_install(&packages).with_context(|| format!("missing: {what}; install it by hand: {by_hand}"))?;
    for need in missing {
        if !(need.present)() {
            bail!("{} still missing after {by_hand}", need.what);
        }
    }
    Ok(())
}

/// Installs Debian packages as root, or through sudo; says what it does.
fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    apt_get(&["update"])?;
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// Runs apt-get as root, or through sudo; says so.
pub fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    if !on_path("apt-get") {
        bail!("there is no apt-get on this machine");
    }
    let mut command = if is_root() { Command::new("apt-get") } else { Command::new("sudo") };
    if !is_root() {
        command.arg("apt-get");
    }
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    eprintln!("installing: {}apt-get {}", if is_root() { "" } else { "sudo " }, arguments.join(" "));
    succeed(&mut command)
}

/// Whether apt knows a package that it could install, by its lists as they are.
pub fn apt_offers(package: &str) -> bool {
    let mut command = Command::new("apt-cache");
    command.args(["show", "--no-all-versions", package]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Whether a C program against libpcap compiles and links.
fn libpcap() -> bool {
    let source = b"#include <pcap/pcap.h>\nint main(void) { return pcap_lib_version() == 0; }\n";
    let child = Command::new("cc")
        .args(["-x", "c", "-", "-lpcap", "-o", "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let written =
        child.stdin.take().is_some_and(|mut stdin| io::Write::write_all(&mut stdin, source).is_ok());
    child.wait().is_ok_and(|status| written && status.success())
}

/// Whether `name` is an executable on PATH (or in the administrator's directories, which PATH may lack).
pub fn on_path(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|directory| directory.join(name).is_file())
}

/// Whether this process is root.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The cargo that runs this.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Runs `command` to its end, with its output shown; an error names it.
pub fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// What `command` prints; an error names it.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", line(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} wrote something else than text", line(command)))
}

/// A command as one types it, without its environment.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Becomes `command`, so that signals and the terminal reach it directly; returns only on failure.
pub fn become_command(mut command: Command) -> anyhow::Result<ExitCode> {
    Err(command.exec().into())
}
