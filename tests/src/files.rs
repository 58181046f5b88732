//! The file backend on captures that a test makes.

use std::{fs, path::PathBuf, time::Duration};

use tempfile::TempDir;
use wherefore::{
    backend::{Backend as _, Error, FileSettings, pcap_file},
    filter::CidrFilter,
    snapshot::Snapshot,
};

/// Writes a file; its path.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("file written");
    path
}

/// Reads these in intervals of so many seconds, or as one.
#[must_use]
pub fn settings(files: &[PathBuf], seconds: Option<u64>) -> FileSettings {
    FileSettings {
        files: files.to_vec(),
        interval: seconds.map(Duration::from_secs),
        table_size: None,
        expression: None,
        filter: CidrFilter::default(),
    }
}

/// All snapshots, then all faults: none comes before a snapshot.
///
/// # Panics
/// When they cannot be opened, a snapshot does not add up or comes after a fault, or the end is none.
#[must_use]
pub fn read(settings: &FileSettings) -> (Vec<Snapshot>, Vec<Error>) {
    let mut backend = pcap_file::open(settings).expect("files open");
    let (mut snapshots, mut faults) = (Vec::new(), Vec::new());
    loop {
        match backend.poll() {
            Ok(Some(snapshot)) => {
                assert!(faults.is_empty(), "a snapshot after a fault");
                assert!(snapshot.imbalance().is_empty(), "{:?}", snapshot.imbalance());
                snapshots.push(snapshot);
            }
            Err(fault) => faults.push(fault),
            Ok(None) => break,
        }
    }
    assert!(matches!(backend.poll(), Ok(None)), "the end stays the end");
    (snapshots, faults)
}

/// Packets of all intervals.
#[must_use]
pub fn packets(snapshots: &[Snapshot]) -> u64 {
    snapshots.iter().map(|snapshot| snapshot.total().packets).sum()
}
