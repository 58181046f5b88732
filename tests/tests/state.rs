//! What was learned as a file on a disk: whole after a kill at any moment, held by one process at a time, and as it
//! was where there is no room or no right to write.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tempfile::TempDir;
use wherefore::{
    state::{Form, Learned, OpenError, SaveError, StateDir},
    time::Timestamp,
};
use wherefore_tests::{PATIENCE, require_root, wait_until};

/// The directory of a child that saves.
const DIRECTORY: &str = "WHEREFORE_TEST_STATE";

fn form() -> Form {
    Form { settings: vec![("--interval".to_owned(), "5 s".to_owned())], limit: 16 << 20 }
}

/// 1 MB that belong together, and are not to be compressed.
fn learned(seed: u64) -> Learned<Vec<u64>> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 29)
    };
    let value = std::iter::once(seed).chain((0..128 * 1024).map(|_| next())).collect();
    Learned { until: Timestamp(seed), value }
}

fn load(dir: &StateDir) -> Option<Learned<Vec<u64>>> {
    dir.load(&form(), Timestamp(0)).unwrap_or_else(|error| panic!("{error}"))
}

/// Saves without end; only as the child of another test.
#[test]
fn child() {
    let Some(path) = env::var_os(DIRECTORY) else { return };
    let dir = StateDir::open(Path::new(&path)).unwrap();
    for seed in 1.. {
        dir.save(&form(), &learned(seed)).unwrap();
    }
}

/// A process that saves without end, once it has begun.
fn saver(path: &Path) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child"]).env(DIRECTORY, path).stdout(Stdio::null()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    wait_until("a save", PATIENCE, || {
        assert_eq!(child.try_wait().unwrap(), None);
        path.join("learned.bin.new").exists()
    });
    child
}

#[test]
fn killed_at_any_moment_it_leaves_a_whole_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let (mut halves, mut before) = (0, None);
    for round in 0..24_u64 {
        let mut child = saver(&path);
        // From a file just begun to one that was replaced some times.
        for _ in 0..round * round * 2_000 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it ended by itself");
        halves += u32::from(path.join("learned.bin.new").exists());

        let dir = StateDir::open(&path).unwrap();
        let found = load(&dir);
        if let Some(found) = &found {
            assert!(*found == learned(found.value[0]), "round {round}: halves of two");
        }
        assert!(found.is_some() || before.is_none(), "round {round}: what was there is gone");
        before = found;
        // What was left half written is no hindrance.
        dir.save(&form(), &learned(u64::MAX)).unwrap();
        assert!(load(&dir) == Some(learned(u64::MAX)), "round {round}");
    }
    assert!(halves > 0, "none was killed while it wrote");
}

#[test]
fn another_process_is_named_and_frees_the_directory_when_it_is_killed() {
    let folder = TempDir::new().unwrap();
    let mut child = saver(folder.path());
    let error = StateDir::open(folder.path()).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { pid: Some(pid), .. } if *pid == child.id()), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    StateDir::open(folder.path()).unwrap();
}

/// Runs `work` with a file system of 4 MB that nobody else sees.
fn with_small_disk(work: impl FnOnce(&Path) + Send) {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let ended = thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
            work(path);
        });
        inside.join()
    });
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn a_full_disk_keeps_what_was_there() {
    if !require_root() {
        return;
    }
    with_small_disk(|disk| {
        let dir = StateDir::open(disk).unwrap();
        dir.save(&form(), &learned(1)).unwrap();
        let filler = disk.join("filler");
        let full = io::copy(&mut io::repeat(7), &mut File::create(&filler).unwrap());
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
        for _ in 0..2 {
            let error = dir.save(&form(), &learned(2)).unwrap_err();
            assert!(matches!(error, SaveError::Io { action: "write", .. }), "{error}");
            assert!(error.to_string().contains("No space left on device"), "{error}");
        }
        assert!(load(&dir) == Some(learned(1)), "the old file");
        // Half a file takes no room away.
        assert!(!disk.join("learned.bin.new").exists());
        fs::remove_file(filler).unwrap();
        dir.save(&form(), &learned(2)).unwrap();
        assert!(load(&dir) == Some(learned(2)), "the new file");
    });
}

#[test]
fn a_directory_that_is_read_only_keeps_what_was_there() {
    if !require_root() {
        return;
    }
    with_small_disk(|disk| {
        let state = disk.join("state");
        let dir = StateDir::open(&state).unwrap();
        dir.save(&form(), &learned(1)).unwrap();
        let none = None::<&str>;
        mount(Some(&state), &state, none, MsFlags::MS_BIND, none).unwrap();
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &state, none, read_only, none).unwrap();
        let error = dir.save(&form(), &learned(2)).unwrap_err();
        assert!(error.to_string().contains("Read-only file system"), "{error}");
        assert!(load(&dir) == Some(learned(1)), "the old file");
        drop(dir);
        let error = StateDir::open(&state).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        assert!(error.to_string().contains("Read-only file system"), "{error}");
    });
}

/// What does not fit cannot be set aside there, and is said all the same.
#[test]
fn a_broken_file_in_a_read_only_directory_is_told() {
    if !require_root() {
        return;
    }
    with_small_disk(|disk| {
        let state = disk.join("state");
        let dir = StateDir::open(&state).unwrap();
        File::create(state.join("learned.bin")).unwrap().write_all(b"broken").unwrap();
        let none = None::<&str>;
        mount(Some(&state), &state, none, MsFlags::MS_BIND, none).unwrap();
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &state, none, read_only, none).unwrap();
        let error = dir.load::<Vec<u64>>(&form(), Timestamp(0)).unwrap_err().to_string();
        assert!(error.contains("it is broken: it is cut short; it stays there"), "{error}");
    });
}
