//! The stamp beside the kernel object: what it was built from, and with what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// Contents of the stamp; all text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// First line of `rustc --version`.
    pub rustc: String,
    /// Version of the compiler's LLVM.
    pub llvm: String,
    /// Version of bpf-linker.
    pub bpf_linker: String,
    /// Version of aya-ebpf.
    pub aya_ebpf: String,
    /// SHA-256 of the object.
    pub object: String,
    /// [`source_hash`] of the sources.
    pub sources: String,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by `cargo xtask bpf`, checked by `cargo xtask bpf --check` and by a test.")?;
        for (key, value) in self.fields() {
            writeln!(f, "{key} = \"{value}\"")?;
        }
        Ok(())
    }
}

impl Stamp {
    const fn fields(&self) -> [(&'static str, &String); 6] {
        [
            ("rustc", &self.rustc),
            ("llvm", &self.llvm),
            ("bpf-linker", &self.bpf_linker),
            ("aya-ebpf", &self.aya_ebpf),
            ("object-sha256", &self.object),
            ("sources-sha256", &self.sources),
        ]
    }

    /// Reads what [`Stamp`]'s `Display` wrote.
    pub fn parse(text: &str) -> Result<Self> {
        let lines: BTreeMap<&str, &str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(" = "))
            .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
            .collect();
        let get = |key: &str| {
            lines.get(key).map(|value| (*value).to_owned()).with_context(|| format!("the stamp has no {key}"))
        };
        Ok(Self {
            rustc: get("rustc")?,
            llvm: get("llvm")?,
            bpf_linker: get("bpf-linker")?,
            aya_ebpf: get("aya-ebpf")?,
            object: get("object-sha256")?,
            sources: get("sources-sha256")?,
        })
    }

    /// Tools of another version in `other`, a line each.
    pub fn tool_differences(&self, other: &Self) -> Vec<String> {
        self.fields()
            .iter()
            .zip(other.fields())
            .take(4)
            .filter(|((_, mine), (_, theirs))| mine != theirs)
            .map(|((key, mine), (_, theirs))| format!("  {key}: {mine} was used, {theirs} is here"))
            .collect()
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One hash over everything an object is made of: the files in and under `parts`, those of `others` left
/// out, and the versions of the crates they need.
pub fn source_hash(root: &Path, parts: &[&str], others: &[&str]) -> Result<String> {
    let mut files = Vec::new();
    for part in parts {
        collect(&root.join(part), &mut files)?;
    }
    files.retain(|file| !others.iter().any(|other| *file == root.join(other)));
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // Lengths keep the end of one file and the beginning of the next apart.
        hash.update(format!("{name} {}\n", bytes.len()));
        hash.update(bytes);
    }
    for dependency in dependencies(&lock_file(root)?) {
        hash.update(dependency + "\n");
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    for entry in entries {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

/// A package of the lock file: its version, and what it needs.
struct Locked {
    version: String,
    needs: Vec<String>,
}

fn lock_file(root: &Path) -> Result<BTreeMap<String, Vec<Locked>>> {
    let path = root.join("Cargo.lock");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut packages: BTreeMap<String, Vec<Locked>> = BTreeMap::new();
    for block in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
                .map(|value| value.trim_matches('"').to_owned())
        };
        let (Some(name), Some(version)) = (value("name"), value("version")) else {
            bail!("{} has a package without name or version", path.display());
        };
        // A need is `"name"`, or `"name version"` where there are several.
        let needs = block
            .lines()
            .map(str::trim)
            .filter_map(|line| line.strip_prefix('"')?.strip_suffix("\","))
            .filter_map(|need| need.split(' ').next())
            .map(str::to_owned)
            .collect();
        packages.entry(name).or_default().push(Locked { version, needs });
    }
    Ok(packages)
}

/// `name version` of all that is compiled into the kernel programs, in order. Without aya itself, which
/// `wherefore-common` needs in user space only; of macro and build crates the version counts, but not
/// what they are built from in turn.
fn dependencies(packages: &BTreeMap<String, Vec<Locked>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec!["wherefore-ebpf".to_owned()];
    while let Some(name) = open.pop() {
        if name == "aya" || !seen.insert(name.clone()) {
            continue;
        }
        let tool = ["-macros", "-derive", "_derive", "-build"].iter().any(|end| name.ends_with(end));
        for package in packages.get(&name).into_iter().flatten() {
            found.insert(format!("{name} {}", package.version));
            if !tool {
                open.extend(package.needs.iter().cloned());
            }
        }
    }
    found
}

/// The version of a package in the lock file.
pub fn locked_version(root: &Path, name: &str) -> Result<String> {
    lock_file(root)?
        .get(name)
        .and_then(|versions| versions.first())
        .map(|package| package.version.clone())
        .with_context(|| format!("Cargo.lock has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_survives_writing_and_reading() {
        let stamp = Stamp {
            rustc: "rustc 1.96.0".into(),
            llvm: "22.1.8".into(),
            bpf_linker: "0.13.0".into(),
            aya_ebpf: "0.2.1".into(),
            object: sha256(b"object"),
            sources: sha256(b"sources"),
        };
        assert_eq!(Stamp::parse(&stamp.to_string()).unwrap(), stamp);
        let other = Stamp { llvm: "21.1.0".into(), object: sha256(b""), ..stamp.clone() };
        assert_eq!(stamp.tool_differences(&other), ["  llvm: 22.1.8 was used, 21.1.0 is here"]);
    }

    #[test]
    fn dependencies_of_the_programs_only() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found = dependencies(&lock_file(root).unwrap());
        let has = |name: &str| found.iter().any(|line| line.split(' ').next() == Some(name));
        assert!(has("aya-ebpf") && has("network-types") && has("aya-log-common"));
        assert!(!has("aya") && !has("tokio") && !has("syn"), "{found:?}");
    }
}
