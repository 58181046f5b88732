use std::{collections::BTreeMap, fs};

use flate2::{Compression, Crc, write::DeflateEncoder};
use proptest::prelude::*;
use serde::Deserialize;
use tempfile::TempDir;

use super::*;

/// Something of what a detector remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Value {
    names: Vec<String>,
    series: BTreeMap<u32, (f32, Option<f64>, Vec<f32>)>,
}

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

fn form() -> Form {
    let settings = [("--interval", "5 s"), ("--level", "pair"), ("--detector", "auto")];
    Form {
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        limit: 1 << 20,
    }
}

fn learned() -> Learned<Value> {
    let series =
        (0..5).map(|i| (i, (i as f32 / 3.0, Some(f64::from(i).sqrt()), vec![1.5; i as usize]))).collect();
    Learned { until: NOW, value: Value { names: vec!["eth0".into(), "größe".into()], series } }
}

fn place() -> (TempDir, StateDir) {
    let folder = TempDir::new().unwrap();
    let dir = StateDir::open(&folder.path().join("state")).unwrap();
    (folder, dir)
}

fn load(dir: &StateDir) -> Result<Option<Learned<Value>>, SetAside> {
    dir.load(&form(), NOW)
}

/// The names of what lies in a directory.
fn names(dir: &StateDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// A file of these parts with lengths and a check sum that are right.
fn bytes(header: &str, body: &[u8]) -> Vec<u8> {
    let mut rest = (header.len() as u32).to_le_bytes().to_vec();
    rest.extend((body.len() as u64).to_le_bytes());
    rest.extend(header.as_bytes());
    rest.extend(body);
    let mut crc = Crc::new();
    crc.update(&rest);
    [&file::MAGIC[..], &VERSION.to_le_bytes(), &crc.sum().to_le_bytes(), &rest].concat()
}

fn header() -> String {
    let settings = serde_json::to_string(&form().settings).unwrap();
    format!(r#"{{"program":"0.1.0","until":{},"settings":{settings}}}"#, NOW.0)
}

fn deflated(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn refused<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Unfit {
    match file::decode::<T>(&form(), NOW, bytes) {
        Err(unfit) => unfit,
        Ok(_) => panic!("it was taken: {bytes:x?}"),
    }
}

#[test]
fn what_was_saved_comes_back_and_the_newest_counts() {
    let (_folder, dir) = place();
    assert_eq!(load(&dir).unwrap(), None);
    dir.save(&form(), &Learned { until: NOW, value: Value::default() }).unwrap();
    dir.save(&form(), &learned()).unwrap();
    assert_eq!(load(&dir).unwrap(), Some(learned()));
    assert_eq!(names(&dir), [LEARNED, LOCK]);
}

#[test]
fn only_the_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, dir) = place();
    dir.save(&form(), &learned()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o700);
    for name in names(&dir) {
        assert_eq!(mode(&dir.path().join(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_second_one_is_told_who_holds_it_until_that_ends() {
    let (_folder, dir) = place();
    let path = dir.path().to_owned();
    let error = StateDir::open(&path).unwrap_err();
    assert!(
        matches!(&error, OpenError::Locked { pid: Some(pid), .. } if *pid == std::process::id()),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", std::process::id())) && text.contains("--state-dir"),
        "{text}"
    );
    drop(dir);
    StateDir::open(&path).unwrap();
}

#[test]
fn a_place_that_is_no_directory_says_what_to_do() {
    let error = StateDir::open(Path::new("/dev/null/state")).unwrap_err().to_string();
    assert!(error.starts_with("cannot make /dev/null/state: Not a directory"), "{error}");
    assert!(error.contains("--state-dir") && error.contains("--no-state"), "{error}");
}

#[test]
fn other_settings_are_told_by_name_and_value() {
    let (_folder, dir) = place();
    dir.save(&form(), &learned()).unwrap();
    let mut other = form();
    other.settings[0].1 = "1 s".into();
    let error = dir.load::<Value>(&other, NOW).unwrap_err().to_string();
    let expected = "does not fit: it was learned with --interval 5 s, and now it is 1 s; it is kept as ";
    assert!(error.contains(expected), "{error}");

    dir.save(&form(), &learned()).unwrap();
    let fewer = Form { settings: form().settings[..2].to_vec(), ..form() };
    let error = dir.load::<Value>(&fewer, NOW).unwrap_err().to_string();
    assert!(error.contains("--detector auto, and now it is unset"), "{error}");
}

#[test]
fn what_ended_a_month_ago_does_not_fit_and_what_ends_tomorrow_does() {
    let (_folder, dir) = place();
    let mut learned = learned();
    for (until, fits) in [
        (Timestamp(NOW.0 - OLDEST.as_nanos() as u64), true),
        (NOW.plus(std::time::Duration::from_secs(86_400)), true),
        (Timestamp(NOW.0 - OLDEST.as_nanos() as u64 - 1), false),
    ] {
        learned.until = until;
        dir.save(&form(), &learned).unwrap();
        assert_eq!(load(&dir).is_ok(), fits, "{until}");
    }
}

#[test]
fn what_does_not_fit_is_renamed_and_three_are_kept() {
    let (_folder, dir) = place();
    let mut kept = Vec::new();
    for second in 0..5 {
        let file = dir.path().join(LEARNED);
        fs::write(&file, format!("text {second}")).unwrap();
        let now = NOW.plus(std::time::Duration::from_secs(second));
        let error = dir.load::<Value>(&form(), now).unwrap_err();
        assert!(matches!(error.reason, Unfit::Foreign | Unfit::Broken(_)), "{error}");
        kept.push(error.moved.unwrap());
        assert_eq!(fs::read_to_string(&kept[second as usize]).unwrap(), format!("text {second}"));
        assert!(!file.exists());
        assert_eq!(load(&dir).unwrap(), None);
    }
    assert_eq!(kept[0].file_name().unwrap(), "learned.bin.unfit-2023-11-14T22-13-20.000000000Z");
    let left: Vec<bool> = kept.iter().map(|path| path.exists()).collect();
    assert_eq!(left, [false, false, true, true, true]);
}

#[test]
fn what_is_no_file_is_set_aside() {
    let (_folder, dir) = place();
    let path = dir.path().join(LEARNED);
    let makes: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        // Opening it would wait for a writer.
        |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
    ];
    for (time, make) in (NOW.0..).zip(makes) {
        make(&path);
        let error = dir.load::<Value>(&form(), Timestamp(time)).unwrap_err();
        assert!(matches!(error, SetAside { reason: Unfit::NoFile, moved: Ok(_), .. }), "{error}");
    }
    dir.save(&form(), &learned()).unwrap();
    assert_eq!(load(&dir).unwrap(), Some(learned()));
}

#[test]
fn a_file_cut_at_any_place_does_not_fit() {
    let whole = file::encode(&form(), &learned()).unwrap();
    for length in 0..whole.len() {
        assert!(matches!(refused::<Value>(&whole[..length]), Unfit::Broken(_)), "{length}");
    }
    let more = [&whole[..], b"x"].concat();
    assert!(matches!(refused::<Value>(&more), Unfit::Broken(_)));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let whole = file::encode(&form(), &learned()).unwrap();
    for at in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        match (at / 8, refused::<Value>(&flipped)) {
            (..8, Unfit::Foreign) | (8..12, Unfit::Version { .. }) | (12.., Unfit::Broken(_)) => {}
            (byte, unfit) => panic!("byte {byte}: {unfit}"),
        }
    }
}

/// What follows has a check sum that is right: somebody made it so.
#[test]
fn made_up_lengths_and_bodies_are_refused() {
    let good = postcard::to_stdvec(&learned().value).unwrap();
    assert_eq!(file::decode::<Value>(&form(), NOW, &bytes(&header(), &deflated(&good))).unwrap(), learned());

    // Vec and map of 2^63 entries, a string of that many bytes, a number longer than any.
    let huge = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F];
    for plain in [&huge[..], &[&[1][..], &huge].concat(), &[&[0][..], &huge].concat(), &[0xFF; 64]] {
        assert!(matches!(refused::<Value>(&bytes(&header(), &deflated(plain))), Unfit::Broken(_)));
        assert!(matches!(refused::<Vec<u8>>(&bytes(&header(), &deflated(plain))), Unfit::Broken(_)));
        assert!(matches!(refused::<Vec<[u64; 32]>>(&bytes(&header(), &deflated(plain))), Unfit::Broken(_)));
    }
    let long = deflated(&[&good[..], &[0]].concat());
    assert!(refused::<Value>(&bytes(&header(), &long)).to_string().contains("1 bytes too many"));
    assert!(matches!(refused::<Value>(&bytes(&header(), b"not deflate")), Unfit::Broken(_)));
    for header in ["", "{}", "[", "null"] {
        assert!(matches!(refused::<Value>(&bytes(header, &deflated(&good))), Unfit::Broken(_)), "{header}");
    }
    // Lengths whose sum is that of the file only where it wraps.
    let mut wraps = bytes(&header(), &deflated(&good));
    wraps[20..28].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(refused::<Value>(&wraps), Unfit::Broken(_)));
}

#[test]
fn a_bomb_is_not_inflated_beyond_the_limit() {
    let bomb = deflated(&vec![0; 64 << 20]);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let unfit = refused::<Vec<u8>>(&bytes(&header(), &bomb));
    assert!(matches!(unfit, Unfit::TooLarge { limit: 1_048_576 }), "{unfit}");
}

#[test]
fn a_file_that_is_too_large_is_not_even_read() {
    let (_folder, dir) = place();
    // 8 TB, of which the disk holds nothing.
    fs::File::create(dir.path().join(LEARNED)).unwrap().set_len(8 << 40).unwrap();
    assert!(matches!(load(&dir).unwrap_err().reason, Unfit::TooLarge { .. }));
}

#[test]
fn what_no_reader_would_take_is_not_written() {
    let (_folder, dir) = place();
    dir.save(&form(), &learned()).unwrap();
    let small = Form { limit: 20, ..form() };
    let error = dir.save(&small, &learned()).unwrap_err();
    assert!(matches!(error, SaveError::Encode(EncodeError::TooLarge { limit: 20, .. })), "{error}");
    assert_eq!(load(&dir).unwrap(), Some(learned()));
}

#[test]
fn what_cannot_be_compressed_fits_as_well() {
    let mut noise = 1_u32;
    let mut next = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    };
    let value: Vec<u8> = (0..(1 << 20) - 4).map(|_| next()).collect();
    let (_folder, dir) = place();
    let learned = Learned { until: NOW, value };
    dir.save(&form(), &learned).unwrap();
    assert!(dir.load(&form(), NOW).unwrap() == Some(learned), "another value");
}

/// A save that fails leaves what was there; one that follows when there is a way again succeeds.
#[test]
fn a_save_that_fails_is_tried_again() {
    let (_folder, dir) = place();
    dir.save(&form(), &learned()).unwrap();
    // Cannot be removed as a file.
    fs::create_dir(dir.path().join(NEW)).unwrap();
    let newer = Learned { until: NOW, value: Value::default() };
    let error = dir.save(&form(), &newer).unwrap_err();
    assert!(error.to_string().contains("learned.bin.new: "), "{error}");
    assert_eq!(load(&dir).unwrap(), Some(learned()));
    fs::remove_dir(dir.path().join(NEW)).unwrap();
    dir.save(&form(), &newer).unwrap();
    assert_eq!(load(&dir).unwrap(), Some(newer));
}

proptest! {
    #[test]
    fn any_value_comes_back(
        until: u64,
        names in prop::collection::vec(".{0,8}", 0..8),
        series in prop::collection::btree_map(
            any::<u32>(),
            (any::<f32>(), any::<Option<f64>>(), prop::collection::vec(any::<f32>(), 0..8)),
            0..20,
        ),
    ) {
        let learned = Learned { until: Timestamp(until), value: Value { names, series } };
        let bytes = file::encode(&form(), &learned).unwrap();
        prop_assert_eq!(file::decode::<Value>(&form(), Timestamp(until), &bytes).unwrap(), learned);
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = file::decode::<Value>(&form(), NOW, &body);
        let _ = file::decode::<Value>(&form(), NOW, &bytes(&header(), &body));
        let _ = file::decode::<Value>(&form(), NOW, &bytes(&header(), &deflated(&body)));
    }
}
