//! The eBPF backend counts exactly known traffic, to the packet and byte, at every hook.

use wherefore::backend::{Backend, Choice, Hook, LiveSettings, live};
use wherefore_tests::{require_bpf, scenario};

fn start(hook: Hook) -> impl Fn(&LiveSettings) -> Box<dyn Backend> {
    move |settings| {
        let settings = LiveSettings { hook, ..settings.clone() };
        live::start(Choice::Ebpf, "asked for", &settings).unwrap_or_else(|error| panic!("start: {error}"))
    }
}

/// A module for a hook, a test in it for each scenario.
macro_rules! at_hook {
    ($hook:ident, $kind:expr, $($scenario:ident),+) => {
        mod $hook {
            use super::*;

            $(
                #[test]
                fn $scenario() {
                    if require_bpf() {
                        scenario::$scenario(&start($kind));
                    }
                }
            )+
        }
    };
}

at_hook!(
    tc,
    Hook::Tc,
    udp_is_exact,
    tcp_is_exact,
    frames_are_exact,
    packets_without_link_header_are_exact,
    polls_add_up,
    overflow_is_visible
);
at_hook!(
    clsact,
    Hook::Clsact,
    udp_is_exact,
    tcp_is_exact,
    frames_are_exact,
    packets_without_link_header_are_exact,
    polls_add_up,
    overflow_is_visible
);
at_hook!(xdp, Hook::Xdp, udp_is_exact, tcp_is_exact, frames_are_exact, polls_add_up, overflow_is_visible);
at_hook!(
    xdp_generic,
    Hook::XdpGeneric,
    udp_is_exact,
    tcp_is_exact,
    frames_are_exact,
    polls_add_up,
    overflow_is_visible
);
