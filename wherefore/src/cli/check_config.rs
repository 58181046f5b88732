//! `wherefore check-config`: is the file good, what may be in it, what is it without one.

use std::{fmt::Write as _, path::Path};

use clap::{Arg, CommandFactory as _};
use serde_json::{Map, Value};

use super::{
    args::{CheckConfigArgs, Cli},
    config_file::{combined, unreadable},
    configure::ReadFile,
    failure::Failure,
    parse_ours,
};
use crate::{
    config::file::{self, DEFAULT_PATH, File, SECTIONS},
    rules::{By, Kind, Rule},
    units::format_duration,
};

/// What the command prints.
///
/// # Errors
/// Everything that is wrong with the file.
pub(super) fn run(args: &CheckConfigArgs, read: ReadFile) -> Result<String, Failure> {
    if args.schema {
        return Ok(format!("{:#}\n", schema()));
    }
    if args.default {
        return Ok(default_file());
    }
    let path = args.file.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    let text = read(path).map_err(|error| unreadable("check-config", path, &error))?;
    let run = parse_ours(["wherefore", "run"].map(Into::into).to_vec()).map_err(|error| Failure::Io {
        what: "the default command line is not understood".to_owned(),
        source: std::io::Error::other(error),
    })?;
    let (_, config, file) = combined(&run, path, &text, read)?;
    Ok(summary(path, &file, &config.notes))
}

/// What is in effect by a file.
fn summary(path: &Path, file: &File, notes: &[String]) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut text = format!(
        "{}: {}, {}, {}; the rest is as by default\n",
        path.display(),
        count(file.settings.len(), "setting"),
        count(file.rules.len(), "rule"),
        count(file.overrides.len(), "override")
    );
    for setting in &file.settings {
        let _ = writeln!(text, "  {}.{} = {}", setting.section, setting.key, setting.shown());
    }
    for rule in &file.rules {
        let _ = writeln!(text, "  {}", rule_line(rule));
    }
    for entry in &file.overrides {
        let _ = writeln!(text, "  {entry}");
    }
    for note in notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// `rule "backup-only" (warning): rate > 1 GB/s for 10s, by net, where remote 198.51.100.0/24`.
fn rule_line(rule: &Rule) -> String {
    let mut line = format!("rule \"{}\" ({}): {}", rule.name, rule.severity.name(), rule.condition);
    if rule.condition.kind == Kind::NewDestination {
        let _ = write!(line, " after {}", format_duration(rule.learn));
    }
    if rule.by != By::All {
        let _ = write!(line, ", by {}", rule.by.name());
    }
    let wanted = rule.wanted.to_string();
    if !wanted.is_empty() {
        let _ = write!(line, ", where {wanted}");
    }
    line
}

/// The JSON Schema of the file, with help and default of each setting as the flags have them.
pub(super) fn schema() -> Value {
    let mut schema = Value::from(file::schema());
    for section in SECTIONS {
        for (key, arg) in keys(&schema, section) {
            let Some(property) = properties_mut(&mut schema, section).and_then(|keys| keys.get_mut(&key))
            else {
                continue;
            };
            property["description"] = help(&arg).0.into();
            if let Some(default) = default_of(section, &key, &arg)
                && let Some(value) = json(section, &key, &default)
            {
                property["default"] = value;
            }
        }
    }
    schema
}

/// The keys of a section in the order of the help, and their flags.
fn keys(schema: &Value, section: &str) -> Vec<(String, Arg)> {
    let known = properties(schema, section);
    let cli = Cli::command();
    let args = cli.find_subcommand("run").into_iter().flat_map(clap::Command::get_arguments);
    args.filter_map(|arg| {
        let key = arg.get_long()?.replace('-', "_");
        known.is_some_and(|known| known.contains_key(&key)).then(|| (key, arg.clone()))
    })
    .collect()
}

/// Where the keys of a section are defined.
fn pointer(schema: &Value, section: &str) -> Option<String> {
    let defined = schema["properties"][section]["$ref"].as_str()?;
    Some(format!("{}/properties", defined.trim_start_matches('#')))
}

fn properties<'a>(schema: &'a Value, section: &str) -> Option<&'a Map<String, Value>> {
    schema.pointer(&pointer(schema, section)?)?.as_object()
}

fn properties_mut<'a>(schema: &'a mut Value, section: &str) -> Option<&'a mut Map<String, Value>> {
    let pointer = pointer(schema, section)?;
    schema.pointer_mut(&pointer)?.as_object_mut()
}

/// The help of a flag, and the default it names.
fn help(arg: &Arg) -> (String, Option<String>) {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    match help.split_once(" [default: ") {
        Some((help, default)) => (help.to_owned(), Some(default.trim_end_matches(']').to_owned())),
        None => (help, None),
    }
}

/// The default of a key as the file would have it; `None` where there is none, or it is no value (`no log files`).
fn default_of(section: &str, key: &str, arg: &Arg) -> Option<String> {
    let by_clap: Vec<_> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let text = if !by_clap.is_empty() {
        by_clap.join(",")
    } else if arg.get_action().takes_values() {
        // `65536; files: no limit`.
        help(arg).1?.split(';').next().unwrap_or_default().to_owned()
    } else {
        "false".to_owned()
    };
    // A key that takes any text takes `none` as well, which is the help's word for nothing.
    let free = format!("[{section}]\n{key} = \"no such value\"\n");
    if File::read(&free).is_ok() {
        return None;
    }
    let list = text.split(',').map(|part| format!("{part:?}")).collect::<Vec<_>>().join(", ");
    let forms = [text.clone(), format!("{text:?}"), format!("[{list}]")];
    forms.into_iter().find(|value| File::read(&format!("[{section}]\n{key} = {value}\n")).is_ok())
}

/// A value of the file as JSON.
fn json(section: &str, key: &str, value: &str) -> Option<Value> {
    let table: Value = toml::from_str(&format!("[{section}]\n{key} = {value}\n")).ok()?;
    Some(table[section][key].clone())
}

/// A value to begin with, for a key without a default.
fn example(arg: &Arg) -> String {
    let name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let example = match name {
        "INTERVALS" => return "720".to_owned(),
        "NAME" => "eth0",
        "CIDR" => "192.0.2.0/24",
        "DIR" if arg.get_long() == Some("state-dir") => "/var/lib/wherefore",
        "DIR" => "/var/log/wherefore",
        "FILE" => "/etc/wherefore/slack-url",
        "URL" => "https://hooks.example/services/…",
        "CHANNEL" => "#alerts",
        "EMOJI" => ":warning:",
        "EXPRESSION" => "tcp port 443",
        other => other,
    };
    format!("{example:?}")
}

/// Words on each section.
fn heading(section: &str) -> &'static str {
    match section {
        "capture" => "What is counted",
        "series" => "Which series are remembered",
        "detection" => "What is unusual",
        "alerts" => "Who is told, and how often",
        _ => "What outlasts the agent",
    }
}

/// Every key with what it means and its default, commented out; rules and overrides as examples.
pub(super) fn default_file() -> String {
    let schema = Value::from(file::schema());
    let mut text = format!(
        "# Settings and rules of Wherefore, at {DEFAULT_PATH} or where --config says.\n\
         # A key has the name of a flag, and its meaning and default; a flag given on the command line wins.\n\
         # `wherefore check-config FILE` tells everything that is wrong with a file.\n"
    );
    for section in SECTIONS {
        let _ = write!(text, "\n# {}.\n[{section}]\n", heading(section));
        for (key, arg) in keys(&schema, section) {
            let _ = writeln!(text, "\n# {}", help(&arg).0);
            let _ = match default_of(section, &key, &arg) {
                Some(default) => writeln!(text, "#{key} = {default}"),
                None => writeln!(text, "# No default; for example:\n#{key} = {}", example(&arg)),
            };
        }
    }
    text + EXAMPLES
}

/// What no flag says.
const EXAMPLES: &str = include_str!("check_config_examples.toml");

#[cfg(test)]
mod tests;
