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
const OBJECT: &str = "wherefore/src/backend/ebpf/wherefore.bpf.o";
const STAMP: &str = "wherefore/src/backend/ebpf/wherefore.bpf.toml";
/// Names another object to the tests and the agent (`load.rs`).
const OBJECT_VARIABLE: &str = "WHEREFORE_BPF_OBJECT";

/// Builds the object. With `check` it is compared with the committed one instead of replacing it: with
/// the tools of the stamp byte by byte, with others by the kernel tests.
///
/// # Errors
/// What is missing and how to get it, the compiler's failure, or the difference found.
pub fn run(check: bool) -> Result<()> {
    let root = root()?;
    let toolchain = Toolchain::find()?;
    let built = build(&root, &toolchain)?;
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let stamp = Stamp {
        rustc: toolchain.rustc_version,
        llvm: toolchain.llvm_version,
        bpf_linker: toolchain.linker_version,
        aya_ebpf: stamp::locked_version(&root, "aya-ebpf")?,
        object: sha256(&bytes),
        sources: source_hash(&root)?,
    };
    if check {
        return compare(&root, &built, &stamp);
    }
    fs::write(root.join(OBJECT), &bytes).with_context(|| format!("cannot write {OBJECT}"))?;
    fs::write(root.join(STAMP), stamp.to_string()).with_context(|| format!("cannot write {STAMP}"))?;
    println!("{OBJECT}: {} bytes, sha256 {}", bytes.len(), stamp.object);
    Ok(())
}

/// The workspace's folder.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("xtask lies in no workspace")?;
    root.canonicalize().with_context(|| format!("no folder {}", root.display()))
}

/// Compiles, links and strips; the path of the object.
fn build(root: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
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
    succeed(&mut cargo)?;
    let linked = target.join(TARGET).join("release").join(PACKAGE);
    let stripped = target.join("wherefore.bpf.o");
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

fn compare(root: &Path, built: &Path, now: &Stamp) -> Result<()> {
    let text = fs::read_to_string(root.join(STAMP)).with_context(|| format!("cannot read {STAMP}"))?;
    let committed = Stamp::parse(&text)?;
    let object = fs::read(root.join(OBJECT)).with_context(|| format!("cannot read {OBJECT}"))?;
    ensure!(sha256(&object) == committed.object, "{OBJECT} is not the one of {STAMP}: run cargo xtask bpf");
    ensure!(
        committed.sources == now.sources,
        "{OBJECT} was built from other sources than these: run cargo xtask bpf"
    );
    if committed.object == now.object {
        println!("{OBJECT} is what its sources give, byte by byte");
        return Ok(());
    }
    let differences = committed.tool_differences(now);
    if differences.is_empty() {
        bail!("the same tools make other bytes of the same sources; see {}", built.display());
    }
    println!("other tools make other bytes, so the kernel tests decide:\n{}", differences.join("\n"));
    setup::ensure(&setup::ALL, true)?;
    // The tests start the agent too.
    crate::cargo(&["build", "--locked", "--workspace", "--exclude", PACKAGE])?;
    let mut tests = Command::new(setup::cargo());
    tests
        .current_dir(root)
        .args(["test", "--locked", "--workspace", "--exclude", PACKAGE, "--test", "kernel_*"])
        .env(OBJECT_VARIABLE, built)
        .env("WHEREFORE_REQUIRE_BPF", "1");
    succeed(&mut tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_belongs_to_its_sources() {
        let root = root().unwrap();
        let stamp = Stamp::parse(&fs::read_to_string(root.join(STAMP)).unwrap()).unwrap();
        assert_eq!(sha256(&fs::read(root.join(OBJECT)).unwrap()), stamp.object, "run cargo xtask bpf");
        assert_eq!(source_hash(&root).unwrap(), stamp.sources, "run cargo xtask bpf");
    }
}
