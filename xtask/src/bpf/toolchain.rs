//! A compiler with the sources of `core`, and a bpf-linker built on the same LLVM.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::setup::{self, on_path, output, succeed};

/// The bpf-linker that is built where it is missing: the newest that builds with Debian's LLVM 22.
const LINKER_VERSION: &str = "0.13.0";
/// The LLVMs it builds with.
const LINKER_LLVMS: std::ops::RangeInclusive<u32> = 21..=23;

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
    /// Version of bpf-linker.
    pub linker_version: String,
    /// Removes debugging information.
    pub strip: PathBuf,
    linker_folder: PathBuf,
}

impl Toolchain {
    /// Finds the toolchain, and installs what can be installed: a compiler by apt-get or rustup, LLVM by
    /// apt-get (as root or through sudo), bpf-linker into the cache folder. Says so each time.
    ///
    /// # Errors
    /// What is missing and how to get it.
    pub fn find() -> Result<Self> {
        let compiler = match Compiler::find() {
            Some(found) => found,
            None => {
                install_compiler()?;
                Compiler::find()
                    .context("no Rust compiler with the sources of core even after installing one")?
            }
        };
        let Compiler { rustc, cargo, sysroot, version, llvm_version, llvm } = compiler;
        let llvm_prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
        let (linker_folder, linker_version) = linker(&llvm_prefix, llvm)?;
        let strip = strip(&llvm_prefix, &sysroot)?;
        let sources = sources(&sysroot);
        Ok(Self {
            rustc,
            cargo,
            sources,
            rustc_version: version,
            llvm_version,
            linker_version,
            strip,
            linker_folder,
        })
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
}

/// A compiler that has the sources of `core`.
struct Compiler {
    rustc: PathBuf,
    cargo: PathBuf,
    sysroot: PathBuf,
    version: String,
    llvm_version: String,
    /// Its LLVM's major number.
    llvm: u32,
}

impl Compiler {
    /// Debian's, else a nightly of rustup.
    fn find() -> Option<Self> {
        let nightly = |tool: &str| {
            output(Command::new("rustup").args(["which", "--toolchain", "nightly", tool]))
                .ok()
                .map(|path| PathBuf::from(path.trim()))
        };
        let debian = || Some((PathBuf::from("/usr/bin/rustc"), PathBuf::from("/usr/bin/cargo")));
        debian()
            .and_then(Self::usable)
            .or_else(|| nightly("rustc").zip(nightly("cargo")).and_then(Self::usable))
    }

    /// `None` without the sources of `core`, or with an LLVM that no linker here fits: Debian's plain `rustc` of
    /// bookworm and trixie, for one.
    fn usable((rustc, cargo): (PathBuf, PathBuf)) -> Option<Self> {
        if !cargo.exists() {
            return None;
        }
        let about = output(Command::new(&rustc).arg("-vV")).ok()?;
        let llvm_version = about.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.to_owned();
        let llvm = llvm_version.split('.').next()?.parse().ok()?;
        let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"])).ok()?;
        let sysroot = PathBuf::from(sysroot.trim());
        let version = about.lines().next()?.to_owned();
        let fits = LINKER_LLVMS.contains(&llvm) || llvm > *LINKER_LLVMS.end() && on_path(LINKER);
        (fits && sources(&sysroot).join("library/core").is_dir()).then_some(Self {
            rustc,
            cargo,
            sysroot,
            version,
            llvm_version,
            llvm,
        })
    }
}

/// Where a sysroot keeps the standard library's sources.
fn sources(sysroot: &Path) -> PathBuf {
    let path = sysroot.join("lib/rustlib/src/rust");
    path.canonicalize().unwrap_or(path)
}

/// Installs Debian's compiler where apt has it, else a nightly where there is rustup.
fn install_compiler() -> Result<()> {
    if on_path("apt-get") {
        setup::apt_get(&["update"])?;
        if DEBIAN_PACKAGES.iter().all(|package| setup::apt_offers(package)) {
            return setup::apt_get(
                &[&["install", "-y", "--no-install-recommends"], &DEBIAN_PACKAGES[..]].concat(),
            );
        }
    }
    if on_path("rustup") {
        let arguments = "toolchain install nightly --profile minimal --component rust-src,llvm-tools";
        eprintln!("installing: rustup {arguments}");
        return succeed(Command::new("rustup").args(arguments.split(' ')));
    }
    bail!(
        "needs a Rust compiler with the sources of core: on Debian the packages {}, elsewhere `rustup toolchain \
         install nightly --component rust-src,llvm-tools`",
        DEBIAN_PACKAGES.join(" ")
    )
}

const LINKER: &str = "bpf-linker";

/// The folder and version of a bpf-linker for LLVM `llvm`: built on it, where its headers are, else the one on
/// PATH, which whoever put it there answers for, as it does not tell its LLVM; else built after installing LLVM.
fn linker(llvm_prefix: &Path, llvm: u32) -> Result<(PathBuf, String)> {
    let headers = || llvm_prefix.join("bin/llvm-config").exists();
    if LINKER_LLVMS.contains(&llvm) && headers() {
        return build_linker(llvm_prefix, llvm);
    }
    if let Some(folder) = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .find(|folder| folder.join(LINKER).is_file())
    {
        let version = output(Command::new(folder.join(LINKER)).arg("--version"))?;
        let version = version.trim().trim_start_matches(LINKER).trim();
        println!("using the bpf-linker {version} on PATH: it must be one for LLVM {llvm}");
        return Ok((folder, version.to_owned()));
    }
    let package = format!("llvm-{llvm}-dev");
    if on_path("apt-get") {
        setup::apt_get(&["update"])?;
        if setup::apt_offers(&package) {
            setup::apt_get(&["install", "-y", "--no-install-recommends", &package])?;
        }
    }
    ensure!(
        headers(),
        "needs a bpf-linker for LLVM {llvm}: one on PATH (github.com/aya-rs/bpf-linker has builds), or LLVM's \
         headers in {} to build it with ({package}, which apt.llvm.org has for Debian and Ubuntu)",
        llvm_prefix.display()
    );
    build_linker(llvm_prefix, llvm)
}

/// Builds bpf-linker into the cache folder, if that was not done before.
fn build_linker(llvm_prefix: &Path, llvm: u32) -> Result<(PathBuf, String)> {
    let cache = match env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    // LLVM 22 is Debian's, the usual case; others get a folder of their own.
    let suffix = if llvm == 22 { String::new() } else { format!("-llvm-{llvm}") };
    let folder = cache.join("wherefore").join(format!("bpf-linker-{LINKER_VERSION}{suffix}"));
    let binary = folder.join("bin").join(LINKER);
    if !binary.exists() {
        println!("building bpf-linker {LINKER_VERSION} on LLVM {llvm} into {}", folder.display());
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut cargo = Command::new(setup::cargo());
        cargo
            .args(["install", LINKER, "--locked", "--version", LINKER_VERSION])
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
            .arg(&folder)
            .env("LLVM_PREFIX", llvm_prefix);
        succeed(&mut cargo)?;
    }
    ensure!(binary.exists(), "{} is missing", binary.display());
    Ok((folder.join("bin"), LINKER_VERSION.to_owned()))
}

/// `llvm-strip` of the same LLVM, of the compiler's `llvm-tools`, or on PATH.
fn strip(llvm_prefix: &Path, sysroot: &Path) -> Result<PathBuf> {
    const STRIP: &str = "llvm-strip";
    let hosts = fs::read_dir(sysroot.join("lib/rustlib")).into_iter().flatten().flatten();
    std::iter::once(llvm_prefix.join("bin"))
        .chain(hosts.map(|host| host.path().join("bin")))
        .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default()))
        .map(|folder| folder.join(STRIP))
        .find(|path| path.is_file())
        .context("no llvm-strip: rustup component add --toolchain nightly llvm-tools, or the package llvm")
}
