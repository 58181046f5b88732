//! The Anomalyzer against numbers from the original Go code: tests/golden/README.md says what they are.
#![allow(clippy::unwrap_used, reason = "a golden file of another shape is a failure like any other")]

use std::{collections::HashMap, io::Read};

use serde_json::Value;
use wherefore::{
    detect::{
        self,
        anomalyzer::{Anomalyzer, Method, Settings, SettingsError, ks, primitives},
    },
    score,
};

fn golden() -> Value {
    let file = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/anomalyzer_vectors.json.gz"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(file.unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// `None` for "NA".
fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NA") => None,
        Some("NaN") => Some(f64::NAN),
        Some("Inf") => Some(f64::INFINITY),
        Some("-Inf") => Some(f64::NEG_INFINITY),
        Some(other) => panic!("unknown special value {other}"),
        None => Some(value.as_f64().unwrap()),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(|value| number(value).unwrap()).collect()
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn settings(config: &Value) -> Result<Settings, SettingsError> {
    let methods = match config["methods"].as_array() {
        Some(names) => names.iter().map(|name| text(name).parse()).collect::<Result<_, _>>()?,
        // What upstream takes if none are set.
        None => vec![Method::Magnitude, Method::Ks],
    };
    Ok(Settings {
        methods,
        sensitivity: number(&config["sensitivity"]).unwrap(),
        upper_bound: number(&config["upper_bound"]).unwrap(),
        lower_bound: number(&config["lower_bound"]),
        active_size: size(&config["active_size"]),
        n_seasons: size(&config["n_seasons"]),
        perm_count: size(&config["perm_count"]),
        delay: config["delay"].as_bool().unwrap_or(false),
    })
}

fn configs<'g>(golden: &'g Value) -> HashMap<&'g str, Anomalyzer> {
    let one =
        |config: &'g Value| (text(&config["name"]), Anomalyzer::new(settings(config).unwrap()).unwrap());
    list(&golden["configs"]).iter().map(one).collect()
}

fn close(ours: Option<f64>, theirs: Option<f64>) -> bool {
    match (ours, theirs) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => {
            ours == theirs
                || (ours.is_nan() && theirs.is_nan())
                || (ours - theirs).abs() <= 1e-12 * ours.abs().max(theirs.abs())
        }
        _ => false,
    }
}

/// As golden/README.md says, with our own number of shuffles.
fn agrees(ours: Option<f64>, statistic: &Value, shuffles: usize) -> bool {
    let theirs = number(&statistic["value"]);
    if statistic["kind"] == "exact" {
        return close(ours, theirs);
    }
    let (Some(ours), Some(mean)) = (ours, theirs) else { return false };
    let deviation = number(&statistic["sd"]).unwrap() / number(&statistic["runs"]).unwrap().sqrt();
    let own = ((mean * (1.0 - mean)).max(1e-4) / shuffles.max(1) as f64).sqrt();
    (ours - mean).abs() <= 4.5 * own + 4.5 * deviation + 0.003
}

/// Whether upstream's diff depends on how Go's sort treats NaN: some shuffle brings two zeros together, and
/// there are more than 12 differences.
fn beyond_reach(data: &[f64]) -> bool {
    data.len() > 13 && data.iter().filter(|&&value| value == 0.0).count() >= 2
}

#[test]
fn every_case_of_the_newest_upstream() {
    let golden = golden();
    let configs = configs(&golden);
    let series: HashMap<&str, Vec<f64>> =
        list(&golden["series"]).iter().map(|one| (text(&one["name"]), numbers(&one["data"]))).collect();
    let (mut compared, mut passed_over, mut wrong) = (0, 0, Vec::new());
    for case in list(&golden["head"]["cases"]) {
        let (name, config) = (text(&case["series"]), text(&case["config"]));
        let (mut detector, data) = (configs[config].clone(), &series[name]);
        let settings = detector.settings().clone();
        let shuffles = settings.perm_count;
        let mut check = |what: &str, right: bool, ours: Option<f64>, theirs: &Value| {
            compared += 1;
            if !right {
                wrong.push(format!("{name} {config} {what}: {ours:?}, upstream {theirs}"));
            }
        };

        let raw = detector.raw(data);
        let theirs = case["raw"].as_object().unwrap();
        assert_eq!(raw.len(), theirs.len(), "{name} {config}");
        for (method, ours) in raw {
            if method == Method::Diff && beyond_reach(data) {
                passed_over += 1;
                continue;
            }
            let theirs = &theirs[method.name()];
            check(method.name(), agrees(ours, theirs, shuffles), ours, theirs);
        }
        if let Some(theirs) = case.get("ks_stat") {
            let ours = ks::statistic(data, settings.reference_size(), settings.active_size);
            let waits = settings.delay && data.len() < settings.reference_size() + settings.active_size;
            check("ks_stat", waits || close(ours, number(theirs)), ours, theirs);
        }
        if settings.methods.contains(&Method::Diff) && beyond_reach(data) && case["eval"]["kind"] != "exact" {
            passed_over += 1;
            continue;
        }
        let ours = Some(detector.judge(data).probability);
        check("eval", agrees(ours, &case["eval"], shuffles), ours, &case["eval"]);
    }
    println!("{compared} values compared, {passed_over} passed over");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 3_900 && passed_over <= 20, "{compared} compared, {passed_over} passed over");
}

/// What `wherefore score` prints last is the verdict on the whole series, however it came to it.
#[test]
fn the_last_score_of_a_series_is_its_verdict() {
    let golden = golden();
    let configs: HashMap<&str, &Value> =
        list(&golden["configs"]).iter().map(|config| (text(&config["name"]), config)).collect();
    let series: HashMap<&str, Vec<f64>> =
        list(&golden["series"]).iter().map(|one| (text(&one["name"]), numbers(&one["data"]))).collect();
    let mut compared = 0;
    for case in list(&golden["head"]["cases"]).iter().filter(|case| case["eval"]["kind"] == "exact") {
        let (name, config) = (text(&case["series"]), text(&case["config"]));
        let data = &series[name];
        // A row has a finite value.
        if data.len() > 40 || data.iter().any(|value| !value.is_finite()) {
            continue;
        }
        let settings = settings(configs[config]).unwrap();
        let detector = detect::Settings::Anomalyzer { settings, threshold: 0.6 };
        let mut scorer = score::Settings { detector, history: None }.scorer().unwrap();
        let scores = data.iter().map(|&value| scorer.score(jiff::Timestamp::UNIX_EPOCH, value));
        let last = scores.last().unwrap_or_default();
        assert!(
            close(Some(last), number(&case["eval"]["value"])),
            "{name} {config}: {last}, {}",
            case["eval"]
        );
        compared += 1;
    }
    assert!(compared > 100, "{compared} compared");
}

#[test]
fn primitives_of_the_newest_upstream() {
    for case in list(&golden()["head"]["primitives"]) {
        let (name, x) = (text(&case["name"]), numbers(&case["x"]));
        let same = |ours: Option<Vec<f64>>, theirs: &Value| {
            let theirs = list(theirs);
            match ours {
                None => theirs == [Value::from("NA")],
                Some(ours) => {
                    ours.len() == theirs.len()
                        && ours.iter().zip(theirs).all(|(&ours, theirs)| close(Some(ours), number(theirs)))
                }
            }
        };
        let whole = |ranks: Vec<i64>| Some(ranks.into_iter().map(|rank| rank as f64).collect::<Vec<_>>());
        assert!(close(Some(primitives::mean(&x)), number(&case["mean"])), "{name}: mean");
        assert!(same(primitives::diff(&x), &case["diff"]), "{name}: diff");
        let relative = primitives::reldiff(&x);
        assert!(same(relative.clone(), &case["reldiff"]), "{name}: reldiff");
        let of_nan = |x: &[f64]| x.len() > 12 && x.iter().any(|value| value.is_nan());
        if !of_nan(&x) {
            assert!(same(whole(primitives::rank(&x)), &case["rank"]), "{name}: rank");
        }
        // Not applicable is one number to upstream, so it has a rank.
        let sizes: Vec<f64> = relative.map_or(vec![0.0], |all| all.iter().map(|one| one.abs()).collect());
        if !of_nan(&sizes) {
            let ranks = primitives::rank(&sizes);
            assert!(same(whole(ranks), &case["rank_of_abs_reldiff"]), "{name}: rank of sizes");
        }
    }
    for case in list(&golden()["ecdf"]) {
        let x = numbers(&case["x"]);
        for (q, p) in numbers(&case["q"]).into_iter().zip(numbers(&case["p"])) {
            assert_eq!(primitives::ecdf(&x, q), p, "share of {x:?} up to {q}");
        }
    }
}

#[test]
fn validation_of_the_newest_upstream() {
    let mut refused = 0;
    for case in list(&golden()["head"]["validation"]) {
        let (name, config) = (text(&case["name"]), &case["conf"]);
        // Counts cannot be negative here: the command line refuses such values.
        if ["active_size", "n_seasons", "perm_count"].iter().any(|key| config[key].as_i64() < Some(0)) {
            continue;
        }
        match settings(config).and_then(Anomalyzer::new) {
            Ok(detector) => {
                let settings = detector.settings();
                assert_eq!(case["ok"], true, "{name}");
                assert_eq!(Some(settings.sensitivity), number(&case["effective_sensitivity"]), "{name}");
                assert_eq!(settings.n_seasons, size(&case["effective_n_seasons"]), "{name}");
                assert_eq!(settings.perm_count, size(&case["effective_perm_count"]), "{name}");
                let methods: Vec<&str> = settings.methods.iter().map(|method| method.name()).collect();
                let theirs: Vec<&str> = list(&case["effective_methods"]).iter().map(text).collect();
                assert_eq!(methods, theirs, "{name}");
            }
            Err(error) => {
                let kind = match error {
                    SettingsError::UnknownMethod { .. } => "unsupported_method",
                    SettingsError::ActiveSize => "active_size_below_1",
                    SettingsError::Reference { .. } => "reference_below_4",
                    SettingsError::FenceEqual { .. } => "fence_bounds_equal",
                    SettingsError::FenceInverted { .. } => "fence_upper_below_lower",
                    other => panic!("{name}: upstream knows no {other}"),
                };
                assert_eq!(kind, text(&case["error_kind"]), "{name}");
                refused += 1;
            }
        }
    }
    assert!(refused >= 8, "{refused}");
}

#[test]
fn histories_that_grow_interval_by_interval() {
    let golden = golden();
    let configs = configs(&golden);
    let mut wrong = Vec::new();
    for trace in list(&golden["head"]["wherefore_traces"]) {
        let (name, config) = (text(&trace["name"]), text(&trace["config"]));
        let detector = &configs[config];
        let bytes = numbers(&trace["bytes_per_interval"]);
        for (i, theirs) in list(&trace["eval_per_tick"]).iter().enumerate() {
            let history = &bytes[(i + 1).saturating_sub(30)..=i];
            if detector.settings().methods.contains(&Method::Diff) && beyond_reach(history) {
                continue;
            }
            let ours = detector.clone().judge(history).probability;
            if !agrees(Some(ours), theirs, detector.settings().perm_count) {
                wrong.push(format!("{name} {config} tick {i}: {ours}, upstream {theirs}"));
            }
            let alerts = number(&trace["alert_fraction_per_tick"][i]).unwrap();
            if alerts == 0.0 || alerts == 1.0 {
                assert_eq!(ours > 0.6, alerts == 1.0, "{name} {config} tick {i}: {ours}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
