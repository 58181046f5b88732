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

    /// Is it a command's name?
    pub fn is_command(&self, name: &str) -> bool {
        self.commands.iter().any(|command| command == name)
    }
}
