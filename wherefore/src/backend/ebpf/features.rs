//! What a kernel may lack, and how it is done then. docs/kernels.md has the whole list.
//!
//! What can be tried is tried where it is used, and only what would go wrong half-way is known by its version, or by what
//! the kernel says of itself.

use super::Error;
use crate::backend::probe;

/// Names features that are to be taken for missing, separated by commas, so that the tests can see what happens then.
/// Heeded in debug builds only, as [`super::load::OBJECT_VARIABLE`].
pub const VARIABLE: &str = "WHEREFORE_WITHOUT";

/// A feature that kernels have or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFeature {
    /// Inner maps of another size than their template. Without it there is no counting in the kernel.
    InnerMapSizes,
    /// XDP programs that go with the process that attached them.
    XdpLinks,
    /// Many entries of a table in one call.
    Batch,
    /// Functions verified once that take pointers: how a key reaches what is done for few packets.
    PointerArguments,
    /// The MTU told to a program, so that generic XDP can mark merged packets.
    CheckMtu,
    /// Programs at an interface beside each other, without a queueing discipline.
    Tcx,
    /// Programs of one CPU that cannot interrupt each other: everywhere but on `PREEMPT_RT`.
    Uninterrupted,
}

impl KernelFeature {
    /// All, oldest kernel first.
    pub const ALL: [Self; 7] = [
        Self::Uninterrupted,
        Self::Batch,
        Self::XdpLinks,
        Self::InnerMapSizes,
        Self::PointerArguments,
        Self::CheckMtu,
        Self::Tcx,
    ];

    /// Those without which there is no counting in the kernel.
    const LEAST: [Self; 2] = [Self::InnerMapSizes, Self::PointerArguments];

    /// As in [`VARIABLE`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InnerMapSizes => "inner_map_sizes",
            Self::XdpLinks => "xdp_links",
            Self::Batch => "batch",
            Self::PointerArguments => "pointer_arguments",
            Self::CheckMtu => "check_mtu",
            Self::Tcx => "tcx",
            Self::Uninterrupted => "uninterrupted",
        }
    }

    /// The version of Linux that brought it.
    #[must_use]
    pub const fn since(self) -> (u32, u32) {
        match self {
            // A matter of how a kernel is built.
            Self::Uninterrupted => (0, 0),
            Self::Batch => (5, 6),
            Self::XdpLinks => (5, 9),
            Self::InnerMapSizes => (5, 10),
            Self::PointerArguments | Self::CheckMtu => (5, 12),
            Self::Tcx => (6, 6),
        }
    }

    /// Taken for missing, whatever the kernel has.
    #[must_use]
    pub fn hidden(self) -> bool {
        cfg!(debug_assertions)
            && std::env::var(VARIABLE).is_ok_and(|names| names.split(',').any(|name| name == self.name()))
    }

    /// Whether a kernel of this version has it. A release that has no version is taken for a new one.
    #[must_use]
    pub fn by_version(self, release: &str) -> bool {
        !self.hidden() && probe::version(release).is_none_or(|version| version >= self.since())
    }
}

/// Whether the programs of one CPU cannot interrupt each other ([`KernelFeature::Uninterrupted`]), so that what one
/// keeps in a place of its CPU is still there at its end.
#[must_use]
pub fn uninterrupted() -> bool {
    let realtime = std::fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1");
    let version = std::fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default();
    !realtime && !preempt_rt(&version) && !KernelFeature::Uninterrupted.hidden()
}

/// Whether a kernel's version string (`uname -v`) is that of a `PREEMPT_RT` one (`init/Makefile`: `UTS_VERSION`). Only
/// kernels with patches of that project have the file `/sys/kernel/realtime`.
fn preempt_rt(version: &str) -> bool {
    version.split_whitespace().any(|word| word == "PREEMPT_RT")
}

/// Refuses a kernel that is too old to count in, before anything is loaded.
///
/// # Errors
/// [`Error::NotOffered`].
pub fn enough(release: &str) -> Result<(), Error> {
    if KernelFeature::LEAST.iter().all(|feature| feature.by_version(release)) {
        return Ok(());
    }
    let (major, minor) = KernelFeature::LEAST.map(KernelFeature::since).into_iter().max().unwrap_or_default();
    Err(Error::NotOffered {
        action: "count in the kernel".into(),
        reason: format!("kernel {release} is older than Linux {major}.{minor}; --backend pcap works there"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preempt_rt_is_told_by_the_version() {
        assert!(preempt_rt("#1 SMP PREEMPT_RT Debian 6.12.6-1 (2024-12-21)"));
        assert!(!preempt_rt("#1 SMP PREEMPT_DYNAMIC Debian 6.12.6-1 (2024-12-21)"));
        assert!(!preempt_rt(""));
    }

    #[test]
    fn old_kernels_are_told_from_new_ones() {
        assert!(
            enough("5.10.0-28-amd64").is_err()
                && enough("5.12.0").is_ok()
                && enough("6.1.0").is_ok()
                && enough("").is_ok()
        );
        let refused = enough("5.4.0-200-generic").unwrap_err().to_string();
        assert!(refused.contains("kernel 5.4.0-200-generic is older than Linux 5.12"), "{refused}");
        assert!(!KernelFeature::XdpLinks.by_version("5.8.18") && KernelFeature::XdpLinks.by_version("5.9.0"));
    }

    #[test]
    fn all_are_there_in_order() {
        let since = KernelFeature::ALL.map(KernelFeature::since);
        assert!(since.is_sorted());
        assert!(KernelFeature::ALL.iter().all(|feature| !feature.hidden()));
    }
}
