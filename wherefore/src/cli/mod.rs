//! The command line: what is written, what it means, and one file for each command.

pub mod args;
pub mod configure;
mod detection;
pub mod doctor;
pub mod flows;
pub mod interfaces;
pub mod legacy;
mod old_filter;
mod spelling;
mod values;
mod watch_args;

#[cfg(test)]
mod tests;

use std::ffi::OsString;

use clap::{Parser as _, error::ErrorKind};

/// A command line that was understood.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The command with its arguments.
    pub command: args::Command,
    /// What the original's flags came to, one sentence each; to be logged.
    pub warnings: Vec<String>,
    /// True where the original's `-anom_` flags were used: its defaults hold.
    pub original_detection: bool,
}

/// Understands a command line, program name first, in our spelling or the original's.
///
/// # Errors
/// What clap would exit with: also for `--help` and `--version`. `clap::Error::exit` prints it and ends with 2
/// (0 for help and version).
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    let translated = legacy::translate(args.into_iter().collect());
    if let Some(refusal) = translated.refusals.first() {
        return Err(clap::Error::raw(ErrorKind::ValueValidation, format!("{refusal}\n")));
    }
    let cli = args::Cli::try_parse_from(&translated.args)?;
    Ok(Parsed {
        command: cli.command,
        warnings: translated.warnings,
        original_detection: translated.original_detection,
    })
}
