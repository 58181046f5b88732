//! What the kernel asks of whoever loads programs, and how to give it.

use std::error::Error as StdError;

use aya::programs::ProgramError;

use super::Error;
use crate::backend::probe::{self, Capabilities, causes, os_error};

/// Capabilities that loading, attaching and counting need and this process does not have.
#[must_use]
pub fn missing_capabilities() -> Vec<&'static str> {
    let needed = Capabilities::of_this_process().for_ebpf(&probe::release());
    needed.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect()
}

/// The error for missing rights, with the two ways to give them.
#[must_use]
pub fn denied(action: &str, missing: &[&str]) -> Error {
    let why = if missing.is_empty() {
        "the kernel refuses it although no capability is missing: this may be a container or a user \
         namespace, or a security module"
            .into()
    } else {
        format!("missing {}", missing.join(", "))
    };
    Error::Permission(format!("cannot {action}: {why}\n{}", probe::ways_to_allow()))
}

/// An error of aya in our own words: missing rights are told from everything else.
#[must_use]
pub fn explain(action: &str, error: &(dyn StdError + 'static)) -> Error {
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => {
            let missing = missing_capabilities();
            if missing.is_empty() && verifier_spoke(error) {
                system(action, shorten(&causes(error)))
            } else {
                denied(action, &missing)
            }
        }
        Some(libc::ENOSYS) => {
            let reason = "this kernel is built without bpf(2); --backend pcap works without".into();
            Error::NotOffered { action: action.into(), reason }
        }
        Some(libc::ENOMEM) => {
            system(action, format!("{}: a smaller --table-size needs less memory", shorten(&causes(error))))
        }
        _ => system(action, shorten(&causes(error))),
    }
}

/// Whether the verifier looked at the program and found a fault: its answer is EACCES then, too.
fn verifier_spoke(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(ProgramError::LoadError { verifier_log, .. }) if !verifier_log.to_string().trim().is_empty()
    )
}

fn system(action: &str, reason: String) -> Error {
    Error::System { action: action.into(), reason }
}

/// The first line and the last ones: a verifier that refuses a program hands over its whole protocol,
/// megabytes at times, whose end says why.
fn shorten(text: &str) -> String {
    const LAST: usize = 4;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.split_first() {
        Some((first, rest)) if rest.len() > LAST => {
            format!("{first}\n  …\n  {}", rest[rest.len() - LAST..].join("\n  "))
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn of_the_verifier_s_protocol_the_end_remains() {
        let protocol: String = (0..10_000).map(|line| format!("{line}: r1 = r2\n")).collect();
        let text = shorten(&format!("the syscall returned EACCES\n{protocol}R3 invalid access\n\n"));
        assert!(text.starts_with("the syscall returned EACCES\n  …\n"), "{text}");
        assert!(text.ends_with("R3 invalid access") && text.lines().count() == 6, "{text}");
        assert_eq!(shorten("one\ntwo"), "one\ntwo");
    }

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
