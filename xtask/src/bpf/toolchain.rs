//! A compiler with the sources of `core`, and a bpf-linker built on the same LLVM.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

/// The newest that builds with Debian's LLVM 22.
pub const LINKER_VERSION: &str = "0.13.0";

/// Debian's packages with a compiler, its sources and its LLVM.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];

/// Everything the build needs.
pub struct Toolchain {
    /// Compiler.
    pub rustc: PathBuf,
    /// Cargo of the same release.
    pub cargo: PathBuf,
    /// Where the sources of the standard library lie.
    pub sources: PathBuf,
    /// First line of `rustc --version`.
    pub rustc_version: String,
    /// The compiler's LLVM, as in `rustc -vV`.
    pub llvm_version: String,
    llvm_prefix: PathBuf,
    linker_folder: PathBuf,
}

impl Toolchain {
    /// Finds the toolchain, and installs what can be installed: first Debian's packages, with apt-get as
    /// root or through sudo, then bpf-linker into the cache folder. Says so each time.
    ///
    /// # Errors
    /// What is missing and how to get it.
    pub fn find() -> Result<Self> {
        let (rustc, cargo) = match compiler() {
            Some(found) => found,
            None => {
                apt_get(&DEBIAN_PACKAGES)?;
                compiler().context("no Rust compiler with the sources of core even after installing one")?
            }
        };
        let verbose = output(Command::new(&rustc).arg("-vV"))?;
        let line = |key: &str| verbose.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        let llvm_version = line("LLVM version: ").context("rustc does not name its LLVM")?;
        let rustc_version = verbose.lines().next().unwrap_or_default().to_owned();
        let major = llvm_version.split('.').next().unwrap_or_default().to_owned();
        let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let sources = sources(Path::new(sysroot.trim()));
        let llvm_prefix = PathBuf::from(format!("/usr/lib/llvm-{major}"));
        if !llvm_prefix.join("bin/llvm-config").exists() {
            apt_get(&[&format!("llvm-{major}-dev")])?;
        }
        let linker_folder = linker(&llvm_prefix, &major)?;
        Ok(Self { rustc, cargo, sources, rustc_version, llvm_version, llvm_prefix, linker_folder })
    }

    /// PATH with bpf-linker in front: rustc looks for it there.
    ///
    /// # Errors
    /// A folder's name that PATH cannot hold.
    pub fn path(&self) -> Result<OsString> {
        let old = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.linker_folder.clone()).chain(env::split_paths(&old));
        env::join_paths(folders).context("a folder's name does not fit PATH")
    }

    /// A tool of the same LLVM.
    pub fn llvm_tool(&self, name: &str) -> PathBuf {
        self.llvm_prefix.join("bin").join(name)
    }
}

/// Where a sysroot keeps the standard library's sources.
fn sources(sysroot: &Path) -> PathBuf {
    let path = sysroot.join("lib/rustlib/src/rust");
    path.canonicalize().unwrap_or(path)
}

/// A compiler that has them: Debian's, else a nightly of rustup.
fn compiler() -> Option<(PathBuf, PathBuf)> {
    let nightly = |tool: &str| {
        output(Command::new("rustup").args(["which", "--toolchain", "nightly", tool]))
            .ok()
            .map(|path| PathBuf::from(path.trim()))
    };
    let debian = Some((PathBuf::from("/usr/bin/rustc"), PathBuf::from("/usr/bin/cargo")));
    [debian, nightly("rustc").zip(nightly("cargo"))].into_iter().flatten().find(|(rustc, cargo)| {
        cargo.exists()
            && output(Command::new(rustc).args(["--print", "sysroot"]))
                .is_ok_and(|sysroot| sources(Path::new(sysroot.trim())).join("library/core").is_dir())
    })
}

/// The folder of a bpf-linker built on LLVM `major`; builds it where there is none yet.
fn linker(llvm_prefix: &Path, major: &str) -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    // LLVM 22 is Debian's, the usual case; others get a folder of their own.
    let suffix = if major == "22" { String::new() } else { format!("-llvm-{major}") };
    let folder = cache.join("wherefore").join(format!("bpf-linker-{LINKER_VERSION}{suffix}"));
    let binary = folder.join("bin/bpf-linker");
    if !binary.exists() {
        println!("building bpf-linker {LINKER_VERSION} on LLVM {major} into {}", folder.display());
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["install", "bpf-linker", "--locked", "--version", LINKER_VERSION])
            .args(["--no-default-features", "--features", &format!("llvm-{major}"), "--root"])
            .arg(&folder)
            .env("LLVM_PREFIX", llvm_prefix);
        succeed(&mut cargo)?;
    }
    ensure!(binary.exists(), "{} is missing", binary.display());
    Ok(folder.join("bin"))
}

/// Installs Debian packages.
fn apt_get(packages: &[&str]) -> Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "needs a Rust compiler with the sources of core and its LLVM's headers: on Debian the packages \
             {}, elsewhere `rustup toolchain install nightly --component rust-src` and that LLVM",
            packages.join(" ")
        );
    }
    let root = output(Command::new("id").arg("-u"))?.trim() == "0";
    println!("installing {} with apt-get{}", packages.join(" "), if root { "" } else { " through sudo" });
    let mut command = Command::new(if root { "apt-get" } else { "sudo" });
    if !root {
        command.arg("apt-get");
    }
    command.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    succeed(&mut command)
}

/// Runs a command with our output.
///
/// # Errors
/// That it could not be started, or failed.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{} failed: {status}", command.get_program().to_string_lossy());
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} wrote something else than text"))
}
