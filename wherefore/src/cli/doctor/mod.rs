//! `wherefore doctor`: what this host offers, and how to mend what is missing. Looks only.

mod checks;

use serde::Serialize;

use crate::{
    backend::{ebpf::xdp_safety, interfaces, probe},
    render::{
        Format, Output,
        text::{csv_line, json_line, wrap},
    },
};

pub use checks::checks;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Counting works, but less well.
    Warn,
    /// Counting does not work.
    Fail,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }

    const fn color(self) -> &'static str {
        match self {
            Self::Ok => "32",
            Self::Warn => "33",
            Self::Fail => "1;31",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Short and stable: `kernel`, `capabilities`, `interface eth0`, …
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it; `None` where there is nothing to do.
    pub fix: Option<String>,
}

impl Check {
    fn new(name: &str, status: Status, found: impl Into<String>, fix: Option<&str>) -> Self {
        Self { name: name.to_owned(), status, found: found.into(), fix: fix.map(str::to_owned) }
    }

    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, found, None)
    }

    fn warn(name: &str, found: impl Into<String>, fix: &str) -> Self {
        Self::new(name, Status::Warn, found, Some(fix))
    }
}

/// Checks this host. The second value is the exit code: 1 if anything failed, else 0.
#[must_use]
pub fn run(format: Format, color: bool, width: Option<usize>) -> (Output, u8) {
    let devices = probe::devices().map_err(|error| error.to_string());
    let chosen = interfaces::plan(&interfaces::Request::default())
        .and_then(|plan| plan.check().map(|()| plan))
        .map_err(|error| error.to_string());
    let program = probe::program();
    let watched: Vec<_> =
        chosen.iter().flat_map(|plan| plan.watched().map(|verdict| verdict.interface.clone())).collect();
    let xdp = xdp_safety::judge(&watched);
    let checks = checks(&probe::host(), &devices, &chosen, &xdp, &program);
    (render(&checks, format, color, width), exit_code(&checks))
}

/// 1 if any check failed, else 0.
#[must_use]
pub fn exit_code(checks: &[Check]) -> u8 {
    u8::from(checks.iter().any(|check| check.status == Status::Fail))
}

/// Prints the checks. JSON: `{"ok": …, "checks": […]}`; JSON Lines and CSV: one line per check.
#[must_use]
pub fn render(checks: &[Check], format: Format, color: bool, width: Option<usize>) -> Output {
    #[derive(Serialize)]
    struct Whole<'a> {
        ok: bool,
        checks: &'a [Check],
    }
    let out = match format {
        Format::Json => json_line(&Whole { ok: exit_code(checks) == 0, checks }),
        Format::Jsonl => checks.iter().map(json_line).collect(),
        Format::Csv => {
            let rows = checks.iter().map(|check| {
                csv_line([
                    &check.name,
                    check.status.name(),
                    &check.found,
                    check.fix.as_deref().unwrap_or_default(),
                ])
            });
            csv_line(["name", "status", "found", "fix"]) + &rows.collect::<String>()
        }
        Format::Table => table(checks, color, width),
    };
    Output { out, err: String::new() }
}

fn table(checks: &[Check], color: bool, width: Option<usize>) -> String {
    let mut out = String::new();
    let names = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    // Status, name, and a space after each.
    let indent = 5 + names + 2;
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
    for check in checks {
        let status = format!("{:<5}", check.status.name());
        if color {
            out.push_str(&format!("\x1b[{}m{status}\x1b[0m", check.status.color()));
        } else {
            out.push_str(&status);
        }
        out.push_str(&format!("{:<names$}  ", check.name));
        let lines = wrap(&check.found, room);
        out.push_str(&lines.join(&format!("\n{}", " ".repeat(indent))));
        out.push('\n');
        // Not broken: it may be a command to copy.
        if let Some(fix) = &check.fix {
            out.push_str(&format!("{}→ {fix}\n", " ".repeat(indent)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::backend::{
        ebpf::xdp_safety::Judgement,
        interfaces::{Interface, Memory, Plan, Request, choose},
        probe::{Attached, Capabilities, Device, Host, Place, version},
    };

    fn healthy() -> Host {
        let all = Capabilities { bpf: true, net_admin: true, perfmon: true, net_raw: true, sys_admin: false };
        Host {
            kernel: "6.18.44-generic".to_owned(),
            btf: true,
            bpf: Ok(()),
            capabilities: all,
            jit: Some(1),
            unprivileged_bpf_disabled: Some(2),
            memlock: Some(8 << 20),
            cgroup2: Some("/sys/fs/cgroup".into()),
            libpcap: "libpcap version 1.10.3".to_owned(),
        }
    }

    fn chosen() -> Result<Plan, String> {
        let eth0 = Interface {
            index: 2,
            name: "eth0".to_owned(),
            up: true,
            default_route: true,
            ..Interface::default()
        };
        Ok(choose(&[eth0], &Request::default(), &Memory::default()))
    }

    fn eth0() -> Device {
        Device { index: 2, name: "eth0".to_owned(), running: true, tcx: Some(true), ..Device::default() }
    }

    fn of(host: &Host, device: Device) -> Vec<Check> {
        checks(host, &Ok(vec![device]), &chosen(), &BTreeMap::new(), "/usr/bin/wherefore")
    }

    fn find<'a>(checks: &'a [Check], name: &str) -> Option<&'a Check> {
        checks.iter().find(|check| check.name == name)
    }

    #[test]
    fn a_healthy_host_has_nothing_to_mend() {
        let checks = of(&healthy(), eth0());
        assert!(checks.iter().all(|check| check.status == Status::Ok && check.fix.is_none()), "{checks:#?}");
        assert_eq!(exit_code(&checks), 0);
    }

    #[test]
    fn what_is_not_needed_is_no_warning() {
        let checks = of(&Host { cgroup2: None, ..healthy() }, eth0());
        assert_eq!(find(&checks, "cgroup2").map(|check| check.status), Some(Status::Ok));
    }

    #[test]
    fn native_xdp_is_told_as_it_is_judged() {
        let told = |judgement: Judgement| {
            let xdp = BTreeMap::from([(2, judgement)]);
            let checks = checks(&healthy(), &Ok(vec![eth0()]), &chosen(), &xdp, "/usr/bin/wherefore");
            find(&checks, "interface eth0").map(|check| check.found.clone()).unwrap_or_default()
        };
        assert_eq!(told(Judgement::Harmless), "hook: TCX; --hook xdp would change nothing");
        let changes = vec!["driver igc: all rings stop".to_owned(), "LRO is on".to_owned()];
        assert_eq!(
            told(Judgement::Changes(changes)),
            "hook: TCX; --hook xdp is refused, because it would change the device: driver igc: all rings stop; LRO is on"
        );
        assert_eq!(
            told(Judgement::Impossible("no Ethernet".to_owned())),
            "hook: TCX; no --hook xdp: no Ethernet"
        );
        assert_eq!(
            told(Judgement::Unknown("EPERM".to_owned())),
            "hook: TCX; what --hook xdp would change is not known: EPERM"
        );
    }

    #[test]
    fn without_ebpf_it_warns_and_without_anything_it_fails() {
        let mut host = healthy();
        host.capabilities.bpf = false;
        let warned = of(&host, eth0());
        let capabilities = find(&warned, "capabilities");
        assert_eq!(
            capabilities.and_then(|check| check.fix.as_deref()),
            Some("sudo setcap cap_bpf,cap_net_admin,cap_perfmon,cap_net_raw+ep /usr/bin/wherefore")
        );
        assert_eq!(capabilities.map(|check| check.status), Some(Status::Warn));
        assert_eq!(find(&warned, "backend").map(|check| check.status), Some(Status::Warn));
        assert_eq!(exit_code(&warned), 0);

        host.capabilities.net_raw = false;
        let failed = of(&host, eth0());
        assert_eq!(find(&failed, "capabilities").map(|check| check.status), Some(Status::Fail));
        assert_eq!(find(&failed, "backend").map(|check| check.status), Some(Status::Fail));
        assert_eq!(exit_code(&failed), 1);
    }

    #[test]
    fn memlock_matters_only_to_old_kernels() {
        assert_eq!(find(&of(&healthy(), eth0()), "memlock"), None);
        let old = Host { kernel: "5.10.0-28-amd64".to_owned(), ..healthy() };
        assert!(find(&of(&old, eth0()), "memlock").is_some_and(|check| check.found.contains("8.39 MB")));
        let unlimited = Host { memlock: None, ..old };
        assert_eq!(find(&of(&unlimited, eth0()), "memlock"), None);
        assert_eq!(version("4.19.0"), Some((4, 19)));
        assert_eq!(version("6.6-rc1"), Some((6, 6)));
        assert_eq!(version(""), None);
    }

    #[test]
    fn leftovers_and_foreign_xdp_are_told_with_what_to_do() {
        let attached = |place, name: &str, handle: Option<u32>, leftover| Attached {
            place,
            id: Some(9),
            name: name.to_owned(),
            priority: handle.map(|_| 3),
            handle,
            leftover,
        };
        let device = Device {
            attached: vec![
                attached(Place::ClsactEgress, "wherefore_out", Some(0x1f), true),
                attached(Place::ClsactEgress, "wherefore_out", Some(0x2f), false),
                attached(Place::XdpNative, "firewall", None, false),
                attached(Place::TcxIngress, "cil_from_netdev", None, false),
            ],
            ..eth0()
        };
        let checks = of(&healthy(), device);
        let found: Vec<_> = checks.iter().filter(|check| check.name == "interface eth0").collect();
        let statuses: Vec<_> = found.iter().map(|check| check.status).collect();
        assert_eq!(statuses, [Status::Ok, Status::Warn, Status::Ok, Status::Warn, Status::Ok]);
        let fix = "tc filter del dev eth0 egress pref 3 handle 0x1f bpf";
        assert_eq!(found[1].fix.as_deref(), Some(fix));
        assert!(found[2].found.ends_with("of an agent that runs"), "{found:?}");
        assert_eq!(exit_code(&checks), 0);
    }

    #[test]
    fn every_format_has_every_check() {
        let checks = of(&Host { jit: Some(0), ..healthy() }, eth0());
        let n = checks.len();
        assert_eq!(render(&checks, Format::Csv, true, None).out.lines().count(), n + 1);
        assert_eq!(render(&checks, Format::Jsonl, true, None).out.lines().count(), n);
        let json = render(&checks, Format::Json, true, None).out;
        assert!(
            json.starts_with(r#"{"ok":true,"checks":[{"name":"kernel","status":"OK","found":"6.18"#),
            "{json}"
        );
        let table = render(&checks, Format::Table, false, Some(80)).out;
        assert!(table.contains("→ sysctl -w net.core.bpf_jit_enable=1\n"), "{table}");
        assert!(!table.contains('\x1b'));
    }
}
