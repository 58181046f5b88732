//! Which live backend: the one asked for, or eBPF with libpcap behind it.

use super::{
    Backend, Choice, Error, LiveSettings,
    ebpf::{self, Start, Target},
    interfaces::{self, Interface, LinkKind},
    pcap_live,
};

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
    let chosen = interfaces::choose(&settings.interfaces)?;
    let targets: Vec<Target> = chosen.interfaces.iter().map(target).collect::<Result<_, _>>()?;
    Ok(Box::new(ebpf::start(settings, &targets)?))
}

/// Which of the kernel programs an interface needs.
fn target(interface: &Interface) -> Result<Target, Error> {
    let start = match interface.link {
        LinkKind::Ethernet | LinkKind::Loopback => Start::Ethernet,
        LinkKind::Ip => Start::Ip,
        LinkKind::Other(kind) => {
            return Err(Error::System {
                action: format!("cannot count {} in the kernel", interface.name),
                reason: format!(
                    "its frames are of a type the kernel programs do not know (ARPHRD {kind}); \
                                 libpcap may: --backend pcap"
                ),
            });
        }
    };
    Ok(Target { name: interface.name.clone(), index: interface.index, start })
}

fn pcap(settings: &LiveSettings, why: String) -> Result<Box<dyn Backend>, Error> {
    Ok(Box::new(pcap_live::start(settings, why)?))
}

/// The reason in one line, as the line that says what is watched shows it.
pub(crate) fn first_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
