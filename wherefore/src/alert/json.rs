//! An alert as one line of JSON.

use serde::{Serialize, Serializer, ser::SerializeSeq};

use super::Alert;
use crate::{
    detect::Part,
    finding::{Contributor, Trend},
    series::{Level, Metric, SeriesKey, Unit},
    time::Timestamp,
};

/// The fields of a line, in this order. `time`, `level`, `msg`, `flow`, `vector` and
/// `anomaly_probability` have the original's names and meaning, so that what reads its anomaly log goes
/// on working; the packet headers it logged beside them are gone, as they described one packet, not the
/// interval.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// End of the interval, RFC 3339 in UTC.
    time: Timestamp,
    /// Always `warning`.
    level: &'static str,
    /// `Anomaly detected`, or `Rule broken`.
    msg: &'static str,
    /// The rule, where one was broken: then addresses, interface, direction and locality are those of what carried most
    /// of it in the interval, and `contributors` those of what was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule<'a>>,
    /// The alert in one sentence.
    summary: String,
    /// Host that saw it.
    host: &'a str,
    /// Interface that carried most of it.
    interface: &'a str,
    /// `ingress`, `egress` or `unknown`.
    direction: &'static str,
    /// Which end is this host: `outgoing`, `incoming`, `local`, `forwarded`; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    locality: Option<&'static str>,
    /// `flow`, `pair`, `net`, `interface`; `level` is the original's word for something else.
    series_level: Level,
    /// `bytes` or `flows`: what was measured, and what `usual`, `limit` and `history` are of.
    metric: Metric,
    /// `rise`, `fall` or `silence`.
    trend: Trend,
    /// It was not known before: `usual` and `history` are of what newcomers carry.
    newcomer: bool,
    /// For how long such a one was known before this interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    known_seconds: Option<Number>,
    /// The series in words.
    series: String,
    /// Sender; this and the receiver at levels flow and pair only.
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<std::net::IpAddr>,
    /// Receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<std::net::IpAddr>,
    /// The remote network; this and `toward` at level net only.
    #[serde(skip_serializing_if = "Option::is_none")]
    net: Option<ipnet::IpNet>,
    /// To the network, else from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    toward: Option<bool>,
    /// IP protocol number; this and the ports at level flow only.
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<u8>,
    /// Source port.
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    /// Bytes of the interval, normalised to `interval_seconds` and so rounded to whole ones, as all volumes here.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Number>,
    /// Flows of the interval, likewise; this or `bytes`, by the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<Number>,
    /// Which bytes: `ip` or `wire`.
    unit: Unit,
    /// Packets that may stand for several on the wire: then `bytes` lacks their headers.
    estimated: u64,
    /// Length of an interval.
    interval_seconds: Number,
    /// Bytes, or flows, per second.
    rate: Number,
    /// Tenth percentile, median and ninetieth percentile of the earlier intervals.
    usual: Usual,
    /// 0 to 1.
    probability: Number,
    /// The probability that had to be exceeded.
    threshold: Number,
    /// False alerts a day that the threshold stands for; absent where it is not made of a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Number>,
    /// What the value would have had to be at most, of a fall at least, not to be found unusual; absent where nothing
    /// would have been usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Number>,
    /// When the unusual state began: end of its first interval.
    since: Timestamp,
    /// How long it carried less, at least; of a rise only.
    #[serde(skip_serializing_if = "Option::is_none")]
    highest_for_seconds: Option<Number>,
    /// What each method said: `{method, value, weight}`.
    methods: &'a [Part],
    /// What the intervals remembered carried, oldest first, this one last; of a silence that goes on, its first few.
    history: Numbers<'a>,
    /// The pairs of addresses that made most of the change; at levels net and interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contributors: Vec<Share>,
    /// How many findings had the same cause and were not told.
    folded: u64,
    /// The largest of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    folded_top: Vec<Share>,
    /// The other direction, which was unusual too.
    #[serde(skip_serializing_if = "Option::is_none")]
    reverse: Option<Share>,
    /// Alerts of the same key held back since it was last told.
    suppressed: u64,
    /// Source and destination, each right-aligned to 14, as the original wrote them; else the network or interface.
    flow: String,
    /// `history` by its old name.
    vector: Numbers<'a>,
    /// `probability` by its old name.
    anomaly_probability: Number,
}

/// A broken rule.
#[derive(Debug, Serialize)]
struct Rule<'a> {
    /// Its name.
    name: &'a str,
    /// Its condition, as it was written.
    condition: String,
    /// `info`, `warning` or `critical`.
    severity: &'static str,
    /// Whose traffic broke it: `all`, a net, a host, or `SRC → DST`.
    group: String,
    /// Bytes, packets or flows; of a rate, a second; of new destinations, how many.
    measured: Number,
}

#[derive(Debug, Serialize)]
struct Usual {
    low: Number,
    median: Number,
    high: Number,
}

/// A series and its part in a change.
#[derive(Debug, Serialize)]
struct Share {
    series: String,
    series_level: Level,
    metric: Metric,
    value: Number,
    /// 0 to 1.
    share: Number,
}

impl Share {
    fn of(contributor: &Contributor) -> Self {
        let Contributor { series, metric, value, share } = *contributor;
        Self {
            series: series.to_string(),
            series_level: series.level(),
            metric,
            value: Number(value.round()),
            share: Number((share * 1e3).round() / 1e3),
        }
    }
}

/// Whole numbers without `.0`, as counters are; what is no number as `null`.
#[derive(Clone, Copy, Debug)]
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // 2^53: up to here a double holds every whole number.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0.abs() <= EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within ±2^53, just checked")]
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Numbers<'a>(&'a [f64]);

impl Serialize for Numbers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for value in self.0 {
            seq.serialize_element(&Number(value.round()))?;
        }
        seq.end()
    }
}

impl<'a> Record<'a> {
    /// The record of `alert`.
    #[must_use]
    pub fn new(alert: &'a Alert) -> Self {
        let finding = &alert.finding;
        let transport = finding.series.transport();
        let (src, dst) = finding.series.ends().unzip();
        let (net, toward) = match finding.series {
            SeriesKey::Net { net, toward } => (Some(net), Some(toward)),
            _ => (None, None),
        };
        let of = |metric| (finding.metric == metric).then(|| Number(finding.value.round()));
        Self {
            time: finding.time,
            level: "warning",
            msg: if finding.broken().is_some() { "Rule broken" } else { "Anomaly detected" },
            rule: finding.broken().map(|broken| Rule {
                name: &broken.rule.name,
                condition: broken.rule.condition.to_string(),
                severity: broken.rule.severity.name(),
                group: broken.group.to_string(),
                measured: Number(broken.value().round()),
            }),
            summary: alert.sentence(),
            host: &alert.host,
            interface: &finding.interface,
            direction: finding.direction.name(),
            locality: finding.locality.is_known().then(|| finding.locality.name()),
            series_level: finding.level(),
            metric: finding.metric,
            trend: finding.trend,
            newcomer: finding.newcomer.is_some(),
            known_seconds: finding.newcomer.map(|known| Number(known.as_secs_f64())),
            series: finding.series.to_string(),
            src,
            dst,
            net,
            toward,
            proto: transport.map(|transport| transport.proto),
            sport: transport.map(|transport| transport.sport),
            dport: transport.map(|transport| transport.dport),
            bytes: of(Metric::Bytes),
            flows: of(Metric::Flows),
            unit: finding.unit,
            estimated: finding.estimated,
            interval_seconds: Number(finding.interval.as_secs_f64()),
            rate: Number(finding.rate().round()),
            usual: Usual {
                low: Number(finding.usual.low.round()),
                median: Number(finding.usual.median.round()),
                high: Number(finding.usual.high.round()),
            },
            probability: Number(finding.evaluation.probability),
            threshold: Number(finding.threshold),
            budget: finding.budget.map(Number),
            limit: finding.limit.map(|limit| Number(limit.round())),
            since: finding.since,
            highest_for_seconds: (finding.trend == Trend::Rise)
                .then(|| Number(finding.highest.duration().as_secs_f64())),
            methods: &finding.evaluation.parts,
            history: Numbers(&finding.history),
            contributors: finding.contributors.iter().map(Share::of).collect(),
            folded: finding.folded.count,
            folded_top: finding.folded.top.iter().map(Share::of).collect(),
            reverse: finding.reverse.as_ref().map(Share::of),
            suppressed: alert.suppressed,
            flow: match (src, dst) {
                (Some(src), Some(dst)) => format!("{:>14} -> {:>14}", src.to_string(), dst.to_string()),
                _ => finding.series.to_string(),
            },
            vector: Numbers(&finding.history),
            anomaly_probability: Number(finding.evaluation.probability),
        }
    }
}

pub(super) fn line(alert: &Alert) -> String {
    serde_json::to_string(&Record::new(alert))
        .unwrap_or_else(|error| serde_json::json!({ "level": "error", "msg": error.to_string() }).to_string())
}

#[cfg(test)]
mod tests {
    use crate::alert::samples;

    #[test]
    fn the_line_of_a_pair_word_for_word() {
        assert_eq!(
            samples::burst().to_json(),
            concat!(
                r#"{"time":"2023-11-14T22:13:25.000000000Z","level":"warning","msg":"Anomaly detected","#,
                r#""summary":"192.0.2.7 sent 4.1 GB to 198.51.100.9 in 5 s (820 MB/s), usually 12 to 40 MB, highest in 25 min","#,
                r#""host":"web1","interface":"eth0","direction":"egress","series_level":"pair","metric":"bytes","#,
                r#""trend":"rise","newcomer":false,"series":"192.0.2.7 → 198.51.100.9","src":"192.0.2.7","#,
                r#""dst":"198.51.100.9","bytes":4100000000,"unit":"ip","estimated":0,"interval_seconds":5,"rate":820000000,"#,
                r#""usual":{"low":12000000,"median":20000000,"high":40000000},"probability":0.93,"#,
                r#""threshold":0.9,"limit":60000000,"since":"2023-11-14T22:13:25.000000000Z","highest_for_seconds":1500,"#,
                r#""methods":[{"method":"magnitude","value":1.0,"weight":0.5,"statistic":1.0},"#,
                r#"{"method":"ks","value":0.86,"weight":0.5,"statistic":1.0}],"#,
                r#""history":[12000000,20000000,40000000,4100000000],"folded":0,"suppressed":0,"#,
                r#""flow":"     192.0.2.7 ->   198.51.100.9","vector":[12000000,20000000,40000000,4100000000],"#,
                r#""anomaly_probability":0.93}"#
            )
        );
    }

    #[test]
    fn a_network_s_line_names_it_and_what_made_the_change() {
        let value: serde_json::Value = serde_json::from_str(&samples::scan().to_json()).unwrap();
        assert_eq!((&value["net"], &value["toward"]), (&"203.0.113.0/24".into(), &false.into()));
        assert_eq!((&value["flows"], &value["metric"]), (&3120.into(), &"flows".into()));
        assert!(value.get("bytes").is_none() && value.get("src").is_none(), "{value}");
        assert_eq!(value["flow"], "from 203.0.113.0/24");
        let first = &value["contributors"][0];
        assert_eq!((&first["series"], &first["share"]), (&"203.0.113.9 → 192.0.2.1".into(), &0.62.into()));
        assert_eq!(
            (&value["folded"], &value["folded_top"][0]["series_level"]),
            (&3.into(), &"interface".into())
        );
        assert_eq!(value["reverse"]["series"], "to 203.0.113.0/24");
    }

    #[test]
    fn ports_at_level_flow_and_null_for_what_is_no_number() {
        let mut alert = samples::connection();
        alert.host = "we\"b\n1".into();
        alert.finding.evaluation.probability = f64::NAN;
        alert.finding.history.push(12.75);
        alert.finding.estimated = 3;
        alert.finding.locality = crate::locality::Locality::Forwarded;
        let line = alert.to_json();
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["proto"], &value["sport"], &value["dport"]),
            (&6.into(), &443.into(), &51234.into())
        );
        assert_eq!(value["host"], "we\"b\n1");
        assert_eq!(value["locality"], "forwarded");
        assert!(value["probability"].is_null());
        assert_eq!(value["estimated"], 3);
        assert_eq!(value["history"][4], 13, "whole bytes");
    }

    #[test]
    fn a_broken_rule_is_told_with_its_evidence() {
        let value: serde_json::Value = serde_json::from_str(&samples::broken().to_json()).unwrap();
        assert_eq!((&value["msg"], &value["bytes"]), (&"Rule broken".into(), &16_000_000_000_u64.into()));
        assert_eq!(value["since"], "2023-11-14T22:13:13.000000000Z");
        assert_eq!(
            value["rule"],
            serde_json::json!({
                "name": "backup-only",
                "condition": "rate > 1 GB/s for 10s",
                "severity": "critical",
                "group": "all",
                "measured": 3_200_000_000_u64,
            })
        );
        let shares: Vec<_> =
            value["contributors"].as_array().unwrap().iter().map(|pair| &pair["share"]).collect();
        assert_eq!(shares, [0.75, 0.25]);
        assert_eq!(value["contributors"][1]["value"], 4_000_000_000_u64);
    }
}
