//! The keys of the file: what `toml` reads, and what the JSON Schema is made from.
//!
//! A key of `[capture]`, `[series]`, `[detection]`, `[alerts]` or `[learning]` is a flag's name with underscores. It needs one line
//! here, its type: the text goes to the flag, which knows its range, default and help.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;
use wherefore_common::Direction;

use super::values::{self, Bound, List, OneOf, Ports, Protocol, Size, Time, Whole, Written};
use crate::{
    backend::{Choice, Hook, interfaces::Pattern},
    detect::{Name, anomalyzer::Method},
    locality::Locality,
    rules::{By, Severity},
    series::{Level, Unit},
};

/// Settings and rules of Wherefore.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "wherefore.toml")]
pub struct Entries {
    /// What is counted.
    pub capture: Capture,
    /// Which series are remembered.
    pub series: Series,
    /// What is unusual.
    pub detection: Detection,
    /// Who is told, and how often.
    pub alerts: Alerts,
    /// What outlasts the agent.
    pub learning: Learning,
    /// What is never wanted.
    #[serde(rename = "rule")]
    pub rules: Vec<RuleEntry>,
    /// What is judged in another way.
    #[serde(rename = "override")]
    pub overrides: Vec<OverrideEntry>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    interval: Option<Written<Time>>,
    interface: Option<List<Pattern>>,
    exclude_interface: Option<List<Pattern>>,
    stacked: Option<bool>,
    backend: Option<Written<OneOf<Choice>>>,
    hook: Option<Written<OneOf<Hook>>>,
    force_xdp: Option<bool>,
    kernel_log: Option<bool>,
    min_coverage: Option<f64>,
    snaplen: Option<Written<Whole>>,
    read_timeout: Option<Written<Time>>,
    promiscuous: Option<bool>,
    table_size: Option<Written<Whole>>,
    expression: Option<String>,
    include: Option<List<IpNet>>,
    exclude: Option<List<IpNet>>,
    include_src: Option<List<IpNet>>,
    include_dst: Option<List<IpNet>>,
    exclude_src: Option<List<IpNet>>,
    exclude_dst: Option<List<IpNet>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Series {
    level: Option<List<OneOf<Level>>>,
    bytes: Option<Written<OneOf<Unit>>>,
    max_series: Option<Written<Whole>>,
    expire_after: Option<Written<Whole>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Detection {
    detector: Option<Written<OneOf<Name>>>,
    alerts_per_day: Option<f64>,
    anom_methods: Option<List<OneOf<Method>>>,
    anom_sensitivity: Option<f64>,
    anom_upper_bound: Option<f64>,
    anom_lower_bound: Option<Written<Bound>>,
    anom_active_size: Option<Written<Whole>>,
    anom_n_seasons: Option<Written<Whole>>,
    anom_gv_cap: Option<Written<Whole>>,
    anom_perm_count: Option<Written<Whole>>,
    anom_delay: Option<bool>,
    alert_threshold: Option<f64>,
    min_bytes: Option<Written<Size>>,
    min_history: Option<Written<Whole>>,
    min_factor: Option<f64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    cooldown: Option<Written<Time>>,
    log_dir: Option<String>,
    log_max_size: Option<Written<Size>>,
    slack_url: Option<String>,
    slack_url_file: Option<String>,
    slack_channel: Option<String>,
    slack_emoji: Option<String>,
    slack_icon: Option<String>,
    fail_on_alert: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Learning {
    state_dir: Option<String>,
    no_state: Option<bool>,
    learn: Option<bool>,
}

/// What is never wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleEntry {
    /// Names the rule in alerts: 1 to 64 characters. Each rule has its own.
    #[schemars(with = "Written<values::Name>")]
    pub name: Spanned<Written<values::Name>>,
    /// What is not allowed: "rate > 1 GB/s for 10s", "volume > 50 GB per 24h", "packets > 10k/s for 10s", "packets > 1M
    /// per 1h", "flows > 1000 for 10s" or "new destination".
    #[schemars(with = "String")]
    pub condition: Spanned<String>,
    /// Which traffic it is about. Without it: all.
    #[serde(rename = "match")]
    #[schemars(with = "Option<MatchEntry>")]
    pub wanted: Option<Spanned<MatchEntry>>,
    /// Whose traffic is measured together: all that matches, or that of each remote net (/24, /48), remote host, or
    /// pair of addresses. Without it: all; of a new destination: host.
    pub by: Option<Written<OneOf<By>>>,
    /// How grave it is. Without it: warning.
    pub severity: Option<Written<OneOf<Severity>>>,
    /// With "new destination", and needed there: how long destinations are only remembered.
    #[schemars(with = "Option<Written<Time>>")]
    pub learn: Option<Spanned<Written<Time>>>,
}

/// What is judged in another way by the detector. Of several that match, the first counts. Rules are not concerned.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideEntry {
    /// Which traffic it is about.
    #[serde(rename = "match")]
    #[schemars(with = "MatchEntry")]
    pub wanted: Spanned<MatchEntry>,
    /// Never alert on it: it is part of no series.
    pub ignore: Option<bool>,
    /// In place of min_bytes of [detection].
    pub min_bytes: Option<Written<Size>>,
    /// So many flows in an interval must there be to alert on their number; 50 elsewhere.
    pub min_flows: Option<Written<Whole>>,
}

/// What a flow must have. Of several values of one key any will do.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatchEntry {
    /// Prefixes of either address.
    pub prefix: Option<List<IpNet>>,
    /// Prefixes of the local address.
    pub local: Option<List<IpNet>>,
    /// Prefixes of the remote address.
    pub remote: Option<List<IpNet>>,
    /// Either port, or ranges of ports.
    pub port: Option<List<Ports>>,
    /// The local port.
    pub local_port: Option<List<Ports>>,
    /// The remote port.
    pub remote_port: Option<List<Ports>>,
    /// IP protocols, by name or number.
    pub proto: Option<List<Protocol>>,
    /// Which way it crosses the interface.
    pub direction: Option<List<Direction>>,
    /// Which end is this host; not known of captures.
    pub locality: Option<List<Locality>>,
    /// Interfaces, by name or glob.
    pub interface: Option<List<Pattern>>,
}
