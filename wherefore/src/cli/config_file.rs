//! The configuration file under the flags: its settings become flags in front of those given, so the last word is the
//! command line's, and one place knows what a value may be.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, error::ErrorKind};

use super::{
    Parsed,
    args::{Cli, Command},
    configure::ReadFile,
    failure::Failure,
    parse_ours,
};
use crate::config::{
    Config, ConfigError, Source, exit,
    file::{DEFAULT_PATH, Fault, File, FileError, Setting},
};

/// Settings that a replay does not take from a file: nobody is to be woken by a capture of last year, and the log of
/// this host is not about it, unless this very command line says so.
const NOT_OF_CAPTURES: [&str; 7] =
    ["log_dir", "log_max_size", "slack_url", "slack_url_file", "slack_channel", "slack_emoji", "slack_icon"];
/// Of these either stands for the other.
const EITHER: [[&str; 2]; 2] = [["slack-url", "slack-url-file"], ["state-dir", "no-state"]];

/// The command line with the file's settings, and what both come to. `parsed`: of `run` or `replay`.
///
/// # Errors
/// Everything that is wrong with the file; what [`Config::run`] refuses.
pub(super) fn configured(parsed: &Parsed, read: ReadFile) -> Result<(Parsed, Config), Failure> {
    let named = match &parsed.command {
        Command::Run(args) => args.watch.config.as_deref(),
        Command::Replay(args) => args.watch.config.as_deref(),
        _ => None,
    };
    let path = named.unwrap_or(Path::new(DEFAULT_PATH));
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            return Ok((parsed.clone(), config(parsed, read)?));
        }
        Err(error) => return Err(unreadable("--config", path, &error)),
    };
    let (parsed, config, _) = combined(parsed, path, &text, read)?;
    Ok((parsed, config))
}

/// The error that a file cannot be read.
pub(super) fn unreadable(flag: &'static str, path: &Path, error: &io::Error) -> Failure {
    ConfigError::File { flag, path: path.to_owned(), reason: format!("it cannot be read: {error}") }.into()
}

/// The command line with the settings of a file's text, what both come to, and the file.
///
/// # Errors
/// As [`configured`].
pub(super) fn combined(
    parsed: &Parsed,
    path: &Path,
    text: &str,
    read: ReadFile,
) -> Result<(Parsed, Config, File), Failure> {
    let in_file = |faults| FileError::new(PathBuf::from(path), faults);
    let mut file = File::read(text).map_err(in_file)?;
    let mut faults = Vec::new();
    file.settings.retain(|setting| match alone(setting, read) {
        Some(fault) => {
            faults.push(fault);
            false
        }
        None => true,
    });
    let with = with_settings(parsed, &file.settings)?;
    match config(&with, read) {
        Ok(mut config) => {
            let table_size = match &config.source {
                Source::Live { settings, .. } => Some(settings.table_size),
                Source::Files(settings) => settings.table_size,
            };
            faults.extend(file.check(config.interval, table_size));
            if !faults.is_empty() {
                return Err(in_file(faults).into());
            }
            config.rules.clone_from(&file.rules);
            config.overrides.clone_from(&file.overrides);
            Ok((with, config, file))
        }
        Err(error) => {
            let message = in_words(&error.to_string(), &parsed.given);
            match file.settings.iter().find(|setting| mentions(&error.to_string(), &flag(&setting.key))) {
                Some(setting) => faults.push(Fault::new(setting.place, message)),
                None if faults.is_empty() => return Err(error.into()),
                None => {}
            }
            Err(in_file(faults).into())
        }
    }
}

/// The settings that a command line comes to.
fn config(parsed: &Parsed, read: ReadFile) -> Result<Config, ConfigError> {
    match &parsed.command {
        Command::Replay(args) => Config::replay(args, parsed.original_detection, read),
        Command::Run(args) => Config::run(args, parsed.original_detection, read),
        other => unreachable!("{other:?} has no configuration"),
    }
}

/// `--min-bytes` of `min_bytes`.
fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// Puts settings in front of the flags of a command line, but for those that it has itself, and those that its command
/// does not have.
fn with_settings(parsed: &Parsed, settings: &[Setting]) -> Result<Parsed, Failure> {
    let replay = matches!(parsed.command, Command::Replay(_));
    let given = |key: &str| {
        let name = &flag(key)[2..];
        let either = EITHER.iter().find(|names| names.contains(&name));
        either.is_some_and(|names| names.iter().any(|name| parsed.given.contains(*name)))
            || parsed.given.contains(name)
    };
    let cli = Cli::command();
    let known: BTreeSet<&str> = parsed
        .args
        .0
        .get(1)
        .and_then(|name| cli.find_subcommand(name))
        .map(|command| command.get_arguments().filter_map(clap::Arg::get_long).collect())
        .unwrap_or_default();
    let flags = settings
        .iter()
        .filter(|setting| !given(&setting.key) && known.contains(&flag(&setting.key)[2..]))
        .filter(|setting| !replay || !NOT_OF_CAPTURES.contains(&setting.key.as_str()))
        .flat_map(flags);
    let mut args = parsed.args.0.clone();
    args.splice(2..2, flags);
    let mut with = parse_ours(args).map_err(|error| ConfigError::Contradiction {
        what: first_line(&error),
        remedy: "leave one of them out of the configuration file".to_owned(),
    })?;
    with.warnings.clone_from(&parsed.warnings);
    with.original_detection = parsed.original_detection;
    with.given.clone_from(&parsed.given);
    Ok(with)
}

/// A setting as flags.
fn flags(setting: &Setting) -> Vec<OsString> {
    let flag = flag(&setting.key);
    let cli = Cli::command();
    let run = cli.find_subcommand("run");
    let arg = run.and_then(|run| run.get_arguments().find(|arg| arg.get_long() == Some(&flag[2..])));
    if arg.is_some_and(|arg| arg.get_action().takes_values()) {
        return setting.values.iter().map(|value| format!("{flag}={value}").into()).collect();
    }
    // A flag that is there or not.
    setting.values.iter().filter(|value| *value == "true").map(|_| flag.clone().into()).collect()
}

/// What is wrong with a setting, whatever the others say.
fn alone(setting: &Setting, read: ReadFile) -> Option<Fault> {
    let args = ["wherefore", "run"].map(OsString::from).into_iter().chain(flags(setting));
    let message = match parse_ours(args.collect()) {
        Ok(Parsed { command: Command::Run(args), .. }) => match Config::run(&args, false, read) {
            Err(error) if error.exit_code() == exit::USAGE => in_words(&error.to_string(), &BTreeSet::new()),
            _ => return None,
        },
        Ok(_) => return None,
        Err(error) => {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            format!("{}: {}", setting.key, reason.unwrap_or_else(|| first_line(&error)))
        }
    };
    Some(Fault::new(setting.place, message))
}

/// clap's message without its frame.
fn first_line(error: &clap::Error) -> String {
    debug_assert!(error.kind() != ErrorKind::DisplayHelp);
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Where a flag of exactly this name stands in a message.
fn find_flag(message: &str, flag: &str) -> Option<usize> {
    message
        .match_indices(flag)
        .map(|(at, _)| at)
        .find(|at| !message[at + flag.len()..].starts_with(|c: char| c == '-' || c.is_ascii_alphanumeric()))
}

fn mentions(message: &str, flag: &str) -> bool {
    find_flag(message, flag).is_some()
}

/// A message about flags in the words of the file, but for the flags that were given.
fn in_words(message: &str, given: &BTreeSet<String>) -> String {
    let mut words = String::new();
    let mut rest = message;
    while let Some(at) = rest.find("--") {
        let (before, flag) = rest.split_at(at);
        let end = flag.find(|c: char| c != '-' && !c.is_ascii_alphanumeric()).unwrap_or(flag.len());
        let (flag, behind) = flag.split_at(end);
        let name = &flag[2..];
        words += before;
        words += &if given.contains(name) { flag.to_owned() } else { name.replace('-', "_") };
        rest = behind;
    }
    words + rest
}
