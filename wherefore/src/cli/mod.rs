//! The command line: what is written, what it means, and one file for each command.

pub mod args;
mod check_config;
mod config_file;
pub mod configure;
mod detection;
pub mod doctor;
pub mod failure;
pub mod flows;
pub mod interfaces;
mod learning;
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
    collections::BTreeSet,
    ffi::OsString,
    fmt,
    io::{IsTerminal as _, Write as _},
};

use clap::{
    CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use self::{args::Command, failure::Failure};
use crate::{
    backend,
    config::exit,
    render::{self, Format},
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
    /// The command line in our spelling, program name and command first.
    args: Line,
    /// The flags given in it or by the environment, without dashes.
    given: BTreeSet<String>,
}

/// A command line. It may hold a webhook, so it is not shown.
#[derive(Clone)]
struct Line(Vec<OsString>);

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} words>", self.0.len())
    }
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
    let parsed = parse_ours(translated.args)?;
    Ok(Parsed { warnings: translated.warnings, original_detection: translated.original_detection, ..parsed })
}

/// Understands a command line in our spelling.
fn parse_ours(args: Vec<OsString>) -> Result<Parsed, clap::Error> {
    let mut cli = args::Cli::command();
    let matches = cli.try_get_matches_from_mut(&args).map_err(with_hint)?;
    let command = args::Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut cli))?.command;
    let flags = matches.subcommand().and_then(|(name, of_command)| {
        let flags = cli.find_subcommand(name)?.get_arguments();
        let given = |flag: &&clap::Arg| {
            let source = of_command.value_source(flag.get_id().as_str());
            matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        Some(flags.filter(given).filter_map(|flag| Some(flag.get_long()?.to_owned())).collect())
    });
    let given = flags.unwrap_or_default();
    Ok(Parsed { command, warnings: Vec::new(), original_detection: false, args: Line(args), given })
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
    let result = match &parsed.command {
        Command::Run(args) => watch(parsed, &read, args.watch.format),
        Command::Replay(args) => watch(parsed, &read, args.watch.format),
        Command::Flows(args) => flows::run(args, &parsed.warnings),
        Command::Score(args) => score::run(args, parsed.original_detection, &parsed.warnings),
        Command::Tune(args) => tune::run(args, parsed.original_detection, &parsed.warnings),
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
        Command::CheckConfig(args) => check_config::run(args, &read).and_then(|text| {
            render::print(&text).map_err(Failure::io("cannot write to standard output"))?;
            Ok(exit::OK)
        }),
    };
    result.unwrap_or_else(|failure| {
        say(&format!("error: {failure}\n"));
        failure.exit_code()
    })
}

/// `run` and `replay`.
fn watch(parsed: &Parsed, read: configure::ReadFile, format: Format) -> Result<u8, Failure> {
    let (parsed, config) = config_file::configured(parsed, read)?;
    if let Command::Run(args) = &parsed.command {
        check(&args.capture.request)?;
    }
    run::run(&config, &parsed, format)
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
