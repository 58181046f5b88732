//! A real network byte rate with labelled anomalies. Reads `../shared/anomaly` beside the project, and skips
//! without.

use super::*;

const SERIES: &str = "realAWSCloudwatch/ec2_network_in_257a54.csv";

/// Bytes of two weeks in 4,032 intervals of 5 minutes; the defaults find something in the labelled windows,
/// and nothing outside.
#[test]
fn a_servers_network_input_fires_in_its_labelled_window_only() {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/anomaly/nab/");
    let Ok(table) = std::fs::read_to_string(format!("{shared}{SERIES}")) else {
        println!("skipped: {shared}{SERIES} is not there");
        return;
    };
    let windows = std::fs::read_to_string(format!("{shared}windows.json")).unwrap();
    let windows: serde_json::Value = serde_json::from_str(&windows).unwrap();
    // Both as "2014-04-15 16:54:00", perhaps with a fraction: ordered as text.
    let windows: Vec<[String; 2]> = serde_json::from_value(windows[SERIES].clone()).unwrap();
    let mut judge = defaults();
    let (mut inside, mut outside) = (0, Vec::new());
    for (i, line) in table.lines().skip(1).enumerate() {
        let (time, bytes) = line.split_once(',').unwrap();
        let bytes = bytes.parse::<f64>().unwrap() as u64;
        if judge.judge(&interval(i as u64, &[bytes])).is_empty() {
            continue;
        }
        if windows.iter().any(|[from, to]| from.as_str() <= time && time <= to.as_str()) {
            inside += 1;
        } else {
            outside.push(format!("{time} {bytes}"));
        }
    }
    assert!(inside > 0 && outside.is_empty(), "{inside} inside the windows, outside {outside:?}");
}
