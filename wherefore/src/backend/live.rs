//! Which live backend: the one asked for, or eBPF with libpcap behind it.

use super::{Backend, Choice, Error, LiveSettings, coverage::Covered, ebpf, pcap_live};

/// Starts counting on a live host; `why` says why this choice was made.
///
/// # Errors
/// The chosen backend cannot start; for [`Choice::Auto`]: neither can. Missing capabilities are named for
/// the one that needs more of them.
pub fn start(choice: Choice, why: &str, settings: &LiveSettings) -> Result<Box<dyn Backend>, Error> {
    match choice {
        Choice::Pcap => pcap(settings, why.to_owned()),
        Choice::Ebpf => ebpf(settings),
        Choice::Auto => {
            let refused = match ebpf(settings) {
                Ok(backend) => return Ok(backend),
                Err(refused) => refused,
            };
            let why = match &refused {
                Error::ExpressionForLibpcap { reason, .. } => format!("-f needs libpcap: {reason}"),
                other => format!("eBPF unavailable: {}", first_line(other)),
            };
            match pcap(settings, why) {
                Err(Error::Permission(_)) if matches!(refused, Error::Permission(_)) => Err(refused),
                other => other,
            }
        }
    }
}

fn ebpf(settings: &LiveSettings) -> Result<Box<dyn Backend>, Error> {
    Ok(Box::new(Covered::start(settings, ebpf::start)?))
}

fn pcap(settings: &LiveSettings, why: String) -> Result<Box<dyn Backend>, Error> {
    Ok(Box::new(Covered::start(settings, |settings| pcap_live::start(settings, why))?))
}

/// The reason in one line, as the line that says what is watched shows it.
pub(crate) fn first_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
