//! The command line: what is written, what it means, and one file for each command.

pub mod args;
pub mod configure;
mod detection;
pub mod doctor;
pub mod failure;
pub mod flows;
pub mod interfaces;
pub mod legacy;
mod logging;
mod old_filter;
pub mod run;
pub mod score;
pub mod screen;
pub mod selftest;
mod spelling;
pub mod tune;
mod values;
mod watch_args;

#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
};

use clap::{
    Parser as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use self::{args::Command, failure::Failure};
use crate::{
    backend,
    config::{Config, exit},
};

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
    let cli = args::Cli::try_parse_from(&translated.args).map_err(with_hint)?;
    Ok(Parsed {
        command: cli.command,
        warnings: translated.warnings,
        original_detection: translated.original_detection,
    })
}

/// A capture in place of a command gets a word on which commands read captures.
fn with_hint(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand)
        && [".pcap", ".pcapng", ".cap", ".gz"].iter().any(|end| given.ends_with(end))
    {
        let hint = format!("to read a capture: 'wherefore replay {given}' or 'wherefore flows {given}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

/// Carries out a command; the exit code.
#[must_use]
pub fn execute(parsed: &Parsed) -> u8 {
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    let original = parsed.original_detection;
    let result = match &parsed.command {
        Command::Run(args) => check(&args.capture.request)
            .and_then(|()| Ok(Config::run(args, original, &read)?))
            .and_then(|config| run::run(&config, parsed, args.watch.format)),
        Command::Replay(args) => Config::replay(args, original, &read)
            .map_err(Failure::from)
            .and_then(|config| run::run(&config, parsed, args.watch.format)),
        Command::Flows(args) => flows::run(args, &parsed.warnings),
        Command::Score(args) => score::run(args, original, &parsed.warnings),
        Command::Tune(args) => tune::run(args, original, &parsed.warnings),
        Command::Interfaces(args) => interfaces::run(&(&args.request).into(), args.list.format, width())
            .map_err(Failure::from)
            .and_then(|output| print(&output).map(|()| exit::OK)),
        Command::Doctor(args) => {
            let color = parsed.command.common().colored(std::env::var_os("NO_COLOR").as_deref(), terminal());
            let (output, code) = doctor::run(args.format, color, width());
            print(&output).map(|()| code)
        }
        Command::Selftest(args) => selftest::run(args.format, width())
            .map_err(Failure::from)
            .and_then(|(output, code)| print(&output).map(|()| code)),
    };
    result.unwrap_or_else(|failure| {
        say(&format!("error: {failure}\n"));
        failure.exit_code()
    })
}

/// Whether there is what is asked for, before anything is opened: a mistyped name makes no log file.
fn check(request: &args::RequestArgs) -> Result<(), Failure> {
    Ok(backend::interfaces::plan(&request.into())?.check()?)
}

/// Prints a command's data.
fn print(output: &crate::render::Output) -> Result<(), Failure> {
    output.print().map_err(Failure::io("cannot write to standard output"))
}

/// Writes to standard error. If that fails there is nowhere left to say so: `eprint!` would panic.
fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Whether standard output is a terminal.
fn terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// How wide a table may be; `None` where nobody looks at it.
fn width() -> Option<usize> {
    terminal().then(|| screen::LiveScreen::size().0.into())
}
