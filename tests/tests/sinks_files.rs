//! Log files of the sinks on a disk that is full.

use wherefore::sink::files::BoundedFile;

/// A file system of some pages, in a mount namespace of this thread alone.
#[test]
fn a_disk_that_fills_up_cuts_no_line_and_is_reported_twice() {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };

    let required = std::env::var_os("WHEREFORE_REQUIRE_BPF").is_some_and(|value| value == "1");
    let dir = tempfile::tempdir().unwrap();
    let body = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let none = None::<&str>;
                if let Err(error) = unshare(CloneFlags::CLONE_NEWNS)
                    .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
                    .and_then(|()| mount(none, dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=32k")))
                {
                    assert!(!required, "a mount namespace is needed: {error}");
                    eprintln!("skipped: a mount namespace needs root: {error}");
                    return None;
                }
                let filler = dir.path().join("filler");
                std::fs::write(&filler, [0; 16384]).unwrap();
                let path = dir.path().join("x.log");
                let mut file = BoundedFile::open(path.clone(), 1 << 20).unwrap();
                let mut kept = String::new();
                let mut reports = Vec::new();
                for i in 0..40 {
                    if i == 30 {
                        std::fs::remove_file(&filler).unwrap();
                    }
                    // Not a divisor of a page, so that the last one fits in part.
                    let line = format!("{i:0>998}\n");
                    reports.extend(file.write_line(line.as_bytes()).map(|report| (i, report.to_string())));
                    if file.lost() == 0 {
                        kept.push_str(&line);
                    }
                }
                assert!(
                    std::fs::read_to_string(&path).unwrap() == kept,
                    "other lines than those said to be written"
                );
                Some(reports)
            })
            .join()
            .unwrap()
    });
    let Some(reports) = body else { return };
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(reports[0].1.contains("No space left"), "{reports:?}");
    assert_eq!(reports[1].0, 30);
    assert!(reports[1].1.contains("written again"), "{reports:?}");
}
