//! `cargo xtask bpf`: builds the kernel programs and commits to what they were built from.
//!
//! The object is part of the repository, so that users need stable Rust only. Beside it lies a stamp
//! with the versions of the tools, the object's hash and the hash of its sources: a test fails when
//! sources and object do not belong together.

mod stamp;
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    stamp::{Stamp, sha256, source_hash},
    toolchain::Toolchain,
};
use crate::setup::{self, succeed};

const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "wherefore-ebpf";
/// The object that the library carries.
const PROGRAMS: Object = Object {
    binary: PACKAGE,
    path: "wherefore/src/backend/ebpf/wherefore.bpf.o",
    parts: &[PACKAGE, "wherefore-common/src", "wherefore-common/Cargo.toml"],
    others: REFERENCE.parts,
};
/// The object of `cargo xtask bench`.
const REFERENCE: Object = Object {
    binary: "reference",
    path: "tests/src/bin/bench/reference.bpf.o",
    parts: &["wherefore-ebpf/src/reference.rs"],
    others: &[],
};
/// Names another object to the tests and the agent (`load.rs`).
const OBJECT_VARIABLE: &str = "WHEREFORE_BPF_OBJECT";

/// A committed object.
struct Object {
    /// Name of the binary in [`PACKAGE`].
    binary: &'static str,
    /// Where it lies, from the workspace's folder on; the stamp lies beside it.
    path: &'static str,
    /// Files and folders it is built from.
    parts: &'static [&'static str],
    /// What of these it is not built from.
    others: &'static [&'static str],
}

impl Object {
    fn stamp_path(&self) -> PathBuf {
        Path::new(self.path).with_extension("toml")
    }

    fn source_hash(&self, root: &Path) -> Result<String> {
        source_hash(root, self.parts, self.others)
    }

    /// The committed bytes and their stamp, which must belong together.
    fn committed(&self, root: &Path) -> Result<Stamp> {
        let path = root.join(self.stamp_path());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let stamp = Stamp::parse(&text)?;
        let bytes = fs::read(root.join(self.path)).with_context(|| format!("cannot read {}", self.path))?;
        ensure!(
            sha256(&bytes) == stamp.object,
            "{} is not the one of {}: run cargo xtask bpf",
            self.path,
            path.display()
        );
        Ok(stamp)
    }
}

/// Builds the objects. With `check` they are compared with the committed ones instead of replacing them:
/// with the tools of the stamp byte by byte, with others by the kernel tests.
///
/// # Errors
/// What is missing and how to get it, the compiler's failure, or the difference found.
pub fn run(check: bool) -> Result<()> {
    let root = root()?;
    let toolchain = Toolchain::find()?;
    compile(&root, &toolchain)?;
    let aya_ebpf = stamp::locked_version(&root, "aya-ebpf")?;
    let mut others = false;
    for object in [&PROGRAMS, &REFERENCE] {
        let built = strip(&root, &toolchain, object)?;
        let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        let stamp = Stamp {
            rustc: toolchain.rustc_version.clone(),
            llvm: toolchain.llvm_version.clone(),
            bpf_linker: toolchain.linker_version.clone(),
            aya_ebpf: aya_ebpf.clone(),
            object: sha256(&bytes),
            sources: object.source_hash(&root)?,
        };
        if check {
            others |= !same(&root, object, &built, &stamp)?;
            continue;
        }
        fs::write(root.join(object.path), &bytes).with_context(|| format!("cannot write {}", object.path))?;
        let path = root.join(object.stamp_path());
        fs::write(&path, stamp.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}: {} bytes, sha256 {}", object.path, bytes.len(), stamp.object);
    }
    if others { kernel_tests(&stripped(&root, &PROGRAMS)) } else { Ok(()) }
}

/// The workspace's folder.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("xtask lies in no workspace")?;
    root.canonicalize().with_context(|| format!("no folder {}", root.display()))
}

/// Compiles and links the programs.
fn compile(root: &Path, toolchain: &Toolchain) -> Result<()> {
    let target = root.join("target/bpf");
    let mut cargo = Command::new(&toolchain.cargo);
    cargo
        .current_dir(root)
        .args(["build", "--package", PACKAGE, "--bins", "--release", "--locked"])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(&target)
        .env("RUSTC", &toolchain.rustc)
        // `build-std` and the programs' inline assembly are unstable.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", toolchain.path()?)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root, toolchain)?.join("\x1f"));
    // The profile is part of what the bytes depend on: it is not left to the workspace.
    for (key, value) in [
        ("CODEGEN_UNITS", "1"),
        ("DEBUG", "2"),
        ("DEBUG_ASSERTIONS", "false"),
        ("INCREMENTAL", "false"),
        ("LTO", "off"),
        ("OPT_LEVEL", "3"),
        ("OVERFLOW_CHECKS", "false"),
        ("PANIC", "abort"),
        ("STRIP", "none"),
    ] {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    for other in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS"] {
        cargo.env_remove(other);
    }
    succeed(&mut cargo)
}

/// Where [`strip`] leaves an object.
fn stripped(root: &Path, object: &Object) -> PathBuf {
    root.join("target/bpf").join(object.binary).with_extension("bpf.o")
}

/// The path of the linked object without debugging information.
fn strip(root: &Path, toolchain: &Toolchain, object: &Object) -> Result<PathBuf> {
    let linked = root.join("target/bpf").join(TARGET).join("release").join(object.binary);
    let stripped = stripped(root, object);
    // DWARF is seven eighths of the file and of no use in the kernel; BTF stays.
    let mut strip = Command::new(&toolchain.strip);
    strip.arg("--strip-debug").arg("-o").arg(&stripped).arg(&linked);
    succeed(&mut strip)?;
    Ok(stripped)
}

fn rustflags(root: &Path, toolchain: &Toolchain) -> Result<Vec<String>> {
    let cargo_home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => {
            PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo")
        }
    };
    let mut flags: Vec<String> = [
        // What aya-ebpf is told by aya-build; no program here depends on it.
        "--cfg=bpf_target_arch=\"x86_64\"",
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // ALU32 and 32-bit jumps, Linux 5.1.
        "-Ctarget-cpu=v3",
        // Whole words from packets, where byte loads and shifts would do the same in four times the time.
        "-Ctarget-feature=+allows-misaligned-mem-access",
    ]
    .map(str::to_owned)
    .to_vec();
    // BTF names source files; the bytes must not depend on where they lie.
    for (from, to) in [(root, "."), (&*cargo_home, "cargo"), (&*toolchain.sources, "rust")] {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    Ok(flags)
}

/// Whether the object just built has the committed one's bytes. Other bytes are a fault where the same tools
/// made them.
fn same(root: &Path, object: &Object, built: &Path, now: &Stamp) -> Result<bool> {
    let committed = object.committed(root)?;
    let path = object.path;
    ensure!(
        committed.sources == now.sources,
        "{path} was built from other sources than these: run cargo xtask bpf"
    );
    if committed.object == now.object {
        println!("{path} is what its sources give, byte by byte");
        return Ok(true);
    }
    let differences = committed.tool_differences(now);
    if differences.is_empty() {
        bail!("the same tools make other bytes of the same sources; see {}", built.display());
    }
    println!("{path}: other tools make other bytes, so the kernel tests decide:\n{}", differences.join("\n"));
    Ok(false)
}

/// Lets the kernel tests judge a rebuilt object.
fn kernel_tests(built: &Path) -> Result<()> {
    setup::ensure(&setup::ALL, true)?;
    // The tests start the agent too.
    crate::cargo(&["build", "--locked", "--workspace", "--exclude", PACKAGE])?;
    let mut tests = Command::new(setup::cargo());
    tests
        .current_dir(setup::workspace())
        .args(["test", "--locked", "--workspace", "--exclude", PACKAGE, "--test", "kernel_*"])
        .env(OBJECT_VARIABLE, built)
        .env("WHEREFORE_REQUIRE_BPF", "1");
    succeed(&mut tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_objects_belong_to_their_sources() {
        let root = root().unwrap();
        for object in [&PROGRAMS, &REFERENCE] {
            let stamp = object.committed(&root).unwrap();
            let sources = object.source_hash(&root).unwrap();
            assert_eq!(sources, stamp.sources, "{}: run cargo xtask bpf", object.path);
        }
    }
}
