//! What the kernel asks of whoever loads programs, and how to give it.

use std::{error::Error as StdError, io};

use caps::{CapSet, Capability, has_cap};

use super::{Error, load::release};

/// Capabilities that loading, attaching and counting need and this process does not have.
///
/// Linux 5.8 split `CAP_BPF` and `CAP_PERFMON` off `CAP_SYS_ADMIN`, which still stands for both.
#[must_use]
pub fn missing_capabilities() -> Vec<&'static str> {
    let has = |capability| has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let admin = has(Capability::CAP_SYS_ADMIN);
    let mut missing = Vec::new();
    if before_5_8() {
        if !admin {
            missing.push("CAP_SYS_ADMIN");
        }
    } else {
        if !admin && !has(Capability::CAP_BPF) {
            missing.push("CAP_BPF");
        }
        if !admin && !has(Capability::CAP_PERFMON) {
            missing.push("CAP_PERFMON");
        }
    }
    if !has(Capability::CAP_NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    missing
}

fn before_5_8() -> bool {
    let release = release();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < (5, 8),
        _ => false,
    }
}

/// The error for missing rights, with the two ways to give them.
#[must_use]
pub fn denied(action: &str, missing: &[&str]) -> Error {
    let path = std::env::current_exe().map_or_else(|_| "wherefore".into(), |path| path.display().to_string());
    let why = if missing.is_empty() {
        "the kernel refuses it although no capability is missing: this may be a container or a user \
         namespace, or a security module"
            .into()
    } else {
        format!("missing {}", missing.join(", "))
    };
    let set = if before_5_8() {
        "cap_sys_admin,cap_net_admin,cap_net_raw+ep"
    } else {
        "cap_bpf,cap_net_admin,cap_perfmon,cap_net_raw+ep"
    };
    Error::Permission(format!(
        "cannot {action}: {why}\n  once and for all: sudo setcap {set} {path}\n  just this time:   sudo {path}"
    ))
}

/// An error of aya in our own words: missing rights are told from everything else.
#[must_use]
pub fn explain(action: &str, error: &(dyn StdError + 'static)) -> Error {
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => denied(action, &missing_capabilities()),
        Some(libc::ENOSYS) => {
            system(action, "this kernel is built without bpf(2); --backend pcap works without".into())
        }
        Some(libc::ENOMEM) => {
            system(action, format!("{}: a smaller --table-size needs less memory", chain(error)))
        }
        _ => system(action, chain(error)),
    }
}

fn system(action: &str, reason: String) -> Error {
    Error::System { action: action.into(), reason }
}

/// The operating system's error number behind an error, wherever in the chain it is.
#[must_use]
pub fn os_error(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        if let Some(netlink) = error.downcast_ref::<aya::sys::NetlinkError>() {
            return netlink.raw_os_error();
        }
        next = error.source();
    }
    None
}

/// The error and its causes in one line, each once.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_error_number_through_a_chain() {
        let inner = io::Error::from_raw_os_error(libc::EPERM);
        let error = aya::EbpfError::MapError(aya::maps::MapError::CreateError {
            name: "FLOWS".into(),
            io_error: inner,
        });
        assert_eq!(os_error(&error), Some(libc::EPERM));
        let Error::Permission(text) = explain("load", &error) else { panic!("not a permission error") };
        assert!(text.contains("sudo setcap cap_bpf,cap_net_admin,cap_perfmon,cap_net_raw+ep /"), "{text}");
        let other = io::Error::from_raw_os_error(libc::EINVAL);
        assert!(matches!(explain("load", &other), Error::System { .. }));
    }
}
