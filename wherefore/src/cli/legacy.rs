//! The original's command line (Go's `flag` style: `-name value`, `-name=value`, underscores) in our spelling.
//! Pure. docs/migrating.md holds the table of all flags.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};

use super::old_filter::OldFilter;
use super::spelling::{Spelling, Takes};

/// A command line in our spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// The arguments for clap, program name first.
    pub args: Vec<OsString>,
    /// What was done to the original's flags and is not obvious, one sentence each.
    pub warnings: Vec<String>,
    /// Why the command line cannot be honoured, one sentence each; empty: it can.
    pub refusals: Vec<String>,
    /// True where an `-anom_` flag was spelled as the original did, with underscores: it must mean what it
    /// meant, so the original's detection defaults hold.
    pub original_detection: bool,
}

/// Puts `args` (program name first) in our spelling:
///
/// * flags of the original become ours;
/// * any long flag may have a single dash, and underscores for hyphens;
/// * flags may stand before the command, and without a command it is `run`, with `-pcapfile` `replay`.
///
/// What is neither is left for clap to judge.
#[must_use]
pub fn translate(args: Vec<OsString>) -> Translated {
    let mut rest: VecDeque<OsString> = args.into();
    let program = rest.pop_front().unwrap_or_else(|| "wherefore".into());
    let mut walk = Walk { spelling: Spelling::of_cli(), rest, ..Walk::default() };
    while let Some(arg) = walk.rest.pop_front() {
        if arg == "--" {
            walk.tail.push(arg);
            walk.tail.extend(walk.rest.drain(..));
        } else {
            walk.take(arg);
        }
    }
    walk.finish(program)
}

/// Flags that mean nothing for a capture file; the original ignored them there.
const LIVE_ONLY: [&str; 10] =
    ["i", "s", "w", "interface", "backend", "hook", "kernel-log", "snaplen", "read-timeout", "promiscuous"];

/// One flag with its value, or one positional argument.
#[derive(Debug)]
struct Group {
    tokens: Vec<OsString>,
    positional: bool,
    /// The flag, where it means nothing for a capture file.
    live_only: Option<String>,
}

#[derive(Debug, Default)]
struct Walk {
    spelling: Spelling,
    rest: VecDeque<OsString>,
    groups: Vec<Group>,
    /// `--` and all behind it.
    tail: Vec<OsString>,
    files: Vec<OsString>,
    filter: OldFilter,
    out: Translated,
}

impl Walk {
    fn take(&mut self, arg: OsString) {
        let Some((dashes, name, value)) = split(&arg) else {
            let positional = !arg.as_bytes().starts_with(b"-") || arg == "-";
            self.groups.push(Group { tokens: vec![arg], positional, live_only: None });
            return;
        };
        let ours = name.replace('_', "-").to_ascii_lowercase();
        if name.chars().count() == 1 {
            // Go takes two dashes before a single letter, too.
            return self.short(if dashes == 2 {
                OsStr::from_bytes(&arg.as_bytes()[1..]).to_owned()
            } else {
                arg
            });
        }
        let flag = Flag { shown: format!("{}{name}", "-".repeat(dashes)), value };
        if self.original(&ours, &flag) {
            return;
        }
        match self.spelling.long(&ours) {
            Some(takes) => {
                self.out.original_detection |= name.starts_with("anom_");
                self.long(&ours, flag, takes, dashes == 1);
            }
            None if dashes == 1
                && name.chars().next().is_some_and(|first| self.spelling.short(first).is_some())
                && !self.spelling.is_mistyped(&name, flag.value.is_some()) =>
            {
                self.short(arg);
            }
            // With both dashes, so that it is refused by its whole name.
            None if dashes == 1 => {
                let mut whole = OsString::from("-");
                whole.push(arg);
                self.push(vec![whole], None);
            }
            None => self.push(vec![arg], None),
        }
    }

    /// The flags that are not simply ours in another spelling. False: it is none of them.
    fn original(&mut self, name: &str, flag: &Flag) -> bool {
        match name {
            "pcapfile" => {
                if let Some(file) = self.value(flag)
                    && !file.is_empty()
                {
                    self.files.push(file);
                }
            }
            "daq" => self.daq(flag),
            "filter-ip-cidr" | "filter-cidr-mask" => {
                if let Some(value) = self.value(flag) {
                    self.filter.cidr = Some((flag.shown.clone(), value.to_string_lossy().into_owned()));
                }
            }
            "filter-bool" | "filter-cidr" => {
                if let Some(value) = self.boolean(flag) {
                    self.filter.outside = !value;
                }
            }
            "filter-src" => self.filter.src = self.boolean(flag).unwrap_or_default(),
            "filter-dst" => self.filter.dst = self.boolean(flag).unwrap_or_default(),
            "log-packets" => {
                if self.boolean(flag) == Some(true) {
                    self.warn(format!("{}: packets are not stored yet", flag.shown));
                }
            }
            "max-pcap-log-size" | "max-pcap-rotations" => {
                if self.value(flag).is_some() {
                    self.warn(format!("{}: no effect, packets are not stored yet", flag.shown));
                }
            }
            "archive-dir" => {
                if let Some(dir) = self.value(flag)
                    && !dir.is_empty()
                {
                    self.warn(format!(
                        "{}: the directory is made, but packets are not stored yet",
                        flag.shown
                    ));
                    self.push(vec![joined("archive-dir", &dir)], None);
                }
            }
            "loglevel" => {
                if let Some(level) = self.value(flag) {
                    let gravest = ["fatal", "panic"].iter().any(|name| level.eq_ignore_ascii_case(name));
                    if gravest {
                        self.warn(format!("{}: there is no such level any more, using error", flag.shown));
                    }
                    self.push(
                        vec![joined("loglevel", if gravest { OsStr::new("error") } else { &level })],
                        None,
                    );
                }
            }
            _ => return false,
        }
        true
    }

    fn daq(&mut self, flag: &Flag) {
        let Some(source) = self.value(flag) else { return };
        match source.to_string_lossy().to_ascii_lowercase().as_str() {
            "libpcap" => {}
            "af_packet" => self.warn(format!(
                "{}: libpcap reads through AF_PACKET itself, using --backend pcap",
                flag.shown
            )),
            other => {
                self.out.refusals.push(format!(
                    "{} {other:?}: there is no such source; leave the flag out (eBPF where it works, else libpcap) \
                     or give libpcap",
                    flag.shown
                ));
                return;
            }
        }
        self.push(vec!["--backend=pcap".into()], Some(flag.shown.clone()));
    }

    /// A long flag of ours. As Go did, a single dash takes whatever comes next for its value.
    fn long(&mut self, name: &str, flag: Flag, takes: Takes, go_style: bool) {
        let live_only = LIVE_ONLY.contains(&name).then(|| flag.shown.clone());
        let tokens = match (takes, flag.value) {
            (_, Some(value)) => vec![joined(name, &value)],
            (Takes::Nothing, None) => vec![format!("--{name}").into()],
            (Takes::Optional, None) => match self.next_boolean() {
                Some(value) => vec![joined(name, &value)],
                None => vec![format!("--{name}").into()],
            },
            (Takes::Value, None) => match self.rest.pop_front() {
                Some(value) if go_style => vec![joined(name, &value)],
                Some(value) => vec![format!("--{name}").into(), value],
                None => vec![format!("--{name}").into()],
            },
        };
        self.push(tokens, live_only);
    }

    /// A short flag, or several behind one dash.
    fn short(&mut self, arg: OsString) {
        let text = arg.to_string_lossy().into_owned();
        let mut letters = text.char_indices().skip(1);
        let taker = letters.find(|&(_, letter)| self.spelling.short(letter) == Some(Takes::Value));
        let Some((at, letter)) = taker else { return self.push(vec![arg], None) };
        let live_only = LIVE_ONLY.contains(&letter.to_string().as_str()).then(|| format!("-{letter}"));
        let tokens = match &text[at + letter.len_utf8()..] {
            "" => std::iter::once(arg).chain(self.rest.pop_front()).collect(),
            // clap takes `-l=` for `-l` without a value.
            "=" => vec![text[..=at].into(), OsString::new()],
            _ => vec![arg],
        };
        self.push(tokens, live_only);
    }

    fn finish(mut self, program: OsString) -> Translated {
        if let Some(flag) = self.filter.translate(&mut self.out.warnings) {
            self.push(vec![flag], None);
        }
        if self.out.original_detection {
            self.warn(
                "-anom_ flags as the original spelled them: its detection defaults hold, so expect many alerts; \
                 --anom- flags keep the quiet ones"
                    .into(),
            );
        }
        let first = self.groups.iter().position(|group| group.positional);
        let named = first.filter(|&at| {
            self.groups[at].tokens[0].to_str().is_some_and(|name| self.spelling.is_command(name))
        });
        let mut command = named.map(|at| self.groups.remove(at).tokens.remove(0));
        if !self.files.is_empty() {
            if command.as_ref().is_none_or(|name| name == "run") {
                command = Some("replay".into());
            }
            self.drop_live_only();
        }
        let asks_about_all = self.groups.first().is_some_and(|group| {
            group.positional
                || ["-h", "--help", "-V", "--version"].iter().any(|flag| group.tokens[0] == *flag)
        });
        if command.is_none() && !asks_about_all {
            command = Some("run".into());
        }
        let mut out = self.out;
        out.args.push(program);
        out.args.extend(command);
        // A file's name that looks like a flag.
        out.args.extend(self.files.into_iter().map(|file| {
            if file.as_bytes().starts_with(b"-") && file != "-" {
                let mut path = OsString::from("./");
                path.push(file);
                path
            } else {
                file
            }
        }));
        out.args.extend(self.groups.into_iter().flat_map(|group| group.tokens));
        out.args.extend(self.tail);
        out
    }

    fn drop_live_only(&mut self) {
        let mut dropped = Vec::new();
        self.groups.retain(|group| match &group.live_only {
            Some(name) => {
                dropped.push(name.clone());
                false
            }
            None => true,
        });
        if !dropped.is_empty() {
            self.warn(format!("{}: no effect on a capture file", dropped.join(", ")));
        }
    }

    fn push(&mut self, tokens: Vec<OsString>, live_only: Option<String>) {
        self.groups.push(Group { tokens, positional: false, live_only });
    }

    fn warn(&mut self, sentence: String) {
        self.out.warnings.push(sentence);
    }

    /// The flag's value, whatever it looks like; without one, a refusal.
    fn value(&mut self, flag: &Flag) -> Option<OsString> {
        let value = flag.value.clone().or_else(|| self.rest.pop_front());
        if value.is_none() {
            self.out.refusals.push(format!("{} needs a value", flag.shown));
        }
        value
    }

    /// The flag's truth, in Go's words for it; without a value, true.
    fn boolean(&mut self, flag: &Flag) -> Option<bool> {
        let Some(value) = flag.value.clone().or_else(|| self.next_boolean()) else { return Some(true) };
        match value.to_str() {
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Some(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Some(false),
            _ => {
                let given = value.to_string_lossy();
                self.out.refusals.push(format!("{}={given}: allowed is true or false", flag.shown));
                None
            }
        }
    }

    /// The next argument, if it is `true` or `false`. Go would have stopped at it.
    fn next_boolean(&mut self) -> Option<OsString> {
        match self.rest.front() {
            Some(next) if next == "true" || next == "false" => self.rest.pop_front(),
            _ => None,
        }
    }
}

/// A long flag as it was given.
struct Flag {
    shown: String,
    value: Option<OsString>,
}

/// Number of dashes, name, and the value behind `=`. `None`: no flag.
fn split(arg: &OsStr) -> Option<(usize, String, Option<OsString>)> {
    let bytes = arg.as_bytes();
    let dashes = bytes.iter().take_while(|&&byte| byte == b'-').count();
    let body = &bytes[dashes..];
    let end = body.iter().position(|&byte| byte == b'=').unwrap_or(body.len());
    let name = std::str::from_utf8(&body[..end]).ok().filter(|name| !name.is_empty())?;
    let value = body.get(end + 1..).map(|value| OsStr::from_bytes(value).to_owned());
    (1..=2).contains(&dashes).then(|| (dashes, name.to_owned(), value))
}

/// `--name=value`.
fn joined(name: &str, value: &OsStr) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}
