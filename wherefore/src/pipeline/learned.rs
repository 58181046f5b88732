//! What outlasts a run.

use super::Stages;
use crate::{
    config::Config,
    detect,
    judge::{self, AnySaved, WrongVersion},
    series,
    state::{Form, Learned},
    units::format_duration,
};

/// What was learned takes this much at least before it is too large.
const LEAST_LIMIT: u64 = 512 << 20;
/// Bytes of a series at most, beside its last values: the default detector's memory comes to some 400.
const SERIES: u64 = 1024;
/// The same with a seasonal profile.
const COARSE: u64 = 8 * 1024;

/// What a file must agree with, so that a run with `config` goes on with it.
#[must_use]
pub fn form(config: &Config) -> Form {
    let detector = config.detector.name();
    let levels: Vec<_> = config.series.levels.iter().map(|level| level.name()).collect();
    let mut settings = vec![
        ("form", judge::VERSION.to_string()),
        ("--interval", format_duration(config.interval)),
        ("--bytes", name(&config.series.unit)),
        ("--level", levels.join(",")),
        ("--detector", name(&detector)),
    ];
    if detector == detect::Name::Anomalyzer {
        settings.push(("--anom-gv-cap", config.series.history.to_string()));
    }
    Form {
        settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        limit: limit(&config.series),
    }
}

/// A value as the command line has it.
fn name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// As many bytes as there may be series.
fn limit(settings: &series::Settings) -> u64 {
    let levels = settings.levels.iter().map(|&level| {
        let each = if level.is_coarse() { COARSE } else { SERIES } + 8 * settings.history as u64;
        (settings.most(level) as u64).saturating_mul(each).saturating_mul(level.metrics().len() as u64)
    });
    levels.fold(0, u64::saturating_add).max(LEAST_LIMIT)
}

impl Stages {
    /// What was learned so far; `None` where no interval was recorded. A copy, as the next interval changes it: of
    /// 100,000 pairs it takes some 0.2 s, writing it 2 s more, and the file has 28 MB (`cargo xtask bench judge`).
    #[must_use]
    pub fn learned(&self) -> Option<Learned<AnySaved>> {
        let value = self.judge.save();
        Some(Learned { until: value.until()?, value })
    }

    /// Goes on with what was learned before.
    ///
    /// # Errors
    /// As [`judge::AnyJudge::load`].
    pub fn resume(&mut self, learned: Learned<AnySaved>) -> Result<(), WrongVersion> {
        self.judge.load(learned.value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{cli, state::StateDir, time::Timestamp};

    const BEGINNING: u64 = 1_700_000_000_000_000_000;

    fn config(line: &str) -> Config {
        let parsed = cli::parse(line.split(' ').map(Into::into)).unwrap();
        let cli::args::Command::Run(args) = parsed.command else { panic!("{line}") };
        Config::run(&args, parsed.original_detection, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
    }

    /// Stages that recorded so many intervals, of which each other one is silent.
    fn stages(config: &Config, intervals: u64) -> Stages {
        let mut stages = Stages::new(config, "host".into()).unwrap();
        for number in 0..intervals {
            let mut snapshot = interval(number, if number % 2 == 0 { 1 } else { 100_000 });
            stages.step(&mut snapshot);
        }
        stages
    }

    fn interval(number: u64, bytes: u64) -> crate::snapshot::Snapshot {
        use wherefore_common::{FlowCounters, FlowKey};
        let start = Timestamp(BEGINNING).plus(Duration::from_secs(5 * number));
        let key = FlowKey {
            src: std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets(),
            dst: std::net::Ipv4Addr::new(203, 0, 113, 7).to_ipv6_mapped().octets(),
            direction: 1,
            ifindex: 2,
            family: 4,
            ..FlowKey::default()
        };
        let counters =
            FlowCounters { packets: 1, ip_bytes: bytes, wire_bytes: bytes, ..FlowCounters::default() };
        let mut flow = crate::snapshot::Flow::new(key, counters);
        flow.locality = crate::locality::Locality::Outgoing;
        crate::snapshot::Snapshot {
            start,
            end: start.plus(Duration::from_secs(5)),
            length: Duration::from_secs(5),
            complete: true,
            flows: vec![flow],
            interfaces: [(2, "eth0".to_owned())].into(),
            ..crate::snapshot::Snapshot::default()
        }
    }

    const DETECTORS: [&str; 4] = ["auto", "ewma", "spot", "anomalyzer"];

    #[test]
    fn what_each_detector_learned_goes_through_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        for detector in DETECTORS {
            let config = config(&format!("wherefore --detector {detector}"));
            assert!(stages(&config, 1).learned().is_none(), "the first interval is not recorded");
            let before = stages(&config, 40);
            let learned = before.learned().unwrap();
            let end = Timestamp(BEGINNING).plus(Duration::from_secs(200));
            assert_eq!(learned.until, end);
            dir.save(&form(&config), &learned).unwrap();
            let read = dir.load(&form(&config), end).unwrap().unwrap();
            let mut after = Stages::new(&config, "host".into()).unwrap();
            after.resume(read).unwrap();
            assert!(before.series() > 0 && after.series() == before.series(), "{detector}");
            let text = |stages: &Stages| serde_json::to_string(&stages.learned().unwrap().value).unwrap();
            assert_eq!(text(&after), text(&before), "{detector}");
        }
    }

    #[test]
    fn what_must_agree_is_told_by_its_flag() {
        let of = |line: &str| form(&config(line)).settings;
        let base = of("wherefore");
        for line in
            ["wherefore --max-series 9", "wherefore --expire-after 9", "wherefore --learn", "wherefore -i lo"]
        {
            assert_eq!(of(line), base, "{line}");
        }
        for (flag, value) in [
            ("--interval", "1s"),
            ("--bytes", "wire"),
            ("--level", "flow"),
            ("--detector", "spot"),
            ("--anom-gv-cap", "40"),
        ] {
            let other = of(&format!("wherefore {flag} {value}"));
            assert!(other.iter().any(|(name, _)| name == flag), "{other:?}");
            assert_ne!(other, base, "{flag}");
        }
    }

    #[test]
    fn as_much_may_be_saved_as_the_settings_let_be_held() {
        assert_eq!(form(&config("wherefore")).limit, LEAST_LIMIT);
        assert!(form(&config("wherefore --max-series 16777216")).limit >= 16_777_216 * SERIES);
        // A series of each level, as large as it gets.
        for detector in DETECTORS {
            let config = config(&format!("wherefore --detector {detector}"));
            let learned = stages(&config, 3_000).learned().unwrap();
            let bytes = postcard::to_stdvec(&learned.value).unwrap().len() as u64;
            let series = &config.series;
            let most: u64 = series
                .levels
                .iter()
                .map(|level| {
                    // The series, and the largest among newcomers.
                    let count = 2 * level.metrics().len() as u64;
                    count * (8 * series.history as u64 + if level.is_coarse() { COARSE } else { SERIES })
                })
                .sum();
            assert!(bytes < most, "{detector}: {bytes} of {most}");
        }
    }

    /// Names and nesting as JSON has them, values left out, lists by their first.
    fn shape(value: &serde_json::Value) -> String {
        use serde_json::Value;
        match value {
            Value::Object(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| format!("{name}:{}", shape(value))).collect();
                format!("{{{}}}", fields.join(","))
            }
            Value::Array(values) => format!("[{}]", values.first().map(shape).unwrap_or_default()),
            _ => "_".to_owned(),
        }
    }

    /// A file of another form must be known by its number, as its bytes may mean anything.
    #[test]
    fn a_change_of_what_is_saved_needs_another_number() {
        let mut text = String::new();
        for detector in DETECTORS {
            let learned = stages(&config(&format!("wherefore --detector {detector}")), 3).learned().unwrap();
            let bytes = postcard::to_stdvec(&learned.value).unwrap().len();
            text += &format!("{bytes} {}", shape(&serde_json::to_value(&learned.value).unwrap()));
        }
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        assert_eq!(
            (judge::VERSION, crc.sum()),
            (2, 2_958_192_061),
            "what is saved has changed: raise judge::VERSION, and put both numbers here. It is now {text}"
        );
    }
}
