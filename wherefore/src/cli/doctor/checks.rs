//! What was found on a host, judged. Pure.

use std::collections::BTreeMap;

use super::{Check, Status};
use crate::{
    backend::{
        ebpf::xdp_safety::Judgement,
        interfaces::Plan,
        probe::{self, Attached, Device, Host, Place, version},
    },
    render::text::{bytes, clean},
};

/// Oldest kernel that the eBPF backend is meant for.
const OLDEST_KERNEL: (u32, u32) = (5, 12);
/// TCX came with this one.
const TCX_KERNEL: (u32, u32) = (6, 6);
/// From this one on, maps are charged to the memory cgroup instead of the lock limit.
const NO_MEMLOCK_KERNEL: (u32, u32) = (5, 11);

/// What the findings mean. `program` is the path of this binary, for the commands that mend. Pure.
///
/// What only eBPF needs is a warning as long as libpcap can count instead.
#[must_use]
pub fn checks(
    host: &Host,
    devices: &Result<Vec<Device>, String>,
    chosen: &Result<Plan, String>,
    xdp: &BTreeMap<u32, Judgement>,
    program: &str,
) -> Vec<Check> {
    let ebpf = ebpf(host, program);
    let ebpf_works = ebpf.iter().all(|check| check.status == Status::Ok);
    let pcap = pcap(host, program);
    let pcap_works = pcap.status == Status::Ok;

    let mut checks = ebpf;
    for check in &mut checks {
        if check.status != Status::Ok && !pcap_works {
            check.status = Status::Fail;
        }
    }
    checks.push(pcap);
    checks.extend(surroundings(host));
    match devices {
        Ok(devices) => checks
            .extend(devices.iter().flat_map(|device| device_checks(device, chosen, xdp.get(&device.index)))),
        Err(error) => {
            checks.push(Check::warn("interfaces", error.clone(), "is this a sandbox without netlink?"));
        }
    }
    checks.push(match chosen {
        Ok(chosen) => {
            let names: Vec<_> = chosen.watched().map(|verdict| clean(&verdict.interface.name)).collect();
            Check::ok("watched", format!("{} ({})", names.join(", "), chosen.why))
        }
        Err(error) => Check::new("watched", Status::Fail, error.clone(), Some("name an interface with -i")),
    });
    checks.push(match (ebpf_works, pcap_works) {
        (true, _) => Check::ok("backend", "eBPF: counts inside the kernel"),
        (false, true) => Check::warn(
            "backend",
            "libpcap: every packet is copied to user space; the loss of packets under load is counted",
            "mend what is said above to count by eBPF",
        ),
        (false, false) => Check::new(
            "backend",
            Status::Fail,
            "neither eBPF nor libpcap can count",
            Some("mend what is said above"),
        ),
    });
    checks
}

/// What eBPF needs.
fn ebpf(host: &Host, program: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    let kernel = version(&host.kernel);
    checks.push(match kernel {
        Some(version) if version >= TCX_KERNEL => Check::ok("kernel", format!("{}: has TCX", host.kernel)),
        Some(version) if version >= OLDEST_KERNEL => {
            Check::ok("kernel", format!("{}: clsact (TCX came with 6.6)", host.kernel))
        }
        Some(_) => {
            Check::warn("kernel", format!("{} is too old for eBPF", host.kernel), "use Linux 5.12 or newer")
        }
        None => Check::warn("kernel", format!("unknown release {:?}", host.kernel), "is /proc mounted?"),
    });
    checks.push(match &host.bpf {
        Ok(()) => Check::ok("bpf", "bpf(2) makes maps"),
        Err(error) => Check::warn(
            "bpf",
            format!("bpf(2) refuses to make a map: {error}"),
            "give the capabilities below; in a container also let its seccomp profile pass bpf(2) \
             (Docker 23 or newer does so with CAP_BPF)",
        ),
    });
    let needed = host.capabilities.for_ebpf(&host.kernel);
    let missing: Vec<&str> = needed.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect();
    checks.push(if missing.is_empty() {
        let all: Vec<&str> = needed.iter().map(|(name, _)| *name).collect();
        Check::ok("capabilities", format!("{} in effect", all.join(", ")))
    } else {
        let fix = probe::setcap(program, &host.kernel);
        Check::warn("capabilities", format!("missing for eBPF: {}", missing.join(", ")), &fix)
    });
    checks
}

fn pcap(host: &Host, program: &str) -> Check {
    if host.capabilities.net_raw {
        return Check::ok("libpcap", format!("{}; CAP_NET_RAW in effect", host.libpcap));
    }
    let fix = probe::setcap(program, &host.kernel);
    Check::warn("libpcap", format!("{}; CAP_NET_RAW is missing: cannot capture", host.libpcap), &fix)
}

/// What makes counting better or safer, but is not needed.
fn surroundings(host: &Host) -> Vec<Check> {
    let mut checks = Vec::new();
    match host.jit {
        Some(0) => checks.push(Check::warn(
            "jit",
            "the kernel interprets eBPF programs, which costs several times as much per packet",
            "sysctl -w net.core.bpf_jit_enable=1",
        )),
        Some(_) => checks.push(Check::ok("jit", "eBPF programs run as machine code")),
        None => {}
    }
    if version(&host.kernel).is_some_and(|version| version < NO_MEMLOCK_KERNEL)
        && let Some(limit) = host.memlock
    {
        checks.push(Check::warn(
            "memlock",
            format!("before Linux 5.11 maps count as locked memory, of which {} are allowed", bytes(limit)),
            "ulimit -l unlimited; in a systemd unit LimitMEMLOCK=infinity",
        ));
    }
    checks.push(if host.btf {
        Check::ok("btf", "/sys/kernel/btf/vmlinux")
    } else {
        Check::warn(
            "btf",
            "no /sys/kernel/btf/vmlinux: the kernel programs need its types, so libpcap will count",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF",
        )
    });
    if host.unprivileged_bpf_disabled == Some(0) {
        checks.push(Check::warn(
            "unprivileged",
            "every user may load eBPF programs; not needed here, and a risk",
            "sysctl -w kernel.unprivileged_bpf_disabled=2",
        ));
    }
    checks.push(match &host.cgroup2 {
        Some(path) => Check::ok("cgroup2", format!("mounted at {}", clean(&path.to_string_lossy()))),
        None => Check::ok("cgroup2", "not mounted; nothing here needs it"),
    });
    checks
}

/// Hooks of the interfaces that would be watched; programs and leftovers on all.
fn device_checks(device: &Device, chosen: &Result<Plan, String>, xdp: Option<&Judgement>) -> Vec<Check> {
    let name = format!("interface {}", clean(&device.name));
    let watched =
        chosen.as_ref().is_ok_and(|chosen| chosen.watched().any(|v| v.interface.index == device.index));
    let mut checks = Vec::new();
    if watched {
        let hook = match device.tcx {
            Some(true) => "TCX".to_owned(),
            Some(false) if device.clsact => "clsact (there already)".to_owned(),
            Some(false) => "clsact (will be added)".to_owned(),
            None => format!("not known ({})", device.unknown.join("; ")),
        };
        let xdp = match xdp {
            Some(Judgement::Harmless) => "; --hook xdp would change nothing".to_owned(),
            Some(Judgement::Changes(changes)) => {
                format!("; --hook xdp is refused, because it would change the device: {}", changes.join("; "))
            }
            Some(Judgement::Impossible(reason)) => format!("; no --hook xdp: {reason}"),
            Some(Judgement::Unknown(reason)) => {
                format!("; what --hook xdp would change is not known: {reason}")
            }
            None => String::new(),
        };
        checks.push(if device.running {
            Check::ok(&name, format!("hook: {hook}{xdp}"))
        } else {
            Check::warn(&name, format!("no link; hook: {hook}{xdp}"), "is it up, and its cable in?")
        });
    }
    for attached in &device.attached {
        let what = format!("{} at {}", clean(&attached.name), attached.place);
        let what = match attached.id {
            Some(id) => format!("{what} (program {id})"),
            None => what,
        };
        checks.push(match attached.place {
            _ if attached.leftover => Check::warn(
                &name,
                format!("{what}: left by an agent that was killed; the next start there removes it"),
                &removal(device, attached),
            ),
            Place::ClsactIngress | Place::ClsactEgress if attached.is_ours() => {
                Check::ok(&name, format!("{what}: of an agent that runs"))
            }
            Place::XdpNative | Place::XdpGeneric | Place::XdpOffloaded if watched && !attached.is_ours() => {
                Check::new(
                    &name,
                    Status::Warn,
                    format!("{what}: packets that it drops or redirects are not counted"),
                    None,
                )
            }
            _ => Check::ok(&name, what),
        });
    }
    checks
}

/// The command that removes a clsact filter of ours, and nothing else.
fn removal(device: &Device, filter: &Attached) -> String {
    let side = if filter.place == Place::ClsactIngress { "ingress" } else { "egress" };
    format!(
        "tc filter del dev {} {side} pref {} handle {:#x} bpf",
        clean(&device.name),
        filter.priority.unwrap_or_default(),
        filter.handle.unwrap_or_default()
    )
}
