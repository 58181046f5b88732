//! Which flags there are and which of them take a value, as clap's definition says.

use std::collections::HashMap;

use clap::{Arg, CommandFactory as _};

use super::args::Cli;

/// Whether a flag is followed by a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Never.
    Nothing,
    /// Behind `=` only, if at all.
    Optional,
    /// Always.
    Value,
}

/// Flags of the original that are not ours in another spelling, and begin like a short flag that takes a value.
const ORIGINAL: [&str; 7] = [
    "filter-ip-cidr",
    "filter-cidr-mask",
    "filter-bool",
    "filter-cidr",
    "filter-src",
    "filter-dst",
    "log-packets",
];

/// One character too many, too few or wrong, or two in the wrong order; in short words that is another word.
fn one_slip_apart(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    if a.len().min(b.len()) < 5 {
        return false;
    }
    while let (Some((x, rest_a)), Some((y, rest_b))) = (a.split_first(), b.split_first())
        && x == y
    {
        (a, b) = (rest_a, rest_b);
    }
    while let (Some((x, rest_a)), Some((y, rest_b))) = (a.split_last(), b.split_last())
        && x == y
    {
        (a, b) = (rest_a, rest_b);
    }
    a.len().max(b.len()) <= 1 || matches!((a, b), ([x, y], [z, w]) if (x, y) == (w, z))
}

/// All flags of all commands.
#[derive(Debug, Default)]
pub(super) struct Spelling {
    longs: HashMap<String, Takes>,
    shorts: HashMap<char, Takes>,
    commands: Vec<String>,
}

impl Spelling {
    /// As `Cli` defines it.
    pub fn of_cli() -> Self {
        let mut spelling = Self::default();
        let cli = Cli::command();
        for command in cli.get_subcommands() {
            spelling.commands.push(command.get_name().to_owned());
            for arg in command.get_arguments() {
                spelling.add(arg);
            }
        }
        spelling.commands.push("help".to_owned());
        for (short, long) in [('h', "help"), ('V', "version")] {
            spelling.shorts.insert(short, Takes::Nothing);
            spelling.longs.insert(long.to_owned(), Takes::Nothing);
        }
        spelling
    }

    fn add(&mut self, arg: &Arg) {
        let takes = if !arg.get_action().takes_values() {
            Takes::Nothing
        } else if arg.get_num_args().is_some_and(|range| range.min_values() == 0) {
            Takes::Optional
        } else {
            Takes::Value
        };
        for long in arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default()) {
            self.longs.insert(long.to_owned(), takes);
        }
        if let Some(short) = arg.get_short() {
            self.shorts.insert(short, takes);
        }
    }

    /// The long flag of that name, without dashes.
    pub fn long(&self, name: &str) -> Option<Takes> {
        self.longs.get(name).copied()
    }

    /// The short flag.
    pub fn short(&self, letter: char) -> Option<Takes> {
        self.shorts.get(&letter).copied()
    }

    /// Is `-name`, or with a value `-name=value`, a long flag mistyped, and no short flag with its value?
    /// `-loglevl=debug` would else make a directory `oglevl=debug`, and `-slack_ulr=…` print a secret.
    pub fn is_mistyped(&self, name: &str, value: bool) -> bool {
        let letters = name.chars().all(|c| c.is_ascii_alphabetic() || c == '-' || c == '_');
        let mut before_last = name.chars();
        before_last.next_back();
        let cluster = before_last.all(|letter| self.short(letter) == Some(Takes::Nothing));
        let name = name.replace('_', "-").to_ascii_lowercase();
        let known = self.longs.keys().map(String::as_str).chain(ORIGINAL);
        letters && !cluster && (value || known.into_iter().any(|long| one_slip_apart(&name, long)))
    }

    /// Is it a command's name?
    pub fn is_command(&self, name: &str) -> bool {
        self.commands.iter().any(|command| command == name)
    }
}
