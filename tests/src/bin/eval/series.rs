//! Series with labels, read from ../shared/anomaly.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use wherefore::score::{Row, Rows};

use crate::{nab::Labels, scorer::Point};

/// A series and where its anomalies are.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its folder in the Numenta Anomaly Benchmark; the kind of anomaly in the synthetic ones.
    pub family: String,
    /// Its values, in the order of the file.
    pub points: Vec<Point>,
    /// Rows and windows.
    pub labels: Labels,
}

impl Series {
    /// Leaves the first rows, and the windows that end in them.
    pub fn truncate(&mut self, rows: usize) {
        self.points.truncate(rows);
        self.labels.rows = self.points.len();
        self.labels.windows.retain(|window| *window.end() < self.labels.rows);
    }

    /// Days from this row to its last one.
    pub fn days(&self, from_row: usize) -> f64 {
        let (Some(first), Some(last)) = (self.points.get(from_row), self.points.last()) else { return 0.0 };
        last.time.duration_since(first.time).as_secs_f64() / 86_400.0
    }
}

/// The folder with labelled series; `None` on a plain clone.
pub fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/anomaly");
    folder.is_dir().then_some(folder)
}

/// The series of the Numenta Anomaly Benchmark, with the windows of `windows.json`.
pub fn nab(folder: &Path) -> Result<Vec<Series>> {
    let folder = folder.join("nab");
    let path = folder.join("windows.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let windows: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    windows
        .iter()
        .map(|(name, windows)| {
            let (points, _) = read(&folder.join(name))?;
            let windows = windows
                .iter()
                .map(|[start, end]| {
                    let (start, end) = (time(start)?, time(end)?);
                    let first = points.iter().position(|point| point.time >= start);
                    let last = points.iter().rposition(|point| point.time <= end);
                    let (first, last) = first.zip(last).context("a window outside of the file")?;
                    ensure!(first <= last, "a window between two rows");
                    Ok(first..=last)
                })
                .collect::<Result<_>>()
                .with_context(|| name.clone())?;
            let family = name.split('/').next().unwrap_or_default().to_owned();
            Ok(Series { family, labels: Labels { rows: points.len(), windows }, points })
        })
        .collect()
}

/// The synthetic series: a window is a run of rows that their column `anomaly` marks.
pub fn synthetic(folder: &Path) -> Result<Vec<Series>> {
    let folder = folder.join("synthetic");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "csv"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            // horizontal_spike_anomaly, or horizontal.
            let family = match stem.strip_suffix("_anomaly").and_then(|stem| stem.rsplit('_').next()) {
                Some(kind) => kind.to_owned(),
                None => "clean".to_owned(),
            };
            let (points, marked) = read(path)?;
            let mut windows = Vec::new();
            for run in marked.chunk_by(|a, b| a + 1 == *b) {
                windows.push(run[0]..=run[run.len() - 1]);
            }
            Ok(Series { family, labels: Labels { rows: points.len(), windows }, points })
        })
        .collect()
}

/// The points of a file, and the rows whose third column is not 0.
fn read(path: &Path) -> Result<(Vec<Point>, Vec<usize>)> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut rows = Rows::new(text.as_bytes())?;
    let mut points = Vec::new();
    while let Some(row) = rows.read()? {
        let Row { time, value, .. } = row.map_err(|malformed| anyhow!("{}:{malformed}", path.display()))?;
        points.push(Point { time, value });
    }
    let marked = text.lines().skip(1).enumerate().filter_map(|(row, line)| {
        let mark = line.split(',').nth(2)?;
        (mark.parse() != Ok(0.0)).then_some(row)
    });
    Ok((points, marked.collect()))
}

/// The time of a window, in UTC.
fn time(text: &str) -> Result<Timestamp> {
    Ok(text.parse::<DateTime>()?.to_zoned(TimeZone::UTC)?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_with_their_line() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, b"timestamp,x,anomaly\n0,1.5,0.0\n300,2,1.0\n").expect("room");
        let (points, marked) = read(file.path()).expect("two rows");
        assert_eq!(points.iter().map(|point| point.value).collect::<Vec<_>>(), [1.5, 2.0]);
        assert_eq!(marked, [1]);
        std::io::Write::write_all(&mut file, b"600,\n").expect("room");
        assert!(format!("{:#}", read(file.path()).expect_err("no value")).contains(":4: "));
    }

    #[test]
    fn the_shared_series_have_their_windows() {
        let Some(folder) = folder() else {
            eprintln!("skipped: ../shared/anomaly is not there");
            return;
        };
        let nab = nab(&folder).expect("readable");
        let windows: usize = nab.iter().map(|series| series.labels.windows.len()).sum();
        assert_eq!((nab.len(), windows), (29, 58));
        let synthetic = synthetic(&folder).expect("readable");
        let spikes: usize = synthetic
            .iter()
            .filter(|series| series.family == "spike")
            .map(|series| series.labels.windows.len())
            .sum();
        assert_eq!((synthetic.len(), spikes), (18, 53));
        assert!(
            synthetic.iter().filter(|series| series.family == "clean").all(|s| s.labels.windows.is_empty())
        );
    }
}
