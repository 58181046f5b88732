use super::*;
use crate::{
    cli::{args::Command, parse},
    config::Config,
};

/// A file's text with every key that is commented out.
fn uncommented(text: &str) -> String {
    let key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(|rest| key(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn nothing(path: &Path) -> std::io::Result<String> {
    Err(std::io::Error::other(format!("{} is not read", path.display())))
}

fn run(words: &[&str]) -> Config {
    let words = [&["wherefore", "run"], words].concat();
    let parsed = parse(words.iter().map(Into::into)).unwrap();
    let Command::Run(args) = parsed.command else { panic!("run") };
    Config::run(&args, false, &nothing).unwrap()
}

#[test]
fn the_default_file_says_what_holds_without_one() {
    let text = default_file();
    assert_eq!(File::read(&text), Ok(File::default()), "all is commented out");
    // Without the keys that have no default, and without rules.
    let mut settings = text[..text.find("# What is never wanted").unwrap()].to_owned();
    while let Some(at) = settings.find("# No default") {
        let end = settings[at..].match_indices('\n').nth(1).map_or(settings.len(), |(feed, _)| at + feed);
        settings.replace_range(at..end, "");
    }
    // The Anomalyzer's are no settings of another detector.
    let anomalyzer =
        |line: &&str| ["#anom_", "#alert_threshold", "#min_factor"].iter().any(|key| line.starts_with(key));
    let settings = settings.lines().filter(|line| !anomalyzer(line)).collect::<Vec<_>>().join("\n");
    let settings = uncommented(&settings);
    let parsed = parse(["wherefore".into(), "run".into()]).unwrap();
    let (_, mut config, file) = combined(&parsed, Path::new("f"), &settings, &nothing).unwrap();
    assert!(file.settings.len() > 15, "{file:?}");
    // A note that the Anomalyzer heeds no budget; who names a hook asks for eBPF.
    config.notes.clear();
    assert_eq!(format!("{config:?}"), format!("{:?}", run(&["--hook", "tc"])));
}

#[test]
fn every_key_is_in_the_default_file_and_every_setting_is_a_flag() {
    let schema = Value::from(file::schema());
    let text = uncommented(&default_file());
    let file = File::read(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    for section in SECTIONS {
        for key in properties(&schema, section).unwrap().keys() {
            let settings = &file.settings;
            assert!(
                settings.iter().any(|setting| setting.section == section && setting.key == *key),
                "{key}"
            );
        }
    }
    for definition in ["RuleEntry", "MatchEntry", "OverrideEntry"] {
        for key in schema["$defs"][definition]["properties"].as_object().unwrap().keys() {
            let line = |line: &str| line.starts_with(&format!("{key} = ")) || line == format!("[rule.{key}]");
            assert!(text.lines().any(line), "{definition}.{key}");
        }
    }
}

/// Who adds a flag decides whether the file has it: a line in `config/file/entries.rs`, or one here.
#[test]
fn every_flag_is_a_key_or_known_as_none() {
    const NONE: [&str; 10] = [
        "config",
        "archive-dir",
        "format",
        "verbose",
        "quiet",
        "loglevel",
        "color",
        "help",
        "version",
        "for",
    ];
    let schema = Value::from(file::schema());
    let keys: Vec<String> =
        SECTIONS.iter().flat_map(|section| properties(&schema, section).unwrap().keys().cloned()).collect();
    let mut cli = Cli::command();
    cli.build();
    let flags: Vec<&str> =
        cli.find_subcommand("run").unwrap().get_arguments().filter_map(Arg::get_long).collect();
    for flag in &flags {
        let key = keys.contains(&flag.replace('-', "_"));
        assert!(key != NONE.contains(flag), "--{flag}");
    }
    for key in &keys {
        assert!(flags.contains(&key.replace('_', "-").as_str()), "{key}");
    }
}
